"""Segments of videos that decode on their own, and how workers share them."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import numpy as np

from .counts import to_count
from .order import Draws, Permutation

__all__ = ["Segment", "SegmentPlan", "balance_load_lpt", "buffer_draws", "cut_at_keys", "shuffle_in_buffer"]
_H = TypeVar("_H", bound=Hashable)
_T = TypeVar("_T")
_Numbers = np.ndarray[Any, np.dtype[np.int64]]
# How much larger the largest load of a worker may be than the smallest: of few long segments, and of many.
_FAIR_BALANCE, _GOOD_BALANCE = 1.1, 1.03
# Segments for each share: doubled up to this number, until loads are balanced.
_MOST_PER_SHARE = 64
_SHUFFLED_PER_SHARE = 16
# Tell the draws for one purpose from those for another.
_ORDER, _LABELS, _BUFFER = 0x6F72, 0x6C61, 0x6275


class Segment(NamedTuple):
    """Successive frames of a video.

    Attributes:
        video: the position of the video in its collection.
        start: the first frame.
        stop: the frame after the last.
    """

    video: int
    start: int
    stop: int


def balance_load_lpt(tasks: Mapping[_H, float], n_workers: SupportsIndex) -> list[list[_H]]:
    """Give tasks to workers: the longest first, each to the worker with the least load ("longest processing time", Graham, 1969).

    Args:
        tasks: how long each task takes.
        n_workers: the number of workers.

    Returns:
        The tasks of each worker, the longest first.

    Raises:
        PatchError: there is no worker.

    Example:
        >>> balance_load_lpt({"a": 3, "b": 7, "c": 4}, 2)
        [['b'], ['c', 'a']]
    """
    count = to_count("n_workers", n_workers)
    assigned: list[list[_H]] = [[] for _ in range(count)]
    loads: list[tuple[float, int]] = [(0.0, worker) for worker in range(count)]
    for task, load in sorted(tasks.items(), key=lambda item: -item[1]):
        total, worker = loads[0]
        assigned[worker].append(task)
        heapq.heapreplace(loads, (total + load, worker))
    return assigned


def cut_at_keys(count: int, keys: _Numbers | None, most: int) -> list[tuple[int, int]]:
    """Cut the frames of a video at key frames, into segments of nearly equal length.

    Args:
        count: the number of frames.
        keys: the numbers of the key frames, rising; ``None``: any frame is one.
        most: how many frames a segment shall have at most. It may have more, because it ends at a key frame.

    Returns:
        ``(start, stop)`` of each segment, in order.

    Example:
        >>> cut_at_keys(100, np.array([0, 30, 60, 90]), 40), cut_at_keys(7, None, 3)
        ([(0, 30), (30, 60), (60, 100)], [(0, 2), (2, 5), (5, 7)])
    """
    pieces = -(-count // max(1, most))
    cuts = _snap(np.arange(1, pieces) * (count / max(1, pieces)), count, keys)
    bounds = np.unique(np.concatenate([[0], cuts, [count]])).tolist()
    return list(pairwise(bounds))


def shuffle_in_buffer(items: Iterable[_T], size: int, draws: Draws) -> Iterator[_T]:
    """Shuffle a stream: each item comes out of a buffer of ``size`` items at random.

    Example:
        >>> list(shuffle_in_buffer(range(8), 3, Draws(0)))
        [0, 2, 3, 1, 6, 5, 7, 4]
    """
    buffer: list[_T] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        place = draws.below(size)
        out, buffer[place] = buffer[place], item
        yield out
    while buffer:
        place = draws.below(len(buffer))
        buffer[place], buffer[-1] = buffer[-1], buffer[place]
        yield buffer.pop()


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """A collection of videos, and how workers share its frames. A share is a function of the arguments alone.

    Attributes:
        counts: the number of frames of each video.
        keys: the key frames of each video; ``None``: all of its frames.
        costs: how much work a frame of each video is.

    Example:
        >>> plan = SegmentPlan((900, 60), (np.arange(0, 900, 30), None), (1, 1))
        >>> plan.share(2)
        [[Segment(video=0, start=0, stop=480)], [Segment(video=0, start=480, stop=900), Segment(video=1, start=0, stop=60)]]
    """

    counts: tuple[int, ...]
    keys: tuple[_Numbers | None, ...]
    costs: tuple[float, ...]

    @property
    def total(self) -> int:
        """The number of all frames."""
        return sum(self.counts)

    def share(self, n_workers: int, *, least: int = 1) -> list[list[Segment]]:
        """The segments of each worker, in the order of the collection; as few as give equal loads.

        Args:
            n_workers: the number of workers.
            least: the number of frames below which a worker is not worth its start: later ones then get nothing.
        """
        used = max(1, min(n_workers, -(-self.total // max(1, least))))
        best = self._share_in_order(used)
        best_load = self._imbalance(best)
        pieces = 1 if best_load > _FAIR_BALANCE else _MOST_PER_SHARE + 1
        while best_load > _GOOD_BALANCE and pieces <= _MOST_PER_SHARE:
            segments = self._cut(-(-self.total // (used * pieces)))
            shares = balance_load_lpt({segment: self._load(segment) for segment in segments}, used)
            load = self._imbalance(shares)
            if load < best_load:
                best, best_load = shares, load
            pieces *= 2
        return [_join(sorted(share)) for share in best] + [[] for _ in range(n_workers - used)]

    def share_shuffled(
        self, n_workers: int, *, least: int = 1, most: int = 32, seed: int = 0, epoch: int = 0
    ) -> list[list[Segment]]:
        """The segments of each worker, in random order.

        Args:
            n_workers: the number of workers.
            least: as in :meth:`share`.
            most: how many frames a segment shall have at most.
            seed: of the order.
            epoch: each has another order, and other segments for each worker.
        """
        used = max(1, min(n_workers, -(-self.total // max(1, least))))
        segments = self._cut(min(most, self.total // (used * _SHUFFLED_PER_SHARE)))
        # LPT takes equal lengths in the order in which they come.
        mixed = _permute(segments, _ORDER, seed, epoch)
        shares = balance_load_lpt({segment: self._load(segment) for segment in mixed}, used)
        shares = _permute(shares, _LABELS, seed, epoch)
        return [_permute(share, _ORDER, seed, epoch, number) for number, share in enumerate(shares)] + [
            [] for _ in range(n_workers - used)
        ]

    def _share_in_order(self, used: int) -> list[list[Segment]]:
        """Shares that follow one another in the list of all frames, cut at the nearest key frames."""
        ends = np.cumsum([count * cost for count, cost in zip(self.counts, self.costs, strict=True)])
        shares: list[list[Segment]] = [[] for _ in range(used)]
        total = ends[-1] if len(ends) else 0
        for video, (count, keys, cost, end) in enumerate(
            zip(self.counts, self.keys, self.costs, ends.tolist(), strict=True)
        ):
            # Where the shares begin, in frames of this video.
            cuts = count - (end - np.arange(1, used) * (total / used)) / cost
            bounds = [0, *_snap(cuts.clip(0, count), count, keys).tolist(), count]
            for worker, (start, stop) in enumerate(pairwise(bounds)):
                if start < stop:
                    shares[worker].append(Segment(video, start, stop))
        return shares

    def _imbalance(self, shares: Sequence[Sequence[Segment]]) -> float:
        """The largest load relative to the smallest."""
        loads = [sum(map(self._load, share)) for share in shares]
        return max(loads) / (min(loads) or 1e-9)

    def _cut(self, most: int) -> list[Segment]:
        return [
            Segment(video, *bounds)
            for video, (count, keys) in enumerate(zip(self.counts, self.keys, strict=True))
            for bounds in (cut_at_keys(count, keys, most) if count else ())
        ]

    def _load(self, segment: Segment) -> float:
        return (segment.stop - segment.start) * self.costs[segment.video]


def buffer_draws(seed: int, epoch: int, worker: int) -> Draws:
    """The draws of a worker's shuffle buffer."""
    return Draws(_BUFFER, seed, epoch, worker)


def _snap(cuts: np.ndarray[Any, np.dtype[Any]], count: int, keys: _Numbers | None) -> _Numbers:
    """For each place in a video of ``count`` frames the nearest one at which it may be cut."""
    if keys is None:
        rounded: _Numbers = np.rint(cuts).astype(np.int64)
        return rounded
    allowed = np.unique(np.concatenate([[0], keys[(keys > 0) & (keys < count)], [count]]))
    after = np.searchsorted(allowed, cuts).clip(1, len(allowed) - 1)
    is_before = cuts - allowed[after - 1] <= allowed[after] - cuts
    found: _Numbers = np.where(is_before, allowed[after - 1], allowed[after])
    return found


def _permute(items: Sequence[_T], *words: int) -> list[_T]:
    order = Permutation(len(items), *words)
    return [items[order[place]] for place in range(len(items))]


def _join(segments: Iterable[Segment]) -> list[Segment]:
    """Sorted segments, with those that follow one another as one."""
    joined: list[Segment] = []
    for segment in segments:
        if joined and joined[-1].video == segment.video and joined[-1].stop == segment.start:
            joined[-1] = joined[-1]._replace(stop=segment.stop)
        else:
            joined.append(segment)
    return joined
