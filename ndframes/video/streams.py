"""The video streams of a file, and which of them is read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["VideoStreamInfo", "find_stream", "list_streams"]
# FFmpeg's numbers in AV_DISPOSITION_*, of which PyAV makes different types in different versions.
_DISPOSITIONS = {
    "default": 1 << 0,
    "dub": 1 << 1,
    "original": 1 << 2,
    "comment": 1 << 3,
    "forced": 1 << 6,
    "hearing_impaired": 1 << 7,
    "visual_impaired": 1 << 8,
    "clean_effects": 1 << 9,
    "attached_pic": 1 << 10,
    "timed_thumbnails": 1 << 11,
    "non_diegetic": 1 << 12,
    "dependent": 1 << 19,
    "still_image": 1 << 20,
    "multilayer": 1 << 21,
}
_PICTURES = ("attached_pic", "timed_thumbnails", "still_image")
# The brands of AVIF and HEIF sequences, whose second stream may hold the alpha of the first one.
_IMAGE_SEQUENCES = frozenset(["avis", "avio", "msf1", "hevc", "hevx", "hevs", "hevm", "avcs", "jpgs"])
# FFmpeg takes streams of so many frames or more as equal.
_ENOUGH_FRAMES = 5
# A stream with one packet among so many has one frame.
_MOST_PACKETS = 200


@dataclass(frozen=True, slots=True)
class VideoStreamInfo:
    """A video stream of a file, as its header describes it.

    Attributes:
        number: of the stream in the file, for ``stream=``.
        codec: such as ``"h264"``; ``None`` if FFmpeg has no decoder for it.
        height: of a stored frame in pixels, before any rotation.
        width: of a stored frame in pixels, before any rotation.
        frames: the number of frames that the header tells; ``None`` if it does not.
        disposition: FFmpeg's names of its roles, such as ``"default"`` or ``"attached_pic"``.
        is_chosen: whether this stream is the one that is read.
    """

    number: int
    codec: str | None
    height: int
    width: int
    frames: int | None
    disposition: tuple[str, ...]
    is_chosen: bool


def list_streams(container: InputContainer, chosen: int) -> tuple[VideoStreamInfo, ...]:
    """Describe the video streams of a file.

    Args:
        container: the opened file.
        chosen: the number of the stream that is read.
    """
    found = []
    for stream in container.streams.video:
        context = stream.codec_context
        has_decoder = context is not None
        found.append(
            VideoStreamInfo(
                stream.index,
                context.codec.canonical_name if has_decoder else None,
                context.height if has_decoder else 0,
                context.width if has_decoder else 0,
                stream.frames or None,
                _dispositions_of(stream),
                stream.index == chosen,
            )
        )
    return tuple(found)


def find_stream(
    container: InputContainer, path: str, number: int | None, reopen: Callable[[], InputContainer]
) -> VideoStream:
    """The video stream of this number; with ``None``, the one that FFmpeg's ``av_find_best_stream`` chooses.

    FFmpeg prefers, in this order, a stream that is marked as the default, one of five frames or more, and the one of the
    highest bit rate. Streams without a decoder, covers, thumbnails and streams of a single frame come last here, whatever
    their marks.

    Args:
        container: the opened file.
        path: its name.
        number: of the stream; ``None``: to choose.
        reopen: opens the file again, to read on without moving ``container``.

    Raises:
        UnreadableImageError: there is no such stream.
    """
    streams = container.streams.video
    if number is not None:
        for stream in streams:
            if stream.index == number:
                return stream
        raise UnreadableImageError(
            f"{path}: stream {number} is not a video; video streams: {[item.index for item in streams]}"
        )
    # Containers store a cover picture as a video stream of one frame. Songs have one, too, and are no videos.
    candidates = [stream for stream in streams if "attached_pic" not in _dispositions_of(stream)]
    if not candidates:
        raise UnreadableImageError(f"{path} has no video stream")
    if len(candidates) == 1:
        return candidates[0]
    single = _find_single(candidates, reopen)

    def class_of(stream: VideoStream) -> tuple[bool, bool, bool]:
        is_picture = any(name in _PICTURES for name in _dispositions_of(stream))
        return stream.codec_context is not None, not is_picture, stream.index not in single

    preferred = max(map(class_of, candidates))
    rest = [stream for stream in candidates if class_of(stream) == preferred]
    if container.metadata.get("major_brand") in _IMAGE_SEQUENCES:
        return rest[0]
    best = container.streams.best("video")
    chosen = next((stream for stream in rest if best is not None and stream.index == best.index), None)
    return chosen or max(rest, key=_rank_of)


def _find_single(candidates: list[VideoStream], reopen: Callable[[], InputContainer]) -> set[int]:
    """The numbers of the streams of one frame: by the header, or if that has no count, by the first packets of the file."""
    if all(stream.frames for stream in candidates):
        return {stream.index for stream in candidates if stream.frames == 1}
    from .libav import av, read_packets

    counts = {stream.index: 0 for stream in candidates}
    with reopen() as container:
        streams = [stream for stream in container.streams.video if stream.index in counts]
        try:
            for packet in itertools.islice(read_packets(container, *streams), _MOST_PACKETS):
                counts[packet.stream_index] += bool(packet.size)
                if min(counts.values()) > 1:
                    break
        # The packets before a damaged one tell as well.
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
    return {number for number, count in counts.items() if count == 1}


def _rank_of(stream: VideoStream) -> tuple[int, int, int, int]:
    """As FFmpeg ranks streams, as far as PyAV tells; the first one of equal streams wins."""
    names = _dispositions_of(stream)
    is_whole = not {"hearing_impaired", "visual_impaired"} & {*names}
    context = stream.codec_context
    bit_rate = (context.bit_rate if context is not None else 0) or 0
    frames = min(stream.frames or _ENOUGH_FRAMES, _ENOUGH_FRAMES)
    return is_whole + ("default" in names), frames, bit_rate, -stream.index


def _dispositions_of(stream: VideoStream) -> tuple[str, ...]:
    bits = int(stream.disposition)
    return tuple(name for name, bit in _DISPOSITIONS.items() if bits & bit)
