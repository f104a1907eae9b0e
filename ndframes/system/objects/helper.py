"""HelperRequests: requests to a store by a helper process, for forked processes that must not use obstore.

obstore runs its requests in threads of its own. A forked child has copies of their queues and sockets, but not the threads: its
requests would wait for ever, and those of its parent with them. So a child of a process with obstore starts a new process,
which has obstore to itself. Nothing of the parent is used.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from ...errors import StoreError
from ..children import Child, interrupts_blocked, start_command
from ..process import ForkAware
from .credentials import relevant_environment
from .messages import Call, receive, send, unpack_answer
from .requests import StoreRequests, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from .addresses import StoreAddress
    from .credentials import Credentials
    from .requests import ListedPage, ReadPart, WriteCondition
    from .retries import Limits
    from .store import ObjectStatus, Place

__all__ = ["Helper", "HelperRequests"]
_COMMAND = "from ndframes.system.objects.helper_main import serve_stdin; serve_stdin()"


class HelperRequests(StoreRequests):
    """Requests to one store, by the helper of this process.

    Args:
        helper: of this process.
        address: of the store.
        credentials: a function that returns them, which the helper calls.
        limits: how long an answer is waited for.
    """

    def __init__(self, helper: Helper, address: StoreAddress, credentials: Credentials | None, limits: Limits) -> None:
        self._helper = helper
        self._introduction = (address, credentials and pickle.dumps(credentials), limits, relevant_environment())

    def _call(self, method: str, *arguments: object) -> Any:
        return self._helper.call(method, self._introduction, arguments)

    def read(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """As :meth:`StoreRequests.read`."""
        part: ReadPart = self._call("read", key, place, etag)
        return part

    def head(self, key: str) -> ObjectStatus | None:
        """As :meth:`StoreRequests.head`."""
        status: ObjectStatus | None = self._call("head", key)
        return status

    def write(self, key: str, data: Buffer, condition: WriteCondition) -> str | None:
        """As :meth:`StoreRequests.write`."""
        etag: str | None = self._call("write", key, bytes(data), condition)
        return etag

    def write_parts(self, key: str, path: str, part_bytes: int, is_stopped: threading.Event) -> str:  # noqa: ARG002
        """As :meth:`StoreRequests.write_parts`."""
        # An upload that is stopped goes on in the helper until this process ends.
        digest: str = self._call("write_parts", key, os.path.abspath(path), part_bytes)
        return digest

    def list_page(self, folder: str, after: str | None, cursor: str) -> ListedPage:
        """As :meth:`StoreRequests.list_page`."""
        page: ListedPage = self._call("list_page", folder, after, cursor)
        return page

    def delete(self, keys: Sequence[str]) -> None:
        """As :meth:`StoreRequests.delete`."""
        self._call("delete", list(keys))


class Helper(ForkAware):
    """The helper process of this process, started with the first call, and again if it was killed.

    It ends with this process.
    """

    def __init__(self) -> None:
        self._reset()
        super().__init__()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._running: _RunningHelper | None = None

    def call(self, method: str, introduction: tuple[Any, ...], arguments: tuple[object, ...]) -> Any:
        """Call a method of the requests to a store in the helper.

        Args:
            method: its name.
            introduction: of the store: what a call of ``"connect"`` has as arguments.
            arguments: of the method.

        Raises:
            TransientError: the helper was killed; the next call starts another one.
        """
        with self._lock:
            if self._running is None or self._running.has_ended:
                self._running = _RunningHelper()
            running = self._running
        return running.call(method, introduction, arguments)

    def _after_fork_in_child(self) -> None:
        running = self._running
        self._reset()
        if running is not None:
            running.forget()


class _Waiting:
    """A thread that waits for an answer."""

    __slots__ = ("answer", "is_answered")

    def __init__(self) -> None:
        self.is_answered = threading.Event()
        self.answer: tuple[bytearray, bytearray] | None = None


class _RunningHelper:
    """A helper process, its socket, and the thread that receives its answers."""

    def __init__(self) -> None:
        self.has_ended = False
        self._numbers = count()
        self._waiting: dict[int, _Waiting] = {}
        self._stores: list[tuple[Any, ...]] = []
        self._sending = threading.Lock()
        self._socket, theirs = socket.socketpair()
        try:
            with theirs, interrupts_blocked("command"):
                self._child: Child = start_command(_COMMAND, theirs)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, OSError):
                raise StoreError(
                    f"the helper process, by which a forked process uses object stores, does not start: {error}"
                ) from error
            raise
        threading.Thread(target=self._receive, name="ndframes-helper", daemon=True).start()

    def call(self, method: str, introduction: tuple[Any, ...], arguments: tuple[object, ...]) -> Any:
        waiting = _Waiting()
        number = next(self._numbers)
        self._waiting[number] = waiting
        try:
            with self._sending:
                store = self._introduce(introduction)
                send(self._socket, number, pickle.dumps(tuple(Call(method, store, arguments))))
            if self.has_ended:  # it ended before it was known that something waits
                raise TransientError("was asked by a helper process that has ended")
            waiting.is_answered.wait()
        except OSError as error:
            self.has_ended = True
            raise TransientError("was asked by a helper process that has ended") from error
        finally:
            self._waiting.pop(number, None)
        if waiting.answer is None:
            raise TransientError("was asked by a helper process that has ended")
        return unpack_answer(*waiting.answer)

    def _introduce(self, introduction: tuple[Any, ...]) -> int:
        """The number of a store, which the helper is told first."""
        if introduction not in self._stores:
            self._stores.append(introduction)
            number = len(self._stores) - 1
            # Errors of it are answers to the calls of the store.
            send(self._socket, next(self._numbers), pickle.dumps(tuple(Call("connect", number, introduction))))
            return number
        return self._stores.index(introduction)

    def _receive(self) -> None:
        while (message := receive(self._socket)) is not None:
            number, body, data = message
            waiting = self._waiting.get(number)
            if waiting is not None:
                waiting.answer = body, data
                waiting.is_answered.set()
        self.has_ended = True
        for waiting in list(self._waiting.values()):
            waiting.is_answered.set()
        self._child.wait(1.0)
        self._child.release()

    def forget(self) -> None:
        """Leave it to the process that started it."""
        self._socket.close()
        self._child.forget()
