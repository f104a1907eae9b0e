"""Average 2 x 2 pixels to one: how each overview is made from the level above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = ["halve"]


def halve(pixels: Array) -> Array:
    """Average 2 x 2 pixels ``(h, w, bands)`` to one; an odd last row or column is repeated.

    Integers round half up. Booleans are true if at least half of the pixels are. NaNs are left out of the average.

    Example:
        >>> halve(np.array([[1, 3, 9], [4, 6, 0]], np.uint8)[:, :, None])[:, :, 0]
        array([[4, 5]], dtype=uint8)
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    if pixels.dtype == bool:
        return _average_narrow(pixels.view(np.uint8)).view(bool)
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize < 8:
        return _average_narrow(pixels)
    corners = [pixels[row::2, col::2] for row in (0, 1) for col in (0, 1)]
    return _average_wide(corners) if pixels.dtype.kind in "ui" else _average_reals(corners)


def _average_narrow(pixels: Array) -> Array:
    """The mean of integers, rounded half up, computed in a dtype of twice their width."""
    wide = np.dtype(f"{pixels.dtype.kind}{2 * pixels.dtype.itemsize}")
    pairs = pixels[0::2].astype(wide)
    pairs += pixels[1::2]
    sums = _every_other(pairs, 0)
    sums += _every_other(pairs, 1)
    # A shift rounds down below zero as well, so a half rounds up for negative numbers, too.
    sums += 2
    sums >>= 2
    return sums.astype(pixels.dtype)


def _average_wide(corners: list[Array]) -> Array:
    """The mean of 64-bit integers, rounded half up: quotients and remainders by 4 are added separately to avoid overflow."""
    quotients = sum((corner >> 2 for corner in corners[1:]), corners[0] >> 2)
    remainders = sum((corner & 3 for corner in corners[1:]), corners[0] & 3)
    return np.asarray(quotients + ((remainders + 2) >> 2), corners[0].dtype)


def _average_reals(corners: list[Array]) -> Array:
    dtype = corners[0].dtype
    # The sum of four half floats may exceed 65,504, the largest one.
    work = np.float32 if dtype == np.float16 else dtype
    # NaN and infinity are ordinary pixels, not worth a warning.
    with np.errstate(all="ignore"):
        stack = np.stack([corner.astype(work, copy=False) for corner in corners])
        missing = np.isnan(stack)
        present = 4 - missing.sum(axis=0) if missing.any() else 4
        stack[missing] = 0
        means = stack.sum(axis=0) / present
        overflown = ~np.isfinite(means)
        if overflown.any():  # the sum of four finite values may be infinite although their mean is not
            means = np.where(overflown, (stack / present).sum(axis=0), means)
        # If no NaN was found, ``present`` is the number 4: the index is False, and selects nothing.
        means[present == 0] = np.nan
        return np.asarray(means, dtype)


def _every_other(pixels: Array, first: int) -> Array:
    """Every other column. A pixel is copied as one opaque item: numpy is several times slower with an axis of few samples."""
    whole = np.ascontiguousarray(pixels).view(f"V{pixels.shape[2] * pixels.dtype.itemsize}")
    return np.ascontiguousarray(whole[:, first::2]).view(pixels.dtype)
