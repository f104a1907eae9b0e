"""Resampling: arrays in, arrays out.

Coordinates follow pixel corners: pixel ``i`` covers ``[i, i + 1)``, its centre is at ``i + 0.5``. What lies outside an
array is its nearest pixel; whether a point lies outside is told apart from that, by :meth:`Grid.inside`.

A result is made in blocks, each from just the window of the array under it, so the memory that it takes does not grow with
the array, and no pixel depends on which crop it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np

from ._process import IMPORTING
from .errors import RegionError, shorten
from .regions import to_index

__all__ = [
    "INTERPOLATIONS",
    "Block",
    "Grid",
    "Interpolation",
    "Plane",
    "Sampling",
    "Stencil",
    "apply_stencils",
    "find_stencil",
    "resample",
    "resolve_scale",
    "sample",
    "to_shape",
    "warp",
]

Array = np.ndarray[Any, np.dtype[Any]]
_Indices = np.ndarray[Any, np.dtype[np.intp]]

#: How a value between pixels is found: the pixel that holds the point, or a mean of its neighbours, 2, 4 or 8 an axis.
Interpolation = Literal["nearest", "linear", "cubic", "lanczos"]
INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos")

# Steps and starts come from divisions; what is so close to a whole number was meant to be one.
_EPSILON = 1e-9
# Less than a millionth of a pixel in images of a million: by rounding, and not meant as a rotation.
_STRAIGHT = 1e-12
# OpenCV takes threads of its own for more pixels than these.
_MOST_BLOCK_PX = 1 << 16
# Points in windows of that size are told apart to 2**-16 of a pixel by 32-bit floats; a number this large, added and taken
# away again, rounds 64-bit ones to that.
_MOST_EXTENT_PX = 256
_SNAP = 1.5 * 2**36
# Of so many bands OpenCV is exact; else it goes in steps of 1/32 of a pixel.
_EXACT_BANDS = (1, 3, 4)
_WINDOW_BYTES = 16 * 2**20
_ENOUGH = 0.5 - 1e-6


# -- where the pixels of a result lie -----------------------------------------------------------------------------


@dataclass(slots=True)  # not frozen: each would take a microsecond longer to make
class Sampling:
    """Where along one axis the pixels of a result lie in the array that they are taken from.

    Attributes:
        start: the corner at which the first one begins.
        step: how long each is: over 1 shrinks.
        count: how many there are.
    """

    start: float
    step: float
    count: int

    @property
    def is_whole(self) -> bool:
        """Whether the result's pixels are pixels of the array."""
        return abs(self.step - 1) < _EPSILON and abs(self.start - round(self.start)) < _EPSILON

    def in_plane(self, factor: float, origin: float = 0) -> Sampling:
        """The same in an array that is ``factor`` times as coarse, counted from its pixel ``origin``."""
        return Sampling(self.start / factor - origin, self.step / factor, self.count)

    def footprint(self, extent: int | None, interpolation: Interpolation, *, antialias: bool) -> range:
        """The pixels of an axis of ``extent`` that the result is made of; of an endless axis for ``None``.

        Example:
            >>> Sampling(4.0, 2.0, 3).footprint(100, "linear", antialias=True)
            range(3, 11)
            >>> Sampling(4.0, 2.0, 3).footprint(100, "nearest", antialias=True)
            range(5, 10)
        """
        if not self.count:
            return range(0)
        centre = self.start + 0.5 * self.step
        return _reach(
            centre, centre + (self.count - 1) * self.step, self.step if antialias else 1.0, extent, interpolation
        )


