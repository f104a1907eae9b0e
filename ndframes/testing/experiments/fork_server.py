"""ForkServer: run calls in forked children that may be killed, from one clean parent process.

Starting an interpreter with everything imported takes most of a second, forking one takes milliseconds. But a process with
threads or open handles must not fork: the child would inherit locked locks. So one process does nothing but fork and wait.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ...system.children import child_command
from ...system.workers import receive_message, send_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["ChildResult", "ForkServer", "Task", "TimedSignal", "serve"]
# Libraries that start threads on import must not do so here: the parent has to be single-threaded when it forks.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# What children would otherwise import once each, the lazily loaded parts of numpy and imagecodecs included.
_PRELOADED = (
    "filelock",
    "imagecodecs._deflate",
    "imagecodecs._zlib",
    "ndframes.cache.budget",
    "ndframes.cache.upkeep",
    "ndframes.cache.verify",
    "ndframes.formats.images.arrays",
    "ndframes.formats.images.raster",
    "ndframes.formats.tiled.cog_writer",
    "ndframes.formats.tiled.npy_writer",
    "ndframes.formats.tiled.tile_cache",
    "ndframes.formats.tiled.tile_reader",
    "ndframes.formats.tiled.volume_writer",
    "ndframes.frames.frames",
    "ndframes.frames.prepare",
    "numpy.random",
    "resource",
    "tifffile",
)
_PR_SET_CHILD_SUBREAPER = 36
_READ_BYTES = 1 << 16


class TimedSignal(NamedTuple):
    """A signal to send to a running child.

    Attributes:
        after_seconds: when, counted from the start of the run.
        number: which signal.
        to_group: whether the child's own children get it too.
    """

    after_seconds: float
    number: int
    to_group: bool = False


class Task(NamedTuple):
    """A call to run in a child of its own.

    Attributes:
        call: a function without arguments; the function and its result must pickle.
        signals: sent to the child while it runs.
    """

    call: Callable[[], Any]
    signals: Sequence[TimedSignal] = ()


class ChildResult(NamedTuple):
    """How a child ended.

    Attributes:
        status: the exit status, or the negative number of the signal that killed the child.
        value: what the call returned; ``None`` if it did not return.
        problem: a traceback, and whatever the child and its own children wrote to stdout and stderr.
        timed_out: whether the child was killed because its time was over.
    """

    status: int
    value: Any
    problem: str
    timed_out: bool

    @property
    def ok(self) -> bool:
        """Whether the call returned."""
        return self.status == 0


class ForkServer:
    """Runs calls in forked children of a clean process, several at once, each with a time limit.

    Example:
        >>> from functools import partial
        >>> with ForkServer() as fork_server:
        ...     [result.value for result in fork_server.run(partial(pow, 2, 3), partial(pow, 2, 4))]
        [8, 16]
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            child_command("from ndframes.testing.experiments.fork_server import serve; serve()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # a terminal's Ctrl-C must not reach the children; close() ends them
        )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(is_abrupt=kind is not None)

    def run(self, *calls: Task | Callable[[], Any], seconds: float = 60.0) -> list[ChildResult]:
        """Run all calls at once; wait for the children and for every process that they start.

        Args:
            calls: tasks, or importable functions without arguments, such as a ``functools.partial`` of one.
            seconds: the time limit, after which a child and its own children are killed.

        Returns:
            The results, in the order of the calls.

        Raises:
            RuntimeError: the server process has died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        tasks = [call if isinstance(call, Task) else Task(call) for call in calls]
        try:
            send_message(self._process.stdin, pickle.dumps((tasks, seconds)))
        except BrokenPipeError as error:
            raise RuntimeError("the fork server process has died") from error
        answer = receive_message(self._process.stdout)
        if answer is None:
            raise RuntimeError("the fork server process has died")
        results: list[ChildResult] = pickle.loads(answer)
        return results

    def close(self, *, is_abrupt: bool = False) -> None:
        """End the server process; with ``is_abrupt``, kill the running children as well."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        if is_abrupt:
            self._process.terminate()
        with suppress(BrokenPipeError):  # the process is dead, and closing flushes what it did not read
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@dataclass(slots=True)
class _Child:
    """A running child, and its output so far."""

    pid: int
    signals: list[TimedSignal]
    answer: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    open_pipes: int = 2
    timed_out: bool = False

    def send(self, number: int, *, to_group: bool) -> None:
        """Send a signal, unless the child is gone."""
        try:
            if to_group:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass


