"""Processes: a service that several processes serve at one port."""

from __future__ import annotations

import logging
import os
import pickle
import select
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from ..errors import ServerError
from ..system.channel import Channel
from ..system.children import Child, can_start_children, describe_end, end_children, interrupts_blocked, start_command
from .access import make_access
from .metrics import Board
from .serving import listen, to_address
from .worker import READY, WorkerOrder

if TYPE_CHECKING:
    from ..frames.frames import Frames
    from .limits import ServiceLimits

__all__ = ["ServingProcesses"]
_LOG = logging.getLogger("ndframes.server")
_COMMAND = "from ndframes.server.worker import serve_stdin; serve_stdin()"
_START_SECONDS = 120.0
_POLL_SECONDS = 0.5
# A worker that ends so often is not replaced any more.
_MOST_ENDS = 5
_ENDS_SECONDS = 60.0
# For workers that do not end by themselves: two signals, and a second after each.
_KILL_SECONDS = 3.0


@dataclass(slots=True)
class _Worker:
    child: Child
    channel: Channel
    is_ready: bool = False
    error: Exception | None = None
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_ENDS))

    def receive(self) -> None:
        """Take what it has sent: that it is ready, or why it cannot start."""
        self.channel.flush()
        for message in self.channel.receive():
            if message.data == READY:
                self.is_ready = True
            else:
                self.error = pickle.loads(message.data).error  # noqa: S301 - from our own worker

    def describe_end(self) -> str:
        """How it has ended."""
        reason = "" if self.error is None else f": {self.error}"
        return f"worker process {self.child.pid} {describe_end(self.child.wait(1.0))}{reason}"

    def release(self) -> None:
        self.channel.close()
        self.child.release()


class ServingProcesses:
    """A service that several processes serve at one port, with one token, one cache, and counts that are added up.

    A process that ends is replaced, until it has ended five times within a minute: then all end. They also end if this process is
    killed.

    Args:
        frames: the images; they must pickle.
        count: the number of processes.
        port: 0 takes a free one.
        host: the address or name at which it listens.
        token: as of :func:`~ndframes.server.create_app`.
        hosts: likewise.
        limits: likewise, for each process.
        access_log: the file of the access log, ``"-"`` for stdout; ``None``: none.
        on_end: called in a thread, with the reason, when the processes have ended by themselves.

    Attributes:
        address: that opens its page and that :func:`ndframes.connect` takes. It ends in ``#token=TOKEN``.

    Raises:
        ServerError: the port cannot be had, or a process does not start.
        AccessError: the token or a host is not allowed.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        frames: Frames,
        *,
        count: int,
        port: int,
        host: str,
        token: str | None,
        hosts: Iterable[str],
        limits: ServiceLimits,
        access_log: str | None = None,
        on_end: Callable[[ServerError], None] | None = None,
    ) -> None:
        if not can_start_children():
            raise ServerError("this system cannot share a port between processes; serve with one")
        hosts = tuple(hosts)
        token = make_access(host, token=token, hosts=hosts).token
        self._order = WorkerOrder(frames, host, token, hosts, limits, access_log, count, 0, os.getpid())
        self._on_end = on_end
        self._ending = threading.Event()
        self._counts = _make_counts(count)
        try:
            self._listener = listen(host, port)
        except ServerError:
            self._counts.close()
            raise
        self.address = f"{to_address(self._listener, host)}#token={token}"
        self._workers: list[_Worker] = []
        self._thread = threading.Thread(target=self._watch, name="ndframes-workers", daemon=True)
        try:
            for number in range(count):
                self._workers.append(self._start(number))
            self._wait_until_ready()
        except BaseException:
            self._end(0.0)
            raise
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """End the processes: answers that are not sent after a moment are cut off, and what hangs is killed.

        Returns:
            Whether all have ended within so many seconds.
        """
        deadline = time.monotonic() + timeout
        self._ending.set()
        self._thread.join(timeout)
        return self._end(max(0.0, deadline - time.monotonic() - _KILL_SECONDS))

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [worker.child.pid for worker in self._workers]

    def _start(self, number: int) -> _Worker:
        order = pickle.dumps(replace(self._order, number=number), protocol=5)
        try:
            ours, theirs = socket.socketpair()
            channel = Channel(ours)
            # Closed by the channel, whether they are passed on or not.
            channel.send(order, os.dup(self._listener.fileno()))
            channel.send(b"", os.dup(self._counts.fileno()))
            with theirs, interrupts_blocked("command"):
                child = start_command(_COMMAND, theirs)
        except OSError as error:
            raise ServerError(f"a worker process cannot be started: {error.strerror or error}") from error
        return _Worker(child, channel)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not all(worker.is_ready for worker in self._workers):
            if time.monotonic() > deadline:
                raise ServerError(f"the worker processes did not start within {_START_SECONDS:g} s")
            for worker in self._wait():
                raise worker.error or ServerError(worker.describe_end())

    def _wait(self) -> list[_Worker]:
        """Wait a moment for messages; returns the workers that have ended."""
        poller = select.poll()
        for worker in self._workers:
            poller.register(worker.channel, select.POLLIN | (select.POLLOUT if worker.channel.is_sending else 0))
        poller.poll(1000 * _POLL_SECONDS)
        for worker in self._workers:
            worker.receive()
        return [worker for worker in self._workers if worker.channel.has_ended or worker.child.poll() is not None]

    def _watch(self) -> None:
        try:
            while not self._ending.is_set():
                for worker in self._wait():
                    if not self._ending.is_set():
                        self._replace(worker)
        except ServerError as error:
            _LOG.error("the service ends: %s", error)
            self._end(0.0)
            if self._on_end is not None:
                self._on_end(error)

    def _replace(self, worker: _Worker) -> None:
        """Start another worker in the place of one that has ended.

        Raises:
            ServerError: it has ended too often.
        """
        number = self._workers.index(worker)
        end_children([worker.child])  # it may have closed its connection only
        what = worker.describe_end()
        now = time.monotonic()
        worker.ends.append(now)
        if len(worker.ends) == _MOST_ENDS and now - worker.ends[0] < _ENDS_SECONDS:
            raise ServerError(f"{what}, the {_MOST_ENDS}th time within {_ENDS_SECONDS:g} s")
        worker.release()
        replacement = self._start(number)
        replacement.ends = worker.ends
        self._workers[number] = replacement
        _LOG.error("%s; process %d takes its place", what, replacement.child.pid)

    def _end(self, notice_seconds: float) -> bool:
        for worker in self._workers:
            worker.channel.shut_down()
        end_children([worker.child for worker in self._workers], notice_seconds=notice_seconds)
        have_ended = all(worker.child.poll() is not None for worker in self._workers)
        for worker in self._workers:
            worker.release()
        self._workers.clear()
        self._listener.close()
        self._counts.close()
        return have_ended


def _make_counts(count: int) -> IO[bytes]:
    """A file without a name for the counts of so many processes, which map it.

    Raises:
        ServerError: there is no space for it.
    """
    try:
        file = tempfile.TemporaryFile(prefix="ndframes-", buffering=0)  # noqa: SIM115 - open as long as the processes
        # Written, since a write to a mapped page for which there is no space would kill the process.
        file.write(bytes(Board.count_bytes(count)))
    except OSError as error:
        raise ServerError(f"the counts of the processes cannot be kept: {error.strerror or error}") from error
    return file
