"""Plan: the windows that algorithms take of the frames of one source, as the frames come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .window import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .algorithm import Algorithm
    from .values import Frame

__all__ = ["Due", "SourcePlan"]


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A window that is due.

    Attributes:
        algorithm: that takes it.
        frames: its frames, oldest first.
        arrived: when its newest frame arrived, by the monotonic clock.
    """

    algorithm: Algorithm
    frames: tuple[Frame, ...]
    arrived: float

    @property
    def newest(self) -> Frame:
        """The newest frame."""
        return self.frames[-1]


class SourcePlan:
    """The windows of all algorithms along one source. It keeps as many frames as the longest window reaches back.

    Args:
        name: of the source.
        algorithms: of the pipeline, in order; those that do not take the source are left out.
    """

    def __init__(self, name: str, algorithms: Sequence[Algorithm]) -> None:
        self.name = name
        self._schedules = [(each, Schedule(each.window)) for each in algorithms if each.takes(name)]
        reach = max((each.window.reach for each, _ in self._schedules), default=1)
        self._frames: deque[Frame] = deque(maxlen=reach)
        self._epoch: int | None = None

    def take(self, frame: Frame, arrived: float) -> Iterator[Due]:
        """The windows that end at a frame, in the order of the algorithms; frames are passed in order."""
        if frame.epoch != self._epoch:
            # No window spans two connections.
            self._epoch = frame.epoch
            self._frames.clear()
            for _, schedule in self._schedules:
                schedule.restart()
        self._frames.append(frame)
        for algorithm, schedule in self._schedules:
            indices = schedule.take(frame.index, frame.time)
            if indices is not None:
                first = self._frames[0].index
                yield Due(algorithm, tuple(self._frames[index - first] for index in indices), arrived)
