"""FrameIndex: the frames that a video shows, in order, and where to begin to decode each.

Frame ``i`` is the ``i``-th one that decoding from the beginning shows. A scan of the packets finds this if their timestamps
can be trusted: every packet has one, no two are equal, and the container stores them. Otherwise the whole video is decoded
once, and its frames are counted.
"""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import UnreadableImageError
from ..system.process import IMPORTING
from .slices import are_slices_damaged

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
    "build_index",
    "decode_all",
    "decode_packet",
    "demux",
    "naming_video",
    "open_container",
    "pick_stream",
]
#: How to seek to a key frame: by its presentation time, its decoding time, or its first byte.
Seek = Literal["pts", "dts", "byte"]
_Numbers = np.ndarray[Any, np.dtype[np.int64]]
# Profiles of H.264 whose parameters name the format of colour.
_PROFILES_WITH_CHROMA = frozenset([100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135])
# Containers without an index: a seek by time ends anywhere.
_BYTE_FORMATS = frozenset(["mpegts", "mpeg", "h264", "hevc", "m4v", "av1", "obu", "vc1"])
# Containers that store no presentation times: FFmpeg guesses those of B-frames.
_GUESSED_FORMATS = frozenset(["avi"])
# Containers and codecs that describe the stream at the beginning of the file, so that no frame has to be decoded to know it.
_DESCRIBED_FORMATS = frozenset(["mov", "matroska"])
_DESCRIBED_CODECS = frozenset(["h264", "hevc"])
# The least probing that FFmpeg allows: it accepts no smaller probesize, and takes an analyzeduration of 0 as 5 seconds.
_NOT_PROBED = {"skip_frame": "all", "probesize": "32", "analyzeduration": "1", "fpsprobesize": "0"}


