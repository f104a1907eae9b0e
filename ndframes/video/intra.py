"""Videos in which every frame is a key frame: written once from any video, read frame by frame without a demuxer.

The file is an AVI that any player shows. The segments of the entry hold the place of each packet. So to read a frame is to
look up its segment, to check the bytes, and to decode one packet.
"""

from __future__ import annotations

import base64
import itertools
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError, CacheEntryError, UnreadableImageError
from ..formats.reader import Reader, ReaderFacts
from ..geometry.regions import to_slice
from ..system.process import IMPORTING
from ..system.segments import SEGMENT_DTYPE, Manifest, checksum
from .planes import count_turns, replace_matrix, to_pixels, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    from .._typing import Array
    from ..formats.tiled.tile_cache import TileCache
    from ..formats.tiled.tile_reader import SegmentFile
    from ..system.handles import HandlePool
    from .reader import VideoReader

__all__ = ["IntraReader", "write_intra"]
# Frames per second for players: if the video has no rate, and the most that FFmpeg writes to an AVI.
_RATE, _HIGHEST_RATE = 25, 1000
_DECODERS = {"libx264": "h264", "libx264rgb": "h264"}
# FFmpeg has two names for these pixel formats: one with the range of brightness in it, and one without.
_UNRANGED = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}
_H264_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le")
_MAGICYUV = {"pred": "left"}  # a sixth larger than with "median", but decodes in half the time
# Version 3 with a checksum in each slice: see ``slices``.
_FFV1 = {"level": "3", "slicecrc": "1"}
_SEARCH_BYTES = 64


@dataclass(frozen=True, slots=True)
class _IntraEncoding:
    """How frames are encoded.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: the pixel format of the encoder.
        options: the options of the encoder.
        is_lossless: whether decoding gives the same planes.
        is_converted: whether frames are converted to the pixels that are shown first; otherwise their planes are encoded.
    """

    codec: str
    pixel_format: str
    options: Mapping[str, str]
    is_lossless: bool = True
    is_converted: bool = False

    @property
    def decoder(self) -> str:
        """FFmpeg's name of the decoder."""
        return _DECODERS.get(self.codec, self.codec)


def write_intra(
    file: IO[bytes],
    source: VideoReader,
    *,
    quality: int | None = None,
    frames: range | None = None,
    progress: Callable[[float], None] | None = None,
) -> Manifest:
    """Write every frame of ``source`` as a key frame to ``file``, which must be empty and seekable.

    With a lossless codec, each frame is decoded again and compared before the next one is read.

    Args:
        file: the file to write to.
        source: the video. Its decoded planes are stored without a conversion of colours, if they then show the same pixels.
        quality: the constant rate factor of H.264, 1 to 51; ``None``: lossless, by MagicYUV, or by FFV1 if MagicYUV does not
            know the pixel format.
        frames: the numbers of the frames, step 1; ``None``: all.
        progress: called with the fraction done, 0 to 1.

    Returns:
        The packets and the bytes between them, with checksums of what the encoder returned.

    Raises:
        UnreadableImageError: a frame does not decode, or does not fit into the form of the video.
        BackendError: the pixels are floats, or H.264 does not know the pixel format.
        CacheEntryError: a frame decodes to other planes.
    """
    numbers = range(source.frame_count or 0) if frames is None else frames
    first = next(frame for _, frame in source.decoder.decode_each(numbers[:1]))
    try:
        return _write_frames(file, source, numbers, _choose_encoding(first, source, quality), progress)
    except _ChangedFormatError:
        # The planes of frames differ in kind on the way, but the pixels that they show do not.
        file.seek(0)
        file.truncate()
        return _write_frames(file, source, numbers, _conversion_for(first, source, quality), progress)


class _ChangedFormatError(Exception):
    """The planes of a frame are not of the kind of those of the first frame."""


