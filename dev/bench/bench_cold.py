"""Crops from a cold disk: bytes read and time per crop when nothing is in memory.

Before each series of crops the contender's files are evicted from the page cache by ``posix_fadvise``, which needs no root.
``mincore`` then shows whether they are gone; a contender whose files stay is left out. On tmpfs, which has no disk, all are.
Each series has a newly opened reader in a process whose libraries are already loaded: it has opened, read a corner and
closed before. Opening is reported separately, and so is the first crop, which also reads tables of tiles and checksums. The
medians are of the crops after it.

No two crops of a series share a tile. "touched" is the size on disk of the tiles under a crop, as tifffile finds them in the
entry (for an npy its rows, for a zarr its chunk files), also counted in whole pages of 4 KiB. A ratio of 1 to that is the
physical limit. Bytes read are those that the kernel counts for the process (``/proc/self/io``), read-ahead included.

    pip install ".[bench]"
    python dev/bench/bench_cold.py --folder /var/tmp/bench --json dev/bench/results/cold.json
    python dev/bench/bench_cold.py --quick --folder .
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

from data.mosaic import ensure_mosaic
from kit.byte_ranges import count_bytes, count_page_bytes
from kit.crops import Crop, cover, digest, draw_apart
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.pagecache import count_bytes_read, count_resident_bytes, evict
from kit.processes import ContenderError, ContenderProcess, Field, running
from kit.references import References
from pages.figures import Dots
from pages.page import Page, Row, Table, number, unique
from peers.base import Contender, Memmap
from peers.entries import Entry, Ndframes
from peers.tiff_readers import Rasterio
from peers.zarr_readers import Tensorstore, ZarrForm

_CHUNK_PX = 256
_ZARR_LEVEL = 3


@dataclass(frozen=True)
class Series:
    """One series of crops by a newly opened reader.

    Attributes:
        open_seconds: time of opening.
        open_bytes: bytes that opening read.
        times_us: of each crop, the first one included.
        read_bytes: of each crop.
        digests: of each crop's pixels.
    """

    open_seconds: float
    open_bytes: int
    times_us: list[float]
    read_bytes: list[int]
    digests: list[bytes]


def make_contenders(source: Path, folder: Path) -> list[Contender]:
    entries = {form: Entry(source, folder / "ndframes", form) for form in ("npy", "none", "zstd")}
    contenders: list[Contender] = [Memmap("memmap", "raw", source)]
    contenders += [Ndframes(f"ndframes {form}", entry.codec, entry) for form, entry in entries.items()]
    contenders += [Rasterio(f"rasterio {form}", entries[form].codec, entries[form]) for form in ("none", "zstd")]
    for level in (None, _ZARR_LEVEL):
        form = ZarrForm(source, _CHUNK_PX, level)
        contenders.append(Tensorstore(f"tensorstore {form.describe()}", form.codec, form))
    return contenders


def read_series(contender: Contender, corner: Crop, crops: Sequence[Crop]) -> Series:
    """Read ``crops`` from the disk, in the contender's process."""
    contender.open()
    contender.read(corner)
    contender.close()
    files = contender.files()
    evict(files)
    if count_resident_bytes(files):
        raise OSError(f"{contender.name}: its files stay in the page cache; choose a --folder on a disk")
    bytes_before, started = count_bytes_read(), time.perf_counter()
    contender.open()
    open_seconds, open_bytes = time.perf_counter() - started, count_bytes_read() - bytes_before
    times_us, read_bytes, digests = [], [], []
    for crop in crops:
        bytes_before, started = count_bytes_read(), time.perf_counter()
        pixels = contender.read(crop)
        times_us.append((time.perf_counter() - started) * 1e6)
        read_bytes.append(count_bytes_read() - bytes_before)
        digests.append(digest(pixels))
    contender.close()
    return Series(open_seconds, open_bytes, times_us, read_bytes, digests)


def run_series(
    field: Field, references: References, crop_px: int, options: argparse.Namespace
) -> dict[str, list[tuple[list[Crop], Series]]]:
    """Return the crops and the series of each round, by contender."""
    rng = np.random.default_rng(options.seed)
    draw = draw_apart(references.shape, crop_px, options.crops + 1, tile_px=_CHUNK_PX)
    corner = cover(references.shape, 64)[0]
    found: dict[str, list[tuple[list[Crop], Series]]] = {process.name: [] for process in field.processes}
    for _ in range(options.rounds):
        crops = draw(rng)
        for process in field.shuffled(rng):
            series = process.call(read_series, corner, crops)
            references.match(process.contender, crops, series.digests)
            found[process.name].append((crops, series))
    return found


