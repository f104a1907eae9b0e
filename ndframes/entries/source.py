"""Opening a source, whatever it is: an image, a video, one frame of a video."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..formats.frame import FrameReader
from ..formats.images.sniff import open_image
from ..spec.kinds import is_video_name
from ..video.decoder import VideoDecoder
from ..video.reader import VideoReader
from .frame_index import find_index

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..formats.reader import Reader
    from ..spec.pathinfo import ChannelInfo
    from ..system.handles import HandlePool
    from ..system.stamp import SourceStamp

__all__ = ["SourceOpener", "follow_links", "open_video"]


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """Opens sources.

    Attributes:
        cache: keeps the indexes of videos.
        pool: lends the handles.
        frame_bytes: how much of the frames of a video that were decoded last is kept in memory.
    """

    cache: Cache
    pool: HandlePool
    frame_bytes: int = 0

    def open(
        self, info: ChannelInfo, stamp: SourceStamp | None, *, path: str | None = None, is_mapped: bool | None = None
    ) -> Reader:
        """Open the file of one channel for crops.

        Args:
            info: the file, and which of its images, or, as ``page``, which frame of a video.
            stamp: its state; ``None`` for what is no local file.
            path: where it lies, links followed, if that is known.
            is_mapped: whether a ``.npy`` is mapped; see :class:`~ndframes.formats.images.arrays.NpyReader`.

        Raises:
            SourceError: it cannot be read.
        """
        target = info if stamp is None else replace(info, path=path or follow_links(info.path))
        if not is_video_name(info.path):
            return open_image(target, self.pool, is_mapped=is_mapped)
        whole = replace(target, page=None)
        video = open_video(whole, stamp, self.cache, self.pool, frame_bytes=self.frame_bytes)
        return video if info.page is None else FrameReader(video, info.page)


def follow_links(path: str) -> str:
    """The file that a path leads to: a link on the way may be changed to and fro while the file is read."""
    target = os.path.realpath(path)
    return path if target == os.path.abspath(path) else target


def open_video(
    info: ChannelInfo,
    stamp: SourceStamp | None,
    cache: Cache,
    pool: HandlePool,
    *,
    frame_bytes: int = 64 * 2**20,
) -> VideoReader:
    """Open a video, its frames found before if need be.

    Args:
        info: the file.
        stamp: its state.
        cache: keeps the index of its frames.
        pool: lends the handles.
        frame_bytes: how much of the frames decoded last is kept in memory.

    Raises:
        SourceError: it is no video that decodes.
    """
    index = find_index(info, stamp, cache, pool)
    is_gray = info.pixel_format == "gray"
    errors: Any = info.frame_errors
    return VideoReader(VideoDecoder(info.path, index, pool, frame_bytes=frame_bytes, is_gray=is_gray, errors=errors))
