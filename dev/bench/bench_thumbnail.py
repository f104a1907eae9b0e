"""The whole image at 1/64, for images of growing size: the time must depend on the result, not on the image.

``Frames.load_region(image_id, scale=1/64)`` of square mosaics of 4,096 and 16,384 pixels. ``--huge`` adds one of 65,536
pixels in one band: 4.3 GB, and about as much again for its entry. ndframes reads overviews, which an npy does not have.
Peers on the same entry: rasterio, tifffile, and pyvips where it supports the codec. The baseline is the finished thumbnail as
``.npy``, mapped and copied. "cold" is a new ``Frames`` (for peers a newly opened file) in a process whose libraries are
loaded; "warm" is a second read of it. Files are in the page cache.

The right pixel at 1/64 depends on the filter. Each result must have the right shape and be close to the means of 64 x 64
pixels; "difference" is the mean difference to them.

    pip install ".[bench]"
    python dev/bench/bench_thumbnail.py --folder /var/tmp/bench --huge --json dev/bench/results/thumbnail.json
    python dev/bench/bench_thumbnail.py --quick
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.mosaic import ensure_mosaic, making
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderError, ContenderProcess, running
from pages.figures import Lines
from pages.page import Page, Row, Table, number, unique
from peers.base import Contender, Memmap
from peers.entries import IMAGE_ID, Entry, Ndframes
from peers.tiff_readers import Pyvips, Rasterio, Tifffile

_FACTOR = 64
_HUGE_PX = 65536
_BAND_PX = 64 * _FACTOR
# Filters differ by up to 5 levels on a mosaic of small photographs; a black result of a failed decoder differs by 100.
_MAX_DIFFERENCE = 10.0


class Thumbnailer(Contender):
    """A contender that reads the whole image at 1/64."""

    def read_thumbnail(self) -> np.ndarray:
        """Return the pixels ``(height, width, bands)``, in memory."""
        raise NotImplementedError


class MemmapThumbnailer(Memmap, Thumbnailer):
    """The finished thumbnail, mapped and copied."""

    def read_thumbnail(self) -> np.ndarray:
        return np.array(self._pixels)


class NdframesThumbnailer(Ndframes, Thumbnailer):
    """``Frames.load_region`` with a scale."""

    def read_thumbnail(self) -> np.ndarray:
        return self._frames.load_region(IMAGE_ID, scale=1 / _FACTOR)


class RasterioThumbnailer(Rasterio, Thumbnailer):
    """A decimated read with averaging, for which GDAL chooses an overview."""

    def read_thumbnail(self) -> np.ndarray:
        from rasterio.enums import Resampling

        height, width = (-(-extent // _FACTOR) for extent in self._dataset.shape)
        shape = (self._dataset.count, height, width)
        return self._dataset.read(out_shape=shape, resampling=Resampling.average).transpose(1, 2, 0)


class TifffileThumbnailer(Tifffile, Thumbnailer):
    """The smallest page that is large enough, averaged here if it is larger."""

    requires = ("tifffile",)

    def open(self) -> None:
        import tifffile

        self._store = tifffile.TiffFile(self.path)

    def read_thumbnail(self) -> np.ndarray:
        pages = self._store.pages
        least = -(-pages[0].imagelength // _FACTOR)
        page = min((page for page in pages if page.imagelength >= least), key=lambda page: page.imagelength)
        pixels = page.asarray()
        return average(np.atleast_3d(pixels), round(pages[0].imagelength / page.imagelength)).round().astype(np.uint8)


class PyvipsThumbnailer(Pyvips, Thumbnailer):
    """``Image.thumbnail``, which uses the pages of a pyramid."""

    def open(self) -> None:
        import pyvips

        self._vips = pyvips

    def read_thumbnail(self) -> np.ndarray:
        full = self._vips.Image.new_from_file(str(self.path))
        width, height = -(-full.width // _FACTOR), -(-full.height // _FACTOR)
        image = self._vips.Image.thumbnail(str(self.path), width, height=height, size="force")
        return np.atleast_3d(image.numpy())


@dataclass(frozen=True)
class Reads:
    """Two reads by a newly opened contender.

    Attributes:
        cold_us: of opening and the first read.
        warm_us: of the second read.
        pixels: of the thumbnail.
    """

    cold_us: float
    warm_us: float
    pixels: np.ndarray


def read_twice(contender: Thumbnailer) -> Reads:
    """Open, read twice, close; in the contender's process."""
    started = time.perf_counter()
    contender.open()
    contender.read_thumbnail()
    opened = time.perf_counter()
    pixels = contender.read_thumbnail()
    ended = time.perf_counter()
    contender.close()
    return Reads((opened - started) * 1e6, (ended - opened) * 1e6, pixels)


def average(pixels: np.ndarray, level_factor: int) -> np.ndarray:
    """Average squares of a level that is already ``level_factor`` times as coarse; squares at the far edges may be smaller."""
    extent = max(1, _FACTOR // level_factor)
    height, width = pixels.shape[:2]
    rows, cols = np.arange(0, height, extent), np.arange(0, width, extent)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.float64), cols, axis=1)
    heights, widths = np.diff([*rows, height]), np.diff([*cols, width])
    return sums / (heights[:, None] * widths)[:, :, None]


