"""read_video: frames of a video file as one array."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..cache.cache import Cache
from ..cache.layout import default_workdir
from ..entries.frame_index import find_index
from ..errors import RegionError, UnreadableImageError, check_choice, shorten
from ..geometry.regions import to_row
from ..pixels.results import allocate
from ..spec.channels import default_codes, find_codes, parse_codes
from ..spec.pathinfo import ChannelInfo
from ..system.handles import HandlePool
from ..system.process import half_of_memory
from ..system.stamp import stat_source
from ..video.decoder import VideoDecoder, VideoErrors
from ..video.index import open_container
from ..video.metadata import describe_video
from ..video.reader import VideoReader

if TYPE_CHECKING:
    from .._typing import Array
    from ..video.metadata import VideoMetadata

__all__ = ["open_reader", "read_video", "video_metadata"]
# What FFmpeg takes for a video though it is an image, or a text.
_NO_VIDEOS = frozenset(["image2", "tty"])


def read_video(
    path: str | os.PathLike[str],
    indices: Iterable[int] | None = None,
    *,
    channels: str | Sequence[str] | None = None,
    workdir: str | os.PathLike[str] | None = None,
    pixel_format: str | None = None,
    errors: VideoErrors = "raise",
) -> Array:
    """Read frames of a video into a new array.

    Frame ``i`` is the ``i``-th one that decoding from the beginning shows. Each is decoded once, in the order of the file,
    and goes straight to its place; only the array itself takes memory.

    Args:
        path: a video of any kind that is read.
        indices: the numbers of the frames, in any order; one may come twice, and negative ones count from the end. ``None``:
            all frames.
        channels: codes such as ``"r|g|b"`` or ``"g"``; ``None``: all.
        workdir: where the cache is that keeps the index of the frames. ``None``: ``$NDFRAMES_WORKDIR``, else the user's cache
            folder.
        pixel_format: ``"gray"``: the brightness alone, as it is stored; see :class:`ndframes.ChannelInfo`.
        errors: what becomes of a frame that does not decode: ``"raise"``, an error; ``"skip"``, it is left out;
            ``"nearest"``, the nearest frame that does stands for it. :meth:`ndframes.LazyVideo.read` says which are there.

    Returns:
        ``(t, height, width, channels)``, uint8, or uint16 for more than 8 bits; ``(0, height, width, channels)`` for no indices.

    Raises:
        RegionIndexError: there is no such frame.
        RegionError: the indices are no whole numbers.
        RegionTooLargeError: the result takes more than half of the machine's memory.
        ChannelError: there is no such channel.
        PathInfoError, ValueError: ``pixel_format`` or ``errors`` is none of its values.
        SourceError: it is no video that is read, or a frame does not decode.

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
    source = ChannelInfo(os.fsdecode(path), pixel_format=pixel_format)
    reader = open_reader(source.path, workdir, is_gray=pixel_format == "gray", errors=errors)
    count = len(reader.index)
    if indices is None:
        indices = range(count)
    elif isinstance(indices, (str, bytes)) or not isinstance(indices, Iterable):
        raise RegionError(
            f"{reader.path}: indices={shorten(indices)}; give the numbers of frames, such as [5] or range(0, 100, 5)"
        )
    numbers = [to_row(item, count) for item in indices]
    if errors == "skip":
        there = reader.find_readable(numbers, range(count), errors)
        numbers = [number for number in numbers if number in there]
    height, width, bands = reader.frame_shape
    codes = default_codes(bands)
    picked = find_codes(codes, codes if channels is None else parse_codes(channels))
    video = VideoReader(reader)
    bands_wanted = video.all_bands if picked == tuple(video.all_bands) else picked
    out = allocate((len(numbers), height, width, len(picked)), reader.dtype, half_of_memory())
    video.read_frames(numbers, range(height), range(width), bands_wanted, out)
    return out


def open_reader(
    path: str | os.PathLike[str],
    workdir: str | os.PathLike[str] | None,
    *,
    is_gray: bool = False,
    errors: VideoErrors = "raise",
) -> VideoDecoder:
    """A reader of a video file, its frames found before if need be; it remembers none that it decoded.

    Raises:
        SourceError: it is no video that is read.
    """
    info, pool = ChannelInfo(os.fsdecode(path)), HandlePool()
    stamp = stat_source(info.path)
    with open_container(info.path) as container:
        names = container.format.name
        if names in _NO_VIDEOS or names.endswith("_pipe"):
            raise UnreadableImageError(f"{info.path} is no video ({names}); an image is opened by ndframes.open")
    cache = Cache(default_workdir() if workdir is None else workdir)
    return VideoDecoder(
        info.path, find_index(info, stamp, cache, pool), pool, frame_bytes=0, is_gray=is_gray, errors=errors
    )


def video_metadata(path: str | os.PathLike[str], *, workdir: str | os.PathLike[str] | None = None) -> VideoMetadata:
    """Say what a video is.

    The first time, its frames are counted, by a scan of the file; the cache keeps what is found. One frame is decoded.

    Args:
        path: a video of any kind that is read.
        workdir: where the cache is that keeps the index of the frames. ``None``: ``$NDFRAMES_WORKDIR``, else the user's cache
            folder.

    Raises:
        SourceMissingError: there is no such file.
        UnreadableImageError: it is no video, or nothing of it decodes.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "ramp.mkv"
        >>> report = nf.write_video(path, np.zeros((50, 48, 64), np.uint16), fps=25, metadata={"rig": 3})
        >>> found = nf.video_metadata(path)
        >>> found.frames, found.fps, found.duration, found.codec, found.metadata
        (50, 25.0, 2.0, 'ffv1', {'rig': 3})
    """
    reader = open_reader(path, workdir)
    return describe_video(reader.path, reader)
