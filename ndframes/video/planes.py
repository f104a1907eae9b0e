"""Pixels of decoded frames: as they are shown, or their brightness as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from .._typing import Array

__all__ = ["count_turns", "to_pixels", "turn"]


def to_pixels(frame: VideoFrame, *, is_gray: bool = False) -> Array:
    """A decoded frame as ``(height, width, channels)``: gray, RGB or RGBA, uint8, or uint16 for more than 8 bits.

    It is turned as the video says that it is to be shown.

    Args:
        frame: as the decoder gives it.
        is_gray: whether brightness alone is wanted. Where the frame has a plane of it, that is taken as it is stored, in the
            range in which it is stored, and nothing is converted.
    """
    parts = frame.format.components
    has_alpha = any(part.is_alpha for part in parts) and not is_gray
    is_deep = max(part.bits for part in parts) > 8
    if is_gray and frame.format.name.startswith(("yuv", "nv12", "nv16", "nv21", "nv24", "gray")):
        return turn(_first_plane(frame, np.uint16 if is_deep else np.uint8)[:, :, None], count_turns(frame))
    is_one = is_gray or (not has_alpha and len(parts) == 1 and not frame.format.has_palette)
    names = ("gray16le", "rgb48le", "rgba64le") if is_deep else ("gray", "rgb24", "rgba")
    name = names[0] if is_one else names[2] if has_alpha else names[1]
    # One thread: a forked child that frees the converter would wait for its threads, which it has not, for ever.
    pixels = frame.to_ndarray(format=name, threads=1)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return turn(pixels, count_turns(frame))


def count_turns(frame: VideoFrame) -> int:
    """By how many quarters a decoded frame is to be turned, counterclockwise, to be shown: 0 to 3."""
    return round(frame.rotation / 90) % 4


def turn(pixels: Array, turns: int) -> Array:
    """``(height, width, ...)`` turned by so many quarters, counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _first_plane(frame: VideoFrame, dtype: type[Any]) -> Array:
    """The brightness, as it is stored; a conversion would take it for another range."""
    plane = frame.planes[0]
    rows: Array = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    brightness: Array = rows.view(dtype)[: frame.height, : frame.width].copy()
    return brightness
