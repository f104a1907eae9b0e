"""The main loop of a helper process: requests to stores, on behalf of the process that started it."""

from __future__ import annotations

import os
import pickle
import select
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import StoreError
from ..serving import take_stdin
from .credentials import Credentials, replace_environment
from .messages import Answer, Call, pack_answer, receive, send
from .obstore_requests import ObstoreRequests
from .request_threads import RequestThreads

if TYPE_CHECKING:
    import socket

    from .requests import StoreRequests

__all__ = ["serve_stdin"]
# As many as its parent has, which limits what is in flight.
_THREADS = 64
# For the end of a parent whose socket another process has a copy of.
_POLL_SECONDS = 1.0


def serve_stdin() -> NoReturn:
    """Serve until the process at the other end of the socket, which is the stdin, has ended."""
    parent_pid = os.getppid()
    # Ctrl-C reaches all processes of a terminal; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    connection = take_stdin()
    try:
        _Server(connection).run(parent_pid)
    finally:
        # Whatever its threads wait for, nobody needs it any more.
        os._exit(0)


class _Server:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stores: dict[int, StoreRequests | Exception] = {}
        self._threads = RequestThreads(_THREADS)
        self._sending = threading.Lock()

    def run(self, parent_pid: int) -> None:
        """Serve until the parent has ended."""
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        while os.getppid() == parent_pid:
            if not poller.poll(1000 * _POLL_SECONDS):
                continue
            message = receive(self._connection)
            if message is None:
                return
            number, body, _ = message
            call = Call(*pickle.loads(body))  # noqa: S301 - from our own parent
            if call.method == "connect":
                self._connect(call.store, *call.arguments)
            else:
                self._threads.submit(partial(self._answer, number, call))

    def _connect(self, store: int, address: Any, credentials: bytes | None, limits: Any, environment: Any) -> None:
        # Stores look at the environment when they are made, and here they are made one after the other.
        replace_environment(environment)
        try:
            self._stores[store] = ObstoreRequests(address, _load_credentials(credentials), limits)
        except Exception as error:  # noqa: BLE001 - raised by the parent
            self._stores[store] = error

    def _answer(self, number: int, call: Call) -> None:
        requests = self._stores[call.store]
        if isinstance(requests, Exception):
            answer = Answer("error", requests)
        else:
            try:
                never = (threading.Event(),) if call.method == "write_parts" else ()
                value = getattr(requests, call.method)(*call.arguments, *never)
                answer = Answer("part" if call.method == "read" else "value", value)
            except Exception as error:  # noqa: BLE001 - raised by the parent
                answer = Answer("error", error)
        body, data = pack_answer(answer)
        try:
            with self._sending:
                send(self._connection, number, body, data)
        except OSError:  # the parent has ended, which run() notices
            pass


def _load_credentials(data: bytes | None) -> Credentials | None:
    if data is None:
        return None
    try:
        credentials: Credentials = pickle.loads(data)  # noqa: S301 - from our own parent
    except Exception as error:
        raise StoreError(
            f"the function that returns the credentials cannot be loaded in a helper process ({type(error).__name__}), which a "
            "forked process needs; define it at the top level of a module that can be imported, and not in the main script"
        ) from error
    return credentials
