"""Sampling grids: the points of a source array at which the pixels of a result are taken."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RegionError, shorten
from .kernels import EPSILON, KERNELS

if TYPE_CHECKING:
    from .._typing import Array
    from .kernels import Interpolation

__all__ = ["Grid", "Sampling", "footprint", "resolve_scale", "to_shape"]


# A rotation this small moves pixels by less than a millionth in images of a million pixels: it is a rounding error.
_MAX_ROUNDING = 1e-12


@dataclass(slots=True)  # not frozen, which would add a microsecond to each
class Sampling:
    """The position of the pixels of a result along one axis of the source array.

    Attributes:
        start: the coordinate at which the first pixel begins.
        step: the extent of a pixel; more than 1 shrinks.
        count: the number of pixels.
    """

    start: float
    step: float
    count: int

    @property
    def is_pixel_aligned(self) -> bool:
        """Whether each pixel of the result is exactly one pixel of the array."""
        return abs(self.step - 1) < EPSILON and abs(self.start - round(self.start)) < EPSILON

    def rescaled(self, factor: float, origin: float = 0) -> Sampling:
        """The sampling in an array that is coarser by ``factor``, with coordinates from its pixel ``origin``."""
        return Sampling(self.start / factor - origin, self.step / factor, self.count)

    def footprint(self, extent: int | None, interpolation: Interpolation, *, antialias: bool) -> range:
        """The pixels of an axis of ``extent`` on which the result depends; ``None`` is an unbounded axis.

        Example:
            >>> Sampling(4.0, 2.0, 3).footprint(100, "linear", antialias=True)
            range(3, 11)
            >>> Sampling(4.0, 2.0, 3).footprint(100, "nearest", antialias=True)
            range(5, 10)
        """
        if not self.count:
            return range(0)
        centre = self.start + 0.5 * self.step
        return _footprint_along(
            centre, centre + (self.count - 1) * self.step, self.step if antialias else 1.0, extent, interpolation
        )


@dataclass(slots=True)  # not frozen, as above
class Grid:
    """The position of the pixels of a result in the source array.

    Attributes:
        src_from_out: the map ``(a, b, c, d, e, f)`` from the point ``(x, y)`` of the result to the point
            ``(a x + b y + c, d x + e y + f)`` of the array.
        shape: ``(height, width)`` of the result.

    Example:
        >>> grid = Grid((0.5, 0, 10, 0, 0.5, 20), (4, 4))
        >>> grid.axes
        (Sampling(start=20, step=0.5, count=4), Sampling(start=10, step=0.5, count=4))
        >>> Grid((0, 1, 0, -1, 0, 9), (4, 4)).axes is None
        True
    """

    src_from_out: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @classmethod
    def of_axes(cls, rows: Sampling, cols: Sampling) -> Grid:
        """The grid of one sampling for each axis."""
        return cls((cols.step, 0.0, cols.start, 0.0, rows.step, rows.start), (rows.count, cols.count))

    @classmethod
    def of_pixels(cls, rows: range, cols: range) -> Grid:
        """The grid of the array's pixels at ``rows`` x ``cols``, of step 1."""
        return cls((1.0, 0.0, cols.start, 0.0, 1.0, rows.start), (len(rows), len(cols)))

    @property
    def axes(self) -> tuple[Sampling, Sampling] | None:
        """The samplings in y and in x; ``None`` if the grid is rotated, sheared or mirrored."""
        a, b, c, d, e, f = self.src_from_out
        # Products of matrices that undo a rotation leave a tiny rest.
        if (b or d) and abs(b) + abs(d) > _MAX_ROUNDING * (
            abs(a) + abs(e)
        ):  # relative, so that it is the same for every crop
            return None
        return (Sampling(f, e, self.shape[0]), Sampling(c, a, self.shape[1])) if a > 0 and e > 0 else None

    @property
    def is_pixel_aligned(self) -> bool:
        """Whether each pixel of the result is exactly one pixel of the array: shifted, mirrored or turned by 90 degrees."""
        a, b, c, d, e, f = self.src_from_out
        if abs(abs(a) + abs(b) - 1) > EPSILON or abs(abs(d) + abs(e) - 1) > EPSILON:
            return False
        # Each row holds one 1 or -1, and they must be in different columns.
        if abs(a - round(a)) > EPSILON or abs(e - round(e)) > EPSILON or round(a) * round(e) == round(b) * round(d):
            return False
        # The centre of the first pixel, at 0.5, must map to a pixel centre. The sign of a step moves that centre.
        return _is_integer(c + (a + b - 1) / 2) and _is_integer(f + (d + e - 1) / 2)

    @property
    def steps(self) -> tuple[float, float]:
        """The extent of a pixel of the result in the array's y and x; more than 1 shrinks."""
        a, b, _, d, e, _ = self.src_from_out
        return (abs(e), abs(a)) if not b and not d else (math.hypot(d, e), math.hypot(a, b))

    def crop(self, rows: range, cols: range) -> Grid:
        """The part of the grid at ``rows`` x ``cols`` of the result, of step 1."""
        a, b, c, d, e, f = self.src_from_out
        x, y = cols.start, rows.start
        return Grid((a, b, a * x + b * y + c, d, e, d * x + e * y + f), (len(rows), len(cols)))

    def rescaled(self, factor_y: float, factor_x: float, top: float = 0, left: float = 0) -> Grid:
        """The grid in an array that is coarser by these factors, with coordinates from its pixel (``top``, ``left``)."""
        a, b, c, d, e, f = self.src_from_out
        return Grid(
            (a / factor_x, b / factor_x, c / factor_x - left, d / factor_y, e / factor_y, f / factor_y - top),
            self.shape,
        )

    def transformed(self, affine: tuple[float, float, float, float, float, float]) -> Grid:
        """The grid in another array, whose points are those of this array mapped by ``affine``."""
        a, b, c, d, e, f = self.src_from_out
        p, q, r, s, t, u = affine
        return Grid(
            (
                p * a + q * d,
                p * b + q * e,
                p * c + q * f + r,
                s * a + t * d,
                s * b + t * e,
                s * c + t * f + u,
            ),
            self.shape,
        )

    def footprint(
        self, shape: tuple[int, int], interpolation: Interpolation, *, antialias: bool
    ) -> tuple[range, range]:
        """The rows and columns of an array of ``shape`` on which the result depends."""
        return footprint(self, shape, interpolation, self.steps if antialias else (1.0, 1.0))

    def footprint_inside(
        self, shape: tuple[int, int], interpolation: Interpolation, *, antialias: bool
    ) -> tuple[range, range] | None:
        """As :meth:`footprint`, but ``None`` if the result is empty or the centre of one of its pixels is outside."""
        if not self.shape[0] or not self.shape[1]:
            return None
        (top, bottom), (left, right) = self.centre_bounds()
        height, width = shape
        if min(top, left) < -EPSILON or bottom > height + EPSILON or right > width + EPSILON:
            return None
        return self.footprint(shape, interpolation, antialias=antialias)

    def centre_bounds(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The lowest and highest y of the centres of its pixels in the array, then x."""
        a, b, c, d, e, f = self.src_from_out
        height, width = self.shape
        return _span(d, e, f, width, height), _span(a, b, c, width, height)

    def centres(self) -> tuple[Array, Array]:
        """The y and the x of each pixel's centre in the array; float64 arrays that broadcast to the grid's shape."""
        a, b, c, d, e, f = self.src_from_out
        y, x = np.arange(self.shape[0])[:, None] + 0.5, np.arange(self.shape[1]) + 0.5
        return (d * x + (e * y + f)) if d else (e * y + f), (a * x + (b * y + c)) if b else (a * x + c)

    def centres_inside(self, height: float, width: float) -> Array | bool:
        """Which pixels have their centre in an array of ``height`` x ``width``: ``True`` or ``False`` for all, or a mask."""
        bounds, extents = self.centre_bounds(), (height, width)
        ends = [
            (low >= -EPSILON, high <= extent + EPSILON) for (low, high), extent in zip(bounds, extents, strict=True)
        ]
        # Most grids are inside or outside as a whole, and need no mask.
        if all(map(all, ends)):
            return True
        if any(high < -EPSILON or low > extent + EPSILON for (low, high), extent in zip(bounds, extents, strict=True)):
            return False
        y, x = self.centres()
        return (((y >= -EPSILON) & (y <= height + EPSILON)) & ((x >= -EPSILON) & (x <= width + EPSILON))) & np.ones(
            self.shape, bool
        )


def resolve_scale(
    rows: range, cols: range, scale: float | tuple[float, float] | None, shape: tuple[int, int] | None
) -> tuple[Sampling, Sampling]:
    """The samplings of a scaled region, in y and in x.

    Args:
        rows: the region's rows, of step 1.
        cols: the region's columns, of step 1.
        scale: the ratio of the result's extent to the region's, one number or ``(y, x)``. A pixel of the result covers
            exactly ``1 / scale`` pixels of the image. The number of pixels is rounded, halves up. Where it would be 0, it is 1,
            and that pixel covers exactly the region.
        shape: ``(height, width)`` of the result, which then covers exactly the region.

    Raises:
        RegionError: ``scale`` and ``shape`` are both given, the given one is not positive, or the region has steps or no
            pixels.
    """
    if rows.step != 1 or cols.step != 1:
        raise RegionError("a scaled region must consist of slices without steps in y and x")
    if scale is not None and shape is not None:
        raise RegionError(f"scale={shorten(scale)} and shape={shorten(shape)} are both given; give one of them")
    if shape is not None:
        height, width = to_shape(shape)
        return _fit(rows, height), _fit(cols, width)
    scale_y, scale_x = _to_scales(scale)
    return _stretch(rows, scale_y), _stretch(cols, scale_x)


def to_shape(shape: object) -> tuple[int, int]:
    """``(height, width)`` of a result as two ints.

    Raises:
        RegionError: the value is not a pair of whole numbers of at least 1.
    """
    if (
        isinstance(shape, (tuple, list))
        and len(shape) == 2
        and not any(isinstance(extent, (bool, np.bool_)) for extent in shape)
    ):
        try:
            height, width = map(operator.index, shape)
        except TypeError:
            height = width = 0
        if min(height, width) > 0:
            return height, width
    raise RegionError(
        f"shape={shorten(shape)}; give (height, width) of the result in whole pixels, as integers of at least 1"
    )


def footprint(
    grid: Grid, shape: tuple[int, int], interpolation: Interpolation, factors: tuple[float, float]
) -> tuple[range, range]:
    """The rows and columns of an array of ``shape`` on which the pixels of a grid depend."""
    (top, bottom), (left, right) = grid.centre_bounds()
    rows = _footprint_along(top, bottom, factors[0], shape[0], interpolation)
    return rows, _footprint_along(left, right, factors[1], shape[1], interpolation)


def _footprint_along(low: float, high: float, step: float, extent: int | None, interpolation: Interpolation) -> range:
    """The pixels of an axis of ``extent`` on which points from ``low`` to ``high`` depend; at least one."""
    if interpolation == "nearest":
        first, last = math.floor(low + EPSILON), math.floor(high + EPSILON)
    else:
        # Pixels at exactly the radius have no weight. EPSILON keeps rounding errors from adding them.
        radius = KERNELS[interpolation][1] * max(1.0, step)
        first = math.floor(low - 0.5 - radius + EPSILON) + 1
        last = math.floor(high - 0.5 - radius + EPSILON) + math.ceil(2 * radius - EPSILON)
    if extent is not None:
        # Points outside use border pixels, so at least one pixel remains.
        first, last = min(max(first, 0), extent - 1), min(max(last, 0), extent - 1)
    return range(first, last + 1)


def _is_integer(number: float) -> bool:
    return abs(number - round(number)) < EPSILON


def _span(per_x: float, per_y: float, offset: float, width: int, height: int) -> tuple[float, float]:
    """The lowest and highest value of ``per_x * x + per_y * y + offset`` over the centres of ``width`` x ``height`` pixels."""
    low = high = offset + (per_x + per_y) / 2
    # A linear function has its extremes at corners, and each term is independent.
    for along in (per_x * (width - 1), per_y * (height - 1)):
        if along < 0:
            low += along
        else:
            high += along
    return low, high


def _to_scales(scale: Any) -> tuple[float, float]:
    pair = tuple(scale) if isinstance(scale, (tuple, list)) else (scale, scale)
    if len(pair) == 2 and all(isinstance(item, Real) and not isinstance(item, bool) for item in pair):
        factors = float(pair[0]), float(pair[1])
        if all(0 < factor < math.inf for factor in factors):
            return factors
    raise RegionError(f"scale={shorten(scale)}; give a positive number, or a pair (y, x)")


def _fit(axis: range, count: int) -> Sampling:
    if not axis:
        raise RegionError("an empty region cannot be scaled to a shape")
    return Sampling(axis.start, len(axis) / count, count)


def _stretch(axis: range, factor: float) -> Sampling:
    # Not round(), which rounds halves to even: the extents of similar regions would differ.
    count = math.floor(len(axis) * factor + 0.5)
    # A pixel that covers more than twice the region would have its centre outside.
    return _fit(axis, 1) if axis and not count else Sampling(axis.start, 1 / factor, count)
