"""Child processes that serve a socket, started in any of the ways that Python has."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from .workers import child_command

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["Child", "StartMethod", "can_start_children", "interrupts_blocked", "start_child"]
#: ``"command"`` runs this interpreter with a command of our own; the others are those of :mod:`multiprocessing`.
StartMethod = Literal["command", "fork", "spawn", "forkserver"]
# For a worker to notice that its connection has ended, and then to clean up after a signal.
_NOTICE_SECONDS = 0.2
_STOP_SECONDS = 1.0


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

    def end(self) -> None:
        """Wait for it to end, and end it if it is busy; release what belongs to it."""
        seconds = _NOTICE_SECONDS
        # SIGTERM twice: if the first one arrives during a finalizer, Python drops the exception that it raises there.
        for stop in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.wait(seconds) is not None:
                break
            try:
                self.send_signal(stop)
            except ProcessLookupError:
                break
            seconds = _STOP_SECONDS
        else:
            self.wait(seconds)
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

    def end(self) -> None:
        super().end()
        if self._process.exitcode is not None:
            self._process.close()


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
        return _CommandChild(statements, connection)
    return _MultiprocessingChild(method, target, (connection, *arguments))


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
