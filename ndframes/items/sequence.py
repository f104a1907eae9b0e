"""ImageSequence: images that follow each other in time, read as one array with a time axis in front."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..errors import ChannelError, naming_image
from ..geometry.grid import resolve_scale, to_shape
from ..geometry.regions import open_boxes, resolve_outside, resolve_region, to_slice
from ..pixels.options import ask_nothing
from ..pixels.results import allocate, fill_value, refuse_integers, result_dtype
from .item import LazyImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.regions import Region
    from ..pixels.options import AsAsked
    from ..spec.pathinfo import PathInfo, SequenceInfo
    from .image import AlignableImageData

__all__ = ["ImageSequence"]


class MakeImage(Protocol):
    """Opens one image of a sequence, lazily."""

    def __call__(
        self, info: PathInfo, note: Callable[[LazyImage], None] | None, *, converts: bool = True
    ) -> AlignableImageData:
        """Open it; ``note`` is called whenever it opened a file, which it does not convert unless ``converts``."""


class _Wanted(NamedTuple):
    """A region of a sequence, resolved: which images, which of their pixels, which channels; which axes the result lacks."""

    times: range
    rows: range
    cols: range
    codes: tuple[str, ...]
    dropped: tuple[bool, ...] = (False,) * 4

    @property
    def plane(self) -> Region:
        """What is asked of each image."""
        return to_slice(self.rows), to_slice(self.cols)


class ImageSequence(LazyImage):
    """Images of one grid, one after the other: ``(t, y, x, channel)``. Each is opened when it is first read.

    All have the channels that are asked for; where what is missing is told (``nodata`` other than ``"keep"``), those of an
    image that has them not are missing. An image whose source was changed is opened again when it is next read.

    Args:
        info: the images.
        make_image: opens one, lazily.
        max_region_bytes: a result of more bytes than this is refused.
        on_open: called whenever a file was opened, since the sequence then costs more memory.
    """

    def __init__(
        self,
        info: SequenceInfo,
        make_image: MakeImage,
        *,
        max_region_bytes: int,
        on_open: Callable[[LazyImage], None] | None = None,
    ) -> None:
        self.pathinfo = info
        self._infos = info.images
        self._make_image = make_image
        self._on_open = on_open
        self._max_region_bytes = max_region_bytes
        self._images: dict[int, AlignableImageData] = {}
        self._glances: dict[int, AlignableImageData] = {}
        self._costs: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._infos)

    @property
    def memory_bytes(self) -> int:
        """What keeping it open costs."""
        return 4096 + sum(self._costs.copy().values())

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all channels that any of the images has, in the order in which they first come."""
        return tuple(dict.fromkeys(code for time in range(len(self)) for code in self._channels_of(time)))

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read when none are asked for: those of the first image."""
        return self._image(0).default_channels

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of the common grid."""
        return self.pathinfo.shape or self._image(0).image_shape

    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, int, int, int]:
        """``(frames, height, width, channels)`` of a read of everything."""
        return (len(self), *self.image_shape, len(self.select(channels)))

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read of everything: those of all images, promoted by ``np.result_type``. None is converted for that."""
        return self._dtype_of([self._glance(time) for time in range(len(self))], self.select(channels))

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` asks for, checked.

        Raises:
            ChannelError: no image has such a channel.
        """
        codes = self._image(0).parse(channels)
        missing = dict.fromkeys(codes)
        for time in range(len(self)):
            if not missing:
                break
            for code in self._channels_of(time):
                missing.pop(code, None)
        if missing:
            raise ChannelError(f"no channel {'|'.join(missing)!r}; there are {'|'.join(self.channels)!r}")
        return codes

    def opened(self, part: int) -> OpenedChannel:
        """The file of one of the first image's channels."""
        return self._image(0).opened(part)

    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """As of the first image."""
        first = self._image(0)
        return first.bands_by_part([code for code in codes if code in first.channels] or first.channels)

    def image_at(self, time: int) -> AlignableImageData:
        """The image of a time, as its sources are now."""
        return self._image(time)

    def is_current(self) -> bool:
        """Always: each image is looked at when it is read."""
        return True

    def load_thumbnail(self, max_px: int = 192) -> Array:
        """A small copy of the first image."""
        return self._image(0).load_thumbnail(max_px)

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
        wanted = self._resolve(region, channels, is_padded=is_padded)
        rows, cols = len(wanted.rows), len(wanted.cols)
        if scale is not None or shape is not None:
            rows, cols = (axis.count for axis in resolve_scale(wanted.rows, wanted.cols, scale, shape))
        dtype = self._dtype_of([self._glance(time) for time in wanted.times], wanted.codes)
        return len(wanted.times) * rows * cols * len(wanted.codes) * dtype.itemsize

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read a region ``(t, y, x)``; see :meth:`ndframes.Frames.load_region`. Only y and x are padded."""
        if pad is None:
            selection = resolve_region(region, self.shape(channels))
            times, rows, cols, bands = selection.ranges
            wanted = _Wanted(times, rows, cols, _take(self.select(channels), bands), selection.dropped)
        else:
            wanted = self._resolve(region, channels, is_padded=True)
        return self._load(
            wanted,
            (len(wanted.rows), len(wanted.cols)),
            asked,
            lambda image, codes: image.load_region(wanted.plane, codes, pad=pad, asked=asked),
        )

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
        wanted = self._resolve(region, channels, is_padded=pad is not None)
        down, across = resolve_scale(wanted.rows, wanted.cols, scale, shape)
        return self._load(
            wanted,
            (down.count, across.count),
            asked,
            lambda image, codes: image.load_scaled(wanted.plane, codes, scale=scale, shape=shape, pad=pad, asked=asked),
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
        height, width = to_shape(shape)
        wanted = _Wanted(range(len(self)), range(height), range(width), self.select(channels))
        return self._load(
            wanted,
            (height, width),
            asked,
            lambda image, codes: image.load_warped(transform, shape, codes, asked=asked),
        )

    # -- one image ------------------------------------------------------------------------------------------------

    def _image(self, time: int) -> AlignableImageData:
        """The image of a time, as its sources are now."""
        image = self._images.get(time)
        if image is None or not image.is_current():
            image = self._make_image(self._info(time), lambda opened: self._note(time, opened))
            self._images[time] = image
            self._glances.pop(time, None)
            self._costs.pop(~time, None)
        return image

    def _glance(self, time: int) -> AlignableImageData:
        """The image of a time for its description alone: unless it is open, of files as they are, none of which is converted."""
        if not time or time in self._images:
            return self._image(time)
        image = self._glances.get(time)
        if image is None or not image.is_current():
            image = self._make_image(self._info(time), lambda opened: self._note(~time, opened), converts=False)
            self._glances[time] = image
        return image

    def _info(self, time: int) -> PathInfo:
        """What an image is, on the common grid."""
        info = self._infos[time]
        shape = self.image_shape if time else self.pathinfo.shape
        return info if info.shape == shape else replace(info, shape=shape)

    def _note(self, key: int, opened: LazyImage) -> None:
        self._costs[key] = opened.memory_bytes
        if self._on_open is not None:
            self._on_open(self)

    def _channels_of(self, time: int) -> tuple[str, ...]:
        """The codes of an image, if need be from its files."""
        named = [info.channels for info in self._infos[time].channels]
        if None in named:
            return self._glance(time).channels
        return tuple(code for codes in named for code in codes or ())

    def _dtype_of(self, images: Sequence[AlignableImageData], codes: tuple[str, ...]) -> np.dtype[Any]:
        """The dtype of some of the images; where none of them has any of these channels, of the first of all."""
        dtypes = set()
        for image in images or [self._image(0)]:
            some = _which(image, codes)
            if some:
                with naming_image(image.pathinfo.image_id):
                    dtypes.add(image.dtype(some))
        return np.result_type(*dtypes) if dtypes else self._image(0).dtype()

    # -- reading --------------------------------------------------------------------------------------------------

    def _resolve(self, region: Region, channels: str | Sequence[str] | None, *, is_padded: bool) -> _Wanted:
        """A region of which the time is as numpy has it, and the rest as of an image that is padded or scaled."""
        full, codes = self.shape(channels), self.select(channels)
        region = open_boxes(region, len(full), is_clipped=not is_padded)
        items = () if region is None else region if isinstance(region, tuple) else (region,)
        if items and items[0] is Ellipsis:
            items = (slice(None),) * (len(full) - len(items) + 1) + items[1:]
        first = resolve_region(items[:1], full[:1])
        rest = tuple(items[1:])
        if is_padded:
            rows, cols, bands = resolve_outside(rest, full[1:])
        else:
            selection = resolve_region(rest, full[1:])
            refuse_integers(selection)
            rows, cols, bands = selection.ranges
        return _Wanted(first.ranges[0], rows, cols, _take(codes, bands), (*first.dropped, False, False, False))

    def _load(
        self,
        wanted: _Wanted,
        extents: tuple[int, int],
        asked: AsAsked,
        load: Callable[[AlignableImageData, tuple[str, ...]], Array],
    ) -> Array:
        """One image after the other into one array."""
        images = [self._image(time) for time in wanted.times]
        if asked.nodata == "keep":
            for image in images if wanted.codes else ():
                with naming_image(image.pathinfo.image_id):
                    image.select(wanted.codes)  # raises where it has not all of them
        dtype = result_dtype(self._dtype_of(images, wanted.codes), asked)
        full_shape = (len(images), *extents, len(wanted.codes))
        shape = tuple(extent for extent, is_dropped in zip(full_shape, wanted.dropped, strict=True) if not is_dropped)
        out = allocate(shape, dtype, self._max_region_bytes)
        missing = np.zeros(shape, bool) if asked.nodata == "mask" else None
        full, gone = out.reshape(full_shape), None if missing is None else missing.reshape(full_shape)
        for place, image in enumerate(images) if out.size else ():
            with naming_image(image.pathinfo.image_id):
                _load_one(image, wanted.codes, full[place], None if gone is None else gone[place], asked, load)
        return out if missing is None else np.ma.MaskedArray(out, missing)


def _load_one(
    image: AlignableImageData,
    codes: tuple[str, ...],
    out: Array,
    missing: Array | None,
    asked: AsAsked,
    load: Callable[[AlignableImageData, tuple[str, ...]], Array],
) -> None:
    had = _which(image, codes)
    bands: Any = slice(None)
    if had != codes:
        bands = [number for number, code in enumerate(codes) if code in had]
        out[...] = fill_value(out.dtype, asked)
        if missing is not None:
            missing[...] = True
    if had:
        pixels = load(image, had)
        out[..., bands] = np.ma.getdata(pixels)
        if missing is not None:
            missing[..., bands] = np.ma.getmaskarray(pixels)


def _which(image: AlignableImageData, codes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the codes that an image has."""
    had = image.channels
    return tuple(code for code in codes if code in had)


def _take(codes: tuple[str, ...], bands: range) -> tuple[str, ...]:
    return tuple(codes[band] for band in bands)
