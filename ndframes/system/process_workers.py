"""Worker processes that do tasks ahead of their consumer; the results come through shared memory."""

from __future__ import annotations

import os
import pickle
import select
import socket
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SharedMemoryError, WorkerDied, shorten
from .ahead import HELD_RESULTS, Result, Workers
from .channel import Channel
from .children import Child, StartMethod, describe_end, end_children, interrupts_blocked, start_child
from .process import ForkAware
from .ring import MemoryHandle, MemoryKind, Slots, map_memory, shared_memory_kind, unpack
from .serving import Greeting, Reply, Task, serve

if TYPE_CHECKING:
    from .channel import Message
    from .serving import Work

__all__ = ["ProcessWorkers"]
_COMMAND = "from ndframes.system.serving import serve_stdin; serve_stdin()"
# Where the end of a child wakes nobody.
_POLL_SECONDS = 0.25
# For a worker to notice that its connection has ended.
_NOTICE_SECONDS = 0.2


class _Pending(NamedTuple):
    number: int
    slot: int
    label: object


class _WorkerProcess:
    """One child process, its socket, and its slots, as its consumer sees them."""

    def __init__(self, method: StartMethod, greeting: Greeting, work: Work, depth: int) -> None:
        self._depth = depth
        self.slots = Slots(depth + HELD_RESULTS)
        self.pending: deque[_Pending] = deque()
        self.replies: deque[tuple[_Pending, Reply]] = deque()
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        try:
            with theirs:
                forked = (work,) if method == "fork" else ()
                self.child: Child = start_child(method, _COMMAND, serve, theirs, *forked)
            self.channel.send(pickle.dumps(tuple(greeting)))
        except BaseException:
            self.channel.close()
            raise

    def submit(self, number: int, payload: bytes, label: object) -> None:
        slot = self.slots.take()
        assert slot is not None  # noqa: S101 - receive() copies a result where its slot is the last one
        self.pending.append(_Pending(number, slot, label))
        self.channel.send(pickle.dumps(tuple(Task(number, slot, payload))))

    def receive(self) -> None:
        """Take what has arrived."""
        for message in self.channel.receive():
            reply = Reply(*pickle.loads(message.data))  # noqa: S301 - from our own worker
            if reply.number < 0:  # it could not start, and does nothing else
                raise _unpack_error(reply)
            pending = self.pending.popleft()
            assert pending.number == reply.number  # noqa: S101 - a worker does its tasks in their order
            if reply.new_memory is not None:
                self._assign_memory(pending.slot, reply.new_memory, message)
            self.replies.append((pending, reply))

    def _assign_memory(self, slot: int, memory: tuple[int, str | None], message: Message) -> None:
        nbytes, name = memory
        if name is None and message.descriptor in (None, -1):
            raise SharedMemoryError(
                "this process has no file descriptor left for the memory of a chunk; raise 'ulimit -n', or use fewer workers"
            )
        self.slots.assign(slot, map_memory(MemoryHandle(nbytes, message.descriptor, name)))

    def take_result(self) -> Result:
        """The result of the oldest task, which has arrived."""
        pending, reply = self.replies.popleft()
        if reply.is_error:
            self.slots.give_back(pending.slot)
            raise _unpack_error(reply)
        if not any(size for _, size in reply.packed.spans):
            self.slots.give_back(pending.slot)
            empty: Any = bytearray()
            value = pickle.loads(reply.packed.body, buffers=[empty for _ in reply.packed.spans])  # noqa: S301
            return Result(value, False, reply.waited_seconds)
        # The next tasks need slots, whatever the consumer holds: as many as it may submit before it receives again.
        is_copied = self.slots.free_count < self._depth - len(self.pending) - len(self.replies)
        value = unpack(reply.packed, self.slots.lend(pending.slot), is_copied=is_copied)
        return Result(value, is_copied, reply.waited_seconds)

    def died_error(self) -> WorkerDied:
        """The error for its end."""
        # Its socket may be closed a moment before it can be waited for.
        status = self.child.wait(1.0)
        label = self.pending[0].label if self.pending else None
        error = WorkerDied(f"worker process {self.child.pid} {describe_end(status)} while it read {shorten(label)}")
        error.pid, error.request = self.child.pid, label
        error.signal = -status if status is not None and status < 0 else None
        return error