def _write_frames(
    file: IO[bytes],
    source: VideoReader,
    numbers: range,
    encoding: _IntraEncoding,
    progress: Callable[[float], None] | None,
) -> Manifest:
    """Write frames as :func:`write_intra`, all with one encoding.

    Raises:
        _ChangedFormatError: the encoding is of planes, and those of a frame are of another kind than those of the first one.
    """
    with IMPORTING:
        from .libav import av

    decoded = source.decoder.decode_each(numbers)
    number, first = next(decoded)
    packets: list[tuple[int, int, bytes]] = []
    rate = min(source.decoder.index.rate or _RATE, _HIGHEST_RATE)
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream(encoding.codec, rate=rate)
        _set_up(stream, _prepare_frame(first, number, encoding, source), encoding)
        stream.codec_context.time_base = 1 / Fraction(rate)
        check = _RoundTripCheck(source.path, encoding, stream.codec_context)
        # The None at the end makes the encoder put out the packets that it still holds.
        for place, item in enumerate(itertools.chain([(number, first)], decoded, [None])):
            stored = None
            if item is not None:
                number, frame = item
                if not encoding.is_converted and _kind_of(frame) != _kind_of(first):
                    raise _ChangedFormatError
                stored = _prepare_frame(frame, number, encoding, source)
                # A decoded frame names its old type, which the encoder would keep; 0 leaves the choice to the encoder.
                stored.pts, stored.time_base, stored.pict_type = place, stream.codec_context.time_base, 0
                check.add_frame(stored)
            for packet in stream.encode(stored):
                data = _bytes_of(packet, source.path, len(packets))
                check.add_packet(data)
                packets.append((len(data), checksum(data), data[:_SEARCH_BYTES]))
                container.mux(packet)
            if progress is not None:
                progress(min(1.0, (place + 1) / len(numbers)))
        if len(packets) != len(numbers):
            raise CacheEntryError(
                f"{source.path}: {encoding.codec} gave {len(packets):,} packets for {len(numbers):,} frames"
            )
        layout = {"intra": _describe(first, encoding, stream.codec_context, source), "compress": encoding.codec}
    file.flush()
    return Manifest(_find_segments(file, packets), layout)


def _describe(
    first: VideoFrame, encoding: _IntraEncoding, encoder: VideoCodecContext, source: VideoReader
) -> dict[str, Any]:
    """How to decode the frames, and how to show them, as plain data."""
    return {
        "codec": encoding.decoder,
        "extradata": base64.b64encode(bytes(encoder.extradata or b"")).decode("ascii"),
        "pixel_format": encoding.pixel_format,
        "size": [encoder.height, encoder.width],
        # Converted frames are RGB or gray: 0 is an unspecified range, 2 an unspecified matrix.
        "color_range": 0 if encoding.is_converted else int(first.color_range),
        "color_space": 2 if encoding.is_converted else replace_matrix(first),
        "turns": 0 if encoding.is_converted else count_turns(first),
        "is_gray": source.decoder.is_gray and not encoding.is_converted,
        "is_scaled": source.decoder.is_scaled,
    }


class IntraReader(Reader):
    """Crops of a video in which every frame is a key frame.

    Args:
        path: the file, for messages.
        layout: the layout that :func:`write_intra` returned.
        facts: shape, dtype and number of frames of the video.
        file: the packets.
        cache: stores decoded frames; many readers may share it.
        pool: keeps the decoders.

    Raises:
        UnreadableImageError: a frame does not decode, when reading.
    """

    def __init__(
        self,
        path: str,
        layout: Mapping[str, Any],
        facts: ReaderFacts,
        file: SegmentFile,
        cache: TileCache,
        pool: HandlePool,
    ) -> None:
        super().__init__(path, replace(facts, format="intra", tile_shape=facts.shape[:2], memory_bytes=4096))
        self._decoding = _IntraDecoding(layout["intra"])
        self._file = file
        self._cache = cache
        self._pool = pool
        self._token = object()

    def load_frame(self, number: int) -> Array:
        """The pixels of one frame ``(height, width, channels)``; they must not be written to."""
        key = (self._token, number)
        pixels = self._cache.look_up(key)
        if pixels is None:
            data = self._file.read(_segment_of(number))
            with self._pool.borrow(self._token, self._decoding.open_decoder) as decoder:
                frame = decoder.decode(self.path, number, data)
                pixels = self._decoding.to_pixels(frame, f"{self.path}: frame {number:,}")
            self._cache.admit(key, pixels)
        return pixels

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""
        if not out.size:
            return
        picks = None if bands == self.all_bands else list(bands)
        inside = to_slice(rows), to_slice(cols)
        if self._file.is_distant:
            missing = [time for time in dict.fromkeys(times) if (self._token, time) not in self._cache]
            self._file.read_ahead([_segment_of(time) for time in missing])
        for place, time in enumerate(times):
            window = self.load_frame(time)[inside]
            out[place] = window if picks is None else window[:, :, picks]


