"""Many regions at once: each tile that any of them touches is decoded once, by several threads."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ._process import ForkAware, core_count
from .errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    NdframesError,
    RegionError,
    SourceChangedError,
    name_image,
    naming_image,
    shorten,
)
from .image import AlignableImageData, PlannedCrop, too_large_error

if TYPE_CHECKING:
    from .formats.reader import Array, Crop, Reader
    from .regions import Region

__all__ = ["Crew", "Request", "check_padded_bytes", "check_requests", "count_threads", "load_batch", "load_each"]

#: An image's id and a region of it.
Request = tuple[Hashable, "Region"]

_MOST_THREADS = 16
# What a single read mends on its own: the entry is made anew, or the source read.
_MENDED_ALONE = (CacheEntryDamagedError, CacheEntryGoneError, SourceChangedError)


class Source(Protocol):
    """What a batch needs of :class:`~ndframes.Frames`."""

    @property
    def max_region_bytes(self) -> int:
        """A result of more bytes is refused."""

    def image(self, image_id: Hashable) -> AlignableImageData:
        """An image, opened."""

    def load_region(self, image_id: Hashable, region: Region, channels: str | Sequence[str] | None) -> Array:
        """Read a region by itself, and mend what can be mended on the way."""


class Crew(ForkAware):
    """Threads that work through tasks together with the one that asks; kept for the next time.

    Example:
        >>> done = []
        >>> Crew().run([lambda: done.append(1), lambda: done.append(2)], threads=2)
        >>> sorted(done)
        [1, 2]
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        super().__init__()

    def run(self, tasks: Iterable[Callable[[], None]], *, threads: int) -> None:
        """Do every task; where one fails, those that were not begun are left, and the error is raised.

        Args:
            tasks: begun in their order.
            threads: how many work at once, the caller's included.
        """
        queue = _Queue(tasks)
        helpers: list[Future[None]] = []
        try:
            helpers.extend(self._ask_for_help(queue, threads - 1))
            queue.work()
        finally:
            queue.stop()
            _wait(helpers)
        for helper in helpers:
            if not helper.cancelled():  # as those are for which nothing was left when they would have begun
                helper.result()

    def _ask_for_help(self, queue: _Queue, count: int) -> Iterator[Future[None]]:
        for _ in range(count):
            try:
                yield self._find_pool().submit(queue.work)
            except RuntimeError:  # no thread is to be had: there are too many, or the interpreter is about to end
                return

    def _find_pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="ndframes")
            return self._pool

    def _after_fork_in_child(self) -> None:
        self._pool = None  # its threads stayed in the parent
        self._lock = threading.Lock()


class _Queue:
    """Tasks that several threads take one by one."""

    def __init__(self, tasks: Iterable[Callable[[], None]]) -> None:
        self._tasks: Iterator[Callable[[], None]] = iter(list(tasks))

    def work(self) -> None:
        """Do what is left, until nothing is."""
        try:
            # of a list: to take its next item is one step, which no other thread divides
            while (task := next(self._tasks, None)) is not None:
                task()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let nobody begin anything more."""
        self._tasks = iter(())


def _wait(helpers: Sequence[Future[None]]) -> None:
    for helper in helpers:
        if not helper.cancel():
            helper.exception()


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
    crew: Crew,
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
        crew: does the work.
        threads: how many work at once.
        out: where to; ``None`` makes a new array.
        is_read_ahead: whether the system is told first what will be read.
    """
    images = _open_images(requests, source)
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
    spoiled = _read_in_common(jobs, crew, threads=threads, is_read_ahead=is_read_ahead)
    for job in jobs:
        if job.image_id in spoiled:
            _put_mended(source.load_region(job.image_id, job.region, channels), job)
    return result


def check_padded_bytes(requests: Sequence[Request], channels: str | Sequence[str] | None, source: Source) -> None:
    """See to it that the results of a batch that is padded may be allocated.

    Raises:
        RegionTooLargeError: they are too many bytes.
    """
    images = _open_images(requests, source)
    needed = 0
    for image_id, region in requests:
        with naming_image(image_id):
            needed += images[image_id].count_padded_bytes(region, channels)
    _check_bytes(len(requests), needed, source.max_region_bytes)


def load_each(
    requests: Sequence[Request], load: Callable[[Hashable, Region], Array], crew: Crew, *, threads: int, out: Any
) -> Any:
    """Read many regions, each by itself, several at a time."""
    results: list[Array] = [np.empty(0)] * len(requests)

    def read(number: int) -> None:
        results[number] = load(*requests[number])

    crew.run([partial(read, number) for number in range(len(requests))], threads=threads)
    if out is None:
        return np.stack(results) if len({(item.shape, item.dtype) for item in results}) == 1 else results
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


def count_threads(workers: int | None) -> int:
    """How many threads ``workers`` asks for; ``None``: one for each core, one in a worker process, which has siblings.

    Raises:
        ValueError: it is no number of threads.
    """
    if workers is None:
        return 1 if multiprocessing.parent_process() is not None else min(core_count(), _MOST_THREADS)
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 0:
        raise ValueError(f"workers={shorten(workers)}; give the number of threads, 0 or 1 for the caller's alone")
    return max(1, min(int(workers), _MOST_THREADS))


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


def _open_images(requests: Sequence[Request], source: Source) -> dict[Hashable, AlignableImageData]:
    images: dict[Hashable, AlignableImageData] = {}
    for image_id, _ in requests:
        try:
            is_open = image_id in images
        except TypeError:  # no id at all: it has no hash
            is_open = False
        if not is_open:
            images[image_id] = source.image(image_id)
    return images


def _put_mended(pixels: Array, job: _Job) -> None:
    """Put a result that was read by itself to its place; its source may be another one by now.

    Raises:
        SourceChangedError: it does not fit there any more.
    """
    if (pixels.shape, pixels.dtype) != (job.target.shape, job.target.dtype):
        error = SourceChangedError("its source changed its shape or dtype while it was being read")
        name_image(error, job.image_id)
        raise error
    job.target[...] = pixels


def _read_in_common(jobs: Sequence[_Job], crew: Crew, *, threads: int, is_read_ahead: bool) -> set[Hashable]:
    """Fill the targets file by file and tile by tile; returns the images of which an entry failed meanwhile."""
    spoiled: set[Hashable] = set()
    finishes: list[Callable[[], None]] = []
    shares: dict[tuple[Hashable, int], tuple[Reader, list[Crop]]] = {}
    for job in jobs:
        with naming_image(job.image_id):
            for errand in job.image.route(job.crop, job.target):
                if errand.crop.out.size:
                    shares.setdefault((job.image_id, errand.part), (errand.reader, []))[1].append(errand.crop)
                if errand.finish is not None:
                    finishes.append(errand.finish)
    if is_read_ahead:
        for (image_id, _), (reader, crops) in shares.items():
            _guard(image_id, spoiled, partial(reader.read_ahead, crops))
    # Copying is bound by the memory, which a second thread makes no faster.
    if not any(reader.count_decoded(crop.rows, crop.cols) for reader, crops in shares.values() for crop in crops[:1]):
        threads = 1
    tasks = [
        partial(_guard, image_id, spoiled, task)
        for (image_id, _), (reader, crops) in shares.items()
        for task in reader.split(crops)
    ]
    crew.run(tasks, threads=min(threads, max(1, len(tasks))))
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
