"""Feeding a training loop: batches of random crops, boxes, many images, and videos, end to end.

Tasks, each with interleaved rounds of all its contenders, in processes of their own, on the same crops, whose pixels are
compared before the first round:

- *batches*: 64 random crops of 256 px of one image (zstd, tiles of 256 px). Peers read the file that ndframes wrote, with
  a cache of GDAL that holds a third of it. The baseline reads one crop an item by rasterio in torch's DataLoader. Of a
  mosaic of photographs, nearly all time is decoding, which is the same for all; of noise, which zstd stores as it is, it is
  the way from the file to the loop.
- *hiding*: the same batches in front of a loop that works as long on each as reading it takes, without the GIL (*hashing*)
  or in Python. The baseline reads, then works. If a second core is free, 2 is the limit.
- *boxes*: with targets from 300,000 boxes, against the same patches without targets; and the memory of a worker.
- *opening*: one crop of each of 2,000 images, in random order. The baseline reads the files, which are tiled and of zstd.
- *videos*: all frames of one large and ten small videos as float32, against decoding frame by frame in whole videos.

Batches count from the seventh, when all workers are busy. CPU is the time of all processes for each batch. torchgeo and
torch are installed by hand, since most builds of torch include gigabytes for GPUs:

    pip install torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
    pip install ".[bench,torch]" torchgeo requests
    python dev/bench/bench_loader.py --folder /var/tmp/bench --json dev/bench/results/loader.json
    python dev/bench/bench_loader.py --quick
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.clips import Clip, ensure_clip
from data.mosaic import ensure_mosaic, ensure_noise
from data.photos import ensure_tiffs
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderError, ContenderProcess
from loaders.base import Loader, Timed, digest_batches, fork_workers, measure_consumer, time_batches
from loaders.ndframes_loaders import Bare, NdframesLoader, Patched, StockItems, StockLoader, measure_growth
from loaders.tiff_loaders import Place, RasterioGrain, RasterioItems, Torchgeo, digest_places
from loaders.video_loaders import Collected, FrameByFrame, is_each_frame_once, measure_imbalance
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique

_TASKS = ("batches", "hiding", "boxes", "opening", "videos")
_TITLES = {
    "batches, noise": "Batches of 64 crops of 256 px of noise",
    "batches, photographs": "Batches of 64 crops of 256 px of a mosaic of photographs",
    "hiding, hashing": "The same before a loop that works as long without the GIL",
    "hiding, python": "The same before a loop that works as long in Python",
    "boxes": "Patches with and without boxes",
    "opening": "One crop of each image",
    "videos": "All frames of one large and ten small videos",
}
_EXTRA_COLUMNS = {"memory": "MB of a worker after 1 and 10 epochs", "imbalance": "most frames of a worker / mean"}
#: Batches before those that count.
_SKIPPED = 6
#: Batches whose pixels are compared.
_CHECKED = 2
_BOXED_IMAGES = 30
_SMALL_VIDEOS = 10
_SMALL_SHAPE = (360, 640)
_FRAMES_IN_BATCH = 32


@dataclass(frozen=True)
class Task:
    """One comparison.

    Attributes:
        name: on the command line.
        loaders: the first one is the baseline.
        count: batches that count.
        check: whether the digests of the first batches are right.
        consumer: what the loop does with each batch: ``"hashing"`` or ``"python"``, which takes as long as the baseline's
            reading; ``None``: nothing.
        extra: called in the process of each loader after all rounds, for more columns.
    """

    name: str
    loaders: Sequence[Loader]
    count: int
    check: Callable[[list[bytes]], bool]
    consumer: str | None = None
    extra: Callable[[Any], dict[str, str]] | None = None

    @property
    def title(self) -> str:
        """Its name in the results."""
        return self.name if self.consumer is None else f"{self.name}, {self.consumer}"


class Workbench:
    """Makes the data and the tasks.

    Args:
        folder: for the data.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._mosaic = ensure_mosaic(folder, (options.height, options.width))
        self._common = options.batch, options.workers

    def make(self, name: str) -> list[Task]:
        """The tasks of a name."""
        make: Callable[[], list[Task]] = getattr(self, f"_make_{name}")
        return make()

    def _make_batches(self) -> list[Task]:
        noise = ensure_noise(self._folder, (self._options.height, self._options.width))
        return [self._make_batches_of("noise", noise), self._make_batches_of("photographs", self._mosaic)]

    def _make_batches_of(self, content: str, source: Path) -> Task:
        ours = self._ours({"mosaic": source})
        places = self._draw(ours, self._options.batches + _SKIPPED)
        peers = (*self._common, [ours.entry_path("mosaic")], places, self._options.crop)
        loaders = [
            RasterioItems("rasterio, DataLoader", *peers),
            Torchgeo("torchgeo, DataLoader", *peers),
            RasterioGrain("rasterio, grain's threads", *peers),
            ours.become(StockItems, "ndframes, DataLoader, item by item"),
            ours.become(StockLoader, "ndframes, DataLoader"),
            ours.become(Patched, "ndframes, PatchLoader"),
            ours.become(Patched, "ndframes, PatchLoader with threads", worker="thread"),
            ours.become(Bare, "load_regions, 1 thread", workers=1),
            ours.become(Bare, f"load_regions, {self._options.workers} threads"),
        ]
        return Task(f"batches, {content}", loaders, self._options.batches, self._checker([source], places[0]))

    def _make_hiding(self) -> list[Task]:
        ours = self._ours({"mosaic": self._mosaic})
        check = self._checker([self._mosaic], self._draw(ours, self._options.batches + _SKIPPED)[0])
        loaders = [
            ours.become(Bare, "load_regions, then the work", workers=1),
            ours.become(Patched, "ndframes, PatchLoader"),
            ours.become(Patched, "ndframes, PatchLoader with threads", worker="thread"),
        ]
        return [Task("hiding", loaders, self._options.batches, check, kind) for kind in ("hashing", "python")]

    def _make_boxes(self) -> list[Task]:
        ours = self._ours(annotate(self._mosaic, _BOXED_IMAGES, self._options.boxes))
        places = self._draw(ours, self._options.batches + _SKIPPED)
        check = self._checker([self._mosaic] * _BOXED_IMAGES, places[0])
        loaders = [
            ours.become(Patched, "ndframes, PatchLoader of PatchDataset"),
            ours.become(Patched, "ndframes, PatchLoader of DetectionPatches", has_targets=True),
        ]
        return [Task("boxes", loaders, self._options.batches, check, extra=measure_growth)]

    def _make_opening(self) -> list[Task]:
        paths = ensure_tiffs(self._folder, self._mosaic, self._options.images)
        ours = replace(self._ours(dict(enumerate(paths))), is_one_each=True)
        count = len(paths) // self._options.batch
        places = self._draw(ours, count)
        by_default = replace(ours, backend="cog")
        by_default.prepare()
        entries = [ours.entry_path(image_id) for image_id in ours.images]
        loaders = [
            RasterioItems("rasterio, DataLoader", *self._common, paths, places, self._options.crop),
            RasterioItems(
                "rasterio, DataLoader, of entries (zstd)", *self._common, entries, places, self._options.crop
            ),
            ours.become(Patched, "ndframes, PatchLoader (zstd)"),
            by_default.become(Patched, "ndframes, PatchLoader (default entries)"),
        ]
        return [Task("opening", loaders, count - _SKIPPED, self._checker(paths, places[0]))]

    def _make_videos(self) -> list[Task]:
        small = [Clip(_SMALL_SHAPE, self._options.frames // 25 + number, 12) for number in range(_SMALL_VIDEOS)]
        clips = [Clip(_SMALL_SHAPE, self._options.frames, 12), *small]
        paths = [ensure_clip(self._folder, clip) for clip in clips]
        loaders = [
            FrameByFrame("PyAV, frame by frame, whole videos", _FRAMES_IN_BATCH, self._options.workers, paths),
            Collected("ndframes, VideoCollectionDataLoader", _FRAMES_IN_BATCH, self._options.workers, paths),
        ]
        count = sum(clip.count for clip in clips) // _FRAMES_IN_BATCH - _SKIPPED
        return [
            Task("videos", loaders, count, lambda digests: is_each_frame_once(paths, digests), extra=measure_imbalance)
        ]

    def _ours(self, images: Mapping[Any, Any]) -> NdframesLoader:
        """A loader of prepared images, from which others are made."""
        ours = Patched("", *self._common, images, self._folder / "ndframes", self._options.crop)
        ours.prepare()
        return ours

    def _draw(self, ours: NdframesLoader, count: int) -> dict[int, list[Place]]:
        """The places of ``count`` batches, for each round and for the check before them."""
        return {seed: ours.places(seed, count) for seed in range(self._options.rounds + 1)}

    def _checker(self, paths: Sequence[Path], places: Sequence[Place]) -> Callable[[list[bytes]], bool]:
        """A check that batches hold these places, in this order."""

        def is_right(digests: list[bytes]) -> bool:
            return digests == digest_places(paths, places[: len(digests)], self._options.crop)

        return is_right


def annotate(mosaic: Path, images: int, boxes: int) -> dict[str, Any]:
    """A dataset in COCO's form: the mosaic as several images, with boxes of 16 to 96 px at random places."""
    height, width = np.load(mosaic, mmap_mode="r").shape[:2]
    rng = np.random.default_rng(0)
    sizes = rng.integers(16, 97, (boxes, 2))
    corners = (rng.random((boxes, 2)) * ((width, height) - sizes)).astype(int)
    annotations = [
        {"id": index + 1, "image_id": index % images + 1, "category_id": index % 3 + 1, "bbox": [*corner, *size]}
        for index, (corner, size) in enumerate(zip(corners.tolist(), sizes.tolist(), strict=True))
    ]
    return {
        "images": [
            {"id": index + 1, "name": f"{index}", "file_name": str(mosaic), "height": height, "width": width}
            for index in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate("abc")],
    }


def run_task(task: Task, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all rounds of a task; return its rows."""
    processes: dict[str, ContenderProcess] = {}
    rows = [describe(task, loader) for loader in task.loaders]
    try:
        for row, loader in zip(rows, task.loaders, strict=True):
            if loader.missing:
                row["status"] = f"not installed: {', '.join(loader.missing)}"
                continue
            processes[loader.name] = ContenderProcess(loader, daemon=False)
            try:
                check(task, processes[loader.name])
            except ContenderError as error:
                row["status"] = str(error).partition("\n")[0]
                processes.pop(loader.name).close()
        timed = run_rounds(task, processes, options)
        for row in rows:
            if row["contender"] in timed:
                row.update(summarize(timed[row["contender"]], timed[task.loaders[0].name]))
                if task.extra is not None:
                    row.update(processes[row["contender"]].call(task.extra))
        return rows
    finally:
        for process in processes.values():
            process.close()


def check(task: Task, process: ContenderProcess) -> None:
    """Compare the first batches.

    Raises:
        ContenderError: they differ, or the contender raised.
    """
    process.call(fork_workers)
    if not task.check(process.call(digest_batches, _CHECKED)):
        raise ContenderError("wrong pixels")


def run_rounds(
    task: Task, processes: Mapping[str, ContenderProcess], options: argparse.Namespace
) -> dict[str, list[Timed]]:
    """Time all contenders in each round, in another order each round."""
    rng = np.random.default_rng(options.seed)
    consumer = None
    if task.consumer is not None:
        consumer = processes[task.loaders[0].name].call(measure_consumer, task.count, task.consumer)
    timed: dict[str, list[Timed]] = {name: [] for name in processes}
    for seed in range(1, options.rounds + 1):
        for index in rng.permutation(len(processes)):
            name = list(processes)[index]
            timed[name].append(processes[name].call(time_batches, seed, _SKIPPED, task.count, consumer))
    return timed


def describe(task: Task, loader: Loader) -> dict[str, Any]:
    """The row of a loader that was not run yet."""
    return {"task": task.title, "contender": loader.name, "role": loader.role, "workers": loader.workers}


def summarize(mine: Sequence[Timed], baseline: Sequence[Timed]) -> dict[str, Any]:
    """Figures of all rounds; ratios are medians of those of each round."""
    speeds = [each.samples_per_second for each in mine]
    first, median, third = np.percentile(speeds, (25, 50, 75)).tolist()
    ratios = [speed / its.samples_per_second for speed, its in zip(speeds, baseline, strict=True)]
    return {
        "status": "measured",
        "samples_per_second": median,
        "first_quartile": first,
        "third_quartile": third,
        "ratio": statistics.median(ratios),
        "cpu_ms": statistics.median(each.cpu_ms for each in mine),
        "round_speeds": speeds,
        "round_ratios": ratios,
    }


def print_results(rows: Sequence[Row]) -> None:
    """A table for each task."""
    for table in render([row for row in rows if row["status"] == "measured"]).tables:
        print_table(table.title, table.header, table.rows)
    print_absent(rows)  # type: ignore[arg-type]


def render(rows: Sequence[Row]) -> Page:
    """Samples per second of each task."""
    tables, figures = [], []
    for task in unique(row["task"] for row in rows):
        chosen = [row for row in rows if row["task"] == task]
        title = _TITLES[task]
        extra = unique(name for row in chosen for name in _EXTRA_COLUMNS if name in row)
        header = ["", "samples / s", "ratio", "CPU ms / batch", *(_EXTRA_COLUMNS[name] for name in extra)]
        cells = [
            [
                row["contender"],
                number(row["samples_per_second"]),
                times(row["ratio"]),
                number(row["cpu_ms"]),
                *(row.get(name, "") for name in extra),
            ]
            for row in chosen
        ]
        tables.append(Table(title, header, cells))
        names = [row["contender"] for row in chosen]
        figures.append(Dots(title, "samples / s", names, {"median": [row["samples_per_second"] for row in chosen]}))
    return Page(tables, figures[:2])


def main() -> None:
    quick = "--height 1024 --width 1536 --batches 2 --batch 16 --rounds 2 --images 160 --boxes 3000 --frames 250"
    parser = make_parser(__doc__, quick=quick, shape=(8192, 8192), rounds=5)
    parser.add_argument("--tasks", nargs="+", choices=_TASKS, default=_TASKS, help="which comparisons")
    parser.add_argument("--crop", type=int, default=256, help="edge of the crops in pixels")
    parser.add_argument("--batch", type=int, default=64, help="crops in a batch")
    parser.add_argument("--batches", type=int, default=60, help="batches that count")
    parser.add_argument("--workers", type=int, default=2, help="worker processes or threads")
    parser.add_argument("--images", type=int, default=2000, help="of the task opening")
    parser.add_argument("--boxes", type=int, default=300_000, help="of the task boxes")
    parser.add_argument("--frames", type=int, default=3000, help="of the largest of the videos")
    options = parse_options(parser)
    with open_folder(options) as folder:
        workbench = Workbench(folder, options)
        rows = []
        for name in options.tasks:
            for task in workbench.make(name):
                chosen = [loader for loader in task.loaders if is_chosen(loader.name, options)]
                rows += run_task(replace(task, loaders=chosen), options)
                print_results(rows[-len(chosen) :])
        write_json(options, __file__, folder, rows)


if __name__ == "__main__":
    main()
