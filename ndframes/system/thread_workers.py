"""Worker threads that do tasks ahead of their consumer."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .ahead import HELD_RESULTS, Result, Workers
from .ring import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from .serving import Work

__all__ = ["ThreadWorkers"]


class _Task(NamedTuple):
    payload: Any
    future: Future[Result]


if TYPE_CHECKING:
    _Queue = queue.SimpleQueue[_Task | None]


class ThreadWorkers(Workers):
    """Worker threads, which use the memory of a few results again and again.

    Args:
        work: called by several threads at the same time.
        count: the number of threads; each is started with its first task.
        depth: how many tasks each may have.

    Example:
        >>> workers = ThreadWorkers(lambda number, allocate: [number, number], count=1, depth=2)
        >>> workers.submit(3, label="three")
        >>> workers.receive().value
        [3, 3]
        >>> workers.close()
    """

    def __init__(self, work: Work, *, count: int, depth: int) -> None:
        super().__init__(count, depth)
        self._work = work
        self._tasks: _Queue = queue.SimpleQueue()
        self._futures: deque[Future[Result]] = deque()
        self._slots = Slots(count * depth + HELD_RESULTS)
        self._threads: list[threading.Thread] = []
        # Also when this object is forgotten, or at exit: a library that is unloaded under a thread may crash.
        self._finalizer = weakref.finalize(self, _end_threads, self._tasks, self._threads, os.getpid())

    def submit(self, payload: Any, label: object) -> None:  # noqa: ARG002 - an error in a thread needs no label
        """As :meth:`Workers.submit`."""
        task = _Task(payload, Future())
        self._tasks.put(task)
        self._futures.append(task.future)
        self.submitted += 1
        if len(self._threads) < self.count:
            arguments = (self._tasks, self._work, self._slots)
            # A daemon: it ends with a None in its queue, which is sent only after Python would wait for other threads.
            thread = threading.Thread(target=_run_tasks, args=arguments, name="ndframes-ahead", daemon=True)
            self._threads.append(thread)
            thread.start()

    def receive(self) -> Result:
        """As :meth:`Workers.receive`."""
        future = self._futures.popleft()
        self.received += 1
        return future.result()

    def close(self) -> None:
        """As :meth:`Workers.close`; waits for the tasks that have begun."""
        self._finalizer()


class _ThreadSlot:
    """The memory for the result of one task."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """An array in memory that is free; in new memory if the consumer holds everything else."""
        nbytes = math.prod(shape) * dtype.itemsize
        number = self._slots.take() if nbytes else None
        if number is None:
            return np.empty(shape, dtype)
        if self._slots.capacity(number) < nbytes:
            self._slots.assign(number, bytearray(nbytes))
        # When this array dies, the slot is free.
        return self._slots.lend(number)[:nbytes].view(dtype).reshape(shape)


def _run_tasks(tasks: _Queue, work: Work, slots: Slots) -> None:
    while True:
        started = time.perf_counter()
        task = tasks.get()
        if task is None:
            return
        _run_task(task, work, slots, time.perf_counter() - started)
        # The task holds its result, whose memory the consumer may give back meanwhile.
        del task


def _run_task(task: _Task, work: Work, slots: Slots, waited_seconds: float) -> None:
    try:
        value = work(task.payload, _ThreadSlot(slots).allocate)
    except BaseException as error:  # noqa: BLE001 - raised by the consumer
        task.future.set_exception(error)
    else:
        task.future.set_result(Result(value, False, waited_seconds))


def _end_threads(tasks: _Queue, threads: list[threading.Thread], owner_pid: int) -> None:
    if os.getpid() != owner_pid:  # a forked copy, which has none of the threads
        return
    while True:
        try:
            tasks.get_nowait()
        except queue.Empty:
            break
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        # The garbage collector, which ends forgotten workers, runs in any thread.
        if thread is not threading.current_thread():
            thread.join()
