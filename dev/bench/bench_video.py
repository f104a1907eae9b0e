"""Frames of a video: ndframes, torchcodec, decord and OpenCV on the same H.264 files, in the page cache, one thread each.

The clips are photographs seen by a moving camera: 500 frames of 1080p with a key frame at least every 12 or every 250
frames, and 120 frames of 4K, with x264's default B-frames. Each contender runs in a process of its own and serves the same
requests, in interleaved rounds. Tasks, in milliseconds per request:

- *frame*: a frame anywhere; *window*: 16 consecutive frames in one request; *batch*: 32 frames anywhere in one request, in
  increasing order; *sequence*: 100 consecutive frames, one request each.
- *open*: until the number of frames is known. ndframes indexes a video when it first opens it ("first"), and reads the index
  from its cache after that.
- *crop*: 128 x 128 pixels of 16 frames of the 4K clip.

ndframes caches up to 64 MB of decoded frames, a fiftieth of a clip. "intra", "npy" and "cog" are forms of its cache entries: a
video of key frames only, uncompressed pixels (10 GB for these clips), and tiles in space and time. Frames of each contender
are compared with those of decoding from the beginning: they are equal, or the largest difference is reported. A contender
that returns another frame than the requested one is named and left out.

torchcodec must be installed by hand, in a version for the installed torch. It finds FFmpeg in PyAV's wheel:

    pip install ".[bench]"
    pip install torch==2.13.0 torchcodec==0.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
    python dev/bench/bench_video.py --folder /var/tmp/bench --json dev/bench/results/video.json
    python dev/bench/bench_video.py --quick
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.clips import CLIPS, Clip, ensure_clip
from kit.crops import digest
from kit.measurements import Measurements, Round
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderError, ContenderProcess, Field, running
from kit.reference_frames import ReferenceFrames
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique
from peers.video_readers import Decord, NdframesVideo, OpenCV, Torchcodec, VideoFile

_WINDOW = 16
_BATCH = 32
_SEQUENCE = 100
_CROP_PX = 128
_CHECKED = 8

Request = tuple[Any, ...]


def make_contenders(path: Path, folder: Path) -> list[VideoFile]:
    """All contenders; those of ndframes are named by their backend."""
    workdir = folder / "ndframes"
    return [
        NdframesVideo("ndframes", "h264", path, workdir),
        NdframesVideo("ndframes, its threads", "h264", path, workdir, threads=None),
        NdframesVideo("ndframes, first", "h264", path, workdir, is_first=True),
        NdframesVideo("ndframes intra", "intra", path, workdir, backend="intra"),
        NdframesVideo("ndframes npy", "npy", path, workdir, backend="npy"),
        NdframesVideo("ndframes cog", "cog", path, workdir, backend="cog"),
        Torchcodec("torchcodec exact", "h264", path),
        Torchcodec("torchcodec exact, its threads", "h264", path, threads=None),
        Torchcodec("torchcodec approximate", "h264", path, mode="approximate"),
        Decord("decord", "h264", path),
        Decord("decord, its threads", "h264", path, threads=None),
        OpenCV("OpenCV", "h264", path),
        OpenCV("OpenCV, its threads", "h264", path, threads=None),
    ]


# -- tasks: the requests of a round, and the method that serves them ---------------------------------------------------


def draw_frames(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(number,) for number in rng.choice(clip.count, 16, replace=False).tolist()]


def draw_windows(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(first, _WINDOW) for first in rng.integers(0, clip.count - _WINDOW, 4).tolist()]


def draw_batches(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(sorted(rng.choice(clip.count, _BATCH, replace=False).tolist()),)]


def draw_sequences(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(int(rng.integers(0, clip.count - _SEQUENCE)), _SEQUENCE)]


def draw_crops(clip: Clip, rng: np.random.Generator) -> list[Request]:
    corners = [rng.integers(0, extent - _CROP_PX, 4).tolist() for extent in clip.shape]
    firsts = rng.integers(0, clip.count - _WINDOW, 4).tolist()
    return [(first, _WINDOW, top, left, _CROP_PX) for first, top, left in zip(firsts, *corners, strict=True)]


def draw_openings(clip: Clip, rng: np.random.Generator) -> list[Request]:  # noqa: ARG001 - same signature as the others
    return [()] * 8


DRAWERS: dict[str, Callable[[Clip, np.random.Generator], list[Request]]] = {
    "open": draw_openings,
    "frame": draw_frames,
    "window": draw_windows,
    "batch": draw_batches,
    "sequence": draw_sequences,
    "crop": draw_crops,
}
READERS: dict[str, str] = {
    "open": "open_and_count",
    "frame": "read",
    "window": "read_window",
    "batch": "read_frames",
    "sequence": "read_following",
    "crop": "crop",
}
_MANY_FRAMES = ("open", "frame", "window", "batch", "sequence")
#: Tasks by the height of a clip.
TASKS = {360: _MANY_FRAMES, 1080: _MANY_FRAMES, 2160: ("open", "frame", "crop")}


def list_numbers(task: str, request: Request) -> list[int]:
    """The numbers of the frames that a request returns, in order."""
    if task == "frame":
        return [request[0]]
    return list(request[0]) if task == "batch" else list(range(request[0], request[0] + request[1]))


# -- in the contender's process ----------------------------------------------------------------------------------------


def open_and_count(contender: VideoFile) -> int:
    return contender.open_and_count()


def read_round(contender: VideoFile, task: str, requests: Sequence[Request]) -> Round:
    """Serve the requests of a round one by one."""
    read = getattr(contender, READERS[task])
    times_us, cpu_seconds = [], 0.0
    for request in requests:
        if task == "open":
            contender.prepare_reopening()
        cpu_started, started = time.process_time(), time.perf_counter()
        answer = read(*request)
        times_us.append((time.perf_counter() - started) * 1e6)
        cpu_seconds += time.process_time() - cpu_started
        del answer
    return Round(times_us, cpu_seconds)


def read_checked(contender: VideoFile, task: str, request: Request) -> list[tuple[bytes, np.ndarray]]:
    """Return the digest and a sample of the pixels of each frame of a request."""
    answer = getattr(contender, READERS[task])(*request)
    frames = [answer] if task == "frame" else list(answer)
    return [(digest(pixels), ReferenceFrames.take_sample(pixels)) for pixels in frames]


# -- rounds ------------------------------------------------------------------------------------------------------------


def run_clip(clip: Clip, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all contenders and tasks on one clip."""
    path = ensure_clip(folder, clip)
    references = ReferenceFrames(path, clip.count)
    contenders = [item for item in make_contenders(path, folder) if is_chosen(item.name, options)]
    rows = []

    def check(process: ContenderProcess) -> None:
        count = process.call(open_and_count)
        if count != clip.count:
            raise ContenderError(f"it counts {count} frames instead of {clip.count}")

    with running(contenders, check) as field:
        for task in TASKS[clip.shape[0]]:
            if options.jobs is None or task in options.jobs:
                found = run_task(task, clip, contenders, field, references, options)
                print_results(f"{task}, {clip.title}", found)
                rows += found
    return rows


