"""Algorithms over a video and over a live stream: ndframes' Pipeline, the loop of supervision's users, and Stream Infer.

Each contender runs in a process of its own; the rounds of the contenders are interleaved. Jobs:

- *file*: two algorithms with OpenCV over a clip of H.264, one at each frame, one with two frames five apart: windows a second.
  Values are compared: those of each frame number must be equal in all contenders.
- *live*: a slow algorithm, which waits as for another device, over a stream that is sent in real time (MPEG-TS over HTTP): how many
  frames it got, how old they were when they were done, and how many frames between them were dropped: counted by the library, or
  without a word. A contender that queues drops none, and falls behind.

- *pace*: ndframes alone, in real time: a file of 30 frames a second with an algorithm that takes 200 ms, in each kind of worker, and beside
  a thread that runs Python without a pause: whether the source keeps its pace, the latency over the time of the algorithm, and how much
  memory of all its processes grows after the first quarter.

    pip install ".[bench]" supervision
    pip install --no-deps stream-infer loguru
    python dev/bench/bench_stream.py --folder /var/tmp/bench --json dev/bench/results/stream.json
    python dev/bench/bench_stream.py --quick
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.numbered import FPS, ensure_numbered, ensure_repeated
from kit.live_server import serving
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderError, ContenderProcess, running
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times
from peers.stream_pace import PACES, run_pace
from peers.stream_runners import Live, NdframesRunner, StreamRunner, Waiting, make_runners

_BASE = "ndframes, threads"


# -- in the contender's process ----------------------------------------------------------------------------------------


def run_file(runner: StreamRunner, path: Path) -> tuple[dict[str, list[tuple[int, int]]], float, float]:
    """What the algorithms return; seconds, and processor seconds of this process."""
    started, cpu_started = time.perf_counter(), time.process_time()
    found = runner.run_file(path)
    return found, time.perf_counter() - started, time.process_time() - cpu_started


def run_live(runner: StreamRunner, url: str, wait: float, seconds: float) -> Live:
    """What became of a live stream."""
    return runner.run_live(url, Waiting(wait), seconds)


# -- rounds ------------------------------------------------------------------------------------------------------------


def check_values(found: dict[str, list[tuple[int, int]]], expected: dict[str, dict[int, int]]) -> None:
    """Compare values by frame number with those of other contenders.

    Raises:
        ContenderError: a frame was processed twice, or a value differs.
    """
    for name, values in found.items():
        by_number = dict(values)
        if len(by_number) < len(values):
            raise ContenderError(f"{name} processed a frame twice")
        known = expected.setdefault(name, by_number)
        wrong = [each for each in by_number if known.get(each, by_number[each]) != by_number[each]]
        if wrong:
            raise ContenderError(f"{name} has another value at frame {wrong[0]}")


def bench_file(path: Path, runners: Sequence[StreamRunner], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each contender: windows a second."""
    expected: dict[str, dict[int, int]] = {}
    counts: dict[str, int] = {}

    def check(process: ContenderProcess) -> None:
        found, _, _ = process.call(run_file, path)
        check_values(found, expected)
        counts[process.name] = sum(map(len, found.values()))

    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with running(runners, check, daemon=False) as field:
        rng = np.random.default_rng(options.seed)
        for _ in range(options.rounds):
            for process in field.shuffled(rng):
                found, wall, busy = process.call(run_file, path)
                check_values(found, expected)
                seconds.setdefault(process.name, []).append(wall)
                cpu.setdefault(process.name, []).append(busy)
    rows = []
    for runner in runners:
        row: dict[str, Any] = {"job": "file", "contender": runner.name, "role": runner.role}
        if runner.name in field.absent:
            rows.append({**row, "status": field.absent[runner.name]})
            continue
        mine = seconds[runner.name]
        row |= {"status": "measured", "seconds": statistics.median(mine), "windows": counts[runner.name]}
        row["frames_per_second"] = statistics.median(options.frames / each for each in mine)
        row["windows_per_second"] = statistics.median(counts[runner.name] / each for each in mine)
        row["cpu_seconds"] = statistics.median(cpu[runner.name])
        if _BASE in seconds and runner.role != "baseline":
            # In windows a second: Stream Infer leaves some out at the begin.
            ratios = [
                (counts[_BASE] / its) / (counts[runner.name] / each)
                for each, its in zip(mine, seconds[_BASE], strict=True)
            ]
            row["ndframes_ratio"] = statistics.median(ratios)
        rows.append(row)
    return rows


