"""VideoWriter: writes a video frame by frame; the file appears complete, or not at all."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NdframesError, OutputError, VideoWriteError, shorten
from ..formats.images.animation import is_animation
from ..formats.images.sniff import open_image
from ..spec.pathinfo import ChannelInfo
from ..system.handles import HandlePool
from ..system.output import check_output_path
from ..system.process import ForkAware
from ..text import count_noun, format_bytes
from .codecs import choose_encoding, container_of, to_rate
from .sink import VideoSink

if TYPE_CHECKING:
    from fractions import Fraction
    from numbers import Rational
    from types import TracebackType

    from typing_extensions import Self

    from .._typing import Array
    from .codecs import CodecName

__all__ = ["VideoWriter", "WriteReport", "check_not_source"]
# Encoders that a forked child must not free: it would wait for their threads for ever.
_INHERITED: list[object] = []


@dataclass(frozen=True, slots=True)
class WriteReport:
    """A report on a video that was written.

    Attributes:
        path: the video.
        frames: the number of frames.
        shape: ``(height, width, channels)`` of a frame.
        dtype: of the frames that were given.
        codec: the codec.
        pixel_format: FFmpeg's name of the stored pixel format.
        raw_bytes: the bytes of the frames as arrays.
        file_bytes: the bytes of the file.
        seconds: the time from the creation of the writer to its end.
    """

    path: str
    frames: int
    shape: tuple[int, int, int]
    dtype: str
    codec: str
    pixel_format: str
    raw_bytes: int
    file_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Bytes of pixels per byte of the file."""
        return self.raw_bytes / self.file_bytes

    def to_dict(self) -> dict[str, Any]:
        """All attributes and :attr:`ratio` as plain data."""
        return {**asdict(self), "ratio": self.ratio}

    def __str__(self) -> str:
        height, width, bands = self.shape
        return (
            f"{count_noun(self.frames, 'frame')} of {height:,} x {width:,} x {bands} {self.dtype} by {self.codec}: "
            f"{format_bytes(self.raw_bytes)} in {format_bytes(self.file_bytes)}, {self.ratio:.3g} to 1, in {self.seconds:.2f} s"
        )


