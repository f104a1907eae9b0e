"""LoadedAlgo: an algorithm, the frames that it takes, and when it runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from ...errors import StreamError, shorten
from ...stream.window import Window, to_fraction

if TYPE_CHECKING:
    from .algo import BaseAlgo

__all__ = ["LoadedAlgo", "Timer"]


@dataclass(frozen=True, slots=True)
class LoadedAlgo:
    """An algorithm, the frames that it takes, and when it runs.

    Attributes:
        algo: the algorithm.
        frame_count: the number of frames of a window.
        frame_step: their distance; 0: consecutive frames, and fewer of them at the begin.
        interval: seconds from a run to the next.
    """

    algo: BaseAlgo
    frame_count: int
    frame_step: int
    interval: float

    def __post_init__(self) -> None:
        for name, least in {"frame_count": 1, "frame_step": 0}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise StreamError(
                    f"algorithm {self.algo.name}: {name}={shorten(value)}; give a whole number of at least {least}"
                )
        is_number = isinstance(self.interval, Real) and not isinstance(self.interval, bool)
        if not is_number or not 0 <= self.interval < math.inf:
            raise StreamError(
                f"algorithm {self.algo.name}: interval={shorten(self.interval)}; give seconds of at least 0"
            )

    @property
    def name(self) -> str:
        """The name of the algorithm."""
        return self.algo.name

    @property
    def reach(self) -> int:
        """The number of frames that must be there before it runs."""
        return self.frame_count * max(1, self.frame_step)

    @property
    def window(self) -> Window:
        """The same for a pipeline."""
        step = max(1, self.frame_step)
        return (
            Window(self.frame_count, step, interval=self.interval) if self.interval else Window(self.frame_count, step)
        )

    def is_due(self, index: int, fps: float) -> bool:
        """Whether it runs at a frame: at every ``int(interval * fps)``-th one, or at each if that is none.

        Args:
            index: of the frame, counted from 1.
            fps: frames a second.
        """
        # As fractions: as floats, 0.29 * 100 is less than 29.
        return index % max(1, int(to_fraction(self.interval) * to_fraction(fps))) == 0

    def indices(self, newest: int, count: int) -> tuple[int, ...]:
        """The numbers of the frames of a window, counted from 0.

        Args:
            newest: the number of its newest frame, counted from 0.
            count: the number of its frames.
        """
        step = max(1, self.frame_step)
        return tuple(range(newest - (count - 1) * step, newest + 1, step))


class Timer:
    """Says when so many seconds have passed; the first time at once.

    Args:
        interval: seconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = 0.0

    def is_time(self) -> bool:
        """Whether they have passed since it last was time."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._interval
        return True
