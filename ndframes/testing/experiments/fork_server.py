"""ForkServer: a process kept clean, to fork others from that may be killed.

A fresh interpreter with everything imported takes most of a second, a fork of one takes milliseconds; but a process that
has threads or open handles is no good parent. So there is one that does nothing but fork and wait.
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

from ...system.workers import child_command, receive_message, send_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["Ended", "ForkServer", "Task", "serve"]
# Whatever starts threads when it is imported must not: a process with threads is no good parent.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_PRELOADED = (
    "filelock",
    "tifffile",
    "imagecodecs",
    "ndframes.frames.frames",
    "ndframes.frames.prepare",
    "ndframes.cache.budget",
    "ndframes.cache.upkeep",
    "ndframes.cache.verify",
    "ndframes.formats.images.arrays",
    "ndframes.formats.tiled.cog_writer",
    "ndframes.formats.tiled.npy_writer",
    "ndframes.formats.images.raster",
)
_PR_SET_CHILD_SUBREAPER = 36
_READ_BYTES = 1 << 16


class Task(NamedTuple):
    """A call for a child of its own.

    Attributes:
        call: what to do; it and what it returns must pickle.
        signals: what befalls the child meanwhile: after so many seconds, this signal, to it alone or to its whole group.
    """

    call: Callable[[], Any]
    signals: Sequence[tuple[float, int, bool]] = ()


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
        status: its exit status; the negative number of the signal that killed it.
        value: what the call returned, ``None`` where it did not come to that.
        problem: a traceback, or what the child and its own children wrote to stderr.
        is_hung: whether it had to be killed since its time was over.
    """

    status: int
    value: Any
    problem: str
    is_hung: bool

    @property
    def ok(self) -> bool:
        """Whether the call returned."""
        return self.status == 0


class ForkServer:
    """Runs calls in forked children of a clean process, several at once, and waits for each so long and no longer.

    Example:
        >>> from functools import partial
        >>> with ForkServer() as fork_server:
        ...     [ended.value for ended in fork_server.run(partial(pow, 2, 3), partial(pow, 2, 4))]
        [8, 16]
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            child_command("from ndframes.testing.experiments.fork_server import serve; serve()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # a Ctrl-C is for us; the children end when we do
        )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(is_abrupt=kind is not None)

    def run(self, *calls: Task | Callable[[], Any], seconds: float = 60.0) -> list[Ended]:
        """Run all of these at once, and wait for all of them and for the processes that they start.

        Args:
            calls: functions to be called without arguments, importable, as ``functools.partial`` of them is too.
            seconds: what takes longer is killed, with all that it started.

        Returns:
            How each ended, in the order of the calls.

        Raises:
            RuntimeError: the clean process itself is gone.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        tasks = [call if isinstance(call, Task) else Task(call) for call in calls]
        try:
            send_message(self._process.stdin, pickle.dumps((tasks, seconds)))
        except BrokenPipeError as error:
            raise RuntimeError("the process that children are forked from has died") from error
        answer = receive_message(self._process.stdout)
        if answer is None:
            raise RuntimeError("the process that children are forked from has died")
        ended: list[Ended] = pickle.loads(answer)
        return ended

    def close(self, *, is_abrupt: bool = False) -> None:
        """End it; ``is_abrupt``: in the middle of whatever it does."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        if is_abrupt:
            self._process.terminate()
        with suppress(BrokenPipeError):  # it is gone already, and did not hear all that it was told
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@dataclass(slots=True)
class _Child:
    """A running child, and what came from it so far."""

    pid: int
    group: int
    signals: list[tuple[float, int, bool]]
    answer: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    open_pipes: int = 2
    is_hung: bool = False

    def send(self, number: int, *, to_group: bool) -> None:
        """Signal it; one that is gone minds nothing."""
        try:
            if to_group:
                os.killpg(self.group, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass


def serve() -> None:
    """The clean process: read calls from stdin, fork a child for each, answer on stdout, until stdin ends."""
    _adopt_orphans()
    for name in _PRELOADED:
        import_module(name)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (payload := receive_message(sys.stdin.buffer)) is not None:
        tasks, seconds = pickle.loads(payload)
        ended = _run_all(tasks, seconds)
        send_message(answers, pickle.dumps(ended))


def _adopt_orphans() -> None:
    """The children's children come to us when their parents die; else they might wait unburied, and pass for alive."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _run_all(tasks: Sequence[Task], seconds: float) -> list[Ended]:
    started = time.monotonic()
    children: list[_Child] = []
    statuses: dict[int, int] = {}
    signal.signal(signal.SIGTERM, lambda *_: _end_with(children))
    with selectors.DefaultSelector() as selector:
        for task in tasks:
            children.append(_start(task, started, selector))  # noqa: PERF401 - SIGTERM must find those started so far
        while any(child.open_pipes for child in children):
            _collect(selector, _send_due(children, started + seconds))
            _bury(statuses)
    while _bury(statuses):  # their own children too: one that is dead and not buried passes for alive
        time.sleep(0.001)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return [_judge(child, statuses[child.pid]) for child in children]


def _start(task: Task, started: float, selector: selectors.BaseSelector) -> _Child:
    answer_read, answer_write = os.pipe()
    # The children's children inherit stderr and nothing else: while it is open, one of them lives.
    stderr_read, stderr_write = os.pipe()
    pid = os.fork()
    if not pid:
        _live(task.call, answer_write, stderr_write)
    os.close(answer_write)
    os.close(stderr_write)
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):  # it did so itself, and is further on
        pass
    child = _Child(pid, pid, sorted((started + after, number, group) for after, number, group in task.signals))
    selector.register(answer_read, selectors.EVENT_READ, (child, child.answer))
    selector.register(stderr_read, selectors.EVENT_READ, (child, child.stderr))
    return child


def _live(call: Callable[[], Any], answer_write: int, stderr_write: int) -> None:
    """A child's whole life."""
    status = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
        os._exit(status)


def _collect(selector: selectors.BaseSelector, wait_seconds: float) -> None:
    for key, _ in selector.select(wait_seconds):
        child, target = key.data
        data = os.read(key.fd, _READ_BYTES)
        target += data
        if not data:
            child.open_pipes -= 1
            selector.unregister(key.fd)
            os.close(key.fd)


def _send_due(children: Sequence[_Child], deadline: float) -> float:
    """Send the signals whose time has come; how long it is to the next."""
    now = time.monotonic()
    for child in children:
        while child.signals and child.signals[0][0] <= now:
            _, number, to_group = child.signals.pop(0)
            child.send(number, to_group=to_group)
        if now > deadline and child.open_pipes:
            child.is_hung = True
            child.send(signal.SIGKILL, to_group=True)
    next_times = [child.signals[0][0] for child in children if child.signals]
    return max(0.001, min([deadline, now + 1.0, *next_times]) - now)


def _bury(statuses: dict[int, int]) -> bool:
    """Take leave of dead children, adopted ones among them; whether others live."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            statuses[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        return False
    return True


def _end_with(children: Sequence[_Child]) -> None:
    for child in children:
        child.send(signal.SIGKILL, to_group=True)
    os._exit(1)


def _judge(child: _Child, status: int) -> Ended:
    is_whole = status == 0 and bool(child.answer)
    value = pickle.loads(child.answer) if is_whole else None
    return Ended(status, value, child.stderr.decode(errors="replace"), child.is_hung)
