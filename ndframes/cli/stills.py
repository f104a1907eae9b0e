"""StillFrames: one frame of a video as an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..frames.frames import Frames
from ..spec.pathinfo import ChannelInfo, PathInfo

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from typing_extensions import Unpack

    from ..frames.options import FramesOptions

__all__ = ["StillFrames"]


class StillFrames(Frames):
    """One frame of a video as an image; its id is the path of the video.

    Args:
        path: the video file.
        page: the frame number, from 0.
        **options: keywords of :class:`~ndframes.Frames`.
    """

    def __init__(self, path: str, page: int, **options: Unpack[FramesOptions]) -> None:
        super().__init__(**options)
        self._path = path
        self._page = page

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The path, as the only id."""
        return [self._path]

    def build_pathinfo(self, image_id: Any) -> PathInfo:
        """Describe the frame."""
        if image_id != self._path:
            raise KeyError(image_id)
        return PathInfo(image_id, (ChannelInfo(self._path, page=self._page),))