def serve() -> None:
    """The server process: read calls from stdin, fork a child for each, answer on stdout, until stdin ends."""
    _become_subreaper()
    for name in _PRELOADED:
        import_module(name)
    answers = os.fdopen(os.dup(1), "wb")
    # From here on, prints go to stderr: stdout carries the answers.
    os.dup2(2, 1)
    while (payload := receive_message(sys.stdin.buffer)) is not None:
        tasks, seconds = pickle.loads(payload)
        send_message(answers, pickle.dumps(_run_all(tasks, seconds)))


def _become_subreaper() -> None:
    """Have orphaned grandchildren reparented to this process.

    Otherwise init adopts them. Until it reaps them, which a container's init may never do, they are zombies that still
    have a process id, and the cache would take them for running.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _run_all(tasks: Sequence[Task], seconds: float) -> list[ChildResult]:
    started = time.monotonic()
    children: list[_Child] = []
    statuses: dict[int, int] = {}
    signal.signal(signal.SIGTERM, lambda *_: _kill_all(children))
    with selectors.DefaultSelector() as selector:
        for task in tasks:
            children.append(_start(task, started, selector))  # noqa: PERF401 - SIGTERM must find those started so far
        while any(child.open_pipes for child in children):
            _read_pipes(selector, _send_due_signals(children, started + seconds))
            _reap(statuses)
    # The grandchildren too: see _become_subreaper.
    while _reap(statuses):
        time.sleep(0.001)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return [_to_result(child, statuses[child.pid]) for child in children]


def _start(task: Task, started: float, selector: selectors.BaseSelector) -> _Child:
    answer_read, answer_write = os.pipe()
    # Grandchildren inherit stderr and nothing else: as long as this pipe is open, one of them is alive.
    stderr_read, stderr_write = os.pipe()
    pid = os.fork()
    if not pid:
        _run_child(task.call, answer_write, stderr_write)
    # Before the next fork: a later child would inherit these ends, and the pipes would stay open after this one died.
    os.close(answer_write)
    os.close(stderr_write)
    # Parent and child both set the group, since either may be first to need it; the one that comes second may fail.
    with suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)
    due = sorted(item._replace(after_seconds=started + item.after_seconds) for item in task.signals)
    child = _Child(pid, due)
    selector.register(answer_read, selectors.EVENT_READ, (child, child.answer))
    selector.register(stderr_read, selectors.EVENT_READ, (child, child.stderr))
    return child


def _run_child(call: Callable[[], Any], answer_write: int, stderr_write: int) -> None:
    """Run the call in the child, send its pickled result, and exit."""
    status = 1
    try:
        os.setpgid(0, 0)
        # The server's handler would kill the siblings.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # The server's stdin carries its calls, which a child must not read.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stderr_write, 1)
        os.dup2(stderr_write, 2)
        os.close(stderr_write)
        try:
            answer = pickle.dumps(call())
            status = 0
        except BaseException:
            answer = pickle.dumps(None)
            traceback.print_exc()
        sys.stderr.flush()
        with os.fdopen(answer_write, "wb") as pipe:
            pipe.write(answer)
    finally:
        # Not sys.exit: the server's exit handlers and buffers were forked as well, and must not run twice.
        os._exit(status)


def _read_pipes(selector: selectors.BaseSelector, wait_seconds: float) -> None:
    for key, _ in selector.select(wait_seconds):
        child, target = key.data
        data = os.read(key.fd, _READ_BYTES)
        target += data
        if not data:
            child.open_pipes -= 1
            selector.unregister(key.fd)
            os.close(key.fd)


def _send_due_signals(children: Sequence[_Child], deadline: float) -> float:
    """Send the signals that are due, and kill what is late; returns the seconds until the next one."""
    now = time.monotonic()
    for child in children:
        while child.signals and child.signals[0].after_seconds <= now:
            due = child.signals.pop(0)
            child.send(due.number, to_group=due.to_group)
        if now > deadline and child.open_pipes:
            child.timed_out = True
            child.send(signal.SIGKILL, to_group=True)
    next_times = [child.signals[0].after_seconds for child in children if child.signals]
    # At least a millisecond, since a deadline in the past would make a busy loop.
    return max(0.001, min([deadline, now + 1.0, *next_times]) - now)


def _reap(statuses: dict[int, int]) -> bool:
    """Collect the exit statuses of dead children and adopted grandchildren; returns whether any are still running."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            statuses[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        return False
    return True


def _kill_all(children: Sequence[_Child]) -> None:
    for child in children:
        child.send(signal.SIGKILL, to_group=True)
    # A signal handler may interrupt anything, so nothing is cleaned up here.
    os._exit(1)


def _to_result(child: _Child, status: int) -> ChildResult:
    is_whole = status == 0 and bool(child.answer)
    value = pickle.loads(child.answer) if is_whole else None
    return ChildResult(status, value, child.stderr.decode(errors="replace"), child.timed_out)
