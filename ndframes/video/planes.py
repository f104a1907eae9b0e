"""Convert decoded frames to pixels: as they are shown, or their brightness as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from .._typing import Array

__all__ = ["count_turns", "to_pixels", "turn"]


def to_pixels(frame: VideoFrame, *, is_gray: bool = False) -> Array:
    """Convert a decoded frame to ``(height, width, channels)``: gray, RGB or RGBA, uint8, or uint16 for more than 8 bits.

    The pixels are rotated as the video demands.

    Args:
        frame: a frame from the decoder.
        is_gray: whether to take the brightness alone. A plane of brightness is copied as it is stored, without a conversion
            of its range.
    """
    parts = frame.format.components
    has_alpha = any(part.is_alpha for part in parts) and not is_gray
    is_deep = max(part.bits for part in parts) > 8
    # In these formats the first plane is the brightness.
    if is_gray and frame.format.name.startswith(("yuv", "nv12", "nv16", "nv21", "nv24", "gray")):
        return turn(_first_plane(frame, np.uint16 if is_deep else np.uint8)[:, :, None], count_turns(frame))
    is_one = is_gray or (not has_alpha and len(parts) == 1 and not frame.format.has_palette)
    names = ("gray16le", "rgb48le", "rgba64le") if is_deep else ("gray", "rgb24", "rgba")
    name = names[0] if is_one else names[2] if has_alpha else names[1]
    # One thread: a forked child has none of the converter's threads, and would wait for them for ever when it frees it.
    pixels = frame.to_ndarray(format=name, threads=1)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return turn(pixels, count_turns(frame))


def count_turns(frame: VideoFrame) -> int:
    """The number of quarter turns, counterclockwise, from a decoded frame to what is shown: 0 to 3."""
    return round(frame.rotation / 90) % 4


def turn(pixels: Array, turns: int) -> Array:
    """Rotate ``(height, width, ...)`` by quarter turns, counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _first_plane(frame: VideoFrame, dtype: type[Any]) -> Array:
    """A copy of the brightness as it is stored. FFmpeg's conversion to gray would change its range."""
    plane = frame.planes[0]
    rows: Array = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    brightness: Array = rows.view(dtype)[: frame.height, : frame.width].copy()
    return brightness
