"""Work shared between the calling thread and helper threads."""

from __future__ import annotations

import _thread
import multiprocessing
import threading
from typing import TYPE_CHECKING

import numpy as np

from ..errors import shorten
from .process import core_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["declare_worker_process", "resolve_thread_count", "run_tasks"]
_MAX_THREADS = 16
# Set in a process that was started by other means than multiprocessing to share the cores with its siblings.
_IS_WORKER = threading.Event()


def run_tasks(tasks: Iterable[Callable[[], None]], *, threads: int) -> None:
    """Run all tasks. If one raises, the tasks that have not started are skipped, and its error is raised.

    Each call starts new threads, which costs 0.1 ms. The system places a new thread on an idle core, whereas a thread that
    is woken often stays on the core of the thread that wakes it. And no thread exists after the call, so none is lost in a
    fork.

    Args:
        tasks: started in their order.
        threads: the number of threads, the caller's included. There are fewer if the system refuses to start them.

    Example:
        >>> done = []
        >>> run_tasks([lambda: done.append(1), lambda: done.append(2)], threads=2)
        >>> sorted(done)
        [1, 2]
    """
    queue = _TaskQueue(tasks)
    helpers = [_HelperThread(queue) for _ in range(min(threads, len(queue)) - 1)]
    try:
        for helper in helpers:
            if not helper.try_start():
                break
        queue.run()
    finally:
        # Also after Ctrl-C: no helper may go on writing to arrays of a call that has ended.
        queue.stop()
        for helper in helpers:
            helper.join()
    for helper in helpers:
        if helper.error is not None:
            raise helper.error


class _HelperThread:
    """A thread that runs the tasks of a queue.

    It uses ``_thread``, because :meth:`threading.Thread.start` waits until the new thread runs, which takes as long as
    decoding a tile.
    """

    def __init__(self, queue: _TaskQueue) -> None:
        self.error: BaseException | None = None
        self._queue = queue
        # Held while the thread runs, so that join() can wait for it.
        self._running = _thread.allocate_lock()

    def try_start(self) -> bool:
        self._running.acquire()
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # too many threads, or the interpreter is shutting down
            self._running.release()
            return False
        return True

    def join(self) -> None:
        self._running.acquire()

    def _run(self) -> None:
        try:
            self._queue.run()
        except BaseException as error:  # noqa: BLE001 - raised by the calling thread
            self.error = error
        finally:
            self._running.release()


class _TaskQueue:
    """Tasks for several threads."""

    def __init__(self, tasks: Iterable[Callable[[], None]]) -> None:
        # An iterator over a list: a generator raises ValueError if two threads call next() at the same time.
        listed = list(tasks)
        self._count = len(listed)
        self._tasks: Iterator[Callable[[], None]] = iter(listed)

    def __len__(self) -> int:
        return self._count

    def run(self) -> None:
        """Run tasks until there are none."""
        try:
            while (task := next(self._tasks, None)) is not None:  # next() of a list iterator is atomic
                task()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Skip the tasks that have not started."""
        # Threads finish the task that they have, and find no other.
        self._tasks = iter(())


def declare_worker_process() -> None:
    """Make one thread the default in this process, as it is in the worker processes of ``multiprocessing``."""
    _IS_WORKER.set()


def resolve_thread_count(threads: int | None, *, name: str = "threads") -> int:
    """The number of threads for an option with this name, at most 16.

    ``None`` is one thread for each core, or a single thread in a worker process, because its siblings use the other cores.

    Raises:
        ValueError: ``threads`` is not a non-negative whole number.

    Example:
        >>> resolve_thread_count(0), resolve_thread_count(3)
        (1, 3)
    """
    if threads is None:
        is_worker = _IS_WORKER.is_set() or multiprocessing.parent_process() is not None
        return 1 if is_worker else min(core_count(), _MAX_THREADS)
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 0:
        raise ValueError(f"{name}={shorten(threads)}; give the number of threads, 0 or 1 for the calling thread only")
    return max(1, min(int(threads), _MAX_THREADS))
