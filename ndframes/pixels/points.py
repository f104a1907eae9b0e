"""Interpolation at the points of any grid, also of a rotated one."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry.grid import footprint
from ..geometry.kernels import EPSILON, KERNELS, first_tap
from ..system.process import IMPORTING
from .rounding import POINT_BITS, has_rounded_points, point_dtype, round_bits, round_to_dtype
from .stencils import resample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._typing import Array
    from ..geometry.grid import Grid
    from ..geometry.kernels import Indices, Interpolation, Kernel

__all__ = ["interpolate", "sample", "take"]


# OpenCV starts threads of its own for more pixels.
_MAX_BLOCK_PX = 1 << 16
# In windows of this extent, 32-bit floats represent coordinates to 2**-16 of a pixel.
_MAX_EXTENT_PX = 256
_OPENCV_BITS = 16
# OpenCV interpolates exactly for these numbers of bands; for others, coordinates are rounded to 1/32 of a pixel.
_EXACT_BANDS = (1, 3, 4)
# The dtypes that OpenCV interpolates without loss, and the ones to convert them to.
_OPENCV_DTYPES = {
    np.dtype(name): np.dtype(name if name in ("uint8", "uint16") else np.float32)
    for name in ("uint8", "uint16", "float32", "bool", "int8", "int16", "float16")
}


def sample(pixels: Array, grid: Grid, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Resample an array ``(h, w, c)`` that is the footprint of a grid; see :func:`warp`.

    A rotated grid must not be coarser than the array; use :func:`warp` to shrink.
    """
    if grid.is_pixel_aligned:
        return take(pixels, grid)
    axes = grid.axes
    if axes is not None:
        return resample(pixels, *axes, interpolation, antialias=antialias)
    return take(pixels, grid) if interpolation == "nearest" else interpolate(pixels, grid, interpolation)


def _needs_numpy(dtype: np.dtype[Any], interpolation: Interpolation) -> bool:
    """Whether numpy must interpolate, because OpenCV does not do it exactly."""
    return interpolation != "linear" or dtype not in _OPENCV_DTYPES or not _is_opencv_exact()


def interpolate(pixels: Array, grid: Grid, interpolation: Interpolation) -> Array:
    """Interpolate a window at the points of a grid. Points outside use the border pixels of the window."""
    # A rotated block is wider by up to sqrt(2); the kernel reads a few pixels around it.
    block_px = int(_MAX_EXTENT_PX / max(1.0, *grid.steps) / math.sqrt(2)) - 4
    if _needs_numpy(pixels.dtype, interpolation) or block_px < 1:
        sums = pixels.astype(point_dtype(pixels.dtype))
        sums = _gather(sums, grid, interpolation, is_rounded=has_rounded_points(pixels.dtype))
        return round_to_dtype(sums, pixels.dtype)
    converted = pixels.astype(_OPENCV_DTYPES[pixels.dtype], copy=False)
    height, width = grid.shape
    if (
        max(converted.shape[:2]) <= _MAX_EXTENT_PX
        and height * width <= _MAX_BLOCK_PX
        and converted.shape[2] in _EXACT_BANDS
    ):
        return round_to_dtype(_remap(converted, grid).reshape(*grid.shape, -1), pixels.dtype)
    out = np.empty((height, width, converted.shape[2]), converted.dtype)
    for top in range(0, height, block_px):
        for left in range(0, width, block_px):
            bottom, right = min(top + block_px, height), min(left + block_px, width)
            part = grid.crop(range(top, bottom), range(left, right))
            near_rows, near_cols = footprint(part, converted.shape[:2], "linear", (1.0, 1.0))
            near = converted[near_rows.start : near_rows.stop, near_cols.start : near_cols.stop]
            local = part.rescaled(1, 1, near_rows.start, near_cols.start)
            target = out[top:bottom, left:right]
            for first, count in _band_groups(converted.shape[2]):
                bands = slice(first, first + count)
                target[:, :, bands] = _remap(near[:, :, bands], local).reshape(*local.shape, count)
    return round_to_dtype(out, pixels.dtype)


