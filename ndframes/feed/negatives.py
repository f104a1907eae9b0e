"""Negatives: windows that keep a distance from all boxes, each as likely as any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .columns import BoxColumns
    from .order import Draws

__all__ = ["FreeWindows"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
# At least half of the windows that are tried are free, so more are needed once in 2**64 draws.
_TRIES = 64
# Up to here a table of all cells between the borders of boxes is made at once.
_MOST_CELLS = 1 << 22


@dataclass(frozen=True, slots=True)
class FreeWindows:
    """All windows of one shape that no box is close to, over some images.

    In most images, most windows are free; there a window is drawn at random until it is free. In the others, the free windows
    are counted at construction, strip by strip, and drawn by number.

    Attributes:
        columns: the boxes.
        images: the numbers of the images.
        shape: ``(height, width)`` of the windows, in pixels of the images.
        away: the distance in pixels, in x or y, that a window keeps from all boxes.
        stops: cumulative: for each image all its windows, or the free ones where they were counted.
        strips: for the place of an image whose free windows were counted the rows where strips begin, and the cumulative numbers
            of free windows.
    """

    columns: BoxColumns
    images: _Ints
    shape: tuple[int, int]
    away: float
    stops: _Ints
    strips: dict[int, tuple[_Ints, _Ints]]

    @classmethod
    def of(cls, columns: BoxColumns, images: _Ints, shape: tuple[int, int], away: float) -> FreeWindows:
        """Those over some images."""
        made = cls(columns, images, shape, away, np.zeros(0, np.int64), {})
        downs, acrosses = made._starts(images)
        counts = downs * acrosses
        places = np.full(len(columns.image_ids), -1, np.int64)
        places[images] = np.arange(len(images))
        owners = places[columns.image_numbers]
        chosen = np.flatnonzero(owners >= 0)
        owners = owners[chosen]
        tops, bottoms, lefts, rights = made._forbidden(chosen, downs[owners], acrosses[owners])
        # An upper bound, since forbidden places of several boxes may coincide.
        areas = (np.maximum(bottoms - tops, 0) * np.maximum(rights - lefts, 0)).astype(np.float64)
        taken = np.bincount(owners, areas, len(images))
        for place in np.flatnonzero(taken > counts / 2).tolist():
            made.strips[place] = made._count(place)
            counts[place] = made.strips[place][1][-1]
        return cls(columns, images, shape, away, np.cumsum(counts), made.strips)

    @property
    def count(self) -> int:
        """The number of windows among which one is drawn; 0 if none is free."""
        return int(self.stops[-1]) if len(self.stops) else 0

    def draw(self, draws: Draws) -> tuple[int, int, int]:
        """The number of an image, and the first row and column of a free window."""
        place = 0
        for _ in range(_TRIES):
            at = draws.below(self.count)
            place = int(np.searchsorted(self.stops, at, side="right"))
            at -= int(self.stops[place - 1]) if place else 0
            image = int(self.images[place])
            if place in self.strips:
                return image, *self._pick(place, self.strips[place], at)
            top, left = divmod(at, int(self._starts(np.array([image]))[1][0]))
            (height, width), away = self.shape, self.away
            window = top - away, top + height + away, left - away, left + width + away
            if not len(self.columns.find_overlapping(image, *window)):
                return image, top, left
        strips = self._count(place)
        return int(self.images[place]), *self._pick(place, strips, draws.below(int(strips[1][-1])))

    def definition(self) -> Iterator[object]:
        """For a fingerprint."""
        yield self.shape, self.away
        yield self.stops.astype("<i8").tobytes()

    def _starts(self, images: _Ints) -> tuple[_Ints, _Ints]:
        """For each image the number of places of a window in y and in x; one where it is larger than the image."""
        height, width = self.shape
        columns = self.columns
        return (
            np.maximum(columns.heights[images] - height, 0) + 1,
            np.maximum(columns.widths[images] - width, 0) + 1,
        )

    def _forbidden(self, numbers: _Ints, downs: Any, acrosses: Any) -> tuple[_Ints, _Ints, _Ints, _Ints]:
        """For each box the places too close to it: first and last row, first and last column, the last ones exclusive."""
        height, width = self.shape
        x0, y0, x1, y1 = self.columns.boxes[:, numbers]
        tops = np.maximum(np.floor(y0 - self.away - height) + 1, 0).astype(np.int64)
        lefts = np.maximum(np.floor(x0 - self.away - width) + 1, 0).astype(np.int64)
        bottoms = np.minimum(np.ceil(y1 + self.away), downs).astype(np.int64)
        rights = np.minimum(np.ceil(x1 + self.away), acrosses).astype(np.int64)
        return tops, bottoms, lefts, rights

    def _forbidden_in(self, place: int) -> tuple[_Ints, _Ints, _Ints, _Ints, int, int]:
        """As :meth:`_forbidden` for one image, and the numbers of places in y and x."""
        image = int(self.images[place])
        down, across = (int(count[0]) for count in self._starts(np.array([image])))
        tops, bottoms, lefts, rights = self._forbidden(np.arange(*self.columns.span(image)), down, across)
        kept = (tops < bottoms) & (lefts < rights)
        return tops[kept], bottoms[kept], lefts[kept], rights[kept], down, across

    def _count(self, place: int) -> tuple[_Ints, _Ints]:
        """The rows where strips of equal free columns begin, and the cumulative numbers of free windows."""
        tops, bottoms, lefts, rights, down, across = self._forbidden_in(place)
        rows = np.unique(np.concatenate([tops, bottoms, [0, down]]))
        cols = np.unique(np.concatenate([lefts, rights, [0, across]]))
        if len(rows) * len(cols) > _MOST_CELLS:
            free = [
                int((stops - starts).sum())
                for starts, stops in (_gaps(tops, bottoms, lefts, rights, across, row) for row in rows[:-1].tolist())
            ]
            return rows, np.cumsum(np.array(free, np.int64) * np.diff(rows))
        # Adding 1 at one corner of each rectangle, and so on, makes sums over rows and columns count the boxes over a cell.
        cover = np.zeros((len(rows), len(cols)), np.int32)
        first_rows, last_rows = np.searchsorted(rows, tops), np.searchsorted(rows, bottoms)
        first_cols, last_cols = np.searchsorted(cols, lefts), np.searchsorted(cols, rights)
        for at_rows, at_cols, sign in (
            (first_rows, first_cols, 1),
            (first_rows, last_cols, -1),
            (last_rows, first_cols, -1),
            (last_rows, last_cols, 1),
        ):
            np.add.at(cover, (at_rows, at_cols), sign)
        is_free = cover.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] == 0
        return rows, np.cumsum((is_free @ np.diff(cols)) * np.diff(rows))

    def _pick(self, place: int, strips: tuple[_Ints, _Ints], at: int) -> tuple[int, int]:
        """The first row and column of a free window by its number in an image."""
        rows, strip_stops = strips
        strip = int(np.searchsorted(strip_stops, at, side="right"))
        at -= int(strip_stops[strip - 1]) if strip else 0
        tops, bottoms, lefts, rights, _, across = self._forbidden_in(place)
        starts, stops = _gaps(tops, bottoms, lefts, rights, across, int(rows[strip]))
        ends = np.cumsum(stops - starts)
        row, col = divmod(at, int(ends[-1]))
        gap = int(np.searchsorted(ends, col, side="right"))
        return int(rows[strip]) + row, int(stops[gap]) - (int(ends[gap]) - col)


def _gaps(tops: _Ints, bottoms: _Ints, lefts: _Ints, rights: _Ints, across: int, row: int) -> tuple[_Ints, _Ints]:
    """The starts and stops of the columns of a row that no rectangle covers."""
    active = (tops <= row) & (bottoms > row)
    lefts, rights = lefts[active], rights[active]
    order = np.argsort(lefts, kind="stable")
    starts = np.concatenate([[0], np.maximum.accumulate(rights[order])])
    stops = np.concatenate([lefts[order], [across]])
    kept = starts < stops
    return starts[kept], stops[kept]