@dataclass(slots=True)  # likewise
class Grid:
    """Where the pixels of a result lie in the array that they are taken from, in both axes.

    Attributes:
        matrix: ``(a, b, c, d, e, f)``: the result's point ``(x, y)`` is the array's ``(a x + b y + c, d x + e y + f)``.
        shape: ``(height, width)`` of the result.

    Example:
        >>> grid = Grid((0.5, 0, 10, 0, 0.5, 20), (4, 4))
        >>> grid.axes
        (Sampling(start=20, step=0.5, count=4), Sampling(start=10, step=0.5, count=4))
        >>> Grid((0, 1, 0, -1, 0, 9), (4, 4)).axes is None
        True
    """

    matrix: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @classmethod
    def of_axes(cls, rows: Sampling, cols: Sampling) -> Grid:
        """The grid of two axes."""
        return cls((cols.step, 0.0, cols.start, 0.0, rows.step, rows.start), (rows.count, cols.count))

    @classmethod
    def of_pixels(cls, rows: range, cols: range) -> Grid:
        """The grid of the array's own pixels at ``rows`` x ``cols``, of step 1."""
        return cls((1.0, 0.0, cols.start, 0.0, 1.0, rows.start), (len(rows), len(cols)))

    @property
    def axes(self) -> tuple[Sampling, Sampling] | None:
        """The sampling in y and in x; ``None`` where the grid is rotated, sheared or mirrored."""
        a, b, c, d, e, f = self.matrix
        if (b or d) and abs(b) + abs(d) > _STRAIGHT * (abs(a) + abs(e)):  # the same for every crop
            return None
        return (Sampling(f, e, self.shape[0]), Sampling(c, a, self.shape[1])) if a > 0 and e > 0 else None

    @property
    def is_whole(self) -> bool:
        """Whether every pixel of the result is one of the array's, in whatever order: shifted, mirrored, turned."""
        a, b, c, d, e, f = self.matrix
        if abs(abs(a) + abs(b) - 1) > _EPSILON or abs(abs(d) + abs(e) - 1) > _EPSILON:
            return False
        if abs(a - round(a)) > _EPSILON or abs(e - round(e)) > _EPSILON or round(a) * round(e) == round(b) * round(d):
            return False
        return _is_integer(c + (a + b - 1) / 2) and _is_integer(f + (d + e - 1) / 2)

    @property
    def steps(self) -> tuple[float, float]:
        """How far one pixel of the result goes in the array's y and x: over 1 shrinks."""
        a, b, _, d, e, _ = self.matrix
        return (abs(e), abs(a)) if not b and not d else (math.hypot(d, e), math.hypot(a, b))

    def cut(self, rows: range, cols: range) -> Grid:
        """The part at ``rows`` x ``cols``, of step 1."""
        a, b, c, d, e, f = self.matrix
        x, y = cols.start, rows.start
        return Grid((a, b, a * x + b * y + c, d, e, d * x + e * y + f), (len(rows), len(cols)))

    def in_plane(self, factor_y: float, factor_x: float, top: float = 0, left: float = 0) -> Grid:
        """The same in an array so many times as coarse, counted from its pixel (``top``, ``left``)."""
        a, b, c, d, e, f = self.matrix
        return Grid(
            (a / factor_x, b / factor_x, c / factor_x - left, d / factor_y, e / factor_y, f / factor_y - top),
            self.shape,
        )

    def through(self, affine: tuple[float, float, float, float, float, float]) -> Grid:
        """The same in another array, to whose points ``affine`` brings those of this one."""
        a, b, c, d, e, f = self.matrix
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
        """The rows and columns of an array of ``shape`` that the result is made of."""
        return _footprint(self, shape, interpolation, self.steps if antialias else (1.0, 1.0))

    def footprint_inside(
        self, shape: tuple[int, int], interpolation: Interpolation, *, antialias: bool
    ) -> tuple[range, range] | None:
        """As :meth:`footprint`; ``None`` where a pixel of the result has its centre outside, or there is none."""
        if not self.shape[0] or not self.shape[1]:
            return None
        (top, bottom), (left, right) = self.spans()
        height, width = shape
        if min(top, left) < -_EPSILON or bottom > height + _EPSILON or right > width + _EPSILON:
            return None
        return self.footprint(shape, interpolation, antialias=antialias)

    def spans(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The smallest and largest y, and x, of the centres of its pixels."""
        a, b, c, d, e, f = self.matrix
        height, width = self.shape
        return _span(d, e, f, width, height), _span(a, b, c, width, height)

    def centres(self) -> tuple[Array, Array]:
        """The y and x of each pixel's centre in the array, float64, which broadcast to the grid's shape."""
        a, b, c, d, e, f = self.matrix
        y, x = np.arange(self.shape[0])[:, None] + 0.5, np.arange(self.shape[1]) + 0.5
        return (d * x + (e * y + f)) if d else (e * y + f), (a * x + (b * y + c)) if b else (a * x + c)

    def inside(self, height: float, width: float) -> Array | bool:
        """Which pixels have their centre in an array of ``height`` x ``width``: ``True`` or ``False`` for all, or each."""
        spans, extents = self.spans(), (height, width)
        ends = [
            (low >= -_EPSILON, high <= extent + _EPSILON) for (low, high), extent in zip(spans, extents, strict=True)
        ]
        if all(map(all, ends)):
            return True
        if any(high < -_EPSILON or low > extent + _EPSILON for (low, high), extent in zip(spans, extents, strict=True)):
            return False
        y, x = self.centres()
        return (((y >= -_EPSILON) & (y <= height + _EPSILON)) & ((x >= -_EPSILON) & (x <= width + _EPSILON))) & np.ones(
            self.shape, bool
        )


def resolve_scale(
    rows: range, cols: range, scale: float | tuple[float, float] | None, shape: tuple[int, int] | None
) -> tuple[Sampling, Sampling]:
    """Where the pixels of a scaled region lie in the image, in y and in x.

    Args:
        rows: the region's rows, of step 1.
        cols: the region's columns, likewise.
        scale: the result's size over the region's, one number or ``(y, x)``. The result has as many pixels as come
            nearest to that, halves up and one at least, and each covers exactly ``1 / scale`` of the image's.
        shape: the result's ``(height, width)``, which then covers exactly the region.

    Raises:
        RegionError: both are given, or neither is positive, or the region has steps or no pixels.
    """
    if rows.step != 1 or cols.step != 1:
        raise RegionError("a region that is scaled is made of slices without steps in y and x")
    if scale is not None and shape is not None:
        raise RegionError(f"scale={shorten(scale)} and shape={shorten(shape)} are given; one of them says it all")
    if shape is not None:
        height, width = to_shape(shape)
        return _fit(rows, height), _fit(cols, width)
    scale_y, scale_x = _to_scales(scale)
    return _stretch(rows, scale_y), _stretch(cols, scale_x)


def to_shape(shape: object) -> tuple[int, int]:
    """A result's ``(height, width)`` as two ints.

    Raises:
        RegionError: it is no pair of whole numbers, 1 or more each.
    """
    if isinstance(shape, (tuple, list)) and len(shape) == 2:
        extents = [to_index(extent, axis) for axis, extent in enumerate(shape)]
        if min(extents) > 0:
            return extents[0], extents[1]
    raise RegionError(f"shape={shorten(shape)}; give the result's (height, width) in whole pixels, 1 or more each")


# -- sampling -----------------------------------------------------------------------------------------------------


class Plane(NamedTuple):
    """An array of which windows are read.

    Attributes:
        shape: ``(height, width)``.
        extent: up to where it counts as inside, in y and in x: less than ``shape`` where its last pixels stick out.
        pixel_bytes: what a pixel of a window takes, all bands.
        read: given rows and columns of step 1, a window ``(height, width, bands)``, and which of its values are missing:
            a mask of the same shape, or ``None``.
    """

    shape: tuple[int, int]
    extent: tuple[float, float]
    pixel_bytes: int
    read: Callable[[range, range], tuple[Array, Array | None]]

    @classmethod
    def of(cls, pixels: Array) -> Plane:
        """An array that lies in memory, in which nothing is missing."""
        height, width, bands = pixels.shape

        def read(rows: range, cols: range) -> tuple[Array, None]:
            return pixels[rows.start : rows.stop, cols.start : cols.stop], None

        return cls((height, width), (height, width), bands * pixels.itemsize, read)


class Block(NamedTuple):
    """A part of a result.

    Attributes:
        rows: where it lies.
        cols: likewise.
        pixels: ``(height, width, bands)``, in the dtype of the windows; ``None`` where all of it is outside.
        missing: which values are missing: a mask of the same shape, or ``None``.
        inside: which pixels have their centre inside: ``True`` for all, or a mask ``(height, width)``.
    """

    rows: slice
    cols: slice
    pixels: Array | None
    missing: Array | None
    inside: Array | bool


def warp(plane: Plane, grid: Grid, interpolation: Interpolation, *, antialias: bool) -> Iterator[Block]:
    """Sample an array anew, a block of the result at a time.

    - Where every pixel of the result is one of the array's, they are taken as they are.
    - ``"cubic"`` is the kernel through the points and with the slopes of its neighbours (Catmull and Rom, a = -0.5, as in GDAL
      and Pillow), so planes and parabolas come out exact; ``"lanczos"`` has eight pixels an axis.
    - With ``antialias``, where the result is coarser, the kernel is as much wider along the array's axes, as Pillow and torch
      do it; for a rotated grid that is done first, to pixels counted from the array's corner.
    - What is missing counts for nothing: a value is the mean of those that are there, and missing itself where they have
      less than half of the weight. Not-a-numbers are missing.
    - Sums are taken in float32 for 8 and 16 bits, else in float64; integers are rounded to the nearest; booleans are true from
      one half on.

    Args:
        plane: what is sampled.
        grid: where.
        interpolation: see :data:`Interpolation`.
        antialias: whether shrinking averages.

    Example:
        >>> ramp = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
        >>> grid = Grid((2, 0, 0, 0, 1, 0), (1, 4))
        >>> [block.pixels[0, :, 0].tolist() for block in warp(Plane.of(ramp), grid, "linear", antialias=True)]
        [[1, 3, 5, 6]]
    """
    if grid.is_whole:
        interpolation = "nearest"
    steps = grid.steps
    factors = (max(1.0, steps[0]), max(1.0, steps[1])) if antialias and interpolation != "nearest" else (1.0, 1.0)
    for rows, cols in _cut(grid.shape, steps, plane.pixel_bytes):
        part = grid.cut(rows, cols)
        inside = part.inside(*plane.extent)
        where = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
        if inside is False:
            yield Block(*where, None, None, inside)
        else:
            yield Block(*where, *_sample(plane, part, interpolation, factors), inside)


def resample(pixels: Array, rows: Sampling, cols: Sampling, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Sample an array ``(h, w, c)`` anew along y and x, all of it at once; see :func:`warp`.

    Returns:
        A new array ``(rows.count, cols.count, c)`` of the same dtype.

    Example:
        >>> ramp = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
        >>> resample(ramp, Sampling(0, 1, 1), Sampling(2, 0.5, 4), "nearest", antialias=False)[0, :, 0].tolist()
        [2, 2, 3, 3]
    """
    down, across = (
        _stencil_of(sampling, interpolation, antialias=antialias, dtype=pixels.dtype) for sampling in (rows, cols)
    )
    return apply_stencils(pixels, down, across, rows_first=rows.step > 1, may_overshoot=interpolation != "linear")


def sample(pixels: Array, grid: Grid, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Sample an array ``(h, w, c)`` anew, all of it at once, where it is the whole footprint of a grid; see :func:`warp`.

    A grid that is rotated must not be coarser than the array: shrinking takes :func:`warp`.
    """
    if grid.is_whole:
        return _take(pixels, grid)
    axes = grid.axes
    if axes is not None:
        return resample(pixels, *axes, interpolation, antialias=antialias)
    return _take(pixels, grid) if interpolation == "nearest" else _interpolate(pixels, grid, interpolation)


class Stencil(NamedTuple):
    """What the pixels of a result are made of along one axis, wherever it begins, as long as it is at that fraction of a pixel.

    Attributes:
        first: the first pixel of the array, counted from the one in which the result begins.
        extent: how many pixels there are from it to the last one.
        indices: one array a tap, counted from ``first``; a single one where pixels are taken as they are.
        weights: of the taps, none where pixels are taken as they are.
    """

    first: int
    extent: int
    indices: list[_Indices]
    weights: list[Array]


@lru_cache(maxsize=1024)
def find_stencil(
    fraction: float, step: float, count: int, interpolation: Interpolation, *, antialias: bool, dtype: np.dtype[Any]
) -> Stencil:
    """The stencil of ``count`` pixels of ``step`` each that begin at ``fraction``, from 0 to 1, for pixels of ``dtype``."""
    stencil = _stencil_of(Sampling(fraction, step, count), interpolation, antialias=antialias, dtype=dtype)
    first, last = int(stencil.indices[0].min()), int(stencil.indices[-1].max())
    return stencil._replace(first=first, extent=last - first + 1, indices=[each - first for each in stencil.indices])


def _stencil_of(sampling: Sampling, interpolation: Interpolation, *, antialias: bool, dtype: np.dtype[Any]) -> Stencil:
    """What a sampling is made of, counted from the array's first pixel; what lies outside is the first one or the last."""
    if sampling.is_whole:
        interpolation = "nearest"
    indices, weights = _taps_of(sampling, interpolation, antialias, _work_dtype(dtype).type(0).real.dtype)
    return Stencil(0, 0, indices, weights)


def apply_stencils(pixels: Array, down: Stencil, across: Stencil, *, rows_first: bool, may_overshoot: bool) -> Array:
    """Sample an array ``(h, w, c)`` along y and x; ``rows_first`` where that leaves fewer numbers for the second axis."""
    sums = pixels.astype(_work_dtype(pixels.dtype)) if down.weights or across.weights else pixels
    with _quiet() if pixels.dtype.kind in "fc" else nullcontext():
        for is_down in (True, False) if rows_first else (False, True):
            if is_down:
                sums = _weigh(sums, down)
            elif across.weights:  # rows are copied in one piece, so columns are made rows
                turned = _weigh(np.ascontiguousarray(sums.transpose(1, 0, 2)), across)
                sums = np.ascontiguousarray(turned.transpose(1, 0, 2))
            else:
                sums = sums.take(across.indices[0], axis=1, mode="clip")
    return _round(sums, pixels.dtype, may_overshoot=may_overshoot)


def _cut(shape: tuple[int, int], steps: tuple[float, float], pixel_bytes: int) -> Iterator[tuple[range, range]]:
    """Blocks of a result, of which neither they nor the windows under them take much memory; one, where that suffices."""
    height, width = shape
    row_step, col_step = max(1.0, steps[0]), max(1.0, steps[1])
    budget_px = _WINDOW_BYTES / pixel_bytes / (row_step * col_step)
    if height * width <= budget_px:
        yield range(height), range(width)
        return
    down = min(height, max(1, int(math.sqrt(budget_px * col_step / row_step))))
    across = min(width, max(1, int(budget_px / down)))
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield range(top, min(top + down, height)), range(left, min(left + across, width))


def _sample(
    plane: Plane, grid: Grid, interpolation: Interpolation, factors: tuple[float, float]
) -> tuple[Array, Array | None]:
    """One block's pixels, and which are missing."""
    shrinks = max(factors) > 1 + _EPSILON
    if grid.axes is not None or not shrinks:
        rows, cols = _footprint(grid, plane.shape, interpolation, factors)
        window, missing = plane.read(rows, cols)
        local = grid.in_plane(1, 1, rows.start, cols.start)
        if interpolation == "nearest":
            return _take(window, local), None if missing is None else _take(missing, local)
        return _mend(window, missing, lambda pixels: sample(pixels, local, interpolation, antialias=shrinks))
    coarse_shape = math.ceil(plane.shape[0] / factors[0]), math.ceil(plane.shape[1] / factors[1])
    coarse = grid.in_plane(*factors)
    rows, cols = _footprint(coarse, coarse_shape, interpolation, (1.0, 1.0))
    samplings = [
        Sampling(axis.start * factor, factor, len(axis)) for axis, factor in zip((rows, cols), factors, strict=True)
    ]
    under = [
        sampling.footprint(extent, interpolation, antialias=True)
        for sampling, extent in zip(samplings, plane.shape, strict=True)
    ]
    along = samplings[0].in_plane(1, under[0].start), samplings[1].in_plane(1, under[1].start)
    local = coarse.in_plane(1, 1, rows.start, cols.start)
    window, missing = plane.read(under[0], under[1])

    def shrink(pixels: Array) -> Array:
        sums = pixels.astype(_point_dtype(pixels.dtype))
        sums = resample(sums, *along, interpolation, antialias=True)
        return _round(_interpolate(sums, local, interpolation), pixels.dtype)

    return _mend(window, missing, shrink)


def _footprint(
    grid: Grid, shape: tuple[int, int], interpolation: Interpolation, factors: tuple[float, float]
) -> tuple[range, range]:
    """The window of an array of ``shape`` that a grid's pixels are made of."""
    (top, bottom), (left, right) = grid.spans()
    rows = _reach(top, bottom, factors[0], shape[0], interpolation)
    return rows, _reach(left, right, factors[1], shape[1], interpolation)


def _mend(window: Array, missing: Array | None, sample: Callable[[Array], Array]) -> tuple[Array, Array | None]:
    """Sample a window of which values may be missing."""
    if missing is None and window.dtype.kind in "fc" and window.size and np.isnan(window.min()):
        missing = np.isnan(window)
    if missing is None or not missing.any():
        out = sample(window)
        return out, None if missing is None else np.zeros(out.shape, bool)
    work = _point_dtype(window.dtype)
    sums = sample(np.where(missing, 0, window).astype(work))
    weights = sample((~missing).astype(work.type(0).real.dtype))
    gone = weights < _ENOUGH
    weights[gone] = 1
    with _quiet():
        values = _round(sums / weights, window.dtype)
    if window.dtype.kind in "fc":
        values[gone] = np.nan
    return values, gone


def _is_slow(dtype: np.dtype[Any], interpolation: Interpolation) -> bool:
    """Whether OpenCV leaves this to numpy."""
    return interpolation != "linear" or dtype not in _QUICK_AS or not _is_exact()


def _interpolate(pixels: Array, grid: Grid, interpolation: Interpolation) -> Array:
    """Points of a window, each from its nearest neighbours; outside are the window's own border pixels."""
    block_px = int(_MOST_EXTENT_PX / max(1.0, *grid.steps) / math.sqrt(2)) - 4
    if _is_slow(pixels.dtype, interpolation) or block_px < 1:
        return _round(_gather(pixels.astype(_point_dtype(pixels.dtype)), grid, interpolation), pixels.dtype)
    quick = pixels.astype(_QUICK_AS[pixels.dtype], copy=False)
    height, width = grid.shape
    if max(quick.shape[:2]) <= _MOST_EXTENT_PX and height * width <= _MOST_BLOCK_PX and quick.shape[2] in _EXACT_BANDS:
        return _round(_remap(quick, grid).reshape(*grid.shape, -1), pixels.dtype)
    out = np.empty((height, width, quick.shape[2]), quick.dtype)
    for top in range(0, height, block_px):
        for left in range(0, width, block_px):
            bottom, right = min(top + block_px, height), min(left + block_px, width)
            part = grid.cut(range(top, bottom), range(left, right))
            near_rows, near_cols = _footprint(part, quick.shape[:2], "linear", (1.0, 1.0))
            near = quick[near_rows.start : near_rows.stop, near_cols.start : near_cols.stop]
            local = part.in_plane(1, 1, near_rows.start, near_cols.start)
            target = out[top:bottom, left:right]
            for first, count in _groups(quick.shape[2]):
                bands = slice(first, first + count)
                target[:, :, bands] = _remap(near[:, :, bands], local).reshape(*local.shape, count)
    return _round(out, pixels.dtype)


def _take(pixels: Array, grid: Grid) -> Array:
    """The pixels of a window that hold the points; outside are its border pixels."""
    axes = grid.axes
    if axes is not None:
        return resample(pixels, *axes, "nearest", antialias=False)
    y, x = grid.centres()
    rows = np.floor(y + _EPSILON).astype(np.intp).clip(0, pixels.shape[0] - 1)
    cols = np.floor(x + _EPSILON).astype(np.intp).clip(0, pixels.shape[1] - 1)
    taken: Array = pixels[rows, cols]
    return taken


def _remap(pixels: Array, grid: Grid) -> Array:
    """Linear interpolation by OpenCV, of which pixel 0 has its centre at 0.

    It takes points as 32-bit floats. They are rounded to multiples of 2**-16 before, which those hold for windows of up to
    256 pixels: so a point is the same in every window that it lies in, and so is its value, to the bit.
    """
    cv2 = _opencv()
    a, b, c, d, e, f = grid.matrix
    x, y = np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0])[:, None] + 0.5
    points = []
    exact = np.empty(grid.shape)
    for along_x, along_y, offset in ((a, b, c - 0.5), (d, e, f - 0.5)):
        exact[...] = along_x * x
        exact += along_y * y + offset
        exact += _SNAP
        exact -= _SNAP
        points.append(exact.astype(np.float32))
    warped: Array = cv2.remap(pixels, *points, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped


def _groups(band_count: int) -> Iterator[tuple[int, int]]:
    """Bands from which on, and how many, as OpenCV takes them."""
    first = 0
    while first < band_count:
        left = band_count - first
        count = 4 if left >= 4 else left if left in _EXACT_BANDS else 1
        yield first, count
        first += count


def _gather(sums: Array, grid: Grid, interpolation: Interpolation) -> Array:
    """Points of a window by any kernel, in the window's own dtype."""
    kernel, radius = _KERNELS[interpolation]
    height, width, bands = sums.shape
    flat = sums.reshape(height * width, bands)
    out = np.zeros((*grid.shape, bands), sums.dtype)
    y, x = np.broadcast_arrays(*grid.centres())
    first_rows, first_cols = _first_tap(y, radius), _first_tap(x, radius)
    down = _point_weights(kernel, radius, y, first_rows, sums.dtype)
    across = _point_weights(kernel, radius, x, first_cols, sums.dtype)
    all_cols = [(first_cols + col).clip(0, width - 1) for col in range(2 * radius)]
    for row, row_weights in enumerate(down):
        starts = (first_rows + row).clip(0, height - 1) * width
        line: Array | None = None
        for cols, col_weights in zip(all_cols, across, strict=True):
            term = flat.take(starts + cols, axis=0)
            term *= col_weights[..., None]
            line = term if line is None else np.add(line, term, out=line)
        assert line is not None  # noqa: S101
        line *= row_weights[..., None]
        out += line
    return out


def _point_weights(kernel: _Kernel, radius: int, centres: Array, first: _Indices, dtype: np.dtype[Any]) -> list[Array]:
    """The weights of the pixels around each point, one array a tap, which add up to 1."""
    weights = [kernel(np.abs(first + (tap + 0.5) - centres)) for tap in range(2 * radius)]
    total = sum(weights)
    real = dtype.type(0).real.dtype
    return [(each / total).astype(real) for each in weights]


def _first_tap(centres: Any, radius: float) -> _Indices:
    """The first pixel of which the centre lies within ``radius`` of each point."""
    first: _Indices = np.floor(centres - 0.5 - radius + _EPSILON).astype(np.intp) + 1
    return first


def _reach(low: float, high: float, step: float, extent: int | None, interpolation: Interpolation) -> range:
    """The pixels of an axis of ``extent`` that points from ``low`` to ``high`` are made of; one at least."""
    if interpolation == "nearest":
        first, last = math.floor(low + _EPSILON), math.floor(high + _EPSILON)
    else:
        radius = _KERNELS[interpolation][1] * max(1.0, step)
        first = math.floor(low - 0.5 - radius + _EPSILON) + 1
        last = math.floor(high - 0.5 - radius + _EPSILON) + math.ceil(2 * radius - _EPSILON)
    if extent is not None:
        first, last = min(max(first, 0), extent - 1), min(max(last, 0), extent - 1)
    return range(first, last + 1)


def _taps_of(
    sampling: Sampling,
    interpolation: Interpolation,
    antialias: bool,
    dtype: Any,
) -> tuple[list[_Indices], list[Array]]:
    """The pixels that those of the result are made of, an array a tap; and their weights.

    They are the same for all samplings that begin at the same fraction of a pixel, which is so for most crops of an image of
    which the scale is a round number: crops begin within the first pixels of their windows.
    """
    return _taps(round(sampling.start, 12), sampling.step, sampling.count, interpolation, antialias, dtype)


@lru_cache(maxsize=512)
def _taps(
    start: float, step: float, count: int, interpolation: Interpolation, antialias: bool, dtype: Any
) -> tuple[list[_Indices], list[Array]]:
    centres = start + (np.arange(count) + 0.5) * step
    if interpolation == "nearest":
        return [np.floor(centres + _EPSILON).astype(np.intp)], []
    kernel, support = _KERNELS[interpolation]
    stretch = max(1.0, step) if antialias else 1.0
    indices = _first_tap(centres, support * stretch)[:, None] + np.arange(math.ceil(2 * support * stretch - _EPSILON))
    weights = kernel(np.abs(indices + 0.5 - centres[:, None]) / stretch)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    taps = range(indices.shape[1])
    return (
        [np.ascontiguousarray(indices[:, tap]) for tap in taps],
        [np.ascontiguousarray(weights[:, tap])[:, None, None] for tap in taps],
    )


def _weigh(pixels: Array, stencil: Stencil) -> Array:
    """Means of rows, or rows as they are."""
    _, _, indices, weights = stencil
    out = pixels.take(indices[0], axis=0, mode="clip")
    if not weights:
        return out
    if len(indices) == 2 and pixels.dtype == np.float32:  # by far the most common, and finite: half the multiplications
        term = pixels.take(indices[1], axis=0, mode="clip")
        term -= out
        term *= weights[1]
        out += term
        return out
    out *= weights[0]
    for tap in range(1, len(indices)):
        term = pixels.take(indices[tap], axis=0, mode="clip")
        term *= weights[tap]
        out += term
    return out


# -- kernels, of the distance in pixels ---------------------------------------------------------------------------

_Kernel = Callable[[Array], Array]


def _linear(distance: Array) -> Array:
    weights: Array = np.maximum(0, 1 - distance)
    return weights


def _cubic(distance: Array) -> Array:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _lanczos(distance: Array) -> Array:
    return np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)


