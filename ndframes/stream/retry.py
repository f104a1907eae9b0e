"""Retry: how often something that failed is tried again, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from ..errors import StreamError, shorten

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often something that failed is tried again: after waits that double, up to a limit.

    Args:
        attempts: the most attempts in all; 1: it is not tried again.
        first: seconds before the second attempt.
        most: the longest wait, in seconds, also if a server asks for a longer one.

    Raises:
        StreamError: a value is not allowed.

    Example:
        >>> from ndframes.stream import Retry
        >>> retry = Retry(attempts=5, first=0.5, most=3)
        >>> [retry.seconds(failures) for failures in (1, 2, 3, 4)], retry.seconds(1, asked=2)
        ([0.5, 1.0, 2.0, 3], 2)
    """

    attempts: int = 5
    first: float = 0.5
    most: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise StreamError(f"Retry(attempts={shorten(self.attempts)}); give a whole number of at least 1")
        for name in ("first", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise StreamError(f"Retry({name}={shorten(value)}); give seconds of at least 0")

    def seconds(self, failures: int, asked: float = 0.0) -> float:
        """How long to wait after so many failed attempts.

        Args:
            failures: at least 1.
            asked: the wait that the other side asks for.
        """
        return min(self.most, max(asked, self.first * 2.0 ** min(failures - 1, 60)))
