"""ItemFactory: from the description of an image to the item that reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import PathInfoError
from ..spec.kinds import is_whole_video
from ..spec.pathinfo import SequenceInfo
from .image import AlignableImageData
from .parts import Parts
from .sequence import ImageSequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cache.cache import Cache
    from ..entries.opener import BoundOpener
    from ..spec.pathinfo import PathInfo
    from .item import LazyImage
    from .parts import OverviewMode

__all__ = ["ItemFactory"]


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
        if len(info.channels) == 1 and is_whole_video(info.channels[0]):
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
            if is_whole_video(channel):
                raise PathInfoError(
                    f"{channel.path} is a video among the files of an image; say which of its frames, by ChannelInfo(page=...) "
                    "or the frame_index of a dataset's image"
                )
        if isinstance(info, SequenceInfo):
            return ImageSequence(info, self.make_image, max_region_bytes=self.max_region_bytes, on_open=on_open)
        return self.make_image(info, on_open)

    def make_image(
        self, info: PathInfo, on_open: Callable[[], None] | None = None, *, converts: bool = True
    ) -> AlignableImageData:
        """The image that ``info`` describes; with ``converts=False`` it converts no file that has no entry yet."""
        opener = self.opener if converts else replace(self.opener, converts=False)
        parts = Parts(info, opener, on_open=on_open, threads=self.threads, overviews=self.overviews)
        return AlignableImageData(parts, max_region_bytes=self.max_region_bytes)
