"""Batches: read many regions together, by several threads, and decode each tile under them once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    NdframesError,
    RegionError,
    SourceChangedError,
    StoreUnavailableError,
    name_image,
    naming_image,
    shorten,
)
from ..pixels.results import too_large_error
from ..system.threads import run_tasks

if TYPE_CHECKING:
    from .._typing import Array
    from ..formats.reader import Crop, Reader
    from ..geometry.regions import Region
    from ..items.item import LazyImage
    from ..items.plan import PlannedCrop
    from ..pixels.options import ReadOptions

__all__ = ["RegionLoader", "Request", "check_batch_bytes", "check_requests", "gather", "load_batch", "load_each"]
#: An image id and a region of that image.
Request = tuple[Hashable, "Region"]
_OPENING_THREADS = 64
# A single read recovers from these: it makes the entry again, or reads the source.
_RECOVERED_ALONE = (CacheEntryDamagedError, CacheEntryGoneError, SourceChangedError)


class RegionLoader(Protocol):
    """What a batch needs of :class:`~ndframes.Frames`."""

    @property
    def max_region_bytes(self) -> int:
        """The largest result that is allowed, in bytes."""

    @property
    def is_distant(self) -> bool:
        """Whether opening an image waits for a network."""

    def image(self, image_id: Hashable) -> LazyImage:
        """An image, opened lazily."""

    def peek(self, image_id: Hashable) -> LazyImage | None:
        """The image if it is open."""

    def load_region(self, image_id: Hashable, region: Region, channels: str | Sequence[str] | None) -> Array:
        """Read one region, and recover from failing entries and changed sources."""


class _PlannedRequest(NamedTuple):
    """One request, resolved, and the array that it fills."""

    image_id: Hashable
    region: Region
    crop: PlannedCrop
    target: Array


def load_batch(
    requests: Sequence[Request],
    channels: str | Sequence[str] | None,
    loader: RegionLoader,
    *,
    threads: int,
    out: Any,
    is_read_ahead: bool,
) -> Any:
    """Read many regions, each tile once; see :meth:`ndframes.Frames.load_regions`.

    Args:
        requests: the regions.
        channels: the channels of each.
        loader: opens images, and reads the requests that cannot be read together.
        threads: the number of threads, the caller's included.
        out: the arrays for the results; ``None`` makes new ones.
        is_read_ahead: whether to ask the operating system first to fetch the tiles from the disk.
    """
    if loader.is_distant:
        _open_together(requests, channels, loader)
    images = _open_images(requests, loader)
    crops: list[PlannedCrop] = []
    for image_id, region in requests:
        with naming_image(image_id):
            crop = images[image_id].plan_crop(region, channels)
        if crop is None:  # a sequence or a video
            load = partial(loader.load_region, channels=channels)
            return load_each(requests, load, threads=threads, out=out)
        crops.append(crop)
    result = _allocate(crops, loader.max_region_bytes) if out is None else out
    targets = targets_in(result, [(crop.shape, crop.dtype) for crop in crops])
    planned = [
        _PlannedRequest(*request, crop, target) for request, crop, target in zip(requests, crops, targets, strict=True)
    ]
    plain = [item for item in planned if item.crop.is_plain]
    failed = _read_in_common(plain, threads=threads, is_read_ahead=is_read_ahead)
    for item in planned:
        # One after the other: the first of an image makes its entry again, and the others find it.
        if item.image_id in failed:
            _read_alone(item, channels, loader)
    warped = [partial(_read_alone, item, channels, loader) for item in planned if not item.crop.is_plain]
    if warped:
        run_tasks(warped, threads=threads)
    return result


def check_batch_bytes(
    requests: Sequence[Request], channels: str | Sequence[str] | None, loader: RegionLoader, options: ReadOptions
) -> None:
    """Check that the results of a batch are small enough to be allocated.

    Raises:
        RegionTooLargeError: together they have too many bytes.
    """
    images = _open_images(requests, loader)
    needed = 0
    for image_id, region in requests:
        with naming_image(image_id):
            needed += images[image_id].count_result_bytes(region, channels, options)
    _check_bytes(len(requests), needed, loader.max_region_bytes)


def load_each(requests: Sequence[Request], load: Callable[[Hashable, Region], Array], *, threads: int, out: Any) -> Any:
    """Read many regions independently of each other, several at a time."""
    # Each task replaces its own item, so the threads need no lock.
    results: list[Array] = [np.empty(0)] * len(requests)

    def read(number: int) -> None:
        results[number] = load(*requests[number])

    run_tasks([partial(read, number) for number in range(len(requests))], threads=threads)
    return gather(results, out)


def gather(results: Sequence[Array], out: Any) -> Any:
    """The results of a batch as one array or a list, or copied to ``out``; see :meth:`ndframes.Frames.load_regions`.

    Raises:
        RegionError: ``out`` does not fit.
    """
    if out is None:
        stack = np.ma.stack if any(isinstance(item, np.ma.MaskedArray) for item in results) else np.stack
        return stack(results) if len({(item.shape, item.dtype) for item in results}) == 1 else list(results)
    for target, item in zip(targets_in(out, [(item.shape, item.dtype) for item in results]), results, strict=True):
        target[...] = item
    return out


def check_requests(requests: Iterable[Any]) -> list[Request]:
    """The requests as a list of pairs.

    Raises:
        RegionError: they are no iterable, or one of them is not a pair of an image id and a region.
    """
    if not isinstance(requests, Iterable):
        raise RegionError(f"requests={shorten(requests)}; give pairs (image_id, region)")
    checked = []
    for number, item in enumerate(requests):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise RegionError(f"request {number} is {shorten(item)}; each is a pair (image_id, region)")
        checked.append((item[0], item[1]))
    return checked


def targets_in(out: Any, expected: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> list[Array]:
    """The array of each result in ``out``: an array ``(n, ...)``, a list of arrays, or anything that shares memory with numpy.

    Raises:
        RegionError: ``out`` differs from the results in number, shape or dtype, or is read-only.
    """
    if isinstance(out, (list, tuple)):
        targets = [_share_memory(item, number) for number, item in enumerate(out)]
    else:
        whole = _share_memory(out, None)
        # whole[number, ...], not whole[number]: the items of an array of numbers are copies.
        targets = [whole[number, ...] for number in range(len(whole) if whole.ndim else 0)]
    if len(targets) != len(expected):
        raise RegionError(f"out holds {len(targets):,} results, but {len(expected):,} are requested")
    for number, (target, (shape, dtype)) in enumerate(zip(targets, expected, strict=True)):
        if (target.shape, target.dtype) != (shape, dtype) or not target.flags.writeable:
            state = "" if target.flags.writeable else " that cannot be written to"
            raise RegionError(f"out[{number}] is {target.shape} {target.dtype}{state}; the region is {shape} {dtype}")
    return targets


def _share_memory(item: Any, number: int | None) -> Array:
    """``item`` as an array over the same memory."""
    array = np.asarray(item)
    # An object that converts by copying gives other memory each time.
    if array is not item and array.size and not np.may_share_memory(array, np.asarray(item)):
        name = "out" if number is None else f"out[{number}]"
        raise RegionError(f"{name} is {shorten(item)}; give an array, or what shares its memory with numpy")
    return array


def _allocate(crops: Sequence[PlannedCrop], max_bytes: int) -> Any:
    _check_bytes(len(crops), sum(crop.nbytes for crop in crops), max_bytes)
    if len({(crop.shape, crop.dtype) for crop in crops}) == 1:
        return np.empty((len(crops), *crops[0].shape), crops[0].dtype)
    return [np.empty(crop.shape, crop.dtype) for crop in crops]


def _check_bytes(count: int, needed_bytes: int, max_bytes: int) -> None:
    if needed_bytes > max_bytes:
        raise too_large_error(f"a batch of {count:,} regions", needed_bytes, max_bytes)


def _open_together(requests: Sequence[Request], channels: str | Sequence[str] | None, loader: RegionLoader) -> None:
    """Open the images that are not open, all at the same time, so that their files are asked for in one round trip."""

    def open_one(image_id: Hashable, region: Region) -> None:
        try:
            loader.image(image_id).plan_crop(region, channels)
        except StoreUnavailableError as error:  # which takes long to find, and is not to be found twice
            name_image(error, image_id)
            raise
        except NdframesError:
            pass  # raised again, with the image's name, when the image is opened for its crop

    new: dict[Hashable, Region] = {}
    for image_id, region in requests:
        try:
            if image_id not in new and loader.peek(image_id) is None:
                new[image_id] = region
        except TypeError:  # not hashable, so not an id
            continue
    if len(new) > 1:
        run_tasks([partial(open_one, *item) for item in new.items()], threads=_OPENING_THREADS)


def _open_images(requests: Sequence[Request], loader: RegionLoader) -> dict[Hashable, LazyImage]:
    # Once for each image: opening checks its sources on the disk.
    images: dict[Hashable, LazyImage] = {}
    for image_id, _ in requests:
        try:
            is_open = image_id in images
        except TypeError:  # not hashable, so not an id; loader.image raises the error that explains it
            is_open = False
        if not is_open:
            images[image_id] = loader.image(image_id)
    return images


def _read_alone(item: _PlannedRequest, channels: str | Sequence[str] | None, loader: RegionLoader) -> None:
    """Read one request on its own into its array.

    Raises:
        SourceChangedError: the source has another shape or dtype than when the batch was planned.
    """
    pixels = loader.load_region(item.image_id, item.region, channels)
    if (pixels.shape, pixels.dtype) != (item.target.shape, item.target.dtype):
        error = SourceChangedError("its source changed its shape or dtype while it was being read")
        name_image(error, item.image_id)
        raise error
    item.target[...] = pixels


def _read_in_common(planned: Sequence[_PlannedRequest], *, threads: int, is_read_ahead: bool) -> set[Hashable]:
    """Fill the arrays, each tile once; return the ids of the images with an entry that failed."""
    failed: set[Hashable] = set()
    # They run after all tasks. Those of failed images copy what _read_alone replaces later.
    finishes: list[Callable[[], None]] = []
    by_file: dict[tuple[Hashable, int], tuple[Reader, list[Crop]]] = {}
    for item in planned:
        with naming_image(item.image_id):
            for file_read in item.crop.file_reads(item.target):
                if file_read.crop.out.size:
                    key = (item.image_id, file_read.part)
                    by_file.setdefault(key, (file_read.reader, []))[1].append(file_read.crop)
                if file_read.finish is not None:
                    finishes.append(file_read.finish)
    for (image_id, _), (reader, crops) in by_file.items():
        if is_read_ahead or reader.facts.is_distant:
            _run_guarded(image_id, failed, partial(reader.read_ahead, crops))
    # One thread copies at memory speed, and decodes tiny tiles faster than the interpreter switches threads.
    if not any(reader.is_worth_sharing for reader, _ in by_file.values()):
        threads = 1
    tasks = [
        partial(_run_guarded, image_id, failed, task)
        for (image_id, _), (reader, crops) in by_file.items()
        for task in reader.split(crops)
    ]
    run_tasks(tasks, threads=threads)
    for finish in finishes:
        finish()
    return failed


def _run_guarded(image_id: Hashable, failed: set[Hashable], task: Callable[[], None]) -> None:
    """Run a task of an image, unless the image is in ``failed``; add it there if its entry fails now."""
    if image_id in failed:
        return
    try:
        task()
    except _RECOVERED_ALONE:
        # Threads share the set without a lock: adding to it is atomic.
        failed.add(image_id)
    except NdframesError as error:
        name_image(error, image_id)
        raise
