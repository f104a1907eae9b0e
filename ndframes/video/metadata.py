"""VideoMetadata: what a video file says of itself, and what its frames are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..text import count_noun, format_bytes
from .index import open_container, pick_stream
from .planes import count_turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._typing import Array
    from .decoder import VideoDecoder
    from .index import FrameIndex

__all__ = ["VideoMetadata", "describe_video"]
# FFmpeg's numbers; those of ranges are of AVColorRange, those of matrices of AVColorSpace.
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
    """What a video is. Its frames are counted, not taken from what the container says.

    Attributes:
        path: the file.
        format: its container, such as ``"mp4"`` or ``"matroska"``.
        codec: by which it is stored, such as ``"h264"``.
        frames: how many it shows.
        fps: frames a second on average, as the container says; ``None`` where it does not.
        height: of a frame as it is shown, in pixels.
        width: likewise.
        channels: how many a frame has: 1 for gray, 3 for RGB, 4 for RGBA.
        dtype: of the pixels: ``"uint8"``, or ``"uint16"`` for more than 8 bits.
        duration: how long it is shown, in seconds.
        rotation: by how many degrees clockwise its pictures are turned to be shown: 0, 90, 180 or 270.
        pixel_format: in which it is stored, as FFmpeg calls it.
        color_range: ``"limited"`` or ``"full"``; ``None`` where it does not say.
        color_space: the matrix between RGB and brightness and colours, such as ``"bt709"``; ``None`` where it does not say.
        times: when each frame is shown, in seconds: float64 ``(frames,)``, not to be written to.
        keyframes: the numbers of the frames that can be decoded alone: int64, rising, not to be written to.
        mean_gop: how many frames there are for each of those, on average.
        max_gop: and at most.
        has_exact_times: whether frames are known by their times; else they are counted, and times are estimated.
        is_constant_rate: whether frames follow each other in equal steps, as exactly as the container keeps time.
        bit_rate: the file's bits for each second that is shown; ``None`` for no duration.
        file_bytes: the size of the file.
        metadata: what :func:`write_video` was given; empty for what other programs wrote.
        tags: the container's other tags, names and text.
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
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(frames, height, width, channels)``."""
        return self.frames, self.height, self.width, self.channels

    @property
    def raw_bytes(self) -> int:
        """What all frames take as an array."""
        return self.frames * self.height * self.width * self.channels * np.dtype(self.dtype).itemsize

    @property
    def keyframe_count(self) -> int:
        """How many frames can be decoded alone."""
        return len(self.keyframes)

    def to_dict(self) -> dict[str, Any]:
        """As plain data: all but ``times`` and ``keyframes``, for which ``keyframe_count`` stands."""
        facts = asdict(self)
        del facts["times"], facts["keyframes"]
        return {**facts, "keyframe_count": self.keyframe_count}

    def __repr__(self) -> str:
        rate = "no rate" if self.fps is None else f"{self.fps:.6g} fps"
        return (
            f"<VideoMetadata {self.path!r}: {count_noun(self.frames, 'frame')} of {self.height:,} x {self.width:,} px, "
            f"{count_noun(self.channels, 'channel')}, {self.dtype}, {rate}, {self.duration:.6g} s; {self.codec} in {self.format}, "
            f"{count_noun(self.keyframe_count, 'key frame')}, {format_bytes(self.file_bytes)}>"
        )


def describe_video(path: str, decoder: VideoDecoder) -> VideoMetadata:
    """Say what a video is of which the frames are known.

    Args:
        path: the file.
        decoder: decodes its frames.

    Raises:
        UnreadableImageError: it does not open as a video, or nothing of it decodes.
    """
    index = decoder.index
    with open_container(path) as container:
        stream = pick_stream(container, path, index.stream)
        names = container.format.name.split(",")
        codec = stream.codec_context.codec.canonical_name
        tags = {name: _to_text(text) for name, text in container.metadata.items()}
    ending = os.path.splitext(path)[1][1:].lower()
    frame = decoder.decode_first()
    height, width, channels = decoder.frame_shape
    duration, is_constant = _measure_times(index)
    distances = np.diff([*index.keys.tolist(), len(index)])
    file_bytes = os.path.getsize(path)
    return VideoMetadata(
        path=path,
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
        metadata=_take_metadata(tags),
        tags=tags,
    )


def _freeze(numbers: Array) -> Array:
    numbers.flags.writeable = False
    return numbers


def _to_text(tag: str) -> str:
    """A tag that can be printed, whatever bytes were taken for text in it."""
    return tag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _measure_times(index: FrameIndex) -> tuple[float, bool]:
    """How long the frames are shown, in seconds, and whether each as long as the others."""
    times = index.times - index.times[0]
    steps = len(times) - 1
    if not steps:
        return (0.0 if index.rate is None else float(1 / index.rate)), True
    step = times[-1] / steps
    is_constant = bool(np.abs(times - np.arange(len(times)) * step).max() <= 1)
    if is_constant and index.rate is not None and abs(float(1 / index.rate / index.time_base) - step) <= 1:
        return float(len(times) / index.rate), True  # exact, where the container rounds times
    return float((step * len(times)) * index.time_base), is_constant


def _take_metadata(tags: dict[str, str]) -> dict[str, Any]:
    """The dict that the comment is, taken out of the tags; none where it is a text."""
    name = next((name for name in tags if name.lower() == "comment"), "")
    try:
        found = json.loads(tags.get(name, ""))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    del tags[name]
    return found
