"""Recordings: videos, sequences of images and arrays as frames with exact times, read by their numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import StreamOpenError, shorten
from ..frames.lazyframe import LazyFrame, LazyVideo
from ..pixels.packed import pack, to_bytes
from .reading_pictures import to_picture
from .window import to_fraction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..items.video import VideoData
    from ..video.index import FrameIndex
    from .source import PixelFormat, Source

__all__ = ["Recording", "open_recording"]
#: Images have no times: as FFmpeg, they are taken as 25 a second.
_RATE = "25"


class Recording(Protocol):
    """Frames that are read by their numbers, and their times."""

    def __len__(self) -> int:
        """The number of frames."""

    def time_of(self, number: int) -> Fraction:
        """The time of a frame, in seconds from the first one."""

    def read(self, numbers: Sequence[int]) -> Iterator[Array]:
        """The pictures of frames, in the order of their numbers, which rise."""


def open_recording(source: Source, name: str) -> Recording:
    """Open a video file, a folder or glob of images, an array, or a :class:`LazyFrame` with a time axis.

    Raises:
        StreamOpenError: it has no time axis, or is none of these.
        NdframesError: the file cannot be read.
    """
    uri = source.uri
    if isinstance(uri, LazyFrame):
        return _open_lazy(uri, source, name, lambda pixels: pixels)
    if isinstance(uri, str):
        # Imported here: a program that reads arrays alone needs no files.
        from ..frames.simple import open as open_file

        return _open_lazy(open_file(uri.removeprefix("file://")), source, name, to_bytes)
    if not isinstance(uri, np.ndarray) and not hasattr(uri, "__array__"):
        raise StreamOpenError(
            f"{name}: uri={shorten(uri)} is no source; give a path, a URL, the number of a camera, lavfi:..., an array or a LazyFrame"
        )
    array = uri if hasattr(uri, "shape") and hasattr(uri, "__getitem__") else np.asarray(uri)
    if array.dtype.kind not in "buif":
        raise StreamOpenError(
            f"{name}: an array of {array.dtype}; give one of whole or floating-point numbers, or of bool"
        )
    if len(array.shape) not in (3, 4) or 0 in array.shape[1:]:
        raise StreamOpenError(
            f"{name}: an array of shape {tuple(array.shape)}; give (frames, height, width) or (frames, height, width, channels)"
        )
    return _Images(array, _read_rate(source, name), source.pixel_format, np.asarray)


def _open_lazy(lazy: LazyFrame, source: Source, name: str, convert: Callable[[Array], Array]) -> Recording:
    if lazy.ndim != 4:
        raise StreamOpenError(
            f"{name}: {shorten(lazy.image_id)} is one image, without a time axis; give a video, or a folder or glob of images"
        )
    if not isinstance(lazy, LazyVideo):
        return _Images(lazy, _read_rate(source, name), source.pixel_format, convert)
    data: Any = lazy.frames.image(lazy.image_id)
    decoded = _Decoded.of(lazy, data, source.pixel_format, name)
    if decoded is not None:
        return decoded
    return _Frames(lazy, data, source.pixel_format, convert)


def _read_rate(source: Source, name: str) -> Fraction:
    """Images a second, by the option that FFmpeg has for them."""
    text = (source.options or {}).get("framerate", _RATE)
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise StreamOpenError(
            f"{name}: options={{'framerate': {text!r}}}; give frames per second, such as '25' or '30000/1001'"
        )
    return rate


class _Images:
    """Images at a constant rate: those of a folder, or an array.

    Args:
        images: indexed by frame; each is ``(height, width[, channels])``.
        rate: images a second.
        pixel_format: the order of the channels of the pictures.
        convert: makes an array of an image.
    """

    def __init__(
        self, images: Any, rate: Fraction, pixel_format: PixelFormat, convert: Callable[[Array], Array]
    ) -> None:
        self._images = images
        self._rate = rate
        self._format = pixel_format
        self._convert = convert

    def __len__(self) -> int:
        return int(self._images.shape[0])

    def time_of(self, number: int) -> Fraction:
        return number / self._rate

    def read(self, numbers: Sequence[int]) -> Iterator[Array]:
        for number in numbers:
            yield _copy_if_shared(pack(self._convert(self._images[number]), self._format), self._images)


class _Frames:
    """A video that is read as an array: an animation, a cache entry, or one of more than 8 bits.

    Args:
        lazy: the video.
        data: the same, opened.
        pixel_format: the order of the channels of the pictures.
        convert: puts pixels into the dtype of the pictures.
    """

    def __init__(
        self, lazy: LazyVideo, data: VideoData, pixel_format: PixelFormat, convert: Callable[[Array], Array]
    ) -> None:
        self._lazy = lazy
        self._times = _Times(data)
        self._format = pixel_format
        self._convert = convert

    def __len__(self) -> int:
        return len(self._lazy)

    def time_of(self, number: int) -> Fraction:
        return self._times.of(number)

    def read(self, numbers: Sequence[int]) -> Iterator[Array]:
        # A few at a time: a decoder that is asked for one frame after another goes on where it was.
        for number in numbers:
            yield pack(self._convert(self._lazy[number]), self._format)


class _Decoded:
    """A video whose frames are converted from the decoder's to pictures of 8 bits, without a copy between.

    Args:
        data: the opened video.
        decoder: decodes it.
        pixel_format: of the pictures.
        name: of the source, for errors.
    """

    def __init__(self, data: VideoData, decoder: Any, pixel_format: PixelFormat, name: str) -> None:
        self._numbers = data.frames
        self._times = _Times(data)
        self._decoder = decoder
        self._format = pixel_format
        self._name = name

    @classmethod
    def of(cls, lazy: LazyVideo, data: VideoData, pixel_format: PixelFormat, name: str) -> _Decoded | None:
        """The video, if its decoder's own frames have the channels that it is read with; otherwise ``None``."""
        from ..video.reader import VideoReader

        is_plain = isinstance(data.reader, VideoReader) and not data.reader.decoder.is_gray
        if not is_plain or lazy.dtype != np.uint8 or lazy.channels != ("r", "g", "b"):
            return None
        return cls(data, data.reader.decoder, pixel_format, name)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._numbers)

    def time_of(self, number: int) -> Fraction:
        return self._times.of(number)

    def read(self, numbers: Sequence[int]) -> Iterator[Array]:
        for _, frame in self._decoder.decode_each(self._numbers[number] for number in numbers):
            yield to_picture(frame, self._format, self._name)


class _Times:
    """The exact times of the frames of a video, from its first one."""

    def __init__(self, data: VideoData) -> None:
        self._index: FrameIndex = data.index
        self._numbers = data.frames

    def of(self, number: int) -> Fraction:
        index, place = self._index, self._numbers[number]
        first = self._numbers[0]
        if index.field_times is not None:
            return to_fraction(float(index.field_times[place])) - to_fraction(float(index.field_times[first]))
        return int(index.times[place] - index.times[first]) * index.time_base


def _copy_if_shared(image: Array, images: Any) -> Array:
    """The image, which the consumer may write to, in memory of its own."""
    is_shared = isinstance(images, np.ndarray) and np.may_share_memory(image, images)
    return image.copy() if is_shared else image
