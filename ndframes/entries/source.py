"""Open a source: an image, a video, or one frame of a video."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import UnreadableImageError
from ..formats.frame import FrameReader
from ..formats.images.animation import AnimationReader, has_frames, is_animation, may_be_animation
from ..formats.images.sniff import open_image
from ..spec.kinds import is_video_path
from ..system.objects.addresses import is_url
from ..system.process import IMPORTING
from ..system.stamp import guard_opening

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..formats.reader import Reader
    from ..formats.tiled.tile_cache import TileCache
    from ..spec.pathinfo import ChannelInfo
    from ..system.handles import HandlePool
    from ..system.stamp import SourceStamp

_log = logging.getLogger("ndframes")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
__all__ = ["SourceOpener", "follow_links", "is_video_file", "open_video"]


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """Opens sources.

    Attributes:
        cache: stores the indexes of videos; ``None`` for a copy of an object, which nobody opens again: they are not stored.
        pool: keeps the open handles.
        frame_bytes: how many bytes of decoded frames of each video are cached.
        tiles: stores decoded images; ``None``: each reader keeps its own.
        told: the paths of which the log was told already; a file that has just been written is opened for each read.
    """

    cache: Cache | None
    pool: HandlePool
    frame_bytes: int = 0
    tiles: TileCache | None = None
    told: set[str] = field(default_factory=set)

    def open(
        self, info: ChannelInfo, stamp: SourceStamp | None, *, path: str | None = None, is_mapped: bool | None = None
    ) -> Reader:
        """Open the file of one channel for crops.

        Args:
            info: the file, and which of its images; ``page`` is the number of a frame of a video.
            stamp: the state of the file; ``None`` if it is not a local file.
            path: the path with links resolved, if it is known.
            is_mapped: whether a ``.npy`` is mapped; see :class:`~ndframes.formats.images.arrays.NpyReader`.

        Raises:
            SourceError: the file cannot be read.
        """
        target = info if stamp is None else replace(info, path=path or follow_links(info.path))
        if not is_video_file(target.path):
            reader = open_image(target, self.pool, is_mapped=is_mapped, tiles=self.tiles)
            _refuse_misnamed(target.path, reader)
            self.tell_of_orientation(info, reader)
            return reader
        # The index of a video is that of all its frames, whichever of them is read.
        whole = replace(target, page=None)
        video = open_video(whole, stamp, self.cache, self.pool, frame_bytes=self.frame_bytes)
        return video if info.page is None else FrameReader(video, info.page)

    def tell_of_orientation(self, info: ChannelInfo, reader: Reader) -> None:
        """Log once that an image is not turned as its file says."""
        is_turned = reader.facts.orientation != 1 and info.orientation != "upright"
        if is_turned and info.path not in self.told:
            self.told.add(info.path)
            _log.warning(
                "%s has orientation %s in its EXIF or TIFF tags; it is not applied: regions are in stored pixels, "
                "orientation='upright' turns them",
                info.path,
                reader.facts.orientation,
            )


def _refuse_misnamed(path: str, reader: Reader) -> None:
    """Refuse an animation with the suffix of a still image: only its first frame would be read."""
    if reader.format in _ANIMATED and not may_be_animation(path) and has_frames(path):
        raise UnreadableImageError(
            f"{path} is an animation of the format {reader.format}, but its name ends like that of a still image; rename it to end "
            f"in .{reader.format.lower()}"
        )


def is_video_file(path: str) -> bool:
    """Whether a file is a video, by the suffix of its name, or an animation, by its content."""
    return is_video_path(path) or is_animation(path)


def follow_links(path: str) -> str:
    """Resolve the links in a path: a link may be pointed elsewhere, and back, while the file is read. Addresses have none."""
    if is_url(path):
        return path
    target = os.path.realpath(path)
    return path if target == os.path.abspath(path) else target


def open_video(
    info: ChannelInfo,
    stamp: SourceStamp | None,
    cache: Cache | None,
    pool: HandlePool,
    *,
    frame_bytes: int = 64 * 2**20,
) -> Reader:
    """Open a video or an animation. Its frames are indexed first, if the cache does not have the index.

    Args:
        info: the file.
        stamp: the state of the file.
        cache: stores the index of the frames; ``None``: it is not stored.
        pool: keeps the open handles.
        frame_bytes: how many bytes of decoded frames are cached.

    Raises:
        SourceError: the file is not a video, or does not decode.
    """
    # Imported here, because most programs read no videos.
    with IMPORTING:
        from ..video.decoder import VideoDecoder
        from ..video.fields.opening import open_source
        from ..video.fields.reader import FieldReader
        from ..video.promise import warn_if_cut_off
        from ..video.reader import VideoReader
        from .frame_index import find_index

    guard = guard_opening(info.path, stamp)
    index = find_index(info, stamp, cache, pool)
    if not is_video_path(info.path):
        assert index.form is not None  # noqa: S101
        if info.pixel_format is not None:
            raise UnreadableImageError(f"{info.path} is an animation; pixel_format={info.pixel_format!r} is for videos")
        return AnimationReader(info.path, pool, index.form.shape, len(index), stamp=stamp)
    if stamp is not None:
        warn_if_cut_off(info.path, index)
    if index.field_times is not None and info.pixel_format is None and info.series is None:
        return FieldReader(open_source(info.path, index))
    is_gray = info.pixel_format == "gray"
    errors: Any = info.frame_errors
    decoder = VideoDecoder(info.path, index, pool, frame_bytes=frame_bytes, is_gray=is_gray, errors=errors, guard=guard)
    return VideoReader(decoder)
