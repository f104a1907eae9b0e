"""Warping: an array resampled at the points of a grid.

Pixel ``i`` covers ``[i, i + 1)``, and its centre is at ``i + 0.5``. Points outside of an array use its border pixels;
:meth:`Grid.centres_inside` reports which points are outside.

A result is computed in blocks, each from the window of the array under it. So memory does not grow with the array, and no
pixel depends on the crop that it is part of.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import RegionError
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
_MAX_WINDOW_BYTES = 16 * 2**20
# A pixel may be much larger than a small file that lies in a large image.
_MOST_FACTOR = 2**13
_MOST_FACTOR_OF_EXTENT = 16
# A little less than half, so that rounding does not decide about pixels with exactly half of the weight.
_MIN_WEIGHT = 0.5 - 1e-6


class WindowedArray(NamedTuple):
    """An array that is read in windows.

    Attributes:
        shape: ``(height, width)``.
        extent: the y and x at which the image ends; less than ``shape`` if the last pixels of an overview extend beyond it.
        pixel_bytes: the size of a pixel of a window, all bands together.
        read: a function from rows and columns of step 1 to the window ``(height, width, bands)`` and the mask of its missing
            values, of the same shape or ``None``.
    """

    shape: tuple[int, int]
    extent: tuple[float, float]
    pixel_bytes: int
    read: Callable[[range, range], tuple[Array, Array | None]]

    @classmethod
    def of(cls, pixels: Array) -> WindowedArray:
        """An array in memory without missing values."""
        height, width, bands = pixels.shape

        def read(rows: range, cols: range) -> tuple[Array, None]:
            return pixels[rows.start : rows.stop, cols.start : cols.stop], None

        return cls((height, width), (height, width), bands * pixels.itemsize, read)


class Block(NamedTuple):
    """A part of a result.

    Attributes:
        rows: its rows in the result.
        cols: its columns in the result.
        pixels: ``(height, width, bands)``, in the dtype of the windows; ``None`` if all of them are outside.
        missing: the mask of missing values, of the same shape; ``None`` if there are none.
        inside: whether the centres of pixels are inside: ``True`` for all, or a mask ``(height, width)``.
    """

    rows: slice
    cols: slice
    pixels: Array | None
    missing: Array | None
    inside: Array | bool


def warp(
    src: WindowedArray,
    grid: Grid,
    interpolation: Interpolation,
    *,
    antialias: bool,
    max_window_bytes: int = _MAX_WINDOW_BYTES,
) -> Iterator[Block]:
    """Resample an array at the points of a grid, one block of the result at a time.

    - If each pixel of the result is exactly one pixel of the array, pixels are copied.
    - ``"cubic"`` is the kernel of Catmull and Rom (a = -0.5, as in GDAL and Pillow), which reproduces planes and parabolas
      exactly. ``"lanczos"`` uses eight pixels along each axis.
    - With ``antialias``, a coarser result widens the kernel along the array's axes, as in Pillow and torch. For a rotated
      grid the array is first shrunk to pixels that begin at its corner.
    - Missing values have no weight: a value is the weighted mean of those that exist, and is missing if they have less than
      half of the weight. A nan is missing.
    - Sums are float32 for 8 and 16 bits, otherwise float64. Integers are rounded to the nearest, halves to
      even; bools are true from 0.5 on.

    Args:
        src: the array.
        grid: the grid, in coordinates of the array.
        interpolation: see :data:`Interpolation`.
        antialias: whether shrinking averages.
        max_window_bytes: the approximate size of the largest window that is read.

    Raises:
        RegionError: a pixel of the grid covers very many pixels, also beyond the array.

    Example:
        >>> ramp = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
        >>> grid = Grid((2, 0, 0, 0, 1, 0), (1, 4))
        >>> [block.pixels[0, :, 0].tolist() for block in warp(WindowedArray.of(ramp), grid, "linear", antialias=True)]
        [[1, 2, 4, 6]]
    """
    # Copies are exact, and read no pixels around them.
    if grid.is_pixel_aligned:
        interpolation = "nearest"
    steps = grid.steps
    factors = (max(1.0, steps[0]), max(1.0, steps[1])) if antialias and interpolation != "nearest" else (1.0, 1.0)
    for rows, cols in _split_into_blocks(grid.shape, steps, max_window_bytes / src.pixel_bytes):
        part = grid.crop(rows, cols)
        # Not the shape of the array: the last pixels of an overview may extend beyond the image.
        inside = part.centres_inside(*src.extent)
        where = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
        # Nothing is read for a block that is outside.
        if inside is False:
            yield Block(*where, None, None, inside)
        else:
            _check_factors(factors, src.shape)
            yield Block(*where, *_sample(src, part, interpolation, factors), inside)


def _check_factors(factors: tuple[float, float], shape: tuple[int, int]) -> None:
    """Check that the kernels are not much wider than the array: time and memory grow with them, and the result is its border.

    Raises:
        RegionError: they are, or their widths are no numbers.
    """
    most = max(_MOST_FACTOR, _MOST_FACTOR_OF_EXTENT * max(shape))
    # A not-a-number is not below.
    if not max(factors) <= most:
        raise RegionError(
            f"transform: a pixel of the result covers {factors[0]:.3g} x {factors[1]:.3g} pixels (y, x) of an array of {shape[0]:,} x "
            f"{shape[1]:,}; at most {most:,} along an axis, or read with antialias=False"
        )


def _split_into_blocks(
    shape: tuple[int, int], steps: tuple[float, float], max_window_px: float
) -> Iterator[tuple[range, range]]:
    """Blocks of a result, such that blocks and their windows have at most about ``max_window_px`` pixels."""
    height, width = shape
    row_step, col_step = max(1.0, steps[0]), max(1.0, steps[1])
    budget_px = max_window_px / (row_step * col_step)
    if height * width <= budget_px:
        yield range(height), range(width)
        return
    # Windows are about square in the array, which touches the fewest tiles.
    down = min(height, max(1, int(math.sqrt(budget_px * col_step / row_step))))
    across = min(width, max(1, int(budget_px / down)))
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield range(top, min(top + down, height)), range(left, min(left + across, width))


def _sample(
    src: WindowedArray, grid: Grid, interpolation: Interpolation, factors: tuple[float, float]
) -> tuple[Array, Array | None]:
    """The pixels of one block, and the mask of missing ones."""
    shrinks = max(factors) > 1 + EPSILON
    if grid.axes is not None or not shrinks:
        rows, cols = footprint(grid, src.shape, interpolation, factors)
        window, missing = src.read(rows, cols)
        local = grid.rescaled(1, 1, rows.start, cols.start)
        if interpolation == "nearest":
            return take(window, local), None if missing is None else take(missing, local)
        return _sample_masked(window, missing, lambda pixels: sample(pixels, local, interpolation, antialias=shrinks))
    # A rotated grid that shrinks: first to a coarser array along the axes, then rotate that one.
    # Its pixels begin at the corner of the array and not of the crop, so that no value depends on the crop.
    coarse_shape = math.ceil(src.shape[0] / factors[0]), math.ceil(src.shape[1] / factors[1])
    coarse = grid.rescaled(*factors)
    rows, cols = footprint(coarse, coarse_shape, interpolation, (1.0, 1.0))
    samplings = [
        Sampling(axis.start * factor, factor, len(axis)) for axis, factor in zip((rows, cols), factors, strict=True)
    ]
    windows = [
        sampling.footprint(extent, interpolation, antialias=True)
        for sampling, extent in zip(samplings, src.shape, strict=True)
    ]
    along = samplings[0].rescaled(1, windows[0].start), samplings[1].rescaled(1, windows[1].start)
    local = coarse.rescaled(1, 1, rows.start, cols.start)
    window, missing = src.read(windows[0], windows[1])

    def shrink(pixels: Array) -> Array:
        # Rounded to the dtype only once, after both steps.
        sums = pixels.astype(point_dtype(pixels.dtype))
        sums = resample(sums, *along, interpolation, antialias=True)
        return round_to_dtype(interpolate(sums, local, interpolation), pixels.dtype)

    return _sample_masked(window, missing, shrink)


def _sample_masked(
    window: Array, missing: Array | None, sample: Callable[[Array], Array]
) -> tuple[Array, Array | None]:
    """Sample a window with missing values: the sums of existing values, divided by their weights."""
    # min() of an array with a nan is nan: one pass, and no mask for the usual window.
    if missing is None and window.dtype.kind in "fc" and window.size and np.isnan(window.min()):
        missing = np.isnan(window)
    if missing is None or not missing.any():
        out = sample(window)
        return out, None if missing is None else np.zeros(out.shape, bool)
    work = point_dtype(window.dtype)
    # 0 instead of the stored value, because nan times a weight of 0 is nan.
    sums = sample(np.where(missing, 0, window).astype(work))
    weights = sample((~missing).astype(work.type(0).real.dtype))
    is_missing = weights < _MIN_WEIGHT
    # Avoids a division by 0.
    weights[is_missing] = 1
    with ignore_float_errors():
        values = round_to_dtype(sums / weights, window.dtype)
    if window.dtype.kind in "fc":
        values[is_missing] = np.nan
    return values, is_missing