def take(pixels: Array, grid: Grid) -> Array:
    """The pixels of a window that contain the points of a grid; border pixels for points outside."""
    axes = grid.axes
    if axes is not None:
        return resample(pixels, *axes, "nearest", antialias=False)
    y, x = grid.centres()
    # A point on the border of two pixels gives the second one in every crop, however it is rounded.
    rows = np.floor(y + EPSILON).astype(np.intp).clip(0, pixels.shape[0] - 1)
    cols = np.floor(x + EPSILON).astype(np.intp).clip(0, pixels.shape[1] - 1)
    taken: Array = pixels[rows, cols]
    return taken


def _remap(pixels: Array, grid: Grid) -> Array:
    """Linear interpolation by OpenCV, in whose coordinates the centre of pixel 0 is at 0.

    OpenCV takes coordinates as 32-bit floats. They are rounded to multiples of 2**-16 before, which 32-bit floats represent
    exactly in windows of up to 256 pixels. So a point has the same value in every window, to the bit.
    """
    cv2 = _opencv()
    a, b, c, d, e, f = grid.src_from_out
    x, y = np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0])[:, None] + 0.5
    points = []
    exact = np.empty(grid.shape)
    for along_x, along_y, offset in ((a, b, c - 0.5), (d, e, f - 0.5)):
        exact[...] = along_x * x
        exact += along_y * y + offset
        round_bits(exact, _OPENCV_BITS)
        points.append(exact.astype(np.float32))
    warped: Array = cv2.remap(pixels, *points, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped


def _band_groups(band_count: int) -> Iterator[tuple[int, int]]:
    """Split bands into groups that OpenCV interpolates exactly: pairs of first band and count."""
    first = 0
    while first < band_count:
        remaining = band_count - first
        # Two bands are not among them, and go one by one.
        count = 4 if remaining >= 4 else remaining if remaining in _EXACT_BANDS else 1
        yield first, count
        first += count


def _gather(sums: Array, grid: Grid, interpolation: Interpolation, *, is_rounded: bool) -> Array:
    """Interpolate a window with any kernel, in the dtype of the window, at rounded points if ``is_rounded``."""
    kernel, radius = KERNELS[interpolation]
    height, width, bands = sums.shape
    flat = sums.reshape(height * width, bands)
    out = np.zeros((*grid.shape, bands), sums.dtype)
    centres = grid.centres()
    if is_rounded:
        for along in centres:
            round_bits(along, POINT_BITS)
    y, x = np.broadcast_arrays(*centres)
    first_rows, first_cols = first_tap(y, radius), first_tap(x, radius)
    down = _point_weights(kernel, radius, y, first_rows, sums.dtype)
    across = _point_weights(kernel, radius, x, first_cols, sums.dtype)
    all_cols = [(first_cols + col).clip(0, width - 1) for col in range(2 * radius)]
    # Tap by tap: gathering all of them at once would take (2 * radius)**2 times the memory.
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


def _point_weights(kernel: Kernel, radius: int, centres: Array, first: Indices, dtype: np.dtype[Any]) -> list[Array]:
    """For each tap the array of weights of the points; the weights of a point add up to 1."""
    weights = [kernel(np.abs(first + (tap + 0.5) - centres)) for tap in range(2 * radius)]
    total = sum(weights)
    real = dtype.type(0).real.dtype
    # As Lanczos weights do not add up to exactly 1.
    return [(each / total).astype(real) for each in weights]


@lru_cache(maxsize=1)
def _opencv() -> Any:
    with IMPORTING:
        import cv2

    return cv2


@lru_cache(maxsize=1)
def _is_opencv_exact() -> bool:
    """Whether OpenCV interpolates at exact coordinates; before 5.0 it rounded them to 1/32 of a pixel."""
    return int(_opencv().__version__.split(".")[0]) >= 5
