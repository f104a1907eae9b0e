"""Convert decoded frames to pixels: as they are shown, or their brightness as it is stored.

A conversion depends on the frame and on the form of the video alone. A frame with fewer bits or channels than the form is
converted to it; FFmpeg does so exactly. A frame that does not fit into the form is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import UnreadableImageError
from .samples import find_kind, read_brightness, read_floats

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from .._typing import Array
    from .index import FrameForm

__all__ = ["PIXEL_FORMATS", "count_turns", "find_form", "replace_matrix", "to_colors", "to_pixels", "turn"]
#: FFmpeg's formats of packed pixels, by the number of channels and the bytes of a sample.
PIXEL_FORMATS = {
    (1, 1): "gray",
    (3, 1): "rgb24",
    (4, 1): "rgba",
    (1, 2): "gray16le",
    (3, 2): "rgb48le",
    (4, 2): "rgba64le",
}
# FFmpeg's numbers of the colour matrices that its converter knows, and of one that is not specified, which it takes as BT.601.
_KNOWN_MATRICES = frozenset([0, 1, 2, 4, 5, 6, 7, 9])
_UNSPECIFIED = 2
# The constant luminance of BT.2020 has the same primaries and nearly the same weights as its other form.
_NEAREST_MATRICES = {10: 9}
_KNOWN_RANGES = frozenset([0, 1, 2])
# The weights of BT.601, which FFmpeg uses for the brightness of red, green and blue.
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


class _Kind(NamedTuple):
    """The channels and dtype of the pixels of a frame."""

    channels: int
    dtype: np.dtype[Any]


def to_pixels(
    frame: VideoFrame,
    *,
    is_gray: bool = False,
    is_scaled: bool = False,
    form: FrameForm | None = None,
    name: str = "the frame",
) -> Array:
    """Convert a decoded frame to ``(height, width, channels)``: gray, RGB or RGBA.

    uint8, or uint16 for more than 8 bits, scaled to its full range; float32 as they are stored for floats. The pixels are
    rotated as the video demands.

    Args:
        frame: a frame from the decoder.
        is_gray: whether to take the brightness alone. It is copied as it is stored, without a conversion of its range; see
            :func:`~ndframes.video.samples.read_brightness`.
        is_scaled: whether brightness of less than 16 bits is scaled to the full range of a uint16 then, as FFmpeg does.
        form: the shape and dtype of the result; ``None``: those of the frame.
        name: of the frame, for errors.

    Raises:
        UnreadableImageError: the frame does not fit into ``form``, or FFmpeg cannot convert it.
    """
    kind = _find_kind(frame, name, is_gray=is_gray)
    if form is not None:
        _check_fit(frame, kind, form, name)
        kind = _Kind(form.shape[2], form.dtype)
    return turn(_read(frame, kind, name, is_gray=is_gray, is_scaled=is_scaled), count_turns(frame))


def to_colors(frame: VideoFrame, order: Literal["rgb24", "bgr24"], *, name: str = "the frame") -> Array:
    """Convert a decoded frame to three channels of 8 bits ``(height, width, 3)``, rotated as the video demands.

    Args:
        frame: a frame from the decoder.
        order: of the channels. In ``"rgb24"`` the values are those of :func:`to_pixels` if that gives three channels of 8 bits.
        name: of the frame, for errors.

    Raises:
        UnreadableImageError: FFmpeg cannot convert it.
    """
    return turn(_convert(frame, order, name), count_turns(frame))


def find_form(
    frame: VideoFrame, *, is_gray: bool = False, name: str = "the frame"
) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """The shape and dtype of what :func:`to_pixels` makes of a frame, found without a conversion.

    Raises:
        UnreadableImageError: no dtype of pixels holds the samples.
    """
    channels, dtype = _find_kind(frame, name, is_gray=is_gray)
    height, width = _find_size(frame)
    return (height, width, channels), dtype


def count_turns(frame: VideoFrame) -> int:
    """The number of quarter turns, counterclockwise, from a decoded frame to what is shown: 0 to 3."""
    # A matrix that maps a direction to nothing, such as one of zeros, has no angle: FFmpeg's is nan, which PyAV makes an integer.
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 180 else 0


def turn(pixels: Array, turns: int) -> Array:
    """Rotate ``(height, width, ...)`` by quarter turns, counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def replace_matrix(frame: VideoFrame) -> int:
    """FFmpeg's number of the colour matrix that a frame is converted with: its own, or if FFmpeg cannot convert that, another.

    Instead of the constant luminance of BT.2020 it is the other matrix of BT.2020, instead of all others BT.601.
    """
    matrix = int(frame.colorspace)
    kind = find_kind(frame.format.name)
    # Without colour differences there is nothing to convert with a matrix.
    if matrix in _KNOWN_MATRICES or kind.is_rgb or kind.channels == 1:
        return matrix
    return _NEAREST_MATRICES.get(matrix, _UNSPECIFIED)


