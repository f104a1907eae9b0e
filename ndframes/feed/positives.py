"""Positives: windows around boxes, with jitter, that cut few other boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .columns import BoxColumns
    from .order import Draws

__all__ = ["Placing"]
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Placing:
    """How a window is placed around a box.

    Attributes:
        columns: the boxes.
        jitter: how far the centre of the window moves away from that of the box, as a share of the window's extent.
        allow_cut: the share of another box that the window may cut off.
    """

    columns: BoxColumns
    jitter: float
    allow_cut: float

    def place(self, number: int, image: int, shape: tuple[int, int], draws: Draws) -> tuple[int, int]:
        """The first row and column of a window of some shape around a box.

        The best of a few random places is taken if each of them cuts boxes.
        """
        height, width = shape
        x0, y0, x1, y1 = self.columns.boxes[:, number].tolist()
        rows = self._span(y0, y1, height, int(self.columns.heights[image]))
        cols = self._span(x0, x1, width, int(self.columns.widths[image]))
        reach = rows[0], rows[1] + height, cols[0], cols[1] + width
        others = self._find_others(number, image, reach)
        best, fewest = (0, 0), math.inf
        for _ in range(_TRIES):
            top = rows[0] + draws.below(rows[1] - rows[0] + 1)
            left = cols[0] + draws.below(cols[1] - cols[0] + 1)
            cut_count = self._count_cut(others, top, top + height, left, left + width)
            if cut_count < fewest:
                best, fewest = (top, left), cut_count
            if not cut_count:
                break
        return best

    def _span(self, low: float, high: float, extent: int, image_extent: int) -> tuple[int, int]:
        """The first and the last start of a window on one axis, for a box from ``low`` to ``high``."""
        centred, reach = (low + high - extent) / 2, self.jitter * extent
        first, last = math.ceil(centred - reach), math.floor(centred + reach)
        if last < first:
            first = last = round(centred)
        inner_first, inner_last = math.ceil(high) - extent, math.floor(low)
        if inner_first > inner_last:
            # The box does not fit: the centre of the window stays in it.
            inner_first, inner_last = math.ceil(low - extent / 2), math.floor(high - extent / 2)
        # A window that is larger than the image starts with it, as everywhere.
        most = max(0, image_extent - extent)
        inner_first, inner_last = min(max(inner_first, 0), most), max(min(inner_last, most), 0)
        return min(max(first, inner_first), inner_last), max(min(last, inner_last), inner_first)

    def _find_others(self, number: int, image: int, reach: tuple[int, int, int, int]) -> Any:
        """The boxes that a window may cut, as rows ``x0, y0, x1, y1``."""
        numbers = self.columns.find_overlapping(image, *reach)
        # A crowd reaches over many windows and is no box to be learned.
        return self.columns.boxes[:, numbers[(numbers != number) & ~self.columns.crowds[numbers]]]

    def _count_cut(self, boxes: Any, top: int, bottom: int, left: int, right: int) -> int:
        """The number of boxes that the window shows in part, and of which it cuts off too much."""
        if not boxes.shape[1]:
            return 0
        x0, y0, x1, y1 = boxes
        shown_x, shown_y = np.minimum(x1, right) - np.maximum(x0, left), np.minimum(y1, bottom) - np.maximum(y0, top)
        is_shown = (shown_x > 0) & (shown_y > 0)
        is_cut = shown_x * shown_y < (1 - self.allow_cut) * (x1 - x0) * (y1 - y0)
        return int(np.count_nonzero(is_shown & is_cut))
