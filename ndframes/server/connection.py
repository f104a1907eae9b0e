"""Connection: requests to a server, over connections that are kept open."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from ..errors import AccessError, NdframesError, RemoteError, shorten, to_seconds
from .problems import read_problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Result = TypeVar("_Result")

__all__ = ["RemoteServer", "parse_address"]
_SCHEMES = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
# A connection that has been idle is closed by the server at any time, also while a request is on its way.
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
_PATH_TOKEN = re.compile(r"(?P<path>.*)/k/(?P<token>[^/]+)")
_MOST_IDLE = 16
_MOST_PROBLEM_BYTES = 2**20
_FIRST_WAIT_SECONDS = 0.05


class _IdleConnections:
    """Connections of this process that no request uses. Taking and giving back need no lock, which a fork could leave locked."""

    def __init__(self) -> None:
        # One attribute, so that another thread never sees the process of one and the connections of the other.
        self._own: tuple[int, deque[http.client.HTTPConnection]] = os.getpid(), deque()

    def take(self) -> http.client.HTTPConnection | None:
        try:
            return self._find().pop()
        except IndexError:
            return None

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        connections = self._find()
        if len(connections) < _MOST_IDLE:
            connections.append(connection)
        else:
            connection.close()

    def _find(self) -> deque[http.client.HTTPConnection]:
        pid, connections = self._own
        if pid != os.getpid():
            # Those of the parent are forgotten. That closes none, since the parent has them, too.
            self._own = os.getpid(), deque()
            connections = self._own[1]
        return connections

    def close(self) -> None:
        while (connection := self.take()) is not None:
            connection.close()

    def __reduce__(self) -> tuple[type[_IdleConnections], tuple[()]]:
        return _IdleConnections, ()

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A server of frames. Any number of threads and processes may use it.

    Each request has a connection of its own. It is kept for the next request of this process, so that the number of connections
    is that of the requests at the same time. A forked child opens its own, and pickles hold none.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: its name or address.
        port: its port.
        path: before the path of each request; it ends without a slash.
        token: what it wants; ``None``: none.
        timeout: for how many seconds a request waits for an answer, and is sent again while the server is busy.
    """

    scheme: str
    host: str
    port: int
    path: str
    token: str | None = field(repr=False)
    timeout: float
    _idle: _IdleConnections = field(default_factory=_IdleConnections, repr=False, compare=False)

    @property
    def address(self) -> str:
        """Its address, without the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}/"

    def get_json(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            NdframesError: what the server answers instead.
            RemoteError: the server cannot be reached, or sends something else.
        """
        return self.ask("GET", path, None, lambda answer, _: _parse_json(answer.read()))

    def ask(
        self, method: str, path: str, content: Any, take: Callable[[http.client.HTTPResponse, str], _Result]
    ) -> _Result:
        """Send a request that changes nothing, and take the answer.

        Args:
            method: of HTTP.
            path: and query.
            content: sent as JSON; ``None``: nothing is sent.
            take: reads the answer; it is given the response and its media type.

        Raises:
            NdframesError: what the server answers instead.
            RemoteError: the server cannot be reached, is busy until the timeout, or its answer cannot be read.
        """
        body = None if content is None else json.dumps(content).encode()
        deadline = time.monotonic() + self.timeout
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                answer = self._send(method, path, body, take)
            except NdframesError:  # many of them are also OSErrors
                raise
            except (OSError, http.client.HTTPException) as error:
                raise self._error(error) from error
            if not isinstance(answer, _Busy):
                return answer
            if time.monotonic() + wait > deadline:
                raise answer.error
            time.sleep(wait)
            # Doubled up to what the server says, so that a short queue costs little.
            wait = min(2 * wait, answer.seconds)

    def _send(
        self, method: str, path: str, body: bytes | None, take: Callable[[http.client.HTTPResponse, str], _Result]
    ) -> _Result | _Busy:
        while True:
            connection = self._idle.take()
            is_used = connection is not None
            if connection is None:
                connection = _SCHEMES[self.scheme](self.host, self.port, timeout=self.timeout)
            is_whole = False
            try:
                try:
                    answer = self._begin(connection, method, path, body)
                except _STALE:
                    # A new connection that fails is an error, so the loop ends when all idle ones are used up.
                    if is_used:
                        continue
                    raise
                result = self._finish(answer, take)
                is_whole = answer.isclosed() and not answer.will_close
                return result
            finally:
                # What was not read to its end would be taken for the next answer.
                if is_whole:
                    self._idle.give_back(connection)
                else:
                    connection.close()

    def _begin(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "*/*"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if connection.sock is None:
            # http.client sets TCP_NODELAY, so that a small request does not wait for an acknowledgement.
            connection.connect()
        connection.request(method, self.path + path, body, headers)
        return connection.getresponse()

    def _finish(
        self, answer: http.client.HTTPResponse, take: Callable[[http.client.HTTPResponse, str], _Result]
    ) -> _Result | _Busy:
        if answer.status == 200:
            result = take(answer, answer.headers.get_content_type())
            # The end of the answer, after which the connection can be used again.
            answer.read(1)
            return result
        data = answer.read(_MOST_PROBLEM_BYTES)
        if answer.status == 401:
            raise AccessError(
                f"the server at {self.address} wants another token; give the whole address that it has printed"
            )
        if answer.status in (400, 403) and answer.headers.get_content_type() == "text/plain":
            raise AccessError(f"the server at {self.address} refuses: {data.decode(errors='replace').strip()}")
        is_json = answer.headers.get_content_type() == "application/json"
        error = read_problem(answer.status, _parse_json(data) if is_json else None)
        if answer.status == 503 and answer.headers.get("retry-after", "").isdecimal():
            return _Busy(error, float(answer.headers["retry-after"]))
        raise error

    def _error(self, error: Exception) -> RemoteError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self.timeout:g} s"
        if isinstance(error, http.client.IncompleteRead):
            reason = "the answer is not complete"
        return RemoteError(f"the server at {self.address} cannot be read: {reason}; is it still running?")


