"""Replay: the windows that an earlier run took, in its order, offline."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import StreamError
from .plan import Due
from .workers import RunStopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .log import LoggedBatch, LoggedWindow, RunLog
    from .reading import Reading
    from .run import Run
    from .values import Frame
    from .workers import Call

__all__ = ["run_replay"]


def run_replay(run: Run, log: RunLog, recorded: Sequence[str]) -> None:
    """Process the windows of a log. Values come in its order, and frames have the numbers and times that they had then.

    Args:
        run: the run, whose algorithms are some of those of the log.
        log: what the earlier run took.
        recorded: the sources that are videos which the earlier run recorded: they lack the frames that it missed.

    Raises:
        StreamError: a source ends before a frame that a window has.
    """
    batches = list(_chosen(run, log))
    needed = Counter(
        (window.source, stamp.index) for batch in batches for window in batch.windows for stamp in window.frames
    )
    shelves = {
        str(reading.source.name): _Shelf(run, reading, log, needed, str(reading.source.name) in recorded)
        for reading in run.readings
    }
    waiting: deque[tuple[list[Due], Call]] = deque()
    for batch in batches:
        if run.is_stopping:
            break
        try:
            due = [_to_due(run, batch, window, shelves[window.source]) for window in batch.windows]
        except RunStopped:
            break
        for each in due:
            run.schedule(each)
        waiting.append((due, run.submit(due)))
        while len(waiting) > run.buffer:
            run.settle_batch(*waiting.popleft())
    while waiting:
        run.settle_batch(*waiting.popleft())


def _chosen(run: Run, log: RunLog) -> Iterator[LoggedBatch]:
    """The batches of the algorithms of a run, without the windows of sources that they do not take now."""
    for batch in log.batches:
        if batch.algorithm in run.workers:
            algorithm = run.workers[batch.algorithm].algorithm
            windows = tuple(window for window in batch.windows if algorithm.takes(window.source))
            if windows:
                yield replace(batch, windows=windows)


def _to_due(run: Run, batch: LoggedBatch, window: LoggedWindow, shelf: _Shelf) -> Due:
    """The window with its images."""
    algorithm = run.workers[batch.algorithm].algorithm
    return Due(algorithm, tuple(shelf.take(window)), time.monotonic())


class _Shelf:
    """The frames of one source, read as far as they are needed, and kept as long as a window will need them.

    Args:
        run: the run.
        reading: the source.
        log: what the earlier run took.
        needed: how many windows need a frame, by source and index.
        is_recorded: whether the frames that the earlier run missed are not there.
    """

    def __init__(
        self, run: Run, reading: Reading, log: RunLog, needed: Counter[tuple[str, int]], is_recorded: bool
    ) -> None:
        self._run = run
        self._name = str(reading.source.name)
        self._needed = needed
        self._kept: dict[int, Frame] = {}
        self._log = log
        self._frames = run.frames_of(reading)
        self._indices = _indices_without(log.missed.get(self._name, set()) if is_recorded else set())

    def take(self, window: LoggedWindow) -> Iterator[Frame]:
        """The frames of a window, with the stamps that they had."""
        for stamp in window.frames:
            while stamp.index not in self._kept:
                self._read(stamp.index)
            image = self._kept[stamp.index]
            key = (self._name, stamp.index)
            self._needed[key] -= 1
            if not self._needed[key]:
                del self._kept[stamp.index]
            yield replace(
                image, index=stamp.index, epoch=stamp.epoch, time=stamp.time, captured=stamp.captured, clock=stamp.clock
            )

    def _read(self, index: int) -> None:
        """Read one more frame, on the way to an index."""
        frame = next(self._frames, None)
        if frame is None and self._run.is_stopping:
            raise RunStopped
        if frame is None:
            raise StreamError(
                f"source {self._name} ends before frame {index}, which a window in {self._log.path} has; give the video "
                "that the run read, or that it recorded with annotated=False"
            )
        frame = replace(frame, index=next(self._indices))
        if self._needed[self._name, frame.index]:
            self._kept[frame.index] = frame
        self._run.show(frame)


def _indices_without(missed: set[int]) -> Iterator[int]:
    """0, 1, 2, ... without those that were missed."""
    index = 0
    while True:
        if index not in missed:
            yield index
        index += 1
