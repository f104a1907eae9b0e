"""Encoding: the codec and options of a video to write, checked before any frame is written."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational, Real
from typing import TYPE_CHECKING, Literal

from ..errors import OutputError, VideoWriteError, shorten

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "CODECS",
    "CodecName",
    "Encoding",
    "VideoCodec",
    "choose_encoding",
    "container_of",
    "to_rate",
]
#: The codecs that can be written.
CodecName = Literal["h264", "hevc", "av1", "ffv1", "mjpeg"]
_SPEEDS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip
_CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
}
_USUAL: dict[str, CodecName] = {".webm": "av1", ".avi": "mjpeg"}
# Matroska, and edit lists in MP4, count in milliseconds: above this rate two frames would have the same timestamp.
_MOST_FRAMES_A_SECOND = 1000
_BROADCAST_RATES = (24, 30, 48, 60, 120, 240)
# FFmpeg stores a rate as a fraction of two signed 32-bit integers.
_LARGEST_TERM = 2**31
_LEAST_SLICED_PX = 32  # FFV1 may cut frames of a single column into more slices than it has
# FFmpeg's FFV1 takes 8-bit RGB as packed pixels with a fourth byte, not as planes.
_FORMATS_BY_BANDS = {
    (1, 1): "gray",
    (3, 1): "bgr0",
    (4, 1): "bgra",
    (1, 2): "gray16le",
    (3, 2): "gbrp16le",
    (4, 2): "gbrap16le",
}
_RGB_FORMATS = frozenset(["rgb24", "gbrp", *_FORMATS_BY_BANDS.values()]) - {"gray", "gray16le"}


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """A video codec, and what its encoder accepts.

    Attributes:
        name: the name for users.
        encoder: FFmpeg's name of the encoder.
        endings: the endings of files whose containers can hold it.
        formats: the pixel formats that can be written; the first one is the default for colour.
        lossless_format: the pixel format of colour with which ``quality=0`` is lossless; ``None`` if there is none.
        qualities: the encoder's numbers for quality, best first; ``None``: it is always lossless.
        quality: the default, at which no difference is visible.
        presets: the encoder's names for how much time it spends on a smaller file.
        preset: the default preset.
        least_px: the smallest height and width.
        most_fps: the largest number of frames per second; ``None``: the limit of the container.
    """

    name: CodecName
    encoder: str
    endings: tuple[str, ...]
    formats: tuple[str, ...]
    lossless_format: str | None = None
    qualities: range | None = None
    quality: int | None = None
    presets: tuple[str, ...] = ()
    preset: str | None = None
    least_px: int = 1
    most_fps: int | None = None


#: All codecs by name.
CODECS: dict[str, VideoCodec] = {
    codec.name: codec
    for codec in (
        VideoCodec(
            "h264",
            "libx264",
            (".mp4", ".m4v", ".mov", ".mkv"),
            ("yuv420p", "yuv422p", "yuv444p", "gray", "rgb24"),
            "rgb24",
            range(52),
            18,
            _SPEEDS,
            "medium",
        ),
        VideoCodec(
            "hevc",
            "libx265",
            (".mp4", ".m4v", ".mov", ".mkv"),
            ("yuv420p", "yuv422p", "yuv444p", "gray", "gbrp"),
            "gbrp",
            range(52),
            20,
            _SPEEDS,
            "medium",
            least_px=64,  # x265 writes beyond its own memory for narrower frames
        ),
        VideoCodec(
            "av1",
            "libsvtav1",
            (".mp4", ".m4v", ".mkv", ".webm"),
            ("yuv420p",),
            None,
            range(64),
            24,
            tuple(map(str, range(14))),
            "8",
            least_px=64,  # so does SVT-AV1
            # SVT-AV1 refuses more.
            most_fps=240,
        ),
        VideoCodec("ffv1", "ffv1", (".mkv", ".avi"), tuple(_FORMATS_BY_BANDS.values())),
        VideoCodec(
            "mjpeg",
            "mjpeg",
            (".avi", ".mov", ".mp4", ".mkv"),
            ("yuv420p", "yuv422p", "yuv444p"),
            None,
            range(2, 32),
            3,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """The checked options of a video to write. They are final once the first frame is known.

    Attributes:
        codec: the codec.
        pixel_format: FFmpeg's name of the pixel format that is encoded.
        quality: the encoder's number for quality; ``None`` if the codec is always lossless.
        preset: the preset; ``None`` if the encoder has none.
        is_intra: whether each frame is a key frame.
    """

    codec: VideoCodec
    pixel_format: str
    quality: int | None
    preset: str | None
    is_intra: bool

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return "libx264rgb" if self.pixel_format == "rgb24" else self.codec.encoder

    @property
    def is_rgb(self) -> bool:
        """Whether red, green and blue are stored, not brightness and colour differences."""
        return self.pixel_format in _RGB_FORMATS

    def is_full_range(self, bands: int) -> bool:
        """Whether black is 0 and white the largest number; otherwise they are 16 and 235, as in films."""
        # JFIF defines the full range for JPEG, and decoders assume it.
        return bands == 1 or self.is_rgb or self.codec.name == "mjpeg"

    def keyframe_distance(self, rate: Fraction) -> int:
        """The largest number of frames from a key frame to the next: two seconds, but at least 12 and at most 250."""
        is_each = self.is_intra or self.codec.name in ("ffv1", "mjpeg")
        return 1 if is_each else min(250, max(12, round(2 * rate)))

    def options(self, threads: int, shape: tuple[int, ...]) -> dict[str, str]:
        """The encoder's own options, for frames of this shape."""
        speed = {} if self.preset is None else {"preset": self.preset}
        if self.codec.name == "ffv1":
            slices = {"slices": "1"} if min(shape[:2]) < _LEAST_SLICED_PX else {}
            # Version 3 with a checksum in each slice, so that readers can detect damage.
            return {"level": "3", "slicecrc": "1", **slices}
        if self.codec.name == "mjpeg":
            # Equal limits, since FFmpeg would otherwise choose the quantizer to meet a bit rate.
            return {"qmin": str(self.quality), "qmax": str(self.quality)}
        if self.codec.name == "hevc":
            # Unlike in x264, a rate factor of 0 is not lossless in x265.
            lossless = ":lossless=1" if self.quality == 0 else ""
            # By default x265 starts a pool of threads for all cores, and prints to stderr.
            return {**speed, "crf": str(self.quality), "x265-params": f"log-level=none:pools={threads}{lossless}"}
        if self.codec.name == "av1":
            return {**speed, "crf": str(self.quality), "svtav1-params": f"lp={threads}"}
        return {**speed, "crf": str(self.quality)}


