"""Metrics: counts of what a service has answered, added up over the processes that serve it together."""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .exchanges import NO_ENDPOINT
from .prometheus import Family, Sample, sample_histogram

if TYPE_CHECKING:
    from .._typing import Array
    from .exchanges import Exchange

__all__ = ["GAUGES", "TOTALS", "Board", "Metrics"]
_METHODS = ("GET", "HEAD", "POST", "other")
_STATUSES = (
    *("200", "303", "304", "400", "401", "403", "404", "405", "410", "413", "499"),
    *("500", "501", "503", "504", "507", "other"),
)
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: What a service counts itself, with what it means; it only grows.
TOTALS = {
    "refused": "Requests that were told to come again.",
    "given_up": "Requests that took longer than their deadline.",
    "left": "Requests whose client had gone.",
}
#: What is so now.
GAUGES = {
    "waiting_requests": "Requests that are read or wait.",
    "bytes_in_use": "Bytes of the answers that are being made or sent.",
    "open_images": "Images that are open.",
    "resident_memory_bytes": "Memory of the processes; what they share counts for each.",
    "open_descriptors": "Open files and connections of the processes.",
}
# A row has places for each pair of a method and a status of an endpoint, for its histogram, and for its sums.
_COUNTS = len(_METHODS) * len(_STATUSES)
_HISTOGRAM = len(_BOUNDS) + 1
_SECONDS, _BYTES = _COUNTS + _HISTOGRAM, _COUNTS + _HISTOGRAM + 1
_OF_ENDPOINT = _BYTES + 1
_MOST_ENDPOINTS = 128
_OWN = _MOST_ENDPOINTS * _OF_ENDPOINT
_VALUES = _OWN + len(TOTALS) + len(GAUGES)


class Board:
    """Numbers of several processes. Each writes to a row of its own, and reads all.

    Args:
        rows: the number of processes.
        row: that of this process.
        descriptor: of memory that they share, of :meth:`count_bytes`; ``None``: the memory is of this process alone.
    """

    def __init__(self, rows: int = 1, row: int = 0, descriptor: int | None = None) -> None:
        # The array keeps the mapping.
        memory = (
            bytearray(self.count_bytes(rows)) if descriptor is None else mmap.mmap(descriptor, self.count_bytes(rows))
        )
        self._values: Array = np.frombuffer(memory, np.float64).reshape(rows, _VALUES)
        self.own: Array = self._values[row]
        self.rows = rows

    @staticmethod
    def count_bytes(rows: int) -> int:
        """The size of the memory for so many processes."""
        return rows * _VALUES * np.dtype(np.float64).itemsize

    def sum(self) -> Array:
        """The sums over the processes."""
        sums: Array = self._values.sum(axis=0)
        return sums


class Metrics:
    """Counts of requests by endpoint and status, of their time and bytes, and what a service tells of itself.

    The number of counts is bounded: endpoints are named by their path with names in braces.

    Args:
        endpoints: the paths of the endpoints, in the same order in each process.
        tell: returns the present values of :data:`TOTALS` and :data:`GAUGES`; those it leaves out are not known.
        board: where it counts.
    """

    def __init__(self, endpoints: Sequence[str], tell: Callable[[], Mapping[str, float]], board: Board) -> None:
        self._endpoints = {name: place for place, name in enumerate((*endpoints, NO_ENDPOINT))}
        assert len(self._endpoints) <= _MOST_ENDPOINTS  # noqa: S101 - the endpoints are of this package
        self._tell = tell
        self._board = board
        # What another process has counted before, which this one replaces.
        self._before = board.own[_OWN : _OWN + len(TOTALS)].copy()

    def count(self, exchange: Exchange) -> None:
        """Count a request; called in one thread."""
        first = self._endpoints[exchange.endpoint] * _OF_ENDPOINT
        own = self._board.own
        method, status = _find(_METHODS, exchange.method), _find(_STATUSES, str(exchange.status))
        own[first + method * len(_STATUSES) + status] += 1
        own[first + _COUNTS + bisect.bisect_left(_BOUNDS, exchange.seconds)] += 1
        own[first + _SECONDS] += exchange.seconds
        own[first + _BYTES] += exchange.sent_bytes

    def publish(self) -> None:
        """Write the present values to the board, for the other processes."""
        told = self._tell()
        own = self._board.own[_OWN:]
        own[: len(TOTALS)] = self._before + [told[name] for name in TOTALS]
        own[len(TOTALS) :] = [told.get(name, np.nan) for name in GAUGES]

    def collect(self) -> list[Family]:
        """All numbers, added up over the processes."""
        self.publish()
        sums = self._board.sum()
        told = dict(zip((*TOTALS, *GAUGES), sums[_OWN:].tolist(), strict=True))
        totals = [Family(f"ndframes_{name}_total", "counter", TOTALS[name], [Sample(told[name])]) for name in TOTALS]
        gauges = [
            Family(f"ndframes_{name}", "gauge", text, [Sample(told[name])])
            for name, text in GAUGES.items()
            if not np.isnan(told[name])
        ]
        workers = Family("ndframes_workers", "gauge", "Processes that serve.", [Sample(self._board.rows)])
        return [*self._collect_requests(sums), *totals, *gauges, workers]

    def _collect_requests(self, sums: Array) -> list[Family]:
        requests: list[Sample] = []
        seconds: list[Sample] = []
        sent: list[Sample] = []
        for endpoint, place in self._endpoints.items():
            own = sums[place * _OF_ENDPOINT : (place + 1) * _OF_ENDPOINT]
            if not own[_COUNTS:_SECONDS].any():
                continue
            labels = {"endpoint": endpoint}
            counts = own[:_COUNTS].reshape(len(_METHODS), len(_STATUSES))
            requests += [
                Sample(counts[row, col], {**labels, "method": _METHODS[row], "status": _STATUSES[col]})
                for row, col in np.argwhere(counts)
            ]
            seconds += sample_histogram(_BOUNDS, own[_COUNTS:_SECONDS].tolist(), own[_SECONDS], labels)
            sent.append(Sample(own[_BYTES], labels))
        return [
            Family("ndframes_requests_total", "counter", "Requests that were answered or refused.", requests),
            Family("ndframes_request_seconds", "histogram", "Time from a request to the end of its answer.", seconds),
            Family("ndframes_sent_bytes_total", "counter", "Bytes of the bodies of answers.", sent),
        ]


def _find(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known) - 1
