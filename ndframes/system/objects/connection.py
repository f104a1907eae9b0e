"""connect_store: object stores by their addresses, with one client for all threads of a process.

A process that was forked from one with obstore does not use it, and has a helper process instead; see
:mod:`ndframes.system.objects.helper`.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

from ...errors import StoreError
from ..process import IMPORTING, ForkAware
from .addresses import parse_address
from .client import Connector, StoreClient
from .credentials import check_credentials, environment_digest
from .helper import Helper, HelperRequests
from .obstore_requests import ObstoreRequests
from .request_threads import RequestThreads
from .retries import Limits

if TYPE_CHECKING:
    from .addresses import StoreAddress
    from .credentials import Credentials
    from .requests import StoreRequests
    from .store import ObjectStore

__all__ = ["connect_store", "threads_of_process"]
# A batch of 64 crops of 256 px is about 190 requests.
_MOST_REQUESTS = 192


def connect_store(
    url: str, *, credentials: Credentials | None = None, limits: Limits | None = None, allow_private: bool = True
) -> ObjectStore:
    """Connect to an object store. Nothing is sent before the first request.

    Args:
        url: its address: ``"s3://bucket/prefix"``, ``"az://container/prefix"``, ``"gs://bucket/prefix"``,
            ``"http(s)://host/prefix"``, or ``"memory://name"``, a store in the memory of this process for tests.
        credentials: a function that returns credentials and is called again when they expire, as obstore's credential
            providers; it must pickle. ``None``: those of the environment, of web identity, of the container or the instance.
        limits: how long the store is waited for.
        allow_private: whether a server of ``http(s)://`` may have an address that is not public: of a private network, of this
            machine, or of a cloud's own services. Others are then an error.

    Raises:
        StoreError: the address or the credentials are not allowed.
        MissingExtraError: obstore is not installed.

    Example:
        >>> store = connect_store("memory://example/v1")
        >>> etag = store.create("a/b.json", b"{}")
        >>> store.load("a/b.json").data
        b'{}'
    """
    client = StoreClient(
        parse_address(url), check_credentials(credentials), limits or Limits(), _CONNECTOR, allow_private
    )
    client.connect()
    return client


class _ProcessConnector(Connector, ForkAware):
    """The requests of this process, one for each store; a forked child begins with none."""

    def __init__(self) -> None:
        self._threads = RequestThreads(_MOST_REQUESTS)
        self._helper = Helper()
        # The process that first used obstore. Not reset in its children, which must not use it.
        self._obstore_pid: int | None = None
        self._reset()
        ForkAware.__init__(self)

    def __reduce__(self) -> str:
        return "_CONNECTOR"

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[Any, ...], StoreRequests] = {}

    @property
    def threads(self) -> RequestThreads:
        return self._threads

    def connect(
        self, address: StoreAddress, credentials: Credentials | None, limits: Limits, *, allow_private: bool
    ) -> StoreRequests:
        identity = None if credentials is None else pickle.dumps(credentials)
        key = (address, identity, limits, allow_private, environment_digest())
        with self._lock:
            requests = self._requests.get(key)
            if requests is None:
                requests = self._requests[key] = self._open(address, credentials, limits, allow_private)
            return requests

    def _open(
        self, address: StoreAddress, credentials: Credentials | None, limits: Limits, allow_private: bool
    ) -> StoreRequests:
        if address.is_http:
            with IMPORTING:
                from .http_requests import HttpRequests
            return HttpRequests(address, credentials, limits, allow_private=allow_private)
        if self._obstore_pid is None:
            self._obstore_pid = os.getpid()
        if self._obstore_pid == os.getpid():
            return ObstoreRequests(address, credentials, limits)
        if address.scheme == "memory":
            raise StoreError(
                f"{address.url}: a store in memory belongs to one process, and this one was forked from it"
            )
        return HelperRequests(self._helper, address, credentials, limits)

    def _after_fork_in_child(self) -> None:
        # Whatever belongs to obstore is never freed here, which might wait for its threads, too.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._requests))
        self._reset()
        if self._obstore_pid is None and "obstore" in sys.modules:  # others may have used it
            self._obstore_pid = os.getppid()


_CONNECTOR = _ProcessConnector()


def threads_of_process() -> RequestThreads:
    """The threads of this process that wait for the answers of stores."""
    return _CONNECTOR.threads
