"""VideoMetadata: the properties of a video file and its frames."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..text import count_noun, format_bytes
from .index import open_container, pick_stream
from .planes import count_turns
from .promise import count_promised
from .streams import list_streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._typing import Array
    from .decoder import VideoDecoder
    from .index import FrameIndex
    from .streams import VideoStreamInfo

__all__ = ["VideoMetadata", "describe_animation", "describe_video"]
# FFmpeg's numbers in AVColorRange and AVColorSpace.
_RANGES = {1: "limited", 2: "full"}
_MATRICES = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
}


@dataclass(frozen=True, slots=True, repr=False)
class VideoMetadata:
    """The properties of a video. Its frames are counted; the number in the container may be wrong.

    Attributes:
        path: the file.
        format: the container, such as ``"mp4"`` or ``"matroska"``.
        codec: the codec, such as ``"h264"``.
        frames: the number of frames that are shown.
        fps: frames per second on average, from the container; ``None`` if it does not say.
        height: the height of a frame as it is shown, in pixels.
        width: the width of a frame as it is shown, in pixels.
        channels: the channels of a frame: 1 for gray, 3 for RGB, 4 for RGBA.
        dtype: of the pixels: ``"uint8"``, ``"uint16"`` for more than 8 bits, or ``"float32"`` for floats.
        duration: how long the video is shown, in seconds.
        rotation: how far stored frames are rotated to be shown, in degrees clockwise: 0, 90, 180 or 270.
        pixel_format: FFmpeg's name of the stored pixel format.
        color_range: ``"limited"`` or ``"full"``; ``None`` if the video does not say.
        color_space: the matrix between RGB and brightness and colours, such as ``"bt709"``; ``None`` if the video does not
            say.
        times: when each frame is shown, in seconds: float64 ``(frames,)``, read-only.
        keyframes: the numbers of the frames that decode on their own: int64, rising, read-only.
        mean_gop: the average number of frames from a key frame to the next.
        max_gop: the largest number of frames from a key frame to the next.
        has_exact_times: whether the video stores the times of frames; otherwise frames are counted and times estimated.
        is_constant_rate: whether the steps between frames are equal, within the precision of the container.
        bit_rate: the bits of the file per second that is shown; ``None`` for a duration of 0.
        file_bytes: the size of the file.
        promised_frames: the number of frames that the header says are shown, hidden ones not counted; ``None`` if it does
            not say, or not exactly. A truncated file has fewer ``frames``.
        streams: the video streams of the file: ``number`` (for ``stream=``), ``codec``, ``height``, ``width``, ``frames`` by
            the header, ``disposition``, and ``is_chosen`` for the one that is read. Empty for an animation.
        metadata: the metadata given to :func:`write_video`; empty for videos of other programs.
        tags: the other tags of the container, by name.
    """

    path: str
    format: str
    codec: str
    frames: int
    fps: float | None
    height: int
    width: int
    channels: int
    dtype: str
    duration: float
    rotation: int
    pixel_format: str
    color_range: str | None
    color_space: str | None
    times: Array = field(compare=False)
    keyframes: Array = field(compare=False)
    mean_gop: float
    max_gop: int
    has_exact_times: bool
    is_constant_rate: bool
    bit_rate: float | None
    file_bytes: int
    promised_frames: int | None = None
    streams: tuple[VideoStreamInfo, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(frames, height, width, channels)``."""
        return self.frames, self.height, self.width, self.channels

    @property
    def raw_bytes(self) -> int:
        """The bytes of all frames as an array."""
        return self.frames * self.height * self.width * self.channels * np.dtype(self.dtype).itemsize

    @property
    def keyframe_count(self) -> int:
        """The number of key frames."""
        return len(self.keyframes)

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain data, with ``keyframe_count`` in place of ``times`` and ``keyframes``."""
        facts = asdict(self)
        del facts["times"], facts["keyframes"]
        # Lists, as JSON returns them.
        streams = [{**stream, "disposition": [*stream["disposition"]]} for stream in facts["streams"]]
        return {**facts, "streams": streams, "keyframe_count": self.keyframe_count}

    def __repr__(self) -> str:
        rate = "no rate" if self.fps is None else f"{self.fps:.6g} fps"
        return (
            f"<VideoMetadata {self.path!r}: {count_noun(self.frames, 'frame')} of {self.height:,} x {self.width:,} px, "
            f"{count_noun(self.channels, 'channel')}, {self.dtype}, {rate}, {self.duration:.6g} s; {self.codec} in {self.format}, "
            f"{count_noun(self.keyframe_count, 'key frame')}, {format_bytes(self.file_bytes)}>"
        )


def describe_video(path: str, decoder: VideoDecoder) -> VideoMetadata:
    """Collect the properties of a video. One frame is decoded.

    Args:
        path: the file.
        decoder: decodes its frames.

    Raises:
        UnreadableImageError: it does not open as a video, or none of its first key frames decodes.
    """
    index = decoder.index
    with open_container(path) as container:
        stream = pick_stream(container, path, index.stream)
        names = container.format.name.split(",")
        codec = stream.codec_context.codec.canonical_name
        tags = {name: _to_text(text) for name, text in container.metadata.items()}
        streams = list_streams(container, index.stream)
        promised = count_promised(container, stream, index)
    ending = os.path.splitext(path)[1][1:].lower()
    frame = decoder.decode_first()
    height, width, channels = decoder.frame_shape
    duration, is_constant = _measure_times(index)
    distances = np.diff([*index.keys.tolist(), len(index)])  # the last group ends with the video
    file_bytes = os.path.getsize(path)
    return VideoMetadata(
        path=path,
        # A demuxer of FFmpeg has the names of all its containers, such as mov, mp4 and m4a.
        format=ending if ending in names else names[0],
        codec=codec,
        frames=len(index),
        fps=None if index.rate is None else float(index.rate),
        height=height,
        width=width,
        channels=channels,
        dtype=decoder.dtype.name,
        duration=duration,
        rotation=-count_turns(frame) % 4 * 90,
        pixel_format="gray" if index.is_gray else frame.format.name,
        color_range=_RANGES.get(int(frame.color_range)),
        color_space=_MATRICES.get(int(frame.colorspace)),
        times=_freeze(index.seconds),
        keyframes=_freeze(index.keys.copy()),
        mean_gop=float(np.mean(distances)),
        max_gop=int(np.max(distances)),
        has_exact_times=index.has_exact_times,
        is_constant_rate=is_constant,
        bit_rate=8 * file_bytes / duration if duration else None,
        file_bytes=file_bytes,
        promised_frames=promised,
        streams=streams,
        metadata=_take_metadata(tags),
        tags=tags,
    )


def describe_animation(path: str, index: FrameIndex) -> VideoMetadata:
    """Collect the properties of an animation: a GIF, PNG, WebP or AVIF of several frames.

    Args:
        path: the file.
        index: its frames.
    """
    assert index.form is not None  # noqa: S101
    assert index.rate is not None  # noqa: S101
    height, width, channels = index.form.shape
    # The last frame is shown for a time of its own.
    duration = float(len(index) / index.rate)
    file_bytes = os.path.getsize(path)
    ending = os.path.splitext(path)[1][1:].lower()
    return VideoMetadata(
        path=path,
        format=ending,
        codec=ending,
        frames=len(index),
        fps=float(index.rate),
        height=height,
        width=width,
        channels=channels,
        dtype=index.form.dtype.name,
        duration=duration,
        rotation=0,
        pixel_format="rgba" if channels == 4 else "rgb24",
        color_range="full",
        color_space="rgb",
        times=_freeze(index.seconds),
        keyframes=_freeze(index.keys.copy()),
        mean_gop=float(len(index)),
        max_gop=len(index),
        has_exact_times=True,
        is_constant_rate=_measure_times(index)[1],
        bit_rate=8 * file_bytes / duration,
        file_bytes=file_bytes,
    )


def _freeze(numbers: Array) -> Array:
    numbers.flags.writeable = False
    return numbers


def _to_text(tag: str) -> str:
    """Replace the bytes in a tag that are not text, so that it can be printed."""
    return tag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _measure_times(index: FrameIndex) -> tuple[float, bool]:
    """The duration of all frames in seconds, and whether all frames have the same duration."""
    times = index.times - index.times[0]
    steps = len(times) - 1
    if not steps:
        return (0.0 if index.rate is None else float(1 / index.rate)), True
    step = times[-1] / steps
    # Containers round times to their unit, so equal steps may differ by one.
    is_constant = bool(np.abs(times - np.arange(len(times)) * step).max() <= 1)
    if is_constant and index.rate is not None and abs(float(1 / index.rate / index.time_base) - step) <= 1:
        return float(len(times) / index.rate), True  # exact, even if the container rounds times
    return float((step * len(times)) * index.time_base), is_constant


def _take_metadata(tags: dict[str, str]) -> dict[str, Any]:
    """Take the comment out of the tags if it is a JSON object, and parse it; else an empty dict."""
    # Matroska returns tags in upper case.
    name = next((name for name in tags if name.lower() == "comment"), "")
    try:
        found = json.loads(tags.get(name, ""))
    # The comment may come from any program: no JSON at all, or nested too deeply.
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    del tags[name]
    return found
