"""The worker's side: do tasks that arrive over a socket, and put the results into slots of shared memory."""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .channel import Channel
from .portable_error import PortableError, add_note
from .ring import MemoryKind, Packed, SlotWriter
from .threads import declare_worker_process
from .workers import EndedBySignal, exit_on_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from .._typing import Array

__all__ = ["Allocate", "Greeting", "Reply", "Task", "Work", "serve", "serve_stdin", "take_stdin"]
#: Makes an array of a shape and dtype where the consumer gets it without a copy.
Allocate = Callable[["Sequence[int]", "np.dtype[Any]"], "Array"]
#: Does a task: its payload and a place for the result in, a result out.
Work = Callable[[Any, Allocate], Any]


class Greeting(NamedTuple):
    """The first message to a worker.

    Attributes:
        parent_pid: the process that started it.
        memory_kind: of the slots.
        work: the pickled work; ``None`` if the worker was forked with it.
    """

    parent_pid: int
    memory_kind: MemoryKind
    work: bytes | None


class Task(NamedTuple):
    """A task: its number, the slot for its result, and the pickled payload."""

    number: int
    slot: int
    payload: bytes


class Reply(NamedTuple):
    """The result of a task.

    Attributes:
        number: of the task; -1 if the worker cannot start.
        packed: the result, or a :class:`~ndframes.system.portable_error.PortableError`.
        is_error: which of them it is.
        new_memory: the bytes and the name of the slot's memory if it is new; a descriptor comes with the message.
        waited_seconds: for how long the worker had nothing to do before it.
    """

    number: int
    packed: Packed
    is_error: bool
    new_memory: tuple[int, str | None] | None
    waited_seconds: float


def serve_stdin() -> NoReturn:
    """The main loop of a worker whose stdin is the socket."""
    serve(take_stdin())


def take_stdin() -> socket.socket:
    """The socket that is the stdin of a child of the method ``"command"``; stdin is empty from now on."""
    connection = socket.socket(fileno=os.dup(0))
    # Nothing that reads from stdin may take bytes from the socket.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return connection


def serve(connection: socket.socket, work: Work | None = None) -> NoReturn:
    """The main loop of a worker: do tasks until the consumer ends, or shuts the connection down. Does not return.

    Args:
        connection: the worker's end.
        work: does the tasks; ``None``: the first message contains it.
    """
    status, is_terminated = 1, False
    try:
        _prepare_process()
        _Server(Channel(connection), work).run()
        status = 0
    except EndedBySignal:
        is_terminated = True
    except SystemExit:
        pass  # from the work
    except BaseException:  # noqa: BLE001 - the process ends here, and this is the place to say why
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        if is_terminated:
            # The consumer is to see that a signal ended this process, which an exit status would not tell.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        # Not sys.exit: exit handlers of the parent were forked as well, and tearing down an interpreter takes long.
        os._exit(status)


def _prepare_process() -> None:
    # Ctrl-C reaches all processes of a terminal; the consumer ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, exit_on_signal)
    # Forked from an event loop, this process would report its signals to that loop.
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    declare_worker_process()


class _Server:
    def __init__(self, channel: Channel, work: Work | None) -> None:
        self._channel = channel
        self._work = work
        self._writer: SlotWriter | None = None
        self._poller = select.poll()
        self._waited_seconds = 0.0

    def run(self) -> None:
        """Do tasks until the consumer has ended."""
        waiting: deque[bytes] = deque()
        while self._wait(select.POLLIN if not waiting else 0):
            # Looked at before each task, so that none is begun for a consumer that has ended.
            waiting.extend(message.data for message in self._channel.receive())
            if self._channel.has_ended:
                return
            if not waiting:
                continue
            data = waiting.popleft()
            if self._writer is None:
                self._greet(Greeting(*pickle.loads(data)))  # noqa: S301 - from our own parent
            else:
                self._do(Task(*pickle.loads(data)))  # noqa: S301
            while self._channel.is_sending and self._wait(select.POLLOUT):
                self._channel.flush()

    def _greet(self, greeting: Greeting) -> None:
        if hasattr(os, "pidfd_open"):
            # A process that the consumer forked may hold a copy of its end, and then the socket outlives the consumer.
            try:
                self._poller.register(os.pidfd_open(greeting.parent_pid), select.POLLIN)
            except ProcessLookupError:
                self._channel.close()
                return
            except OSError:  # an old kernel or a sandbox
                pass
        self._writer = SlotWriter(greeting.memory_kind)
        self._waited_seconds = 0.0
        if greeting.work is not None:
            loader = _Loader(io.BytesIO(greeting.work))
            try:
                self._work = loader.load()
            except Exception as error:  # noqa: BLE001 - sent to the consumer
                add_note(error, f"while worker process {os.getpid()} loaded its work, at {loader.latest_name}")
                self._reply(-1, error)

    def _do(self, task: Task) -> None:
        assert self._writer is not None  # noqa: S101 - made by the greeting
        if self._work is None:  # it could not be loaded
            return
        self._writer.begin(task.slot)
        try:
            result = self._work(_load_payload(task.payload), self._writer.allocate)
            packed, is_error = self._writer.pack(result), False
        except Exception as error:  # noqa: BLE001 - sent to the consumer
            packed, is_error = _pack_error(error), True
        self._send(task.number, packed, is_error=is_error)

    def _reply(self, number: int, error: Exception) -> None:
        self._send(number, _pack_error(error), is_error=True)

    def _send(self, number: int, packed: Packed, *, is_error: bool) -> None:
        assert self._writer is not None  # noqa: S101 - made by the greeting
        handle = self._writer.take_handle()
        waited, self._waited_seconds = self._waited_seconds, 0.0
        new_memory = None if handle is None else (handle.nbytes, handle.name)
        reply = Reply(number, packed, is_error, new_memory, waited)
        self._channel.send(pickle.dumps(tuple(reply)), None if handle is None else handle.descriptor)

    def _wait(self, events: int) -> bool:
        """Wait for events of the socket, if there are any to wait for; returns whether the consumer lives."""
        started = time.perf_counter()
        self._poller.register(self._channel, events)
        # Without events, this only asks whether the consumer has ended.
        found = self._poller.poll(None if events else 0)
        self._waited_seconds += time.perf_counter() - started
        return all(descriptor == self._channel.fileno() for descriptor, _ in found)


class _Loader(pickle.Unpickler):
    """Loads a pickle from our own parent, and knows the class or function that it looked up last."""

    latest_name = "its beginning"

    def find_class(self, module: str, name: str) -> Any:
        """Called for every class and function."""
        self.latest_name = f"{module}.{name}"
        return super().find_class(module, name)


def _load_payload(data: bytes) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - from our own parent
    except Exception as error:
        add_note(
            error,
            f"while worker process {os.getpid()} loaded a task; what a main module defines needs start_method='fork' or "
            "worker='thread'",
        )
        raise


def _pack_error(error: Exception) -> Packed:
    return Packed(pickle.dumps(PortableError(error)), [])
