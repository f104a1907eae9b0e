"""read_video and video_metadata: frames of a video file as one array, and a description of the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..cache.cache import Cache
from ..cache.layout import default_workdir
from ..entries.frame_index import find_index
from ..entries.source import open_video
from ..errors import RegionError, UnreadableImageError, check_choice, naming_image, shorten
from ..formats.images.animation import is_animation
from ..geometry.regions import to_row
from ..pixels.results import allocate
from ..spec.channels import default_codes, find_codes, parse_codes
from ..spec.kinds import is_video_path
from ..spec.pathinfo import ChannelInfo
from ..system.handles import HandlePool
from ..system.process import half_of_memory
from ..system.stamp import guard_opening, stat_source
from ..video.decoder import VideoDecoder, VideoErrors
from ..video.fields.opening import open_source
from ..video.fields.reader import FieldReader
from ..video.index import open_container
from ..video.metadata import describe_animation, describe_video
from ..video.promise import warn_if_cut_off
from ..video.reader import VideoReader

if TYPE_CHECKING:
    from .._typing import Array
    from ..formats.reader import Reader
    from ..video.metadata import VideoMetadata

__all__ = ["open_reader", "read_video", "video_metadata"]
# FFmpeg opens still images and text files with these demuxers, as videos of one frame or of scrolling text.
_NOT_VIDEO = frozenset(["image2", "tty"])


def read_video(
    path: str | os.PathLike[str],
    indices: Iterable[int] | None = None,
    *,
    channels: str | Sequence[str] | None = None,
    workdir: str | os.PathLike[str] | None = None,
    stream: int | None = None,
    pixel_format: str | None = None,
    errors: VideoErrors = "raise",
) -> Array:
    """Read frames of a video into a new array.

    Frame ``i`` is the ``i``-th frame that decoding from the start shows. Each frame is decoded once, in the order of the file,
    into its place in the result; no other frames are held in memory.

    Args:
        path: a video file.
        indices: frame numbers in any order. Numbers may repeat; negative ones count from the end. ``None``: all frames.
        channels: codes such as ``"r|g|b"`` or ``"g"``; ``None``: all.
        workdir: the folder that holds the cache, which stores the frame index. ``None``: ``$NDFRAMES_WORKDIR``, else the
            user's cache folder.
        stream: the number of a video stream, as :func:`video_metadata` lists them; ``None``: the best one; see
            :class:`ndframes.Clip`.
        pixel_format: ``"gray"`` reads the stored luma only, ``"picture"`` the picture of a movie of fields; see :class:`ndframes.ChannelInfo`.
        errors: what to do about a frame that cannot be decoded. ``"raise"``: raise an error; ``"skip"``: leave it out;
            ``"nearest"``: use the nearest frame that can be decoded. :meth:`ndframes.LazyVideo.read` also returns which
            frames were read.

    Returns:
        A new array ``(t, height, width, channels)``: uint8, uint16 for videos of more than 8 bits, or float32 for videos
        of floats. Without indices, ``t`` is 0.

    Raises:
        RegionIndexError: a frame number is out of range.
        RegionError: an index is not an integer.
        RegionTooLargeError: the result exceeds half of the machine's memory.
        ChannelError: the video lacks a channel.
        PathInfoError, ValueError: ``pixel_format`` or ``errors`` is not an allowed value.
        SourceError: the file is not a readable video, or a frame cannot be decoded.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "ramp.mkv"
        >>> ramp = np.arange(5, dtype=np.uint16)[:, None, None].repeat(4, 1).repeat(6, 2)
        >>> report = nf.write_video(path, ramp, fps=5)
        >>> nf.read_video(path).shape, nf.read_video(path, [4, 0, -1])[:, 0, 0, 0].tolist()
        ((5, 4, 6, 1), [4, 0, 4])
    """
    check_choice("errors", errors, VideoErrors)
    source = ChannelInfo(_to_text(path), series=stream, pixel_format=pixel_format)
    reader = _open_frames(source, workdir, errors)
    count = reader.frame_count or 0
    if indices is None:
        indices = range(count)
    elif isinstance(indices, (str, bytes)) or not isinstance(indices, Iterable):
        raise RegionError(
            f"{reader.path}: indices={shorten(indices)}; give frame numbers, such as [5] or range(0, 100, 5)"
        )
    with naming_image(reader.path):
        numbers = [to_row(item, count) for item in indices]
    # Before the result is allocated: its length is the number of readable frames.
    if errors == "skip":
        readable = reader.find_readable(numbers, range(count), is_replaced=False)
        numbers = [number for number in numbers if number in readable]
    height, width, band_count = reader.shape
    codes = reader.facts.channels or default_codes(band_count)
    with naming_image(reader.path):
        picked = find_codes(codes, codes if channels is None else parse_codes(channels))
    # The object itself means "all bands" to the reader, which then copies whole pixels instead of picking bands.
    bands = reader.all_bands if picked == tuple(reader.all_bands) else picked
    out = allocate((len(numbers), height, width, len(picked)), reader.dtype, half_of_memory())
    reader.read_frames(numbers, range(height), range(width), bands, out)
    return out


def _open_frames(source: ChannelInfo, workdir: str | os.PathLike[str] | None, errors: VideoErrors) -> Reader:
    """Open a video, or an animation."""
    if is_video_path(source.path) or not is_animation(source.path):
        is_gray = source.pixel_format == "gray"
        decoder = open_reader(source.path, workdir, stream=source.series, is_gray=is_gray, errors=errors)
        if decoder.index.field_times is not None and source.pixel_format is None and source.series is None:
            return FieldReader(open_source(source.path, decoder.index))
        return VideoReader(decoder)
    cache = Cache(default_workdir() if workdir is None else workdir)
    return open_video(source, stat_source(source.path), cache, HandlePool())


def open_reader(
    path: str | os.PathLike[str],
    workdir: str | os.PathLike[str] | None,
    *,
    stream: int | None = None,
    is_gray: bool = False,
    errors: VideoErrors = "raise",
) -> VideoDecoder:
    """Open a reader of a video file that keeps no decoded frames; the frame index is built if the cache lacks it.

    Raises:
        SourceError: the file is not a readable video.
    """
    info, pool = ChannelInfo(_to_text(path), series=stream), HandlePool()
    stamp = stat_source(info.path)
    guard = guard_opening(info.path, stamp)
    with pool.open(partial(open_container, info.path)) as container:
        names = container.format.name
        # Other demuxers of still images have names such as png_pipe.
        if names in _NOT_VIDEO or names.endswith("_pipe"):
            raise UnreadableImageError(f"{info.path} is not a video ({names}); open images with ndframes.open")
    cache = Cache(default_workdir() if workdir is None else workdir)
    index = find_index(info, stamp, cache, pool)
    warn_if_cut_off(info.path, index)
    # No memory for decoded frames: the callers use each frame once.
    return VideoDecoder(info.path, index, pool, frame_bytes=0, is_gray=is_gray, errors=errors, guard=guard)


def _to_text(path: str | os.PathLike[str]) -> str:
    """A path as text; what is no path is left to :class:`ChannelInfo`, whose error explains it."""
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else path


def video_metadata(
    path: str | os.PathLike[str], *, workdir: str | os.PathLike[str] | None = None, stream: int | None = None
) -> VideoMetadata:
    """Describe a video file.

    The first call scans the file to index its frames, and the cache keeps the index. One frame is decoded.

    Args:
        path: a video file.
        workdir: the folder that holds the cache, which stores the frame index. ``None``: ``$NDFRAMES_WORKDIR``, else the
            user's cache folder.
        stream: the number of a video stream, as ``VideoMetadata.streams`` lists them; ``None``: the best one.

    Raises:
        SourceMissingError: the file does not exist.
        UnreadableImageError: the file is not a video, or no frame of it can be decoded.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "ramp.mkv"
        >>> report = nf.write_video(path, np.zeros((50, 48, 64), np.uint16), fps=25, metadata={"rig": 3})
        >>> found = nf.video_metadata(path)
        >>> found.frames, found.fps, found.duration, found.codec, found.metadata
        (50, 25.0, 2.0, 'ffv1', {'rig': 3})
    """
    source = ChannelInfo(_to_text(path))
    if not is_video_path(source.path) and is_animation(source.path):
        cache = Cache(default_workdir() if workdir is None else workdir)
        return describe_animation(source.path, find_index(source, stat_source(source.path), cache, HandlePool()))
    reader = open_reader(path, workdir, stream=stream)
    return describe_video(reader.path, reader)