def container_of(path: str) -> str:
    """FFmpeg's name of the container for a file, by its ending.

    Raises:
        OutputError: no container has this ending.

    Example:
        >>> container_of("walk.MKV")
        'matroska'
    """
    ending = _ending(path)
    if ending not in _CONTAINERS:
        raise OutputError(
            f"{path}: no container is known by the ending {shorten(ending)}; allowed: {', '.join(_CONTAINERS)}"
        )
    return _CONTAINERS[ending]


def to_rate(fps: float | Rational, path: str, codec: VideoCodec) -> Fraction:
    """Convert frames per second to a fraction. Broadcast rates become exact: 29.97 is 30000/1001.

    Args:
        fps: an int, a float or a Fraction.
        path: the video, for errors.
        codec: the codec, which may have a limit.

    Raises:
        VideoWriteError: it is not a positive number, or too large.

    Example:
        >>> [to_rate(fps, "a.mp4", CODECS["h264"]) for fps in (25, 23.976, 0.1)]
        [Fraction(25, 1), Fraction(24000, 1001), Fraction(1, 10)]
    """
    if isinstance(fps, bool) or not isinstance(fps, Real) or not math.isfinite(fps) or fps <= 0:
        raise VideoWriteError(f"{path}: fps={shorten(fps)}; give frames per second as a number above 0, such as 25")
    rate = Fraction(fps) if isinstance(fps, Rational) else _to_fraction(float(fps))
    most, of_codec = (codec.most_fps, f" of {codec.name}") if codec.most_fps else (_MOST_FRAMES_A_SECOND, "")
    if rate > most:
        raise VideoWriteError(
            f"{path}: fps={shorten(fps)}; at most {most:,}{of_codec}; write a lower one, and keep the true one in metadata"
        )
    if not rate or max(rate.numerator, rate.denominator) >= _LARGEST_TERM:
        raise VideoWriteError(f"{path}: fps={shorten(fps)} cannot be stored; a container holds fractions below 2**31")
    return rate


def _to_fraction(fps: float) -> Fraction:
    for nominal in _BROADCAST_RATES:
        rate = Fraction(nominal * 1000, 1001)
        # People round these rates to two decimals: 23.98 is 24000/1001.
        if abs(fps - rate) < 0.005:
            return rate
    # A float such as 0.1 stands for a short fraction, not for its 53 bits.
    near = Fraction(fps).limit_denominator(1001)
    return near if abs(near - Fraction(fps)) < 1e-6 * fps else Fraction(fps).limit_denominator(10**6)


