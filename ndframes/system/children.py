"""Child processes: how they are started, in any of the ways that Python has, and how they are ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = [
    "Child",
    "StartMethod",
    "can_start_children",
    "child_command",
    "describe_end",
    "end_children",
    "interrupts_blocked",
    "start_child",
    "start_command",
]
#: ``"command"`` runs this interpreter with a command of our own; the others are those of :mod:`multiprocessing`.
StartMethod = Literal["command", "fork", "spawn", "forkserver"]
# For a child to clean up after a signal.
_STOP_SECONDS = 1.0
_POLL_SECONDS = 0.005


class Child(ABC):
    """A child process.

    Attributes:
        pid: its id.
        sentinel: a descriptor that becomes readable when it ends; ``None`` where the system has none.
    """

    pid: int
    sentinel: int | None = None

    def _watch(self, pid: int) -> None:
        self.pid = pid
        if hasattr(os, "pidfd_open"):
            try:
                self.sentinel = os.pidfd_open(pid)
            except OSError:  # an old kernel, a sandbox, or no descriptor left; poll() notices the end, later
                self.sentinel = None

    @abstractmethod
    def poll(self) -> int | None:
        """The exit status, negative for a signal; ``None`` while it runs."""

    @abstractmethod
    def wait(self, seconds: float) -> int | None:
        """:meth:`poll` after it has ended, or after some seconds."""

    @abstractmethod
    def send_signal(self, number: int) -> None:
        """Send it a signal if it runs.

        Raises:
            ProcessLookupError: it has ended, and something else has taken its exit status.
        """

    def release(self) -> None:
        """Release what belongs to it, after its end."""
        self.forget()

    def forget(self) -> None:
        """Close the sentinel. Also done in a forked copy of the parent, which must leave the child alone."""
        if self.sentinel is not None:
            os.close(self.sentinel)
            self.sentinel = None


class _CommandChild(Child):
    def __init__(self, statements: str, connection: socket.socket) -> None:
        # The socket becomes its stdin, so the command need not contain a number.
        self._process = subprocess.Popen(child_command(statements), stdin=connection.fileno())  # noqa: S603 - our own
        self._watch(self._process.pid)

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)


class _MultiprocessingChild(Child):
    def __init__(self, method: str, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
        import multiprocessing

        context = multiprocessing.get_context(method)
        # A daemon, so that an exit of the parent does not wait for it.
        self._process: BaseProcess = context.Process(target=target, args=arguments, daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        assert self._process.pid is not None  # noqa: S101 - it was started
        self._watch(self._process.pid)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def release(self) -> None:
        super().release()
        if self._process.exitcode is not None:
            self._process.close()


class _Running(Protocol):
    """A child process: :class:`Child` or ``subprocess.Popen``."""

    def poll(self) -> int | None: ...

    def send_signal(self, number: int, /) -> None: ...


def end_children(children: Iterable[_Running], *, notice_seconds: float = 0.0) -> None:
    """End child processes, all at the same time, and wait for them.

    Args:
        children: the processes.
        notice_seconds: for those that end by themselves, before the others get a signal. Then they get a second to clean up.
    """
    running = _wait(children, notice_seconds)
    # SIGTERM twice: if the first one arrives during a finalizer, Python drops the exception that it raises there.
    for number in (signal.SIGTERM, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        running = _wait([child for child in running if _send(child, number)], _STOP_SECONDS)


def _send(child: _Running, number: int) -> bool:
    try:
        child.send_signal(number)
    except ProcessLookupError:
        return False
    return True


def _wait(children: Iterable[_Running], seconds: float) -> list[_Running]:
    """Wait until children have ended; return those that run after some seconds."""
    until = time.monotonic() + seconds
    while (running := [child for child in children if child.poll() is None]) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return running


def describe_end(status: int | None) -> str:
    """How a child has ended, as a predicate.

    Args:
        status: as of :meth:`Child.poll`.

    Example:
        >>> describe_end(-9)
        'was killed by SIGKILL'
    """
    if status is None:  # it runs, or something else has taken its exit status
        return "ended its connection"
    if status >= 0:
        return f"ended with exit status {status} (see its output)"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def child_command(statements: str) -> list[str]:
    """The command that runs ``statements`` in this interpreter, with the ``sys.path`` of this process."""
    path = [entry or os.getcwd() for entry in sys.path]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {statements}"]


def can_start_children() -> bool:
    """Whether this system has sockets over which descriptors can be passed; Windows has not."""
    return hasattr(socket, "AF_UNIX") and hasattr(socket.socket, "sendmsg")


def start_child(
    method: StartMethod, statements: str, target: Callable[..., None], connection: socket.socket, *arguments: object
) -> Child:
    """Start a child; in :func:`interrupts_blocked`, so that Ctrl-C reaches it only when it ignores it.

    Args:
        method: how to start it.
        statements: what a child of the method ``"command"`` runs; the socket is its stdin.
        target: what a child of the other methods calls.
        connection: the child's end of a pair of sockets, the first argument of ``target``.
        *arguments: the others.
    """
    if method == "command":
        return start_command(statements, connection)
    return _MultiprocessingChild(method, target, (connection, *arguments))


def start_command(statements: str, connection: socket.socket) -> Child:
    """Start a child that runs ``statements``, with a socket as its stdin; as :func:`start_child` with the method ``"command"``."""
    return _CommandChild(statements, connection)


@contextmanager
def interrupts_blocked(method: StartMethod) -> Iterator[None]:
    """Hold back Ctrl-C in this thread while children are started. They inherit that.

    Args:
        method: how the children are started.
    """
    # Before, since the processes that multiprocessing needs would inherit it for ever, and with them all their children.
    if method == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
    if method in ("spawn", "forkserver"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