def bench_live(path: Path, runners: Sequence[StreamRunner], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each contender: what it made of a live stream."""
    rows = []
    for runner in runners:
        row: dict[str, Any] = {"job": "live", "contender": runner.name, "role": runner.role}
        if runner.missing:
            rows.append({**row, "status": f"not installed: {', '.join(runner.missing)}"})
            continue
        process = ContenderProcess(runner, daemon=False)
        try:
            with serving(path, FPS) as stream:
                live: Live = process.call(run_live, stream.url, options.wait, options.seconds)
        except ContenderError as error:
            rows.append({**row, "status": str(error).partition("\n")[0]})
            continue
        finally:
            process.close()
        rows.append({**row, **describe_live(live, stream, options)})
    return rows


def describe_live(live: Live, stream: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a live run."""
    if not live.seen:
        return {"status": "it processed no frame"}
    numbers = [seen for seen, _ in live.seen]
    ages = [stream.age(seen, done) for seen, done in live.seen]
    between = max(numbers) - min(numbers) + 1 - len(set(numbers))
    return {
        "status": "measured",
        "processed_per_second": len(numbers) / options.seconds,
        "twice": len(numbers) - len(set(numbers)),
        "age_p50": float(np.percentile(ages, 50)),
        "age_p95": float(np.percentile(ages, 95)),
        "age_last": ages[-1],
        "dropped": between,
        "counted": live.dropped,
        "silent": 0 if live.dropped is not None and live.dropped >= between else between - (live.dropped or 0),
    }


def bench_pace(path: Path, period: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each kind of worker: how a realtime run keeps pace."""
    rows = []
    for name in PACES:
        process = ContenderProcess(NdframesRunner(name), daemon=False)
        try:
            row = process.call(run_pace, path, period, options.pace_seconds)
        finally:
            process.close()
        rows.append({"job": "pace", "contender": name, "role": "ndframes", "status": "measured", **row})
    return rows


_PACE_HEADER = (
    "", "frames / s", "of its pace", "p50 ms", "p95 ms", "p95 / algorithm", "processed", "dropped", "memory MB", "growth MB",
)  # fmt: skip


def pace_cells(row: Row) -> list[str]:
    return [
        row["contender"],
        f"{row['frames_per_second']:.2f}",
        f"{100 * row['pace']:.1f} %",
        f"{row['p50_ms']:.0f}",
        f"{row['p95_ms']:.0f}",
        f"{row['p95_ratio']:.2f}",
        f"{row['processed']:,}",
        f"{row['dropped']:,}",
        f"{row['memory_mb']:.0f}",
        f"{row['growth_mb']:+.1f}",
    ]


def print_file(rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['windows_per_second']:.0f}" if row["windows"] else "",
            f"{row['frames_per_second']:.0f}",
            f"{row['cpu_seconds']:.2f}",
            times(row.get("ndframes_ratio")),
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(
        "two algorithms over a file", ("", "windows / s", "frames / s", "CPU s", "ndframes is faster by"), cells
    )
    print_absent(rows)


def print_live(rows: Sequence[dict[str, Any]]) -> None:
    print_table("a slow algorithm over a live stream", _LIVE_HEADER, [live_cells(row) for row in measured(rows)])
    print_absent(rows)


_LIVE_HEADER = ("", "processed / s", "age p50 s", "p95 s", "at the end s", "dropped", "without a word", "twice")


def live_cells(row: Row) -> list[str]:
    return [
        row["contender"],
        f"{row['processed_per_second']:.1f}",
        *(f"{row[name]:.2f}" for name in ("age_p50", "age_p95", "age_last")),
        *(f"{row[name]:,}" for name in ("dropped", "silent", "twice")),
    ]


def measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "measured"]


# -- the page ----------------------------------------------------------------------------------------------------------


def render(rows: Sequence[Row]) -> Page:
    """A table for each job, and a figure of windows a second."""
    files = measured([row for row in rows if row["job"] == "file"])
    cells = [
        [
            row["contender"],
            number(row["windows_per_second"]) if row["windows"] else "",
            number(row["frames_per_second"]),
            number(row["cpu_seconds"]),
            times(row.get("ndframes_ratio")),
        ]
        for row in files
    ]
    header = ["", "windows a second", "frames a second", "CPU s", "ndframes is faster by"]
    tables = [Table("Two algorithms over a file", header, cells)]
    live = measured([row for row in rows if row["job"] == "live"])
    if live:
        tables.append(
            Table("A slow algorithm over a live stream", list(_LIVE_HEADER), [live_cells(row) for row in live])
        )
    pace = [row for row in rows if row["job"] == "pace"]
    if pace:
        title = "ndframes in real time: 30 frames a second, an algorithm of 200 ms"
        tables.append(Table(title, list(_PACE_HEADER), [pace_cells(row) for row in pace]))
    series = {"frames a second": [row["frames_per_second"] for row in files]}
    return Page(tables, [Dots("Two algorithms over a file", "frames/s", [row["contender"] for row in files], series)])


def main() -> None:
    quick = "--frames 90 --height 360 --width 640 --rounds 2 --seconds 2 --pace-seconds 4"
    parser = make_parser(__doc__, quick=quick, shape=(1080, 1920), rounds=5)
    parser.add_argument("--frames", type=int, default=300, help="frames of the file")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the live stream")
    parser.add_argument("--wait", type=float, default=0.1, help="seconds that the slow algorithm waits")
    parser.add_argument("--pace-seconds", type=float, default=30.0, help="of each realtime run of ndframes")
    options = parse_options(parser)
    with open_folder(options) as folder:
        runners = [runner for runner in make_runners() if is_chosen(runner.name, options)]
        shape = (options.height, options.width)
        rows = bench_file(ensure_numbered(folder, shape, options.frames), runners, options)
        print_file(rows)
        # Longer than the run: contenders need some seconds to open it.
        period = int((options.seconds + 15) * FPS)
        long = ensure_numbered(folder, shape, period)
        with_live = [runner for runner in runners if runner.name != "ndframes, inline" and runner.role != "baseline"]
        with_live = [runner for runner in with_live if runner.name != "ndframes, processes"]
        rows += bench_live(long, with_live, options)
        print_live([row for row in rows if row["job"] == "live"])
        repeats = math.ceil((options.pace_seconds + 5) * FPS / period)
        pace = bench_pace(ensure_repeated(long, repeats), period, options)
        print_table("ndframes in real time", _PACE_HEADER, [pace_cells(row) for row in pace])
        rows += pace
        write_json(options, __file__, folder, rows)


if __name__ == "__main__":
    main()
