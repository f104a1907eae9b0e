"""Pairs: which boxes of a set overlap, without comparing each with every other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["areas_of", "intersections_of", "overlapping_pairs"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_MOST_PAIRS = 1 << 20


def overlapping_pairs(
    boxes: _Floats, *, gap: float = 0, most_pairs: int = _MOST_PAIRS
) -> Iterator[tuple[_Ints, _Ints]]:
    """The pairs of boxes that overlap, touch, or are at most ``gap`` apart in x and in y; each pair once.

    The boxes are sorted into strips along y, and within a strip by x. Time and memory grow with the number of neighbours,
    not with the square of the number of boxes.

    Args:
        boxes: float64 ``(n, 4)``, xyxy, finite, not inverted.
        gap: in the unit of the boxes.
        most_pairs: about how many candidates are examined at once.

    Yields:
        The numbers ``(i, j)`` of the boxes of some pairs, ``i`` below ``j`` in each.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [9, 9, 10, 10], [3, 3, 6, 6], [4, 0, 5, 1]], float)
        >>> sorted((int(i), int(j)) for pair in overlapping_pairs(boxes) for i, j in zip(*pair))
        [(0, 2), (0, 3)]
    """
    if len(boxes) < 2:
        return
    lefts, tops, rights, bottoms = boxes.T
    rights, bottoms = rights + gap, bottoms + gap
    # Strips twice as high as a mean box: each box then lies in about one and a half of them.
    strip_height = max(2 * float((bottoms - tops).mean()), float(np.ptp(tops)) / len(boxes)) or 1.0
    first_strips = _strips(tops, tops.min(), strip_height)
    counts = _strips(bottoms, tops.min(), strip_height) - first_strips + 1
    entries = np.repeat(np.arange(len(boxes)), counts)
    strips = first_strips[entries] + _count_up(counts)
    order = np.lexsort((lefts[entries], strips))
    entries, strips = entries[order], strips[order]
    # One sorted key for all strips, so that one search finds the neighbours of every box.
    span = float(rights.max() - lefts.min()) + 1
    keys = strips * span + (lefts[entries] - lefts.min())
    ends = strips * span + (rights[entries] - lefts.min()) + 4 * np.spacing(keys[-1] + span)
    starts = np.arange(1, len(entries) + 1)
    candidates = np.maximum(np.searchsorted(keys, ends, side="right") - starts, 0)
    totals = np.cumsum(candidates)
    begin = 0
    while begin < len(entries):
        done = int(totals[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, done + most_pairs, side="right")))
        first = np.repeat(entries[begin:end], candidates[begin:end])
        second = entries[np.repeat(starts[begin:end], candidates[begin:end]) + _count_up(candidates[begin:end])]
        tops_of_pairs = np.maximum(tops[first], tops[second])
        is_near = (lefts[second] <= rights[first]) & (tops_of_pairs <= np.minimum(bottoms[first], bottoms[second]))
        # Two tall boxes share several strips; the one with the lower of their tops counts.
        is_near &= _strips(tops_of_pairs, tops.min(), strip_height) == np.repeat(
            strips[begin:end], candidates[begin:end]
        )
        first, second = first[is_near], second[is_near]
        yield np.minimum(first, second), np.maximum(first, second)
        begin = end


def areas_of(boxes: _Floats) -> _Floats:
    """The area of each box ``(n, 4)``; 0 for an inverted one."""
    found: _Floats = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return found


def intersections_of(first: _Floats, second: _Floats) -> _Floats:
    """The boxes that each pair has in common, ``(n, 4)``; inverted where there is none."""
    return np.concatenate([np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])], axis=1)


def _strips(positions: _Floats, origin: Any, height: float) -> _Ints:
    found: _Ints = np.floor((positions - origin) / height).astype(np.int64)
    return found


def _count_up(counts: _Ints) -> _Ints:
    """0, 1, 2, ... for each count, one after the other."""
    found: _Ints = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return found