class ProcessWorkers(Workers, ForkAware):
    """Worker processes, each with a socket and slots of shared memory of its own: nothing that one of them could leave locked.

    Args:
        work: picklable, unless the processes are forked.
        count: the number of processes; each is started with its first task.
        depth: how many tasks each may have.
        method: how they are started.
        memory_kind: of the slots.

    Raises:
        Exception: whatever pickling ``work`` raises.

    Example:
        >>> workers = ProcessWorkers(lambda number, allocate: [number, number], count=1, depth=2, method="fork")
        >>> workers.submit(3, label="three")
        >>> workers.receive().value
        [3, 3]
        >>> workers.close()
    """

    def __init__(
        self,
        work: Work,
        *,
        count: int,
        depth: int,
        method: StartMethod = "command",
        memory_kind: MemoryKind | None = None,
    ) -> None:
        Workers.__init__(self, count, depth)
        self._work = work
        self._method: StartMethod = method
        data = None if method == "fork" else pickle.dumps(work, protocol=5)
        self._greeting = Greeting(os.getpid(), memory_kind or shared_memory_kind(), data)
        self._processes: list[_WorkerProcess] = []
        # Also when this object is forgotten, or at exit.
        self._finalizer = weakref.finalize(self, _end_processes, self._processes, os.getpid())
        ForkAware.__init__(self)

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that were started."""
        return [process.child.pid for process in self._processes]

    def submit(self, payload: Any, label: object) -> None:
        """As :meth:`Workers.submit`; the payload must pickle."""
        data = pickle.dumps(payload, protocol=5)
        number = self.submitted % self.count
        if number == len(self._processes):
            with interrupts_blocked(self._method):  # until close() knows of it
                self._processes.append(_WorkerProcess(self._method, self._greeting, self._work, self.depth))
        self._processes[number].submit(self.submitted, data, label)
        self.submitted += 1

    def receive(self) -> Result:
        """As :meth:`Workers.receive`."""
        process = self._processes[self.received % self.count]
        if not process.replies:
            process.receive()
        while not process.replies:
            self._wait()
        self.received += 1
        return process.take_result()

    def close(self) -> None:
        """As :meth:`Workers.close`."""
        self._finalizer()

    def _wait(self) -> None:
        """Wait until a message arrives or can be sent, or a process ends."""
        poller = select.poll()
        for process in self._processes:
            poller.register(process.channel, select.POLLIN | (select.POLLOUT if process.channel.is_sending else 0))
            if process.child.sentinel is not None:
                poller.register(process.child.sentinel, select.POLLIN)
        poller.poll(1000 * _POLL_SECONDS)
        for process in self._processes:
            # Asked first: what it has sent before its end is then received below.
            has_ended = process.child.poll() is not None
            process.channel.flush()
            process.receive()
            if process.pending and (has_ended or process.channel.has_ended):
                raise process.died_error()

    def _after_fork_in_child(self) -> None:
        # The channels close themselves.
        for process in self._processes:
            process.child.forget()


def _end_processes(processes: list[_WorkerProcess], owner_pid: int) -> None:
    if os.getpid() != owner_pid:  # a forked copy, whose parent still needs them
        return
    for process in processes:
        process.channel.shut_down()
    try:
        end_children([process.child for process in processes], notice_seconds=_NOTICE_SECONDS)
    finally:
        while processes:
            process = processes.pop()
            process.child.release()
            process.channel.close()


def _unpack_error(reply: Reply) -> Exception:
    error: Exception = pickle.loads(reply.packed.body).error  # noqa: S301 - from our own worker
    return error
