"""Masks: polygons and run-length codes as runs of pixels, with counts, bounds and bitmaps of them.

A polygon covers the pixels whose centre it holds, by the even-odd rule, as in :mod:`ndframes.feed.areas`. All functions work on
the shapes of many annotations at once, because a patch may cut hundreds of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .areas import Area

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Grid", "Rings", "Runs", "code_runs", "decode_counts", "first_pixel", "join_spans", "polygon_runs"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]


def join_spans(starts: _Ints, stops: _Ints) -> _Ints:
    """The integers of all ranges ``start:stop``, one range after the other.

    Example:
        >>> join_spans(np.array([5, 0]), np.array([7, 1])).tolist()
        [5, 6, 0]
    """
    counts = stops - starts
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    joined: _Ints = np.arange(total) + np.repeat(starts - ends + counts, counts)
    return joined


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixels of a result, which covers a region of an image.

    Attributes:
        top: the first row of the region, in pixels of the image.
        left: its first column.
        scale_y: the factor from the image to the result in y.
        scale_x: in x.
        limits: ``(top, bottom, left, right)`` of the part of the result that lies in the image, in pixels of the result.
    """

    top: int
    left: int
    scale_y: float
    scale_x: float
    limits: tuple[int, int, int, int]

    def first_rows(self, img_rows: Any) -> Any:
        """For y coordinates of the image the first row of the result whose centre is not above."""
        return _first_pixels(img_rows, self.top, self.scale_y, *self.limits[:2])

    def first_cols(self, img_cols: Any) -> Any:
        """For x coordinates of the image the first column of the result whose centre is not left of them."""
        return _first_pixels(img_cols, self.left, self.scale_x, *self.limits[2:])


def first_pixel(coord: float, origin: int, scale: float, extent: int) -> int:
    """The first pixel of a result of some extent whose centre is not before a coordinate of the image."""
    return min(max(math.ceil((coord - origin) * scale - 0.5), 0), extent)


