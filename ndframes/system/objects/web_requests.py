"""WebRequests: requests to servers of plain files over HTTP, which are only read."""

from __future__ import annotations

import email.utils
import http.client
import re
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from ...errors import NdframesError, ObjectGoneError, StoreError
from ..process import ForkAware
from .addresses import without_secrets
from .failures import RequestTarget, error_for_status
from .hosts import CheckedConnection, CheckedTLSConnection
from .requests import ListedPage, ReadPart, StoreRequests, TransientError, WriteCondition
from .store import ObjectStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Buffer

    from .addresses import StoreAddress
    from .retries import Limits
    from .rules import SourceRules
    from .store import Place

__all__ = ["WebRequests"]
_MOST_IDLE = 64
# Of an answer that is no file; the rest is not read.
_MOST_ERROR_BYTES = 4096
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_NO_RANGE, _NO_HEAD = 416, (403, 405, 501)
# The state of a file whose server tells no ETag, by its time.
_BY_TIME = "time:"


class WebRequests(StoreRequests, ForkAware):
    """Requests to a server of plain files.

    Redirects are not followed, and the server's number must be one that ``rules`` allow. A forked child makes connections of its own.

    Args:
        address: of the server.
        rules: tell which hosts may be reached.
        limits: how long an answer is waited for.
    """

    def __init__(self, address: StoreAddress, rules: SourceRules, limits: Limits) -> None:
        self._address = address
        self._rules = rules
        self._limits = limits
        self._forget()
        ForkAware.__init__(self)

    def read(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """As :meth:`StoreRequests.read`."""
        target = RequestTarget(self._address, "no credentials", f"read {key!r}", key)
        headers = _conditions(etag)
        if place is not None:
            headers["Range"] = f"bytes={place.offset}-{place.offset + place.length - 1}"
        status, found, body = self._send("GET", target, headers, most=None if place is None else place.length)
        if status == _NO_RANGE and place is not None:
            return ReadPart(b"", None)
        self._check_answer(status, found, body, target)
        if place is not None and status != http.client.PARTIAL_CONTENT and (place.offset or body is None):
            raise StoreError(
                f"{target.prefix}the server answered with more than was asked for, so it does not support range requests; use a "
                "server that does, or download the file"
            )
        state = self._status(target, found, None if body is None or status != http.client.OK else len(body))
        if etag is not None and state.etag != etag:
            raise ObjectGoneError(f"{target.prefix}the object is in another state than before")
        assert body is not None  # noqa: S101 - only an answer that is too long has none
        if place is not None and status == http.client.PARTIAL_CONTENT:
            _check_range(found, place, len(body), target)
        return ReadPart(body, state)

    def head(self, key: str) -> ObjectStatus | None:
        """As :meth:`StoreRequests.head`."""
        target = RequestTarget(self._address, "no credentials", f"look at {key!r}", key)
        status, found, body = self._send("HEAD", target, {}, most=0)
        if status in _NO_HEAD:  # some servers sign addresses for GET alone
            status, found, body = self._send("GET", target, {"Range": "bytes=0-0"}, most=1)
        try:
            if status != _NO_RANGE:
                self._check_answer(status, found, body, target)
        except ObjectGoneError:
            return None
        return self._status(target, found, None)

    def write(self, key: str, data: Buffer, condition: WriteCondition) -> str | None:  # noqa: ARG002
        """Not supported."""
        raise self._read_only()

    def write_parts(self, key: str, path: str, part_bytes: int) -> str:  # noqa: ARG002
        """Not supported."""
        raise self._read_only()

    def list_page(self, folder: str, after: str | None, cursor: str) -> ListedPage:  # noqa: ARG002
        """Not supported."""
        raise self._read_only()

    def delete(self, keys: Sequence[str]) -> None:  # noqa: ARG002
        """Not supported."""
        raise self._read_only()

    def _read_only(self) -> StoreError:
        return StoreError(f"{self._address.url}: a server of plain files is only read")

    # -- answers ----------------------------------------------------------------------------------------------------

    def _check_answer(
        self, status: int, headers: http.client.HTTPMessage, body: bytes | None, target: RequestTarget
    ) -> None:
        if 300 <= status < 400:
            where = without_secrets(urljoin(target.address.url, headers.get("Location", "elsewhere")))
            raise StoreError(
                f"{target.prefix}the server answered {status}, a redirect to {where}, which is not followed; give that address if "
                "you trust it"
            )
        if status not in (http.client.OK, http.client.PARTIAL_CONTENT):
            raise error_for_status(status, (body or b"").decode(errors="replace"), target)
        coding = headers.get("Content-Encoding", "identity").lower()
        if coding not in ("identity", ""):
            raise StoreError(f"{target.prefix}the server answered in the coding {coding!r}, which was not asked for")

    def _status(self, target: RequestTarget, headers: http.client.HTTPMessage, length: int | None) -> ObjectStatus:
        span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        told = span[3] if span else headers.get("Content-Length", length)
        if told is None or not str(told).isdecimal():
            raise StoreError(f"{target.prefix}the server does not tell how long the file is")
        written = headers.get("Last-Modified", "")
        try:
            modified = email.utils.parsedate_to_datetime(written).timestamp()
        except (TypeError, ValueError):
            modified = 0.0
        etag = headers.get("ETag") or (f"{_BY_TIME}{written}" if modified else None)
        return ObjectStatus(target.key or "", int(told), modified, etag)

    # -- connections ------------------------------------------------------------------------------------------------

    def _send(
        self, method: str, target: RequestTarget, headers: Mapping[str, str], *, most: int | None
    ) -> tuple[int, http.client.HTTPMessage, bytes | None]:
        """Send a request; its status, headers and body, which is ``None`` if it is longer than asked for."""
        assert target.key is not None  # noqa: S101
        path = "/" + quote(target.address.full_key(target.key), safe="/!$&'()*+,;=:@~")
        headers = {"Accept-Encoding": "identity", "User-Agent": "ndframes", **headers}
        connection, is_new = self._take()
        while True:
            try:
                connection.request(method, path, headers=dict(headers))
                answer = connection.getresponse()
                body = _read_body(answer, most)
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # The server may have closed an idle connection at any time.
                if is_new or not _is_reset(error):
                    raise _to_error(error) from None
                connection, is_new = self._make(), True
                continue
            except BaseException:
                connection.close()
                raise
            if body is None or answer.will_close:
                connection.close()
            else:
                self._give_back(connection)
            return answer.status, answer.headers, body

    def _take(self) -> tuple[CheckedConnection, bool]:
        try:
            return self._idle.pop(), False
        except IndexError:
            return self._make(), True

    def _give_back(self, connection: CheckedConnection) -> None:
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _make(self) -> CheckedConnection:
        host, colon, port = self._address.bucket.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = self._address.bucket, ""
        kind, default = (CheckedTLSConnection, 443) if self._address.scheme == "https" else (CheckedConnection, 80)
        times = {"connect_seconds": self._limits.connect_seconds, "idle_seconds": self._limits.idle_seconds}
        return kind(host, int(port or default), self._rules, **times)

    def _forget(self) -> None:
        self._idle: deque[CheckedConnection] = deque()

    def _after_fork_in_child(self) -> None:
        # The parent goes on with its connections; closing these descriptors does not end them.
        self._forget()


def _conditions(etag: str | None) -> dict[str, str]:
    """The headers by which a server answers for one state of a file only; a weak ETag never matches, so it is left out."""
    if etag is None or etag.startswith("W/"):
        return {}
    if etag.startswith(_BY_TIME):
        return {"If-Unmodified-Since": etag.removeprefix(_BY_TIME)}
    return {"If-Match": etag}


def _read_body(answer: http.client.HTTPResponse, most: int | None) -> bytes | None:
    """The body of an answer; that of an error is cut, and a longer one than asked for is not read."""
    if answer.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
        body = answer.read(_MOST_ERROR_BYTES)
        return body if answer.read(1) == b"" else None
    if most is None:
        return answer.read()
    if answer.length is not None:
        return None if answer.length > most else answer.read()
    body = answer.read(most + 1)
    return body if len(body) <= most else None


def _check_range(headers: http.client.HTTPMessage, place: Place, length: int, target: RequestTarget) -> None:
    span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if span is None or span[1] is None:
        raise StoreError(f"{target.prefix}the server answered with a part of the file without telling which")
    first, last, size = int(span[1]), int(span[2]), int(span[3])
    if first != place.offset or last != min(place.offset + place.length, size) - 1 or length != last - first + 1:
        raise StoreError(f"{target.prefix}the server answered with another part of the file than was asked for")


def _is_reset(error: Exception) -> bool:
    return isinstance(error, (ConnectionError, http.client.RemoteDisconnected, http.client.BadStatusLine))


def _to_error(error: Exception) -> Exception:
    if isinstance(error, TimeoutError):
        return TransientError("does not answer", is_silent=True)
    if isinstance(error, http.client.IncompleteRead):
        return TransientError("ended the connection before its answer was complete")
    if _is_reset(error):
        return TransientError("reset the connection")
    if isinstance(error, http.client.HTTPException):
        return TransientError(f"answered what is not HTTP ({error})")
    return error if isinstance(error, NdframesError) else TransientError(f"failed ({error})")
