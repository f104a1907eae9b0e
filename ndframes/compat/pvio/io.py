"""``pvio.io``: frames of videos as lists of arrays, and the number, size and rate of frames.

Frame ``i`` is the ``i``-th one that decoding from the start shows, where pvio computes it from a time and the average rate.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...errors import SourceError, UnsupportedError, check_choice
from ...feed.collection import open_videos
from ...frames.simple import open as open_frame
from ...movie.read import read_video
from ...movie.write import write_video
from ...system.output import write_atomically

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = [
    "VideoMetadata",
    "check_num_frames",
    "get_video_metadata",
    "iter_frames_from_video",
    "parse_params",
    "read_frames_from_video",
    "to_native",
    "write_frames_to_video",
    "write_image_paths_to_video",
]
_LOGGER = logging.getLogger(__name__)
_Mode = Literal["auto", "gpu", "cpu"]
_PARAMS = {"-preset": "preset", "-pix_fmt": "pixel_format"}
_CHOSEN_BY_THE_ENCODER = ("-profile:v", "-level")
_H264_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


class VideoMetadata(NamedTuple):
    """The number, size and rate of the frames of a video; ``metadata["n_frames"]`` works, too.

    Attributes:
        n_frames: the number of frames.
        frame_size: ``(height, width)``.
        fps: frames per second on average; ``None`` if the video does not say.

    Example:
        >>> metadata = VideoMetadata(100, (240, 320), 25.0)
        >>> metadata["n_frames"], metadata.fps, metadata[1]
        (100, 25.0, (240, 320))
    """

    n_frames: int
    frame_size: tuple[int, int]
    fps: float | None

    def __getitem__(self, key: Any) -> Any:
        """A field by its name, as in the dict of pvio 0.1.3, or by its position."""
        if isinstance(key, str):
            if key not in self._fields:
                raise KeyError(key)
            return getattr(self, key)
        return tuple.__getitem__(self, key)

    def keys(self) -> tuple[str, ...]:
        """The names of the fields, so that ``dict(metadata)`` works."""
        return self._fields


def read_frames_from_video(
    video_path: str | os.PathLike[str], frame_indices: Sequence[int] | None = None
) -> tuple[list[Array], float | None]:
    """Read frames of a video.

    Args:
        video_path: the video.
        frame_indices: numbers of frames in any order, with repetitions; ``None``: all.

    Returns:
        The frames and the rate. Frames are ``(h, w)`` for gray, ``(h, w, 3)``, or ``(h, w, 4)`` with alpha; uint16 for more than
        8 bits, else uint8. The rate is ``None`` if the video does not say it.

    Raises:
        IndexError: there is no such frame.
        SourceError: the video cannot be read.

    Example:
        >>> import numpy as np
        >>> path = getfixture("tmp_path") / "ramp.mkv"
        >>> write_frames_to_video(path, [np.full((32, 48, 3), 20 * n, np.uint8) for n in range(5)], fps=10)
        >>> frames, fps = read_frames_from_video(path, [3, 0])
        >>> frames[0].shape, fps
        ((32, 48, 3), 10.0)
    """
    rate = getattr(open_frame(video_path), "fps", None)
    return [to_native(frame) for frame in read_video(video_path, frame_indices)], rate


def iter_frames_from_video(video_path: str | os.PathLike[str]) -> Iterator[Array]:
    """The frames of a video in order, as :func:`read_frames_from_video` returns them, without holding all in memory.

    Raises:
        SourceError: the video cannot be read.
    """
    (video,) = open_videos([video_path])
    for chunk in video.read(0, len(video)):
        for frame in chunk:
            yield to_native(frame)


def write_frames_to_video(  # noqa: PLR0913 - the arguments of pvio
    video_path: str | os.PathLike[str],
    frames: Iterable[Array],
    fps: float,
    *,
    mode: str = "auto",
    quality: int = 20,
    preset: str | None = None,
    extra_ffmpeg_params: Sequence[str] | None = None,
    log_interval: int | None = None,
    quiet: bool = False,
) -> None:
    """Write frames to a video: H.264 in .mp4, .m4v, .mov and .mkv, otherwise what :func:`ndframes.write_video` chooses.

    Args:
        video_path: the video.
        frames: arrays ``(h, w, c)`` of one size.
        fps: frames per second.
        mode: ``"auto"``, ``"gpu"`` or ``"cpu"``; all of them encode on the CPU.
        quality: of H.264, from 0 (lossless) to 51.
        preset: of H.264; ``None``: ``"slow"``.
        extra_ffmpeg_params: as for :func:`parse_params`.
        log_interval: after how many frames a line is logged.
        quiet: whether to show no progress bar, and log nothing.

    Raises:
        ValueError: there are no frames, their sizes differ, or an argument is not valid.
        UnsupportedError: a parameter is not supported.
    """
    options = _to_options(video_path, mode, quality, preset, extra_ffmpeg_params)
    _write(video_path, frames, fps, options, log_interval=log_interval, quiet=quiet)


def write_image_paths_to_video(  # noqa: PLR0913 - the arguments of pvio
    video_path: str | os.PathLike[str],
    image_paths: Iterable[str | os.PathLike[str]],
    fps: float,
    *,
    mode: str = "auto",
    quality: int = 20,
    preset: str | None = None,
    extra_ffmpeg_params: Sequence[str] | None = None,
    log_interval: int | None = None,
    quiet: bool = False,
) -> None:
    """Write image files to a video, one at a time; the other arguments are those of :func:`write_frames_to_video`.

    Raises:
        FileNotFoundError: there is no such image.
        ValueError: as :func:`write_frames_to_video`.
    """
    options = _to_options(video_path, mode, quality, preset, extra_ffmpeg_params)
    _write(video_path, image_paths, fps, options, log_interval=log_interval, quiet=quiet)


def check_num_frames(video_path: str | os.PathLike[str]) -> int:
    """The number of frames of a video.

    Raises:
        RuntimeError: it cannot be read.
    """
    return _probe_video(video_path)[0]


def get_video_metadata(
    video_path: str | os.PathLike[str],
    cache_metadata: bool = True,
    use_cached_metadata: bool = True,
    metadata_suffix: str = ".metadata.json",
) -> VideoMetadata:
    """The number, size and rate of the frames of a video, kept in a file beside it.

    Args:
        video_path: the video.
        cache_metadata: whether to write that file.
        use_cached_metadata: whether to read it, if the video has the size and modification time that it states.
        metadata_suffix: what is appended to the name of the video for that file.

    Raises:
        RuntimeError: the video cannot be read.
        ValueError: the file is damaged.
        OutputError: the file cannot be written.
    """
    path = os.fsdecode(video_path)
    beside = path + metadata_suffix
    if use_cached_metadata and os.path.isfile(beside):
        known = _read_beside(beside, path)
        if known is not None:
            return known
    found = VideoMetadata(*_probe_video(path))
    if cache_metadata:
        size, mtime_ns = _file_signature(path)
        text = json.dumps({**found._asdict(), "size": size, "mtime_ns": mtime_ns}, indent=2)
        write_atomically(beside, lambda file: file.write(text.encode()))
    return found


def to_native(frame: Array) -> Array:
    """A frame ``(h, w, c)`` as pvio returns it: gray ones have two axes."""
    return frame[:, :, 0] if frame.shape[2] == 1 else frame


def parse_params(params: Sequence[str]) -> dict[str, Any]:
    """Parameters of the ffmpeg program as options of :func:`ndframes.write_video`.

    Raises:
        UnsupportedError: a parameter is not ``-crf``, ``-preset``, ``-pix_fmt``, ``-profile:v`` or ``-level``.

    Example:
        >>> parse_params(["-crf", "15", "-preset", "slow", "-level", "4.0"])
        {'quality': 15, 'preset': 'slow'}
    """
    options: dict[str, Any] = {}
    for name, value in zip(params[::2], params[1::2], strict=False):
        if name == "-crf":
            options["quality"] = int(value)
        elif name in _PARAMS:
            options[_PARAMS[name]] = value
        elif name not in _CHOSEN_BY_THE_ENCODER:
            raise UnsupportedError(
                f"the ffmpeg parameter {name} is not supported, because videos are not written by that program; supported: "
                f"-crf, {', '.join(_PARAMS)}; see ndframes.write_video"
            )
    return options


def _probe_video(video_path: str | os.PathLike[str]) -> tuple[int, tuple[int, int], float | None]:
    """The number of frames, their size and their rate."""
    try:
        frame = open_frame(video_path)
        count, height, width, _ = frame.shape
    except (SourceError, ValueError) as error:  # an image has three axes
        raise RuntimeError(f"Failed to open video file: {os.fsdecode(video_path)} ({error})") from error
    return count, (height, width), getattr(frame, "fps", None)


def _file_signature(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The size and the modification time of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _read_beside(beside: str, path: str) -> VideoMetadata | None:
    """What the file beside a video says; ``None`` if it is about another state of the video."""
    with open(beside, encoding="utf-8") as file:
        text = file.read()
    try:
        known = json.loads(text)
        if (known.get("size"), known.get("mtime_ns")) != _file_signature(path):
            return None
        return VideoMetadata(int(known["n_frames"]), tuple(known["frame_size"]), known["fps"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{beside} is damaged ({error}); remove it, or use use_cached_metadata=False") from error


def _to_options(
    video_path: str | os.PathLike[str],
    mode: str,
    quality: int,
    preset: str | None,
    extra_ffmpeg_params: Sequence[str] | None,
) -> dict[str, Any]:
    """The options of ``write_video``."""
    check_choice("mode", mode, _Mode)
    named = parse_params(extra_ffmpeg_params or ())
    is_h264 = Path(video_path).suffix.lower() in _H264_SUFFIXES
    return {"codec": "h264", "quality": quality, "preset": preset or "slow", **named} if is_h264 else {}


def _write(
    video_path: str | os.PathLike[str],
    frames: Any,
    fps: float,
    options: dict[str, Any],
    *,
    log_interval: int | None,
    quiet: bool,
) -> None:
    if log_interval is not None and not quiet:
        frames = _log(frames, log_interval)
    write_video(video_path, frames, fps, **options, progress=False if quiet else None)


def _log(frames: Iterable[Any], interval: int) -> Iterator[Any]:
    for number, frame in enumerate(frames, 1):
        yield frame
        if number % interval == 0:
            _LOGGER.info("Written frame %d", number)
