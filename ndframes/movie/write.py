"""write_video: write frames of any kind to a video file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import VideoWriteError, shorten
from ..frames.lazyframe import LazyFrame
from ..video.writer import VideoWriter, check_not_source
from .progress import ProgressBar

if TYPE_CHECKING:
    from numbers import Rational

    from ..video.codecs import CodecName
    from ..video.writer import WriteReport

__all__ = ["write_video"]


def write_video(  # noqa: PLR0913 - a keyword for each thing that a user may choose
    path: str | os.PathLike[str],
    frames: Any,
    fps: float | Rational,
    *,
    codec: CodecName | None = None,
    quality: int | None = None,
    preset: str | int | None = None,
    intra: bool = False,
    pixel_format: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> WriteReport:
    """Write frames to a video file, one at a time; the file appears complete or not at all.

    Args:
        path: the video file; see :class:`VideoWriter` for this and the following arguments.
        frames: an array ``(t, height, width)`` or ``(t, height, width, channels)``; a video or sequence from
            :func:`ndframes.open`; or an iterable of frames and paths of images, such as a generator, read one by one.
        fps: frames per second.
        codec: as in :class:`VideoWriter`.
        quality: as in :class:`VideoWriter`.
        preset: as in :class:`VideoWriter`.
        intra: as in :class:`VideoWriter`.
        pixel_format: as in :class:`VideoWriter`.
        metadata: as in :class:`VideoWriter`.
        progress: whether to show a progress bar on stderr; ``None``: only if stderr is a terminal.

    Returns:
        A report of what was written.

    Raises:
        VideoWriteError: an argument or a frame is not allowed, there are no frames, or ``path`` is a file that is read.
        SourceError: an image cannot be read.
        OutputError: the video cannot be written.

    Example:
        >>> import ndframes as nf
        >>> folder = getfixture("tmp_path")
        >>> photos = [nf.demo_paths()["coffee"]] * 3
        >>> options = {"preset": "veryfast", "metadata": {"rig": 3}}
        >>> report = nf.write_video(folder / "cup.mp4", photos, fps=2, **options)
        >>> report.frames, report.shape, report.codec, report.ratio > 10
        (3, (400, 600, 3), 'h264', True)
        >>> again = nf.write_video(folder / "intra.mp4", nf.open(folder / "cup.mp4"), fps=2, intra=True)
        >>> nf.open(folder / "intra.mp4").keyframes.tolist()
        [0, 1, 2]
    """
    # Before the frames are looked at, so that a wrong option fails first.
    writer = VideoWriter(
        path,
        fps,
        codec=codec,
        quality=quality,
        preset=preset,
        intra=intra,
        pixel_format=pixel_format,
        metadata=metadata,
    )
    stream = _open_stream(frames, writer.path)
    bar = ProgressBar(progress, stream.total)
    with writer, bar:
        for frame in stream.frames:
            writer.append(frame)
            bar.step()
    # The context has closed the writer: this call returns the same report.
    return writer.close()


class _FrameStream(NamedTuple):
    """Frames or paths to write, and their number if it is known."""

    frames: Iterable[Any]
    total: int | None


def _open_stream(frames: Any, path: str) -> _FrameStream:
    if isinstance(frames, (str, bytes, os.PathLike)):
        raise VideoWriteError(
            f"{path}: frames={shorten(frames)} is one path; give a list of image paths, or ndframes.open(path) for a video"
        )
    if isinstance(frames, LazyFrame):
        # The output must not replace a file that is still to be read. The channels of a sequence are the files of all images.
        for channel in frames.frames.pathinfo(frames.image_id).channels:
            check_not_source(path, channel.path)
        _check_axes(frames, path)
        return _FrameStream((frames[number] for number in range(len(frames))), len(frames))
    # Not by type, since arrays may come from torch, dask or xarray.
    if hasattr(frames, "ndim") and hasattr(frames, "shape"):
        _check_axes(frames, path)
    elif not isinstance(frames, Iterable):
        raise VideoWriteError(
            f"{path}: frames={shorten(frames)}; give an array (t, y, x, channel) or an iterable of frames"
        )
    return _FrameStream(frames, len(frames) if hasattr(frames, "__len__") else None)


def _check_axes(frames: Any, path: str) -> None:
    # A LazyFrame always has a channel axis: three axes are an image.
    if frames.ndim not in ((4,) if isinstance(frames, LazyFrame) else (3, 4)):
        raise VideoWriteError(
            f"{path}: frames have the shape {tuple(frames.shape)}, not (t, y, x) or (t, y, x, channel); "
            "give one image as [image]"
        )
