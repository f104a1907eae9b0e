"""Worker: where an algorithm runs. It takes batches of windows in order, and fills a future for each batch."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from ..errors import AlgorithmError
from .algorithm import call, set_up, tear_down

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .algorithm import Algorithm
    from .values import Frame

__all__ = ["Call", "InlineWorker", "QueueWorker", "RunStopped", "ThreadWorker", "Worker"]
_END = None
_QUEUED = 4  # batches that wait while one is processed: enough to even out their costs


class RunStopped(Exception):  # noqa: N818 - it is not an error
    """A run was stopped, and does not wait for this."""


class Call(Future["list[Any]"]):
    """The value of each window of a batch, or a failure; an error if the worker cannot go on.

    Attributes:
        begun: when the batch was begun, by the monotonic clock.
    """

    begun: float | None = None

    def fill(self, values: list[Any]) -> None:
        """Set the values, unless the call was given up."""
        with contextlib.suppress(InvalidStateError):
            self.set_result(values)

    def fail(self, error: BaseException) -> None:
        """Set an error, unless the call was given up."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)


class Worker(ABC):
    """Runs an algorithm.

    Args:
        algorithm: what it runs.
    """

    #: The thread in which the algorithm is called, if it is one of its own.
    thread: threading.Thread | None = None

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm

    @abstractmethod
    def start(self) -> None:
        """Set the algorithm up, where it runs.

        Raises:
            AlgorithmError: its setup raised an error.
            RunStopped: it was abandoned.
        """

    @abstractmethod
    def submit(self, windows: Sequence[Sequence[Frame]]) -> Call:
        """Process a batch; waits while another batch waits."""

    def wait(self, call: Call) -> list[Any]:
        """The values of a batch.

        Raises:
            AlgorithmError: the worker cannot go on.
            RunStopped: it was abandoned.
        """
        return call.result()

    @abstractmethod
    def abandon(self) -> None:
        """Give it up: nobody waits for its calls from now on, and a process is killed.

        It returns at once; any thread may call it.
        """

    @abstractmethod
    def stop(self, seconds: float) -> bool:
        """End it after the batch that it is processing; returns whether it has ended within so many seconds.

        Raises:
            AlgorithmError: ``close`` of the algorithm raised an error.
        """


class InlineWorker(Worker):
    """Runs an algorithm in the thread that submits."""

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self._made: Any = None
        # An algorithm is not closed while another thread is in it.
        self._in_use = threading.Lock()

    def start(self) -> None:
        """As :meth:`Worker.start`."""
        self._made = _set_up(self.algorithm)

    def submit(self, windows: Sequence[Sequence[Frame]]) -> Call:
        """As :meth:`Worker.submit`; it is done at once."""
        done = Call()
        with self._in_use:
            done.set_result(call(self._made, self.algorithm, windows))
        return done

    def abandon(self) -> None:
        """As :meth:`Worker.abandon`; the thread that submits is in the algorithm, and cannot be ended."""

    def stop(self, seconds: float) -> bool:
        """As :meth:`Worker.stop`."""
        if not self._in_use.acquire(timeout=seconds):
            return False
        try:
            made, self._made = self._made, None
            _tear_down(made, self.algorithm)
        finally:
            self._in_use.release()
        return True


class QueueWorker(Worker):
    """Runs an algorithm behind a queue, in a thread that serves it. The thread ends with the process."""

    #: How long a batch may wait for another one.
    _queue_seconds: float | None = None

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self._batches: queue.Queue[Any] = queue.Queue(_QUEUED)
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._ready = Call()
        self._current = self._ready  # what the thread is at
        self.thread: threading.Thread = threading.Thread(
            target=self._serve, name=f"ndframes-{algorithm.name}", daemon=True
        )
        self._error: BaseException | None = None

    def start(self) -> None:
        """As :meth:`Worker.start`."""
        self.thread.start()
        self._ready.result()

    def submit(self, windows: Sequence[Sequence[Frame]]) -> Call:
        """As :meth:`Worker.submit`."""
        call = Call()
        try:
            self._batches.put((windows, call), timeout=self._queue_seconds)
        except queue.Full:
            raise self._late() from None
        if self._abandoned.is_set():
            # Put in after abandon() had looked.
            self._give_up_batches()
        return call

    def abandon(self) -> None:
        """As :meth:`Worker.abandon`."""
        self._stopping.set()
        self._abandoned.set()
        self._current.fail(RunStopped())
        self._give_up_batches()

    def _give_up_batches(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._batches.get_nowait()
                if item is not _END:
                    item[1].fail(RunStopped())
        with contextlib.suppress(queue.Full):
            self._batches.put_nowait(_END)

    def stop(self, seconds: float) -> bool:
        """As :meth:`Worker.stop`."""
        self._stopping.set()
        if self.thread.ident is None:
            return True  # it was not started
        with contextlib.suppress(queue.Full):  # then it does not wait for a batch
            self._batches.put_nowait(_END)
        self.thread.join(seconds)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return not self.thread.is_alive()

    def _serve(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001 - raised again where the worker is started
            self._ready.fail(error)
            return
        self._ready.fill([])
        # What has not begun when it is stopped is left.
        while not self._stopping.is_set() and (item := self._batches.get()) is not _END:
            windows, call = item
            self._current = call
            call.begun = time.monotonic()
            try:
                if self._abandoned.is_set():
                    raise RunStopped  # noqa: TRY301 - abandon() may have missed this call
                call.fill(self._process(windows))
            except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
                call.fail(error)
        try:
            self._close()
        except BaseException as error:  # noqa: BLE001 - raised again where the worker is stopped
            self._error = error

    def _late(self) -> AlgorithmError:
        return AlgorithmError(
            f"algorithm {self.algorithm.name} took longer than its limit of {self.algorithm.timeout} s; its thread cannot be "
            "ended; a worker='process' can"
        )

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _process(self, windows: Sequence[Sequence[Frame]]) -> list[Any]: ...

    @abstractmethod
    def _close(self) -> None: ...


class ThreadWorker(QueueWorker):
    """Runs an algorithm in a thread. After a batch that takes longer than the limit it cannot go on."""

    _made: Any = None

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self._queue_seconds = algorithm.timeout

    def wait(self, call: Call) -> list[Any]:
        """As :meth:`Worker.wait`."""
        limit = self.algorithm.timeout
        while limit is not None:
            # The limit counts from the begin of the batch, which may wait for another one.
            left = limit if call.begun is None else call.begun + limit - time.monotonic()
            try:
                return call.result(max(0.0, left))
            except FutureTimeoutError:
                if call.begun is not None and left <= 0:
                    raise self._late() from None
        return call.result()

    def _open(self) -> None:
        self._made = _set_up(self.algorithm)

    def _process(self, windows: Sequence[Sequence[Frame]]) -> list[Any]:
        return call(self._made, self.algorithm, windows)

    def _close(self) -> None:
        _tear_down(self._made, self.algorithm)


def _set_up(algorithm: Algorithm) -> Any:
    try:
        return set_up(algorithm.function)
    except (Exception, SystemExit) as error:
        raise AlgorithmError(f"algorithm {algorithm.name} cannot be set up: {type(error).__name__}: {error}") from error


def _tear_down(made: Any, algorithm: Algorithm) -> None:
    try:
        tear_down(made)
    except (Exception, SystemExit) as error:
        raise AlgorithmError(f"algorithm {algorithm.name}: close failed: {type(error).__name__}: {error}") from error
