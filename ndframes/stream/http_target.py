"""HttpTarget: a URL to which bodies are posted over a connection that is kept."""

from __future__ import annotations

import base64
import email.utils
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from .._version import __version__
from ..errors import StreamError, shorten

__all__ = ["Answer", "HttpTarget"]
_READ_BYTES = 1 << 16
_URL = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_TRANSIENT = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt to post ended.

    Attributes:
        is_success: whether the server took it: a status of 200 to 299.
        may_pass: whether another attempt may succeed.
        why: what happened, for messages.
        asked_seconds: the wait that the server asks for by ``Retry-After``.
    """

    is_success: bool
    may_pass: bool
    why: str
    asked_seconds: float = 0.0


class HttpTarget:
    """A URL to which bodies are posted, one after the other, by one thread.

    Args:
        url: ``http://`` or ``https://``. A user and password in it are sent as basic authentication.
        headers: that are sent besides those of JSON.
        timeout: seconds for connecting, and for the exchange after it.

    Attributes:
        name: the URL without user, password and query, for messages.

    Raises:
        StreamError: the URL or a header is not allowed.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None, timeout: float) -> None:
        parts = _split(url)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"ndframes/{__version__}",
            **_authorization(parts),
            **_check_headers(headers or {}),
        }
        self._timeout = timeout
        self._connection = _connect(parts, timeout)

    def post(self, body: bytes, key: str) -> Answer:
        """Post a body once.

        Args:
            body: JSON.
            key: sent as ``Idempotency-Key``: the same for each attempt, so that the server can tell that it has it already.
        """
        is_reused = self._connection.sock is not None
        try:
            try:
                return self._exchange(body, key)
            except ConnectionError:
                # The server has closed a connection that was kept, which it may do at any time.
                if not is_reused:
                    raise
                self.close()
                return self._exchange(body, key)
        # UnicodeError: the name of a host that cannot be one.
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            return Answer(False, not isinstance(error, ssl.SSLCertVerificationError), _describe(error))

    def close(self) -> None:
        """Close the connection; the next post opens another one."""
        self._connection.close()

    def _exchange(self, body: bytes, key: str) -> Answer:
        if self._connection.sock is None:
            self._connection.connect()
        limit = _Limit(self._connection.sock, self._timeout)
        try:
            self._connection.request("POST", self._path, body, {**self._headers, "Idempotency-Key": key})
            response = self._connection.getresponse()
            response.read(_READ_BYTES)
            if not response.isclosed():
                # Reading a long answer to its end is not worth it.
                self.close()
        except (OSError, http.client.HTTPException) as error:
            if limit.is_over:
                raise TimeoutError(f"no answer within {self._timeout:g} s") from error
            raise
        finally:
            limit.end()
        return _to_answer(response)


class _Limit:
    """Ends an exchange that takes too long: the limit of a socket begins anew with each byte that comes.

    Args:
        connected: the socket.
        seconds: from now.
    """

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self._socket = connected
        self.is_over = False
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        self._timer.cancel()

    def _shut(self) -> None:
        self.is_over = True
        try:
            # Not the method of an SSL socket, which also changes what the other thread is using.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already


def _split(url: str) -> SplitResult:
    why = "it is not a text of printable ASCII characters"
    if isinstance(url, str) and _URL.fullmatch(url):
        try:
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return parts
            why = f"its scheme is {parts.scheme!r}, its host {parts.hostname!r}"
        except ValueError as error:
            why = str(error)
    # Without the URL, which may have a password.
    raise StreamError(f"the URL is not allowed: {why}; give http:// or https://, a host and a path")


def _connect(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = str(parts.hostname)
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=ssl.create_default_context())


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            # Without the value, which may be a secret.
            raise StreamError(
                f"headers: {shorten(name)} or its value is not allowed; give texts of one line in Latin-1"
            )
    return dict(headers)


def _to_answer(response: http.client.HTTPResponse) -> Answer:
    status = response.status
    why = f"status {status} {response.reason}".rstrip()
    if 200 <= status < 300:
        return Answer(True, False, why)
    if 300 <= status < 400:
        return Answer(False, False, f"{why}; redirections are not followed")
    return Answer(False, status in _TRANSIENT or status >= 500, why, _read_wait(response.headers.get("Retry-After")))


def _read_wait(text: str | None) -> float:
    """The seconds of ``Retry-After``, which may be a date; 0 if there are none."""
    if text is None:
        return 0.0
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _describe(error: BaseException) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
