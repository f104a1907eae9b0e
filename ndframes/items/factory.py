"""ItemFactory: from the description of an image to the item that reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..entries.source import is_video_file
from ..errors import NdframesError, PathInfoError
from ..formats.images.animation import may_be_animation
from ..spec.pathinfo import SequenceInfo
from ..system.objects.addresses import is_url
from .image import AlignableImageData
from .parts import Parts
from .sequence import ImageSequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cache.cache import Cache
    from ..entries.opener import BoundOpener
    from ..spec.pathinfo import ChannelInfo, PathInfo
    from .item import LazyImage
    from .parts import OverviewMode

__all__ = ["ItemFactory"]


# As many images of a sequence are read at the same time where reads wait for a network.
_DISTANT_IMAGES = 32


@dataclass(frozen=True, slots=True)
class ItemFactory:
    """Makes items of one ``Frames``.

    Attributes:
        opener: opens the files of the item.
        cache: holds the indexes of videos.
        max_region_bytes: the largest result that is allowed, in bytes.
        threads: the most threads that decode one crop; ``None``: one for each core, and one in a worker process.
        overviews: which levels scaled reads of sources use.
    """

    opener: BoundOpener
    cache: Cache
    max_region_bytes: int
    threads: int | None = 1
    overviews: OverviewMode = "own"

    def make(self, info: PathInfo, on_open: Callable[[], None] | None = None) -> LazyImage:
        """The item that ``info`` describes: an image, a sequence or a video. Opens nothing.

        Args:
            info: the description.
            on_open: called after the item opened a file, since it then uses more memory.

        Raises:
            PathInfoError: a whole video is one of several files of an image.
        """
        if isinstance(info, SequenceInfo):
            # Its files are not looked at here: there may be many. One that is an animation is an error when it is opened.
            return ImageSequence(
                info,
                self.make_image,
                max_region_bytes=self.max_region_bytes,
                on_open=on_open,
                threads=_DISTANT_IMAGES if self.cache.is_distant else 1,
            )
        if len(info.channels) == 1 and self.is_whole_video(info.channels[0]):
            # Imported here, because most programs read no videos.
            from .video import VideoData

            return VideoData(
                info,
                self.opener,
                self.cache,
                self.opener.pool,
                max_region_bytes=self.max_region_bytes,
                on_open=on_open,
            )
        for channel in info.channels:
            if self.is_whole_video(channel):
                raise PathInfoError(
                    f"{channel.path} is a video among the files of an image; say which of its frames, by ChannelInfo(page=...) "
                    "or the frame_index of a dataset's image"
                )
        return self.make_image(info, on_open)

    def is_whole_video(self, channel: ChannelInfo) -> bool:
        """Whether a channel is a whole video or animation rather than one of its frames."""
        if channel.page is not None or channel.driver is not None:
            return False
        if is_video_file(channel.path):
            return True
        if not may_be_animation(channel.path) or os.path.exists(channel.path):
            return False
        if is_url(channel.path):  # only its content tells
            return self.opener.open(channel).reader.frame_count is not None
        # The source is gone: its cache entry knows, if it may be read in its place.
        try:
            return self.opener.open(channel).reader.frame_count is not None
        except NdframesError:
            return False

    def make_image(
        self, info: PathInfo, on_open: Callable[[], None] | None = None, *, converts: bool = True
    ) -> AlignableImageData:
        """The image that ``info`` describes; with ``converts=False`` it converts no file that has no entry yet."""
        opener = self.opener if converts else replace(self.opener, converts=False)
        parts = Parts(info, opener, on_open=on_open, threads=self.threads, overviews=self.overviews)
        return AlignableImageData(parts, max_region_bytes=self.max_region_bytes)
