"""Pixels of decoded frames: as they are shown, or their brightness as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from ..formats.reader import Array

__all__ = ["Orientation", "to_pixels"]


class Orientation(NamedTuple):
    """How a picture is laid down to be shown: its axes are swapped, or not, and what comes out is reversed along axes.

    Attributes:
        is_swapped: whether rows become columns.
        is_reversed_y: whether the result's rows are reversed.
        is_reversed_x: whether the result's columns are.
    """

    is_swapped: bool = False
    is_reversed_y: bool = False
    is_reversed_x: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """What a decoded frame says, to the nearest quarter turn, mirrored or not."""
        said: Any = frame.side_data.get("DISPLAYMATRIX")
        if said is None:
            return cls()
        # A point (x, y) of the frame is shown at (a x + c y, b x + d y), y downwards.
        a, b, _, c, d = np.frombuffer(memoryview(said), np.int32)[:5].tolist()
        return cls(False, d < 0, a < 0) if abs(a) + abs(d) >= abs(b) + abs(c) else cls(True, b < 0, c < 0)

    @property
    def is_mirrored(self) -> bool:
        """Whether no turn alone gives it."""
        return self.is_swapped ^ self.is_reversed_y ^ self.is_reversed_x

    @property
    def degrees(self) -> int:
        """The turn, clockwise: 0, 90, 180 or 270; of what is mirrored, after it was mirrored from left to right."""
        return 90 * self.is_swapped + 180 * (self.is_reversed_y ^ (self.is_swapped and self.is_mirrored))

    def apply(self, pixels: Array) -> Array:
        """``(height, width, ...)`` as it is shown."""
        if not any(self):
            return pixels
        swapped = pixels.swapaxes(0, 1) if self.is_swapped else pixels
        rows, cols = (slice(None, None, -1) if is_reversed else slice(None) for is_reversed in self[1:])
        return np.ascontiguousarray(swapped[rows, cols])


def to_pixels(frame: VideoFrame, *, is_gray: bool = False) -> Array:
    """A decoded frame as ``(height, width, channels)``: gray, RGB or RGBA, uint8, or uint16 for more than 8 bits.

    It is turned, and mirrored, as the video says that it is to be shown.

    Args:
        frame: as the decoder gives it.
        is_gray: whether brightness alone is wanted. Where the frame has a plane of it, that is taken as it is stored, in the
            range in which it is stored, and nothing is converted.
    """
    parts = frame.format.components
    has_alpha = any(part.is_alpha for part in parts) and not is_gray
    is_deep = max(part.bits for part in parts) > 8
    if is_gray and frame.format.name.startswith(("yuv", "nv12", "nv16", "nv21", "nv24", "gray")):
        return Orientation.of(frame).apply(_first_plane(frame, np.uint16 if is_deep else np.uint8)[:, :, None])
    is_one = is_gray or (not has_alpha and len(parts) == 1 and not frame.format.has_palette)
    names = ("gray16le", "rgb48le", "rgba64le") if is_deep else ("gray", "rgb24", "rgba")
    name = names[0] if is_one else names[2] if has_alpha else names[1]
    # One thread: a forked child that frees the converter would wait for its threads, which it has not, for ever.
    pixels = frame.to_ndarray(format=name, threads=1)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return Orientation.of(frame).apply(pixels)


def _first_plane(frame: VideoFrame, dtype: type[Any]) -> Array:
    """The brightness, as it is stored; a conversion would take it for another range."""
    plane = frame.planes[0]
    rows: Array = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    brightness: Array = rows.view(dtype)[: frame.height, : frame.width].copy()
    return brightness
