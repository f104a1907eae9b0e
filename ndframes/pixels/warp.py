"""Resampling: arrays in, arrays out.

Coordinates follow pixel corners: pixel ``i`` covers ``[i, i + 1)``, its centre is at ``i + 0.5``. What lies outside an
array is its nearest pixel; whether a point lies outside is told apart from that, by :meth:`Grid.centres_inside`.

A result is made in blocks, each from just the window of the array under it, so the memory that it takes does not grow with
the array, and no pixel depends on which crop it is part of.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..geometry.grid import Grid, Sampling, footprint
from ..geometry.kernels import EPSILON, Interpolation
from .points import interpolate, sample, take
from .rounding import ignore_float_errors, point_dtype, round_to_dtype
from .stencils import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._typing import Array

__all__ = [
    "Block",
    "Grid",
    "Interpolation",
    "Sampling",
    "WindowedArray",
    "resample",
    "sample",
    "warp",
]
_WINDOW_BYTES = 16 * 2**20
_ENOUGH = 0.5 - 1e-6


class WindowedArray(NamedTuple):
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
    def of(cls, pixels: Array) -> WindowedArray:
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


def warp(plane: WindowedArray, grid: Grid, interpolation: Interpolation, *, antialias: bool) -> Iterator[Block]:
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
        >>> [block.pixels[0, :, 0].tolist() for block in warp(WindowedArray.of(ramp), grid, "linear", antialias=True)]
        [[1, 3, 5, 6]]
    """
    if grid.is_pixel_aligned:
        interpolation = "nearest"
    steps = grid.steps
    factors = (max(1.0, steps[0]), max(1.0, steps[1])) if antialias and interpolation != "nearest" else (1.0, 1.0)
    for rows, cols in _cut(grid.shape, steps, plane.pixel_bytes):
        part = grid.crop(rows, cols)
        inside = part.centres_inside(*plane.extent)
        where = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
        if inside is False:
            yield Block(*where, None, None, inside)
        else:
            yield Block(*where, *_sample(plane, part, interpolation, factors), inside)


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
    plane: WindowedArray, grid: Grid, interpolation: Interpolation, factors: tuple[float, float]
) -> tuple[Array, Array | None]:
    """One block's pixels, and which are missing."""
    shrinks = max(factors) > 1 + EPSILON
    if grid.axes is not None or not shrinks:
        rows, cols = footprint(grid, plane.shape, interpolation, factors)
        window, missing = plane.read(rows, cols)
        local = grid.rescaled(1, 1, rows.start, cols.start)
        if interpolation == "nearest":
            return take(window, local), None if missing is None else take(missing, local)
        return _mend(window, missing, lambda pixels: sample(pixels, local, interpolation, antialias=shrinks))
    coarse_shape = math.ceil(plane.shape[0] / factors[0]), math.ceil(plane.shape[1] / factors[1])
    coarse = grid.rescaled(*factors)
    rows, cols = footprint(coarse, coarse_shape, interpolation, (1.0, 1.0))
    samplings = [
        Sampling(axis.start * factor, factor, len(axis)) for axis, factor in zip((rows, cols), factors, strict=True)
    ]
    under = [
        sampling.footprint(extent, interpolation, antialias=True)
        for sampling, extent in zip(samplings, plane.shape, strict=True)
    ]
    along = samplings[0].rescaled(1, under[0].start), samplings[1].rescaled(1, under[1].start)
    local = coarse.rescaled(1, 1, rows.start, cols.start)
    window, missing = plane.read(under[0], under[1])

    def shrink(pixels: Array) -> Array:
        sums = pixels.astype(point_dtype(pixels.dtype))
        sums = resample(sums, *along, interpolation, antialias=True)
        return round_to_dtype(interpolate(sums, local, interpolation), pixels.dtype)

    return _mend(window, missing, shrink)


def _mend(window: Array, missing: Array | None, sample: Callable[[Array], Array]) -> tuple[Array, Array | None]:
    """Sample a window of which values may be missing."""
    if missing is None and window.dtype.kind in "fc" and window.size and np.isnan(window.min()):
        missing = np.isnan(window)
    if missing is None or not missing.any():
        out = sample(window)
        return out, None if missing is None else np.zeros(out.shape, bool)
    work = point_dtype(window.dtype)
    sums = sample(np.where(missing, 0, window).astype(work))
    weights = sample((~missing).astype(work.type(0).real.dtype))
    gone = weights < _ENOUGH
    weights[gone] = 1
    with ignore_float_errors():
        values = round_to_dtype(sums / weights, window.dtype)
    if window.dtype.kind in "fc":
        values[gone] = np.nan
    return values, gone
