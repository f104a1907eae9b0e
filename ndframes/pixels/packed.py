"""Pixels in the order of channels, the depth and the size that a program of computer vision expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["PackedFormat", "convert_colors", "pack", "resize", "to_bytes"]
PackedFormat = Literal["rgb24", "bgr24", "gray"]
# The weights of BT.601, as FFmpeg and OpenCV have them.
_WEIGHTS = np.array([0.299, 0.587, 0.114])


def pack(pixels: Array, pixel_format: PackedFormat) -> Array:
    """Pixels ``(height, width[, channels])`` as ``(height, width, 3)`` in this order, or as gray ``(height, width)``.

    One channel is gray, two are gray and alpha, three RGB, four RGB and alpha; alpha is left out. More channels have no colour:
    ``"rgb24"`` keeps them as they are.

    Args:
        pixels: of any dtype, which the result has, too.
        pixel_format: the order.

    Raises:
        ValueError: there are more than four channels, and ``pixel_format`` is not ``"rgb24"``.

    Example:
        >>> red = np.array([[[250, 0, 0]]], np.uint8)
        >>> pack(red, "bgr24").tolist(), pack(red, "gray").tolist()
        ([[[0, 0, 250]]], [[75]])
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels > 4:
        if pixel_format != "rgb24":
            raise ValueError(f"{channels} channels cannot become {pixel_format}; choose up to 4 of them, or rgb24")
        return pixels
    if channels <= 2:
        gray = pixels if pixels.ndim == 2 else pixels[:, :, 0]
        return np.ascontiguousarray(gray if pixel_format == "gray" else np.repeat(gray[:, :, None], 3, axis=2))
    if pixel_format == "gray":
        return _to_gray(pixels)
    return np.ascontiguousarray(pixels[:, :, :3] if pixel_format == "rgb24" else pixels[:, :, 2::-1])


def _to_gray(pixels: Array) -> Array:
    brightness = pixels[:, :, :3] @ _WEIGHTS
    is_whole = pixels.dtype.kind in "iu"
    # A bool is bright from half on.
    return np.asarray(np.rint(brightness) if is_whole or pixels.dtype == bool else brightness).astype(pixels.dtype)


def to_bytes(pixels: Array) -> Array:
    """Pixels as uint8: 16 bits are scaled and rounded, and true is 255.

    Raises:
        ValueError: the dtype has no fixed range.

    Example:
        >>> to_bytes(np.array([[0, 128, 129, 65535]], np.uint16)).tolist()
        [[0, 0, 1, 255]]
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return np.asarray((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype == bool:
        return np.where(pixels, 255, 0).astype(np.uint8)
    raise ValueError(f"pixels of {pixels.dtype} have no fixed range; give them as an array, which keeps its dtype")


def resize(pixels: Array, shape: tuple[int, int]) -> Array:
    """Pixels ``(height, width[, channels])`` resized to ``shape``: the mean of an area where it shrinks, else linear.

    Example:
        >>> resize(np.array([[0, 100], [100, 200]], np.uint8), (1, 1)).tolist()
        [[100]]
    """
    if pixels.shape[:2] == tuple(shape):
        return pixels
    import cv2

    height, width = shape
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized).reshape(height, width, *pixels.shape[2:])


def convert_colors(pixels: Array, code: int) -> Array:
    """Pixels ``(height, width, channels)`` in other colours, by a code of OpenCV such as ``cv2.COLOR_BGR2HSV``.

    Raises:
        ValueError: OpenCV has no such code, or it does not fit the pixels.

    Example:
        >>> convert_colors(np.array([[[250, 0, 0]]], np.uint8), 4).tolist()
        [[[0, 0, 250]]]
    """
    import cv2

    try:
        return np.asarray(cv2.cvtColor(pixels, code))
    except cv2.error as error:
        raise ValueError(f"OpenCV cannot convert the colours of {pixels.shape} by code {code}: {error}") from error
