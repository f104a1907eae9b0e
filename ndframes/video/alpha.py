"""Transparency of VP8 and VP9, which WebM and Matroska store in a second packet beside each packet of colours.

FFmpeg's own decoders of these codecs ignore the second packet. The decoders of libvpx, which most builds of FFmpeg contain,
decode both.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["AlphaDecoder", "open_alpha_decoder", "stores_alpha_aside"]
_log = logging.getLogger(__name__)
_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_THREADS = 1  # a forked child that frees a decoder with threads waits for them for ever


class AlphaDecoder:
    """A decoder of libvpx. Its methods are those of a stream of PyAV and of its codec context that decode.

    Args:
        context: the codec context of libvpx.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    def decode(self, packet: Packet[Any] | None) -> list[Any]:
        """The frames of a packet, at most one: libvpx holds none back.

        Raises:
            av.error.FFmpegError: the packet does not decode.
        """
        frames: list[Any] = self._context.decode(packet if packet is not None and packet.size else None)
        for frame in frames:
            # FFmpeg does not mark the key frames of libvpx.
            frame.key_frame = packet is not None and packet.is_keyframe
        return frames

    def flush_buffers(self) -> None:
        """Forget what was decoded, before decoding goes on at a key frame."""
        self._context.flush_buffers()


def stores_alpha_aside(stream: VideoStream) -> bool:
    """Whether a stream says that it stores transparency beside its packets."""
    return stream.metadata.get("alpha_mode") == "1" and stream.codec_context.codec.canonical_name in _DECODERS


def open_alpha_decoder(stream: VideoStream, path: str) -> AlphaDecoder | None:
    """A decoder for a stream that stores transparency beside its packets; ``None`` for all other streams.

    If FFmpeg has no decoder of libvpx, the result is ``None``, too. A warning then says that the transparency is not read.

    Args:
        stream: the stream.
        path: the file, for the warning.
    """
    from .libav import av

    if not stores_alpha_aside(stream):
        return None
    name = _DECODERS[stream.codec_context.codec.canonical_name]
    try:
        context: Any = av.CodecContext.create(name, "r")
    except ValueError:  # the class of PyAV's error for a codec that is not known
        warn_about_lost_alpha(path, f"this FFmpeg has no decoder {name}")
        return None
    context.thread_count = _THREADS
    context.extradata = stream.codec_context.extradata
    return AlphaDecoder(context)


@lru_cache(maxsize=1024)
def warn_about_lost_alpha(path: str, cause: str) -> None:
    """Log that transparency is not read; once, since a call with the same arguments does nothing."""
    _log.warning("%s stores transparency, which is not read, since %s; its frames have three channels", path, cause)
