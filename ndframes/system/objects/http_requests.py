"""HttpRequests: requests for files behind a plain HTTP server, which is only read.

obstore has such a client, too, but it follows redirects to any host, and tells nothing of them. This one is sockets and Python,
so forked children need no helper for it: they open connections of their own.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from ...errors import NdframesError, ObjectGoneError, StoreAccessError, StoreError
from ...text import without_secrets
from .credentials import describe_credentials
from .failures import RequestTarget, check_part, check_state, check_whole, error_for_status
from .requests import ListedPage, ReadPart, StoreRequests, TransientError, WriteCondition
from .store import ObjectStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from .addresses import StoreAddress
    from .credentials import Credentials
    from .retries import Limits
    from .store import Place

__all__ = ["HttpRequests"]
_PATH_CHARACTERS = "/!$&'()*+,;=:@~"
_MOST_REDIRECTS = 5
# "²" is a digit to Python, and thousands of digits are an error.
_NUMBER = re.compile(r"[0-9]{1,18}")
_REDIRECTS = (301, 302, 303, 307, 308)
_READ_BYTES = 1 << 20
# Servers end connections that were idle for longer.
_IDLE_SECONDS = 30.0
# The head of an answer may take this many times as long as a server may be silent.
_HEAD_TIMES = 1.5
_INCOMPLETE = "ended the connection before its answer was complete"


class _Answer(NamedTuple):
    """A head of an answer, whose body is still to be read."""

    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection


class _TimedReads(io.RawIOBase):
    """The bytes of a connection. Until the head of an answer is complete, they must come within a time in all.

    Otherwise a server that sends a byte of its head now and then could hold a read for ever.
    """

    def __init__(self, incoming: Any, connection: socket.socket, seconds: float) -> None:
        super().__init__()
        self._incoming = incoming
        self._connection = connection
        self._idle_seconds = connection.gettimeout()
        self._deadline: float | None = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left if self._idle_seconds is None else min(left, self._idle_seconds))
        count: int | None = self._incoming.readinto(buffer)
        return count

    def end_of_head(self) -> None:
        """The body may take any time, as long as bytes arrive."""
        self._deadline = None
        if self._connection.fileno() >= 0:  # closed already if the server ends the connection after this answer
            self._connection.settimeout(self._idle_seconds)

    def close(self) -> None:
        self._incoming.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head must come within a time."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        idle_seconds = sock.gettimeout() or 0.0
        self._reads = _TimedReads(self.fp.detach(), sock, _HEAD_TIMES * idle_seconds)
        self.fp = io.BufferedReader(self._reads)

    def begin(self) -> None:
        super().begin()
        self._reads.end_of_head()


class HttpRequests(StoreRequests):
    """Requests for files behind an HTTP server.

    Args:
        address: of the server and the folder.
        credentials: a function that returns headers to send, as a dict; ``None``: no credentials are sent.
        limits: how long an answer is waited for.
        allow_private: whether the server may have an address that is not public. It is looked at when the connection is there, so
            that a name cannot stand for one address at first and for another one then.
    """

    def __init__(
        self, address: StoreAddress, credentials: Credentials | None, limits: Limits, *, allow_private: bool = True
    ) -> None:
        self._allow_private = allow_private
        self._address = address
        self._credentials = credentials
        self._limits = limits
        self._kind = describe_credentials(address, credentials)
        # The newest one is at the end.
        self._idle: deque[tuple[float, http.client.HTTPConnection]] = deque()
        self._proxy = _find_proxy(address)
        weakref.finalize(self, _close_all, self._idle)

    def read(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """As :meth:`StoreRequests.read`."""
        target = self._target(f"read {key!r}", key)
        headers = {}
        if place is not None:
            headers["Range"] = f"bytes={place.offset}-{place.offset + place.length - 1}"
        if etag is not None and not etag.startswith("W/"):  # a weak one never matches there
            headers["If-Match"] = etag
        answer = self._request("GET", target, headers)
        if answer.response.status == 416:
            self._give_back(answer)
            return ReadPart(b"", None)
        self._check(answer, target)
        try:
            size, length = _check_range(answer.response, place, target)
            status = _status(key, answer.response, size)
            check_state(status, etag, target)
            check_whole(length, place, target)
            data = _read_body(answer.response, length)
        except BaseException:
            _drop(answer)
            raise
        self._give_back(answer)
        part = ReadPart(memoryview(data).toreadonly(), status)
        check_part(part, place)
        return part

    def head(self, key: str) -> ObjectStatus | None:
        """As :meth:`StoreRequests.head`."""
        target = self._target(f"look at {key!r}", key)
        answer = self._request("HEAD", target, {})
        try:
            self._check(answer, target)
        except ObjectGoneError:
            return None
        size = answer.response.headers.get("Content-Length")
        answer.response.read()  # nothing, but the connection is then known to be free
        self._give_back(answer)
        if size is None or _NUMBER.fullmatch(size) is None:
            raise StoreError(f"{target.prefix}the server does not tell the size of the file; use a server that does")
        return _status(key, answer.response, int(size))

    def write(self, key: str, data: Buffer, condition: WriteCondition) -> str | None:  # noqa: ARG002 - of the protocol
        """Raise an error: nothing is written by HTTP."""
        self._refuse(f"write {key!r}")

    def write_parts(self, key: str, path: str, part_bytes: int, is_stopped: threading.Event) -> str:  # noqa: ARG002
        """Raise an error: nothing is written by HTTP."""
        self._refuse(f"write {key!r}")

    def list_page(self, folder: str, after: str | None, cursor: str) -> ListedPage:  # noqa: ARG002
        """Raise an error: an HTTP server does not list its files."""
        raise StoreError(
            f"{self._target(f'list {folder!r}').prefix}a web server does not list its files; give the folder or the bucket (s3://, az://, gs://) of which it is a copy"
        )

    def delete(self, keys: Sequence[str]) -> None:
        """Raise an error: nothing is deleted by HTTP."""
        self._refuse(f"delete {keys[0]!r}")

    def _refuse(self, action: str) -> NoReturn:
        raise StoreAccessError(
            f"{self._target(action).prefix}a store behind an HTTP server is read-only; use s3://, az:// or gs://"
        )

    def _target(self, action: str, key: str | None = None) -> RequestTarget:
        return RequestTarget(self._address, self._kind, action, key)

    def _check(self, answer: _Answer, target: RequestTarget) -> None:
        """Raise the error that an answer stands for."""
        status = answer.response.status
        if status in (200, 206):
            return
        _drop(answer)
        raise error_for_status(status, f"status code: {status}", target)

    def _request(self, method: str, target: RequestTarget, headers: dict[str, str]) -> _Answer:
        """Send a request, and follow redirects on the same server."""
        assert target.key is not None  # noqa: S101 - all requests are for a file
        path = quote(f"/{self._address.full_key(target.key)}", safe=_PATH_CHARACTERS)
        headers = {"Accept-Encoding": "identity", "User-Agent": "ndframes", **headers, **self._extra_headers(target)}
        if self._is_absolute and self._proxy is not None:
            headers.update(self._proxy[2])
        for _ in range(_MOST_REDIRECTS):
            answer = self._send(method, path, headers, target)
            location = answer.response.headers.get("Location")
            if answer.response.status not in _REDIRECTS or location is None:
                return answer
            _drop(answer)
            path = self._follow(path, location, target)
        raise StoreError(f"{target.prefix}the server redirects again and again; check the address")

    def _follow(self, path: str, location: str, target: RequestTarget) -> str:
        here = f"{self._address.scheme}://{self._address.bucket}"
        try:
            found = urlsplit(urljoin(f"{here}{path}", location))
        except ValueError:
            raise StoreError(f"{target.prefix}the server redirects to what is no address; check the address") from None
        if (found.scheme, found.netloc.lower()) != (self._address.scheme, self._address.bucket):
            shown = without_secrets(f"{found.scheme}://{found.netloc}")
            raise StoreError(
                f"{target.prefix}the server redirects to {shown}, and only redirects on {here} are followed; if you trust it, use an "
                "address there"
            )
        return found.path + (f"?{found.query}" if found.query else "")

    def _extra_headers(self, target: RequestTarget) -> dict[str, str]:
        if self._credentials is None:
            return {}
        try:
            return dict(self._credentials())
        except Exception as error:  # noqa: BLE001 - its message may contain what it was about to return
            raise StoreAccessError(
                f"{target.prefix}there are no credentials for it: {self._kind}, but it raised {type(error).__name__}"
            ) from None

    def _send(self, method: str, path: str, headers: dict[str, str], target: RequestTarget) -> _Answer:
        while True:
            connection = self._take_idle()
            is_new = connection is None
            connection = connection or self._new_connection()
            try:
                if is_new:
                    connection.connect()
                    self._check_peer(connection.sock, target)
                    connection.sock.settimeout(self._limits.idle_seconds)
                full_path = f"{self._address.scheme}://{self._address.bucket}{path}" if self._is_absolute else path
                connection.request(method, full_path, headers=headers)
                return _Answer(connection.getresponse(), connection)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if isinstance(error, StoreError):  # an OSError, too
                    raise
                # The server may have ended it while it was idle.
                if is_new or isinstance(error, TimeoutError):
                    raise _to_error(error, target) from None

    def _check_peer(self, connection: socket.socket, target: RequestTarget) -> None:
        if self._allow_private or self._proxy is not None:  # a proxy has rules of its own
            return
        host = connection.getpeername()[0]
        if not ipaddress.ip_address(host.partition("%")[0]).is_global:
            connection.close()
            raise StoreAccessError(
                f"{target.prefix}{self._address.bucket} is the address {host}, which is not public; name it to allow it"
            )

    @property
    def _is_absolute(self) -> bool:
        """Whether requests name the server, which a proxy for plain HTTP needs."""
        return self._proxy is not None and self._address.scheme == "http"

    def _take_idle(self) -> http.client.HTTPConnection | None:
        try:
            since, connection = self._idle.pop()
        except IndexError:
            return None
        if time.monotonic() - since < _IDLE_SECONDS:
            return connection
        connection.close()
        _close_all(self._idle)  # which are older
        return None

    def _new_connection(self) -> http.client.HTTPConnection:
        is_tls = self._address.scheme == "https"
        seconds = self._limits.connect_seconds
        host, port, proxy_headers = self._proxy or (self._address.bucket, None, {})
        if not is_tls:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
            connection.response_class = _Response
            return connection
        connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        connection.response_class = _Response
        if self._proxy is not None:
            connection.set_tunnel(self._address.bucket, headers=proxy_headers)
        return connection

    def _give_back(self, answer: _Answer) -> None:
        """Keep a connection whose answer was read completely."""
        if answer.response.isclosed() and not answer.response.will_close:
            self._idle.append((time.monotonic(), answer.connection))
        else:
            _drop(answer)


def _drop(answer: _Answer) -> None:
    """End an answer and its connection. The answer has the socket to itself if the server ends the connection after it."""
    answer.response.close()
    answer.connection.close()


def _close_all(connections: deque[tuple[float, http.client.HTTPConnection]]) -> None:
    while True:
        try:
            connections.pop()[1].close()
        except IndexError:
            return


def _find_proxy(address: StoreAddress) -> tuple[str, int | None, dict[str, str]] | None:
    """The host, the port and the headers of the proxy that the environment names for a server."""
    url = getproxies().get(address.scheme)
    if url is None or proxy_bypass(address.bucket):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.hostname is None:
        return None
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return parts.hostname, parts.port, headers


def _check_range(response: http.client.HTTPResponse, place: Place | None, target: RequestTarget) -> tuple[int, int]:
    """The size of the file, and how many bytes of it come."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise StoreError(
            f"{target.prefix}the server sends the file compressed, so its bytes cannot be addressed; switch that off"
        )
    length = response.length
    if length is None:
        raise StoreError(f"{target.prefix}the server does not tell the length of its answer; use a server that does")
    if place is None and response.status != 200:
        raise StoreError(f"{target.prefix}the server answered with a part of the file, which was not asked for")
    if place is None or (response.status == 200 and not place.offset and length <= place.length):
        return length, length
    unit, _, content_range = response.headers.get("Content-Range", "").partition(" ")
    span, _, size = content_range.partition("/")
    start, _, last = span.partition("-")
    if response.status != 206 or unit != "bytes" or not all(map(_NUMBER.fullmatch, (start, last, size))):
        raise StoreError(
            f"{target.prefix}the server answered with more than was asked for, so it does not support range requests; use a server "
            "that does"
        )
    if int(start) != place.offset or int(last) - int(start) + 1 != length or length > place.length:
        raise StoreError(f"{target.prefix}the server answered with bytes {span}, which were not asked for")
    return int(size), length