def summarize(contender: Contender, rounds: Sequence[tuple[list[Crop], Series]]) -> dict[str, Any]:
    """Summarize all crops except the first of each series; opening and first crops separately."""
    later = [crop for crops, _ in rounds for crop in crops[1:]]
    read_bytes = [each for _, series in rounds for each in series.read_bytes[1:]]
    touched = [contender.byte_ranges(crop) for crop in later]
    touched_bytes = sum(count_bytes(ranges) for ranges in touched)
    touched_page_bytes = sum(count_page_bytes(ranges) for ranges in touched)
    times_us = [each for _, series in rounds for each in series.times_us[1:]]
    first, median, third = np.percentile(times_us, (25, 50, 75)).tolist()
    return {
        "status": "measured",
        "median_us": median,
        "first_quartile_us": first,
        "third_quartile_us": third,
        "median_read_bytes": statistics.median(read_bytes),
        "mean_read_bytes": statistics.mean(read_bytes),
        "mean_touched_bytes": touched_bytes / len(later),
        "read_to_touched": sum(read_bytes) / touched_bytes,
        "read_to_touched_pages": sum(read_bytes) / touched_page_bytes,
        "first_crop_bytes": statistics.median(series.read_bytes[0] for _, series in rounds),
        "first_crop_us": statistics.median(series.times_us[0] for _, series in rounds),
        "open_bytes": statistics.median(series.open_bytes for _, series in rounds),
        "open_us": statistics.median(series.open_seconds for _, series in rounds) * 1e6,
    }


def print_results(crop_px: int, rows: list[dict[str, Any]]) -> None:
    header = (
        "",
        "median us",
        "KiB read",
        "KiB touched",
        "read/touched",
        "in pages",
        "first us",
        "first KiB",
        "open KiB",
    )
    cells = [
        (
            row["contender"],
            f"{row['median_us']:.0f}",
            f"{row['mean_read_bytes'] / 1024:.1f}",
            f"{row['mean_touched_bytes'] / 1024:.1f}",
            f"{row['read_to_touched']:.2f}",
            f"{row['read_to_touched_pages']:.2f}",
            f"{row['first_crop_us']:.0f}",
            f"{row['first_crop_bytes'] / 1024:.0f}",
            f"{row['open_bytes'] / 1024:.0f}",
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(f"{crop_px} px, nothing in memory", header, cells)
    print_absent(rows)


def run_sizes(contenders: Sequence[Contender], source: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    references = References(source)
    corner = cover(references.shape, 64)[0]
    results = []

    def check(process: ContenderProcess) -> None:
        references.match(process.contender, [corner], process.call(read_series, corner, [corner]).digests)

    with running(contenders, check) as field:
        for crop_px in options.sizes:
            found = run_series(field, references, crop_px, options)
            rows = [
                {"crop_px": crop_px, "contender": item.name, "role": item.role, "codec": item.codec}
                | (
                    {"status": field.absent[item.name]}
                    if item.name in field.absent
                    else summarize(item, found[item.name])
                )
                for item in contenders
            ]
            print_results(crop_px, rows)
            results += rows
    return results


def render(rows: Sequence[Row]) -> Page:
    """One table and one figure per crop size."""
    tables, figures = [], []
    header = ["", "µs", "KiB read", "KiB touched", "read / touched", "in whole pages", "first crop µs", "open KiB"]
    for size in unique(row["crop_px"] for row in rows):
        mine = [row for row in rows if row["crop_px"] == size]
        cells = [
            [
                row["contender"],
                number(row["median_us"]),
                number(row["mean_read_bytes"] / 1024),
                number(row["mean_touched_bytes"] / 1024),
                f"{row['read_to_touched']:.2f}",
                f"{row['read_to_touched_pages']:.2f}",
                number(row["first_crop_us"]),
                number(row["open_bytes"] / 1024),
            ]
            for row in mine
        ]
        tables.append(Table(f"Crops of {size} px from a cold disk", header, cells))
        series = {
            "read": [row["mean_read_bytes"] / 1024 for row in mine],
            "touched": [row["mean_touched_bytes"] / 1024 for row in mine],
        }
        title = f"Data per crop of {size} px from a cold disk"
        figures.append(Dots(title, "KiB", [row["contender"] for row in mine], series))
    return Page(tables, figures)


def main() -> None:
    parser = make_parser(__doc__, quick="--height 2048 --width 2048 --crops 4 --rounds 2", rounds=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="edges of the crops in pixels")
    parser.add_argument("--crops", type=int, default=30, help="crops in a series, after the first one")
    options = parse_options(parser)
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        contenders = [item for item in make_contenders(source, folder) if is_chosen(item.name, options)]
        try:
            results = run_sizes(contenders, source, options)
        except ContenderError as error:
            raise SystemExit(str(error)) from error
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
