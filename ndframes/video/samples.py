"""Read the samples of a decoded frame as they are stored, without a conversion."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from .._typing import Array

__all__ = ["SampleKind", "find_kind", "read_brightness", "read_floats", "stores_color"]
_FLOAT = re.compile(r"f(16|32)(le|be)$")
_ORDER = re.compile(r"(le|be)$")


class SampleKind(NamedTuple):
    """What a pixel format stores.

    Attributes:
        channels: 1 for gray, 3 for colours, 4 if there is transparency, except in a palette.
        dtype: of pixels that hold its samples: uint8, uint16 or float32; ``None`` if none of them does.
        is_rgb: whether it stores red, green and blue, not brightness and colour differences.
        has_palette: whether it stores numbers of colours.
    """

    channels: int
    dtype: np.dtype[Any] | None
    is_rgb: bool
    has_palette: bool


class _Packing(NamedTuple):
    """Where the samples of one component lie in the rows of its plane.

    Attributes:
        block: the number of words after which the layout repeats.
        words: the words of a block that hold a sample, one after the other.
        word_bytes: the size of a word.
        shift: the number of bits below the sample in its word.
        bits: the number of bits of a sample, if others lie above it in its word; otherwise 0.
    """

    block: int
    words: tuple[int, ...]
    word_bytes: int
    shift: int = 0
    bits: int = 0


# Formats in which brightness shares a plane with other components, without the byte order at the end of their names. FFmpeg's
# descriptors have these numbers, but PyAV does not pass them on.
_BRIGHTNESS = {
    "yuyv422": _Packing(2, (0,), 1),
    "yvyu422": _Packing(2, (0,), 1),
    "uyvy422": _Packing(2, (1,), 1),
    "uyyvyy411": _Packing(6, (1, 2, 4, 5), 1),
    "ayuv": _Packing(4, (1,), 1),
    "vuya": _Packing(4, (2,), 1),
    "vuyx": _Packing(4, (2,), 1),
    "uyva": _Packing(4, (1,), 1),
    "vyu444": _Packing(3, (1,), 1),
    "ayuv64": _Packing(4, (1,), 2),
    "xv30": _Packing(1, (0,), 4, 10, 10),
    "v30x": _Packing(1, (0,), 4, 12, 10),
    "xv36": _Packing(4, (1,), 2, 4),
    "xv48": _Packing(4, (1,), 2),
    "y210": _Packing(2, (0,), 2, 6),
    "y212": _Packing(2, (0,), 2, 4),
    "y216": _Packing(2, (0,), 2),
    "ya8": _Packing(2, (0,), 1),
    "ya16": _Packing(2, (0,), 2),
}
# Formats whose samples fill the high bits of 16: P010 and its kin, and names such as yuv444p10msble.
_HIGH_BITS = re.compile(r"^p[024]1[026]$|msb$")


@lru_cache(maxsize=512)
def find_kind(name: str) -> SampleKind:
    """What a pixel format stores, by FFmpeg's name."""
    from .libav import av

    kind = av.video.format.VideoFormat(name)
    parts = kind.components
    # The formats of hardware have no components. A sample of a Bayer pattern is spread over two or four pixels.
    bits = kind.bits_per_pixel if name.startswith("bayer") else max((part.bits for part in parts), default=0)
    is_float = bool(_FLOAT.search(name))
    dtype = None
    if parts and (is_float or bits <= 16):
        dtype = np.dtype(np.float32 if is_float else np.uint16 if bits > 8 else np.uint8)
    has_alpha = any(part.is_alpha for part in parts)
    is_gray = len(parts) == 1 and not kind.has_palette
    return SampleKind(4 if has_alpha else 1 if is_gray else 3, dtype, kind.is_rgb, kind.has_palette)


