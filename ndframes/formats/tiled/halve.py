"""Average 2 x 2 pixels to one: how each level of a pyramid is made from the level above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = ["RULE", "halve"]
#: Increased by hand whenever :func:`halve` gives other pixels: overviews that an older rule made are not read.
RULE = 3


def halve(pixels: Array, origin: tuple[int, int] = (0, 0)) -> Array:
    """Average 2 x 2 pixels ``(h, w, bands)`` to one; an odd last row or column is repeated.

    Integers round to the nearest. Halves round down and up in turn, like the fields of a chessboard: pixel ``(y, x)`` of the
    level rounds down if ``y + x`` is even. So the mean of an image does not drift from level to level, whatever its values
    are; halves that always round up add an eighth at each level. NaNs are left out of the average. The mean of booleans is
    no boolean, so they are not averaged: the last of the four pixels is taken, which keeps the share of ``True``.

    Args:
        pixels: the pixels, from an even row and column of the level above on.
        origin: the row and column of the first pixel of the result in its level.

    Example:
        >>> halve(np.array([[1, 3, 1, 0], [4, 6, 1, 0]], np.uint8)[:, :, None])[:, :, 0]
        array([[3, 1]], dtype=uint8)
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    if pixels.dtype == bool:
        return np.ascontiguousarray(pixels[1::2, 1::2])
    is_odd = (origin[0] + origin[1]) % 2
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize < 8:
        return _average_narrow(pixels, is_odd)
    corners = [pixels[row::2, col::2] for row in (0, 1) for col in (0, 1)]
    return _average_wide(corners, is_odd) if pixels.dtype.kind in "ui" else _average_reals(corners)


def _average_narrow(pixels: Array, is_odd: int) -> Array:
    """The mean of integers, computed in a dtype of twice their width."""
    wide = np.dtype(f"{pixels.dtype.kind}{2 * pixels.dtype.itemsize}")
    pairs = pixels[0::2].astype(wide)
    pairs += pixels[1::2]
    sums = _every_other(pairs, 0)
    sums += _every_other(pairs, 1)
    _add_before_shift(sums, is_odd)
    sums >>= 2
    return sums.astype(pixels.dtype)


def _average_wide(corners: list[Array], is_odd: int) -> Array:
    """The mean of 64-bit integers: quotients and remainders by 4 are added separately to avoid overflow."""
    quotients = sum((corner >> 2 for corner in corners[1:]), corners[0] >> 2)
    remainders = sum((corner & 3 for corner in corners[1:]), corners[0] & 3)
    _add_before_shift(remainders, is_odd)
    return np.asarray(quotients + (remainders >> 2), corners[0].dtype)


def _add_before_shift(sums: Array, is_odd: int) -> None:
    """Add 1 or 2 to the sums of four integers, so that a shift by two bits then rounds a half down or up.

    A shift rounds down below zero as well, so this holds for negative numbers, too.
    """
    height, width, bands = sums.shape
    # Whole rows at a time: numpy is several times slower with an axis of few samples.
    line = np.repeat(1 + (np.arange(width) + is_odd) % 2, bands).astype(sums.dtype)
    rows = sums.reshape(height, width * bands)
    rows[0::2] += line
    rows[1::2] += 3 - line


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
        means = _add_in_order(stack) / present
        overflown = ~np.isfinite(means)
        if overflown.any():  # the sum of four finite values may be infinite although their mean is not
            means = np.where(overflown, _add_in_order(stack / present), means)
        # If no NaN was found, ``present`` is the number 4: the index is False, and selects nothing.
        means[present == 0] = np.nan
        return np.asarray(means, dtype)


def _add_in_order(corners: Array) -> Array:
    """The sum of four arrays. ``sum`` would add in another order where they hold one pixel or column, and round otherwise."""
    return np.asarray(corners[0] + corners[1] + corners[2] + corners[3])


def _every_other(pixels: Array, first: int) -> Array:
    """Every other column. A pixel is copied as one opaque item: numpy is several times slower with an axis of few samples."""
    whole = np.ascontiguousarray(pixels).view(f"V{pixels.shape[2] * pixels.dtype.itemsize}")
    return np.ascontiguousarray(whole[:, first::2]).view(pixels.dtype)
