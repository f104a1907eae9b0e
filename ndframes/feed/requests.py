"""RequestSource: the requests that ``prefetch`` accepts, checked, and in the form that a worker takes."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from ..errors import RegionError, shorten
from ..frames.frames import Frames
from ..frames.lazyframe import LazyFrame
from .patch import Patch

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from ..frames.batch import Request

__all__ = ["RequestSource"]


class RequestSource:
    """Images, and how requests refer to them.

    Args:
        frames: the images; a :class:`~ndframes.LazyFrame` stands for the one that it shows.
        channels: of all requests; ``None``: those of the :class:`~ndframes.LazyFrame`, or the default.

    Raises:
        TypeError: ``frames`` holds no images.

    Attributes:
        frames: the images.
        channels: of all requests.
        video_id: the image to which numbers of frames belong; ``None`` if there are several images.

    Example:
        >>> import ndframes as nf
        >>> source = RequestSource(nf.SimpleFrames.demo(backend=None).load_frame("coffee"), None)
        >>> list(source.everything()), source.video_id
        ([('coffee', None)], 'coffee')
    """

    def __init__(self, frames: Frames | LazyFrame, channels: str | Sequence[str] | None) -> None:
        self.video_id: Hashable = None
        self._is_one = isinstance(frames, LazyFrame)
        if isinstance(frames, LazyFrame):
            self.video_id = frames.image_id
            channels = frames.channels if channels is None else channels
            catalog: object = frames.frames
        else:
            catalog = frames
        if not isinstance(catalog, Frames):
            raise TypeError(f"frames={shorten(frames)}; give Frames, or what nf.open returns")
        self.frames = catalog
        self.channels = channels
        if not self._is_one and len(catalog) == 1:
            self.video_id = catalog.image_ids[0]
            self._is_one = True

    def everything(self) -> Iterable[Request | int]:
        """All frames of the one video or sequence, or else all images."""
        if self._is_one:
            return range(self._frame_count()) if self._has_times() else [(self.video_id, None)]
        return [(image_id, None) for image_id in self.frames.image_ids]

    def check(self, request: Any, number: int) -> Patch | Request | int:
        """One request: a patch, a pair or the number of a frame.

        Raises:
            RegionError: it is none of them, or there is no single video that has frames.
        """
        if isinstance(request, Patch):
            return request
        if isinstance(request, (tuple, list)) and len(request) == 2:
            return request[0], request[1]
        if isinstance(request, bool) or not hasattr(request, "__index__"):
            raise RegionError(
                f"request {number} is {shorten(request)}; give patches, pairs (image_id, region), or numbers of frames"
            )
        if not self._is_one:
            raise RegionError(
                f"request {number} is {shorten(request)}, the number of a frame, but there are {len(self.frames):,} images; "
                "give pairs (image_id, region), or open the video alone"
            )
        if number == 0 and not self._has_times():
            raise RegionError(
                f"request 0 is {shorten(request)}, the number of a frame, but image {shorten(self.video_id)} is no video; give "
                "pairs (image_id, region)"
            )
        return operator.index(request)

    def _has_times(self) -> bool:
        return len(self.frames.extents(self.video_id)) == 3

    def _frame_count(self) -> int:
        return self.frames.extents(self.video_id)[0]