def _find_kind(frame: VideoFrame, name: str, *, is_gray: bool) -> _Kind:
    """What the pixels of a frame are if nothing else is required."""
    channels, dtype, _, has_palette = find_kind(frame.format.name)
    if dtype is None:
        raise UnreadableImageError(
            f"{name} has the pixel format {frame.format.name}, which cannot be read; readable are integers of up to 16 bits and "
            "floats; convert the video with ffmpeg -pix_fmt"
        )
    if is_gray:
        return _Kind(1, dtype)
    return _Kind(4 if has_palette and _has_transparent_colors(frame) else channels, dtype)


def _has_transparent_colors(frame: VideoFrame) -> bool:
    """Whether a frame with a palette shows colours that are not opaque."""
    image, palette = frame.to_ndarray()
    alpha = palette[:, 0]
    # Decoders of formats without transparency leave the alpha of colours that are not defined at 0, some that of all colours.
    return bool(alpha.any()) and bool((alpha[image] < 255).any())


def _find_size(frame: VideoFrame) -> tuple[int, int]:
    """The height and width of a frame as it is shown."""
    return (frame.width, frame.height) if count_turns(frame) % 2 else (frame.height, frame.width)


def _check_fit(frame: VideoFrame, kind: _Kind, form: FrameForm, name: str) -> None:
    """Check that the form of a video holds what a frame stores."""
    shape = _find_size(frame)
    is_as_deep = (kind.dtype.kind == "f") == (form.dtype.kind == "f") and kind.dtype.itemsize <= form.dtype.itemsize
    if shape == form.shape[:2] and kind.channels <= form.shape[2] and is_as_deep:
        return
    what = f"{_describe(*shape, *kind)}, stored as {frame.format.name}"
    raise UnreadableImageError(
        f"{name} is {what}; the first frame is {_describe(*form.shape, form.dtype)}, and so is the array of this video; frames "
        "of several sizes, or that lose bits or channels, are not read as one array: split the video where it changes, or "
        "convert it to one size and pixel format"
    )


def _describe(height: int, width: int, channels: int, dtype: np.dtype[Any]) -> str:
    return f"{height} x {width} px (height x width), {channels} {'channel' if channels == 1 else 'channels'}, {dtype}"


def _read(frame: VideoFrame, kind: _Kind, name: str, *, is_gray: bool, is_scaled: bool) -> Array:
    """The pixels of a frame as the decoder gives them, not rotated."""
    if kind.dtype.kind == "f":
        return _spread(read_floats(frame), kind.channels, is_rgb=find_kind(frame.format.name).is_rgb)
    stored = read_brightness(frame) if is_gray else None
    if stored is not None:
        stored = stored.astype(kind.dtype, copy=False)
        bits = frame.format.components[0].bits
        if is_scaled and kind.dtype.itemsize == 2 and bits < 16:
            stored = stored << (16 - bits) | stored >> (2 * bits - 16)
        return stored[:, :, None]
    pixels = _convert(frame, PIXEL_FORMATS[kind.channels, kind.dtype.itemsize], name)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _spread(samples: Array, channels: int, *, is_rgb: bool) -> Array:
    """Floats of gray, gray and alpha, RGB or RGBA as pixels of gray, RGB or RGBA."""
    if channels == 1 and is_rgb:
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are values, too
            return (samples[:, :, :3] @ _WEIGHTS)[:, :, None]
    if channels == 1:
        return np.ascontiguousarray(samples[:, :, :1])
    colors = samples[:, :, :3] if is_rgb else samples[:, :, [0, 0, 0]]
    if channels == 3:
        return np.ascontiguousarray(colors)
    has_alpha = samples.shape[2] in (2, 4)
    alpha = samples[:, :, -1:] if has_alpha else np.ones_like(samples[:, :, :1])
    return np.concatenate([colors, alpha], axis=2)


def _convert(frame: VideoFrame, target: str, name: str) -> Array:
    """Convert a frame by FFmpeg. Its own properties are the same afterwards."""
    from .libav import av

    matrix, tone = frame.colorspace, frame.color_range
    try:
        frame.colorspace = replace_matrix(frame)
        frame.color_range = tone if tone in _KNOWN_RANGES else 0
        # One thread: a forked child has none of the converter's threads, and would wait for them for ever when it frees it.
        return frame.to_ndarray(format=target, threads=1)
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UnreadableImageError(
            f"{name} has the pixel format {frame.format.name}, which FFmpeg does not convert to {target}: {cause}; convert the "
            "video with ffmpeg -pix_fmt"
        ) from error
    finally:
        frame.colorspace, frame.color_range = matrix, tone
