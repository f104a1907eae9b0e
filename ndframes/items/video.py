"""VideoData: one video as an item of Frames: any crop of any of its frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..entries.frame_index import find_index
from ..errors import SourceMissingError, check_choice
from ..formats.frame import FrameReader
from ..formats.reader import Reader
from ..geometry.regions import resolve_region, to_slice
from ..pixels.options import ask_nothing
from ..pixels.results import allocate
from ..spec.channels import default_codes
from ..spec.pathinfo import PathInfo, cut_frames
from ..system.stamp import stat_source
from ..video.decoder import VideoDecoder, VideoErrors
from ..video.reader import VideoReader
from .image import AlignableImageData
from .sequence import ImageSequence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..cache.store import Cache
    from ..entries.opened import OpenedChannel
    from ..entries.opener import BoundOpener
    from ..geometry.regions import Region
    from ..pixels.options import AsAsked
    from ..spec.pathinfo import ChannelInfo
    from ..video.index import FrameIndex
    from ..video.metadata import VideoMetadata
    from .item import LazyImage

__all__ = ["VideoData"]


class VideoData(ImageSequence):
    """A video: ``(t, y, x, channel)``. Frame ``i`` is the ``i``-th one that decoding from the beginning shows.

    Args:
        info: the file, alone in its image.
        opener: opens it, or what the cache has of it.
        cache: has the index of its frames.
        max_region_bytes: a result of more bytes than this is refused.
        on_open: called whenever the file was opened, since the video then costs more memory.
    """

    is_video = True

    def __init__(
        self,
        info: PathInfo,
        opener: BoundOpener,
        cache: Cache,
        *,
        max_region_bytes: int,
        on_open: Callable[[LazyImage], None] | None = None,
    ) -> None:
        self.pathinfo = info
        self._max_region_bytes = max_region_bytes
        self._pool = opener.opener.pool
        self._cache = cache
        self._index: FrameIndex | None = None
        self._is_plain: bool | None = None
        self._range: range | None = None
        # The frames as one tall image, which knows how to open a file, and what to do when an entry fails.
        stacked = replace(info.channels[0], img_from_src=None, shape=None)
        self._stack = AlignableImageData(
            PathInfo(info.image_id, (stacked,)),
            opener,
            max_region_bytes=max_region_bytes,
            on_open=None if on_open is None else lambda _: on_open(self),
        )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def frames(self) -> range:
        """The numbers of its frames in the file.

        Raises:
            PathInfoError: its range goes beyond them.
        """
        if self._range is None:
            self._range = cut_frames(
                range(self.reader.frame_count or 0), self.pathinfo.frame_range, self.pathinfo.channels[0].path, "frames"
            )
        return self._range

    @property
    def reader(self) -> Reader:
        """What reads its frames now: of the file, or of its cache entry."""
        return self._stack.opened(0).reader

    @property
    def seconds(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """When each of its frames is shown."""
        return self.index.seconds[to_slice(self.frames)]

    @property
    def keyframes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Which of its frames are key frames."""
        keys = self.index.keys
        return keys[(keys >= self.frames.start) & (keys < self.frames.stop)] - self.frames.start

    @property
    def index(self) -> FrameIndex:
        """Where every frame of the file is, and when it is shown."""
        if self._index is None:
            (channel,) = self.pathinfo.channels
            try:
                stamp = stat_source(channel.path)
            except SourceMissingError:
                stamp = None
            self._index = find_index(channel, stamp, self._cache, self._pool)
        return self._index

    @property
    def memory_bytes(self) -> int:
        """What keeping it open costs."""
        return self._stack.memory_bytes

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of its channels."""
        return self.pathinfo.channels[0].channels or default_codes(self.reader.shape[2])

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of a frame, as it is shown."""
        return self._image(0).image_shape

    def opened(self, part: int) -> OpenedChannel:
        """Its file."""
        return self._stack.opened(part)

    @property
    def metadata(self) -> VideoMetadata:
        """What the file says of itself."""
        from ..video.metadata import describe_video

        path = self.pathinfo.channels[0].path
        return describe_video(path, VideoDecoder(path, self.index, self._pool, frame_bytes=0))

    def is_current(self) -> bool:
        """Whether the file is still the one that was opened."""
        return self._stack.is_current()

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read a region ``(t, y, x)``; see :meth:`ndframes.Frames.load_region`.

        In front there may be a list of numbers of frames, from 0, in any order: what numpy has for it, each frame decoded once.
        """
        front, rest = (region[0], region[1:]) if isinstance(region, tuple) and region else (None, ())
        times = front if isinstance(front, list) else None
        if pad is None and asked.nodata == "keep" and self._is_plainly_read():
            return self._load_plainly(times, region if times is None else (slice(0, 0), *rest), channels)
        if times is None:
            return super().load_region(region, channels, pad=pad, asked=asked)
        alone = {time: self.load_region((time, *rest), channels, pad=pad, asked=asked) for time in times}
        return np.stack([alone[time] for time in times])

    def read(self, numbers: Sequence[int], channels: Sequence[str], errors: VideoErrors) -> tuple[list[int], Array]:
        """Read whole frames; see :meth:`ndframes.LazyVideo.read`."""
        check_choice("errors", errors, VideoErrors)
        reader = self.reader
        places = list(numbers)
        there = {number: number for number in places}
        if errors != "raise" and isinstance(reader, VideoReader):  # an entry has all frames
            found = reader.decoder.find_readable([self.frames[number] for number in places], self.frames, errors)
            there = {
                number: found[self.frames[number]] - self.frames.start
                for number in places
                if self.frames[number] in found
            }
        kept = [number for number in places if number in there]
        listed: Any = [there[number] for number in kept] or slice(0, 0)
        return kept, self.load_region((listed,), channels)

    def _is_plainly_read(self) -> bool:
        if self._is_plain is None:
            self._is_plain = self._image(0).is_plain(0)
        return self._is_plain

    def _load_plainly(self, listed: list[int] | None, region: Region, channels: str | Sequence[str] | None) -> Array:
        """Pixels as they are in the file; of the frames that are listed, instead of those in the region."""
        codes = self.select(channels)
        selection = resolve_region(region, (len(self), *self.image_shape, len(codes)))
        sliced, rows, cols, bands = selection.ranges
        shape = selection.shape if listed is None else (len(listed), *selection.shape[1:])
        out = allocate(shape, self.reader.dtype, self._max_region_bytes)
        if out.size:
            numbers: Sequence[int] = [self.channels.index(codes[band]) for band in bands]
            if numbers == list(range(len(self.channels))):
                numbers = range(len(numbers))
            full = out.reshape(len(sliced if listed is None else listed), len(rows), len(cols), len(bands))
            in_file = self.frames[to_slice(sliced)] if listed is None else [self.frames[time] for time in listed]
            self._stack.read_file(0, lambda reader: reader.read_frames(in_file, rows, cols, numbers, full))
        return out

    def _channels_of(self, time: int) -> tuple[str, ...]:  # noqa: ARG002 - all are alike
        return self.channels

    def _dtype_of(self, images: Sequence[AlignableImageData], codes: tuple[str, ...]) -> np.dtype[Any]:  # noqa: ARG002
        return self._image(0).dtype()

    def _glance(self, time: int) -> AlignableImageData:
        return self._image(time)

    def _image(self, time: int) -> AlignableImageData:
        """One frame as an image of its own, decoded when its pixels are read."""
        info = PathInfo(time, self.pathinfo.channels, shape=self.pathinfo.shape, default=self.pathinfo.default)
        return AlignableImageData(
            info, _FrameOpener(self._stack, self.frames[time]), max_region_bytes=self._max_region_bytes
        )

    def _load(
        self,
        wanted: Any,
        extents: tuple[int, int],
        asked: AsAsked,
        load: Callable[[AlignableImageData, tuple[str, ...]], Array],
    ) -> Array:
        """Frames in rising order, however they are asked for: a decoder goes one way."""
        if wanted.times.step > 0 or len(wanted.times) < 2 or any(wanted.dropped):
            return super()._load(wanted, extents, asked, load)
        rising = super()._load(wanted._replace(times=wanted.times[::-1]), extents, asked, load)
        falling: Array = rising[::-1].copy()
        return falling


class _OpenStack(Reader):
    """A video's frames, by whatever reads them when they are asked for."""

    def __init__(self, stack: AlignableImageData) -> None:
        reader = stack.opened(0).reader
        super().__init__(reader.path, reader.facts)
        self._stack = stack

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        return self._stack.opened(0).reader.count_decoded_of(times, rows, cols)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        self._stack.read_file(0, lambda reader: reader.read_frames(times, rows, cols, bands, out))


class _FrameOpener:
    """Gives one frame of a video that is open."""

    def __init__(self, stack: AlignableImageData, time: int) -> None:
        self._stack = stack
        self._time = time

    def open(self, info: ChannelInfo) -> OpenedChannel:  # noqa: ARG002
        return replace(self._stack.opened(0), reader=FrameReader(_OpenStack(self._stack), self._time))

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:  # noqa: ARG002
        return opened  # the video was opened again, and again, before it gave up

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:  # noqa: ARG002
        return self._stack.is_current()
