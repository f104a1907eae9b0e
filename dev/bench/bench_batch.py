"""What batches save: 64 random crops of 256 pixels at once, and the crops of a sliding window, files in memory.

Three jobs, each with all its contenders in turn on the same crops, pixels compared:

- *batch*: ``Frames.load_regions`` on one thread and on two, against as many calls of ``load_region``, for every form of
  entry; tensorstore with all reads under way at once, on one thread and on two; and slices of a memmap, copied: the limit.
  Each takes turns of five batches, one after the other, as a training loop asks for them: a core that sleeps takes long to
  wake. Fresh memory for 12 MB of results has its price, so forms that are decoded are there with the same ``out`` each time, too.
- *sweep*: windows that overlap by half, row after row over a part of the image, one ``load_region`` each, with the memory
  of decoded tiles and without it (``tile_bytes=0``). Neighbours share tiles, so it should help.
- *apart*: random crops of which no two share a tile, again with and without. Nothing is found again, so that memory must
  cost nothing. As in the sweeps, checksums are left aside (``verify="open"``): every tile is visited for the first time.

    pip install ".[bench]"
    python dev/bench/bench_batch.py --folder /var/tmp/bench --json dev/bench/results/batch.json
    python dev/bench/bench_batch.py --height 2048 --width 2048 --part 1024 --rounds 3       # a look
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contenders import IMAGE_ID, Contender, Entry, Memmap, Ndframes
from contest import Contest, Samples
from crops import CropDrawer, count_apart, draw_anywhere, draw_apart, sweep
from mosaic import ensure_mosaic
from outcome import is_chosen, make_parser, open_folder, print_absent, print_table, write_json
from references import References
from zarrs import Tensorstore, ZarrForm

if TYPE_CHECKING:
    import numpy as np
    from crops import Crop

_FORMS = ("npy", "none", "zstd", "auto", "jpeg")
_COMPRESSED_FORMS = ("zstd", "auto", "jpeg")
_DECODED_FORMS = ("none", *_COMPRESSED_FORMS)
_CHUNK_PX = 256


@dataclass
class NdframesBatch(Ndframes):
    """``Frames.load_regions`` on so many threads, into fresh memory or always the same."""

    workers: int = 1
    is_out_kept: bool = False

    def open(self) -> None:
        super().open()
        self._out = None

    def read_batch(self, crops: Sequence[Crop]) -> Sequence[np.ndarray]:
        requests = [(IMAGE_ID, crop.region) for crop in crops]
        result = self._frames.load_regions(requests, workers=self.workers, out=self._out)
        if self.is_out_kept:
            self._out = result
        return result


def make_batch_contenders(source: Path, folder: Path) -> list[Contender]:
    contenders: list[Contender] = [Memmap("memmap", "raw", source)]
    for form in _FORMS:
        entry = Entry(source, folder / "ndframes", form)
        contenders.append(Ndframes(f"ndframes {form}, one by one", entry.codec, entry))
        contenders += [
            NdframesBatch(f"ndframes {form}, workers={workers}", entry.codec, entry, workers=workers)
            for workers in (1, 2)
        ]
        if form in _COMPRESSED_FORMS:
            contenders += [
                NdframesBatch(
                    f"ndframes {form}, out kept, workers={workers}",
                    entry.codec,
                    entry,
                    workers=workers,
                    is_out_kept=True,
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


def make_memory_contenders(source: Path, folder: Path) -> list[Contender]:
    """Every form that is decoded, with the memory of decoded tiles as it is by default, and without."""
    contenders: list[Contender] = [Memmap("memmap", "raw", source)]
    for form in _DECODED_FORMS:
        entry = Entry(source, folder / "ndframes", form)
        options = {"verify": "open"}
        contenders += [
            Ndframes(f"ndframes {form}", entry.codec, entry, options),
            Ndframes(f"ndframes {form}, tile_bytes=0", entry.codec, entry, {**options, "tile_bytes": 0}),
        ]
    return contenders


def draw_sweep(shape: tuple[int, int], part_px: int, crop_px: int) -> CropDrawer:
    """A sweep over another part of the image each round."""
    extent = min(part_px, *shape)

    def draw(rng: np.random.Generator) -> list[Crop]:
        top, left = (int(rng.integers(0, length - extent + 1)) for length in shape)
        return sweep((top, left), (extent, extent), crop_px, crop_px // 2)

    return draw


def run_job(
    job: str, contenders: list[Contender], draw: CropDrawer, options: argparse.Namespace, source: Path
) -> list[dict[str, Any]]:
    """Time one job; times of the batch job are of whole batches."""
    chosen = [item for item in contenders if is_chosen(item.name, options)]
    batch = options.batch if job == "batch" else None
    with Contest(chosen, References(source), is_toured=job == "batch") as contest:
        contest.run(draw, rounds=options.warmup, seed=options.seed + 1, batch=batch)
        samples = contest.run(draw, rounds=options.rounds, seed=options.seed, batch=batch)
    rows = [list_result(item, contest, samples) for item in chosen]
    print_results(job, batch, rows)
    return [{"job": job, **row} for row in rows]


def list_result(contender: Contender, contest: Contest, samples: dict[str, Samples]) -> dict[str, Any]:
    """One row; ``ratio`` is to what the contender is to be compared with, by name in ``compared_with``."""
    row = {"contender": contender.name, "side": contender.side, "codec": contender.codec}
    if contender.name in contest.absent:
        return {**row, "status": contest.absent[contender.name]}
    mine = samples[contender.name]
    row |= {"status": "measured", "pixels": contest.pixels[contender.name], **mine.summarize()}
    row["ratio_to_memmap"] = mine.ratio_to(samples["memmap"]) if "memmap" in samples else None
    other = find_compared(contender.name)
    if other in samples:
        row |= {"compared_with": other, "ratio": mine.ratio_to(samples[other])}
    return row


def find_compared(name: str) -> str:
    """With what a contender is compared: a batch with single calls, two threads with one, a memory with none."""
    for ending, other in (
        (", out kept, workers=1", ", one by one"),
        (", workers=1", ", one by one"),
        (", workers=2", ", workers=1"),
        ("threads=2", "threads=1"),
    ):
        if name.endswith(ending):
            return name.removesuffix(ending) + other
    return f"{name}, tile_bytes=0"


def print_results(job: str, batch: int | None, rows: list[dict[str, Any]]) -> None:
    unit = f"us for {batch}" if batch else "median us"
    cells = []
    for row in rows:
        if row["status"] == "measured":
            ratio = f"x{row['ratio']:.2f} of {row['compared_with']}" if "ratio" in row else ""
            limit = "" if row["ratio_to_memmap"] is None else f"{row['ratio_to_memmap']:.2f}"
            cells.append((row["contender"], f"{row['median_us']:.0f}", limit, f"{row['busy_cores']:.2f}", ratio))
    print_table(job, ("", unit, "x memmap", "cores", "takes"), cells)
    print_absent(rows)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--crop", type=int, default=256, help="edge of the crops in pixels")
    parser.add_argument("--batch", type=int, default=64, help="crops in a batch")
    parser.add_argument("--batches", type=int, default=5, help="batches in a turn, one after the other")
    parser.add_argument("--part", type=int, default=2048, help="edge of the part that is swept")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=2, help="rounds before those that count")
    parser.add_argument("--jobs", nargs="+", default=["batch", "sweep", "apart"], choices=["batch", "sweep", "apart"])
    options = parser.parse_args()
    results = []
    with open_folder(options) as folder:
        shape = (options.height, options.width)
        source = ensure_mosaic(folder, shape)
        apart = options.batch // 2
        if count_apart(shape, options.crop, tile_px=_CHUNK_PX) < apart * (options.warmup + options.rounds):
            print("apart: the image is too small for so many rounds, tiles will come again")
        draws = {
            "batch": draw_anywhere(shape, options.crop, options.batch * options.batches),
            "sweep": draw_sweep(shape, options.part, options.crop),
            "apart": draw_apart(shape, options.crop, apart, tile_px=_CHUNK_PX),
        }
        for job in options.jobs:
            make = make_batch_contenders if job == "batch" else make_memory_contenders
            results += run_job(job, make(source, folder), draws[job], options, source)
        write_json(options, "batch", folder, results)


if __name__ == "__main__":
    main()
