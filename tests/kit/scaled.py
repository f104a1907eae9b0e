"""Scaled reads by their definition, pixel by pixel: slow, plain, and without any code of the library."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

_KERNELS = {
    "linear": (1, lambda d: max(0.0, 1 - d)),
    "cubic": (2, lambda d: 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2),
    "lanczos": (4, lambda d: float(np.sinc(d) * np.sinc(d / 4))),
}


def half(pixels: np.ndarray) -> np.ndarray:
    """The level below ``(h, w, bands)``: means of 2 x 2 pixels, the last row and column repeated."""
    height, width, bands = pixels.shape
    out = np.empty((-(-height // 2), -(-width // 2), bands), pixels.dtype)
    for y, x, band in np.ndindex(out.shape):
        corners = [
            pixels[min(2 * y + dy, height - 1), min(2 * x + dx, width - 1), band] for dy, dx in product((0, 1), (0, 1))
        ]
        if pixels.dtype.kind == "f":
            valid = [corner for corner in corners if not math.isnan(corner)]
            # Sums in the dtype of the pixels, in their order.
            out[y, x, band] = sum(valid[1:], valid[0]) / pixels.dtype.type(len(valid)) if valid else math.nan
        else:
            whole, quarters = divmod(sum(map(int, corners)), 4)
            out[y, x, band] = whole + (quarters > 2 or (quarters == 2 and (y + x) % 2 == 1))
    return out


def scaled(
    pixels: np.ndarray, region: tuple[slice, slice], scale: tuple[float, float], interpolation: str
) -> tuple[np.ndarray, bool]:
    """A region of an image, scaled, in float64; and whether every pixel is exactly one of a level."""
    axes = [slice_.indices(extent)[:2] for slice_, extent in zip(region, pixels.shape[:2], strict=True)]
    steps = [1 / factor for factor in scale]
    counts = [math.floor((stop - start) * factor + 0.5) for (start, stop), factor in zip(axes, scale, strict=True)]
    # A pixel that would be less than half covers the whole region.
    for axis, (start, stop) in enumerate(axes):
        if not counts[axis]:
            counts[axis], steps[axis] = 1, stop - start
    size, level = 1, pixels
    if interpolation != "nearest" and pixels.dtype != bool:
        while 2 * size <= min(steps) + 1e-9 and max(level.shape[:2]) > 1:
            size, level = 2 * size, half(level)
    out, is_exact = level.astype(np.float64), True
    for axis, ((start, _), step, count) in enumerate(zip(axes, steps, counts, strict=True)):
        rows = np.moveaxis(out, axis, 0)
        taps = [_taps(start / size, step / size, number, interpolation) for number in range(count)]
        is_exact = is_exact and all(len(some) == 1 for some in taps)
        lines = [sum(weight * rows[min(max(index, 0), len(rows) - 1)] for index, weight in some) for some in taps]
        out = np.moveaxis(np.array(lines), 0, axis)
    return out, is_exact


def check(
    got: np.ndarray,
    pixels: np.ndarray,
    region: tuple[slice, slice],
    scale: tuple[float, float],
    interpolation: str,
) -> None:
    """Compare a scaled region with its definition: exactly where each pixel is one of a level, else up to rounding."""
    wanted, is_exact = scaled(pixels, region, scale, interpolation)
    assert got.shape == wanted.shape
    assert got.dtype == pixels.dtype
    if is_exact or interpolation == "nearest":
        np.testing.assert_array_equal(got, wanted.astype(pixels.dtype))
    elif pixels.dtype == bool:
        is_clear = np.abs(wanted - 0.5) > 1e-5
        np.testing.assert_array_equal(got[is_clear], wanted[is_clear] > 0.5)
    elif pixels.dtype.kind == "f":
        if not np.isnan(pixels).any():  # with missing pixels, weights are divided by their sum
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(pixels).max())
    else:
        limits = np.iinfo(pixels.dtype)
        assert np.abs(got - np.clip(wanted, limits.min, limits.max)).max(initial=0) <= 0.5 + 2**-20 * limits.max + 1e-3


def _taps(start: float, step: float, number: int, interpolation: str) -> list[tuple[int, float]]:
    """The pixels under a pixel of the result, with their weights."""
    centre = start + (number + 0.5) * step
    if interpolation == "nearest" or (abs(step - 1) < 1e-9 and abs(start - round(start)) < 1e-9):
        return [(math.floor(centre + 1e-9), 1.0)]
    radius, kernel = _KERNELS[interpolation]
    stretch = max(1.0, step)
    indices = range(math.floor(centre - radius * stretch) - 1, math.ceil(centre + radius * stretch) + 1)
    weights = [kernel(abs(index + 0.5 - centre) / stretch) for index in indices]
    weights = [
        w if abs(i + 0.5 - centre) < radius * stretch - 1e-9 else 0.0 for i, w in zip(indices, weights, strict=True)
    ]
    return [(i, w / sum(weights)) for i, w in zip(indices, weights, strict=True) if w]
