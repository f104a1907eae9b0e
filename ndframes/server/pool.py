"""Pool: a fixed number of threads that read for a server, and never hold up its end."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

__all__ = ["Pool"]


class _Task(NamedTuple):
    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.function(*self.arguments, **self.keywords))
        except BaseException as error:  # noqa: BLE001 - raised where the result is taken
            self.future.set_exception(error)


class Pool(Executor):
    """Threads that run calls in their order. They start with the first call in each process, so that a fork loses none.

    Unlike those of :class:`concurrent.futures.ThreadPoolExecutor`, they do not keep the interpreter from ending while a file is
    decoded. What they were writing to the cache is then a temporary file, which is removed later.

    Args:
        threads: their number.

    Example:
        >>> pool = Pool(2)
        >>> pool.submit(pow, 2, 10).result()
        1024
        >>> pool.shutdown()
    """

    def __init__(self, threads: int) -> None:
        self._count = threads
        self._pid: int | None = None
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """As of :class:`concurrent.futures.Executor`. It is called by one thread."""
        if self._pid != os.getpid():
            self._start()
        task = _Task(Future(), function, arguments, keywords)
        self._tasks.put(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as of Executor
        """End the threads after the calls that wait. They start again with the next call."""
        if self._pid != os.getpid():
            return
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads if wait else []:
            thread.join()
        self._pid, self._threads = None, []

    def _start(self) -> None:
        self._pid, self._tasks = os.getpid(), queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=_work, args=(self._tasks,), name=f"ndframes-read-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()


def _work(tasks: queue.SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task.run()
        # Not kept while the thread waits: the result may be large.
        del task
