"""Landings: where a seek ends in a video. A seek is trusted only if it ends where it was proved to end."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .index import naming_video

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .alpha import AlphaDecoder
    from .index import Seek

__all__ = ["NO_MARK", "digest_of", "is_complete", "mark_of", "seek"]
#: The mark of a landing that is not compared with anything.
NO_MARK = 0
# FFmpeg's numbers for pictures that refer to others, P, B, S and SP; and for one whose kind is not known.
_PREDICTED = frozenset([2, 3, 4, 6])
_UNKNOWN = 0
_MARKED_BYTES = 4096
_NO_TIME = -(1 << 63)


def seek(
    container: InputContainer,
    stream: VideoStream,
    how: Seek,
    target: int,
    path: str,
    *,
    decoder: AlphaDecoder | None = None,
) -> None:
    """Go to a place of a video, and empty its decoder.

    Args:
        container: the open file.
        stream: the stream that is decoded.
        how: the meaning of ``target``.
        target: a time in the stream's unit, or the number of a byte.
        path: the file, for messages.
        decoder: the decoder of the stream, if it is not its own.

    Raises:
        UnreadableImageError: FFmpeg cannot seek there.
    """
    with naming_video(path):
        if how == "byte":
            container.seek(target, stream=stream, unsupported_byte_offset=True)
        else:
            container.seek(target, stream=stream)
    # The decoder still holds frames from before the seek.
    (decoder or stream.codec_context).flush_buffers()


def mark_of(packet: Packet[Any]) -> int:
    """A number that tells a packet from others: a checksum of its time, its size and its first bytes; never 0."""
    view: Any = packet  # it has the interface of a buffer
    head = struct.pack("<qq", _NO_TIME if packet.pts is None else packet.pts, packet.size)
    return 1 << 32 | zlib.crc32(memoryview(view)[:_MARKED_BYTES], zlib.crc32(head))


def digest_of(frame: VideoFrame) -> int:
    """A checksum of the first plane of a frame: of its brightness, or of all its samples where they share a plane."""
    plane, form = frame.planes[0], frame.format
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height]
    bits = form.padded_bits_per_pixel if len(frame.planes) == 1 else 8 * -(-form.components[0].bits // 8)
    # What lies behind the pixels of a row is not defined.
    return zlib.crc32(np.ascontiguousarray(rows[:, : -(-frame.width * bits // 8)]).data)


def is_complete(frame: VideoFrame) -> bool:
    """Whether a frame says that it refers to no other one. A decoder stands in for what it lacks by a frame of no kind."""
    return bool(frame.key_frame) if frame.pict_type == _UNKNOWN else frame.pict_type not in _PREDICTED
