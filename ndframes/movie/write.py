"""write_video: frames of any kind to a video file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import VideoWriteError, shorten
from ..frames.lazyframe import LazyFrame
from ..video.writer import VideoWriter, check_not_source

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
    """Write frames to a video, one at a time; the file appears whole or not at all.

    Args:
        path: of the video; see :class:`VideoWriter` for this and what follows.
        frames: an array ``(t, height, width)`` or ``(t, height, width, channels)``; a video or sequence by
            :func:`ndframes.open` and its kin; or any iterable, a generator too, of frames and paths of images, which are read
            one by one.
        fps: frames a second.
        codec: as in :class:`VideoWriter`, and so are those that follow.
        quality: likewise.
        preset: likewise.
        intra: likewise.
        pixel_format: likewise.
        metadata: likewise.
        progress: whether to show a progress bar on stderr; ``None``: if stderr is a terminal.

    Returns:
        What was written.

    Raises:
        VideoWriteError: a value, or a frame, cannot be; there is no frame; or ``path`` is one of the files that are read.
        SourceError: an image cannot be read.
        OutputError: the video cannot be written there.

    Example:
        >>> import ndframes as nf
        >>> folder = getfixture("tmp_path")
        >>> photos = [nf.demo_paths()["coffee"]] * 3
        >>> report = nf.write_video(folder / "cup.mp4", photos, fps=2, preset="veryfast", metadata={"rig": 3})
        >>> report.frames, report.shape, report.codec, report.ratio > 10
        (3, (400, 600, 3), 'h264', True)
        >>> again = nf.write_video(folder / "intra.mp4", nf.open(folder / "cup.mp4"), fps=2, intra=True)
        >>> nf.open(folder / "intra.mp4").keyframes.tolist()
        [0, 1, 2]
    """
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
    given = _list_frames(frames, writer.path)
    bar = _Bar(given.total, sys.stderr.isatty() if progress is None else progress)
    with writer, bar:
        for frame in given.frames:
            writer.append(frame)
            bar.step()
    return writer.close()


class _Given(NamedTuple):
    """What is to be written: frames or paths, and how many there are where that is known."""

    frames: Iterable[Any]
    total: int | None


def _list_frames(frames: Any, path: str) -> _Given:
    if isinstance(frames, (str, bytes, os.PathLike)):
        raise VideoWriteError(
            f"{path}: frames={shorten(frames)} is one path; give a list of paths of images, or ndframes.open(path) of a video"
        )
    if isinstance(frames, LazyFrame):
        for source in _paths_of(frames):
            check_not_source(path, source)
        frames = _only_stack(frames, path)
        return _Given((frames[number] for number in range(len(frames))), len(frames))
    if hasattr(frames, "ndim") and hasattr(frames, "shape"):
        _only_stack(frames, path)
    elif not isinstance(frames, Iterable):
        raise VideoWriteError(
            f"{path}: frames={shorten(frames)}; give an array (t, y, x, channel) or an iterable of frames"
        )
    return _Given(frames, len(frames) if hasattr(frames, "__len__") else None)


def _only_stack(frames: Any, path: str) -> Any:
    axes = (4,) if isinstance(frames, LazyFrame) else (3, 4)
    if frames.ndim not in axes:
        raise VideoWriteError(
            f"{path}: frames have the shape {tuple(frames.shape)}, not (t, y, x) or (t, y, x, channel); "
            "give one image as [image]"
        )
    return frames


def _paths_of(frame: LazyFrame) -> Iterator[str]:
    info = frame.frames.pathinfo(frame.image_id)
    for image in getattr(info, "images", (info,)):
        yield from (channel.path for channel in image.channels)


class _Bar:
    """A progress bar over frames."""

    def __init__(self, count: int | None, is_shown: bool) -> None:
        self._iter: Any = None
        if is_shown:
            import ubelt

            self._iter = ubelt.ProgIter(
                total=count, desc="write, frames", stream=sys.stderr, clearline=sys.stderr.isatty()
            )

    def __enter__(self) -> None:
        if self._iter is not None:
            self._iter.begin()

    def __exit__(self, *_: object) -> None:
        if self._iter is not None:
            self._iter.end()

    def step(self) -> None:
        """One more frame is written."""
        if self._iter is not None:
            self._iter.step()
