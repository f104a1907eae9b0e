"""Prefetch: chunks of patches, regions or frames, read by workers while the consumer uses the ones before."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import check_choice, shorten
from ..pixels.options import ReadOptions
from ..system.children import StartMethod
from ..system.process import ForkAware
from .chunks import Chunk, PrefetchStats
from .counts import to_count
from .requests import RequestSource
from .worker import ChunkErrors, ReadWork
from .worker_choice import WorkerKind, make_workers

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..frames.frames import Frames
    from ..frames.lazyframe import LazyFrame
    from ..pixels.options import ReadKeywords
    from ..system.ahead import Workers
    from .worker import ReadResult

__all__ = ["Chunk", "Prefetch", "prefetch"]


def prefetch(  # noqa: PLR0913 - one keyword for each option
    frames: Frames | LazyFrame,
    requests: Iterable[Any] | None = None,
    *,
    chunk_size: int = 64,
    depth: int = 2,
    worker: WorkerKind = "auto",
    workers: int = 1,
    errors: ChunkErrors = "raise",
    channels: str | Sequence[str] | None = None,
    start_method: StartMethod | None = None,
    **options: Unpack[ReadKeywords],
) -> Prefetch:
    """Read chunks of requests ahead of the loop that uses them.

    Each chunk is read with one call of :meth:`ndframes.Frames.load_regions`, so its tiles are decoded once. A worker process
    hands it over in shared memory without a copy. Chunks come in the order of the requests, whatever the number of workers.

    Processes end with the iteration, or with the ``with`` block if there is one, in which a second iteration then starts
    without delay. They also end when the iterator is forgotten, and when this process ends in any way.

    Args:
        frames: the images; a :class:`~ndframes.LazyFrame` or :class:`~ndframes.LazyVideo` stands for the one that it shows.
        requests: patches, pairs ``(image_id, region)``, or the numbers of frames of a video, where ``frames`` holds nothing
            else. They are taken from the iterable as they are needed, so it may be endless; the state of a
            :class:`~ndframes.feed.Patches` then counts what was taken, not what was delivered. ``None``: all frames of the
            video, or all images.
        chunk_size: how many requests are read together.
        depth: how many chunks each worker reads ahead.
        worker: ``"process"``; ``"thread"``, for loops whose own work releases the GIL; or ``"auto"``, a process where one can
            be started. A daemonic process, such as a worker of torch's ``DataLoader``, takes threads.
        workers: the number of processes or threads. Each decodes with one thread, unless the frames were made with ``threads``.
        errors: ``"raise"`` the error of a request that cannot be read, or ``"skip"`` the request and list it in the chunk. The
            death of a worker is always raised.
        channels: as in :meth:`ndframes.Frames.load_region`, for all requests.
        start_method: ``"fork"``, ``"spawn"`` or ``"forkserver"`` as in :mod:`multiprocessing`, or ``"command"``: a new interpreter
            that does not import the main module, so that scripts need no guard. ``None``: ``"command"``, or ``"fork"`` if the
            frames' class is defined in the main module.
        **options: as in :meth:`ndframes.Frames.load_region`, for all requests. Patches beyond their image are padded without.

    Returns:
        An iterable of :class:`Chunk`, and a context manager. Each iteration starts again. Threads may share an iterator: each
        chunk goes to one of them.

    Raises:
        PatchError: a number is not valid.
        RegionError: a request is not valid; raised by the iteration.
        WorkerDied: a worker process ended without being asked to; raised by the iteration.
        ValueError: an option has a value that is not allowed.
        TypeError: ``frames`` holds no images, or there is no such option.
        NdframesError: as :meth:`ndframes.Frames.load_region`; raised by the iteration. Its ``__cause__`` is the traceback in the
            worker process, and its notes name the request and the process.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches, prefetch
        >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
        >>> patches = GridPatches(frames, (128, 128), image_ids=["astronaut"])
        >>> with prefetch(frames, patches, chunk_size=6) as chunks:
        ...     for requests, array in chunks:
        ...         print(requests[0].region, array.shape)
        (slice(0, 128, None), slice(0, 128, None)) (6, 128, 128, 3)
        (slice(128, 256, None), slice(256, 384, None)) (6, 128, 128, 3)
        (slice(384, 512, None), slice(0, 128, None)) (4, 128, 128, 3)
    """
    check_choice("worker", worker, WorkerKind)
    check_choice("errors", errors, ChunkErrors)
    if start_method is not None:
        check_choice("start_method", start_method, StartMethod)
    unknown = [name for name in options if name not in ReadOptions._fields]
    if unknown:
        raise TypeError(
            f"prefetch has no option {shorten(unknown[0])}; besides its own it takes those of load_region: "
            f"{', '.join(ReadOptions._fields)}"
        )
    ReadOptions.of(**options)
    plan = _Plan(
        source=RequestSource(frames, channels),
        requests=requests,
        chunk_size=to_count("chunk_size", chunk_size),
        depth=to_count("depth", depth),
        worker=worker,
        workers=to_count("workers", workers),
        errors=errors,
        start_method=start_method,
        options=options,
    )
    return Prefetch(plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The checked arguments of :func:`prefetch`."""

    source: RequestSource
    requests: Iterable[Any] | None
    chunk_size: int
    depth: int
    worker: WorkerKind
    workers: int
    errors: ChunkErrors
    start_method: StartMethod | None
    options: ReadKeywords

    def make_workers(self) -> Workers:
        """Workers for an iteration; none is started yet."""
        source = self.source
        work = ReadWork(source.frames, source.channels, self.options, errors=self.errors, video_id=source.video_id)
        return make_workers(
            work, kind=self.worker, start_method=self.start_method, count=self.workers, depth=self.depth
        )


