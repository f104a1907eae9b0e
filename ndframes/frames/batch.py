"""Many regions at once: each tile that any of them touches is decoded once, by several threads."""

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
    name_image,
    naming_image,
    shorten,
)
from ..items.image import AlignableImageData
from ..pixels.results import too_large_error
from ..system.threads import work_together

if TYPE_CHECKING:
    from .._typing import Array
    from ..formats.reader import Crop, Reader
    from ..geometry.regions import Region
    from ..items.image import PlannedCrop
    from ..items.item import LazyImage

__all__ = ["Request", "Source", "check_batch_bytes", "check_requests", "load_batch", "load_each"]
#: An image's id and a region of it.
Request = tuple[Hashable, "Region"]
# What a single read mends on its own: the entry is made anew, or the source read.
_MENDED_ALONE = (CacheEntryDamagedError, CacheEntryGoneError, SourceChangedError)


class Source(Protocol):
    """What a batch needs of :class:`~ndframes.Frames`."""

    @property
    def max_region_bytes(self) -> int:
        """A result of more bytes is refused."""

    def image(self, image_id: Hashable) -> LazyImage:
        """An image, opened."""

    def load_region(self, image_id: Hashable, region: Region, channels: str | Sequence[str] | None) -> Array:
        """Read a region by itself, and mend what can be mended on the way."""


class _Job(NamedTuple):
    """One request on its way: what it asks for, resolved, and where it goes."""

    image_id: Hashable
    region: Region
    image: AlignableImageData
    crop: PlannedCrop
    target: Array


def load_batch(
    requests: Sequence[Request],
    channels: str | Sequence[str] | None,
    source: Source,
    *,
    threads: int,
    out: Any,
    is_read_ahead: bool,
) -> Any:
    """Read many regions, each tile once; see :meth:`ndframes.Frames.load_regions`.

    Args:
        requests: what to read.
        channels: which channels of each.
        source: opens images, and reads what cannot be read in common.
        threads: how many work at once.
        out: where to; ``None`` makes a new array.
        is_read_ahead: whether the system is told first what will be read.
    """
    images: dict[Hashable, AlignableImageData] = {}
    for image_id, image in _open_images(requests, source).items():
        if not isinstance(image, AlignableImageData):
            load = partial(source.load_region, channels=channels)
            return load_each(requests, load, threads=threads, out=out)
        images[image_id] = image
    crops = []
    for image_id, region in requests:
        with naming_image(image_id):
            crops.append(images[image_id].plan_crop(region, channels))
    result = _allocate(crops, source.max_region_bytes) if out is None else out
    targets = targets_in(result, [(crop.shape, crop.dtype) for crop in crops])
    jobs = [
        _Job(*request, images[request[0]], crop, target)
        for request, crop, target in zip(requests, crops, targets, strict=True)
    ]
    spoiled = _read_in_common([job for job in jobs if job.crop.is_plain], threads=threads, is_read_ahead=is_read_ahead)
    for job in jobs:
        if job.image_id in spoiled:
            _read_alone(job, channels, source)
    warped = [partial(_read_alone, job, channels, source) for job in jobs if not job.crop.is_plain]
    if warped:
        work_together(warped, threads=threads)
    return result


def check_batch_bytes(
    requests: Sequence[Request], channels: str | Sequence[str] | None, source: Source, **options: Any
) -> None:
    """See to it that the results of a batch, padded or scaled as ``options`` say, may be allocated.

    Raises:
        RegionTooLargeError: they are too many bytes.
    """
    images = _open_images(requests, source)
    needed = 0
    for image_id, region in requests:
        with naming_image(image_id):
            needed += images[image_id].count_result_bytes(region, channels, **options)
    _check_bytes(len(requests), needed, source.max_region_bytes)


def load_each(requests: Sequence[Request], load: Callable[[Hashable, Region], Array], *, threads: int, out: Any) -> Any:
    """Read many regions, each by itself, several at a time."""
    results: list[Array] = [np.empty(0)] * len(requests)

    def read(number: int) -> None:
        results[number] = load(*requests[number])

    work_together([partial(read, number) for number in range(len(requests))], threads=threads)
    if out is None:
        stack = np.ma.stack if any(isinstance(item, np.ma.MaskedArray) for item in results) else np.stack
        return stack(results) if len({(item.shape, item.dtype) for item in results}) == 1 else results
    for target, item in zip(targets_in(out, [(item.shape, item.dtype) for item in results]), results, strict=True):
        target[...] = item
    return out


