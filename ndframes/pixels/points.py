"""Interpolation at arbitrary points."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry.grid import footprint
from ..geometry.kernels import EPSILON, KERNELS, first_tap
from ..system.process import IMPORTING
from .rounding import point_dtype, round_to_dtype
from .stencils import resample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._typing import Array
    from ..geometry.grid import Grid
    from ..geometry.kernels import Indices, Interpolation, Kernel

__all__ = ["interpolate", "sample", "take"]


# OpenCV takes threads of its own for more pixels than these.
_MOST_BLOCK_PX = 1 << 16
# Points in windows of that size are told apart to 2**-16 of a pixel by 32-bit floats; a number this large, added and taken
# away again, rounds 64-bit ones to that.
_MOST_EXTENT_PX = 256
_SNAP = 1.5 * 2**36
# Of so many bands OpenCV is exact; else it goes in steps of 1/32 of a pixel.
_EXACT_BANDS = (1, 3, 4)
#: As what OpenCV interpolates a dtype without loss.
_QUICK_AS = {
    np.dtype(name): np.dtype(name if name in ("uint8", "uint16") else np.float32)
    for name in ("uint8", "uint16", "float32", "bool", "int8", "int16", "float16")
}


def sample(pixels: Array, grid: Grid, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Sample an array ``(h, w, c)`` anew, all of it at once, where it is the whole footprint of a grid; see :func:`warp`.

    A grid that is rotated must not be coarser than the array: shrinking takes :func:`warp`.
    """
    if grid.is_pixel_aligned:
        return take(pixels, grid)
    axes = grid.axes
    if axes is not None:
        return resample(pixels, *axes, interpolation, antialias=antialias)
    return take(pixels, grid) if interpolation == "nearest" else interpolate(pixels, grid, interpolation)


def _is_slow(dtype: np.dtype[Any], interpolation: Interpolation) -> bool:
    """Whether OpenCV leaves this to numpy."""
    return interpolation != "linear" or dtype not in _QUICK_AS or not _is_exact()


def interpolate(pixels: Array, grid: Grid, interpolation: Interpolation) -> Array:
    """Points of a window, each from its nearest neighbours; outside are the window's own border pixels."""
    block_px = int(_MOST_EXTENT_PX / max(1.0, *grid.steps) / math.sqrt(2)) - 4
    if _is_slow(pixels.dtype, interpolation) or block_px < 1:
        return round_to_dtype(_gather(pixels.astype(point_dtype(pixels.dtype)), grid, interpolation), pixels.dtype)
    quick = pixels.astype(_QUICK_AS[pixels.dtype], copy=False)
    height, width = grid.shape
    if max(quick.shape[:2]) <= _MOST_EXTENT_PX and height * width <= _MOST_BLOCK_PX and quick.shape[2] in _EXACT_BANDS:
        return round_to_dtype(_remap(quick, grid).reshape(*grid.shape, -1), pixels.dtype)
    out = np.empty((height, width, quick.shape[2]), quick.dtype)
    for top in range(0, height, block_px):
        for left in range(0, width, block_px):
            bottom, right = min(top + block_px, height), min(left + block_px, width)
            part = grid.crop(range(top, bottom), range(left, right))
            near_rows, near_cols = footprint(part, quick.shape[:2], "linear", (1.0, 1.0))
            near = quick[near_rows.start : near_rows.stop, near_cols.start : near_cols.stop]
            local = part.rescaled(1, 1, near_rows.start, near_cols.start)
            target = out[top:bottom, left:right]
            for first, count in _groups(quick.shape[2]):
                bands = slice(first, first + count)
                target[:, :, bands] = _remap(near[:, :, bands], local).reshape(*local.shape, count)
    return round_to_dtype(out, pixels.dtype)


def take(pixels: Array, grid: Grid) -> Array:
    """The pixels of a window that hold the points; outside are its border pixels."""
    axes = grid.axes
    if axes is not None:
        return resample(pixels, *axes, "nearest", antialias=False)
    y, x = grid.centres()
    rows = np.floor(y + EPSILON).astype(np.intp).clip(0, pixels.shape[0] - 1)
    cols = np.floor(x + EPSILON).astype(np.intp).clip(0, pixels.shape[1] - 1)
    taken: Array = pixels[rows, cols]
    return taken


def _remap(pixels: Array, grid: Grid) -> Array:
    """Linear interpolation by OpenCV, of which pixel 0 has its centre at 0.

    It takes points as 32-bit floats. They are rounded to multiples of 2**-16 before, which those hold for windows of up to
    256 pixels: so a point is the same in every window that it lies in, and so is its value, to the bit.
    """
    cv2 = _opencv()
    a, b, c, d, e, f = grid.src_from_out
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
    kernel, radius = KERNELS[interpolation]
    height, width, bands = sums.shape
    flat = sums.reshape(height * width, bands)
    out = np.zeros((*grid.shape, bands), sums.dtype)
    y, x = np.broadcast_arrays(*grid.centres())
    first_rows, first_cols = first_tap(y, radius), first_tap(x, radius)
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


def _point_weights(kernel: Kernel, radius: int, centres: Array, first: Indices, dtype: np.dtype[Any]) -> list[Array]:
    """The weights of the pixels around each point, one array a tap, which add up to 1."""
    weights = [kernel(np.abs(first + (tap + 0.5) - centres)) for tap in range(2 * radius)]
    total = sum(weights)
    real = dtype.type(0).real.dtype
    return [(each / total).astype(real) for each in weights]


@lru_cache(maxsize=1)
def _opencv() -> Any:
    with IMPORTING:
        import cv2

    return cv2


@lru_cache(maxsize=1)
def _is_exact() -> bool:
    """Whether OpenCV places points exactly; before 5.0 it did so in steps of 1/32 of a pixel."""
    return int(_opencv().__version__.split(".")[0]) >= 5