class FrameForm(NamedTuple):
    """The shape and dtype of a frame.

    Attributes:
        shape: ``(height, width, channels)`` of a frame as it is shown.
        dtype: of the pixels.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


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
        is_gray: whether the video stores brightness alone, although the decoder puts out frames with colour.
        opens_unprobed: whether the decoder works without probing, which takes as long as decoding some frames; see
            :func:`open_container`.
        form: shape and dtype of a frame; ``None`` if no frame was decoded yet.
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

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """When each frame is shown, in seconds."""
        return np.asarray(self.times * float(self.time_base), np.float64)

    def find_key(self, frame: int) -> int:
        """The position in ``keys`` of the last key frame at or before ``frame``."""
        return max(0, int(np.searchsorted(self.keys, frame, side="right")) - 1)

    def find_frame(self, time: int) -> int | None:
        """The number of the frame that is shown at exactly ``time``; ``None`` if there is none."""
        place = int(np.searchsorted(self.times, time))
        return place if place < len(self.times) and self.times[place] == time else None


class _PacketInfo(NamedTuple):
    pts: int | None
    dts: int | None
    position: int
    is_key: bool
    is_shown: bool


def build_index(path: str, *, stream: int | None = None) -> FrameIndex:
    """Find every frame of a video: by a scan of its packets, or if that is not enough, by decoding it once.

    Args:
        path: the file.
        stream: the number of the stream; ``None``: the first video stream that is not an attached picture.

    Raises:
        UnreadableImageError: the file is not a video, or none of its frames decodes.
    """
    with open_container(path) as container:
        chosen = pick_stream(container, path, stream)
        chosen.thread_count = 1
        packets = list(_scan(container, chosen, path))
        names = set(container.format.name.split(","))
        is_guessed = bool(names & _GUESSED_FORMATS) and bool(chosen.codec_context.has_b_frames)
        time_base, rate = (_to_fraction(ratio) for ratio in (chosen.time_base, chosen.average_rate))
        time_base, number = time_base or Fraction(1, 1000), chosen.index
        codec = chosen.codec_context.name
        is_gray = codec == "h264" and is_monochrome(chosen.codec_context.extradata or b"")
    keyed = [packet for packet in packets if packet.is_key]
    if not keyed:
        raise UnreadableImageError(f"{path}: its video has no key frame among {len(packets):,} packets")
    how: Seek = "byte" if names & _BYTE_FORMATS and all(packet.position >= 0 for packet in keyed) else "pts"
    times = [packet.pts for packet in packets if packet.is_shown]
    if not is_guessed and None not in times and len(set(times)) == len(times):
        is_described = how == "pts" and bool(names & _DESCRIBED_FORMATS) and codec in _DESCRIBED_CODECS
        opens_unprobed = is_described and _knows_order_unprobed(path, number, packets)
        index = _index_by_times(packets, how, time_base, number, rate)
        if not len(index) or not len(index.keys):
            raise UnreadableImageError(f"{path}: its video shows none of its {len(packets):,} packets")
        return replace(index, is_gray=is_gray, opens_unprobed=opens_unprobed)
    if how == "pts":
        # Presentation times are missing or ambiguous in this file.
        how = "dts"
    return replace(_index_by_decoding(path, keyed, how, number, time_base, rate), is_gray=is_gray)


def is_monochrome(extradata: bytes) -> bool:
    """Whether the parameters of H.264 say that it stores brightness alone; FFmpeg's decoder does not report it.

    Args:
        extradata: the parameter sets, in the form of MP4 or of a byte stream.
    """
    # A byte stream marks the parameter set by a start code. In the form of MP4 it begins at byte 8.
    start = extradata.find(b"\x00\x00\x01\x67") + 3 if extradata[:3] in (b"\x00\x00\x00", b"\x00\x00\x01") else 8
    head = extradata[start : start + 12]  # type, profile, two more bytes; then numbers of variable length in bits
    if len(head) < 6 or head[0] & 31 != 7 or head[1] not in _PROFILES_WITH_CHROMA:
        return False
    bits = "".join(f"{byte:08b}" for byte in head[4:])
    # Two Exp-Golomb numbers: the id of the parameter set, and the format of colour, which is 0 for brightness alone.
    for is_format in (False, True):
        zeros = len(bits) - len(bits.lstrip("0"))
        value, bits = int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1, bits[2 * zeros + 1 :]
        if is_format:
            return value == 0
    return False


def open_container(path: str, *, is_probed: bool = True) -> InputContainer:
    """Open a video file.

    Args:
        path: the file.
        is_probed: whether FFmpeg decodes some frames first, to find out what the header does not say.

    Raises:
        UnreadableImageError: it does not open as a video.
    """
    # Here, so that a program that reads images alone never loads FFmpeg.
    with IMPORTING:
        from .libav import av

    try:
        container: InputContainer = av.open(
            path, mode="r", options={} if is_probed else _NOT_PROBED, **_lenience(av.__version__)
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if _is_empty(path):
            raise UnreadableImageError(f"{path} is empty (0 bytes); it may be an unfinished download") from error
        # The rest of the text of an error of FFmpeg is its own number, and the path again.
        cause = getattr(error, "strerror", None) or error
        raise UnreadableImageError(f"{path} does not open as a video: {cause}") from error
    return container


def _is_empty(path: str) -> bool:
    try:
        return os.path.getsize(path) == 0
    except (OSError, ValueError):
        return False


@contextmanager
def naming_video(path: str) -> Iterator[None]:
    """Turn an error of FFmpeg in the context into one that names the file; a lack of memory stays as it is.

    Raises:
        UnreadableImageError: FFmpeg cannot read the file.
    """
    from .libav import av

    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise UnreadableImageError(f"{path} cannot be read as a video: {error.strerror}") from error


def demux(container: InputContainer, stream: VideoStream, path: str) -> Iterator[Packet[Any]]:
    """The packets of a stream in the order of the file; the last one is empty.

    Raises:
        UnreadableImageError: FFmpeg cannot read the file.
    """
    with naming_video(path):
        yield from container.demux(stream)


def _to_fraction(ratio: Any) -> Fraction | None:
    """Convert a ratio of PyAV, which is a type of its own since version 19."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio is not None and ratio.denominator else None


def _lenience(version: str) -> dict[str, Any]:
    """The options that make PyAV accept tags that are not valid text; version 19 accepts them by default."""
    return {"metadata_errors": "replace"} if int(version.partition(".")[0]) < 19 else {}


def pick_stream(container: InputContainer, path: str, number: int | None) -> VideoStream:
    """Pick the video stream of this number, or the first one that is not an attached picture.

    Raises:
        UnreadableImageError: there is no such stream, or FFmpeg has no decoder for it.
    """
    stream = _find_stream(container, path, number)
    # A damaged header often names a codec that does not exist.
    if stream.codec_context is None:
        raise UnreadableImageError(
            f"{path}: FFmpeg has no decoder for the codec of stream {stream.index}; the header is damaged, or the codec "
            "is not supported"
        )
    return stream