def read_brightness(frame: VideoFrame) -> Array | None:
    """The brightness of a frame as it is stored: ``(height, width)``, uint8 or uint16, a copy; ``None`` if none is stored.

    A sample that fills the high bits of its word, as in P010, is moved to the low ones: it has the value that the same video
    has in a planar format. A bit of monochrome is 0 for black and 255 for white. A palette stores brightness if all colours
    that the frame shows are gray.

    Args:
        frame: a decoded frame of integers.
    """
    name = frame.format.name
    if find_kind(name).has_palette:
        return _read_gray_palette(frame)
    if name.startswith("mono"):
        bits: Array = np.unpackbits(_rows_of(frame, 0), axis=1)[:, : frame.width]
        bits *= 255
        return bits if name == "monob" else ~bits
    packing = _find_packing(name)
    if packing is None:
        return None
    samples: Array = _read_words(frame, 0, packing)
    if packing.bits:
        samples = samples >> packing.shift & ((1 << packing.bits) - 1)
    elif packing.shift:
        samples = samples >> packing.shift
    return samples.astype(np.uint8 if packing.word_bytes == 1 else np.uint16)


@lru_cache(maxsize=512)
def _find_packing(name: str) -> _Packing | None:
    """Where the first plane of a pixel format holds brightness; ``None`` if it holds something else."""
    from .libav import av

    parts, stem = av.video.format.VideoFormat(name).components, _ORDER.sub("", name)
    if stem in _BRIGHTNESS:
        return _BRIGHTNESS[stem]
    # Other packed formats store red, green and blue, or XYZ.
    if not parts[0].is_luma or sum(part.plane == 0 for part in parts) > 1:
        return None
    shift = 16 - parts[0].bits if _HIGH_BITS.search(stem) else 0
    return _Packing(1, (0,), 1 if parts[0].bits <= 8 else 2, shift)


def read_floats(frame: VideoFrame) -> Array:
    """The samples of a frame of floats: ``(height, width, components)``, float32, in the order of FFmpeg's components.

    Args:
        frame: a decoded frame of floats of 16 or 32 bits.
    """
    parts = frame.format.components
    planes = [part.plane for part in parts]
    out = np.empty((frame.height, frame.width, len(parts)), np.float32)
    for number, plane in enumerate(planes):
        shared = planes.count(plane)
        packing = _Packing(shared, (planes[:number].count(plane),), parts[number].bits // 8)
        words = _read_words(frame, plane, packing)
        out[:, :, number] = words.view(words.dtype.str.replace("u", "f"))
    return out


def stores_color(frame: VideoFrame) -> bool:
    """Whether the planes of colour differences of a planar frame hold anything but the value of gray."""
    for part in frame.format.components[1:3]:
        packing = _Packing(1, (0,), 1 if part.bits <= 8 else 2)
        samples = _read_words(frame, part.plane, packing, part.width)[: part.height]
        if (samples != 1 << part.bits - 1).any():
            return True
    return False


def _read_gray_palette(frame: VideoFrame) -> Array | None:
    image, palette = frame.to_ndarray()
    shown: Array = palette[:, 1:][image]  # without alpha, which comes first
    return np.ascontiguousarray(shown[:, :, 0]) if (shown == shown[:, :, :1]).all() else None


def _read_words(frame: VideoFrame, plane: int, packing: _Packing, width: int | None = None) -> Array:
    """The words that hold the samples of a component: ``(height, width)``, with the dtype of the words; may be a view."""
    width = frame.width if width is None else width
    order = ">" if frame.format.is_big_endian else "<"
    # Contiguous, since a view with another dtype needs that; only lines in reverse order are copied for it.
    words = np.ascontiguousarray(_rows_of(frame, plane)).view(f"{order}u{packing.word_bytes}")
    if len(packing.words) == 1:
        return words[:, packing.words[0] :: packing.block][:, :width]
    blocks, places = np.divmod(np.arange(width), len(packing.words))
    return words[:, blocks * packing.block + np.array(packing.words)[places]]


def _rows_of(frame: VideoFrame, plane: int) -> Array:
    """The bytes of a plane ``(height, line)``, with the bytes that FFmpeg pads its lines with; a view."""
    held = frame.planes[plane]
    rows: Array = np.frombuffer(memoryview(held), np.uint8).reshape(-1, abs(held.line_size))
    # A negative size means that the lowest line of the picture comes first.
    return rows[::-1] if held.line_size < 0 else rows