def _read_body(response: http.client.HTTPResponse, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    try:
        while view:
            count = response.readinto(view[:_READ_BYTES])
            if not count:
                raise TransientError(_INCOMPLETE)
            view = view[count:]
        response.read()  # which notes that it is complete
    except TimeoutError:
        raise TransientError("sent nothing more, in the middle of its answer", is_silent=True) from None
    except (OSError, http.client.HTTPException):
        raise TransientError(_INCOMPLETE) from None
    return data


def _status(key: str, response: http.client.HTTPResponse, size: int) -> ObjectStatus:
    text = response.headers.get("Last-Modified", "")
    try:
        modified = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        modified = 0.0
    return ObjectStatus(key, size, modified, response.headers.get("ETag"))


def _to_error(error: Any, target: RequestTarget) -> Exception:
    if isinstance(error, NdframesError):  # of a connection that must not be made
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreError(
            f"{target.prefix}the certificate of the server is not valid, or its authority is not known here"
        )
    if isinstance(error, ssl.SSLError):
        return StoreError(f"{target.prefix}there is no TLS connection to the server ({error.reason}); is it http://?")
    if isinstance(error, TimeoutError):
        return TransientError("does not answer", is_silent=True)
    if isinstance(error, socket.gaierror):
        return TransientError("has a host name that is not known")
    if isinstance(error, ConnectionRefusedError):
        return TransientError("refuses the connection")
    if isinstance(error, ConnectionError):  # also RemoteDisconnected
        return TransientError("reset the connection")
    if isinstance(error, OSError):
        return TransientError(f"cannot be connected to ({error.strerror})")
    return TransientError(_INCOMPLETE)