@dataclass(frozen=True, slots=True)
class _Busy:
    """An answer that says to ask again."""

    error: Exception
    seconds: float


def parse_address(address: str, *, token: str | None, timeout: float) -> RemoteServer:
    """The server at an address.

    Args:
        address: as the server has printed it, such as ``http://127.0.0.1:8000/#token=TOKEN``, or with the token in its path,
            ``http://127.0.0.1:8000/k/TOKEN/``.
        token: instead of that of the address.
        timeout: in seconds.

    Raises:
        RemoteError: it is not an address of HTTP.

    Example:
        >>> server = parse_address("http://localhost:8000/#token=a-token-of-this-test", token=None, timeout=30)
        >>> server.address, server.token
        ('http://localhost:8000/', 'a-token-of-this-test')
    """
    seconds = to_seconds("timeout", timeout)
    try:
        parts = urlsplit(address)
        port = parts.port
    except (AttributeError, TypeError, ValueError) as error:
        raise RemoteError(f"{shorten(address)} is not an address; give that which the server has printed") from error
    if not isinstance(address, str) or parts.scheme not in _SCHEMES or not parts.hostname or parts.query:
        # The fragment, which may hold the token, is left out.
        shown = shorten(str(address).partition("#")[0])
        raise RemoteError(f"{shown} is not an address such as http://127.0.0.1:8000/#token=...")
    path, in_path = parts.path.rstrip("/"), None
    # The path is shown in messages, which may end in a log.
    if (found := _PATH_TOKEN.fullmatch(path)) is not None:
        path, in_path = found["path"], found["token"]
    given = parse_qs(parts.fragment).get("token", [in_path])[0] if token is None else token
    default = 443 if parts.scheme == "https" else 80
    return RemoteServer(parts.scheme, parts.hostname, port or default, path, given, seconds)


def _parse_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise RemoteError(f"the server sent what is not JSON: {error}") from error
