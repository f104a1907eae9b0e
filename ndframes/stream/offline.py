"""Offline runs: each window exactly once, in order, however long it takes."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .plan import SourcePlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .algorithm import Algorithm
    from .plan import Due
    from .run import Run
    from .values import Frame
    from .workers import Call

__all__ = ["run_offline"]


@dataclass(slots=True)
class _Slot:
    """The place of a window in the order of results."""

    due: Due
    call: Call | None = None
    place: int = 0  # in its batch


@dataclass(slots=True)
class _Shown:
    """A frame, and the windows that end at it."""

    frame: Frame
    slots: list[_Slot] = field(default_factory=list)

    def is_done(self) -> bool:
        """Whether all results are there."""
        return all(slot.call is not None and slot.call.done() for slot in self.slots)


class _Batches:
    """Windows of one algorithm, gathered to batches."""

    def __init__(self, run: Run, algorithm: Algorithm) -> None:
        self._run = run
        self._algorithm = algorithm
        self._waiting: list[_Slot] = []

    def add(self, slot: _Slot) -> None:
        self._waiting.append(slot)
        if len(self._waiting) == self._algorithm.batch:
            self.flush()

    def flush(self) -> None:
        """Process what has been gathered."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        call = self._run.submit([slot.due for slot in waiting])
        for place, slot in enumerate(waiting):
            slot.call, slot.place = call, place


def run_offline(run: Run) -> None:
    """Process every frame of every source: sources take turns frame by frame, and results come in the order of the frames.

    What is gathered into a batch, and when an incomplete batch is processed, depends on the frames alone, so that each run
    is the same.
    """
    plans = {reading.source.name: SourcePlan(str(reading.source.name), run.algorithms) for reading in run.readings}
    batches = {each.name: _Batches(run, each) for each in run.algorithms}
    waiting: deque[_Shown] = deque()
    for frame in _take_turns(run):
        shown = _Shown(frame)
        for due in plans[frame.source].take(frame, time.monotonic()):
            slot = _Slot(due)
            run.schedule(due)
            shown.slots.append(slot)
            batches[due.algorithm.name].add(slot)
        waiting.append(shown)
        while waiting and (len(waiting) > run.buffer or waiting[0].is_done()):
            _finish(run, waiting.popleft(), batches)
    for gathered in batches.values():
        gathered.flush()
    while waiting:
        _finish(run, waiting.popleft(), batches)


def _take_turns(run: Run) -> Iterator[Frame]:
    """The frames of all sources, one of each in turn."""
    with ExitStack() as stack:
        # Closed here: the traceback of an error keeps what is open as long as the error.
        sources = [stack.enter_context(closing(run.frames_of(reading))) for reading in run.readings]
        while sources:
            for source in list(sources):
                frame = next(source, None)
                if frame is None:
                    sources.remove(source)
                else:
                    yield frame


def _finish(run: Run, shown: _Shown, batches: dict[str, _Batches]) -> None:
    """Wait for the results of a frame, and pass them and the frame on."""
    for slot in shown.slots:
        if slot.call is None:
            batches[slot.due.algorithm.name].flush()
        assert slot.call is not None  # noqa: S101 - a window that is gathered is submitted when its batch is flushed
        run.settle(slot.due, run.values_of([slot.due], slot.call)[slot.place])
    run.show(shown.frame)
