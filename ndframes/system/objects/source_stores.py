"""The stores of sources: any bucket, and servers of plain files, of which rules say what may be reached."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import SourceAccessError, StoreAccessError
from ..process import ForkAware
from .client import Connector, StoreClient
from .connection import connect_store, threads_of_process
from .failures import RequestTarget, check_state
from .hosts import CheckedConnection, CheckedTLSConnection
from .http_requests import HttpRequests
from .retries import Limits

if TYPE_CHECKING:
    import http.client

    from .addresses import StoreAddress
    from .request_threads import RequestThreads
    from .requests import ReadPart, StoreRequests
    from .rules import SourceRules
    from .store import ObjectStatus, ObjectStore, Place

__all__ = ["open_store"]
# The state of a file whose server tells no ETag, by its time.
_BY_TIME = "time:"


def open_store(root: StoreAddress, rules: SourceRules) -> ObjectStore:
    """The store at an address without a prefix. Nothing is sent before the first request.

    Args:
        root: a bucket or a server.
        rules: tell which servers may be reached.
    """
    if root.is_http:
        return StoreClient(root, None, Limits(), _SourceConnector(rules))
    return connect_store(root.url)


class _SourceConnector(Connector, ForkAware):
    """The requests to one server of plain files; a forked child makes connections of its own."""

    def __init__(self, rules: SourceRules) -> None:
        self._rules = rules
        self._requests: _SourceRequests | None = None
        self._lock = threading.Lock()
        ForkAware.__init__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._rules,)

    @property
    def threads(self) -> RequestThreads:
        """The threads of this process."""
        return threads_of_process()

    def connect(
        self,
        address: StoreAddress,
        credentials: object,  # noqa: ARG002 - none are sent
        limits: Limits,
        *,
        allow_private: bool = True,  # noqa: ARG002 - the rules say who is reached
    ) -> StoreRequests:
        """The requests of this process to the server."""
        with self._lock:
            if self._requests is None:
                self._requests = _SourceRequests(address, self._rules, limits)
            return self._requests

    def _after_fork_in_child(self) -> None:
        self._requests, self._lock = None, threading.Lock()


class _SourceRequests(HttpRequests):
    """Requests for files behind an HTTP server that rules allow: also the number of the server, and where it redirects to.

    A proxy that the environment names is used. It resolves names by itself, so it must refuse what it must not reach.
    """

    def __init__(self, address: StoreAddress, rules: SourceRules, limits: Limits) -> None:
        super().__init__(address, None, limits)
        self._rules = rules

    def read(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """As :meth:`StoreRequests.read`."""
        is_by_time = etag is not None and etag.startswith(_BY_TIME)
        part = super().read(key, place, None if is_by_time else etag)
        if part.status is None:
            return part
        status = _with_state(part.status)
        check_state(status, etag, RequestTarget(self._address, self._kind, f"read {key!r}", key))
        return part._replace(status=status)

    def head(self, key: str) -> ObjectStatus | None:
        """As :meth:`StoreRequests.head`."""
        status = super().head(key)
        return None if status is None else _with_state(status)

    def _follow(self, path: str, location: str, target: RequestTarget) -> str:
        found = super()._follow(path, location, target)
        try:
            self._rules.check(f"{self._address.scheme}://{self._address.bucket}{urlsplit(found).path}")
        except SourceAccessError as error:
            raise StoreAccessError(f"{target.prefix}the server redirects to another file: {error.args[0]}") from error
        return found

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._proxy is not None:
            return super()._new_connection()
        kind = CheckedTLSConnection if self._address.scheme == "https" else CheckedConnection
        return kind(self._address.bucket, self._rules, self._limits.connect_seconds)


def _with_state(status: ObjectStatus) -> ObjectStatus:
    """The status with its time in place of an ETag that the server does not tell, so that ranges are of one state."""
    if status.etag is not None or not status.modified:
        return status
    return status._replace(etag=f"{_BY_TIME}{status.modified}")
