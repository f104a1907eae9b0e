"""Videos of every kind, encoded by FFmpeg; each frame encodes its number in its pixels.

:func:`list_clips` gives one sound video of each kind. :class:`Recipe` combines container, codec, B-frames, groups of frames and
a way of damage; :func:`draw_recipes` draws such combinations.
"""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ndframes.system.scheduling import keeping_scheduling

from . import video_damage, video_fields

os.environ.setdefault("SVT_LOG", "0")  # the encoder of AV1 prints its settings otherwise
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
    first: int = 0

    def __call__(self, path: Path, count: int = COUNT) -> None:
        bands, dtype = {
            "rgb24": (3, np.uint8),
            "gray": (1, np.uint8),
            "gray16le": (1, np.uint16),
            "rgba": (4, np.uint8),
            "rgb48le": (3, np.uint16),
        }[self.source_format]
        with (
            keeping_scheduling(),
            av.open(str(path), "w", format=self.container_format, options=self.container_options) as container,
        ):
            stream = container.add_stream(self.codec, rate=RATE, options=self.options)
            stream.height, stream.width = self.shape
            stream.pix_fmt = self.pixel_format
            stream.codec_context.thread_count = 1  # with more, x264 gives other pixels on a busy machine
            stream.codec_context.gop_size = self.gop
            stream.codec_context.time_base = self.time_base
            for number in range(count):
                pixels = draw(self.first + number, self.shape, bands, dtype)
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


class CannotMakeError(Exception):
    """FFmpeg's encoder or container refuses this combination."""


@dataclass(frozen=True)
class Codec:
    """How to encode with one codec.

    Attributes:
        encoder: FFmpeg's name.
        pixel_format: FFmpeg's name.
        options: of the encoder.
        bframes: the numbers of B-frames in a row that it can make.
        is_intra: whether each frame is a key frame.
        shape: of a frame.
    """

    encoder: str
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    bframes: tuple[int, ...] = (0,)
    is_intra: bool = False
    shape: tuple[int, int] = (64, 96)


