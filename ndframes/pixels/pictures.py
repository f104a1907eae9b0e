"""Pixels of any dtype as pictures of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array

__all__ = [
    "BLUE",
    "GREEN",
    "MAGENTA",
    "RED",
    "WHITE",
    "Band",
    "checkerboard",
    "compose_bands",
    "dtype_range",
    "find_stretch_limits",
    "to_picture",
]
_SQUARE_PX = 8
_LIGHT, _DARK = 236, 204
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
MAGENTA, WHITE = (255, 0, 255), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Band:
    """The display of one channel.

    Attributes:
        code: the channel.
        colour: the colour of the highest values; the lowest ones are black.
        low: values up to here are black.
        high: values from here on have the full colour.
    """

    code: str
    colour: tuple[int, int, int]
    low: float
    high: float


def find_stretch_limits(
    values: Array, missing: Array | None = None, percentiles: tuple[float, float] = (2, 98)
) -> tuple[float, float]:
    """The low and the high limit of a contrast stretch: percentiles of the values, or their range if these are equal.

    Args:
        values: an array of any shape and real dtype.
        missing: the mask of values to ignore, of the same shape. Nan and infinities are always ignored.
        percentiles: those of the low and the high limit, 0 to 100.

    Example:
        >>> find_stretch_limits(np.arange(101)), find_stretch_limits(np.array([0, 0, 0, np.nan, 7]), percentiles=(20, 40))
        ((2.0, 98.0), (0.0, 7.0))
    """
    is_valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if missing is not None:
        is_valid &= ~missing
    found = values[is_valid].astype(np.float64)
    if not found.size:
        return 0.0, 1.0
    low, high = np.percentile(found, percentiles).tolist()
    return (low, high) if low < high else (float(found.min()), float(found.max()))


def dtype_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The values of black and white without a stretch: the range of an integer dtype, 0 to 1 for other dtypes.

    Example:
        >>> dtype_range(np.dtype("uint8")), dtype_range(np.dtype("float32"))
        ((0.0, 255.0), (0.0, 1.0))
    """
    if dtype.kind not in "iu":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def compose_bands(pixels: Array, missing: Array, bands: Sequence[Band]) -> Array:
    """Compose channels into one picture: the sum of their colours, each scaled between its limits.

    A missing value adds nothing. Pixels whose channels are all missing show a checkerboard.

    Args:
        pixels: ``(h, w, c)`` of any real dtype.
        missing: the mask of missing values, of the same shape. A nan is missing too.
        bands: one for each channel.

    Returns:
        ``(h, w, 3)`` uint8. A white uint8 channel with limits 0 and 255 is unchanged.

    Example:
        >>> pixels = np.array([[[0], [128], [200]]], np.uint8)
        >>> compose_bands(pixels, pixels == 200, [Band("gray", WHITE, 0, 255)])[0].tolist()
        [[0, 0, 0], [128, 128, 128], [236, 236, 236]]
    """
    is_missing = missing | np.isnan(pixels) if pixels.dtype.kind == "f" else missing
    picture = np.zeros((*pixels.shape[:2], 3), np.float64)
    for number, band in enumerate(bands):
        extent = band.high - band.low
        values = pixels[:, :, number].astype(np.float64) - band.low
        # A constant channel, whose limits are equal, is shown at half strength.
        strength = (values / extent).clip(0, 1) if extent > 0 else np.full(values.shape, 0.5)
        strength[is_missing[:, :, number]] = 0
        picture += strength[:, :, np.newaxis] * band.colour
    shown: Array = np.rint(picture.clip(0, 255)).astype(np.uint8)
    is_empty = is_missing.all(axis=2)
    shown[is_empty] = checkerboard(*is_empty.shape)[is_empty]
    return shown


def checkerboard(height: int, width: int) -> Array:
    """The pattern of missing pixels: light and dark gray squares, ``(height, width, 3)`` uint8."""
    rows, cols = np.arange(height)[:, None] // _SQUARE_PX, np.arange(width) // _SQUARE_PX
    squares = np.where((rows + cols) % 2, _DARK, _LIGHT).astype(np.uint8)
    coloured: Array = np.repeat(squares[:, :, np.newaxis], 3, axis=2)
    return coloured


def to_picture(pixels: Array) -> Array:
    """A picture ``(h, w)`` or ``(h, w, 3)`` uint8 of pixels ``(h, w, c)`` of any dtype.

    Values of uint8 are kept; those of other dtypes are stretched from the percentile 1 to 99.
    """
    shown = np.abs(pixels) if pixels.dtype.kind == "c" else pixels
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else shown[:, :, 0]
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    values = shown.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    scaled = (values - low) / (high - low if high > low else 1.0)
    # A cast of NaN to an integer is undefined.
    return np.ascontiguousarray(np.nan_to_num(scaled.clip(0, 1) * 255).astype(np.uint8))
