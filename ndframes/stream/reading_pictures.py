"""Decoded frames of a video as pictures of 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import StreamError, UnreadableImageError
from ..pixels.packed import to_bytes

if TYPE_CHECKING:
    from .._typing import Array
    from .source import PixelFormat

__all__ = ["to_picture"]


def to_picture(frame: Any, pixel_format: PixelFormat, name: str) -> Array:
    """A decoded frame as uint8, rotated as the video demands; gray is the brightness as it is stored.

    Args:
        frame: from a decoder of :mod:`ndframes.video`.
        pixel_format: of the picture.
        name: of the source, for errors.

    Raises:
        StreamError: FFmpeg cannot convert it.
    """
    # Here, so that a program that reads arrays alone never loads FFmpeg.
    from ..video.planes import to_colors, to_pixels

    try:
        if pixel_format == "gray":
            return to_bytes(to_pixels(frame, is_gray=True, name=name)[:, :, 0])
        return to_colors(frame, pixel_format, name=name)
    except (UnreadableImageError, ValueError) as error:
        raise StreamError(str(error)) from error