def run_task(
    task: str,
    clip: Clip,
    contenders: Sequence[VideoFile],
    field: Field,
    references: ReferenceFrames,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Check the frames of every contender, then time the rounds of one task."""
    rng = np.random.default_rng(options.seed)
    draw = DRAWERS[task]
    checked = draw(clip, np.random.default_rng(options.seed + 1))[:_CHECKED]
    entrants, differences = Field(absent=dict(field.absent)), {}
    for process in field.processes:
        if not takes_part(process.contender, task):
            continue
        try:
            largest = 0 if task == "open" else max(check(process, task, request, references) for request in checked)
        except ContenderError as error:
            entrants.absent[process.name] = str(error).partition("\n")[0]
        else:
            entrants.processes.append(process)
            differences[process.name] = largest
    found = {process.name: Measurements() for process in entrants.processes}
    for round_number in range(-options.warmup, options.rounds):
        requests = draw(clip, rng)
        for process in entrants.shuffled(rng):
            one = process.call(read_round, task, requests)
            if round_number >= 0:
                found[process.name].rounds.append(one)
    return list_results(task, clip, contenders, found, differences, entrants.absent)


def takes_part(contender: VideoFile, task: str) -> bool:
    """Whether a task is meaningful for a contender: first openings for *open* only, tiles for *crop* only."""
    is_first, backend = getattr(contender, "is_first", False), getattr(contender, "backend", None)
    return task == "open" if is_first else task == "crop" if backend == "cog" else True


def check(process: ContenderProcess, task: str, request: Request, references: ReferenceFrames) -> float:
    """Return the largest difference between the frames of an answer and the reference."""
    answer = process.call(read_checked, task, request)
    if task == "crop":
        first, count, top, left, extent_px = request
        numbers = range(first, first + count)
        return references.check_crop(numbers, top, left, extent_px, [found for found, _ in answer])
    numbered = zip(list_numbers(task, request), answer, strict=True)
    return max(references.check(number, found, sample) for number, (found, sample) in numbered)


def list_results(
    task: str,
    clip: Clip,
    contenders: Sequence[VideoFile],
    found: dict[str, Measurements],
    differences: dict[str, float],
    absent: dict[str, str],
) -> list[dict[str, Any]]:
    """Return a row for each contender that takes part in the task, or is absent."""
    own = found.get("ndframes")
    rows = []
    for contender in contenders:
        row: dict[str, Any] = {
            "job": task,
            "clip": clip.title,
            "contender": contender.name,
            "role": contender.role,
            "codec": contender.codec,
        }
        if contender.name in absent:
            rows.append({**row, "status": absent[contender.name]})
        elif contender.name in found:
            mine = found[contender.name]
            row |= {"status": "measured", "largest_difference": differences[contender.name], **mine.summarize()}
            row["cpu_us"] = mine.cpu_us
            row["ratio_to_ndframes"] = None if own is None else mine.ratio_to(own)
            rows.append(row)
    return rows


def print_results(title: str, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['median_us'] / 1000:.2f}",
            f"{row['first_quartile_us'] / 1000:.2f}-{row['third_quartile_us'] / 1000:.2f}",
            f"{row['ratio_to_ndframes'] or 0:.2f}",
            f"{row['cpu_us'] / 1000:.2f}",
            f"{row['largest_difference']:.3g}",
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(title, ("", "median ms", "quartiles", "x ndframes", "cpu ms", "largest difference"), cells)
    print_absent(rows)


# -- the page ----------------------------------------------------------------------------------------------------------


def render(rows: Sequence[Row]) -> Page:
    """One table and one figure per task, the clips side by side."""
    tables, figures = [], []
    titles = {
        "open": "Opening a video",
        "frame": "A frame anywhere",
        "window": "16 consecutive frames",
        "batch": "32 frames anywhere, in increasing order",
        "sequence": "100 frames one after the other",
        "crop": "128 x 128 pixels of 16 frames",
    }
    for task in unique(row["job"] for row in rows):
        mine = [row for row in rows if row["job"] == task]
        clips, names = unique(row["clip"] for row in mine), unique(row["contender"] for row in mine)
        by_place = {(row["contender"], row["clip"]): row for row in mine}
        cells = [[name, *(format_cell(by_place.get((name, clip))) for clip in clips)] for name in names]
        title = f"{titles[task]}: milliseconds (ratio to ndframes); processor time"
        tables.append(Table(title, ["", *clips], cells))
        series = {
            clip: [by_place[name, clip]["median_us"] / 1000 if (name, clip) in by_place else None for name in names]
            for clip in clips
        }
        figures.append(Dots(titles[task], "ms", names, series))
    return Page(tables, figures)


def format_cell(row: Row | None) -> str:
    """The median, its ratio to ndframes, and the processor time, which other load on the machine hardly changes."""
    if row is None:
        return ""
    ratio = times(row["ratio_to_ndframes"])
    return f"{number(row['median_us'] / 1000)} ({ratio}); {number(row['cpu_us'] / 1000)}"


def main() -> None:
    parser = make_parser(
        __doc__, quick="--clips quick --jobs open frame window --rounds 2", shape=None, rounds=7, warmup=1
    )
    parser.add_argument("--clips", nargs="+", choices=list(CLIPS), default=["gop12", "gop250", "4k"])
    parser.add_argument("--jobs", nargs="+", choices=list(DRAWERS), help="tasks to run; default: all")
    options = parse_options(parser)
    results = []
    with open_folder(options) as folder:
        for name in options.clips:
            results += run_clip(CLIPS[name], folder, options)
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
