"""Batches: 64 random crops of 256 pixels in one call, and the crops of a sliding window, files in the page cache.

Three tasks, each with interleaved rounds of all its contenders on the same crops, whose pixels are compared:

- *batch*: ``Frames.load_regions`` with one thread and with two, against one ``load_region`` per crop, for every form of
  entry; tensorstore with all reads started at once, with one thread and with two; and the baseline, copied slices of a
  memmap. A round has five batches, one after the other as in a training loop: a core that sleeps takes long to wake up.
  Forms that are decoded also run with ``out`` reused, since new memory for 12 MB of results takes time of its own.
- *sweep*: windows that overlap by half, row by row over a part of the image, one ``load_region`` each, with the cache of
  decoded tiles and without it (``tile_bytes=0``). Neighbours share tiles, so the cache should help.
- *apart*: random crops of which no two share a tile, again with and without that cache. It finds nothing here, so it should
  cost nothing. As in the sweeps, checksums are off (``verify="open"``): every tile would be checked on its first visit.

    pip install ".[bench]"
    python dev/bench/bench_batch.py --folder /var/tmp/bench --json dev/bench/results/batch.json
    python dev/bench/bench_batch.py --quick
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.mosaic import ensure_mosaic
from kit.comparison import Comparison
from kit.crops import Crop, CropDrawer, count_apart, draw_anywhere, draw_apart, sweep
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.references import References
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique
from peers.base import Contender, Memmap
from peers.entries import Entry, Ndframes, NdframesBatch
from peers.zarr_readers import Tensorstore, ZarrForm

if TYPE_CHECKING:
    import numpy as np

    from kit.measurements import Measurements

_FORMS = ("npy", "none", "zstd", "auto", "jpeg")
_COMPRESSED_FORMS = ("zstd", "auto", "jpeg")
_TILED_FORMS = ("none", *_COMPRESSED_FORMS)
_CHUNK_PX = 256
_TASKS = ("batch", "sweep", "apart")


def make_batch_contenders(source: Path, folder: Path) -> list[Contender]:
    """The contenders of the task *batch*."""
    contenders: list[Contender] = [Memmap("memmap", "raw", source)]
    for form in _FORMS:
        entry = Entry(source, folder / "ndframes", form)
        contenders.append(Ndframes(f"ndframes {form}, one by one", entry.codec, entry))
        for is_out_reused in (False, True) if form in _COMPRESSED_FORMS else (False,):
            contenders += [
                NdframesBatch(
                    f"ndframes {form},{' out kept,' if is_out_reused else ''} workers={workers}",
                    entry.codec,
                    entry,
                    workers=workers,
                    is_out_reused=is_out_reused,
                )
                for workers in (1, 2)
            ]
    for level in (None, 3):
        form = ZarrForm(source, _CHUNK_PX, level)
        contenders += [
            Tensorstore(f"tensorstore {form.describe()}, threads={threads}", form.codec, form, threads=threads)
            for threads in (1, 2)
        ]
    return contenders


def make_tile_cache_contenders(source: Path, folder: Path) -> list[Contender]:
    """The contenders of *sweep* and *apart*: every tiled form, with the default cache of decoded tiles and without."""
    contenders: list[Contender] = [Memmap("memmap", "raw", source)]
    for form in _TILED_FORMS:
        entry = Entry(source, folder / "ndframes", form)
        options = {"verify": "open"}
        contenders += [
            Ndframes(f"ndframes {form}", entry.codec, entry, options),
            Ndframes(f"ndframes {form}, tile_bytes=0", entry.codec, entry, {**options, "tile_bytes": 0}),
        ]
    return contenders


def draw_sweep(shape: tuple[int, int], part_px: int, crop_px: int) -> CropDrawer:
    """A sweep over another part of the image in each round."""
    extent = min(part_px, *shape)

    def draw(rng: np.random.Generator) -> list[Crop]:
        top, left = (int(rng.integers(0, length - extent + 1)) for length in shape)
        return sweep((top, left), (extent, extent), crop_px, crop_px // 2)

    return draw


def run_task(
    task: str, contenders: list[Contender], draw: CropDrawer, options: argparse.Namespace, source: Path
) -> list[dict[str, Any]]:
    """Time one task. Times of *batch* are of whole batches, the others of single crops."""
    chosen = [item for item in contenders if is_chosen(item.name, options)]
    batch = options.batch if task == "batch" else None
    with Comparison(chosen, References(source), is_whole_image_read=task == "batch") as comparison:
        comparison.run(draw, rounds=options.warmup, seed=options.seed + 1, batch=batch)
        found = comparison.run(draw, rounds=options.rounds, seed=options.seed, batch=batch)
    rows = [list_result(item, comparison, found) for item in chosen]
    print_results(task, batch, rows)
    return [{"job": task, **row} for row in rows]


def list_result(contender: Contender, comparison: Comparison, found: dict[str, Measurements]) -> dict[str, Any]:
    """Return one row; ``ratio`` is to the contender named in ``compared_with``."""
    row = {"contender": contender.name, "role": contender.role, "codec": contender.codec}
    if contender.name in comparison.absent:
        return {**row, "status": comparison.absent[contender.name]}
    mine = found[contender.name]
    row |= {"status": "measured", "pixels": comparison.pixels[contender.name], **mine.summarize()}
    row["ratio_to_memmap"] = mine.ratio_to(found["memmap"]) if "memmap" in found else None
    other = find_compared(contender.name)
    if other in found:
        row |= {"compared_with": other, "ratio": mine.ratio_to(found[other])}
    return row


def find_compared(name: str) -> str:
    """Name what a contender is compared with: a batch with single calls, two threads with one, a cache with none."""
    for ending, other in (
        (", out kept, workers=1", ", one by one"),
        (", workers=1", ", one by one"),
        (", workers=2", ", workers=1"),
        ("threads=2", "threads=1"),
    ):
        if name.endswith(ending):
            return name.removesuffix(ending) + other
    return f"{name}, tile_bytes=0"


def print_results(task: str, batch: int | None, rows: list[dict[str, Any]]) -> None:
    unit = f"us for {batch}" if batch else "median us"
    cells = []
    for row in rows:
        if row["status"] == "measured":
            ratio = "" if row["ratio_to_memmap"] is None else f"{row['ratio_to_memmap']:.2f}"
            compared = f"x{row['ratio']:.2f} {row['compared_with']}" if "ratio" in row else ""
            cells.append((row["contender"], f"{row['median_us']:.0f}", ratio, f"{row['busy_cores']:.2f}", compared))
    print_table(task, ("", unit, "x memmap", "cores", "time relative to"), cells)
    print_absent(rows)


def render(rows: Sequence[Row]) -> Page:
    """One table and one figure per task."""
    tables, figures = [], []
    titles = {"batch": "Time per batch", "sweep": "Sweep: time per crop", "apart": "Crops apart: time per crop"}
    for task in unique(row["job"] for row in rows):
        mine = [row for row in rows if row["job"] == task]
        cells = [
            [
                row["contender"],
                number(row["median_us"]),
                times(row["ratio_to_memmap"]),
                f"{times(row['ratio'])} {row['compared_with']}" if "ratio" in row else "",
            ]
            for row in mine
        ]
        tables.append(Table(titles[task], ["", "median µs", "ratio to memmap", "time relative to"], cells))
        names = [row["contender"] for row in mine]
        figures.append(Dots(titles[task], "µs", names, {"median": [row["median_us"] for row in mine]}))
    return Page(tables, figures)


def main() -> None:
    quick = "--height 1536 --width 1536 --part 768 --rounds 2 --warmup 0 --batches 1 --batch 16"
    parser = make_parser(__doc__, quick=quick, rounds=15, warmup=2)
    parser.add_argument("--crop", type=int, default=256, help="edge of the crops in pixels")
    parser.add_argument("--batch", type=int, default=64, help="crops in a batch")
    parser.add_argument("--batches", type=int, default=5, help="batches in a round, one after the other")
    parser.add_argument("--part", type=int, default=2048, help="edge of the swept part in pixels")
    parser.add_argument("--jobs", nargs="+", default=list(_TASKS), choices=_TASKS, help="tasks to run")
    options = parse_options(parser)
    results = []
    with open_folder(options) as folder:
        shape = (options.height, options.width)
        source = ensure_mosaic(folder, shape)
        apart = options.batch // 2
        if count_apart(shape, options.crop, tile_px=_CHUNK_PX) < apart * (options.warmup + options.rounds):
            print("apart: the image is too small for this many rounds, so tiles are read again")
        draws = {
            "batch": draw_anywhere(shape, options.crop, options.batch * options.batches),
            "sweep": draw_sweep(shape, options.part, options.crop),
            "apart": draw_apart(shape, options.crop, apart, tile_px=_CHUNK_PX),
        }
        for task in options.jobs:
            make = make_batch_contenders if task == "batch" else make_tile_cache_contenders
            results += run_task(task, make(source, folder), draws[task], options, source)
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
