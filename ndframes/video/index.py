"""FrameIndex: the frames that a video shows, in order, and where to begin to decode each.

Frame ``i`` is the ``i``-th one that decoding from the beginning shows. A scan of the packets finds this if their timestamps
can be trusted: every packet has one, no two are equal, and the container stores them. Otherwise the whole video is decoded
once, and its frames are counted.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import NdframesError, UnreadableImageError
from ..system.process import IMPORTING
from .slices import are_slices_damaged
from .streams import find_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from .alpha import AlphaDecoder

__all__ = [
    "FrameForm",
    "FrameIndex",
    "Seek",
    "decode_all",
    "decode_packet",
    "demux",
    "naming_video",
    "open_container",
    "pick_stream",
]
_log = logging.getLogger("ndframes")
#: How to seek to a key frame: by its presentation time, its decoding time, or its first byte.
Seek = Literal["pts", "dts", "byte"]
_Numbers = np.ndarray[Any, np.dtype[np.int64]]
# The least probing that FFmpeg allows: it accepts no smaller probesize, and takes an analyzeduration of 0 as 5 seconds.
_NOT_PROBED = {"skip_frame": "all", "probesize": "32", "analyzeduration": "1", "fpsprobesize": "0"}
# Lists of other files and addresses, which FFmpeg recognises by their content under any name, and opens.
_LISTS = frozenset(["concat", "dash", "hls", "imf", "rtp", "rtsp", "sdp"])
_LIST_STARTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<MPD", b"<?xml")


class FrameForm(NamedTuple):
    """The shape and dtype of a frame.

    Attributes:
        shape: ``(height, width, channels)`` of a frame as it is shown.
        dtype: of the pixels.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def widen(self, other: FrameForm) -> FrameForm:
        """The form into which frames of both forms fit; this one if their sizes differ, since then none does."""
        if self.shape[:2] != other.shape[:2]:
            return self
        height, width, channels = self.shape
        return FrameForm((height, width, max(channels, other.shape[2])), np.result_type(self.dtype, other.dtype))


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Where every frame of a video is.

    Attributes:
        times: when each frame is shown, in units of ``time_base``; estimated if the video does not store it.
        has_exact_times: whether the time of a decoded frame gives its number; otherwise frames are counted from a key frame.
        keys: the numbers of the key frames, rising; decoding can begin at each.
        seeks: the target of the seek to each key frame; see ``how``.
        how: the meaning of ``seeks``.
        time_base: the unit of ``times``, in seconds.
        stream: the number of the stream in its file.
        rate: frames per second on average, from the container; ``None`` if it does not say.
        marks: what the first packet after each seek must be; see :func:`~.landings.mark_of`.
        drops: the number of frames that the decoder puts out after each seek before the frame of ``keys``.
        digests: of each frame, if frames are counted; see :func:`~.landings.digest_of`. ``None`` if times are exact.
        is_gray: whether the video stores brightness alone, although the decoder puts out frames with colour.
        opens_unprobed: whether the decoder works without probing, which takes as long as decoding some frames; see
            :func:`open_container`.
        form: shape and dtype of a frame, the widest of those that were decoded; ``None`` if none was.
        needs_new_decoder: whether going back needs a new decoder, since one keeps the parameters of what it decoded last.
        field_times: the exact time of each field, if the file is a movie of numeric fields; nan for a picture without one.
    """

    times: _Numbers
    has_exact_times: bool
    keys: _Numbers
    seeks: _Numbers
    how: Seek
    time_base: Fraction
    stream: int
    rate: Fraction | None
    is_gray: bool = False
    opens_unprobed: bool = False
    form: FrameForm | None = None
    needs_new_decoder: bool = False
    marks: _Numbers = field(kw_only=True)
    drops: _Numbers = field(kw_only=True)
    digests: _Numbers | None = field(default=None, kw_only=True)
    field_times: np.ndarray[Any, np.dtype[np.float64]] | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """When each frame is shown, in seconds; for a movie of fields, the time that was written with each."""
        if self.field_times is not None:
            return self.field_times
        return np.asarray(self.times * float(self.time_base), np.float64)

    def find_key(self, frame: int) -> int:
        """The position in ``keys`` of the last key frame at or before ``frame``."""
        return max(0, int(np.searchsorted(self.keys, frame, side="right")) - 1)

    def begins_hidden(self, key: int) -> bool:
        """Whether the packet at an entry point holds a frame that is not shown, as at the beginning of an edit list."""
        return self.how == "pts" and bool(self.seeks[key] != self.times[self.keys[key]])

    def find_frame(self, time: int) -> int | None:
        """The number of the frame that is shown at exactly ``time``; ``None`` if there is none."""
        place = int(np.searchsorted(self.times, time))
        return place if place < len(self.times) and self.times[place] == time else None


def open_container(path: str, *, is_probed: bool = True) -> InputContainer:
    """Open a video file. Every path is the name of a file, never an address or a pattern, and no other file is opened.

    Args:
        path: the file.
        is_probed: whether FFmpeg decodes some frames first, to find out what the header does not say.

    Raises:
        UnreadableImageError: it does not open as a video.
    """
    # Here, so that a program that reads images alone never loads FFmpeg.
    with IMPORTING:
        from .libav import LENIENT, av, raise_instead

    options = {"protocol_whitelist": "file", "format_whitelist": _allowed_formats()}
    try:
        container: InputContainer = av.open(
            # FFmpeg takes what is before a colon as a protocol; what follows this one is a name, whatever it is.
            f"file:{path}",
            mode="r",
            options=options if is_probed else {**options, **_NOT_PROBED},
            **LENIENT,
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise_instead(error, UnreadableImageError(_explain(path, error)))
    return container


@cache
def _allowed_formats() -> str:
    """The names of FFmpeg's formats without those that name other files."""
    from .libav import av

    return ",".join(sorted(av.formats_available - _LISTS))


