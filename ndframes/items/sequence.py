"""ImageSequence: consecutive images, read as one array with a time axis in front."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..errors import ChannelError, NdframesError, naming_image, shorten
from ..geometry.affine import to_affine
from ..geometry.grid import resolve_scale, to_shape
from ..geometry.regions import boxes_to_slices, resolve_region, resolve_unclipped, to_row, to_slice
from ..pixels.options import DEFAULT_OPTIONS
from ..pixels.results import Result, check_keeps_axes
from ..system.threads import run_tasks
from .item import THUMBNAIL_PX, LazyImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.regions import Region
    from ..pixels.options import ReadOptions
    from ..spec.nodata import Nodata
    from ..spec.pathinfo import PathInfo, SequenceInfo
    from .explain import FileExplanation, SampledRegion
    from .image import AlignableImageData

__all__ = ["ImageMaker", "ImageSequence", "StackRegion"]


class ImageMaker(Protocol):
    """Makes the images of a sequence."""

    def __call__(
        self, info: PathInfo, on_open: Callable[[], None] | None, *, converts: bool = True
    ) -> AlignableImageData:
        """Make an image that opens its files lazily.

        Args:
            info: describes it.
            on_open: called after it opened a file.
            converts: whether files are converted into cache entries; otherwise entries are read where they exist.
        """


class StackRegion(NamedTuple):
    """A region of a sequence or video, resolved.

    Attributes:
        times: the frames, in any order.
        rows: y coordinates of each frame.
        cols: x coordinates of each frame.
        codes: the channels.
        dropped: for each of the four axes, whether an integer index removes it from the result.
    """

    times: Sequence[int]
    rows: range
    cols: range
    codes: tuple[str, ...]
    dropped: tuple[bool, ...] = (False,) * 4

    @property
    def plane(self) -> Region:
        """The region of each frame."""
        return to_slice(self.rows), to_slice(self.cols)


class ImageSequence(LazyImage):
    """Images on one grid, one after the other: ``(t, y, x, channel)``. Each is opened when it is first read.

    Every image must have the requested channels, except with ``nodata`` other than ``"keep"``: channels that an image lacks
    are then missing there. An image whose source changed is opened again when it is next read.

    Args:
        info: describes the images.
        make_image: makes one of them.
        max_region_bytes: the largest result that is allowed, in bytes.
        on_open: called after a file was opened, because the sequence then uses more memory.
        threads: how many images are opened and read at the same time; more than one where that waits for a network.
    """

    def __init__(
        self,
        info: SequenceInfo,
        make_image: ImageMaker,
        *,
        max_region_bytes: int,
        on_open: Callable[[], None] | None = None,
        threads: int = 1,
    ) -> None:
        self.pathinfo = info
        self._threads = threads
        self._infos = info.images
        self._make_image = make_image
        self._on_open = on_open
        self._max_region_bytes = max_region_bytes
        self._images: dict[int, AlignableImageData] = {}
        self._unconverted: dict[int, AlignableImageData] = {}
        self._memory_bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._infos)

    @property
    def memory_bytes(self) -> int:
        """The memory that it uses while it is open."""
        # A copy: another thread may open an image, and a dict must not grow while it is iterated.
        return 4096 + sum(self._memory_bytes.copy().values())

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all images' channels, in order of their first appearance."""
        return tuple(dict.fromkeys(code for time in range(len(self)) for code in self._channels_of(time)))

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read by default: those of the first image."""
        return self._image(0).default_channels

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of the common grid."""
        return self.pathinfo.shape or self._image(0).image_shape

    @property
    def frame_ids(self) -> Sequence[object]:
        """The ids of its images."""
        return tuple(image.image_id for image in self._infos)

    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, int, int, int]:
        """``(frames, height, width, channels)`` of a read of everything."""
        return (len(self), *self.image_shape, len(self.select(channels)))

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read of everything: the images' dtypes, promoted by ``np.result_type``. Converts no image."""
        return self._dtype_of([self._describe(time) for time in range(len(self))], self.select(channels))

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` stands for, checked.

        Raises:
            ChannelError: no image has such a channel.
        """
        codes = self._image(0).parse(channels)
        missing = dict.fromkeys(codes)
        for time in range(len(self)):
            # Stop early: an image whose channels have no names is opened to count them.
            if not missing:
                break
            for code in self._channels_of(time):
                missing.pop(code, None)
        if missing:
            raise ChannelError(f"no channel {shorten('|'.join(missing))}; there are {shorten('|'.join(self.channels))}")
        return codes

    def opened(self, part: int) -> OpenedChannel:
        """The file of one of the first image's channels."""
        return self._image(0).opened(part)

    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """The files of the first image that a read of ``codes`` reads, with their numbers of bands."""
        first = self._image(0)
        return first.bands_by_part(_which(first, codes) or first.channels)

    def image_at(self, time: int) -> LazyImage:
        """As :meth:`LazyImage.image_at`: opened again if its sources changed."""
        return self._image(time)

    def find_nodata(self, codes: Sequence[str]) -> tuple[Nodata | None, ...]:
        """As :meth:`LazyImage.find_nodata`, of the first image."""
        return self._image(0).find_nodata(codes)

    def is_current(self) -> bool:
        """Always true: each image is checked when it is read."""
        return True

    def load_thumbnail(self, max_px: int = THUMBNAIL_PX) -> Array:
        """A small copy of the first image."""
        return self._image(0).load_thumbnail(max_px)

    def count_result_bytes(
        self,
        region: Region,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> int:
        """The bytes of the result of a read; no pixel is read."""
        wanted = self._resolve(region, channels, options)
        height, width = self._extents(wanted, options)
        dtype = self._dtype_of([self._describe(time) for time in wanted.times], wanted.codes)
        return len(wanted.times) * height * width * len(wanted.codes) * dtype.itemsize

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read a region ``(t, y, x)``; see :meth:`ndframes.Frames.load_region`. Only y and x are padded and scaled.

        The first item may be a list of frame numbers in any order, as in numpy; each frame is read once.
        """
        wanted = self._resolve(region, channels, options)

        def load(image: AlignableImageData, codes: tuple[str, ...]) -> Array:
            return image.load_region(wanted.plane, codes, options)

        return self._load(wanted, self._extents(wanted, options), options, load)

    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read all images through one affine map; see :meth:`ndframes.Frames.load_warped`."""
        height, width = to_shape(shape)
        to_affine(transform, "transform")  # here, where an error does not name a single image
        wanted = StackRegion(range(len(self)), range(height), range(width), self.select(channels))

        def load(image: AlignableImageData, codes: tuple[str, ...]) -> Array:
            return image.load_warped(transform, shape, codes, options)

        return self._load(wanted, (height, width), options, load)

    def explain(self, sampled: SampledRegion) -> list[FileExplanation]:
        """What a read does with each file, image after image."""
        return [file for time in sampled.times for file in self._image(time).explain(sampled)]

    # -- one image ------------------------------------------------------------------------------------------------

    def _image(self, time: int) -> AlignableImageData:
        """The image at a time, opened again if its sources changed."""
        image = self._images.get(time)
        if image is None or not image.is_current():
            image = self._make_image(self._info(time), self._noting_memory(time))
            self._images[time] = image
            self._unconverted.pop(time, None)
            self._memory_bytes.pop(~time, None)
        return image

    def _describe(self, time: int) -> AlignableImageData:
        """The image at a time, for its channels and dtype only: it converts no file."""
        # The first image is open in any case, because it gives the grid its shape.
        if not time or time in self._images:
            return self._image(time)
        image = self._unconverted.get(time)
        if image is None or not image.is_current():
            image = self._make_image(self._info(time), self._noting_memory(~time), converts=False)
            self._unconverted[time] = image
        return image

    def _info(self, time: int) -> PathInfo:
        """The description of an image, with the shape of the common grid."""
        info = self._infos[time]
        # image_shape may open the first image, which therefore must not need image_shape.
        shape = self.image_shape if time else self.pathinfo.shape
        return info if info.shape == shape else replace(info, shape=shape)

    def _noting_memory(self, key: int) -> Callable[[], None]:
        """A function that an image calls when it has opened a file; ``~time`` is the key of one that converts nothing."""
        # A weak reference: otherwise the files of a sequence that is dropped stay open until the next garbage collection.
        find = weakref.WeakMethod(self._note_memory)

        def note() -> None:
            note_memory = find()
            if note_memory is not None:
                note_memory(key)

        return note

    def _note_memory(self, key: int) -> None:
        """Update the memory of an image that opened a file."""
        image = self._images.get(key) if key >= 0 else self._unconverted.get(~key)
        if image is not None:
            self._memory_bytes[key] = image.memory_bytes
        if self._on_open is not None:
            self._on_open()

    def _channels_of(self, time: int) -> tuple[str, ...]:
        """The codes of an image; opens its files only if their channels have no names."""
        named = [info.channels for info in self._infos[time].channels]
        if None in named:
            return self._describe(time).channels
        return tuple(code for codes in named for code in codes or ())

    def _dtype_of(self, images: Sequence[AlignableImageData], codes: tuple[str, ...]) -> np.dtype[Any]:
        """The dtype of some of the images; of the first image if none of them has any of these channels."""
        dtypes = set()
        for image in images or [self._image(0)]:
            some = _which(image, codes)
            if some:
                with naming_image(image.pathinfo.image_id):
                    dtypes.add(image.dtype(some))
        return np.result_type(*dtypes) if dtypes else self._image(0).dtype()

    # -- reading --------------------------------------------------------------------------------------------------

    def _resolve(self, region: Region, channels: str | Sequence[str] | None, options: ReadOptions) -> StackRegion:
        """Resolve a region: time by numpy's rules, y and x as for an image with these options."""
        if isinstance(region, tuple) and region and isinstance(region[0], list):
            # A slice without frames replaces the list, so that the other items are resolved and checked as usual.
            wanted = self._resolve((slice(0, 0), *region[1:]), channels, options)
            return wanted._replace(times=self._to_times(region[0]))
        full, codes = self.shape(channels), self.select(channels)
        if options.pad is None and not options.is_resampled:
            selection = resolve_region(region, full)
            times, rows, cols, bands = selection.ranges
            return StackRegion(times, rows, cols, _take(codes, bands), selection.dropped)
        region = boxes_to_slices(region, len(full), is_clipped=options.pad is None)
        items = () if region is None else region if isinstance(region, tuple) else (region,)
        # Written out, so that the first item is always the one for time.
        if items and items[0] is Ellipsis:
            items = (slice(None),) * (len(full) - len(items) + 1) + items[1:]
        first = resolve_region(items[:1], full[:1])
        rest = tuple(items[1:])
        if options.pad is not None:
            rows, cols, bands = resolve_unclipped(rest, full[1:])
        else:
            selection = resolve_region(rest, full[1:])
            check_keeps_axes(selection)
            rows, cols, bands = selection.ranges
        return StackRegion(first.ranges[0], rows, cols, _take(codes, bands), (*first.dropped, False, False, False))

    def _to_times(self, numbers: Sequence[int]) -> list[int]:
        """Frame numbers from 0; negative ones count from the end."""
        return [to_row(number, len(self)) for number in numbers]

    def _extents(self, wanted: StackRegion, options: ReadOptions) -> tuple[int, int]:
        """``(height, width)`` of each frame of the result."""
        if not options.is_resampled:
            return len(wanted.rows), len(wanted.cols)
        down, across = resolve_scale(wanted.rows, wanted.cols, options.scale, options.shape)
        return down.count, across.count

    def _load(
        self,
        wanted: StackRegion,
        extents: tuple[int, int],
        options: ReadOptions,
        load: Callable[[AlignableImageData, tuple[str, ...]], Array],
    ) -> Array:
        """Read each image once into one array, in ascending order, because the decoders of videos only go forward."""
        images = {time: self._image(time) for time in sorted(set(wanted.times))}
        self._open_together([*images.values()])
        # Before the result is allocated and any pixel is read.
        if options.nodata == "keep":
            for image in images.values() if wanted.codes else ():
                with naming_image(image.pathinfo.image_id):
                    image.select(wanted.codes)  # raises if it lacks one of them
        full_shape = (len(wanted.times), *extents, len(wanted.codes))
        shape = tuple(extent for extent, is_dropped in zip(full_shape, wanted.dropped, strict=True) if not is_dropped)
        # The dtype of the images that are read: for that of the others, their files would have to be opened.
        result = Result.allocate(
            shape, self._dtype_of([*images.values()], wanted.codes), options, self._max_region_bytes
        )
        if options.nodata == "nan":
            result = result._replace(missing=None)  # not-a-numbers mark what is missing
        full = result.reshaped(full_shape)
        places: dict[int, list[int]] = {}
        for place, time in enumerate(wanted.times):
            places.setdefault(time, []).append(place)

        def load_time(time: int, image: AlignableImageData) -> None:
            first, *others = places[time]
            with naming_image(image.pathinfo.image_id):
                _load_one(image, wanted.codes, full.frame(first), options, load)
            for other in others:
                full.frame(other).copy_from(full.frame(first))

        if result.pixels.size:
            run_tasks([partial(load_time, *item) for item in images.items()], threads=self._threads)
        return result.pixels if result.missing is None else np.ma.MaskedArray(result.pixels, result.missing)

    def _open_together(self, images: Sequence[AlignableImageData]) -> None:
        """Open images at the same time, where that waits for a network. Errors are raised where the images are read."""

        def open_one(image: AlignableImageData) -> None:
            try:
                image.opened(0)
            except NdframesError:
                pass

        if self._threads > 1 and len(images) > 1:
            run_tasks([partial(open_one, image) for image in images], threads=self._threads)


def _load_one(
    image: AlignableImageData,
    codes: tuple[str, ...],
    frame: Result,
    options: ReadOptions,
    load: Callable[[AlignableImageData, tuple[str, ...]], Array],
) -> None:
    """Read the channels that an image has, and mark the others as missing."""
    had = _which(image, codes)
    bands: Any = slice(None)
    if had != codes:
        known = frozenset(had)
        bands = [number for number, code in enumerate(codes) if code in known]
        frame.clear(..., options)
    if had:
        pixels = load(image, had)
        frame.pixels[..., bands] = np.ma.getdata(pixels)
        if frame.missing is not None:
            frame.missing[..., bands] = np.ma.getmaskarray(pixels)


def _which(image: AlignableImageData, codes: Sequence[str]) -> tuple[str, ...]:
    """The codes that an image has."""
    had = frozenset(image.channels)
    return tuple(code for code in codes if code in had)


def _take(codes: tuple[str, ...], bands: range) -> tuple[str, ...]:
    return tuple(codes[band] for band in bands)
