"""Areas: parts of an image given by polygons or boxes, as runs of pixels in rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PatchError, naming_image, shorten

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["Area", "parse_areas"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Points = np.ndarray[Any, np.dtype[np.float64]]
# Larger than any coordinate of a pixel, so that row * _ROW + column orders by row first.
_ROW = 1 << 31


@dataclass(frozen=True, slots=True)
class Area:
    """Pixels of one image: those whose centre lies in one of some polygons.

    Attributes:
        rows: the y coordinate of each run, in ascending order.
        starts: the first x coordinate of each run.
        stops: the x coordinate after the last one. Runs of a row neither overlap nor touch.
    """

    rows: _Ints
    starts: _Ints
    stops: _Ints

    @classmethod
    def of(cls, shapes: object, height: int, width: int) -> Area:
        """The pixels inside an image of ``(height, width)`` that ``shapes`` cover.

        Args:
            shapes: a polygon or box, or any nesting of them: ``shapely`` and ``kwimage`` polygons, ``kwimage.Boxes``, arrays
                ``(n, 2)`` of the corners of a polygon ``(x, y)``, arrays ``(4,)`` or ``(n, 4)`` of boxes ``(x0, y0, x1, y1)``, or
                regions ``(y, x)`` of slices. In pixels, corners of pixels being whole numbers.
            height: of the image.
            width: of the image.

        Raises:
            PatchError: something else, not finite, or an inverted box.

        Example:
            >>> area = Area.of([(1, 1, 3, 3), (2, 2, 5, 3)], 10, 4)
            >>> area.rows.tolist(), area.starts.tolist(), area.stops.tolist()
            ([1, 2], [1, 1], [3, 4])
        """
        runs = [_runs_of(rings, height, width) for rings in _parse(shapes)]
        rows, starts, stops = (np.concatenate(parts) for parts in zip(*runs, strict=True)) if runs else (_none(),) * 3
        return cls.joined(rows, starts, stops)

    @classmethod
    def joined(cls, rows: _Ints, starts: _Ints, stops: _Ints) -> Area:
        """The pixels of some runs, in any order, which may overlap or be empty."""
        return cls(*_merge(rows, starts, stops))

    @property
    def pixel_count(self) -> int:
        """The number of pixels."""
        return int((self.stops - self.starts).sum())

    def clipped(self, top: int, bottom: int, left: int, right: int) -> Area:
        """The pixels at ``top <= y < bottom`` and ``left <= x < right``."""
        first, last = np.searchsorted(self.rows, (top, bottom))
        starts = np.maximum(self.starts[first:last], left)
        stops = np.minimum(self.stops[first:last], right)
        is_kept = starts < stops
        return Area(self.rows[first:last][is_kept], starts[is_kept], stops[is_kept])

    def count_in_columns(self, top: int, bottom: int, lefts: _Ints, rights: _Ints) -> _Ints:
        """For each pair of columns the number of pixels at ``top <= y < bottom`` and ``left <= x < right``."""
        first, last = np.searchsorted(self.rows, (top, bottom))
        starts, stops = np.sort(self.starts[first:last]), np.sort(self.stops[first:last])
        return _count_left_of(rights, starts, stops) - _count_left_of(lefts, starts, stops)


def _count_left_of(columns: _Ints, starts: _Ints, stops: _Ints) -> _Ints:
    """For each column the number of pixels left of it, of runs whose ends were sorted independently."""
    # The sum over runs of max(0, column - start) - max(0, column - stop).
    total: _Ints = np.zeros(len(columns), np.int64)
    for ends, sign in ((starts, 1), (stops, -1)):
        sums = np.concatenate(([0], np.cumsum(ends)))
        before = np.searchsorted(ends, columns)
        total += sign * (before * columns - sums[before])
    return total


def parse_areas(
    within: Mapping[Any, Any] | None, extents: Mapping[Hashable, tuple[int, int]]
) -> dict[Hashable, Area] | None:
    """The area of each image; ``None`` for no restriction.

    Raises:
        PatchError: an image is not known, or its shapes are not valid; the message names it.
    """
    if within is None:
        return None
    if not isinstance(within, Mapping):
        raise PatchError(f"within={shorten(within)}; give a mapping from image ids to polygons or boxes")
    areas = {}
    for image_id, shapes in within.items():
        if image_id not in extents:
            raise PatchError(
                f"within names the image {shorten(image_id)}, which is not among the images of these patches"
            )
        with naming_image(image_id):
            areas[image_id] = Area.of(shapes, *extents[image_id])
    return areas


def _none() -> _Ints:
    return np.zeros(0, np.int64)


# -- shapes -> rings -----------------------------------------------------------------------------------------------


def _parse(shapes: Any) -> list[list[_Points]]:
    """The polygons in ``shapes``, each as its outer ring and its holes."""
    if hasattr(shapes, "to_ltrb"):  # kwimage.Boxes and Box
        return _boxes(shapes.to_ltrb().data)
    if hasattr(shapes, "to_shapely"):  # kwimage.Polygon and MultiPolygon
        return _parse(shapes.to_shapely())
    if hasattr(shapes, "geom_type"):
        return _parse_shapely(shapes)
    if isinstance(shapes, tuple) and len(shapes) == 2 and all(isinstance(item, slice) for item in shapes):
        rows, cols = shapes
        return _boxes((cols.start, rows.start, cols.stop, rows.stop))
    numbers = _to_numbers(shapes)
    if numbers is not None:
        return _boxes(numbers) if numbers.shape[-1] == 4 else [[_checked(numbers)]]
    if isinstance(shapes, (str, bytes, Mapping)) or not isinstance(shapes, Iterable):
        raise PatchError(f"{shorten(shapes)} is not a polygon or a box; give corners (n, 2) or boxes (x0, y0, x1, y1)")
    return [polygon for item in shapes for polygon in _parse(item)]


def _parse_shapely(shape: Any) -> list[list[_Points]]:
    if shape.geom_type == "Polygon":
        return [] if shape.is_empty else [[_checked(ring.coords) for ring in (shape.exterior, *shape.interiors)]]
    if hasattr(shape, "geoms"):
        return [polygon for item in shape.geoms for polygon in _parse_shapely(item)]
    raise PatchError(f"a {shape.geom_type} covers no pixels; give polygons")


def _to_numbers(value: Any) -> _Points | None:
    """An array of corners ``(n, 2)``, or of boxes ``(4,)`` or ``(n, 4)``; ``None`` for anything else."""
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    is_boxes = numbers.ndim in (1, 2) and numbers.shape[-1:] == (4,)
    return numbers if is_boxes or (numbers.ndim == 2 and numbers.shape[1] == 2 and len(numbers) >= 3) else None


def _boxes(boxes: Any) -> list[list[_Points]]:
    found = _checked(np.reshape(np.asarray(boxes, np.float64), (-1, 4)))
    inverted = found[(found[:, 2:] < found[:, :2]).any(axis=1)]
    if len(inverted):
        raise PatchError(
            f"the box {inverted[0].tolist()} is inverted; boxes are (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1"
        )
    return [[np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])] for x0, y0, x1, y1 in found]


def _checked(points: Any) -> _Points:
    found = np.asarray(points, np.float64)
    if not np.isfinite(found).all():
        raise PatchError(f"coordinates must be finite, got {shorten(found.tolist())}")
    return found


# -- rings -> runs -------------------------------------------------------------------------------------------------


def _runs_of(rings: Sequence[_Points], height: int, width: int) -> tuple[_Ints, _Ints, _Ints]:
    """The runs of pixels whose centres a polygon holds, by the even-odd rule along the centre line of each row."""
    rows, crossings = [], []
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring[:, :2], np.roll(ring[:, :2], -1, axis=0), strict=True):
            # Half open, so that a corner on a centre line counts for one of its two edges.
            top, bottom = np.clip(np.ceil(np.array([min(y0, y1), max(y0, y1)]) - 0.5), 0, height).astype(int)
            if top < bottom:
                crossed = np.arange(top, bottom)
                rows.append(crossed)
                crossings.append(x0 + (crossed + 0.5 - y0) * (x1 - x0) / (y1 - y0))
    if not rows:
        return _none(), _none(), _none()
    at, cross = np.concatenate(rows), np.concatenate(crossings)
    order = np.lexsort((cross, at))
    ends = np.clip(np.ceil(cross[order] - 0.5), 0, width).astype(np.int64)
    return at[order][::2], ends[::2], ends[1::2]


def _merge(rows: _Ints, starts: _Ints, stops: _Ints) -> tuple[_Ints, _Ints, _Ints]:
    """Join runs that overlap or touch."""
    is_kept = starts < stops
    keys = rows[is_kept] * _ROW
    firsts, lasts = keys + starts[is_kept], keys + stops[is_kept]
    order = np.argsort(firsts, kind="stable")
    firsts, lasts = firsts[order], lasts[order]
    if not len(firsts):
        return _none(), _none(), _none()
    # The end of all runs so far: those of rows above are smaller than any of this row.
    reached = np.maximum.accumulate(lasts)
    is_new = np.concatenate(([True], firsts[1:] > reached[:-1]))
    starts_at = np.flatnonzero(is_new)
    ends_at = np.concatenate((starts_at[1:], [len(firsts)])) - 1
    return firsts[is_new] // _ROW, firsts[is_new] % _ROW, reached[ends_at] % _ROW
