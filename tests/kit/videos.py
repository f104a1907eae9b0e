"""Videos of every kind, encoded by FFmpeg; each frame encodes its number in its pixels."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

_BITS = 10
_CELL_PX = 16
COUNT = 100
RATE = 25


def draw(number: int, shape: tuple[int, int] = (64, 96), bands: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    """A moving pattern, with the number as black or white cells, five in a row."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    base = (np.sin((x + 2 * number) / 11) + np.cos((y - number) / 7)) / 4 + 0.5
    frame = np.stack([base * (0.4 + 0.3 * band / max(1, bands - 1)) for band in range(bands)], axis=2)
    for bit in range(_BITS):
        top, left = divmod(bit, 5)
        cell = np.s_[top * _CELL_PX : (top + 1) * _CELL_PX, left * _CELL_PX : (left + 1) * _CELL_PX]
        frame[cell] = float(number >> bit & 1)
    if bands == 4:
        frame[:, :, 3] = 0.5 + 0.5 * (number % 2)
    return (frame * np.iinfo(dtype).max + 0.5).astype(dtype)


def read_number(frame: np.ndarray) -> int:
    """The number of a decoded frame."""
    top = float(np.iinfo(frame.dtype).max)
    number = 0
    for bit in range(_BITS):
        row, col = divmod(bit, 5)
        cell = frame[row * _CELL_PX + 4 : (row + 1) * _CELL_PX - 4, col * _CELL_PX + 4 : (col + 1) * _CELL_PX - 4, :3]
        number |= int(cell.mean() > top / 2) << bit
    return number


@dataclass(frozen=True)
class Clip:
    """One kind of video.

    Attributes:
        name: of the file.
        make: writes it to a path.
        first: the number encoded in frame 0.
        count: number of frames.
        turns: quarter turns to undo before the number can be read.
        is_gray, is_deep, has_alpha: properties of its pixels.
    """

    name: str
    make: Callable[[Path], None]
    first: int = 0
    count: int = COUNT
    turns: int = 0
    is_gray: bool = False
    is_deep: bool = False
    has_alpha: bool = False


@dataclass
class Encoding:
    """Encoder, container and their options."""

    codec: str
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    shape: tuple[int, int] = (64, 96)
    source_format: str = "rgb24"
    times: Callable[[int], int] | None = None
    time_base: Fraction = Fraction(1, RATE)
    gop: int = 12
    container_format: str | None = None
    rotation: int = 0

    def __call__(self, path: Path, count: int = COUNT) -> None:
        bands, dtype = {
            "rgb24": (3, np.uint8),
            "gray": (1, np.uint8),
            "gray16le": (1, np.uint16),
            "rgba": (4, np.uint8),
            "rgb48le": (3, np.uint16),
        }[self.source_format]
        with av.open(str(path), "w", format=self.container_format, options=self.container_options) as container:
            stream = container.add_stream(self.codec, rate=RATE, options=self.options)
            stream.height, stream.width = self.shape
            stream.pix_fmt = self.pixel_format
            stream.codec_context.thread_count = 1  # with more, x264 gives other pixels on a busy machine
            stream.codec_context.gop_size = self.gop
            stream.codec_context.time_base = self.time_base
            for number in range(count):
                pixels = draw(number, self.shape, bands, dtype)
                pixels = pixels[:, :, 0] if bands == 1 else pixels
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=self.source_format)
                frame.pts = number if self.times is None else self.times(number)
                frame.time_base = self.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        del container, stream, frame
        gc.collect()  # ends the encoder's threads now: a forked child that freed it would wait for them for ever


def cut(source: Callable[[Path], None], first: int, *, is_edited: bool = False) -> Callable[[Path], None]:
    """Copy the packets from the last key packet before frame ``first``, as cutting tools do.

    With ``is_edited`` the times before ``first`` are negative. The container stores them as an edit list: those frames are
    decoded but not shown.
    """

    def make(path: Path) -> None:
        whole = path.with_name("whole-" + path.name)
        source(whole)
        options = {"avoid_negative_ts": "disabled"} if is_edited else {}
        with av.open(str(whole)) as read, av.open(str(path), "w", options=options) as write:
            stream = read.streams.video[0]
            target = write.add_stream_from_template(stream)
            begin = (stream.start_time or 0) + int(
                Fraction(first, RATE) * stream.time_base.denominator / stream.time_base.numerator
            )
            read.seek(begin, stream=stream)
            for packet in read.demux(stream):
                if packet.dts is None:
                    continue
                if is_edited:
                    packet.pts -= begin
                    packet.dts -= begin
                packet.stream = target
                write.mux(packet)

    return make


def turn(source: Callable[[Path], None], quarters: int) -> Callable[[Path], None]:
    """Set the track's rotation, in quarter turns clockwise, as phones do; the frames are not changed."""

    def make(path: Path) -> None:
        source(path)
        data = bytearray(path.read_bytes())
        start = data.index(b"tkhd") + 44
        a, b, c, d = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][quarters]
        data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        path.write_bytes(data)

    return make


