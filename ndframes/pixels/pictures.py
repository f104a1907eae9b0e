"""What people look at: counts and maps in words, and pixels as a picture."""

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
    """How one channel is shown.

    Attributes:
        code: the channel.
        colour: what its highest value looks like; black is its lowest.
        low: the value that is shown black, with all below.
        high: the value that is shown in full colour, with all above.
    """

    code: str
    colour: tuple[int, int, int]
    low: float
    high: float


def find_stretch_limits(
    values: Array, missing: Array | None = None, percentiles: tuple[float, float] = (2, 98)
) -> tuple[float, float]:
    """Between which values the stretch goes: percentiles of what is there, or all of it where these are one.

    Args:
        values: of any shape and real dtype.
        missing: which of them say nothing, of the same shape; so do not-a-numbers and infinities.
        percentiles: of the low and the high limit, 0 to 100.

    Example:
        >>> find_stretch_limits(np.arange(101)), find_stretch_limits(np.array([0, 0, 0, np.nan, 7]), percentiles=(20, 40))
        ((2.0, 98.0), (0.0, 7.0))
    """
    there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if missing is not None:
        there &= ~missing
    found = values[there].astype(np.float64)
    if not found.size:
        return 0.0, 1.0
    low, high = np.percentile(found, percentiles).tolist()
    return (low, high) if low < high else (float(found.min()), float(found.max()))


def dtype_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The values from black to white where nothing is stretched: all of an integer's, 0 to 1 of the others.

    Example:
        >>> dtype_range(np.dtype("uint8")), dtype_range(np.dtype("float32"))
        ((0.0, 255.0), (0.0, 1.0))
    """
    if dtype.kind not in "iu":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def compose_bands(pixels: Array, missing: Array, bands: Sequence[Band]) -> Array:
    """Channels as one picture: each in its colour, from black to full between its limits, and all added up.

    Where all channels are missing, there is a checkerboard; where one is, it adds nothing.

    Args:
        pixels: ``(h, w, c)`` of any real dtype.
        missing: which values say nothing: a mask of the same shape. Not-a-numbers say nothing either.
        bands: one a channel.

    Returns:
        ``(h, w, 3)`` uint8. A channel of uint8 with limits 0 and 255, in white, comes out as it is.

    Example:
        >>> pixels = np.array([[[0], [128], [200]]], np.uint8)
        >>> compose_bands(pixels, pixels == 200, [Band("gray", WHITE, 0, 255)])[0].tolist()
        [[0, 0, 0], [128, 128, 128], [236, 236, 236]]
    """
    gone = missing | np.isnan(pixels) if pixels.dtype.kind == "f" else missing
    picture = np.zeros((*pixels.shape[:2], 3), np.float64)
    for number, band in enumerate(bands):
        extent = band.high - band.low
        values = pixels[:, :, number].astype(np.float64) - band.low
        strength = (values / extent).clip(0, 1) if extent > 0 else np.full(values.shape, 0.5)
        strength[gone[:, :, number]] = 0
        picture += strength[:, :, np.newaxis] * band.colour
    shown: Array = np.rint(picture.clip(0, 255)).astype(np.uint8)
    nothing = gone.all(axis=2)
    shown[nothing] = checkerboard(*nothing.shape)[nothing]
    return shown


def checkerboard(height: int, width: int) -> Array:
    """What stands where there is nothing: light and darker gray squares, ``(height, width, 3)`` uint8."""
    rows, cols = np.arange(height)[:, None] // _SQUARE_PX, np.arange(width) // _SQUARE_PX
    squares = np.where((rows + cols) % 2, _DARK, _LIGHT).astype(np.uint8)
    coloured: Array = np.repeat(squares[:, :, np.newaxis], 3, axis=2)
    return coloured


def to_picture(pixels: Array) -> Array:
    """``(h, w, c)`` of any dtype as ``(h, w)`` or ``(h, w, 3)`` uint8 for looking at, stretched over percentiles 1 to 99."""
    shown = np.abs(pixels) if pixels.dtype.kind == "c" else pixels
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else shown[:, :, 0]
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    values = shown.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    scaled = (values - low) / (high - low if high > low else 1.0)
    return np.ascontiguousarray(np.nan_to_num(scaled.clip(0, 1) * 255).astype(np.uint8))
