"""Pixels of any dtype as a small JPEG, to look at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .pictures import to_picture

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["encode_preview"]


def encode_preview(pixels: Array, *, most_px: int = 960, quality: int = 85) -> bytes:
    """A JPEG of pixels.

    Values of uint8 are kept; those of other dtypes are stretched, see :func:`~ndframes.pixels.pictures.to_picture`.

    Args:
        pixels: ``(height, width[, channels])`` of any numeric dtype or bool. Of three channels and more, the first three are
            red, green and blue; of fewer, the first one is shown.
        most_px: the longer side of the picture at most.
        quality: of JPEG, 1 to 100.

    Raises:
        ValueError: they are not a picture.

    Example:
        >>> encode_preview(np.zeros((4, 6), np.float32))[:3].hex()
        'ffd8ff'
    """
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.ndim not in (2, 3)
        or 0 in pixels.shape
        or pixels.dtype.kind not in "biufc"
    ):
        what = (
            f"shape {pixels.shape} of {pixels.dtype}"
            if isinstance(pixels, np.ndarray)
            else f"a {type(pixels).__name__}"
        )
        raise ValueError(f"{what} is not a picture: give an array (height, width[, channels]) of numbers")
    import imagecodecs

    layers = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
    return bytes(imagecodecs.jpeg8_encode(_shrink(layers, most_px), level=quality))


def _shrink(pixels: Array, most_px: int) -> Array:
    """A picture of uint8 whose sides are at most so long."""
    height, width = pixels.shape[:2]
    ratio = max(height, width) / most_px
    if pixels.dtype != np.uint8:
        # Fewer values first: their percentiles take long.
        step = max(1, math.ceil(ratio))
        return to_picture(pixels[::step, ::step])
    picture = to_picture(pixels)
    if ratio <= 1:
        return picture
    import cv2

    shape = max(1, round(height / ratio)), max(1, round(width / ratio))
    small: Array = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
    return small