def check_requests(requests: Iterable[Any]) -> list[Request]:
    """The requests as a list of pairs.

    Raises:
        RegionError: one of them is no pair of an image id and a region.
    """
    checked = []
    for number, item in enumerate(requests):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise RegionError(f"request {number} is {shorten(item)}; each is a pair (image_id, region)")
        checked.append((item[0], item[1]))
    return checked


def targets_in(out: Any, wanted: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> list[Array]:
    """The place of each result in ``out``: an array ``(n, ...)``, a list of arrays, or what shares its memory with numpy.

    Raises:
        RegionError: ``out`` is not of the results' number, shapes and dtypes, or cannot be written to.
    """
    if isinstance(out, (list, tuple)):
        targets = [_share_memory(item, number) for number, item in enumerate(out)]
    else:
        whole = _share_memory(out, None)
        # not its items: those of an array of numbers are copies
        targets = [whole[number, ...] for number in range(len(whole) if whole.ndim else 0)]
    if len(targets) != len(wanted):
        raise RegionError(f"out holds {len(targets):,} results, but {len(wanted):,} are asked for")
    for number, (target, (shape, dtype)) in enumerate(zip(targets, wanted, strict=True)):
        if (target.shape, target.dtype) != (shape, dtype) or not target.flags.writeable:
            state = "" if target.flags.writeable else " that cannot be written to"
            raise RegionError(f"out[{number}] is {target.shape} {target.dtype}{state}; the region is {shape} {dtype}")
    return targets


def _share_memory(item: Any, number: int | None) -> Array:
    """``item`` as an array: what is written there is written to it."""
    array = np.asarray(item)
    if array is not item and array.size and not np.may_share_memory(array, np.asarray(item)):  # made anew, both times
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


def _open_images(requests: Sequence[Request], source: Source) -> dict[Hashable, LazyImage]:
    images: dict[Hashable, LazyImage] = {}
    for image_id, _ in requests:
        try:
            is_open = image_id in images
        except TypeError:  # no id at all: it has no hash
            is_open = False
        if not is_open:
            images[image_id] = source.image(image_id)
    return images


def _read_alone(job: _Job, channels: str | Sequence[str] | None, source: Source) -> None:
    """Read a region by itself, and put it to its place; its source may be another one by now.

    Raises:
        SourceChangedError: it does not fit there any more.
    """
    pixels = source.load_region(job.image_id, job.region, channels)
    if (pixels.shape, pixels.dtype) != (job.target.shape, job.target.dtype):
        error = SourceChangedError("its source changed its shape or dtype while it was being read")
        name_image(error, job.image_id)
        raise error
    job.target[...] = pixels


def _read_in_common(jobs: Sequence[_Job], *, threads: int, is_read_ahead: bool) -> set[Hashable]:
    """Fill the targets file by file and tile by tile; returns the images of which an entry failed meanwhile."""
    spoiled: set[Hashable] = set()
    finishes: list[Callable[[], None]] = []
    shares: dict[tuple[Hashable, int], tuple[Reader, list[Crop]]] = {}
    for job in jobs:
        with naming_image(job.image_id):
            for file_read in job.image.route(job.crop, job.target):
                if file_read.crop.out.size:
                    shares.setdefault((job.image_id, file_read.part), (file_read.reader, []))[1].append(file_read.crop)
                if file_read.finish is not None:
                    finishes.append(file_read.finish)
    if is_read_ahead:
        for (image_id, _), (reader, crops) in shares.items():
            _guard(image_id, spoiled, partial(reader.read_ahead, crops))
    if not any(reader.is_worth_sharing for reader, _ in shares.values()):
        threads = 1
    tasks = [
        partial(_guard, image_id, spoiled, task)
        for (image_id, _), (reader, crops) in shares.items()
        for task in reader.split(crops)
    ]
    work_together(tasks, threads=threads)
    for finish in finishes:
        finish()
    return spoiled


def _guard(image_id: Hashable, spoiled: set[Hashable], task: Callable[[], None]) -> None:
    """Do a task of an image; where its entry fails, remember that, and do no more of them."""
    if image_id in spoiled:
        return
    try:
        task()
    except _MENDED_ALONE:
        spoiled.add(image_id)
    except NdframesError as error:
        name_image(error, image_id)
        raise
