"""StreamClock: the times of the frames of a live source, which go on over reconnects."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["StreamClock", "to_microseconds"]
# A camera whose clock is set gives single frames that are hours away.
_MOST_AHEAD_SECONDS = 10
_LEAST_STEP = Fraction(1, 1000)


class StreamClock:
    """Puts the frames of one source after another on one axis: seconds from its first frame, rising, over reconnects.

    Within a connection the timestamps of its sender count. The first frame of a connection, one whose timestamp goes back or
    leaps ahead, and one without any get the time at which they arrived, as counted from the first frame.

    Args:
        is_live: whether frames come in real time. If not, a frame gets the time of the one before and ``interval`` instead.
    """

    def __init__(self, *, is_live: bool) -> None:
        self._is_live = is_live
        self._last: Fraction | None = None
        self._arrived = self._origin = 0.0
        self._time_from_stamp: Fraction | None = None

    def restart(self) -> None:
        """Begin with another connection, whose timestamps have an origin of their own."""
        self._time_from_stamp = None

    def place(self, stamp: Fraction | None, arrived: float, interval: Fraction | None = None) -> Fraction:
        """The time of the next frame, later than the one before.

        Args:
            stamp: its timestamp in seconds; ``None`` if it has none.
            arrived: when it arrived, in seconds of a monotonic clock.
            interval: seconds from a frame to the next, if that is known.
        """
        if self._last is None:
            time, self._origin = Fraction(0), arrived
        elif stamp is None or self._time_from_stamp is None:
            time = self._last + interval if stamp is None and interval else self._estimate(arrived, interval)
        else:
            time = self._follow(stamp + self._time_from_stamp, arrived, interval)
        if stamp is not None:
            self._time_from_stamp = time - stamp
        self._last, self._arrived = time, arrived
        return time

    def _follow(self, time: Fraction, arrived: float, interval: Fraction | None) -> Fraction:
        """The time that a timestamp gives, unless it goes back or leaps ahead."""
        assert self._last is not None  # noqa: S101
        most = self._last + to_microseconds(arrived - self._arrived) + _MOST_AHEAD_SECONDS
        is_plausible = time > self._last and (not self._is_live or time <= most)
        return time if is_plausible else self._estimate(arrived, interval)

    def _estimate(self, arrived: float, interval: Fraction | None) -> Fraction:
        """The time of a frame by its arrival."""
        assert self._last is not None  # noqa: S101
        if not self._is_live:
            return self._last + (interval or _LEAST_STEP)
        # Counted from the first frame: a sum of waits would grow by what each connection sends at once when it begins.
        return max(self._last + _LEAST_STEP, to_microseconds(arrived - self._origin))


def to_microseconds(seconds: float) -> Fraction:
    """Seconds as a fraction, rounded to microseconds."""
    return Fraction(round(seconds * 1_000_000), 1_000_000)
