"""Times of a contender, per round and over all rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Round:
    """One contender in one round.

    Attributes:
        times_us: of each crop, or of each batch of crops.
        cpu_seconds: of all threads, over the timed reads.
        digests: of each crop's pixels.
    """

    times_us: list[float]
    cpu_seconds: float
    digests: list[bytes] = field(default_factory=list)


@dataclass
class Measurements:
    """One contender in all rounds."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def round_medians_us(self) -> list[float]:
        """The median of each round."""
        return [statistics.median(item.times_us) for item in self.rounds]

    @property
    def cpu_us(self) -> float:
        """Processor time of all threads per request, in the mean. Other load on the machine hardly changes it."""
        return 1e6 * sum(item.cpu_seconds for item in self.rounds) / sum(len(item.times_us) for item in self.rounds)

    def summarize(self) -> dict[str, Any]:
        """Median and quartiles over all rounds, the median of each round, and the mean number of busy cores."""
        times_us = [each for item in self.rounds for each in item.times_us]
        first, median, third = np.percentile(times_us, (25, 50, 75)).tolist()
        return {
            "median_us": median,
            "first_quartile_us": first,
            "third_quartile_us": third,
            "round_medians_us": self.round_medians_us,
            "busy_cores": sum(item.cpu_seconds for item in self.rounds) * 1e6 / sum(times_us),
        }

    def ratio_to(self, other: Measurements) -> float:
        """How many times as long as ``other`` it takes: the median of the ratios of each round.

        Both were measured within seconds in a round, so a slow phase of the machine cancels out.
        """
        pairs = zip(self.round_medians_us, other.round_medians_us, strict=True)
        return statistics.median(mine / its for mine, its in pairs)


def time_reads(requests: Sequence[Any], read: Callable[[Any], Any]) -> tuple[list[float], float]:
    """Time reads one after the other.

    Returns:
        The microseconds of each read, and the processor seconds of all threads together.
    """
    times_us = []
    cpu_started = time.process_time()
    for request in requests:
        started = time.perf_counter()
        pixels = read(request)
        times_us.append((time.perf_counter() - started) * 1e6)
        del pixels  # before the next read, so that its memory can be reused as in a training loop
    return times_us, time.process_time() - cpu_started
