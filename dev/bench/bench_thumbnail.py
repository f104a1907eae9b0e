"""What the whole image at 1/64 costs, from images of growing size: it must not grow with the image, only with the result.

``Frames.load_region(image_id, scale=1/64)`` of square mosaics of 4,096 and 16,384 pixels (``--huge``: one of 65,536 in one
band, 4.3 GB, and about as much again for its entry), from overviews, which an npy lacks. Beside it, on the same entry:
rasterio and tifffile, and pyvips where it reads the codec. The limit is that very thumbnail as a ``.npy``, mapped and copied.
"cold" is a new ``Frames`` (a newly opened file) in a process whose libraries are loaded; "warm" is a second read by the
same. Files are in the page cache.

Which pixel is right at 1/64 is a matter of filters. Each result must have the right shape, and be near the mean of 64 x 64
pixels; "difference" is by how much a pixel is off in the mean.

    pip install ".[bench]"
    python dev/bench/bench_thumbnail.py --folder /var/tmp/bench --huge --json dev/bench/results/thumbnail.json
    python dev/bench/bench_thumbnail.py --extents 1024 2048 --rounds 3     # a look
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from contenders import IMAGE_ID, Contender, Entry, Memmap, Ndframes, Pyvips, Rasterio, Tifffile
from lanes import Lane, LaneError
from mosaic import ensure_mosaic, making
from outcome import is_chosen, make_parser, open_folder, print_absent, print_table, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

_FACTOR = 64
_HUGE_PX = 65536
_BAND_PX = 64 * _FACTOR
# Filters differ by up to 5 on a mosaic of small photographs; what cannot decode gives black, which differs by 100.
_MOST_DIFFERENCE = 10.0


class Thumbnailer(Contender):
    """A contender that gives the whole image at 1/64."""

    def read_thumbnail(self) -> np.ndarray:
        """The pixels ``(height, width, bands)``, in memory."""
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
    """A decimated read, averaged, for which GDAL chooses an overview."""

    def read_thumbnail(self) -> np.ndarray:
        from rasterio.enums import Resampling

        height, width = (-(-extent // _FACTOR) for extent in self._dataset.shape)
        shape = (self._dataset.count, height, width)
        return self._dataset.read(out_shape=shape, resampling=Resampling.average).transpose(1, 2, 0)


class TifffileThumbnailer(Tifffile, Thumbnailer):
    """The page that is nearest from above, averaged down here where it is larger."""

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
    """libvips' own thumbnails, which use the pages of a pyramid."""

    def open(self) -> None:
        import pyvips

        self._vips = pyvips

    def read_thumbnail(self) -> np.ndarray:
        full = self._vips.Image.new_from_file(str(self.path))
        width, height = -(-full.width // _FACTOR), -(-full.height // _FACTOR)
        image = self._vips.Image.thumbnail(str(self.path), width, height=height, size="force")
        return np.atleast_3d(image.numpy())


@dataclass(frozen=True)
class Visit:
    """One new opening and what it read: microseconds of the first and of the second read, and the pixels."""

    cold_us: float
    warm_us: float
    pixels: np.ndarray


def visit(contender: Thumbnailer) -> Visit:
    """Open, read twice, close; runs in the contender's process."""
    started = time.perf_counter()
    contender.open()
    contender.read_thumbnail()
    opened = time.perf_counter()
    pixels = contender.read_thumbnail()
    ended = time.perf_counter()
    contender.close()
    return Visit((opened - started) * 1e6, (ended - opened) * 1e6, pixels)


def average(pixels: np.ndarray, thumbnail_level: int) -> np.ndarray:
    """Means of squares, which at the far edges may be smaller, so that a thumbnail of 1/64 comes of a level of 1/n."""
    extent = max(1, _FACTOR // thumbnail_level)
    height, width = pixels.shape[:2]
    rows, cols = np.arange(0, height, extent), np.arange(0, width, extent)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.float64), cols, axis=1)
    heights, widths = np.diff([*rows, height]), np.diff([*cols, width])
    return sums / (heights[:, None] * widths)[:, :, None]


def ensure_thumbnail(mosaic: Path) -> Path:
    """The mean of each 64 x 64 pixels of the mosaic, as ``.npy`` beside it."""
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


def admit(contender: Thumbnailer, right: np.ndarray) -> tuple[Lane | None, str, float]:
    """Its lane, or why it has none; and by how much its pixels differ from the means."""
    if contender.missing:
        return None, f"not installed: {', '.join(contender.missing)}", 0.0
    contender.build()
    lane = Lane(contender)
    try:
        pixels = lane.call(visit).pixels
        difference = _compare(pixels, right)
    except (LaneError, ValueError) as error:
        lane.close()
        return None, str(error).partition("\n")[0], 0.0
    return lane, "measured", difference


def run_image(contenders: Sequence[Thumbnailer], thumbnail: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each contender on one image."""
    right = np.load(thumbnail)
    admitted = {contender.name: admit(contender, right) for contender in contenders}
    lanes = [lane for lane, _, _ in admitted.values() if lane is not None]
    visits: dict[str, list[Visit]] = {lane.name: [] for lane in lanes}
    rng = np.random.default_rng(options.seed)
    for _ in range(options.rounds):
        for index in rng.permutation(len(lanes)).tolist():
            visits[lanes[index].name].append(lanes[index].call(visit))
    for lane in lanes:
        lane.close()
    rows = []
    for contender in contenders:
        _, status, difference = admitted[contender.name]
        row = {"contender": contender.name, "side": contender.side, "codec": contender.codec, "status": status}
        if contender.name in visits:
            row |= summarize(visits[contender.name]) | {"mean_difference": difference}
        rows.append(row)
    return rows


def summarize(visits: Sequence[Visit]) -> dict[str, Any]:
    return {
        "cold_us": statistics.median(item.cold_us for item in visits),
        "warm_us": statistics.median(item.warm_us for item in visits),
        "all_cold_us": [item.cold_us for item in visits],
        "all_warm_us": [item.warm_us for item in visits],
    }


def print_results(title: str, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (row["contender"], f"{row['cold_us']:.0f}", f"{row['warm_us']:.0f}", f"{row['mean_difference']:.2f}")
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(title, ("", "cold us", "warm us", "difference"), cells)
    print_absent(rows)


def _compare(pixels: np.ndarray, right: np.ndarray) -> float:
    if pixels.shape != right.shape:
        raise ValueError(f"wrong shape: {pixels.shape} instead of {right.shape}")
    difference = float(np.abs(pixels.astype(np.float64) - right).mean())
    if difference > _MOST_DIFFERENCE:
        raise ValueError(f"wrong pixels: they differ by {difference:.1f} in the mean")
    return difference


def main() -> None:
    parser = make_parser(__doc__, shape=None)
    parser.add_argument("--extents", type=int, nargs="+", default=[4096, 16384], help="edges of the images in pixels")
    parser.add_argument("--forms", nargs="+", default=["npy", "none", "zstd"])
    parser.add_argument(
        "--huge", action="store_true", help=f"also an image of {_HUGE_PX} x {_HUGE_PX} in one band, ZSTD"
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
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
            print_results(f"1/{_FACTOR} of {extent} x {extent} in {bands} bands", rows)
            results += [{"extent_px": extent, "bands": bands, **row} for row in rows]
        write_json(options, "thumbnail", folder, results)


if __name__ == "__main__":
    main()
