"""``pvio.video_io`` of version 0.1.3: frames are always 8-bit RGB.

Metadata is kept as in later versions: the file beside ``clip.mp4`` is ``clip.mp4.metadata.json`` and is read again after the video
has changed. In 0.1.3 it was ``clip.metadata.json``, shared by all videos of that stem, and never out of date.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UnsupportedError
from ...movie.write import write_video
from .io import VideoMetadata, check_num_frames, get_video_metadata, parse_params
from .io import read_frames_from_video as _read_frames

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = [
    "VideoMetadata",
    "check_num_frames",
    "get_video_metadata",
    "read_frames_from_video",
    "to_rgb",
    "write_frames_to_video",
]
_DEFAULT_PARAMS = ("-crf", "15", "-preset", "slow", "-profile:v", "high", "-level", "4.0")
_CODECS: dict[str, Any] = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1", "ffv1": "ffv1", "mjpeg": "mjpeg"}
_WITHOUT_PARAMS = ("libsvtav1", "ffv1", "mjpeg")


def read_frames_from_video(
    video_path: str | os.PathLike[str], frame_indices: Sequence[int] | None = None
) -> tuple[list[Array], float | None]:
    """Read frames of a video as arrays ``(h, w, 3)`` uint8, in RGB.

    Args:
        video_path: the video.
        frame_indices: numbers of frames in any order, with repetitions; ``None``: all.

    Returns:
        The frames, and the rate in frames per second; ``None`` if the video does not say it.

    Raises:
        IndexError: there is no such frame.
        SourceError: the video cannot be read.
    """
    frames, fps = _read_frames(video_path, frame_indices)
    return [to_rgb(frame) for frame in frames], fps


def write_frames_to_video(
    video_path: str | os.PathLike[str],
    frames: Sequence[Array],
    fps: float,
    codec: str = "libx264",
    ffmpeg_params: Sequence[str] = _DEFAULT_PARAMS,
    log_interval: int | None = None,
    log_level: int = logging.INFO,
) -> None:
    """Write frames to a video.

    Args:
        video_path: the video.
        frames: arrays ``(h, w, c)`` of one size.
        fps: frames per second.
        codec: ``"libx264"``, ``"libx265"``, ``"libsvtav1"``, ``"ffv1"`` or ``"mjpeg"``.
        ffmpeg_params: as for :func:`~ndframes.compat.pvio.io.parse_params`.
        log_interval: after how many frames a line is logged.
        log_level: of that line.

    Raises:
        ValueError: there are no frames, or their sizes differ.
        UnsupportedError: another codec or parameter.

    Example:
        >>> path = getfixture("tmp_path") / "dark.mp4"
        >>> write_frames_to_video(path, [np.zeros((32, 48, 3), np.uint8)] * 3, fps=5)
        >>> get_video_metadata(path)["n_frames"]
        3
    """
    if codec not in _CODECS:
        raise UnsupportedError(f"codec={codec!r}; supported: {', '.join(_CODECS)}; see ndframes.write_video")
    # The default is meant for H.264.
    options = {} if codec in _WITHOUT_PARAMS and ffmpeg_params is _DEFAULT_PARAMS else parse_params(ffmpeg_params)
    given: Any = frames if log_interval is None else _log(frames, log_interval, log_level)
    write_video(video_path, given, fps, codec=_CODECS[codec], **options)


def to_rgb(frame: Array) -> Array:
    """A frame of any kind as 8-bit RGB ``(h, w, 3)``: gray is repeated, alpha left out."""
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
    if frame.ndim == 2:
        return np.repeat(frame[:, :, None], 3, axis=2)
    return frame[:, :, :3]


def _log(frames: Sequence[Any], interval: int, level: int) -> Iterator[Any]:
    for number, frame in enumerate(frames):
        yield frame
        if number % interval == 0:
            logging.getLogger(__name__).log(level, "Written frame %d/%d", number + 1, len(frames))