class Prefetch(ForkAware):
    """Chunks that are read ahead; made by :func:`prefetch`.

    Iterating starts the workers and yields :class:`Chunk` s. In a ``with`` block, workers wait for the next iteration, and end
    with the block.
    """

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._stats = PrefetchStats()
        self._is_entered = False
        self._idle: Workers | None = None
        self._iterations: weakref.WeakSet[_Iteration] = weakref.WeakSet()
        # Two threads may begin or end an iteration at the same time, and must not get the same workers.
        self._lock = threading.Lock()
        super().__init__()

    def __iter__(self) -> Iterator[Chunk]:
        iteration = _Iteration(self, self._plan)
        self._iterations.add(iteration)
        return iteration

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_entered = False
        self.close()

    def close(self) -> None:
        """End all iterations and their workers. Chunks that were delivered stay valid."""
        for iteration in list(self._iterations):
            iteration.close()
        idle = self._take_idle()
        if idle is not None:
            idle.close()

    def stats(self) -> PrefetchStats:
        """What was delivered so far, and who waited for whom."""
        return self._stats

    def _take_workers(self) -> Workers:
        return self._take_idle() or self._plan.make_workers()

    def _take_idle(self) -> Workers | None:
        with self._lock:
            idle, self._idle = self._idle, None
        return idle

    def _leave_workers(self, workers: Workers) -> None:
        """Keep workers that have nothing to do for the next iteration, or end them."""
        with self._lock:
            is_kept = self._is_entered and self._idle is None
            if is_kept:
                self._idle = workers
        if not is_kept:
            workers.close()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def _count(self, chunk: Chunk, consumer_seconds: float, worker_seconds: float, *, is_copied: bool) -> None:
        arrays = [chunk.array] if isinstance(chunk.array, np.ndarray) else chunk.array
        with self._lock:
            done = self._stats
            self._stats = replace(
                done,
                chunks=done.chunks + 1,
                bytes=done.bytes + sum(array.nbytes for array in arrays),
                copies=done.copies + is_copied,
                consumer_waited_seconds=done.consumer_waited_seconds + consumer_seconds,
                workers_waited_seconds=done.workers_waited_seconds + worker_seconds,
            )


class _Iteration(Iterator[Chunk], ForkAware):
    """One pass over the requests."""

    def __init__(self, owner: Prefetch, plan: _Plan) -> None:
        self._owner = owner
        self._plan = plan
        requests = plan.source.everything() if plan.requests is None else plan.requests
        self._requests: Iterator[Any] | None = iter(requests)
        self._request_count = 0
        # An error of the iterator of requests, raised after the chunks before it.
        self._request_error: Exception | None = None
        # The requests of the chunks that workers have.
        self._submitted: deque[list[Any]] = deque()
        self._workers: Workers | None = None
        self._is_closed = False
        # One thread after the other: what is submitted and what is received must not get out of step.
        self._lock = threading.Lock()
        super().__init__()

    def __next__(self) -> Chunk:
        with self._lock:
            return self._next()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def _next(self) -> Chunk:
        if self._is_closed:
            raise StopIteration
        try:
            self._submit()
            if self._submitted:
                chunk = self._receive()
                # Before the chunk is used, so that the workers are busy meanwhile.
                self._submit()
                return chunk
        except BaseException:
            self.close()
            raise
        self._end()
        if self._request_error is not None:
            raise self._request_error
        raise StopIteration

    def close(self) -> None:
        """End the workers; no chunk follows."""
        self._is_closed = True
        self._requests = None
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()

    def _end(self) -> None:
        """All chunks were delivered."""
        workers, self._workers = self._workers, None
        self.close()
        if workers is not None:
            self._owner._leave_workers(workers)  # noqa: SLF001 - one object in two classes

    def _submit(self) -> None:
        """Give the workers as many chunks as they may have."""
        while self._requests is not None and (self._workers is None or self._workers.has_room):
            given, checked = self._take_chunk()
            if not given:
                return
            if self._workers is None:  # not before there is something to do
                self._workers = self._owner._take_workers()  # noqa: SLF001
            self._submitted.append(given)
            self._workers.submit(checked, label=given[0])

    def _take_chunk(self) -> tuple[list[Any], list[Any]]:
        """The next requests, as they were given and as a worker takes them."""
        given: list[Any] = []
        checked: list[Any] = []
        assert self._requests is not None  # noqa: S101 - the caller has looked
        try:
            while len(given) < self._plan.chunk_size:
                request = next(self._requests)
                checked.append(self._plan.source.check(request, self._request_count))
                given.append(request)
                self._request_count += 1
        except StopIteration:
            self._requests = None
        except Exception as error:  # noqa: BLE001 - raised after the chunks that were requested before it
            self._requests, self._request_error = None, error
        return given, checked

    def _receive(self) -> Chunk:
        assert self._workers is not None  # noqa: S101 - they have the chunk
        started = time.perf_counter()
        result = self._workers.receive()
        seconds = time.perf_counter() - started
        read: ReadResult = result.value
        given = self._submitted.popleft()
        failed = {position: carrier.error for position, carrier in read.failed}
        chunk = Chunk(
            [request for position, request in enumerate(given) if position not in failed],
            read.array,
            tuple((given[position], error) for position, error in failed.items()),
        )
        self._owner._count(chunk, seconds, result.waited_seconds, is_copied=result.is_copied)  # noqa: SLF001
        return chunk
