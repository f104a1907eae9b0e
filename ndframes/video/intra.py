"""Videos of which every frame is a key frame: written once from any video, read frame by frame without a demuxer.

The file is an AVI that any player shows. Where each frame's packet lies is in its segments, so reading one is a look at
the table, the packet's bytes held against their checksum, and one decoder's work.
"""

from __future__ import annotations

import base64
import itertools
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import BackendError, CacheEntryError, UnreadableImageError
from ..formats.reader import Reader, ReaderFacts
from ..geometry.regions import to_slice
from ..system.process import IMPORTING
from ..system.segments import SEGMENT, Payload, checksum
from .planes import count_turns, to_pixels, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    from .._typing import Array
    from ..formats.tiled.tile_cache import TileCache
    from ..system.handles import HandlePool
    from .reader import VideoReader

__all__ = ["IntraReader", "write_intra"]
_RATE = 25  # what a player takes for the speed, where the video says none
_DECODERS = {"libx264": "h264", "libx264rgb": "h264"}
# Of the same pixels under two names, the one that says how bright black is, and the one that does not.
_UNRANGED = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}
_H264_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le")
_MAGICYUV = {"pred": "left"}  # a sixth larger than by the median, and decoded in half the time
_FFV1 = {"level": "3", "slicecrc": "1"}
_SEARCH_BYTES = 64


class PacketFile(Protocol):
    """Where a reader gets the bytes of frames from, by the numbers of their segments."""

    def read(self, index: int) -> Any:
        """The bytes of one segment, fit to be decoded."""


@dataclass(frozen=True, slots=True)
class _Form:
    """As what frames are stored.

    Attributes:
        codec: the encoder.
        pixel_format: that it is given.
        options: likewise.
        is_lossless: whether the same planes come back.
        is_shown: whether it is given the pixels that are shown, not the planes of which they are made.
    """

    codec: str
    pixel_format: str
    options: Mapping[str, str]
    is_lossless: bool = True
    is_shown: bool = False

    @property
    def decoder(self) -> str:
        """The codec's name for reading."""
        return _DECODERS.get(self.codec, self.codec)


def write_intra(
    file: IO[bytes],
    source: VideoReader,
    *,
    quality: int | None = None,
    frames: range | None = None,
    progress: Callable[[float], None] | None = None,
) -> Payload:
    """Write every frame of ``source`` as a key frame to ``file``, which must be empty and seekable.

    Where it is lossless, each is decoded again, and held against what was meant, before the next one is read.

    Args:
        file: where to write.
        source: the video; its planes are stored as they are decoded, without a conversion of colours where that gives the
            same pixels.
        quality: the constant rate factor of H.264, 1 to 51; ``None``: lossless, by MagicYUV, or FFV1 where that has not the
            pixel format.
        frames: the numbers of the frames, where not all of them are meant; step 1.
        progress: called with the fraction done.

    Returns:
        The packets, and what is between them, with checksums of what the encoder gave.

    Raises:
        UnreadableImageError: a frame does not decode, or is not like the first one.
        BackendError: H.264 has not the pixel format.
        CacheEntryError: a frame does not come back as it was.
    """
    with IMPORTING:
        import av

    wanted = range(source.frame_count or 0) if frames is None else frames
    decoded, count = (frame for _, frame in source.decoder.decode_each(wanted)), len(wanted)
    first = next(decoded)
    form = _choose_form(first, source, quality)
    packets: list[tuple[int, int, bytes]] = []
    rate = source.decoder.index.rate or _RATE
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream(form.codec, rate=rate)
        _set_up(stream, _to_form(first, form, source), form)
        stream.codec_context.time_base = 1 / Fraction(rate)
        check = _Check(source.path, form, stream.codec_context)
        for number, frame in enumerate(itertools.chain([first], decoded, [None])):
            stored = None
            if frame is not None:
                _check_alike(source, number, frame, first)
                stored = _to_form(frame, form, source)
                stored.pts, stored.time_base, stored.pict_type = number, stream.codec_context.time_base, 0
                check.expect(stored)
            for packet in stream.encode(stored):
                data = _bytes_of(packet, source.path, len(packets))
                check.look(data)
                packets.append((len(data), checksum(data), data[:_SEARCH_BYTES]))
                container.mux(packet)
            if progress is not None:
                progress(min(1.0, (number + 1) / count))
        if len(packets) != count:
            raise CacheEntryError(f"{source.path}: {form.codec} gave {len(packets):,} packets for {count:,} frames")
        layout = {"intra": _describe(first, form, stream.codec_context, source), "compress": form.codec}
    file.flush()
    return Payload(_find_segments(file, packets), layout)