def _first_pixels(coords: Any, origin: int, scale: float, low: int, high: int) -> Any:
    return np.clip(np.ceil((coords - origin) * scale - 0.5), low, high).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Rings:
    """The rings of the polygons of some annotations.

    Attributes:
        points: ``(x, y)`` of all corners, float64 ``(p, 2)``.
        stops: for each ring the end of its corners; in order.
        parts: the number of the polygon of each ring. Rings of one polygon, its outer ring and its holes, are neighbours.
        owners: the number of the annotation of each ring, ascending.
    """

    points: _Floats
    stops: _Ints
    parts: _Ints
    owners: _Ints

    def moved_to(self, grid: Grid) -> Rings:
        """The same in pixels of a result."""
        return replace(self, points=(self.points - (grid.left, grid.top)) * (grid.scale_x, grid.scale_y))


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of pixels of some annotations. Runs of one annotation do not overlap.

    Attributes:
        owners: the number of the annotation of each run, ascending.
        lines: the row of each run, or its column if ``is_vertical``.
        starts: its first pixel on that line.
        stops: the pixel after its last one.
        is_vertical: whether the runs lie in columns.
    """

    owners: _Ints
    lines: _Ints
    starts: _Ints
    stops: _Ints
    is_vertical: bool = False

    def clipped(self, top: int, bottom: int, left: int, right: int) -> Runs:
        """The pixels at ``top <= y < bottom`` and ``left <= x < right``."""
        low, high, first, last = (left, right, top, bottom) if self.is_vertical else (top, bottom, left, right)
        starts, stops = np.maximum(self.starts, first), np.minimum(self.stops, last)
        kept = (starts < stops) & (self.lines >= low) & (self.lines < high)
        return Runs(self.owners[kept], self.lines[kept], starts[kept], stops[kept], self.is_vertical)

    def counts(self, owner_count: int) -> _Ints:
        """For each annotation the number of its pixels."""
        counts: _Ints = np.bincount(self.owners, self.stops - self.starts, owner_count).astype(np.int64)
        return counts

    def bounds(self, owner_count: int) -> _Floats:
        """For each annotation the box ``(x0, y0, x1, y1)`` around its pixels, as rows. Without pixels, the box has no meaning."""
        bounds: _Floats = np.empty((4, owner_count))
        bounds[:2], bounds[2:] = np.inf, -np.inf
        if len(self.owners):
            firsts = np.flatnonzero(np.concatenate([[True], np.diff(self.owners) > 0]))
            found = self.owners[firsts]
            along, across = (1, 0) if self.is_vertical else (0, 1)
            bounds[along, found] = np.minimum.reduceat(self.starts, firsts)
            bounds[along + 2, found] = np.maximum.reduceat(self.stops, firsts)
            bounds[across, found] = np.minimum.reduceat(self.lines, firsts)
            bounds[across + 2, found] = np.maximum.reduceat(self.lines, firsts) + 1
        return bounds

    def pixels(self, width: int) -> tuple[_Ints, _Ints]:
        """For each pixel its annotation, and its place in an array of this width, row after row."""
        step, line_step = (width, 1) if self.is_vertical else (1, width)
        counts = self.stops - self.starts
        along = join_spans(self.starts, self.stops)
        return np.repeat(self.owners, counts), along * step + np.repeat(self.lines * line_step, counts)

    def moved_to(self, grid: Grid) -> Runs:
        """The same in pixels of a result: each shows the pixel of the image that holds its centre."""
        assert self.is_vertical  # noqa: S101
        firsts, lasts = grid.first_cols(self.lines), grid.first_cols(self.lines + 1)
        starts, stops = grid.first_rows(self.starts), grid.first_rows(self.stops)
        counts = np.where(starts < stops, lasts - firsts, 0)
        owners, starts, stops = (np.repeat(column, counts) for column in (self.owners, starts, stops))
        return Runs(owners, join_spans(firsts, firsts + counts), starts, stops, is_vertical=True)


def polygon_runs(rings: Rings, limits: tuple[int, int, int, int]) -> Runs:
    """The pixels whose centres polygons hold, inside ``limits`` as ``(top, bottom, left, right)``."""
    top, bottom, left, right = limits
    height, width = bottom - top, right - left + 1
    firsts = np.concatenate([[0], rings.stops[:-1]])
    following = np.arange(1, len(rings.points) + 1)
    following[rings.stops - 1] = firsts
    edges, rows = _cross_rows(rings.points[:, 1], following, top, bottom)
    x, y = rings.points[edges].T
    next_x, next_y = rings.points[following[edges]].T
    ends = x + (rows + 0.5 - y) * (next_x - x) / (next_y - y)
    np.clip(np.ceil(ends - 0.5), left, right, out=ends)
    # Polygons from 0, so that keys stay small.
    is_first = np.concatenate([[True], np.diff(rings.parts) != 0])
    parts = np.repeat(np.cumsum(is_first) - 1, rings.stops - firsts)[edges]
    # Crossings that round to one pixel may be swapped, so one sort of integers orders them by polygon, row and column.
    keys = (parts * height + rows - top) * width + ends.astype(np.int64) - left
    keys.sort()
    # Every ring crosses a line an even number of times, so crossings pair up within a row of a polygon.
    lines, starts = np.divmod(keys[::2], width)
    stops = keys[1::2] - lines * width
    kept = starts < stops
    lines, starts, stops = lines[kept], starts[kept] + left, stops[kept] + left
    parts, rows = np.divmod(lines, height)
    owners = rings.owners[is_first][parts]
    if np.count_nonzero(is_first) > 1 and (np.diff(rings.owners[is_first]) == 0).any():
        # Polygons of one annotation may overlap; each pixel counts once.
        merged = Area.joined(owners * height + rows, starts - left, stops - left)
        owners, rows = np.divmod(merged.rows, height)
        starts, stops = merged.starts + left, merged.stops + left
    return Runs(owners, rows + top, starts, stops)


def _cross_rows(y: _Floats, following: _Ints, top: int, bottom: int) -> tuple[_Ints, _Ints]:
    """For each crossing of an edge with the centre line of a row the edge, by its first corner, and the row."""
    next_y = y[following]
    # Half open, so that a corner on a centre line counts for one of its two edges.
    firsts = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), top, bottom).astype(np.int64)
    lasts = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), top, bottom).astype(np.int64)
    return np.repeat(np.arange(len(y)), lasts - firsts), join_spans(firsts, lasts)


def code_runs(codes: Sequence[_Ints], owners: Sequence[int], height: int, left: int, right: int) -> Runs:
    """The pixels of run-length codes in the columns ``left <= x < right`` of an image of some height.

    Args:
        codes: for each annotation the lengths of runs of 0 and of 1 in turn, column after column.
        owners: the numbers of the annotations, ascending.
        height: of the image.
        left: the first column.
        right: the column after the last one.
    """
    found: list[tuple[_Ints, ...]] = [(np.zeros(0, np.int64),) * 4]
    for owner, counts in zip(owners, codes, strict=True):
        ends = np.cumsum(counts, dtype=np.int64)
        # Without the last run if it is one of 0.
        starts, stops = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
        first, last = np.searchsorted(stops, left * height, side="right"), np.searchsorted(starts, right * height)
        starts, stops = np.maximum(starts[first:last], left * height), np.minimum(stops[first:last], right * height)
        kept = starts < stops
        starts, stops = starts[kept], stops[kept]
        # A run may go on in the next columns.
        first_cols, last_cols = starts // height, (stops - 1) // height
        counts_of_cols = last_cols - first_cols + 1
        cols = join_spans(first_cols, last_cols + 1)
        starts = np.maximum(np.repeat(starts, counts_of_cols) - cols * height, 0)
        stops = np.minimum(np.repeat(stops, counts_of_cols) - cols * height, height)
        found.append((np.full(len(cols), owner), cols, starts, stops))
    owners_of_runs, lines, firsts, lasts = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Runs(owners_of_runs, lines, firsts, lasts, is_vertical=True)


def decode_counts(text: str | bytes) -> _Ints:
    """The lengths of runs in COCO's compressed form.

    A number consists of groups of five bits, the lowest first, each in the character ``48 + bits``, with 32 added where another
    group follows; its highest bit is the sign. From the fourth number on, the number two places before is subtracted.

    Raises:
        ValueError: the text is not of this form.

    Example:
        >>> decode_counts("0203").tolist()
        [0, 2, 0, 5]
    """
    groups = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if not len(groups):
        return np.zeros(0, np.int64)
    if groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError("it is not a run-length code in COCO's compressed form")
    lasts = np.flatnonzero(groups & 32 == 0)
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    places = np.arange(len(groups)) - np.repeat(firsts, lasts - firsts + 1)
    if places.max() > 11:
        raise ValueError("a number of the run-length code has more than 60 bits")
    numbers = np.add.reduceat((groups & 31) << 5 * places, firsts)
    numbers -= (groups[lasts] >> 4 & 1) << 5 * (places[lasts] + 1)
    # Each number adds to the one two places before, but the third does not add to the first.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