#: The kernel, and how far it reaches.
_KERNELS: dict[str, tuple[_Kernel, int]] = {"linear": (_linear, 1), "cubic": (_cubic, 2), "lanczos": (_lanczos, 4)}
#: As what OpenCV interpolates a dtype without loss.
_QUICK_AS = {
    np.dtype(name): np.dtype(name if name in ("uint8", "uint16") else np.float32)
    for name in ("uint8", "uint16", "float32", "bool", "int8", "int16", "float16")
}


@lru_cache(maxsize=1)
def _opencv() -> Any:
    with IMPORTING:
        import cv2

    return cv2


@lru_cache(maxsize=1)
def _is_exact() -> bool:
    """Whether OpenCV places points exactly; before 5.0 it did so in steps of 1/32 of a pixel."""
    return int(_opencv().__version__.split(".")[0]) >= 5


# -- numbers ------------------------------------------------------------------------------------------------------


def _work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "c":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 and dtype.kind != "f" else np.float64)


def _point_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """As :func:`_work_dtype`, where weights are not the same to the bit in every crop: what is rounded has bits to spare."""
    return np.dtype(np.float64) if dtype.kind in "ui" and dtype.itemsize == 2 else _work_dtype(dtype)


def _round(sums: Array, dtype: np.dtype[Any], *, may_overshoot: bool = True) -> Array:
    """Sums as numbers of ``dtype``; they may be written over."""
    if sums.dtype == dtype:
        return sums
    if dtype.kind in "fc":
        with _quiet():
            return sums.astype(dtype)
    if dtype.kind == "b":
        return np.asarray(sums >= 0.5)
    sums += 0.5
    if dtype.kind == "i":
        np.floor(sums, out=sums)
    limits = _limits_of(dtype)
    if may_overshoot or dtype.itemsize == 8:
        np.maximum(sums, limits.min, out=sums)
        np.minimum(sums, limits.max, out=sums)
    if dtype.itemsize < 8:
        return sums.astype(dtype)
    # float64 does not hold the largest 64-bit integers: what is past them by rounding is one of them
    with _quiet():
        out = sums.astype(dtype)
    out[sums >= limits.max] = limits.max
    return out


def _quiet() -> Any:
    """Infinities and overflows are let be."""
    return np.errstate(invalid="ignore", over="ignore")


@lru_cache(maxsize=16)
def _limits_of(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype)


def _is_integer(number: float) -> bool:
    return abs(number - round(number)) < _EPSILON


def _span(per_x: float, per_y: float, offset: float, width: int, height: int) -> tuple[float, float]:
    """The least and the greatest of ``per_x * x + per_y * y + offset`` over the centres of so many pixels."""
    low = high = offset + (per_x + per_y) / 2
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
    raise RegionError(f"scale={shorten(scale)}; give a positive number, or two of them: (y, x)")


def _fit(axis: range, count: int) -> Sampling:
    if not axis:
        raise RegionError("the region holds no pixels that could be scaled to a shape")
    return Sampling(axis.start, len(axis) / count, count)


def _stretch(axis: range, factor: float) -> Sampling:
    count = max(1, math.floor(len(axis) * factor + 0.5)) if axis else 0
    return Sampling(axis.start, 1 / factor, count)