class _IntraDecoding:
    """How to decode the frames of an entry, and how to show them; see :func:`_describe`."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._description = description
        self._is_gray = bool(description["is_gray"])
        self._is_scaled = bool(description.get("is_scaled"))

    def open_decoder(self) -> _PacketDecoder:
        """A new decoder of these frames."""
        item = self._description
        height, width = item["size"]
        return _PacketDecoder(item["codec"], base64.b64decode(item["extradata"]), item["pixel_format"], width, height)

    def to_pixels(self, frame: VideoFrame, name: str) -> Array:
        """The pixels of a decoded frame as the video shows it; ``name`` is for errors."""
        # Not every codec stores what its colours mean, so the entry does.
        frame.color_range, frame.colorspace = self._description["color_range"], self._description["color_space"]
        return turn(
            to_pixels(frame, is_gray=self._is_gray, is_scaled=self._is_scaled, name=name), self._description["turns"]
        )


class _PacketDecoder:
    """A decoder of packets that do not depend on each other."""

    def __init__(self, codec: str, extradata: bytes, pixel_format: str, width: int, height: int) -> None:
        with IMPORTING:
            from .libav import av

        context: Any = av.CodecContext.create(codec, "r")
        context.thread_count = 1
        if extradata:
            context.extradata = extradata
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        self._context = context

    def decode(self, path: str, number: int, data: Any) -> VideoFrame:
        """Decode the frame of one packet.

        Raises:
            UnreadableImageError: it does not decode.
        """
        from .libav import av

        try:
            frames = self._context.decode(av.Packet(bytes(data)))
            if not frames:
                # H.264's decoder may wait for B-frames: the end of the stream releases the frame, the flush starts anew.
                frames = self._context.decode(None)
                self._context.flush_buffers()
        except av.error.FFmpegError as error:
            raise UnreadableImageError(f"{path}: frame {number:,} does not decode: {error.strerror}") from error
        if len(frames) != 1:
            raise UnreadableImageError(f"{path}: the packet of frame {number:,} decodes to {len(frames)} frames")
        frame: VideoFrame = frames[0]
        return frame

    def close(self) -> None:
        """Release the decoder."""
        self._context = None


class _RoundTripCheck:
    """Decodes packets, and compares the frames with those that were encoded."""

    def __init__(self, path: str, encoding: _IntraEncoding, encoder: VideoCodecContext) -> None:
        self._path = path
        self._encoding = encoding
        self._encoder = encoder
        self._decoder: _PacketDecoder | None = None
        self._waiting: deque[VideoFrame] = deque()  # an encoder may take several frames before it returns a packet
        self._number = 0

    def add_frame(self, frame: VideoFrame) -> None:
        """Add the next frame that is encoded."""
        self._waiting.append(frame)

    def add_packet(self, data: bytes) -> None:
        """Check the next packet.

        Raises:
            CacheEntryError: it decodes to another frame.
        """
        encoded = self._waiting.popleft()
        # Lossy frames cannot be compared: the first one shows that packets decode, to the right size.
        if self._encoding.is_lossless or not self._number:
            self._decoder = self._decoder or _decoder_of(self._encoding, self._encoder)
            frame = self._decoder.decode(self._path, self._number, data)
            is_equal = not self._encoding.is_lossless or _planes_equal(frame, encoded)
            if (frame.width, frame.height) != (encoded.width, encoded.height) or not is_equal:
                raise CacheEntryError(
                    f"{self._path}: frame {self._number:,} decodes to other pixels than were encoded; not published"
                )
        self._number += 1


def _decoder_of(encoding: _IntraEncoding, encoder: VideoCodecContext) -> _PacketDecoder:
    extradata = bytes(encoder.extradata or b"")
    return _PacketDecoder(encoding.decoder, extradata, encoding.pixel_format, encoder.width, encoder.height)


def _set_up(encoder: Any, frame: VideoFrame, encoding: _IntraEncoding) -> None:
    """Configure an encoder, or the stream of one, for frames like this."""
    context = getattr(encoder, "codec_context", encoder)
    context.options = dict(encoding.options)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, encoding.pixel_format
    context.gop_size = 1
    context.thread_count = 1  # a forked child that frees an encoder with threads waits for them for ever


def _kind_of(frame: VideoFrame) -> tuple[Any, ...]:
    """What must be equal so that frames of planes are stored in one file, and shown in one way."""
    sizes = frame.width, frame.height, frame.format.name
    return (*sizes, frame.color_range, frame.colorspace, count_turns(frame))


def _choose_encoding(first: VideoFrame, source: VideoReader, quality: int | None) -> _IntraEncoding:
    """Choose the codec and pixel format for the frames of a video.

    Planes are smaller than pixels. But the pixels that they show may depend on properties that a codec does not store, such
    as where the samples of colour lie between those of brightness. So the first frame is encoded to find out.
    """
    if source.dtype.kind == "f":
        raise BackendError(
            f"{source.path} has pixels of {source.dtype}, which 'intra' does not store; use 'npy' or 'cog'"
        )
    name = _UNRANGED.get(first.format.name, first.format.name)
    if quality is not None:
        return _lossy_encoding(first, name, source, quality)
    codec, options = ("magicyuv", _MAGICYUV) if name in _formats_of("magicyuv") else ("ffv1", _FFV1)
    encoding = _IntraEncoding(codec, name, options)
    if name in _formats_of(codec) and _round_trips(encoding, first, source):
        return encoding
    return _conversion_for(first, source, quality)


def _conversion_for(first: VideoFrame, source: VideoReader, quality: int | None) -> _IntraEncoding:
    """The encoding of the pixels that are shown, which any frame of the video is converted to.

    Raises:
        BackendError: ``quality`` is given, and H.264 cannot store such pixels.
    """
    bands = source.shape[2]
    if quality is not None:
        if source.dtype.itemsize > 1 or bands != 3:
            raise BackendError(
                f"{source.path} is {first.format.name}, and has {bands} channels of {source.dtype}, which H.264 cannot store; "
                "leave quality out to store it without loss"
            )
        return _IntraEncoding("libx264rgb", "rgb24", _x264_options(quality), is_lossless=False, is_converted=True)
    if source.dtype.itemsize == 1:
        return _IntraEncoding("magicyuv", {1: "gray", 3: "gbrp", 4: "gbrap"}[bands], _MAGICYUV, is_converted=True)
    return _IntraEncoding("ffv1", {1: "gray16le", 3: "gbrp16le", 4: "gbrap16le"}[bands], _FFV1, is_converted=True)


def _lossy_encoding(first: VideoFrame, name: str, source: VideoReader, quality: int) -> _IntraEncoding:
    if name not in _H264_FORMATS:
        return _conversion_for(first, source, quality)
    if first.width % 2 or first.height % 2:
        name = name.replace("420", "444").replace("422", "444")  # x264 needs even sizes for subsampled colour
    return _IntraEncoding("libx264", name, _x264_options(quality), is_lossless=False)


def _x264_options(quality: int) -> dict[str, str]:
    return {
        "preset": "veryfast",
        "tune": "fastdecode",
        "crf": str(quality),
        # All frames are key frames, so looking ahead would only delay packets. One thread: see _set_up.
        "x264-params": "keyint=1:bframes=0:threads=1:rc-lookahead=0",
    }


def _round_trips(encoding: _IntraEncoding, frame: VideoFrame, source: VideoReader) -> bool:
    """Whether a frame that is encoded and decoded has the same planes, and shows the same pixels."""
    from .libav import av

    encoder: Any = av.CodecContext.create(encoding.codec, "w")
    _set_up(encoder, frame, encoding)
    encoder.time_base = Fraction(1, _RATE)
    stored = _prepare_frame(frame, None, encoding, source)
    try:
        packets = [*encoder.encode(stored), *encoder.encode(None)]
    except (av.error.FFmpegError, OSError):  # the encoder does not accept this size
        return False
    decoding = _IntraDecoding(_describe(frame, encoding, encoder, source))
    decoded = decoding.open_decoder().decode(source.path, 0, bytes(packets[0]))
    if not _planes_equal(decoded, stored):
        return False
    pixels, right = decoding.to_pixels(decoded, source.path), source.decoder.to_pixels(frame)
    # The frame may have fewer bits or channels than the video.
    is_of_form = (pixels.shape, pixels.dtype) == (source.shape, source.dtype)
    return is_of_form and np.array_equal(pixels, right)


def _formats_of(codec: str) -> set[str]:
    from .libav import av

    return {item.name for item in av.codec.Codec(codec, "w").video_formats or ()}


def _prepare_frame(frame: VideoFrame, number: int | None, encoding: _IntraEncoding, source: VideoReader) -> VideoFrame:
    """Convert a frame to the pixel format of the encoder."""
    if encoding.is_converted:
        from .libav import av

        pixels = source.decoder.to_pixels(frame, number, source.decoder.form)
        return av.VideoFrame.from_ndarray(
            pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, format=encoding.pixel_format
        )
    if frame.format.name == encoding.pixel_format:
        return frame
    # Equal ranges, so that the conversion changes the layout of planes, but not the brightness.
    tone = frame.color_range
    return frame.reformat(format=encoding.pixel_format, src_color_range=tone, dst_color_range=tone, threads=1)


def _bytes_of(packet: Packet[Any], path: str, number: int) -> bytes:
    if not packet.is_keyframe:
        raise CacheEntryError(f"{path}: the encoder did not make frame {number:,} a key frame")
    return bytes(packet)


def _planes_equal(frame: VideoFrame, other: VideoFrame) -> bool:
    if frame.format.name != other.format.name or len(frame.planes) != len(other.planes):
        return False
    if frame.format.name == "bgr0":  # its fourth byte has no meaning
        one, another = (item.to_ndarray(format="bgr24", threads=1) for item in (frame, other))
        return np.array_equal(one, another)
    for number, planes in enumerate(zip(frame.planes, other.planes, strict=True)):
        # A line of a plane is padded to the alignment of FFmpeg; the padding is not compared.
        parts = [part for part in frame.format.components if part.plane == number]
        row_bytes = parts[0].width * -(-parts[0].bits // 8) * len(parts)
        rows = [
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height] for plane in planes
        ]
        # FFmpeg pads the rows of a plane; the padding is not defined.
        if not np.array_equal(rows[0][:, :row_bytes], rows[1][:, :row_bytes]):
            return False
    return True


def _find_segments(file: IO[bytes], packets: Sequence[tuple[int, int, bytes]]) -> np.ndarray[Any, np.dtype[Any]]:
    """The segments of the file: in turn the bytes before a packet and the packet; then the rest.

    The places of packets come from FFmpeg's demuxer, so that the segments are what another reader of the file finds.
    """
    from .libav import av

    rows: list[tuple[int, int, int]] = []
    end = 0
    file.seek(0)
    with av.open(file, "r", format="avi") as container:
        found = [packet.pos for packet in container.demux(video=0) if packet.size]
    if len(found) != len(packets):
        raise CacheEntryError(
            f"{len(packets):,} packets were written, but {len(found):,} are in the file; not published"
        )
    for position, (length, crc32, head) in zip(found, packets, strict=True):
        file.seek(position)
        # The position may be that of the AVI chunk, whose header comes before the packet.
        start = position + file.read(2 * _SEARCH_BYTES).index(head)
        rows += [(end, start - end, _checksum_of(file, end, start - end)), (start, length, crc32)]
        end = start + length
    file.seek(0, 2)
    rows.append((end, file.tell() - end, _checksum_of(file, end, file.tell() - end)))
    file.seek(0, 2)
    return np.array(rows, SEGMENT_DTYPE)


def _checksum_of(file: IO[bytes], start: int, length: int) -> int:
    file.seek(start)
    return checksum(file.read(length))


def _segment_of(number: int) -> int:
    return 2 * number + 1