def _explain(path: str, error: Exception) -> str:
    """Why a file does not open."""
    if _is_empty(path):
        return f"{path} is empty (0 bytes); it may be an unfinished download"
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    except (OSError, ValueError):
        start = b""
    if start.startswith(_LIST_STARTS):
        return (
            f"{path} is a playlist or a description of other files (HLS, concat, DASH or SDP), which ndframes does not "
            "follow; open these files themselves"
        )
    # The rest of the text of an error of FFmpeg is its own number, and the path again.
    return f"{path} does not open as a video: {getattr(error, 'strerror', None) or error}"


def _is_empty(path: str) -> bool:
    try:
        return os.path.getsize(path) == 0
    except (OSError, ValueError):
        return False


@contextmanager
def naming_video(path: str, frame: int | None = None) -> Iterator[None]:
    """Turn an error of FFmpeg in the context into one that names the file; a lack of memory stays as it is.

    Args:
        path: the file.
        frame: the number of the frame that is read, if it is known; an error that does not name it yet names it then.

    Raises:
        UnreadableImageError: FFmpeg cannot read the file.
    """
    from .libav import av, raise_instead

    unnumbered = f"{path} cannot be read as a video"
    what = unnumbered if frame is None else f"{path}: frame {frame:,} cannot be read"
    try:
        yield
    except MemoryError:
        raise
    except NdframesError as error:
        text = str(error)
        if frame is None or not text.startswith(unnumbered):
            raise
        raise UnreadableImageError(what + text.removeprefix(unnumbered)) from error.__cause__
    # PyAV has classes of its own for FFmpeg's errors, and raises builtin ones for what it refuses itself.
    except (av.error.FFmpegError, OSError, ValueError, ArithmeticError, EOFError) as error:
        raise_instead(error, UnreadableImageError(f"{what}: {getattr(error, 'strerror', None) or error}"))


def demux(container: InputContainer, stream: VideoStream, path: str) -> Iterator[Packet[Any]]:
    """The packets of a stream in the order of the file; the last one is empty.

    If FFmpeg finds no packet in the rest of a damaged file, they end there, as in FFmpeg's own programs.

    Raises:
        UnreadableImageError: FFmpeg cannot read the file, or none of its packets.
    """
    from .libav import av, read_packets

    packet = None
    with naming_video(path):
        try:
            for packet in read_packets(container, stream):
                yield packet
        except av.error.InvalidDataError as error:
            if packet is None:
                raise
            _warn_about_end(path, error.strerror)
        else:
            return
    # The decoder may still hold frames.
    end: Packet[Any] = av.Packet()
    end.stream = stream
    yield end


@lru_cache(maxsize=1024)
def _warn_about_end(path: str, cause: str) -> None:
    """Log that the rest of a file is not read; once, since a call with the same arguments does nothing."""
    _log.warning(
        "%s is damaged, and FFmpeg finds no packet in the rest of it (%s); the frames before are read", path, cause
    )


def pick_stream(container: InputContainer, path: str, number: int | None) -> VideoStream:
    """Pick the video stream of this number, or the best one; see :func:`~ndframes.video.streams.find_stream`.

    Raises:
        UnreadableImageError: there is no such stream, or FFmpeg has no decoder for it.
    """
    stream = find_stream(container, path, number, lambda: open_container(path))
    # A damaged header often names a codec that does not exist.
    if stream.codec_context is None:
        raise UnreadableImageError(
            f"{path}: FFmpeg has no decoder for the codec of stream {stream.index}; the header is damaged, or the codec "
            "is not supported"
        )
    return stream


def decode_all(path: str, stream: int) -> Iterator[Any]:
    """Decode every frame of a stream in the order in which they are shown; what does not decode is left out."""
    with open_container(path) as container:
        chosen = pick_stream(container, path, stream)
        chosen.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever
        for packet in demux(container, chosen, path):
            yield from decode_packet(packet) or ()


def decode_packet(packet: Packet[Any], decoder: AlphaDecoder | None = None) -> list[Any] | None:
    """The frames that the decoder puts out for a packet; ``None`` if the packet does not decode.

    Args:
        packet: the packet.
        decoder: the decoder; ``None``: that of the stream of the packet.
    """
    from .libav import av

    if packet.size and _is_in_slices(packet.stream) and are_slices_damaged(bytes(packet)):
        return None
    try:
        return packet.decode() if decoder is None else decoder.decode(packet)
    # Not InvalidDataError alone: wrong parameters in a header make a decoder fail with any error.
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        return None


def _is_in_slices(stream: VideoStream) -> bool:
    """Whether packets consist of slices with sizes: FFV1 since version 3, the first version with parameters of its own."""
    context = stream.codec_context
    return context.name == "ffv1" and bool(context.extradata)