def _find_stream(container: InputContainer, path: str, number: int | None) -> VideoStream:
    streams = container.streams.video
    if number is not None:
        for stream in streams:
            if stream.index == number:
                return stream
        raise UnreadableImageError(
            f"{path}: stream {number} is not a video; video streams: {[item.index for item in streams]}"
        )
    for stream in streams:
        # Containers store a cover picture as a video stream of one frame.
        if "attached_pic" not in str(stream.disposition).lower():
            return stream
    raise UnreadableImageError(f"{path} has no video stream")


def _scan(container: InputContainer, stream: VideoStream, path: str) -> Iterator[_PacketInfo]:
    """The packets that hold frames. Those that an edit list hides are decoded, since others refer to them, but not shown."""
    for packet in demux(container, stream, path):
        # The demuxer ends with an empty packet.
        if packet.size:
            position = -1 if packet.pos is None else packet.pos
            yield _PacketInfo(packet.pts, packet.dts, position, packet.is_keyframe, not packet.is_discard)


def _knows_order_unprobed(path: str, stream: int, packets: list[_PacketInfo]) -> bool:
    """Whether frames are stored in the order in which they are shown, or an unprobed decoder knows that they are not.

    It knows from the table of times or from the parameters of the stream. A decoder that does not know puts out the first
    frames too early, in the wrong order.
    """
    times = [_time_of(packet) for packet in packets]
    if all(later > earlier for earlier, later in itertools.pairwise(times)):
        return True
    with open_container(path, is_probed=False) as container:
        return bool(pick_stream(container, path, stream).codec_context.has_b_frames)


def _index_by_times(
    packets: list[_PacketInfo], how: Seek, time_base: Fraction, stream: int, rate: Fraction | None
) -> FrameIndex:
    """An index of frames sorted by time, without those before the first key frame, which do not decode."""
    first = next(number for number, packet in enumerate(packets) if packet.is_key)
    start = packets[first].pts
    known = [packet for packet in packets[first:] if packet.pts is not None and packet.pts >= (start or 0)]
    times = np.sort(np.array([packet.pts for packet in known if packet.is_shown], np.int64))
    seeks: dict[int, int] = {}
    for packet in sorted((packet for packet in known if packet.is_key), key=_time_of):
        number = int(np.searchsorted(times, _time_of(packet)))  # the first frame shown at or after the key frame
        if number < len(times):
            seeks[number] = packet.position if how == "byte" else _time_of(packet)
    # Two key packets may belong to one frame: a dictionary keeps the later one.
    keys = np.array(list(seeks), np.int64)
    return FrameIndex(times, True, keys, np.array(list(seeks.values()), np.int64), how, time_base, stream, rate)


def _index_by_decoding(
    path: str, keyed: list[_PacketInfo], how: Seek, stream: int, time_base: Fraction, rate: Fraction | None
) -> FrameIndex:
    """An index of frames counted while decoding: the k-th key packet gives the k-th key frame."""
    times: list[int | None] = []
    keys = []
    for frame in decode_all(path, stream):
        if frame.key_frame:
            keys.append(len(times))
        times.append(frame.pts)
    if not times:
        raise UnreadableImageError(f"{path}: none of its frames decodes")
    seeks = [packet.position if how == "byte" else packet.dts for packet in keyed[: len(keys)]]
    known = [(place, seek) for place, seek in zip(keys, seeks, strict=False) if seek is not None]
    # Frame 0 needs an entry, even if its packet has no time to seek to.
    if not known or known[0][0] != 0:
        known.insert(0, (keys[0] if keys else 0, known[0][1] if known else 0))
    return FrameIndex(
        _fill_times(times, time_base, rate),
        False,
        np.array([place for place, _ in known], np.int64),
        np.array([seek for _, seek in known], np.int64),
        how,
        time_base,
        stream,
        rate,
    )


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


def _fill_times(times: list[int | None], time_base: Fraction, rate: Fraction | None) -> _Numbers:
    """Times that rise: those of the frames if they do, else times computed from the frame rate."""
    if None not in times and all(later > earlier for earlier, later in itertools.pairwise(times)):  # type: ignore[operator]
        return np.array(times, np.int64)
    step = 1 / ((rate or Fraction(25)) * time_base)
    return np.array([round(number * step) for number in range(len(times))], np.int64)


def _time_of(packet: _PacketInfo) -> int:
    assert packet.pts is not None  # noqa: S101
    return packet.pts
