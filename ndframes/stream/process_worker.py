"""ProcessWorker: an algorithm in a process of its own, which gets the frames in shared memory."""

from __future__ import annotations

import contextlib
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AlgorithmError, StreamError, describe_error
from ..system.ring import MemoryHandle, Packed, SlotWriter, map_memory, release_handle, unpack
from .algorithm import Failure, call, set_up, tear_down
from .peer import Peer
from .workers import QueueWorker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from .algorithm import Algorithm
    from .values import Frame

__all__ = ["ProcessWorker"]
_END = None
_END_SECONDS = 5.0
#: A process that dies so often without a value in between is not started again.
_DEATHS = 3


class ProcessWorker(QueueWorker):
    """Runs an algorithm in a process.

    A process that dies, or is killed because a batch takes longer than the limit, fails its batch; the next batch starts
    another one.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self._child: _Child | None = None
        self._deaths = 0
        self._end: AlgorithmError | None = None

    def stop(self, seconds: float) -> bool:
        """As :meth:`Worker.stop`; a process that does not end is killed."""
        if super().stop(seconds):
            return True
        self._kill()
        self.thread.join(_END_SECONDS)
        return not self.thread.is_alive()

    def abandon(self) -> None:
        """As :meth:`Worker.abandon`."""
        super().abandon()
        self._kill()

    def _kill(self) -> None:
        child = self._child
        if child is not None:
            child.peer.kill()

    def _open(self) -> None:
        self._child = _Child(self.algorithm)
        if self._abandoned.is_set():
            self._kill()
        try:
            self._child.await_setup()
        except AlgorithmError:
            self._child = None
            raise

    def _process(self, windows: Sequence[Sequence[Frame]]) -> list[Any]:
        if self._end is not None:
            raise self._end
        if self._child is None:
            self._open()
        assert self._child is not None  # noqa: S101
        try:
            values = self._child.call(windows)
        except _ChildEnded as error:
            self._child.close()
            self._child = None
            self._deaths += 1
            why = f"the worker process of algorithm {self.algorithm.name} {error}"
            if self._deaths == _DEATHS:
                self._end = AlgorithmError(f"{why}; it has died {_DEATHS} times in a row")
                raise self._end from error
            return [Failure(why, AlgorithmError(why))] * len(windows)
        self._deaths = 0
        return values

    def _close(self) -> None:
        if self._child is not None:
            self._child.end()


class _ChildEnded(Exception):  # noqa: N818
    """The process has ended, or was killed; the message says how."""


class _Child:
    """The process, with a pipe and a block of shared memory that both sides use again and again.

    Raises:
        AlgorithmError: the setup of the algorithm failed.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._writer = SlotWriter("shared_memory")
        self._unmapped: MemoryHandle | None = None
        try:
            self.peer = Peer(_serve, algorithm, f"the worker process of algorithm {algorithm.name}")
        except StreamError as error:
            raise AlgorithmError(f"{error}; worker='thread' needs no process") from error
        self._pipe = self.peer.pipe

    def await_setup(self) -> None:
        """Wait until the algorithm is set up.

        Raises:
            AlgorithmError: its setup failed; the process has ended.
        """
        try:
            answer = self._receive(None)
        except _ChildEnded as error:
            self.close()
            raise AlgorithmError(
                f"algorithm {self._algorithm.name} cannot be set up: its worker process {error}"
            ) from error
        if isinstance(answer, Failure):
            self.close()
            raise AlgorithmError(f"algorithm {self._algorithm.name} cannot be set up: {answer.why}")

    def call(self, windows: Sequence[Sequence[Frame]]) -> list[Any]:
        """The value of each window, or a failure."""
        self._writer.begin(0)
        # Pickling knows a frame of two windows again, so it is copied once.
        packed, handle = self._writer.pack(windows), self._writer.take_handle()
        if handle is not None:
            self._unmapped = handle
        try:
            self._pipe.send((packed, handle))
        except OSError:
            raise self._ended() from None
        answer = self._receive(self._algorithm.timeout)
        self._unmapped = None
        values: list[Any] = [answer] * len(windows) if isinstance(answer, Failure) else answer
        return values

    def end(self) -> None:
        """Close the algorithm, and end the process.

        Raises:
            AlgorithmError: ``close`` of the algorithm failed.
        """
        answer = None
        with contextlib.suppress(OSError, EOFError):
            self._pipe.send(_END)
            if self._pipe.poll(_END_SECONDS):
                answer = self._pipe.recv()
        self.close()
        if isinstance(answer, Failure):
            raise AlgorithmError(f"algorithm {self._algorithm.name}: close failed: {answer.why}")

    def close(self) -> None:
        """End the process, if need be by a signal."""
        self.peer.close(_END_SECONDS)
        if self._unmapped is not None:
            with contextlib.suppress(FileNotFoundError):  # the process had mapped it
                release_handle(self._unmapped)

    def _receive(self, seconds: float | None) -> Any:
        try:
            data = self._pipe.recv_bytes() if self._pipe.poll(seconds) else None
        except (EOFError, OSError):
            raise self._ended() from None
        if data is not None:
            return _load(data)
        self.peer.kill()
        raise _ChildEnded(f"was killed because a call took longer than its limit of {seconds} s")

    def _ended(self) -> _ChildEnded:
        return _ChildEnded(self.peer.describe_end())


def _serve(pipe: Connection, algorithm: Algorithm) -> None:
    """What the process does."""
    try:
        made = set_up(algorithm.function)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again in the process that started this one
        pipe.send(Failure(f"{type(error).__name__}: {error}"))
        return
    with contextlib.suppress(EOFError, OSError):  # the other process is gone
        pipe.send("ready")
        _serve_batches(pipe, algorithm, made)
        try:
            tear_down(made)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again in the process that started this one
            pipe.send(Failure(f"{type(error).__name__}: {error}"))
        else:
            pipe.send(_END)


def _serve_batches(pipe: Connection, algorithm: Algorithm, made: Any) -> None:
    memory: Any = b""
    while (item := pipe.recv()) is not _END:
        packed: Packed = item[0]
        if item[1] is not None:
            memory = map_memory(item[1])
        # Copied, so that the algorithm may keep its frames.
        windows = unpack(packed, np.frombuffer(memory, np.uint8), is_copied=True)
        values = [
            Failure(value.why) if isinstance(value, Failure) else value for value in call(made, algorithm, windows)
        ]
        pipe.send_bytes(_dump(values))


def _dump(values: list[Any]) -> bytes | memoryview:
    """Values pickled, or a failure in their place."""
    try:
        return ForkingPickler.dumps(values)
    except Exception as error:  # noqa: BLE001 - pickling runs methods of the user's objects
        return ForkingPickler.dumps(Failure(f"what it returned cannot be pickled: {describe_error(error)}"))


def _load(data: bytes) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - from our own child
    except Exception as error:  # noqa: BLE001 - unpickling runs functions of the user's objects
        return Failure(f"what it returned cannot be unpickled: {describe_error(error)}", error)
