"""The stores of sources: any bucket, and servers of plain files whose numbers are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .client import Connector, StoreClient
from .connection import connect_store, threads_of_process
from .retries import Limits
from .web_requests import WebRequests

if TYPE_CHECKING:
    from .addresses import StoreAddress
    from .request_threads import RequestThreads
    from .requests import StoreRequests
    from .rules import SourceRules
    from .store import ObjectStore

__all__ = ["open_store"]


def open_store(root: StoreAddress, rules: SourceRules) -> ObjectStore:
    """The store at an address without a prefix. Nothing is sent before the first request.

    Args:
        root: a bucket or a server.
        rules: tell which servers may be reached.
    """
    if root.is_http:
        return StoreClient(root, None, Limits(), _WebConnector(rules))
    return connect_store(root.url)


class _WebConnector(Connector):
    """The requests to one server of plain files."""

    def __init__(self, rules: SourceRules) -> None:
        self._rules = rules
        self._requests: dict[StoreAddress, WebRequests] = {}

    @property
    def threads(self) -> RequestThreads:
        """The threads of this process."""
        return threads_of_process()

    def connect(self, address: StoreAddress, credentials: object, limits: Limits) -> StoreRequests:  # noqa: ARG002
        """The requests to a server; they make their own connections in a forked child."""
        return self._requests.setdefault(address, WebRequests(address, self._rules, limits))