class VideoWriter(ForkAware):
    """Writes a video frame by frame, in bounded memory.

    The frames are written to a hidden file in the same folder; :meth:`close` renames it. If an error or Ctrl-C leaves the
    ``with`` block, the hidden file is removed, and a file that was there before is unchanged. A process that is killed leaves
    the hidden file, never an incomplete video under the name.

    Frames are arrays ``(height, width)`` or ``(height, width, channels)`` of one size and dtype: gray, RGB or RGBA, uint8 or
    uint16. Key frames are at most two seconds apart; with MJPEG and FFV1 every frame is one. The codecs:

    ====== ======================= ======= ================= ====================================================
    codec  endings                 quality presets           reading it back gives
    ====== ======================= ======= ================= ====================================================
    h264   .mp4 .m4v .mov .mkv     0 to 51 ultrafast to      uint8, nearly the same; the same with ``quality=0``
    hevc   .mp4 .m4v .mov .mkv     0 to 51 placebo           as h264; at least 64 x 64 px
    av1    .mp4 .m4v .mkv .webm    0 to 63 0 (slow) to 13    uint8, nearly; gray as 3 channels; at least 64 x 64 px
    mjpeg  .avi .mov .mp4 .mkv     2 to 31 none              uint8, nearly the same; gray as 3 channels
    ffv1   .mkv .avi               none    none              the same; uint16 and RGBA too
    ====== ======================= ======= ================= ====================================================

    Args:
        path: the video; its ending chooses the container. An existing file is replaced.
        fps: frames per second: an int, a float or a Fraction. 23.976, 29.97 and 59.94 mean 24000/1001 and so on.
        codec: ``"h264"``, ``"hevc"``, ``"av1"``, ``"ffv1"`` or ``"mjpeg"``. ``None``: FFV1 for uint16 and RGBA in .mkv and .avi;
            else AV1 for .webm, MJPEG for .avi, and H.264 for the others.
        quality: the encoder's number for constant quality; smaller is better. ``None``: 18, 20, 24 and 3 in the order above,
            at which no difference is visible.
        preset: how much time the encoder spends on a smaller file. ``None``: "medium", for AV1 8.
        intra: whether each frame is a key frame: a larger file, and fast random reads.
        pixel_format: FFmpeg's name: ``"yuv420p"``, ``"yuv422p"`` or ``"yuv444p"`` (full resolution of colour), ``"gray"``; or
            ``"rgb24"`` (H.264) and ``"gbrp"`` (HEVC) without a conversion of colours. ``None``: yuv420p, or yuv444p for odd
            sizes, gray for gray frames, RGB for ``quality=0``.
        metadata: names and JSON values, stored in the file's comment; :func:`video_metadata` returns them.

    Raises:
        VideoWriteError: a value is not allowed, or two values exclude each other.
        OutputError: no container has the path's ending, its folder is missing, or it exists and is not a regular file.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "ramp.mkv"
        >>> with nf.VideoWriter(path, fps=25, codec="ffv1") as writer:
        ...     for number in range(10):
        ...         writer.append(np.full((48, 64, 3), number, np.uint8))
        >>> nf.open(path)[[9, 2], 0, 0].tolist()
        [[9, 9, 9], [2, 2, 2]]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | Rational,
        *,
        codec: CodecName | None = None,
        quality: int | None = None,
        preset: str | int | None = None,
        intra: bool = False,
        pixel_format: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = os.fsdecode(path)
        self._options: dict[str, Any] = {
            "codec": codec, "quality": quality, "preset": preset, "intra": intra, "pixel_format": pixel_format,
        }  # fmt: skip
        # A first check, so that a wrong option fails before any frame is made.
        self._encoding = choose_encoding(self._path, **self._options)
        self._rate = to_rate(fps, self._path, self._encoding.codec)
        self._comment = _to_comment(self._path, metadata)
        check_output_path(self._path)
        self._final = os.path.realpath(self._path)  # a link is kept; the file that it points to is replaced
        self._shape: tuple[int, int, int] | None = None
        self._dtype = np.dtype(np.uint8)
        self._frames = 0
        self._pool = HandlePool()
        self._sink: VideoSink | None = None
        self._report: WriteReport | None = None
        self._closed = ""
        self._started = time.perf_counter()
        # Last: another thread may fork before the attributes are set.
        super().__init__()

    @property
    def path(self) -> str:
        """The path of the video."""
        return self._path

    @property
    def fps(self) -> Fraction:
        """Frames per second, exactly."""
        return self._rate

    @property
    def closed(self) -> bool:
        """Whether the writer accepts no more frames."""
        return bool(self._closed)

    def __len__(self) -> int:
        """The number of frames written."""
        return self._frames

    def append(self, frame: Any) -> None:
        """Write one more frame.

        Args:
            frame: an array ``(height, width)`` or ``(height, width, channels)``, anything that numpy converts to one, or the
                path of an image. All frames have the shape and dtype of the first one.

        Raises:
            VideoWriteError: it is not a frame, or differs from the first one; the writer still accepts other frames. Or the
                writer is closed, or the encoder failed.
            SourceError: the image cannot be read; the writer still accepts other frames.
            OutputError: the file cannot be written; the writer is closed, and the hidden file removed.
        """
        self._check_open()
        name = f"frame {self._frames:,}"
        if isinstance(frame, (str, os.PathLike)):
            source = os.fsdecode(frame)
            check_not_source(self._path, source)
            if is_animation(source):
                raise VideoWriteError(
                    f"{self._path}: {name} ({source}) is an animation of several frames; write those of ndframes.open({source!r})"
                )
            name, frame = f"{name} ({source})", open_image(ChannelInfo(source), self._pool).read_all()
        pixels = _to_pixels(frame, f"{self._path}: {name}")
        if self._shape is None:
            self._start(pixels)
        elif (pixels.shape, pixels.dtype) != (self._shape, self._dtype):
            raise VideoWriteError(
                f"{self._path}: {name} is {_describe(pixels.shape, pixels.dtype)}, "
                f"frame 0 is {_describe(self._shape, self._dtype)}; all frames of a video are alike"
            )
        assert self._sink is not None  # noqa: S101
        try:
            with _translating_errors(self._path):
                self._sink.write(pixels, self._frames)
        # After an error the state of the encoder is unknown: the video cannot go on.
        except BaseException:
            self.abort()
            raise
        self._frames += 1

    def close(self) -> WriteReport:
        """Finish the video and give it its name; a second call returns the same report.

        Returns:
            A report on the video.

        Raises:
            VideoWriteError: no frame was written, or the writer was aborted.
            OutputError: the file cannot be written; the hidden file is removed.
        """
        if self._report is not None:
            return self._report
        self._check_open()
        if self._sink is None or self._shape is None:
            self._closed = "it was closed without a frame"
            raise VideoWriteError(f"{self._path}: no frame was written; a video holds at least one")
        try:
            with _translating_errors(self._path):
                file_bytes = self._sink.finish(self._final, self._frames)
        except BaseException:
            self.abort()
            raise
        self._sink, self._closed = None, "it was closed"
        self._report = WriteReport(
            self._path,
            self._frames,
            self._shape,
            self._dtype.name,
            self._encoding.codec.name,
            self._encoding.pixel_format,
            self._frames * int(np.prod(self._shape)) * self._dtype.itemsize,
            file_bytes,
            time.perf_counter() - self._started,
        )
        return self._report

    def abort(self) -> None:
        """Give the video up: remove the hidden file; nothing appears under its name."""
        sink, self._sink = self._sink, None
        self._closed = self._closed or "it was given up"
        if sink is not None:
            sink.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._closed:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # __init__ may have raised before it set the attribute.
        if getattr(self, "_sink", None) is not None:
            self.abort()

    def __repr__(self) -> str:
        state = f"{self._closed}, " if self._closed else ""
        what = "no frame yet" if self._shape is None else f"{' x '.join(map(str, self._shape))} {self._dtype}"
        return (
            f"<VideoWriter {self._path!r}: {state}{count_noun(self._frames, 'frame')}, {what}, {self._encoding.codec.name}, "
            f"{float(self._rate):.6g} fps>"
        )

    def _start(self, pixels: Array) -> None:
        """Create the encoder, which needs the shape and dtype of the first frame."""
        shape = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
        self._encoding = choose_encoding(self._path, **self._options, shape=shape, dtype=pixels.dtype)
        folder, name = os.path.split(self._final)
        # The name is cut, since file systems limit it to 255 bytes, and unique for several writers of one path.
        temporary = os.path.join(folder, f".{name[:80]}.{uuid.uuid4().hex}.part")
        with _translating_errors(self._path):
            self._sink = VideoSink(
                temporary, container_of(self._path), self._encoding, shape, self._rate, self._comment
            )
        self._shape, self._dtype = shape, pixels.dtype

    def _check_open(self) -> None:
        if self._closed:
            raise VideoWriteError(f"{self._path}: the writer takes no more frames, {self._closed}; open another one")

    def _after_fork_in_child(self) -> None:
        """Leave the file to the parent."""
        if self._sink is not None:
            _INHERITED.append(self._sink)
            self._sink = None
            self._closed = "it belongs to the process that opened it"


def check_not_source(path: str, source: str) -> None:
    """Check that ``source`` is not the file that a video is written to.

    Raises:
        VideoWriteError: it is.
    """
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise VideoWriteError(f"{path} is one of the files that are read, {source}; write to another one")


@contextmanager
def _translating_errors(path: str) -> Iterator[None]:
    """Raise errors of FFmpeg and the system as ours, with the name of the video."""
    from .libav import av

    try:
        yield
    # First, since some of our errors are OSErrors.
    except NdframesError:
        raise
    # Before FFmpegError: FFmpeg's errors of the system are both.
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    except (av.error.FFmpegError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise VideoWriteError(f"{path}: the encoder failed: {cause}; try another codec or size") from error


def _to_pixels(frame: Any, name: str) -> Array:
    """Convert a frame to a contiguous array ``(height, width, channels)``, and check that it can be encoded."""
    try:
        pixels: Array = np.asarray(frame)
    except (TypeError, ValueError, RuntimeError) as error:
        raise VideoWriteError(f"{name} is not an array of pixels: {error}") from error
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        raise VideoWriteError(f"{name} is of {pixels.dtype}, not uint8 or uint16; {_advise(pixels.dtype)}")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise VideoWriteError(
            f"{name} has the shape {np.shape(frame)}; a frame is (height, width) or (height, width, channels) "
            "with 1, 3 or 4 channels"
        )
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))  # PyAV reads the memory as it is


def _advise(dtype: np.dtype[Any]) -> str:
    """How to convert a dtype that no video stores."""
    if dtype.kind == "b":
        return "write frame * np.uint8(255)"
    if dtype.kind == "f":
        return "write (frame * 255).round().astype(np.uint8) if it goes from 0 to 1, or scale it to 65535 and uint16"
    return "convert it by frame.astype(np.uint8) if its values go from 0 to 255, np.uint16 if to 65535"


def _describe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{' x '.join(str(extent) for extent in shape)} {dtype}"


def _to_comment(path: str, metadata: Mapping[str, Any] | None) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise VideoWriteError(f"{path}: metadata={shorten(metadata)}; give a dict of names and JSON values")
    try:
        # NaN is not JSON, and other programs would reject it.
        return json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise VideoWriteError(
            f"{path}: metadata cannot be stored as JSON: {error}; give numbers, text, lists and dicts"
        ) from error
