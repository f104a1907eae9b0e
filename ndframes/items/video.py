"""VideoData: a video as an item of Frames, from which any crop of any frame is read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..entries.frame_index import find_index
from ..errors import check_choice
from ..formats.frame import FrameReader
from ..geometry.regions import resolve_region, to_slice
from ..pixels.options import DEFAULT_OPTIONS
from ..pixels.results import allocate
from ..spec.kinds import is_video_path
from ..spec.pathinfo import PathInfo, slice_frames
from ..video.decoder import VideoDecoder, VideoErrors
from .explain import explain_parts
from .image import AlignableImageData
from .parts import Parts
from .plan import Planner
from .sequence import ImageSequence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from .._typing import Array
    from ..cache.cache import Cache
    from ..entries.opened import OpenedChannel
    from ..formats.reader import Reader
    from ..geometry.regions import Region
    from ..pixels.options import ReadOptions
    from ..spec.pathinfo import ChannelInfo
    from ..system.handles import HandlePool
    from ..video.index import FrameIndex
    from ..video.metadata import VideoMetadata
    from .explain import FileExplanation, SampledRegion
    from .item import LazyImage
    from .parts import Opener, Pick
    from .plan import Plan

__all__ = ["VideoData"]


class VideoData(ImageSequence):
    """A video: ``(t, y, x, channel)``. Frame ``i`` is the ``i``-th one that decoding from the beginning shows.

    Args:
        info: describes the image whose only file is the video.
        opener: opens it, or its cache entry.
        cache: holds the index of its frames.
        pool: lends decoders.
        max_region_bytes: the largest result that is allowed, in bytes.
        on_open: called after the file was opened, because the video then uses more memory.
    """

    is_video = True

    # Its frames come from one file, which has nothing to be opened at the same time.
    _threads = 1

    def __init__(
        self,
        info: PathInfo,
        opener: Opener,
        cache: Cache,
        pool: HandlePool,
        *,
        max_region_bytes: int,
        on_open: Callable[[], None] | None = None,
    ) -> None:
        # Not by the sequence's constructor: there is one file, and its frames are not kept as images.
        self.pathinfo = info
        self._max_region_bytes = max_region_bytes
        self._pool = pool
        self._cache = cache
        self._index: FrameIndex | None = None
        self._first: AlignableImageData | None = None
        self._range: range | None = None
        # A frame's shape and place in the image are checked where a frame is read as an image.
        file = replace(info.channels[0], img_from_src=None, shape=None)
        self._parts = Parts(PathInfo(info.image_id, (file,)), opener, on_open=on_open, has_frames=True)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def frames(self) -> range:
        """The numbers of its frames in the file.

        Raises:
            PathInfoError: the frame range goes beyond the file's frames.
        """
        if self._range is None:
            self._range = slice_frames(
                range(self.reader.frame_count or 0), self.pathinfo.frame_range, self.pathinfo.channels[0].path, "frames"
            )
        return self._range

    @property
    def frame_ids(self) -> Sequence[object]:
        """The numbers of its frames in the file."""
        return self.frames

    @property
    def reader(self) -> Reader:
        """The current reader of its frames: of the file, or of its cache entry."""
        return self._parts.reader(0)

    @property
    def seconds(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The time at which each frame is shown, in seconds."""
        return self.index.seconds[to_slice(self.frames)]

    @property
    def keyframes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The numbers of its key frames."""
        keys = self.index.keys
        return keys[(keys >= self.frames.start) & (keys < self.frames.stop)] - self.frames.start

    @property
    def index(self) -> FrameIndex:
        """The index of the file's frames: how to reach each one, and when it is shown."""
        if self._index is None:
            (channel,) = self.pathinfo.channels
            self._index = find_index(channel, self._parts.opened(0).stamp, self._cache, self._pool)
        return self._index

    @property
    def memory_bytes(self) -> int:
        """The memory that it uses while it is open."""
        return self._parts.memory_bytes

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of its channels."""
        return self._parts.codes(0)

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of a frame as it is shown."""
        return self._image(0).image_shape

    def opened(self, part: int) -> OpenedChannel:
        """The video's file."""
        return self._parts.opened(part)

    def image_at(self, time: int) -> LazyImage:  # noqa: ARG002
        """The video itself: one file has all frames."""
        return self

    def find_stored(self, codes: Sequence[str]) -> Pick | None:
        """As :meth:`LazyImage.find_stored`."""
        return self._image(0).find_stored(codes)

    @property
    def metadata(self) -> VideoMetadata:
        """The file's metadata."""
        from ..video.metadata import describe_animation, describe_video

        path = self.pathinfo.channels[0].path
        if not is_video_path(path):
            return describe_animation(path, self.index)
        return describe_video(path, VideoDecoder(path, self.index, self._pool, frame_bytes=0))

    def is_current(self) -> bool:
        """Whether the file is still the one that was opened."""
        return self._parts.is_current()

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read a region ``(t, y, x)``; see :meth:`ndframes.Frames.load_region`.

        The first item may be a list of frame numbers in any order, as in numpy; each frame is decoded once.
        """
        front, rest = (region[0], region[1:]) if isinstance(region, tuple) and region else (None, ())
        times = self._to_times(front) if isinstance(front, list) else None
        if options.pad is None and not options.is_resampled and options.nodata == "keep":
            plan = self._image(0).planner.plan(channels)
            if plan.is_plain:
                # As in the base class: the other items are resolved and checked as usual.
                return self._load_plainly(times, region if times is None else (slice(0, 0), *rest), plan)
        return super().load_region(region, channels, options)

    def read(self, numbers: Sequence[int], channels: Sequence[str], errors: VideoErrors) -> tuple[list[int], Array]:
        """Read whole frames; see :meth:`ndframes.LazyVideo.read`."""
        check_choice("errors", errors, VideoErrors)
        replacement_of = {number: number for number in numbers}
        if errors != "raise":
            in_file = [self.frames[number] for number in numbers]
            found = self.reader.find_readable(in_file, self.frames, is_replaced=errors == "nearest")
            replacement_of = {
                number: found[self.frames[number]] - self.frames.start
                for number in numbers
                if self.frames[number] in found
            }
        kept = [number for number in numbers if number in replacement_of]
        listed: Any = [replacement_of[number] for number in kept] or slice(0, 0)
        return kept, self.load_region((listed,), channels)

    def explain(self, sampled: SampledRegion) -> list[FileExplanation]:
        """What a read does with the file, for all frames at once."""
        numbers = [self.frames[time] for time in sampled.times]
        # Once for all frames: their shares of key frames and of blocks in time must not be counted one by one.
        parts = self._frame_parts(0)

        def count(_: Reader, rows: range, cols: range) -> int:
            return self.reader.count_decoded_of(numbers, rows, cols)

        files = explain_parts(parts, Planner(parts), sampled, count)
        return [_of_all_frames(file, self.reader) for file in files]

    def _load_plainly(self, listed: list[int] | None, region: Region, plan: Plan) -> Array:
        """Read pixels as they are stored; the frames of ``listed`` replace the frames of the region."""
        selection = resolve_region(region, (len(self), *plan.shape))
        sliced, rows, cols, bands = selection.ranges
        shape = selection.shape if listed is None else (len(listed), *selection.shape[1:])
        out = allocate(shape, plan.dtype, self._max_region_bytes)
        if out.size:
            (pick,) = self._image(0).planner.narrow(plan, bands).picks
            full = out.reshape(len(sliced if listed is None else listed), len(rows), len(cols), len(bands))
            in_file = self.frames[to_slice(sliced)] if listed is None else [self.frames[time] for time in listed]
            self._parts.read(0, lambda reader: reader.read_frames(in_file, rows, cols, pick.bands, full))
        return out

    def _channels_of(self, time: int) -> tuple[str, ...]:  # noqa: ARG002 - the same for every frame
        return self.channels

    def _dtype_of(self, images: Sequence[AlignableImageData], codes: tuple[str, ...]) -> np.dtype[Any]:  # noqa: ARG002
        return self._image(0).dtype()

    def _describe(self, time: int) -> AlignableImageData:
        return self._image(time)

    def _image(self, time: int) -> AlignableImageData:
        """One frame as an image, decoded when its pixels are read."""
        if not time and self._first is not None:
            return self._first
        image = AlignableImageData(self._frame_parts(time), max_region_bytes=self._max_region_bytes)
        # Kept, because it describes all frames: their shape, dtype and channels are the same.
        if not time:
            self._first = image
        return image

    def _frame_parts(self, time: int) -> Parts:
        info = PathInfo(time, self.pathinfo.channels, shape=self.pathinfo.shape, default=self.pathinfo.default)
        return Parts(info, _FrameOpener(self._parts, self.frames[time]))


class _FrameOpener:
    """Opens one frame of a video as an image; the video's own parts open and reopen the file."""

    def __init__(self, video: Parts, number: int) -> None:
        self._video = video
        self._number = number

    def open(self, info: ChannelInfo) -> OpenedChannel:  # noqa: ARG002 - the video is the only file
        return self._frame_of(self._video.opened(0))

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:  # noqa: ARG002
        assert isinstance(opened.reader, FrameReader)  # noqa: S101
        failed = replace(opened, reader=opened.reader.video)
        return self._frame_of(self._video.reopen(0, failed, error, directly=directly))

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:  # noqa: ARG002
        return self._video.is_current()

    def _frame_of(self, opened: OpenedChannel) -> OpenedChannel:
        return replace(opened, reader=FrameReader(opened.reader, self._number))


def _of_all_frames(file: FileExplanation, reader: Reader) -> FileExplanation:
    """The explanation of one frame's file, with the blocks of the whole video."""
    decoded_bytes = file.tiles * reader.block_bytes
    return replace(file, tile_shape=reader.tile_shape, tile_frames=reader.tile_frames, decoded_bytes=decoded_bytes)
