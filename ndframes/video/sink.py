"""VideoSink: encodes frames, and writes their packets to a file that gets its name at the end."""

from __future__ import annotations

import gc
import os
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import VideoWriteError
from ..system.files import FileSystem
from ..system.process import IMPORTING
from ..system.scheduling import keeping_scheduling
from ..system.threads import resolve_thread_count
from .planes import PIXEL_FORMATS

if TYPE_CHECKING:
    from fractions import Fraction

    from .._typing import Array
    from .codecs import Encoding

__all__ = ["VideoSink"]
# "faststart": the index comes first, so that a player can begin while it loads. "use_metadata_tags": QuickTime's own comment
# is cut at 64 kB.
_CONTAINER_OPTIONS = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart+use_metadata_tags"}}
# FFmpeg's numbers. The matrix is the one that programs assume if they ignore tags; primaries and curve are those of sRGB.
_FULL, _LIMITED = 2, 1
# FFmpeg's scaler has another number for the same matrix than its tags.
_MATRIX, _MATRIX_FOR_SCALER, _NO_MATRIX = 6, 5, 0
_PRIMARIES, _CURVE = 1, 13


class VideoSink:
    """An encoder and the file that it fills, under a temporary name.

    Args:
        temporary: the path of the file until it is complete.
        container: FFmpeg's name of the container.
        encoding: the codec and its options.
        shape: ``(height, width, channels)`` of the frames.
        rate: frames per second.
        comment: the comment in the file; ``None``: no comment.

    Raises:
        OSError, ValueError, av.error.FFmpegError: encoding or writing failed, here or in a method; the file is removed.
    """

    def __init__(
        self,
        temporary: str,
        container: str,
        encoding: Encoding,
        shape: tuple[int, int, int],
        rate: Fraction,
        comment: str | None,
    ) -> None:
        with IMPORTING:
            from .libav import VideoReformatter, av

        if encoding.codec.name == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # errors alone; by default SVT-AV1 prints to stderr
        self._make_frame = av.VideoFrame.from_ndarray
        # One for all frames, since it caches the tables of the conversion.
        self._scaler: Any = VideoReformatter()
        self._temporary = temporary
        self._encoding = encoding
        self._bands = shape[2]
        self._packets = 0
        self._container: Any = None
        self._stream: Any = None
        # Ctrl-C may also come after this method and before its caller has the object.
        self._remove = weakref.finalize(self, _remove, temporary, os.getpid())
        try:
            self._open(av, container, shape, rate, comment)
        # Also on Ctrl-C: the hidden file must not stay.
        except BaseException:
            self.discard()
            raise

    def _open(self, av: Any, container: str, shape: tuple[int, int, int], rate: Fraction, comment: str | None) -> None:
        encoding, threads = self._encoding, resolve_thread_count(None)
        self._container = av.open(
            self._temporary, "w", format=container, container_options=_CONTAINER_OPTIONS.get(container, {})
        )
        if comment is not None:
            self._container.metadata["comment"] = comment
        self._stream = self._container.add_stream(encoding.encoder, rate=rate, options=encoding.options(threads, shape))
        self._stream.height, self._stream.width = shape[:2]
        self._stream.pix_fmt = encoding.pixel_format
        context = self._stream.codec_context
        context.time_base = 1 / rate
        context.thread_count = threads
        context.gop_size = encoding.keyframe_distance(rate)
        if encoding.codec.name == "hevc" and container in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # QuickTime does not play the other tag, hev1
        if encoding.codec.name != "ffv1":
            self._tag(context)
        # Opens the encoder now, so that it refuses a size or an option before it takes a frame.
        with keeping_scheduling():
            self._container.start_encoding()

    def write(self, pixels: Array, number: int) -> None:
        """Encode a frame."""
        encoding = self._encoding
        source = PIXEL_FORMATS[self._bands, pixels.dtype.itemsize]
        frame = self._make_frame(pixels[:, :, 0] if self._bands == 1 else pixels, format=source)
        if encoding.pixel_format != source:
            is_yuv = not encoding.is_rgb and encoding.codec.name != "ffv1"
            frame = self._scaler.reformat(
                frame,
                format=encoding.pixel_format,
                dst_colorspace=_MATRIX_FOR_SCALER if is_yuv else None,
                src_color_range=_FULL if is_yuv else None,
                dst_color_range=self._range if is_yuv else None,
                threads=1,  # a forked child that frees a converter with threads waits for them for ever
            )
        if encoding.codec.name != "ffv1":
            self._tag(frame)
        frame.pts, frame.time_base, frame.duration = number, self._stream.codec_context.time_base, 1
        self._mux(frame, number + 1)

    def finish(self, final: str, frames: int) -> int:
        """Write the frames that the encoder still holds, flush the file to disk, and rename it to ``final``.

        Returns:
            The size of the file in bytes.
        """
        self._mux(None, frames)
        if self._packets != frames:
            raise VideoWriteError(f"{final}: {frames:,} frames went into the encoder, but {self._packets:,} came out")
        # First, since closing writes the index of the container.
        self._close()
        with open(self._temporary, "r+b") as file:
            FileSystem().sync_file(file)
            file_bytes = os.fstat(file.fileno()).st_size
        # In this order, so that after a power loss the name never leads to incomplete content.
        os.replace(self._temporary, final)
        self._remove.detach()
        FileSystem().sync_folder(os.path.dirname(final))
        return file_bytes

    def discard(self) -> None:
        """Close the file and remove it."""
        try:
            self._close()
        except (OSError, ValueError, RuntimeError):
            pass  # the file is removed anyway
        finally:
            self._remove()

    @property
    def _range(self) -> int:
        return _FULL if self._encoding.is_full_range(self._bands) else _LIMITED

    def _tag(self, target: Any) -> None:
        """Tag an encoder or a frame with the meaning of its colours."""
        target.color_range = self._range
        target.color_primaries, target.color_trc = _PRIMARIES, _CURVE
        if self._encoding.is_rgb:
            target.colorspace = _NO_MATRIX
        elif self._encoding.pixel_format != "gray":
            target.colorspace = _MATRIX

    def _mux(self, frame: Any, frames: int) -> None:
        for packet in self._stream.encode(frame):
            self._packets += 1
            if frames <= 2:
                # x265 leaves the decoding times of such a short video undefined. Two frames are never reordered.
                packet.dts = packet.pts
            self._container.mux(packet)

    def _close(self) -> None:
        container, self._container, self._stream, self._scaler = self._container, None, None, None
        try:
            if container is not None:
                container.close()
        finally:
            del container
            gc.collect()  # frees the encoder, which ends its threads: a forked child would wait for them for ever


def _remove(path: str, owner_pid: int) -> None:
    # Not in a forked copy, whose parent still writes the file.
    if os.getpid() == owner_pid:
        FileSystem().remove(path)
