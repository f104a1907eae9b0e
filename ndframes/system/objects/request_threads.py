"""RequestThreads: the threads of a process in which requests to stores wait for their answers."""

from __future__ import annotations

import _thread
import atexit
import os
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..process import ForkAware
from ..waiting import check_may_open

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pending", "RequestThreads"]
_Result = TypeVar("_Result")
# Stores answer sooner; one that is mute must not keep a program from ending after Ctrl-C.
_EXIT_SECONDS = 2.0


class Pending(Generic[_Result]):
    """The result of work that a thread does.

    Args:
        work: what is done.
    """

    __slots__ = ("_error", "_is_done", "_owner_pid", "_result", "_work")

    def __init__(self, work: Callable[[], _Result]) -> None:
        self._work: Callable[[], _Result] | None = work
        self._owner_pid = os.getpid()
        self._error: BaseException | None = None
        self._result: Any = None
        self._is_done = _thread.allocate_lock()
        self._is_done.acquire()

    @property
    def is_lost(self) -> bool:
        """Whether this is a forked copy, for which no thread works."""
        return os.getpid() != self._owner_pid

    def run(self) -> None:
        """Do the work; called by its thread."""
        work, self._work = self._work, None
        assert work is not None  # noqa: S101 - it is run once
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error

    def finish(self) -> None:
        """Let those go on who wait for the result; called by its thread after :meth:`run`."""
        self._is_done.release()

    def result(self) -> _Result:
        """Wait for the result; its error is raised."""
        with self._is_done:
            pass
        if self._error is not None:
            raise self._error
        result: _Result = self._result
        return result


class RequestThreads(ForkAware):
    """Threads that are started when they are needed and wait for more work after that. A forked child begins with none.

    They are daemons, so that a store that does not answer keeps no process from ending.

    Args:
        count: the most threads, and so the most requests at a time.

    Example:
        >>> threads = RequestThreads(2)
        >>> [pending.result() for pending in [threads.submit(lambda: 1), threads.submit(lambda: 2)]]
        [1, 2]
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._reset()
        atexit.register(self.close)
        super().__init__()

    def _reset(self) -> None:
        # Written in C, and so faster than queue.Queue and threading.Condition.
        self._waiting: SimpleQueue[Pending[Any]] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._unfinished = 0
        self.is_closing = threading.Event()

    def submit(self, work: Callable[[], _Result]) -> Pending[_Result]:
        """Have work done by a thread; in the order of submission.

        Raises:
            WouldOpenError: this thread must not wait.
        """
        check_may_open()
        pending = Pending(work)
        with self._lock:
            if self._unfinished >= self._started and self._started < self._count:
                self._start_thread()
            self._unfinished += 1
        self._waiting.put(pending)
        return pending

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Have work done by a thread, and wait for it; so Ctrl-C ends the wait, which it cannot inside of native code."""
        return self.submit(work).result()

    def _start_thread(self) -> None:
        try:
            _thread.start_new_thread(self._serve, (self._waiting, self._lock))
        except RuntimeError:
            if not self._started:  # nothing would ever do the work
                raise
        else:
            self._started += 1

    def _serve(self, waiting: SimpleQueue[Pending[Any]], lock: threading.Lock) -> None:
        while True:
            pending = waiting.get()
            pending.run()
            # Before its result is known, so that who submits one after the other needs one thread only.
            with lock:
                self._unfinished -= 1
            pending.finish()
            del pending  # its result may be large, and the next work may be far away

    def close(self) -> None:
        """Drop what waits, and wait a little for what runs: threads should not return from native code while Python ends."""
        self.is_closing.set()
        until = time.monotonic() + _EXIT_SECONDS
        while self._unfinished and time.monotonic() < until:
            self._drop_waiting()
            time.sleep(0.001)

    def _drop_waiting(self) -> None:
        try:
            while True:
                self._waiting.get_nowait()
                with self._lock:
                    self._unfinished -= 1
        except Empty:
            pass

    def _after_fork_in_child(self) -> None:
        self._reset()
