"""Threads that share out pieces of work with the one that asks for them."""

from __future__ import annotations

import _thread
import multiprocessing
from typing import TYPE_CHECKING

import numpy as np

from ..errors import shorten
from .process import core_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["resolve_thread_count", "run_tasks"]
_MOST_THREADS = 16


def run_tasks(tasks: Iterable[Callable[[], None]], *, threads: int) -> None:
    """Do every task; where one fails, those that were not begun are left, and the error is raised.

    The helpers are new threads each time. That costs 0.1 ms, and buys three things: the system puts a new thread on an idle
    core, where one that is woken often stays on that of its waker; no thread is there when the process forks; and none
    outlives the call.

    Args:
        tasks: begun in their order.
        threads: how many work at once, the caller's included; fewer, where so many are not to be had.

    Example:
        >>> done = []
        >>> run_tasks([lambda: done.append(1), lambda: done.append(2)], threads=2)
        >>> sorted(done)
        [1, 2]
    """
    queue = _Queue(tasks)
    helpers = [_Helper(queue) for _ in range(min(threads, len(queue)) - 1)]
    try:
        for helper in helpers:
            if not helper.try_start():
                break
        queue.work()
    finally:
        queue.stop()
        for helper in helpers:
            helper.finish()
    for helper in helpers:
        if helper.error is not None:
            raise helper.error


class _Helper:
    """A thread that works through a queue, if there is a thread to be had.

    It is one of ``_thread``, since :meth:`threading.Thread.start` waits until the new thread runs, which takes as long as to
    decode a tile.
    """

    def __init__(self, queue: _Queue) -> None:
        self.error: BaseException | None = None
        self._queue = queue
        self._running = _thread.allocate_lock()

    def try_start(self) -> bool:
        self._running.acquire()
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError:  # there are too many, or the interpreter is about to end
            self._running.release()
            return False
        return True

    def finish(self) -> None:
        self._running.acquire()

    def _work(self) -> None:
        try:
            self._queue.work()
        except BaseException as error:  # noqa: BLE001 - raised by the one who waits
            self.error = error
        finally:
            self._running.release()


class _Queue:
    """Tasks that several threads take one by one."""

    def __init__(self, tasks: Iterable[Callable[[], None]]) -> None:
        listed = list(tasks)
        self._count = len(listed)
        self._tasks: Iterator[Callable[[], None]] = iter(listed)

    def __len__(self) -> int:
        return self._count

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


def resolve_thread_count(workers: int | None) -> int:
    """How many threads ``workers`` asks for; ``None``: one for each core, one in a worker process, which has siblings.

    Raises:
        ValueError: it is no number of threads.

    Example:
        >>> resolve_thread_count(0), resolve_thread_count(3)
        (1, 3)
    """
    if workers is None:
        return 1 if multiprocessing.parent_process() is not None else min(core_count(), _MOST_THREADS)
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 0:
        raise ValueError(f"workers={shorten(workers)}; give the number of threads, 0 or 1 for the caller's alone")
    return max(1, min(int(workers), _MOST_THREADS))
