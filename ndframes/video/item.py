"""VideoData: one video as an item of Frames: any crop of any of its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..channels import default_codes
from ..formats.reader import Array, Reader
from ..image import AlignableImageData
from ..item import OpenedChannel
from ..pathinfo import PathInfo
from ..sequence import ImageSequence
from ..stamp import SourceStamp, is_as_stamped, stat_source
from .reader import VideoReader
from .store import find_index

if TYPE_CHECKING:
    import numpy as np

    from ..cache.keys import Keyer
    from ..cache.store import Cache
    from ..formats.handles import HandlePool
    from ..pathinfo import ChannelInfo
    from ..results import AsAsked

__all__ = ["VideoData", "open_video"]


def open_video(
    info: PathInfo, cache: Cache, keyer: Keyer, pool: HandlePool, *, max_region_bytes: int, frame_bytes: int
) -> VideoData:
    """Open a video, its frames found before if need be.

    Raises:
        SourceError: it is no video that decodes.
    """
    (channel,) = info.channels
    stamp = stat_source(channel.path)
    index = find_index(channel, stamp, cache, keyer, pool)
    reader = VideoReader(channel.path, index, pool, frame_bytes=frame_bytes)
    return VideoData(info, reader, stamp, max_region_bytes=max_region_bytes)


class VideoData(ImageSequence):
    """A video: ``(t, y, x, channel)``. Frame ``i`` is the ``i``-th one that decoding from the beginning shows.

    Args:
        info: the file, alone in its image.
        reader: reads its frames.
        stamp: the file's state when it was opened.
        max_region_bytes: a result of more bytes than this is refused.
    """

    def __init__(
        self, info: PathInfo, reader: VideoReader, stamp: SourceStamp | None, *, max_region_bytes: int
    ) -> None:
        self.pathinfo = info
        self.video = reader
        self._stamp = stamp
        self._max_region_bytes = max_region_bytes
        self._shape = reader.frame_shape
        self._codes = info.channels[0].channels or default_codes(self._shape[2])
        self._image(0).select(self._codes)  # as many codes as channels, or an error that says so

    def __len__(self) -> int:
        return len(self.video.index)

    @property
    def memory_bytes(self) -> int:
        """What keeping it open costs."""
        return 4096 + self.video.memory_bytes

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of its channels."""
        return self._codes

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read when none are asked for."""
        return self.pathinfo.default or self._codes

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of a frame, as it is shown."""
        return self._shape[:2]

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """uint8, or uint16 for more than 8 bits."""
        self.select(channels)
        return self.video.dtype

    def is_current(self) -> bool:
        """Whether the file is still the one that was opened."""
        return self._stamp is None or is_as_stamped(self.video.path, self._stamp)

    def _channels_of(self, time: int) -> tuple[str, ...]:  # noqa: ARG002 - all are alike
        return self._codes

    def _dtype_of(self, images: Sequence[AlignableImageData], codes: tuple[str, ...]) -> np.dtype[Any]:  # noqa: ARG002
        return self.video.dtype

    def _glance(self, time: int) -> AlignableImageData:
        return self._image(time)

    def _image(self, time: int) -> AlignableImageData:
        """One frame as an image of its own, decoded when its pixels are read."""
        info = PathInfo(time, self.pathinfo.channels, shape=self._shape[:2])
        opener = _FrameOpener(_FrameReader(self.video, time, self._shape))
        return AlignableImageData(info, opener, max_region_bytes=self._max_region_bytes)

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


class _FrameReader(Reader):
    """One frame of a video, as files are read."""

    def __init__(self, video: VideoReader, number: int, shape: tuple[int, int, int]) -> None:
        super().__init__(video.path, format="video", shape=shape, dtype=video.dtype, tile_shape=shape[:2])
        self._video = video
        self._number = number

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_window`: the frame is decoded, or remembered."""
        window = self._video.frame(self._number)[rows.start : rows.stop, cols.start : cols.stop]
        out[...] = window if bands == self.all_bands else window[:, :, list(bands)]


class _FrameOpener:
    """Gives the frame that there is."""

    def __init__(self, reader: Reader) -> None:
        self._opened = OpenedChannel(reader, None)

    def open(self, info: ChannelInfo) -> OpenedChannel:  # noqa: ARG002
        return self._opened

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:  # noqa: ARG002
        return self._opened

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:  # noqa: ARG002
        return True
