"""WorkerPool: an executor in which a crashed worker process fails one task only.

``concurrent.futures.ProcessPoolExecutor`` fails all pending tasks when a worker dies, does not report which task was
running, and imports the caller's ``__main__`` in each worker, which runs scripts without a guard again. Here each worker
is a child process that runs one task after another. When it dies, its task fails, and the next task gets a new child.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import IO, Any

from ..errors import NdframesError, PrepareError, WorkerCrashError, describe_error, shorten
from .children import child_command, end_children
from .terminal import has_stderr

__all__ = [
    "EndedBySignal",
    "Limits",
    "WorkerPool",
    "exit_on_signal",
    "receive_message",
    "send_message",
    "serve",
]
_LENGTH = struct.Struct("<Q")
_Task = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a worker process, for files that may be malicious.

    Attributes:
        memory_bytes: address space, about 2 GB for the interpreter and its libraries included. Allocations beyond fail.
        cpu_seconds: processor time of all threads together. The process is killed after that.

    Example:
        >>> Limits(cpu_seconds=60)
        Limits(memory_bytes=4294967296, cpu_seconds=60)
    """

    memory_bytes: int = 4 << 30
    cpu_seconds: int = 3600

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "cpu_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ValueError(f"{name}={shorten(value)}; allowed: whole numbers greater than 0")

    def apply(self) -> None:
        """Set the limits of this process, which cannot be undone. Does nothing on systems without such limits."""
        try:
            import resource
        except ImportError:  # Windows
            return
        for kind, value in ((resource.RLIMIT_AS, self.memory_bytes), (resource.RLIMIT_CPU, self.cpu_seconds)):
            hard = resource.getrlimit(kind)[1]
            # Without privileges, a process may only lower its hard limit.
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (limit, limit))
        # Hostile files crash decoders again and again; core files of gigabytes would fill the disk.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class WorkerPool(Executor):
    """Runs picklable calls in ``workers`` child processes.

    A call whose worker dies raises :class:`~ndframes.WorkerCrashError`; the other calls are not affected. Children ignore
    Ctrl-C, and end when their parent ends or calls :meth:`terminate`.

    Example:
        >>> with WorkerPool(1) as pool:
        ...     pool.submit(max, 2, 3).result()
        3
    """

    def __init__(self, workers: int, *, limits: Limits | None = None) -> None:
        self._limits = limits
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._is_closing = False
        self.num_workers = workers
        # Events instead of Thread.join: after an interrupted join, Python 3.12 and earlier take the thread for ended.
        self._has_ended = [threading.Event() for _ in range(workers)]
        for number in range(workers):
            # Daemons, so that a pool that is never shut down does not keep the interpreter from exiting.
            threading.Thread(target=self._run, args=(number,), daemon=True).start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``function(*args, **kwargs)``. All of them must pickle, and ``function`` must be importable."""
        if self._is_closing:
            raise RuntimeError("this WorkerPool is shut down")
        future: Future[Any] = Future()
        self._tasks.put((future, function, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers after the scheduled calls, or after the running ones with ``cancel_futures``."""
        self._is_closing = True
        if cancel_futures:
            self._cancel_waiting()
        for _ in self._has_ended:
            # One end marker for each thread.
            self._tasks.put(None)
        if wait:
            for event in self._has_ended:
                event.wait()

    def terminate(self) -> None:
        """Cancel waiting calls and end the children at once; they get a second to clean up."""
        self._is_closing = True
        self._cancel_waiting()
        end_children(list(self._children.values()))
        self.shutdown()

    def _cancel_waiting(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                task[0].cancel()

    def _run(self, number: int) -> None:
        # A call of its own, so that its local variables are released before the event is set.
        try:
            self._serve_tasks(number)
        finally:
            self._has_ended[number].set()

    def _serve_tasks(self, number: int) -> None:
        """Send tasks to one worker, and set the results of their futures."""
        # A child inherits the mask, so Ctrl-C cannot end it before it ignores SIGINT. Windows has no masks.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        while (task := self._tasks.get()) is not None:
            future, function, args, kwargs = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                is_success, outcome = self._call(number, (function, args, kwargs))
            except Exception as error:  # noqa: BLE001 - raised by the future
                is_success, outcome = False, error
            if is_success:
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
            # Without a child, this thread would take the tasks from those that have one, and fail them all.
            if number not in self._children and self._children and type(outcome) is PrepareError:
                return
        child = self._children.pop(number, None)
        if child is not None:
            _close(child)

    def _call(self, number: int, call: object) -> tuple[bool, Any]:
        child = self._children.get(number)
        if child is None or child.poll() is not None:
            child = self._children[number] = _start(self._limits)
        assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - opened as pipes
        # Before anything is sent: a call that does not pickle must not leave half a message in the pipe.
        message = pickle.dumps(call)
        try:
            send_message(child.stdin, message)
            answer = receive_message(child.stdout)
        except (BrokenPipeError, ConnectionError):
            answer = None
        if answer is not None:
            is_success, outcome = pickle.loads(answer)  # noqa: S301 - from our own child
            return bool(is_success), outcome
        del self._children[number]
        raise WorkerCrashError(
            f"its worker process died ({_describe_exit(_close(child))}), most likely inside a native decoder"
        )


def serve(limits: Limits | None = None) -> None:
    """The main loop of a child: read calls from stdin and write their results to stdout, until stdin ends."""
    if limits is not None:
        limits.apply()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, exit_on_signal)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    while (message := receive_message(sys.stdin.buffer)) is not None:
        try:
            function, args, kwargs = pickle.loads(message)  # noqa: S301 - from our own parent
            answer = pickle.dumps((True, function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001 - sent to the parent
            answer = _pickle_error(error)
        try:
            send_message(answers, answer)
        except BrokenPipeError:
            return


class EndedBySignal(SystemExit):
    """Raised by :func:`exit_on_signal`; other exits come from the code that the worker runs."""


def exit_on_signal(*_: object) -> None:
    """A signal handler of a worker process, which cleans up on the way out."""
    sys.unraisablehook = _end_if_dropped  # of other errors, the process that ends now says nothing
    raise EndedBySignal(1)


def _end_if_dropped(unraisable: Any) -> None:
    """End the process where Python has dropped the exit: in a finalizer, or in a callback of a weak reference."""
    if issubclass(unraisable.exc_type, EndedBySignal):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _pickle_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps((False, error))
        pickle.loads(data)  # noqa: S301 - the parent must be able to load it
    except Exception:  # noqa: BLE001 - whatever the reason, it does not pickle
        return pickle.dumps((False, NdframesError(describe_error(error))))
    return data


def _start(limits: Limits | None) -> subprocess.Popen[bytes]:
    # A string instead of multiprocessing, whose children import the main module of the caller.
    command = child_command(f"from ndframes.system.workers import Limits, serve; serve({limits!r})")
    # A child that inherited no stderr, or a file that took its place, could not print to it.
    stderr = None if has_stderr() else subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)  # noqa: S603
    except OSError as error:
        raise PrepareError(
            f"no worker process could be started: {error.strerror or error}; use fewer workers, or raise the limits of this "
            "process (ulimit -a)"
        ) from error


def _close(child: subprocess.Popen[bytes]) -> int:
    """Wait until a child has ended, and return its exit status."""
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - opened as pipes
    try:
        child.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it read its last task
    status = child.wait()
    child.stdout.close()
    return status


def send_message(pipe: IO[bytes], message: bytes) -> None:
    """Write one message that :func:`receive_message` reads at the other end."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def receive_message(pipe: IO[bytes]) -> bytes | None:
    """Read one message; ``None`` if the other side has ended."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _LENGTH.unpack(head)[0]
    message = pipe.read(length)
    return message if len(message) == length else None


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