def leave_order_out(source: Callable[[Path], None]) -> Callable[[Path], None]:
    """Remove the reorder depth from H.264 parameters, as some encoders leave it out."""

    def make(path: Path) -> None:
        source(path)
        data = path.read_bytes()
        start = data.index(b"avcC") + 12
        end = start + int.from_bytes(data[start - 2 : start], "big")
        bits = "".join(f"{byte:08b}" for byte in data[start:end])
        # bitstream_restriction_flag, motion_vectors_over_pic_boundaries_flag, no limits of bytes and bits, vectors up to 256 px.
        place = bits.rindex("1111" + 2 * "0001001")
        rest = "01".ljust(len(bits) - place, "0")
        path.write_bytes(data[:start] + int(bits[:place] + rest, 2).to_bytes(end - start, "big") + data[end:])

    return make


def uneven(number: int) -> int:
    """Times in milliseconds of a video with a variable frame rate."""
    return number * 40 + (number * 7919) % 23


def _x264(**options: str) -> dict[str, str]:
    return {"preset": "veryfast", "crf": "18", **{name.replace("_", "-"): value for name, value in options.items()}}


def list_clips() -> Iterator[Clip]:
    """Yield one clip of each kind."""
    h264 = Encoding("libx264", options=_x264(bf="2"))
    yield Clip("plain.mp4", h264)
    yield Clip("plain.mkv", h264)
    yield Clip("plain.mov", h264)
    yield Clip("long.mp4", Encoding("libx264", options=_x264(bf="3"), gop=250))
    fragmented = Encoding("libx264", options=_x264(bf="2"), container_options={"movflags": "frag_keyframe+empty_moov"})
    yield Clip("fragmented.mp4", fragmented)
    yield Clip("unsaid.mp4", leave_order_out(Encoding("libx264", options=_x264(bf="3"))))
    yield Clip("unsaid-fragmented.mp4", leave_order_out(fragmented))
    yield Clip("interlaced.mp4", Encoding("libx264", options=_x264(bf="3", x264_params="tff=1"), gop=50))
    yield Clip("open.mp4", Encoding("libx264", options=_x264(bf="3", x264_params="open-gop=1:keyint=12:min-keyint=12")))
    yield Clip(
        "vp9.webm", Encoding("libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"})
    )
    yield Clip("av1.mp4", Encoding("libsvtav1", options={"preset": "12", "crf": "25"}))
    yield Clip(
        "hevc.mp4",
        Encoding("libx265", options={"preset": "ultrafast", "crf": "18", "x265-params": "log-level=none:bframes=3"}),
    )
    yield Clip("mpeg4.avi", Encoding("mpeg4", options={"bf": "2", "q": "2", "qscale": "2"}))
    yield Clip("h264.avi", h264)
    yield Clip("mjpeg.avi", Encoding("mjpeg", pixel_format="yuvj420p", options={"q": "2"}))
    yield Clip("ffv1.mkv", Encoding("ffv1", pixel_format="bgr0", gop=12))
    yield Clip("ffv1.avi", Encoding("ffv1", pixel_format="bgr0", gop=1))
    yield Clip("stream.ts", h264)
    yield Clip("uneven.mp4", Encoding("libx264", options=_x264(bf="2"), times=uneven, time_base=Fraction(1, 1000)))
    yield Clip("uneven.mkv", Encoding("libx264", options=_x264(bf="2"), times=uneven, time_base=Fraction(1, 1000)))
    yield Clip("raw.h264", Encoding("libx264", options=_x264(bf="2"), container_format="h264"))
    open_gop = Encoding("libx264", options=_x264(bf="3", x264_params="open-gop=1:keyint=12:min-keyint=12"))
    yield Clip("edited.mp4", cut(open_gop, 50, is_edited=True), first=50, count=50)
    yield Clip("cut.mp4", cut(open_gop, 50), first=48, count=52)
    yield Clip("cut.mkv", cut(open_gop, 50), first=60, count=40)
    yield Clip("cut.ts", cut(open_gop, 50), first=60, count=40)
    for quarters in (1, 2, 3):
        yield Clip(f"turned{quarters}.mp4", turn(h264, quarters), turns=quarters)
    yield Clip("odd.mp4", Encoding("libx264", pixel_format="yuv444p", options=_x264(), shape=(65, 97)))
    yield Clip(
        "gray.mp4", Encoding("libx264", pixel_format="gray", options=_x264(), source_format="gray"), is_gray=True
    )
    yield Clip("ten.mp4", Encoding("libx264", pixel_format="yuv420p10le", options=_x264()), is_deep=True)
    yield Clip(
        "sixteen.mkv",
        Encoding("ffv1", pixel_format="gray16le", source_format="gray16le", gop=1),
        is_gray=True,
        is_deep=True,
    )
    yield Clip("alpha.mkv", Encoding("ffv1", pixel_format="bgra", source_format="rgba", gop=1), has_alpha=True)