def _describe(first: VideoFrame, form: _Form, encoder: VideoCodecContext, source: VideoReader) -> dict[str, Any]:
    """How the frames are decoded, and what they then mean, as plain data."""
    return {
        "codec": form.decoder,
        "extradata": base64.b64encode(bytes(encoder.extradata or b"")).decode("ascii"),
        "pixel_format": form.pixel_format,
        "size": [encoder.height, encoder.width],
        "color_range": 0 if form.is_shown else int(first.color_range),
        "color_space": 2 if form.is_shown else int(first.colorspace),
        "turns": 0 if form.is_shown else count_turns(first),
        "is_gray": source.decoder.is_gray and not form.is_shown,
    }


class IntraReader(Reader):
    """Crops of a video of key frames.

    Args:
        path: the file, for messages.
        layout: what :func:`write_intra` says of it.
        facts: shape, dtype and number of frames of the video.
        source: where the bytes of packets come from.
        cache: keeps decoded frames; may serve many readers.
        pool: lends the decoders.

    Raises:
        UnreadableImageError: a frame does not decode, when reading.
    """

    def __init__(
        self,
        path: str,
        layout: Mapping[str, Any],
        facts: ReaderFacts,
        source: PacketFile,
        cache: TileCache,
        pool: HandlePool,
    ) -> None:
        super().__init__(path, replace(facts, format="intra", tile_shape=facts.shape[:2], memory_bytes=4096))
        self._said = _Said(layout["intra"])
        self._source = source
        self._cache = cache
        self._pool = pool
        self._token = object()

    def load_frame(self, number: int) -> Array:
        """The pixels of one frame ``(height, width, channels)``; not to be written to."""
        key = (self._token, number)
        pixels = self._cache.look_up(key)
        if pixels is None:
            data = self._source.read(_segment_of(number))
            with self._pool.borrow(self._token, self._said.open_decoder) as decoder:
                pixels = self._said.to_pixels(decoder.decode(self.path, number, data))
            self._cache.admit(key, pixels)
        return pixels

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""
        if not out.size:
            return
        picks = None if bands == self.all_bands else list(bands)
        inside = to_slice(rows), to_slice(cols)
        for place, time in enumerate(times):
            window = self.load_frame(time)[inside]
            out[place] = window if picks is None else window[:, :, picks]


