"""ImageSequence: images that follow each other in time, read as one array with a time axis in front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ChannelError, RegionError, naming_image
from .image import AlignableImageData, LazyImage, OpenedChannel, ask_nothing, too_large_error
from .regions import Region, open_boxes, resolve_outside, resolve_region, to_slice
from .warp import resolve_scale

if TYPE_CHECKING:
    from .formats.reader import Array
    from .image import AsAsked
    from .pathinfo import PathInfo, SequenceInfo

__all__ = ["ImageSequence"]


class ImageSequence(LazyImage):
    """Images of one grid, one after the other: ``(t, y, x, channel)``. Each is opened when it is first read.

    All have the channels that are asked for; where what is missing is told (``nodata`` other than ``"keep"``), those of an
    image that has them not are missing.

    Args:
        info: the images.
        make_image: opens one, lazily; given what is to be called whenever it opened a file.
        max_region_bytes: a result of more bytes than this is refused.
        on_open: called whenever a file was opened, since the sequence then costs more memory.
    """

    def __init__(
        self,
        info: SequenceInfo,
        make_image: Callable[[PathInfo, Callable[[LazyImage], None] | None], AlignableImageData],
        *,
        max_region_bytes: int,
        on_open: Callable[[LazyImage], None] | None = None,
    ) -> None:
        self.pathinfo = info
        note = None if on_open is None else lambda _: on_open(self)
        self._images = [make_image(item, note) for item in info.images]
        self._max_region_bytes = max_region_bytes

    def __len__(self) -> int:
        return len(self._images)

    @property
    def memory_bytes(self) -> int:
        """What keeping it open costs."""
        return sum(image.memory_bytes for image in self._images)

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all channels that any of the images has, in the order in which they first come."""
        return tuple(dict.fromkeys(code for image in self._images for code in image.channels))

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read when none are asked for: those of the first image."""
        return self._images[0].default_channels

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of the common grid."""
        return self.pathinfo.shape or self._images[0].image_shape

    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, int, int, int]:
        """``(frames, height, width, channels)`` of a read of everything."""
        return (len(self), *self.image_shape, len(self.select(channels)))

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read: those of all images, promoted by ``np.result_type``."""
        codes = self.select(channels)
        had = [(image, [code for code in codes if code in image.channels]) for image in self._images]
        return np.result_type(*(image.dtype(some) for image, some in had if some))

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` asks for, checked.

        Raises:
            ChannelError: no image has such a channel.
        """
        codes = self._images[0].parse(channels)
        known = self.channels
        unknown = [code for code in codes if code not in known]
        if unknown:
            raise ChannelError(f"no channel {'|'.join(unknown)!r}; there are {'|'.join(known)!r}")
        return codes

    def opened(self, part: int) -> OpenedChannel:
        """The file of one of the first image's channels."""
        return self._images[0].opened(part)

    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """As of the first image."""
        first = self._images[0]
        return first.bands_by_part([code for code in codes if code in first.channels] or first.channels)

    def is_current(self) -> bool:
        """Whether every source that was opened is still the file that it was then."""
        return all(image.is_current() for image in self._images)

    def load_thumbnail(self, max_px: int = 192) -> Array:
        """A small copy of the first image."""
        return self._images[0].load_thumbnail(max_px)

    def count_result_bytes(
        self,
        region: Region,
        channels: str | Sequence[str] | None = None,
        *,
        is_padded: bool = False,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> int:
        """The size of what a read gives, in bytes; no pixel is read."""
        full = self.shape(channels)
        times, item = _split_time(region, full) if is_padded else (resolve_region(region, full).ranges[0], None)
        ranges = resolve_outside(item, full[1:]) if is_padded else resolve_region(region, full).ranges[1:]
        rows, cols, bands = map(len, ranges)
        if scale is not None or shape is not None:
            rows, cols = (axis.count for axis in resolve_scale(ranges[0], ranges[1], scale, shape))
        return len(times) * rows * cols * bands * self.dtype(channels).itemsize

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read a region ``(t, y, x)``; see :meth:`ndframes.Frames.load_region`. Only y and x are padded."""
        shape = self.shape(channels)
        codes = self.select(channels)
        if pad is None:
            selection = resolve_region(region, shape)
            times, rows, cols, bands = selection.ranges
            item: Region = (to_slice(rows), to_slice(cols))
            extents, result_shape = (len(rows), len(cols)), selection.shape
        else:
            times, item = _split_time(region, shape)
            rows, cols, bands = resolve_outside(item, shape[1:])
            extents = len(rows), len(cols)
            result_shape = (len(times), *extents, len(bands))
            item = item[:2] if isinstance(item, tuple) else item
        wanted = tuple(codes[band] for band in bands)
        out = self._load(
            times, wanted, extents, asked, lambda image, some: image.load_region(item, some, pad=pad, asked=asked)
        )
        return out.reshape(result_shape)

    def load_scaled(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read a region resampled in y and x; see :meth:`ndframes.Frames.load_region`."""
        full, codes = self.shape(channels), self.select(channels)
        times, item = _split_time(region, full, is_clipped=pad is None)
        ranges = resolve_region(item, full[1:]).ranges if pad is None else resolve_outside(item, full[1:])
        samplings = resolve_scale(ranges[0], ranges[1], scale, shape)
        extents = samplings[0].count, samplings[1].count
        wanted = tuple(codes[band] for band in ranges[2])
        plane = item[:2] if isinstance(item, tuple) else item
        return self._load(
            times,
            wanted,
            extents,
            asked,
            lambda image, some: image.load_scaled(plane, some, scale=scale, shape=shape, pad=pad, asked=asked),
        )

    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        *,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read all images through one affine map; see :meth:`ndframes.Frames.load_warped`."""
        codes = self.select(channels)
        return self._load(
            range(len(self)),
            codes,
            (int(shape[0]), int(shape[1])),
            asked,
            lambda image, some: image.load_warped(transform, shape, some, asked=asked),
        )

    def _load(
        self,
        times: range,
        codes: tuple[str, ...],
        extents: tuple[int, int],
        asked: AsAsked,
        load: Callable[[AlignableImageData, tuple[str, ...]], Array],
    ) -> Array:
        """One image after the other into one array."""
        dtype = self.dtype(codes) if codes else self.dtype()
        if asked.nodata == "nan" and dtype.kind not in "fc":
            dtype = np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
        shape = (len(times), *extents, len(codes))
        needed = math.prod(shape, start=dtype.itemsize)
        if needed > self._max_region_bytes:
            raise too_large_error(
                f"the region is {' x '.join(f'{extent:,}' for extent in shape)} of {dtype}",
                needed,
                self._max_region_bytes,
            )
        out = np.ma.zeros(shape, dtype) if asked.nodata == "mask" else np.empty(shape, dtype)
        for place, time in enumerate(times) if codes else ():
            self._load_one(time, codes, out[place], asked, load)
        return out

    def _load_one(
        self,
        time: int,
        codes: tuple[str, ...],
        out: Any,
        asked: AsAsked,
        load: Callable[[AlignableImageData, tuple[str, ...]], Array],
    ) -> None:
        image = self._images[time]
        with naming_image(image.pathinfo.image_id):
            had = tuple(code for code in codes if code in image.channels)
            if had == codes:
                out[...] = load(image, codes)
                return
            if asked.nodata == "keep":
                image.select(codes)  # raises: it has not all of them
            out[...] = np.nan if asked.nodata == "nan" else np.ma.masked
            if had:
                out[..., [codes.index(code) for code in had]] = load(image, had)


def _split_time(region: Region, shape: Sequence[int], *, is_clipped: bool = False) -> tuple[range, Region]:
    """The frames that a region asks for, and what it asks of each."""
    region = open_boxes(region, len(shape), is_clipped=is_clipped)
    items = () if region is None else region if isinstance(region, tuple) else (region,)
    if any(item is Ellipsis for item in items[:1]):
        items = (slice(None), *items)
    first = resolve_region((items[0],) if items else None, shape[:1])
    if any(first.dropped):
        raise RegionError("a region of a sequence that is padded or scaled keeps its time axis: give a slice")
    return first.ranges[0], tuple(items[1:])