def choose_encoding(
    path: str,
    *,
    codec: str | None,
    quality: int | None,
    preset: str | int | None,
    intra: bool,
    pixel_format: str | None,
    shape: tuple[int, int, int] | None = None,
    dtype: np.dtype[np.generic] | None = None,
) -> Encoding:
    """Check the options of a video, and against its frames once they are known.

    Args:
        path: the video; its ending chooses the container.
        codec: the name of a codec; ``None``: the default of the container, or FFV1 if frames have more than 8 bits or alpha.
        quality: the encoder's number; ``None``: the default.
        preset: the preset of the encoder; ``None``: the default.
        intra: whether each frame is a key frame.
        pixel_format: FFmpeg's name; ``None``: the one that suits the frames.
        shape: ``(height, width, channels)`` of the frames; ``None`` if it is not known yet.
        dtype: of the frames, uint8 or uint16.

    Raises:
        OutputError: no container has this ending.
        VideoWriteError: a value is not allowed, or two values exclude each other.
    """
    chosen = _choose_codec(path, codec, shape, dtype)
    quality = _check_quality(path, chosen, quality)
    preset = _check_preset(path, chosen, preset)
    if pixel_format is not None and (chosen.name == "ffv1" or pixel_format not in chosen.formats):
        allowed = "none, it follows from the frames" if chosen.name == "ffv1" else ", ".join(chosen.formats)
        raise VideoWriteError(f"{path}: pixel_format={shorten(pixel_format)} of {chosen.name}; allowed: {allowed}")
    if shape is not None and dtype is not None:
        _check_frames(path, chosen, shape, dtype)
        pixel_format = _choose_format(path, chosen, pixel_format, shape, dtype, quality)
    return Encoding(chosen, pixel_format or chosen.formats[0], quality, preset, intra)


def _choose_codec(
    path: str, name: str | None, shape: tuple[int, int, int] | None, dtype: np.dtype[np.generic] | None
) -> VideoCodec:
    container_of(path)
    ending = _ending(path)
    if name is None:
        is_rich = shape is not None and dtype is not None and (shape[2] == 4 or dtype.itemsize == 2)
        name = "ffv1" if is_rich and ending in CODECS["ffv1"].endings else _USUAL.get(ending, "h264")
    codec = CODECS.get(name) if isinstance(name, str) else None
    if codec is None:
        raise VideoWriteError(f"{path}: codec={shorten(name)}; allowed: {', '.join(CODECS)}")
    if ending not in codec.endings:
        held = ", ".join(other.name for other in CODECS.values() if ending in other.endings)
        raise VideoWriteError(
            f"{path}: {ending} does not hold {codec.name}, but {held}; {codec.name} goes into {', '.join(codec.endings)}"
        )
    return codec


def _check_quality(path: str, codec: VideoCodec, quality: int | None) -> int | None:
    allowed = codec.qualities
    if quality is None:
        return codec.quality
    if allowed is None:
        raise VideoWriteError(f"{path}: quality={shorten(quality)}; {codec.name} is always lossless, leave quality out")
    if isinstance(quality, bool) or not hasattr(quality, "__index__") or int(quality) not in allowed:
        raise VideoWriteError(
            f"{path}: quality={shorten(quality)} of {codec.name}; a whole number from {allowed[0]}, the best, to {allowed[-1]}"
        )
    return int(quality)


def _check_preset(path: str, codec: VideoCodec, preset: str | int | None) -> str | None:
    if preset is None:
        return codec.preset
    if isinstance(preset, bool) or str(preset) not in codec.presets:
        allowed = ", ".join(codec.presets) or "none, it has no presets"
        raise VideoWriteError(f"{path}: preset={shorten(preset)} of {codec.name}; allowed: {allowed}")
    return str(preset)


def _check_frames(path: str, codec: VideoCodec, shape: tuple[int, int, int], dtype: np.dtype[np.generic]) -> None:
    """Check that a codec can store such frames."""
    problem = None
    if codec.name != "ffv1":
        problem = "16 bits a channel" if dtype.itemsize == 2 else "transparency (4 channels)" if shape[2] == 4 else None
    if problem is not None:
        where = (
            "" if _ending(path) in CODECS["ffv1"].endings else f" and a name that ends in {CODECS['ffv1'].endings[0]}"
        )
        raise VideoWriteError(f"{path}: {codec.name} is not written with {problem}; use codec='ffv1'{where}")
    if min(shape[:2]) < codec.least_px:
        raise VideoWriteError(
            f"{path}: frames are {shape[0]} x {shape[1]} px; {codec.name} needs {codec.least_px} x {codec.least_px} or more"
        )


def _choose_format(
    path: str,
    codec: VideoCodec,
    requested: str | None,
    shape: tuple[int, int, int],
    dtype: np.dtype[np.generic],
    quality: int | None,
) -> str:
    height, width, bands = shape
    if codec.name == "ffv1":
        return _FORMATS_BY_BANDS[bands, dtype.itemsize]
    halves = {"yuv420p": (height, width), "yuv422p": (width,)}
    # x264 and x265 need even sizes for subsampled colour; the other encoders round up.
    refused = {name for name, axes in halves.items() if any(axis % 2 for axis in axes)}
    if codec.name in ("av1", "mjpeg"):
        refused = set()
    if requested is not None:
        if requested in refused:
            raise VideoWriteError(
                f"{path}: pixel_format={requested!r} of {codec.name} needs even sizes, frames are {height} x {width} px; "
                "leave it out, or use 'yuv444p'"
            )
        if requested == "gray" and bands != 1:
            raise VideoWriteError(f"{path}: pixel_format='gray' has one channel, frames have {bands}; leave it out")
        return requested
    if bands == 1 and "gray" in codec.formats:
        return "gray"
    if quality == 0 and codec.lossless_format is not None:
        return codec.lossless_format
    return "yuv444p" if codec.formats[0] in refused else codec.formats[0]


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()
