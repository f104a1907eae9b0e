"""Window: which frames an algorithm takes, and when it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational, Real
from typing import TYPE_CHECKING

from ..errors import StreamError, shorten

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Decimation", "Schedule", "Window", "to_fraction"]


@dataclass(frozen=True, slots=True)
class Window:
    """Which frames an algorithm takes, and when it runs.

    It runs at a frame ``f`` if the whole window is there: ``f >= (count - 1) * step``. The window is then the frames
    ``f - (count - 1) * step, ..., f - step, f``.

    Args:
        count: the number of frames of a window.
        step: the distance of its frames.
        every: it runs at ``f0, f0 + every, f0 + 2 * every, ...``, with ``f0 = (count - 1) * step``. ``None``: 1, unless there
            is an ``interval``.
        interval: it runs at the first frame at or after each ``time(f0) + k * interval`` seconds, and never twice at one
            frame. Times are compared as fractions: a frame exactly on time is taken.

    Raises:
        StreamError: a value is not allowed, or both ``every`` and ``interval`` are given.

    Example:
        >>> from ndframes.stream.window import Schedule, Window
        >>> schedule = Schedule(Window(count=2, step=3, every=2))
        >>> [schedule.take(index, index / 25) for index in range(7)]
        [None, None, None, (0, 3), None, (2, 5), None]
    """

    count: int = 1
    step: int = 1
    every: int | None = None
    interval: float | Rational | None = None

    def __post_init__(self) -> None:
        for name in ("count", "step", "every"):
            value = getattr(self, name)
            if (name, value) != ("every", None) and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
                raise StreamError(f"Window({name}={shorten(value)}); give a whole number of at least 1")
        if self.interval is None:
            return
        if self.every is not None:
            raise StreamError(f"Window(every={self.every}, interval={shorten(self.interval)}); give one of them")
        if (
            isinstance(self.interval, bool)
            or not isinstance(self.interval, Real)
            or not 0 < float(self.interval) < math.inf
        ):
            raise StreamError(f"Window(interval={shorten(self.interval)}); give seconds above 0")

    @property
    def first(self) -> int:
        """The index of the first frame at which it runs."""
        return (self.count - 1) * self.step

    @property
    def reach(self) -> int:
        """The number of frames that it looks back on, the newest one included."""
        return self.first + 1

    def indices_at(self, index: int) -> tuple[int, ...]:
        """The frames of the window that ends at a frame."""
        return tuple(range(index - self.first, index + 1, self.step))


class Schedule:
    """The windows of an algorithm along a source, whose frames are passed in order. It begins anew with each connection.

    Args:
        window: which frames the algorithm takes, and when it runs.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self._interval = None if window.interval is None else to_fraction(window.interval)
        self.restart()

    def restart(self) -> None:
        """Begin anew: no window spans two connections."""
        self._seen = 0
        self._origin: Fraction | None = None
        self._next = 0

    def take(self, index: int, time: Fraction | float) -> tuple[int, ...] | None:
        """The indices of the window that ends at a frame; ``None`` if the algorithm does not run there.

        Args:
            index: of the frame; one more than that of the frame before.
            time: of the frame, in seconds.
        """
        place = self._seen
        self._seen += 1
        if place < self.window.first or not self._is_due(place, time):
            return None
        return self.window.indices_at(index)

    def _is_due(self, place: int, time: Fraction | float) -> bool:
        if self._interval is None:
            return (place - self.window.first) % (self.window.every or 1) == 0
        moment = to_fraction(time)
        if self._origin is None:
            self._origin = moment
        if moment < self._origin + self._next * self._interval:
            return False
        # Several points between two frames are one run.
        self._next = (moment - self._origin) // self._interval + 1
        return True


class Decimation:
    """Keeps as many frames a second as are asked for: the first frame of each interval of ``1 / fps`` seconds.

    Args:
        fps: frames per second; ``None`` keeps all.
    """

    def __init__(self, fps: float | Rational | None) -> None:
        self._fps = None if fps is None else to_fraction(fps)
        self._last: int | None = None

    def restart(self) -> Self:
        """Begin anew."""
        self._last = None
        return self

    def keeps(self, time: Fraction) -> bool:
        """Whether a frame is kept; the frames are passed in order.

        Args:
            time: of the frame, in seconds from the begin of the source.
        """
        if self._fps is None:
            return True
        place = math.floor(time * self._fps)
        if self._last is not None and place <= self._last:
            return False
        self._last = place
        return True


def to_fraction(number: float | Rational | Fraction) -> Fraction:
    """A number as people mean it: 0.2 is one fifth, and 29.97 is 2997/100."""
    if isinstance(number, (Fraction, Rational)):
        return Fraction(number)
    # The shortest decimal number that this float stands for.
    return Fraction(repr(float(number)))
