"""Ledger: what became of each window that was due, and how long results took."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal

__all__ = ["DropReason", "Latencies", "Ledger"]
#: Why a window was not processed: its algorithm was busy until a newer one was due; its frames were gone before it could
#: begin; or the algorithm failed.
DropReason = Literal["busy", "late", "error"]
_STEPS = 16  # buckets per factor of 2: percentiles are within 4.4 %
_LEAST_SECONDS = 1e-6


class Latencies:
    """Durations, counted in logarithmic buckets: constant memory, percentiles within 5 %.

    Example:
        >>> from ndframes.stream.ledger import Latencies
        >>> latencies = Latencies()
        >>> for milliseconds in range(1, 101):
        ...     latencies.add(milliseconds / 1000)
        >>> 0.048 <= latencies.percentile(50) <= 0.053, latencies.most
        (True, 0.1)
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[math.ceil(math.log2(max(seconds, _LEAST_SECONDS) / _LEAST_SECONDS) * _STEPS)] += 1
        self.count += 1
        self.most = max(self.most, seconds)

    def percentile(self, percent: float) -> float:
        """The duration that this share of all does not exceed, in seconds; nan if there is none."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(self.count * percent / 100))
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return min(self.most, _LEAST_SECONDS * float(2.0 ** (bucket / _STEPS)))
        return self.most

    def to_dict(self) -> dict[str, float]:
        """Percentiles and the maximum, in milliseconds."""
        found = {f"p{percent}": 1000 * self.percentile(percent) for percent in (50, 95, 99)}
        return {**found, "max": 1000 * self.most if self.count else math.nan}


class Ledger:
    """The windows of one algorithm. ``scheduled == processed + dropped + pending`` at all times.

    Attributes:
        scheduled: windows that were due.
        processed: windows for which there is a value.
        dropped: windows without a value, by reason.
        latencies: from the arrival of the newest frame of a window to its result.
    """

    def __init__(self) -> None:
        self.scheduled = 0
        self.processed = 0
        self.dropped: Counter[DropReason] = Counter()
        self.latencies = Latencies()

    @property
    def pending(self) -> int:
        """Windows that wait, or are being processed."""
        return self.scheduled - self.processed - self.dropped.total()

    def to_dict(self) -> dict[str, Any]:
        """All counts, and the latencies in milliseconds."""
        return {
            "scheduled": self.scheduled,
            "processed": self.processed,
            "dropped": {reason: self.dropped[reason] for reason in ("busy", "late", "error")},
            "pending": self.pending,
            "latency_ms": self.latencies.to_dict(),
        }