def ensure_thumbnail(mosaic: Path) -> Path:
    """Return the means of 64 x 64 pixels of the mosaic, as ``.npy``; make it unless it exists."""
    path = mosaic.with_name(f"{mosaic.stem}-mean{_FACTOR}.npy")
    with making(path) as part:
        if part is not None:
            pixels = np.load(mosaic, mmap_mode="r")
            bands = [average(pixels[top : top + _BAND_PX], 1) for top in range(0, pixels.shape[0], _BAND_PX)]
            np.save(part, np.concatenate(bands).round().astype(np.uint8))
    return path


def make_contenders(source: Path, thumbnail: Path, folder: Path, forms: Sequence[str]) -> list[Thumbnailer]:
    contenders: list[Thumbnailer] = [MemmapThumbnailer("memmap", "raw", thumbnail)]
    for form in forms:
        entry = Entry(source, folder / "ndframes", form)
        contenders.append(NdframesThumbnailer(f"ndframes {form}", entry.codec, entry))
        if form != "npy":
            contenders += [
                RasterioThumbnailer(f"rasterio {form}", entry.codec, entry),
                TifffileThumbnailer(f"tifffile {form}", entry.codec, entry),
                PyvipsThumbnailer(f"pyvips {form}", entry.codec, entry),
            ]
    return contenders


def run_image(contenders: Sequence[Thumbnailer], thumbnail: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each contender on one image."""
    reference = np.load(thumbnail)
    differences = {}

    def check(process: ContenderProcess) -> None:
        differences[process.name] = compare(process.call(read_twice).pixels, reference)

    rng = np.random.default_rng(options.seed)
    with running(contenders, check) as field:
        found: dict[str, list[Reads]] = {process.name: [] for process in field.processes}
        for _ in range(options.rounds):
            for process in field.shuffled(rng):
                found[process.name].append(process.call(read_twice))
    rows = []
    for contender in contenders:
        row = {"contender": contender.name, "role": contender.role, "codec": contender.codec}
        if contender.name in found:
            row |= {"status": "measured", **summarize(found[contender.name])}
            row["mean_difference"] = differences[contender.name]
        else:
            row["status"] = field.absent[contender.name]
        rows.append(row)
    return rows


def compare(pixels: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean difference.

    Raises:
        ContenderError: the shape or the pixels are wrong.
    """
    if pixels.shape != reference.shape:
        raise ContenderError(f"wrong shape: {pixels.shape} instead of {reference.shape}")
    difference = float(np.abs(pixels.astype(np.float64) - reference).mean())
    if difference > _MAX_DIFFERENCE:
        raise ContenderError(f"wrong pixels: the mean difference is {difference:.1f}")
    return difference


def summarize(reads: Sequence[Reads]) -> dict[str, Any]:
    return {
        "cold_us": statistics.median(item.cold_us for item in reads),
        "warm_us": statistics.median(item.warm_us for item in reads),
        "all_cold_us": [item.cold_us for item in reads],
        "all_warm_us": [item.warm_us for item in reads],
    }


def print_results(title: str, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (row["contender"], f"{row['cold_us']:.0f}", f"{row['warm_us']:.0f}", f"{row['mean_difference']:.2f}")
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(title, ("", "cold us", "warm us", "difference"), cells)
    print_absent(rows)


def render(rows: Sequence[Row]) -> Page:
    """One table, and cold times by image size."""
    cells = [
        [
            row["contender"],
            f"{row['extent_px']:,} px, {row['bands']} bands",
            number(row["cold_us"]),
            number(row["warm_us"]),
            f"{row['mean_difference']:.2f}",
        ]
        for row in rows
    ]
    series = {
        name: [(row["extent_px"], row["cold_us"] / 1000) for row in rows if row["contender"] == name]
        for name in unique(row["contender"] for row in rows)
    }
    table = Table("The whole image at 1/64", ["", "image", "cold µs", "warm µs", "difference"], cells)
    return Page([table], [Lines("The whole image at 1/64, cold", "edge of the image in pixels", "ms", series)])


def main() -> None:
    parser = make_parser(__doc__, quick="--extents 1024 2048 --rounds 3", shape=None, rounds=15)
    parser.add_argument("--extents", type=int, nargs="+", default=[4096, 16384], help="edges of the images in pixels")
    parser.add_argument("--forms", nargs="+", default=["npy", "none", "zstd"], help="of the entries")
    parser.add_argument("--huge", action="store_true", help=f"add an image of {_HUGE_PX} x {_HUGE_PX} pixels, one band")
    options = parse_options(parser)
    images = [(extent, 3, options.forms) for extent in options.extents]
    images += [(_HUGE_PX, 1, ["zstd"])] if options.huge else []
    results = []
    with open_folder(options) as folder:
        for extent, bands, forms in images:
            source = ensure_mosaic(folder, (extent, extent), bands=bands)
            thumbnail = ensure_thumbnail(source)
            contenders = make_contenders(source, thumbnail, folder, forms)
            chosen = [item for item in contenders if is_chosen(item.name, options)]
            rows = run_image(chosen, thumbnail, options)
            print_results(f"1/{_FACTOR} of {extent} x {extent} pixels in {bands} bands", rows)
            results += [{"extent_px": extent, "bands": bands, **row} for row in rows]
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
