"""Average 2 x 2 pixels to one: how each level of a pyramid is made from the level above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._typing import Array

__all__ = ["RULE", "halve"]
#: Increased by hand whenever :func:`halve` gives other pixels: overviews that an older rule made are not read.
RULE = 3
# Pixels that are averaged at a time: they and the sums stay in the processor's cache.
_STRIP_BYTES = 512 * 2**10
# Fewer bands than this are added one by one: numpy is several times slower with an axis of few samples.
_FEW_BANDS = 12


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
    out = np.empty((pixels.shape[0] // 2, pixels.shape[1] // 2, pixels.shape[2]), pixels.dtype)
    lines = _make_lines(out, (origin[0] + origin[1]) % 2)
    # An even number of rows, so that each strip begins on the same colour of the chessboard.
    step = max(2, _STRIP_BYTES // max(1, 4 * pixels[:1].nbytes) * 2)
    for top in range(0, len(out), step):
        out[top : top + step] = _average(pixels[2 * top : 2 * (top + step)], lines)
    return out


def _average(pixels: Array, lines: tuple[Array, Array]) -> Array:
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize < 8:
        return _average_narrow(pixels, lines)
    corners = [pixels[row::2, col::2] for row in (0, 1) for col in (0, 1)]
    return _average_wide(corners, lines) if pixels.dtype.kind in "ui" else _average_reals(corners)


def _average_narrow(pixels: Array, lines: tuple[Array, Array]) -> Array:
    """The mean of integers, computed in a dtype of twice their width."""
    height, width, bands = pixels.shape
    wide = lines[0].dtype
    rows = pixels[0::2].astype(wide)
    rows += pixels[1::2]
    pairs = rows.reshape(height // 2, width // 2, 2, bands)
    sums = np.empty((height // 2, width // 2, bands), wide)
    for some in _split_bands(bands):
        np.add(pairs[:, :, 0, some], pairs[:, :, 1, some], out=sums[:, :, some])
    _add_before_shift(sums, lines)
    sums >>= 2
    return sums


def _split_bands(bands: int) -> Sequence[slice]:
    return [slice(band, band + 1) for band in range(bands)] if bands < _FEW_BANDS else [slice(bands)]


def _average_wide(corners: list[Array], lines: tuple[Array, Array]) -> Array:
    """The mean of 64-bit integers: quotients and remainders by 4 are added separately to avoid overflow."""
    quotients = sum((corner >> 2 for corner in corners[1:]), corners[0] >> 2)
    remainders = sum((corner & 3 for corner in corners[1:]), corners[0] & 3)
    _add_before_shift(remainders, lines)
    return np.asarray(quotients + (remainders >> 2), corners[0].dtype)


def _make_lines(out: Array, is_odd: int) -> tuple[Array, Array]:
    """What :func:`_add_before_shift` adds to the even and the odd rows, in the dtype of the sums."""
    _, width, bands = out.shape
    dtype = f"{out.dtype.kind}{min(8, 2 * out.dtype.itemsize)}" if out.dtype.kind in "ui" else np.uint8
    # Whole rows at a time: numpy is several times slower with an axis of few samples.
    line = np.repeat(1 + (np.arange(width) + is_odd) % 2, bands).astype(dtype)
    return line, 3 - line


def _add_before_shift(sums: Array, lines: tuple[Array, Array]) -> None:
    """Add 1 or 2 to the sums of four integers, so that a shift by two bits then rounds a half down or up.

    A shift rounds down below zero as well, so this holds for negative numbers, too.
    """
    rows = sums.reshape(len(sums), lines[0].size)
    rows[0::2] += lines[0]
    rows[1::2] += lines[1]


def _average_reals(corners: list[Array]) -> Array:
    dtype = corners[0].dtype
    # The sum of four half floats may exceed 65,504, the largest one.
    work = np.float32 if dtype == np.float16 else dtype
    first, *others = (corner.astype(work, copy=False) for corner in corners)
    # NaN and infinity are ordinary pixels, not worth a warning.
    with np.errstate(all="ignore"):
        means: Array = np.empty(first.shape, work)
        for some in _split_bands(means.shape[2]):
            np.add(first[:, :, some], 0, out=means[:, :, some])  # four negative zeros give 0, as below
            for corner in others:
                means[:, :, some] += corner[:, :, some]
        means /= 4
        if not np.isfinite(means).all():
            means = _average_present(np.stack([first, *others]))
        return np.asarray(means, dtype)


def _average_present(stack: Array) -> Array:
    """The mean over the first axis of the values that are not NaN."""
    missing = np.isnan(stack)
    present = 4 - missing.sum(axis=0)
    stack[missing] = 0
    means = _add_in_order(stack) / present
    overflown = ~np.isfinite(means)
    if overflown.any():  # the sum of four finite values may be infinite although their mean is not
        means = np.where(overflown, _add_in_order(stack / present), means)
    means[present == 0] = np.nan
    return np.asarray(means)


def _add_in_order(corners: Array) -> Array:
    """The sum of four arrays. ``sum`` would add in another order where they hold one pixel or column, and round otherwise."""
    return np.asarray(0 + corners[0] + corners[1] + corners[2] + corners[3])
