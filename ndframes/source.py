"""Opening a source, whatever it is: an image, a video, one frame of a video."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ._process import IMPORTING
from .formats.source import open_source as open_image
from .formats.stack import FrameReader
from .video.kinds import is_video_name

if TYPE_CHECKING:
    from .cache.store import Cache
    from .formats.handles import HandlePool
    from .formats.reader import Reader
    from .pathinfo import ChannelInfo
    from .stamp import SourceStamp

__all__ = ["SourceOpener", "follow_links", "is_whole_video", "whole_of"]


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
            is_mapped: whether a ``.npy`` is mapped; see :class:`~ndframes.formats.arrays.NpyReader`.

        Raises:
            SourceError: it cannot be read.
        """
        target = info if stamp is None else replace(info, path=path or follow_links(info.path))
        if not is_video_name(info.path):
            return open_image(target, self.pool, is_mapped=is_mapped)
        with IMPORTING:
            from .video.stack import open_video

        whole = replace(target, page=None)
        stack = open_video(whole, stamp, self.cache, self.pool, frame_bytes=self.frame_bytes)
        return stack if info.page is None else FrameReader(stack, info.page)


def follow_links(path: str) -> str:
    """The file that a path leads to: a link on the way may be changed to and fro while the file is read."""
    target = os.path.realpath(path)
    return path if target == os.path.abspath(path) else target


def is_whole_video(info: ChannelInfo) -> bool:
    """Whether a channel is a video, and not one of its frames."""
    return info.page is None and is_video_name(info.path)


def whole_of(info: ChannelInfo) -> ChannelInfo:
    """What is opened, and kept in the cache, in order to read ``info``: the whole video, of one of its frames."""
    return replace(info, page=None) if info.page is not None and is_video_name(info.path) else info
