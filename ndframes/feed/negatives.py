"""Negatives: windows that keep a distance from all boxes, each as likely as any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .masks import join_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .columns import BoxColumns
    from .order import Draws

__all__ = ["FreeWindows"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
# At least half of the windows that are tried are free, so more are needed once in 2**64 draws.
_TRIES = 64
# How many rows of boxes and strips are looked at at once. More do not fit into the cache of a core.
_MOST_SPANS = 1 << 16
# Larger than any row or column of an image, so that place * _STEP + row orders by place first.
_STEP = 1 << 32


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
        counted = np.flatnonzero(taken > counts / 2)
        for place, strips in zip(counted.tolist(), made._count(counted), strict=True):
            made.strips[place] = strips
            counts[place] = strips[1][-1]
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
        (strips,) = self._count(np.array([place]))
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

    def _count(self, places: _Ints) -> Iterator[tuple[_Ints, _Ints]]:
        """For each image the rows where strips of equal free columns begin, and the cumulative numbers of free windows."""
        firsts, lasts = self.columns.image_stops[self.images[places]], self.columns.image_stops[self.images[places] + 1]
        # A box lies in at most as many strips as there are borders of boxes.
        most = np.cumsum(2 * (lasts - firsts) ** 2 + 1)
        start = 0
        while start < len(places):
            done = int(most[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(most, done + 8 * _MOST_SPANS, side="right")))
            yield from self._count_together(places[start:stop], firsts[start:stop], lasts[start:stop])
            start = stop

    def _count_together(self, places: _Ints, firsts: _Ints, lasts: _Ints) -> Iterator[tuple[_Ints, _Ints]]:
        """As :meth:`_count`, for images whose boxes are those from ``firsts`` to ``lasts``."""
        downs, acrosses = self._starts(self.images[places])
        owners = np.repeat(np.arange(len(places)), lasts - firsts)
        tops, bottoms, lefts, rights = self._forbidden(join_spans(firsts, lasts), downs[owners], acrosses[owners])
        kept = np.flatnonzero((tops < bottoms) & (lefts < rights))
        kept = kept[np.argsort(lefts[kept], kind="stable")]
        base = owners[kept] * _STEP
        bases = np.arange(len(places)) * _STEP
        rows = np.unique(np.concatenate([base + tops[kept], base + bottoms[kept], bases, bases + downs]))
        first_strips, last_strips = (
            np.searchsorted(rows, base + tops[kept]),
            np.searchsorted(rows, base + bottoms[kept]),
        )
        covered = _covered_columns(first_strips, last_strips, lefts[kept], rights[kept], len(rows))
        ends = np.searchsorted(rows, bases + downs)
        begin = 0
        for place, end in enumerate(ends.tolist()):
            edges = rows[begin : end + 1] - place * _STEP
            yield edges, np.cumsum((int(acrosses[place]) - covered[begin:end]) * np.diff(edges))
            begin = end + 1

    def _pick(self, place: int, strips: tuple[_Ints, _Ints], at: int) -> tuple[int, int]:
        """The first row and column of a free window by its number in an image."""
        rows, strip_stops = strips
        strip = int(np.searchsorted(strip_stops, at, side="right"))
        at -= int(strip_stops[strip - 1]) if strip else 0
        image = self.images[place]
        down, across = (int(count[0]) for count in self._starts(image[None]))
        forbidden = self._forbidden(np.arange(*self.columns.span(int(image))), down, across)
        starts, stops = _gaps(*forbidden, across, int(rows[strip]))
        ends = np.cumsum(stops - starts)
        row, col = divmod(at, int(ends[-1]))
        gap = int(np.searchsorted(ends, col, side="right"))
        return int(rows[strip]) + row, int(stops[gap]) - (int(ends[gap]) - col)


def _gaps(tops: _Ints, bottoms: _Ints, lefts: _Ints, rights: _Ints, across: int, row: int) -> tuple[_Ints, _Ints]:
    """The starts and stops of the columns of a row that no rectangle covers."""
    active = (tops <= row) & (bottoms > row) & (lefts < rights)
    lefts, rights = lefts[active], rights[active]
    order = np.argsort(lefts, kind="stable")
    starts = np.concatenate([[0], np.maximum.accumulate(rights[order])])
    stops = np.concatenate([lefts[order], [across]])
    kept = starts < stops
    return starts[kept], stops[kept]


def _covered_columns(firsts: _Ints, lasts: _Ints, lefts: _Ints, rights: _Ints, count: int) -> _Ints:
    """For each of some strips the number of columns that rectangles cover.

    Args:
        firsts: the first strip of each rectangle.
        lasts: the strip after its last one.
        lefts: its first column, ascending.
        rights: the column after its last one.
        count: the number of strips.
    """
    covered: _Ints = np.zeros(count, np.int64)
    if not len(firsts):
        return covered
    # Parts of the strips, each with about as many rectangles as are looked at at once.
    changes = np.bincount(firsts, minlength=count + 1) - np.bincount(lasts, minlength=count + 1)
    totals = np.cumsum(np.cumsum(changes))
    cuts = np.unique(np.searchsorted(totals, np.arange(0, totals[-1] + _MOST_SPANS, _MOST_SPANS)).clip(max=count))
    for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), count], strict=True):
        inside = np.flatnonzero((firsts < end) & (lasts > begin))
        if not len(inside):
            continue
        starts, stops = np.maximum(firsts[inside], begin), np.minimum(lasts[inside], end)
        # One sort of integers orders by strip and, since rectangles are sorted, by their first column.
        keys = join_spans(starts, stops) * _STEP + np.repeat(np.arange(len(inside)), stops - starts)
        keys.sort()
        strips, numbers = keys >> 32, inside[keys & _STEP - 1]
        base = strips * _STEP
        begins, reached = base + lefts[numbers], base + rights[numbers]
        ends = np.maximum.accumulate(reached)
        # What all rectangles before cover reaches to the largest of their ends.
        before = np.maximum(np.concatenate([[0], ends[:-1]]), begins)
        strip_starts = np.flatnonzero(np.diff(strips, prepend=-1))
        covered[strips[strip_starts]] = np.add.reduceat(np.maximum(reached - before, 0), strip_starts)
    return covered
