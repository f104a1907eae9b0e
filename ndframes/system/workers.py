"""WorkerPool: an executor whose workers may crash, one task at a time.

``concurrent.futures.ProcessPoolExecutor`` gives up every pending task when a worker dies, cannot say which task killed
it, and imports the caller's ``__main__`` in each worker, which surprises scripts without a guard. Here each worker is a
plain child process that does one task after another; when one dies, its task fails and the next gets a new child.
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

from ..errors import NdframesError, WorkerCrashError

__all__ = ["Limits", "WorkerPool", "child_command", "receive_message", "send_message", "serve"]
_LENGTH = struct.Struct("<Q")
_TERM_SECONDS = 1.0
_Task = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker process may use, for files that may have been made to do harm.

    Attributes:
        memory_bytes: of address space, the interpreter and its libraries (some 2 GB) included; what asks for more fails.
        cpu_seconds: of computing, all threads together; after that the process is killed.

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
                raise ValueError(f"{name}={value!r}; allowed: whole numbers over 0")

    def apply(self) -> None:
        """Put this process under the limits, for good; systems that know no such limits are left as they are."""
        try:
            import resource
        except ImportError:  # not on Windows
            return
        for kind, value in ((resource.RLIMIT_AS, self.memory_bytes), (resource.RLIMIT_CPU, self.cpu_seconds)):
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class WorkerPool(Executor):
    """Runs picklable calls in ``workers`` child processes.

    A call whose worker dies raises :class:`~ndframes.WorkerCrashError`, the others go on. Children ignore Ctrl-C, end
    when their parent does, and are told to stop by :meth:`terminate`.

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
        # Not joined: a join that is interrupted takes its thread to have ended, and so does every later one (Python 3.12 and before).
        self._ends = [threading.Event() for _ in range(workers)]
        for number in range(workers):
            threading.Thread(target=self._run, args=(number,), daemon=True).start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``function(*args, **kwargs)``; everything must pickle, and ``function`` be importable."""
        if self._is_closing:
            raise RuntimeError("this WorkerPool is shut down")
        future: Future[Any] = Future()
        self._tasks.put((future, function, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers end after what is scheduled, or after what they are doing."""
        self._is_closing = True
        if cancel_futures:
            self._cancel_waiting()
        for _ in self._ends:
            self._tasks.put(None)
        if wait:
            for end in self._ends:
                end.wait()

    def terminate(self) -> None:
        """Stop at once: cancel what waits, and end the children, which clean up if they can."""
        self._is_closing = True
        self._cancel_waiting()
        children = list(self._children.values())
        # Asked twice: what the first request raises is lost where it comes in the middle of a finalizer.
        for stop in (subprocess.Popen.terminate, subprocess.Popen.terminate, subprocess.Popen.kill):
            for child in children:
                stop(child)
            children = [child for child in children if not _ends_soon(child)]
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
        """A thread's whole life; what it worked on is let go of before its end is told."""
        try:
            self._feed(number)
        finally:
            self._ends[number].set()

    def _feed(self, number: int) -> None:
        """One thread a worker: feed it, and give its answers back."""
        if hasattr(signal, "pthread_sigmask"):  # not on Windows; a child inherits it, and is deaf before it can say so
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        while (task := self._tasks.get()) is not None:
            future, function, args, kwargs = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                is_good, outcome = self._ask(number, (function, args, kwargs))
            except Exception as error:  # noqa: BLE001 - told to whoever waits for the future
                is_good, outcome = False, error
            if is_good:
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
        child = self._children.pop(number, None)
        if child is not None:
            _close(child)

    def _ask(self, number: int, call: object) -> tuple[bool, Any]:
        child = self._children.get(number)
        if child is None or child.poll() is not None:
            child = self._children[number] = _start(self._limits)
        assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - opened as pipes
        message = pickle.dumps(call)
        try:
            send_message(child.stdin, message)
            answer = receive_message(child.stdout)
        except (BrokenPipeError, ConnectionError):
            answer = None
        if answer is not None:
            is_good, outcome = pickle.loads(answer)  # noqa: S301 - from our own child
            return bool(is_good), outcome
        del self._children[number]
        raise WorkerCrashError(
            f"its worker process died ({_describe_exit(_close(child))}), most likely inside a native decoder"
        )


def serve(limits: Limits | None = None) -> None:
    """A child's whole life: read a call from stdin, answer on stdout, until stdin ends."""
    if limits is not None:
        limits.apply()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not run into the answers
    while (message := receive_message(sys.stdin.buffer)) is not None:
        try:
            function, args, kwargs = pickle.loads(message)  # noqa: S301 - from our own parent
            answer = pickle.dumps((True, function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001 - told to the parent
            answer = _pickle_error(error)
        try:
            send_message(answers, answer)
        except BrokenPipeError:
            return


def _stop(*_: object) -> None:
    sys.unraisablehook = lambda _: None  # we are about to end, and the parent sees to it that we do
    raise SystemExit(1)


def _pickle_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps((False, error))
        pickle.loads(data)  # noqa: S301 - an error that does not come back would hang the parent
    except Exception:  # noqa: BLE001 - any failure to pickle means the same
        return pickle.dumps((False, NdframesError(f"{type(error).__name__}: {error}")))
    return data


def _start(limits: Limits | None) -> subprocess.Popen[bytes]:
    command = child_command(f"from ndframes.system.workers import Limits, serve; serve({limits!r})")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603


def _ends_soon(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(_TERM_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _close(child: subprocess.Popen[bytes]) -> int:
    """Let a child come to its end, and return its status."""
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - opened as pipes
    try:
        child.stdin.close()
    except BrokenPipeError:
        pass  # it has ended before it read its last task
    status = child.wait()
    child.stdout.close()
    return status


def child_command(statements: str) -> list[str]:
    """What starts this interpreter once more, on ``statements``, with the modules of this process within reach."""
    path = [entry or os.getcwd() for entry in sys.path]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {statements}"]


def send_message(pipe: IO[bytes], message: bytes) -> None:
    """Write one message, for :func:`receive_message` at the other end."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def receive_message(pipe: IO[bytes]) -> bytes | None:
    """One message, or ``None`` where the other side has ended."""
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
