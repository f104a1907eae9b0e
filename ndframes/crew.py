"""Crew: threads that share out pieces of work with the one that asks for them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ._process import ForkAware, core_count
from .errors import shorten

__all__ = ["Crew", "count_threads"]

_MOST_THREADS = 16


class Crew(ForkAware):
    """Threads that work through tasks together with the one that asks, and wait for the next time.

    Before a fork those that wait are sent home: a child inherits none of them, and Python warns of forks beside threads.

    Example:
        >>> done = []
        >>> Crew().run([lambda: done.append(1), lambda: done.append(2)], threads=2)
        >>> sorted(done)
        [1, 2]
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._runs = 0
        super().__init__()

    def run(self, tasks: Iterable[Callable[[], None]], *, threads: int) -> None:
        """Do every task; where one fails, those that were not begun are left, and the error is raised.

        Args:
            tasks: begun in their order.
            threads: how many work at once, the caller's included.
        """
        queue = _Queue(tasks)
        if threads <= 1:
            queue.work()
            return
        pool = self._begin()
        helpers: list[Future[None]] = []
        try:
            try:
                helpers.extend(_ask_for_help(pool, queue, threads - 1))
                queue.work()
            finally:
                queue.stop()
                begun = [helper for helper in helpers if not helper.cancel()]
                errors = [helper.exception() for helper in begun]
        finally:
            self._end()
        for error in filter(None, errors):
            raise error

    def _begin(self) -> ThreadPoolExecutor:
        with self._lock:
            self._runs += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="ndframes")
            return self._pool

    def _end(self) -> None:
        with self._lock:
            self._runs -= 1

    def _before_fork(self) -> None:
        with self._lock:
            idle, self._pool = (None, self._pool) if self._runs else (self._pool, None)
        if idle is not None:
            idle.shutdown()

    def _after_fork_in_child(self) -> None:
        self._pool = None  # its threads stayed in the parent
        self._runs = 0
        self._lock = threading.Lock()


class _Queue:
    """Tasks that several threads take one by one."""

    def __init__(self, tasks: Iterable[Callable[[], None]]) -> None:
        self._tasks: Iterator[Callable[[], None]] = iter(list(tasks))

    def work(self) -> None:
        """Do what is left, until nothing is."""
        try:
            while (task := next(self._tasks, None)) is not None:  # of a list: one step, which no other thread divides
                task()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let nobody begin anything more."""
        self._tasks = iter(())


def _ask_for_help(pool: ThreadPoolExecutor, queue: _Queue, count: int) -> Iterator[Future[None]]:
    for _ in range(count):
        try:
            yield pool.submit(queue.work)
        except RuntimeError:  # no thread is to be had: there are too many, or the interpreter is about to end
            return


def count_threads(workers: int | None) -> int:
    """How many threads ``workers`` asks for; ``None``: one for each core, one in a worker process, which has siblings.

    Raises:
        ValueError: it is no number of threads.

    Example:
        >>> count_threads(0), count_threads(3)
        (1, 3)
    """
    if workers is None:
        return 1 if multiprocessing.parent_process() is not None else min(core_count(), _MOST_THREADS)
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 0:
        raise ValueError(f"workers={shorten(workers)}; give the number of threads, 0 or 1 for the caller's alone")
    return max(1, min(int(workers), _MOST_THREADS))
