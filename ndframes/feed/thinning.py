"""Thinning: which boxes to keep so that the windows around them hold all boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .masks import join_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .columns import BoxColumns

__all__ = ["thin_boxes"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]
# How many pairs of boxes are compared at once.
_MOST_PAIRS = 1 << 18


def thin_boxes(columns: BoxColumns, numbers: _Ints, groups: _Ints, shape: tuple[int, int]) -> _Bools:
    """Which boxes to keep so that each other one lies in the window around a kept box of its image and group.

    Windows are taken by the number of boxes that they cover: non-maximum suppression as an approximate set cover.

    Args:
        columns: all boxes.
        numbers: the boxes.
        groups: of them; a box of one group is not left out for one of another.
        shape: ``(height, width)`` of the windows, in pixels of the image.
    """
    windows = _Windows.of(columns, numbers, groups, shape)
    ranks = windows.ranks()
    by_rank = np.argsort(ranks)
    kept, is_open = np.zeros(len(numbers), np.bool_), np.ones(len(numbers), np.bool_)
    opened = np.arange(len(numbers))
    while len(opened):
        # A box that is the first of all in its own cell and those around it depends on no other one, so that each round takes
        # all of these. In one round after the other, the result is that of taking boxes one by one.
        best = np.full(len(windows.neighbours), len(numbers))
        np.minimum.at(best, windows.cells[opened], ranks[opened])
        cells = np.unique(windows.cells[opened])
        chosen = by_rank[best[cells][best[cells] == best[windows.neighbours[cells]].min(axis=1)]]
        kept[chosen], is_open[chosen] = True, False
        for _, others in windows.covered_by(chosen):
            is_open[others] = False
        opened = opened[is_open[opened]]
    found = np.empty(len(numbers), np.bool_)
    found[windows.order] = kept
    return found


@dataclass(frozen=True, slots=True)
class _Windows:
    """The windows around boxes, sorted by cells that are half as large, of one image and group.

    The windows of two boxes of which one lies in the other's window begin in the same cell or in neighbouring ones.

    Attributes:
        order: the numbers of the boxes as they were given.
        boxes: their rows ``x0, y0, x1, y1``.
        corners: the rows ``x0, y0, x1, y1`` of their windows.
        cells: for each window the number of its cell.
        neighbours: for each cell the numbers of the nine cells around it, its own for those that are empty.
        firsts: for each cell and each of three rows of cells the first window in the cells around it.
        lasts: the window after the last one.
    """

    order: _Ints
    boxes: _Floats
    corners: _Floats
    cells: _Ints
    neighbours: _Ints
    firsts: _Ints
    lasts: _Ints

    @classmethod
    def of(cls, columns: BoxColumns, numbers: _Ints, groups: _Ints, shape: tuple[int, int]) -> _Windows:
        height, width = shape
        boxes, images = columns.boxes[:, numbers], columns.image_numbers[numbers]
        x0, y0, x1, y1 = boxes
        lefts = np.clip(np.rint((x0 + x1 - width) / 2), 0, np.maximum(columns.widths[images] - width, 0))
        tops = np.clip(np.rint((y0 + y1 - height) / 2), 0, np.maximum(columns.heights[images] - height, 0))
        # Two more pixels, since windows begin at whole ones.
        cols = (lefts // (width / 2 + 2)).astype(np.int64) + 1
        rows = (tops // (height / 2 + 2)).astype(np.int64) + 1
        parts = np.unique(images * (int(groups.max(initial=0)) + 1) + groups, return_inverse=True)[1].reshape(-1)
        # An empty row and column around each part, so that no two parts have neighbouring cells.
        step = int(cols.max(initial=0)) + 2
        keys = (parts * (int(rows.max(initial=0)) + 2) + rows) * step + cols
        order = np.argsort(keys, kind="stable")
        names, cells = np.unique(keys[order], return_inverse=True)
        around = names[:, None, None] + np.arange(-1, 2)[:, None] * step + np.arange(-1, 2)
        places = np.searchsorted(names, around).clip(max=len(names) - 1)
        neighbours = np.where(names[places] == around, places, np.arange(len(names))[:, None, None])
        return cls(
            order=order,
            boxes=boxes[:, order],
            corners=np.stack([lefts, tops, lefts + width, tops + height])[:, order],
            cells=cells.reshape(-1),
            neighbours=neighbours.reshape(-1, 9),
            firsts=np.searchsorted(keys[order], around[:, :, 0]),
            lasts=np.searchsorted(keys[order], around[:, :, 2], side="right"),
        )

    def ranks(self) -> _Ints:
        """For each box its place in the order in which they are kept: first those whose windows cover the most boxes."""
        counts = np.zeros(len(self.order), np.int64)
        for windows, _ in self.covered_by(np.arange(len(self.order))):
            counts += np.bincount(windows, minlength=len(self.order))
        # In a scrambled order where they cover as many: in the order of their places, each would wait for the one before it.
        scrambled = (self.order.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        ranks = np.empty(len(self.order), np.int64)
        ranks[np.lexsort((scrambled, -counts))] = np.arange(len(ranks))
        return ranks

    def covered_by(self, chosen: _Ints) -> Iterator[tuple[_Ints, _Ints]]:
        """For each window among some the boxes that lie in it, as pairs of a window and a box."""
        firsts, lasts = self.firsts[self.cells[chosen]], self.lasts[self.cells[chosen]]
        ends = np.cumsum((lasts - firsts).sum(axis=1))
        start = 0
        while start < len(chosen):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _MOST_PAIRS, side="right")))
            others = join_spans(firsts[start:stop].reshape(-1), lasts[start:stop].reshape(-1))
            windows = np.repeat(chosen[start:stop], (lasts - firsts)[start:stop].sum(axis=1))
            x0, y0, x1, y1 = self.boxes[:, others]
            left, top, right, bottom = self.corners[:, windows]
            is_in = (x0 >= left) & (x1 <= right) & (y0 >= top) & (y1 <= bottom)
            yield windows[is_in], others[is_in]
            start = stop