class _Said:
    """What an entry says of its frames: how they are decoded, and what they then mean."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = said
        self._is_gray = bool(said["is_gray"])

    def open_decoder(self) -> _Decoder:
        """One that decodes them."""
        height, width = self._said["size"]
        return _Decoder(
            self._said["codec"], base64.b64decode(self._said["extradata"]), self._said["pixel_format"], width, height
        )

    def to_pixels(self, frame: VideoFrame) -> Array:
        """A decoded frame, as the video shows it."""
        frame.color_range, frame.colorspace = self._said["color_range"], self._said["color_space"]
        return turn(to_pixels(frame, is_gray=self._is_gray), self._said["turns"])


class _Decoder:
    """A decoder of packets that need no other."""

    def __init__(self, codec: str, extradata: bytes, pixel_format: str, width: int, height: int) -> None:
        with IMPORTING:
            import av

        context: Any = av.CodecContext.create(codec, "r")
        context.thread_count = 1
        if extradata:
            context.extradata = extradata
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        self._context = context

    def decode(self, path: str, number: int, data: Any) -> VideoFrame:
        """The frame of one packet.

        Raises:
            UnreadableImageError: it does not decode.
        """
        import av

        try:
            frames = self._context.decode(av.Packet(bytes(data)))
            if not frames:
                frames = self._context.decode(None)
                self._context.flush_buffers()
        except av.error.FFmpegError as error:
            raise UnreadableImageError(f"{path}: frame {number:,} does not decode: {error}") from error
        if len(frames) != 1:
            raise UnreadableImageError(f"{path}: the packet of frame {number:,} gives {len(frames)} frames")
        frame: VideoFrame = frames[0]
        return frame

    def close(self) -> None:
        """Let go of it."""
        self._context = None


class _Check:
    """Decodes what was encoded, and holds it against what was meant."""

    def __init__(self, path: str, form: _Form, encoder: VideoCodecContext) -> None:
        self._path = path
        self._form = form
        self._encoder = encoder
        self._decoder: _Decoder | None = None
        self._meant: deque[VideoFrame] = deque()
        self._number = 0

    def expect(self, frame: VideoFrame) -> None:
        """The next frame that is encoded; an encoder may keep some before it gives the first packet."""
        self._meant.append(frame)

    def look(self, data: bytes) -> None:
        """The next packet.

        Raises:
            CacheEntryError: its frame is not the one that was meant.
        """
        meant = self._meant.popleft()
        if self._form.is_lossless or not self._number:
            self._decoder = self._decoder or _decoder_of(self._form, self._encoder)
            frame = self._decoder.decode(self._path, self._number, data)
            is_equal = not self._form.is_lossless or _planes_equal(frame, meant)
            if (frame.width, frame.height) != (meant.width, meant.height) or not is_equal:
                raise CacheEntryError(
                    f"{self._path}: frame {self._number:,} does not come back from its encoder as it was; not published"
                )
        self._number += 1


def _decoder_of(form: _Form, encoder: VideoCodecContext) -> _Decoder:
    extradata = bytes(encoder.extradata or b"")
    return _Decoder(form.decoder, extradata, form.pixel_format, encoder.width, encoder.height)


def _set_up(encoder: Any, frame: VideoFrame, form: _Form) -> None:
    """Prepare an encoder, or the stream of one, for frames like this."""
    context = getattr(encoder, "codec_context", encoder)
    context.options = dict(form.options)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, form.pixel_format
    context.gop_size = 1
    context.thread_count = 1  # a forked child that frees an encoder would wait for its threads for ever


def _check_alike(source: VideoReader, number: int, frame: VideoFrame, first: VideoFrame) -> None:
    told = [(item.format.name, item.width, item.height, item.color_range, item.colorspace) for item in (frame, first)]
    if told[0] != told[1]:
        raise UnreadableImageError(
            f"{source.path}: frame {number:,} is {told[0][1]} x {told[0][2]} {told[0][0]}, the first one {told[1][1]} x {told[1][2]} "
            f"{told[1][0]}, or of other colours; one form does not hold both: take backend 'npy' or None"
        )


def _choose_form(first: VideoFrame, source: VideoReader, quality: int | None) -> _Form:
    """The codec and pixel format that suit the video's frames.

    Planes are smaller than pixels; but what pixels become of them may depend on more than a codec passes on, such as where
    between those of brightness the samples of colour lie. So it is tried.
    """
    name = _UNRANGED.get(first.format.name, first.format.name)
    if quality is not None:
        return _lossy_form(first, name, source, quality)
    codec, options = ("magicyuv", _MAGICYUV) if name in _formats_of("magicyuv") else ("ffv1", _FFV1)
    form = _Form(codec, name, options)
    if name in _formats_of(codec) and _gives_back(form, first, source):
        return form
    bands = source.shape[2]
    if source.dtype.itemsize == 1:
        return _Form("magicyuv", {1: "gray", 3: "gbrp", 4: "gbrap"}[bands], _MAGICYUV, is_shown=True)
    return _Form("ffv1", {1: "gray16le", 3: "gbrp16le", 4: "gbrap16le"}[bands], _FFV1, is_shown=True)


def _lossy_form(first: VideoFrame, name: str, source: VideoReader, quality: int) -> _Form:
    x264 = {
        "preset": "veryfast",
        "tune": "fastdecode",
        "crf": str(quality),
        "x264-params": "keyint=1:bframes=0:threads=1:rc-lookahead=0",
    }
    if name not in _H264_FORMATS and source.dtype.itemsize == 1 and source.shape[2] == 3:
        return _Form("libx264rgb", "rgb24", x264, is_lossless=False, is_shown=True)
    if name not in _H264_FORMATS:
        raise BackendError(
            f"{source.path} is {name}, which H.264 does not hold; leave out quality, for a lossless form"
        )
    if first.width % 2 or first.height % 2:
        name = name.replace("420", "444").replace("422", "444")
    return _Form("libx264", name, x264, is_lossless=False)


def _gives_back(form: _Form, frame: VideoFrame, source: VideoReader) -> bool:
    """Whether a frame that was stored so has the same planes, and is shown as the same pixels."""
    import av

    encoder: Any = av.CodecContext.create(form.codec, "w")
    _set_up(encoder, frame, form)
    encoder.time_base = Fraction(1, _RATE)
    stored = _to_form(frame, form, source)
    try:
        packets = [*encoder.encode(stored), *encoder.encode(None)]
    except (av.error.FFmpegError, OSError):  # it refuses this size
        return False
    said = _Said(_describe(frame, form, encoder, source))
    again = said.open_decoder().decode(source.path, 0, bytes(packets[0]))
    is_same = _planes_equal(again, stored)
    return is_same and np.array_equal(said.to_pixels(again), source.decoder.to_pixels(frame))


def _formats_of(codec: str) -> set[str]:
    import av

    return {item.name for item in av.codec.Codec(codec, "w").video_formats or ()}


def _to_form(frame: VideoFrame, form: _Form, source: VideoReader) -> VideoFrame:
    """A frame as it is given to the encoder."""
    if form.is_shown:
        import av

        pixels = source.decoder.to_pixels(frame)
        return av.VideoFrame.from_ndarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, format=form.pixel_format)
    if frame.format.name == form.pixel_format:
        return frame
    tone = frame.color_range
    return frame.reformat(format=form.pixel_format, src_color_range=tone, dst_color_range=tone, threads=1)


def _bytes_of(packet: Packet[Any], path: str, number: int) -> bytes:
    if not packet.is_keyframe:
        raise CacheEntryError(f"{path}: frame {number:,} came out of its encoder as no key frame")
    return bytes(packet)


def _planes_equal(frame: VideoFrame, other: VideoFrame) -> bool:
    if frame.format.name != other.format.name or len(frame.planes) != len(other.planes):
        return False
    if frame.format.name == "bgr0":  # of which the fourth byte means nothing
        one, another = (item.to_ndarray(format="bgr24", threads=1) for item in (frame, other))
        return np.array_equal(one, another)
    for number, planes in enumerate(zip(frame.planes, other.planes, strict=True)):
        parts = [part for part in frame.format.components if part.plane == number]
        row_bytes = parts[0].width * -(-parts[0].bits // 8) * len(parts)
        rows = [
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height] for plane in planes
        ]
        if not np.array_equal(rows[0][:, :row_bytes], rows[1][:, :row_bytes]):
            return False
    return True


def _find_segments(file: IO[bytes], packets: Sequence[tuple[int, int, bytes]]) -> np.ndarray[Any, np.dtype[Any]]:
    """What lies before each packet and the packet, in turns; then the rest.

    Where they lie is told by the container's own index, as another reader of it sees them.
    """
    import av

    rows: list[tuple[int, int, int]] = []
    end = 0
    file.seek(0)
    with av.open(file, "r", format="avi") as container:
        found = [packet.pos for packet in container.demux(video=0) if packet.size]
    if len(found) != len(packets):
        raise CacheEntryError(f"{len(packets):,} packets were written, and {len(found):,} are found; not published")
    for position, (length, crc32, head) in zip(found, packets, strict=True):
        file.seek(position)
        start = position + file.read(2 * _SEARCH_BYTES).index(head)
        rows += [(end, start - end, _checksum_of(file, end, start - end)), (start, length, crc32)]
        end = start + length
    file.seek(0, 2)
    rows.append((end, file.tell() - end, _checksum_of(file, end, file.tell() - end)))
    file.seek(0, 2)
    return np.array(rows, SEGMENT)


def _checksum_of(file: IO[bytes], start: int, length: int) -> int:
    file.seek(start)
    return checksum(file.read(length))


def _segment_of(number: int) -> int:
    return 2 * number + 1
