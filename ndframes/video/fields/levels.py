"""Levels: numbers as whole multiples of a step between two limits, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import MovieRangeError

if TYPE_CHECKING:
    from ..._typing import Array
    from .description import Description

__all__ = ["Leveled", "from_levels", "to_levels"]


class Leveled(NamedTuple):
    """A field as levels.

    Attributes:
        levels: ``(y, x, planes)`` of uint8 or uint16.
        clipped: the number of values outside of the limits, by channel.
        missing: the number of NaN, by channel.
    """

    levels: Array
    clipped: Array
    missing: Array


def to_levels(field: Array, form: Description) -> Leveled:
    """Convert ``(y, x, channel)`` to levels: the nearest ones, halves to even. Integers that are stored exactly are shifted.

    Raises:
        MovieRangeError: the field has NaN, and the movie refuses NaN.
    """
    dtype = _level_dtype(form)
    if form.is_exact:
        none = np.zeros(form.bands, np.int64)
        return Leveled(_shift(field, dtype), none, none)
    top = np.iinfo(dtype).max
    low, high = np.asarray(form.vmin), np.asarray(form.vmax)
    scaled = (np.asarray(field, np.float64) - low) * (top / (high - low))
    is_missing = np.isnan(scaled)
    missing = is_missing.sum((0, 1))
    if missing.any() and form.nan == "raise":
        raise MovieRangeError(
            f"{missing.sum():,} of {field.size:,} values are NaN; levels have no NaN: give nan='clip' (the lower limit), "
            "nan='channel' (marked in a channel of its own), or bits='exact'"
        )
    np.rint(scaled, out=scaled)
    scaled[is_missing] = 0
    clipped = ((scaled < 0) | (scaled > top)).sum((0, 1))
    levels = scaled.clip(0, top).astype(dtype)
    if form.planes > form.bands:
        marks = (is_missing << np.arange(form.bands, dtype=dtype)).sum(2, dtype=dtype)
        levels = np.concatenate([levels, marks[:, :, None]], axis=2)
    return Leveled(levels, clipped, missing)


def from_levels(levels: Array, form: Description, bands: Any = slice(None)) -> Array:
    """Convert levels ``(y, x, planes)`` back to ``(y, x, channel)``.

    Args:
        levels: all planes.
        form: what they mean.
        bands: the numbers of the channels.
    """
    chosen = levels[:, :, : form.bands][:, :, bands]
    if form.is_exact:
        return _unshift(chosen, form.dtype)
    low, high = np.asarray(form.vmin)[bands], np.asarray(form.vmax)[bands]
    values: Array = chosen * ((high - low) / np.iinfo(levels.dtype).max)
    values += low
    if form.planes > form.bands:
        bits = np.arange(form.bands, dtype=levels.dtype)[bands]
        values[(levels[:, :, -1:] >> bits & 1).astype(bool)] = np.nan
    return values.astype(form.dtype, copy=False)


def _level_dtype(form: Description) -> np.dtype[Any]:
    return np.dtype(np.uint8 if form.bits == 8 else np.uint16)


def _shift(field: Array, dtype: np.dtype[Any]) -> Array:
    """Integers as unsigned ones in the same order."""
    levels = field.view(dtype) if field.dtype.itemsize == dtype.itemsize else field.astype(dtype)
    return levels ^ dtype.type(1 << (_bits_of(dtype) - 1)) if field.dtype.kind == "i" else levels


def _unshift(levels: Array, dtype: np.dtype[Any]) -> Array:
    levels = np.ascontiguousarray(levels)
    if dtype.kind == "i":
        levels = levels ^ levels.dtype.type(1 << (_bits_of(levels.dtype) - 1))
    return levels.view(dtype)


def _bits_of(dtype: np.dtype[Any]) -> int:
    """The bits of an integer of a dtype."""
    return 8 * dtype.itemsize
