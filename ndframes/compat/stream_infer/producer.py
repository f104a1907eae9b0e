"""Producers: how frames are read. Both read exactly, by ndframes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...errors import NdframesError, StreamError, StreamOpenError, shorten
from ...pixels.packed import convert_colors
from ...stream.opening import name_sources, open_frames
from ...stream.recordings import open_recording
from ...stream.source import Backoff, Source
from ...video.addresses import find_address
from ...video.live import LiveStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._typing import Array
    from ...stream.values import Frame
    from ...video.addresses import StreamAddress

__all__ = ["OpenCVProducer", "Producer", "PyAVProducer", "thin_out"]
_Format = Literal["bgr24", "rgb24", "gray"]
# Rates that differ by less are the same one, rounded by a container.
_SAME_RATE = 0.999
# Of a single frame.
_UNKNOWN_RATE = 25.0


class Producer:
    """Reads frames of a source in one size and one order of colours.

    Args:
        width: of the frames; ``None``: as they are.
        height: of the frames; ``None``: as they are.
        pixel_format: the order of colours: ``"bgr24"``, ``"rgb24"`` or ``"gray"``.

    Raises:
        StreamError: a value is not allowed.
    """

    def __init__(self, width: int | None, height: int | None, pixel_format: str) -> None:
        if (width is None) != (height is None):
            raise StreamError(f"width={width}, height={height}; give both or none")
        for name, value in {"width": width, "height": height}.items():
            if value is not None and (value < 1 or value != int(value)):
                raise StreamError(f"{name}={shorten(value)}; give a whole number of pixels of at least 1")
        if pixel_format not in get_args(_Format):
            raise StreamError(f"format={shorten(pixel_format)}; allowed: {', '.join(map(repr, get_args(_Format)))}")
        self.width, self.height = width, height
        self.format: Any = pixel_format

    def read(self, source: Any, fps: float | None = None, position: float = 0) -> Iterator[Array]:
        """The frames of a source, as uint8 arrays ``(height, width, 3)``, or ``(height, width)`` for gray.

        Args:
            source: anything that :class:`~ndframes.stream.Source` takes: a path, a URL, the number of a camera, an array.
            fps: frames per second: of a source with more of them, the first frame of each ``1 / fps`` seconds is read. A source
                with fewer is read as it is.
            position: where reading a file begins, in seconds.

        Raises:
            StreamError: it cannot be opened, or read to its end.
        """
        for frame in self.frames(source, self.choose_rate(source, fps), position):
            yield frame.image

    def frames(self, source: Any, fps: float | None, position: float) -> Iterator[Frame]:
        """The same with their times.

        Args:
            source: as for :meth:`read`.
            fps: the most frames a second; ``None``: all.
            position: as for :meth:`read`.
        """
        for frame in open_frames(self.describe(source, fps, position, is_live=False)):
            yield self.convert(frame)

    def describe(self, source: Any, fps: float | None, position: float, *, is_live: bool) -> Source:
        """The source in this size and order of colours.

        Args:
            source: as for :meth:`read`.
            fps: the most frames a second; ``None``: all.
            position: as for :meth:`read`.
            is_live: whether it is opened again when it ends.
        """
        shape = None if self.width is None or self.height is None else (int(self.height), int(self.width))
        return Source(
            source,
            fps=fps,
            shape=shape,
            pixel_format=self.format,
            start=position,
            reconnect=Backoff() if is_live else None,
        )

    def convert(self, frame: Frame) -> Frame:
        """A frame in the colours that are asked for, where the source does not give them."""
        return frame

    def choose_rate(self, source: Any, fps: float | None) -> float | None:
        """The rate to which a source is thinned out; ``None`` if it has no more frames than are asked for."""
        if fps is None:
            return None
        return thin_out(self.get_info(source)["fps"], fps)

    def get_info(self, source: Any) -> dict[str, Any]:
        """``width``, ``height``, ``fps``, ``frame_count`` and ``total_seconds`` of a source.

        A video file is indexed, so its count is that of the frames that are read. A live source is opened for a moment; its count
        is -1, and its rate 0 if it does not tell it.

        Raises:
            StreamError: it cannot be opened.
        """
        (described,) = name_sources([Source(source)])
        name = str(described.name)
        address = find_address(described.uri)
        if address is not None:
            return _describe_live(address, name)
        try:
            return _describe_recorded(described, name)
        except StreamError:
            raise
        except NdframesError as error:
            raise StreamOpenError(f"{name}: {error}") from error


class OpenCVProducer(Producer):
    """Frames in the order of colours of OpenCV: blue, green, red.

    Args:
        width: of the frames; ``None``: as they are.
        height: of the frames; ``None``: as they are.
        cvt_code: a code of OpenCV, such as ``cv2.COLOR_BGR2RGB``, by which colours are converted; ``None``: not.

    Raises:
        StreamError: a value is not allowed.

    Example:
        >>> import numpy as np
        >>> red = np.zeros((10, 4, 6, 3), np.uint8)
        >>> red[..., 0] = 255
        >>> frames = list(OpenCVProducer(3, 2).read(red, fps=5))
        >>> len(frames), frames[0].shape, frames[0][0, 0].tolist()
        (2, (2, 3, 3), [0, 0, 255])
    """

    def __init__(self, width: int | None = None, height: int | None = None, cvt_code: int | None = None) -> None:
        super().__init__(width, height, "bgr24")
        self.cvt_code = cvt_code

    def convert(self, frame: Frame) -> Frame:
        """As :meth:`Producer.convert`.

        Raises:
            StreamError: OpenCV cannot convert the colours.
        """
        if self.cvt_code is None:
            return frame
        try:
            return replace(frame, image=convert_colors(frame.image, self.cvt_code))
        except ValueError as error:
            raise StreamError(f"{frame.source}: frame {frame.index:,}: cvt_code: {error}") from error


class PyAVProducer(Producer):
    """Frames in an order of colours by FFmpeg's name.

    Args:
        width: of the frames; ``None``: as they are.
        height: of the frames; ``None``: as they are.
        format: ``"bgr24"``, ``"rgb24"`` or ``"gray"``.

    Raises:
        StreamError: a value is not allowed.
    """

    def __init__(self, width: int | None = None, height: int | None = None, format: str | None = None) -> None:  # noqa: A002
        super().__init__(width, height, "bgr24" if format is None else format)


def thin_out(own: float, fps: float) -> float | None:
    """The rate to which a source of a rate, 0 if unknown, is thinned out; ``None`` if it has no more frames than are asked for.

    Raises:
        StreamError: the rate that is asked for is not above 0.
    """
    if not fps > 0:
        raise StreamError(f"fps={shorten(fps)}; give frames per second above 0")
    return None if 0 < own * _SAME_RATE <= fps else fps


def _describe_recorded(source: Source, name: str) -> dict[str, Any]:
    """The size, the rate and the length of a file, of images or of an array."""
    recording = open_recording(source, name)
    count = len(recording)
    if not count:
        raise StreamOpenError(f"{name}: it has no frame")
    height, width = next(recording.read([0])).shape[:2]
    span = recording.time_of(count - 1)
    fps = float((count - 1) / span) if span else _UNKNOWN_RATE
    return {"width": width, "height": height, "fps": fps, "frame_count": count, "total_seconds": int(count / fps)}


def _describe_live(address: StreamAddress, name: str) -> dict[str, Any]:
    """The size and rate of a live source."""
    with LiveStream(address, open_timeout=10, stall_timeout=5) as stream:
        found = next((each for each in stream.frames() if each.is_sound), None)
        if found is None:
            why = stream.ending.why if stream.ending is not None else "it ended"
            raise StreamOpenError(f"{name}: no frame came: {why}")
        picture, interval = found.picture, stream.interval or Fraction(0)
        return {
            "width": picture.width,
            "height": picture.height,
            "fps": float(1 / interval) if interval else 0.0,
            "frame_count": -1,
            "total_seconds": 0,
        }
