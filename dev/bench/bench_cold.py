"""What a crop costs when nothing is in memory: bytes from the disk, and time, a crop.

Before each series of crops the contender's files are taken out of the page cache (``posix_fadvise``, which needs no root;
``mincore`` then tells whether they are out, and if not, the script says so and ends: on tmpfs there is no disk to read).
A series is read by a reader that was freshly opened after that, in a process whose libraries are loaded already: it has
opened, read a corner and closed once before. What opening takes is told apart, and so is a first crop, with which tables
of tiles and of checksums come in; the figures are of the crops after it.

No two crops of a series share a tile. "touched" is what the tiles under a crop take on disk, as tifffile finds them in the
entry (the rows of an npy, the chunk files of a zarr), also counted in whole pages of 4 KiB. A ratio of 1 to that is the
limit. The bytes are those that the kernel says it read for the process (``/proc/self/io``), read-ahead included.

    pip install ".[bench]"
    python dev/bench/bench_cold.py --folder /var/tmp/bench --json dev/bench/results/cold.json
    python dev/bench/bench_cold.py --height 2048 --width 2048 --crops 4 --rounds 2 --folder .     # a look
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
from contenders import Contender, Entry, Memmap, Ndframes, Rasterio
from crops import Crop, cover, digest, draw_apart
from lanes import Lane, LaneError
from mosaic import ensure_mosaic
from outcome import is_chosen, make_parser, open_folder, print_absent, print_table, write_json
from pagecache import count_bytes_read, count_resident_bytes, drop
from references import References
from touched import count_bytes, count_page_bytes
from zarrs import Tensorstore, ZarrForm

_CHUNK_PX = 256
_ZARR_LEVEL = 3


@dataclass(frozen=True)
class Series:
    """One series of crops by a fresh reader.

    Attributes:
        open_seconds: what opening took.
        open_bytes: what opening read.
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


def take_series(contender: Contender, corner: Crop, crops: Sequence[Crop]) -> Series:
    """Read ``crops`` from the disk; runs in the contender's process."""
    contender.open()
    contender.read(corner)
    contender.close()
    files = contender.files()
    drop(files)
    if count_resident_bytes(files):
        raise OSError(f"{contender.name}: its files do not leave the page cache; choose a --folder on a disk")
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


def admit(contenders: Sequence[Contender]) -> tuple[list[Lane], dict[str, str]]:
    """Lanes of those who can take part, and why the others do not."""
    absent = {item.name: f"not installed: {', '.join(item.missing)}" for item in contenders if item.missing}
    present = [item for item in contenders if item.name not in absent]
    for contender in present:
        contender.build()
    return [Lane(contender) for contender in present], absent


def run_series(
    lanes: Sequence[Lane], references: References, crop_px: int, options: argparse.Namespace
) -> dict[str, list[tuple[list[Crop], Series]]]:
    """By contender, the crops and the series of each round; the order changes."""
    rng = np.random.default_rng(options.seed)
    draw = draw_apart(references.shape, crop_px, options.crops + 1, tile_px=_CHUNK_PX)
    corner = cover(references.shape, 64)[0]
    found: dict[str, list[tuple[list[Crop], Series]]] = {lane.name: [] for lane in lanes}
    for _ in range(options.rounds):
        crops = draw(rng)
        for index in rng.permutation(len(lanes)).tolist():
            lane = lanes[index]
            series = lane.call(take_series, corner, crops)
            references.match(lane.contender, crops, series.digests)
            found[lane.name].append((crops, series))
    return found


def summarize(contender: Contender, rounds: Sequence[tuple[list[Crop], Series]]) -> dict[str, Any]:
    """Figures of all crops but the first of each series, and what stands apart."""
    later = [crop for crops, _ in rounds for crop in crops[1:]]
    read_bytes = [each for _, series in rounds for each in series.read_bytes[1:]]
    touched = [contender.touched(crop) for crop in later]
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
    lanes, absent = admit(contenders)
    references = References(source)
    results = []
    try:
        for crop_px in options.sizes:
            found = run_series(lanes, references, crop_px, options)
            rows = [
                {"crop_px": crop_px, "contender": item.name, "side": item.side, "codec": item.codec}
                | ({"status": absent[item.name]} if item.name in absent else summarize(item, found[item.name]))
                for item in contenders
            ]
            print_results(crop_px, rows)
            results += rows
    finally:
        for lane in lanes:
            lane.close()
    return results


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="edges of the crops in pixels")
    parser.add_argument("--crops", type=int, default=30, help="crops in a series, behind the first one")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        contenders = [item for item in make_contenders(source, folder) if is_chosen(item.name, options)]
        try:
            results = run_sizes(contenders, source, options)
        except LaneError as error:
            raise SystemExit(str(error)) from error
        write_json(options, "cold", folder, results)


if __name__ == "__main__":
    main()
