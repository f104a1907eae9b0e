"""Realtime runs of ndframes' Pipeline: whether the source keeps its pace beside a slow algorithm, or a busy thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.numbered import FPS, read_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from peers.stream_runners import StreamRunner

_ALGORITHM_SECONDS = 0.2
_BUSY = "thread, beside a busy thread"
#: The kinds of worker, and the one beside a thread that runs Python.
PACES = ("inline", "thread", "process", _BUSY)


def slow(frames: list[np.ndarray]) -> int:
    """Waits for 200 ms, as for another device, and returns the number of the frame."""
    time.sleep(_ALGORITHM_SECONDS)
    return read_number(frames[-1])


def run_pace(runner: StreamRunner, path: Path, period: int, seconds: float) -> dict[str, Any]:
    """Run for so long; ``runner.name`` says how. The numbers that frames show begin again after ``period`` frames."""
    from ndframes.stream import Pipeline, Source

    is_busy = runner.name == _BUSY
    kind: Any = "thread" if is_busy else runner.name
    pipeline = Pipeline(Source(path, name="file"), mode="realtime").add("slow", slow, worker=kind)
    sizes: list[tuple[float, float]] = []
    arrivals: list[float] = []
    pipeline.on_frame(lambda _: arrivals.append(time.monotonic()))
    with _busy_thread(is_wanted=is_busy), pipeline:
        begin = time.monotonic()
        while not pipeline.wait(0.5) and time.monotonic() < begin + seconds:
            sizes.append((time.monotonic() - begin, _measure_bytes()))
        captured, ended = pipeline.stats["sources"]["file"]["captured"], time.monotonic()
    stats = pipeline.stats["algorithms"]["slow"]
    wrong = [result for result in pipeline.results["slow"] if result.value != result.index % period]
    if stats["scheduled"] != stats["processed"] + sum(stats["dropped"].values()) or wrong:
        raise RuntimeError(f"counts that do not add up, or wrong frames: {stats}")
    # From the first frame, since opening is no part of the pace.
    span = ended - arrivals[0]
    early = [size for at, size in sizes if at > seconds / 4] or [size for _, size in sizes]
    return {
        "frames_per_second": captured / span,
        "pace": captured / span / FPS,
        "p50_ms": stats["latency_ms"]["p50"],
        "p95_ms": stats["latency_ms"]["p95"],
        "p95_ratio": stats["latency_ms"]["p95"] / 1000 / _ALGORITHM_SECONDS,
        "processed": stats["processed"],
        "dropped": sum(stats["dropped"].values()),
        "memory_mb": early[-1] / 1e6,
        "growth_mb": (early[-1] - early[0]) / 1e6,
    }


@contextmanager
def _busy_thread(is_wanted: bool) -> Iterator[None]:
    """A thread that runs Python without a pause."""
    ending = threading.Event()

    def run() -> None:
        count = 0
        while not ending.is_set():
            count += 1

    thread = threading.Thread(target=run, daemon=True)
    if is_wanted:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        if is_wanted:
            thread.join()


def _measure_bytes() -> float:
    """The memory of this process and its children that no other process shares, and their part of the rest."""
    import psutil

    total = 0.0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