_FINE = {"b": "2000000", "qmin": "1", "qmax": "6", "sc_threshold": "1000000000"}
CODECS = {
    "h264": Codec("libx264", options={"preset": "veryfast", "crf": "18", "sc_threshold": "0"}, bframes=(0, 2, 3)),
    "hevc": Codec("libx265", options={"preset": "ultrafast", "crf": "16"}, bframes=(0, 2, 3)),
    "mpeg4": Codec("mpeg4", options=_FINE, bframes=(0, 2, 3)),
    "msmpeg4v2": Codec("msmpeg4v2", options=_FINE),
    "msmpeg4v3": Codec("msmpeg4", options=_FINE),
    "mpeg1": Codec("mpeg1video", options=_FINE, bframes=(0, 2, 3)),
    "mpeg2": Codec("mpeg2video", options=_FINE, bframes=(0, 2, 3)),
    "vp8": Codec("libvpx", options={"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "2000000"}),
    "vp9": Codec("libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}),
    "av1": Codec("libsvtav1", options={"preset": "12", "crf": "25"}),
    "flv1": Codec("flv", options=_FINE),
    "h263": Codec("h263", options=_FINE, shape=(96, 128)),
    "wmv1": Codec("wmv1", options=_FINE),
    "wmv2": Codec("wmv2", options=_FINE),
    "mjpeg": Codec("mjpeg", "yuvj420p", {"qmin": "1", "qmax": "3"}, is_intra=True),
    "ffv1": Codec("ffv1", "bgr0"),
    "prores": Codec("prores_ks", "yuv422p10le", is_intra=True),
    "dnxhd": Codec("dnxhd", "yuv422p", {"profile": "dnxhr_sq"}, is_intra=True, shape=(128, 256)),
    "png": Codec("png", "rgb24", is_intra=True),
    "rawvideo": Codec("rawvideo", "yuv420p", is_intra=True),
}
_MPEG = ("mpeg1", "mpeg2")
_WIDE = ("h264", "hevc", "mpeg4", *_MPEG, "mjpeg")
#: The suffix, FFmpeg's name and the codecs of a container.
CONTAINERS = {
    "mp4": (".mp4", "mp4", (*_WIDE, "vp9", "av1", "png")),
    "fragmented": (".mp4", "mp4", ("h264", "hevc", "mpeg4", "av1", "vp9")),
    "mov": (".mov", "mov", (*_WIDE, "png", "prores", "dnxhd", "h263")),
    "3gp": (".3gp", "3gp", ("h264", "mpeg4", "h263")),
    "mkv": (".mkv", "matroska", (*_WIDE, "vp8", "vp9", "av1", "ffv1", "prores", "rawvideo", "msmpeg4v3")),
    "webm": (".webm", "webm", ("vp8", "vp9", "av1")),
    "avi": (
        ".avi",
        "avi",
        ("h264", "mpeg4", "msmpeg4v2", "msmpeg4v3", "mpeg1", "mpeg2", "mjpeg", "ffv1", "wmv1", "wmv2", "h263", "png",
         "rawvideo", "flv1"),
    ),
    "ts": (".ts", "mpegts", ("h264", "hevc", "mpeg4", "mpeg1", "mpeg2")),
    "m2ts": (".m2ts", "mpegts", ("h264", "hevc", "mpeg2")),
    "mpg": (".mpg", "mpeg", _MPEG),
    "vob": (".mpg", "vob", _MPEG),
    "flv": (".flv", "flv", ("h264", "hevc", "flv1", "av1", "vp9")),
    "wmv": (".wmv", "asf", ("wmv1", "wmv2", "msmpeg4v3", "mpeg4", "h264", "mjpeg")),
    "ogv": (".ogv", "ogg", ("vp8",)),
    "ivf": (".ivf", "ivf", ("vp8", "vp9", "av1")),
    "obu": (".obu", "obu", ("av1",)),
    "raw-h264": (".h264", "h264", ("h264",)),
    "raw-hevc": (".hevc", "hevc", ("hevc",)),
    "raw-m4v": (".m4v", "m4v", ("mpeg4",)),
    "raw-mpeg2": (".mpg", "mpeg2video", ("mpeg2",)),
    "raw-mpeg1": (".mpg", "mpeg1video", ("mpeg1",)),
    "nut": (".nut", "nut", (*_WIDE, "vp8", "vp9", "av1", "ffv1", "rawvideo", "flv1")),
}  # fmt: skip
_TIMED = ("mp4", "fragmented", "mov", "3gp", "mkv", "webm", "ts", "m2ts", "flv", "wmv", "nut", "mpg")
_BYTES = (
    "ts",
    "m2ts",
    "mpg",
    "vob",
    "mkv",
    "webm",
    "fragmented",
    "raw-h264",
    "raw-hevc",
    "raw-mpeg2",
    "raw-m4v",
    "obu",
)
_MP4 = ("mp4", "mov", "3gp")
#: The containers of each way of damage; ``""`` is none.
DAMAGES: dict[str, tuple[str, ...]] = {
    "": tuple(CONTAINERS),
    "times-of-decoding": _TIMED,
    "one-time-twice": _TIMED,
    "equal-times": tuple(container for container in _TIMED if container != "nut"),  # FFmpeg's writer of NUT crashes
    "no-times": ("ts", "m2ts", "mpg", "vob"),
    "negative-times": ("mp4", "mov", "mkv", "ts", "flv"),
    "fast": ("mkv", "webm", "flv", "mp4", "ts"),
    "clock-set-back": ("ts", "m2ts", "mpg", "vob"),
    "joined": _BYTES,
    "interleaved": ("ts", "m2ts", "mpg", "raw-h264", "raw-hevc"),
    "no-sync-table": _MP4,
    "shifted-sync-table": _MP4,
    "all-keys": ("avi",),
    "no-avi-index": ("avi",),
    "packed": ("avi",),
    "edited": _MP4,
    "reordered-edits": _MP4,
    "hidden": ("ivf", "mkv", "webm"),
    "fields": ("raw-h264", "ts", "m2ts", "mkv", "mp4"),
    "pairs-of-fields": ("ts", "m2ts", "mkv", "mp4"),
    "joined-inside": ("ts", "m2ts", "mpg", "raw-h264", "raw-hevc", "raw-mpeg2", "raw-m4v"),
    "depth-changes": ("ts", "raw-h264", "raw-hevc", "mkv"),
    "size-changes": ("ts", "raw-h264", "raw-hevc", "raw-mpeg2", "mpg", "mkv"),
    "no-start": ("ts", "m2ts", "mpg", "raw-h264", "raw-hevc", "raw-mpeg2"),
    "no-end": tuple(CONTAINERS),
    "begins-inside": (*_TIMED, "avi"),
}
STYLES = ("", "open", "refresh", "interlaced")


@dataclass(frozen=True)
class Recipe:
    """A video of numbered frames, and what is wrong with it.

    Attributes:
        container: one of :data:`CONTAINERS`.
        codec: one of :data:`CODECS`.
        bframes: the number of B-frames in a row.
        gop: the number of frames from a key frame to the next.
        style: of groups of frames: ``""`` closed, ``"open"``, ``"refresh"`` for H.264 that refreshes a column at a time,
            ``"interlaced"`` for pairs of macroblocks by field.
        damage: one of :data:`DAMAGES`.
        count: the number of frames; joined files have two parts of so many.
        first: the number that the first frame shows.
        start: the time of the first frame, in frames.
        share: how much of the file is cut off.
        pixel_format: FFmpeg's name; ``None``: as :data:`CODECS` says.
        shape: of a frame; ``None``: as :data:`CODECS` says.
    """

    container: str
    codec: str
    bframes: int = 0
    gop: int = 12
    style: str = ""
    damage: str = ""
    count: int = 40
    first: int = 0
    start: int = 0
    share: float = 0.3
    pixel_format: str | None = None
    shape: tuple[int, int] | None = None

    @property
    def is_possible(self) -> bool:
        """Whether container, codec, style and damage go together; FFmpeg may refuse some that are."""
        codec, codecs = CODECS[self.codec], CONTAINERS[self.container][2]
        has_style = {
            "": True,
            "open": self.codec in ("h264", "hevc", *_MPEG) and self.bframes > 0 and self.gop > 1,
            "refresh": self.codec == "h264" and not self.bframes and self.gop > 1,
            "interlaced": self.codec in ("h264", "mpeg2", "mpeg4") and self.gop > 1,
        }[self.style]
        has_damage = {
            "times-of-decoding": self.bframes > 0 and self.codec in CONTAINERS["avi"][2],
            "packed": self.codec == "mpeg4" and self.bframes > 0 and self.gop > 1 and not self.style,
            "hidden": self.codec in ("vp8", "vp9") or self.container == "ivf",
            "fields": self.codec == "h264" and not self.style,
            "pairs-of-fields": self.codec == "h264" and not self.style,
            "depth-changes": self.codec in ("h264", "hevc"),
            "no-sync-table": self.gop > 1 and not codec.is_intra,
            "shifted-sync-table": self.gop > 1 and not codec.is_intra,
            "begins-inside": self.gop > 1 and not codec.is_intra,
        }.get(self.damage, True)
        return (
            self.codec in codecs
            and self.container in DAMAGES[self.damage]
            and self.bframes in codec.bframes
            and (self.bframes == 0 or self.gop > self.bframes)
            and (self.gop == 1 or not codec.is_intra)
            and has_style
            and has_damage
        )

    @property
    def container_options(self) -> dict[str, str]:
        """The options of FFmpeg's container."""
        if self.container == "fragmented":
            return {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        # Else the end of the file, which is cut off, tells where the frames are.
        return {"movflags": "faststart"} if self.damage == "no-end" and self.container in _MP4 else {}

    @property
    def name(self) -> str:
        """The name of its file."""
        parts = (self.damage, self.container, self.codec, f"b{self.bframes}", f"g{self.gop}", self.style)
        return "-".join(part for part in parts if part) + CONTAINERS[self.container][0]

    def make(self, folder: Path) -> Path:
        """Write the video into a folder.

        Raises:
            CannotMakeError: FFmpeg's encoder or container refuses this combination.
        """
        target = folder / self.name
        try:
            _MAKERS[self.damage](self, target)
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            target.unlink(missing_ok=True)
            raise CannotMakeError(f"{self.name}: {error}") from error
        return target

    def encode(self, path: Path, **changes: Any) -> Path:
        """Encode the frames without damage; ``changes`` replace attributes."""
        recipe = replace(self, **changes)
        codec = CODECS[recipe.codec]
        Encoding(
            codec.encoder,
            recipe.pixel_format or codec.pixel_format,
            _options_of(recipe, codec),
            recipe.container_options,
            recipe.shape or codec.shape,
            times=lambda number: recipe.start + number,
            time_base=Fraction(1, 3000 if recipe.damage == "fast" else RATE),
            gop=1 if codec.is_intra else recipe.gop,
            container_format=CONTAINERS[recipe.container][1],
            first=recipe.first,
        )(path, recipe.count)
        return path

    def pieces(self, target: Path, *changes: dict[str, Any]) -> Iterator[bytes]:
        """The bytes of the video with each of these changes."""
        for number, change in enumerate(changes):
            piece = self.encode(target.with_name(f"piece-{number}-{target.name}"), **change)
            yield piece.read_bytes()
            piece.unlink()


def _options_of(recipe: Recipe, codec: Codec) -> dict[str, str]:
    """The options that make B-frames and groups of frames as a recipe says."""
    options = {**codec.options, "bf": str(recipe.bframes)} if len(codec.bframes) > 1 else dict(codec.options)
    if recipe.codec == "h264":
        extra = {"": "open-gop=0", "open": "open-gop=1", "refresh": "intra-refresh=1", "interlaced": "tff=1"}[
            recipe.style
        ]
        # Else it decides itself where B-frames and key frames are best.
        options["x264-params"] = f"{extra}:b-adapt=0:min-keyint={recipe.gop}:scenecut=0"
    elif recipe.codec == "hevc":
        extra = f"open-gop={int(recipe.style == 'open')}"
        options["x265-params"] = (
            f"log-level=none:{extra}:bframes={recipe.bframes}:b-adapt=0:keyint={recipe.gop}:min-keyint={recipe.gop}"
            ":scenecut=0:pools=1:frame-threads=1"
        )
    elif recipe.codec in ("mpeg4", *_MPEG):
        flags = {"": "+cgop", "open": "", "interlaced": "+ildct+ilme"}[recipe.style]
        options.update({"flags": flags} if flags else {})
    return options


def _copy(change: Callable[[list[Any]], Any], **options: str) -> Callable[[Recipe, Path], object]:
    """Make a video by changing the packets of an intact one."""

    def make(recipe: Recipe, target: Path) -> None:
        whole = recipe.encode(target.with_name("whole-" + target.name))
        form = CONTAINERS[recipe.container][1]
        video_damage.copy_packets(whole, target, change, format=form, options={**options, **recipe.container_options})
        whole.unlink()

    return make


def _rewrite(change: Callable[[bytes, Recipe], bytes]) -> Callable[[Recipe, Path], object]:
    """Make a video by changing the bytes of an intact one."""

    def make(recipe: Recipe, target: Path) -> None:
        recipe.encode(target)
        target.write_bytes(change(target.read_bytes(), recipe))

    return make


def _copy_through_avi(recipe: Recipe, target: Path) -> None:
    """AVI stores no times, so the packets get those of decoding."""
    whole = recipe.encode(target.with_name("whole-" + target.name + ".avi"), container="avi")
    form = CONTAINERS[recipe.container][1]
    video_damage.copy_packets(whole, target, format=form, options=recipe.container_options)
    whole.unlink()


def _join(recipe: Recipe, target: Path) -> None:
    target.write_bytes(b"".join(recipe.pieces(target, {}, {"first": recipe.first + recipe.count})))


def _set_clock_back(recipe: Recipe, target: Path) -> None:
    late = {"start": 25 * 60}
    later = {"start": 25 * 60 - recipe.count // 2, "first": recipe.first + recipe.count}
    target.write_bytes(b"".join(recipe.pieces(target, late, later)))


def _join_inside(recipe: Recipe, target: Path) -> None:
    """The second part begins within a group of frames."""
    whole, part = recipe.pieces(target, {}, {"first": recipe.first + recipe.count})
    target.write_bytes(whole + video_damage.cut_start(part, recipe.share))


def _change(**changes: Any) -> Callable[[Recipe, Path], object]:
    """The second part differs from the first."""

    def make(recipe: Recipe, target: Path) -> None:
        target.write_bytes(b"".join(recipe.pieces(target, {}, {"first": recipe.first + recipe.count, **changes})))

    return make


def _write_fields(recipe: Recipe, target: Path) -> None:
    frames = [draw(recipe.first + number) for number in range(recipe.count)]
    video_fields.write_fields(
        target,
        frames,
        bframes=recipe.bframes,
        gop=recipe.gop,
        rate=RATE,
        format=CONTAINERS[recipe.container][1],
        are_apart=recipe.damage == "fields",
    )


def _interleave(recipe: Recipe, target: Path) -> None:
    """The groups of frames of two videos in turns."""
    suffix, form, _ = CONTAINERS[recipe.container]
    groups = []
    for number in range(2):
        whole = recipe.encode(target.with_name(f"whole-{target.name}"), first=recipe.first + number * recipe.count)
        groups.append(video_damage.split_at_keys(whole, target.parent, suffix=suffix, format=form))
        whole.unlink()
    target.write_bytes(b"".join(piece for pair in zip(*groups, strict=False) for piece in pair))


def _hide(recipe: Recipe, target: Path) -> None:
    if recipe.codec != "av1":
        _copy(lambda packets: video_damage.hide_packets(packets, recipe.codec))(recipe, target)
        return
    # The encoder of AV1 makes hidden frames; the filter gives each of them a packet.
    whole = recipe.encode(target.with_name("whole-" + target.name))
    video_damage.filter_packets(whole, target, "av1_frame_split", format=CONTAINERS[recipe.container][1])
    whole.unlink()


def _edit(recipe: Recipe, target: Path) -> None:
    """Hide the frames before the one in the middle, which is no key frame in most videos."""
    cut(recipe.encode, recipe.count // 2 + 1, is_edited=True)(target)


_MAKERS: dict[str, Callable[[Recipe, Path], object]] = {
    "": lambda recipe, target: recipe.encode(target),
    "times-of-decoding": _copy_through_avi,
    "one-time-twice": _copy(video_damage.repeat_one_time),
    "equal-times": _copy(video_damage.equalize_times),
    "no-times": _rewrite(lambda data, _: video_damage.clear_times(data)),
    "negative-times": _copy(video_damage.shift_below_zero, avoid_negative_ts="disabled"),
    "fast": lambda recipe, target: recipe.encode(target),
    "clock-set-back": _set_clock_back,
    "joined": _join,
    "interleaved": _interleave,
    "no-sync-table": _rewrite(lambda data, _: video_damage.remove_sync_table(data)),
    "shifted-sync-table": _rewrite(lambda data, _: video_damage.shift_sync_table(data)),
    "all-keys": _rewrite(lambda data, _: video_damage.mark_all_as_keys(data)),
    "no-avi-index": _rewrite(lambda data, _: video_damage.remove_avi_index(data)),
    "packed": _copy(video_damage.pack_bframes),
    "edited": _edit,
    "reordered-edits": _rewrite(lambda data, recipe: video_damage.reorder_edits(data, recipe.count)),
    "hidden": _hide,
    "fields": _write_fields,
    "pairs-of-fields": _write_fields,
    "joined-inside": _join_inside,
    "depth-changes": _change(pixel_format="yuv420p10le"),
    "size-changes": _change(shape=(96, 128)),
    "no-start": _rewrite(lambda data, recipe: video_damage.cut_start(data, recipe.share)),
    "no-end": _rewrite(lambda data, recipe: video_damage.cut_end(data, recipe.share)),
    "begins-inside": _copy(lambda packets: packets[2:]),
}


def draw_recipes(seed: int = 0, **fixed: Any) -> Iterator[Recipe]:
    """Draw recipes without end: first the damage, then the container, the codec and the rest.

    Args:
        seed: of the random numbers.
        fixed: values of attributes that all of them have.
    """
    random = np.random.default_rng(seed)

    def pick(values: Sequence[Any]) -> Any:
        return values[int(random.integers(len(values)))]

    while True:
        damage = pick(tuple(DAMAGES))
        container = pick(DAMAGES[damage])
        codec = pick(CONTAINERS[container][2])
        bframes = pick(CODECS[codec].bframes)
        drawn = {"damage": damage, "container": container, "codec": codec, "bframes": bframes}
        drawn.update(gop=1 if CODECS[codec].is_intra else pick((1, 4, 12, 30)), style=pick(STYLES))
        drawn.update(share=float(random.uniform(0.02, 0.9)))
        recipe = Recipe(**{**drawn, **fixed})
        if recipe.is_possible:
            yield recipe
