"""Rates: how fast counts grow, from the moments at which somebody looked."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

__all__ = ["Rates"]
_SPAN_SECONDS = 5.0
_LEAST_SECONDS = 1.0
_STEP_SECONDS = 0.25


class Rates:
    """Counts per second over the last 1 to 5 seconds in which they were looked at.

    Without an earlier look, and after the end, the rate is the mean since the start. Nothing is measured in between, so that rates
    cost nothing while nobody looks.

    Example:
        >>> rates = Rates()
        >>> [rates.update(seconds, {"cam": count})["cam"] for seconds, count in ((10, 200), (12, 260), (14, 320))]
        [20.0, 30.0, 30.0]
        >>> rates.update(20, {"cam": 320}, is_over=True)
        {'cam': 16.0}
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[Hashable, int]]] = deque()

    def update(
        self, seconds: float, counts: Mapping[Hashable, int], *, is_over: bool = False
    ) -> dict[Hashable, float | None]:
        """The rate of each count now.

        Args:
            seconds: since the start.
            counts: since the start.
            is_over: whether they do not grow any more.

        Returns:
            Per second; ``None`` before there is time to divide by.
        """
        begin, before = (0.0, {}) if is_over else self._find_base(seconds)
        if not self._looks or seconds - self._looks[-1][0] >= _STEP_SECONDS:
            self._looks.append((seconds, dict(counts)))
        span = seconds - begin
        if span <= 0:
            return dict.fromkeys(counts)
        return {name: (count - before.get(name, 0)) / span for name, count in counts.items()}

    def _find_base(self, seconds: float) -> tuple[float, dict[Hashable, int]]:
        """The earliest look within the span; without one the look before it, or the start."""
        before: tuple[float, dict[Hashable, int]] = (0.0, {})
        while self._looks and seconds - self._looks[0][0] > _SPAN_SECONDS:
            before = self._looks.popleft()
        if self._looks and seconds - self._looks[0][0] >= _LEAST_SECONDS:
            return self._looks[0]
        if before[0] > 0:
            self._looks.appendleft(before)
        return before
