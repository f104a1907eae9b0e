"""StoreClient: an object store for all threads of a process and its forked children, built on single requests."""

from __future__ import annotations

import os
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ObjectGoneError, StoreError
from .fetching import merge_places, slice_of
from .requests import WriteCondition
from .retries import Limits, Retries
from .store import LoadedObject, ObjectStore
from .transfers import download_object, upload_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from .addresses import StoreAddress
    from .credentials import Credentials
    from .request_threads import Pending, RequestThreads
    from .requests import ListedPage, ReadPart, StoreRequests
    from .store import ObjectStatus, Place

__all__ = ["Connector", "StoreClient"]
_Result = TypeVar("_Result")
# As many as S3 deletes by one request.
_DELETED_AT_ONCE = 1000


class StoreClient(ObjectStore):
    """An object store. It may be pickled: the pickle has the address, and the function that returns credentials.

    Args:
        address: of the store.
        credentials: a function that returns them; ``None``: those of the environment, the container or the instance.
        limits: how long the store is waited for.
        connector: gives a process its requests and threads.
        allow_private: whether an HTTP server may have an address that is not public.
    """

    def __init__(
        self,
        address: StoreAddress,
        credentials: Credentials | None,
        limits: Limits,
        connector: Connector,
        allow_private: bool = True,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._limits = limits
        self._connector = connector
        self._allow_private = allow_private
        self._retries = Retries(address.url, limits)
        self._connection: tuple[int, StoreRequests] | None = None
        self._has_bucket = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._address, self._credentials, self._limits, self._connector, self._allow_private)

    @property
    def url(self) -> str:
        """The address, without credentials, for messages."""
        return self._address.url

    def connect(self) -> None:
        """Do what the first request does before it is sent: raise errors of the address, and import obstore, in this thread."""
        _ = self.requests

    @property
    def requests(self) -> StoreRequests:
        """The requests of this process; others in a forked child."""
        connection = self._connection
        if connection is None or connection[0] != os.getpid():
            requests = self._connector.connect(
                self._address, self._credentials, self._limits, allow_private=self._allow_private
            )
            self._connection = connection = os.getpid(), requests
        return connection[1]

    @property
    def threads(self) -> RequestThreads:
        """The threads of this process that wait for answers."""
        return self._connector.threads

    def attempt(self, action: str, request: Callable[[StoreRequests], _Result]) -> _Result:
        """A request, tried again where that may help; in this thread.

        Args:
            action: what it does, for messages.
            request: the request.
        """
        return self._retries.run(lambda _: request(self.requests), action, self.threads.is_closing)

    def run(self, action: str, request: Callable[[StoreRequests], _Result]) -> _Result:
        """As :meth:`attempt`, in a thread of its own, so that Ctrl-C ends the wait."""
        self.connect()
        return self.threads.run(partial(self.attempt, action, request))

    def read_part(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """Some bytes of an object, in this thread."""
        return self.attempt(f"read {key!r}", lambda requests: requests.read(key, place, etag))

    def load(self, key: str) -> LoadedObject | None:
        """As :meth:`ObjectStore.load`."""
        try:
            part = self.run(f"read {key!r}", lambda requests: requests.read(key, None, None))
        except ObjectGoneError:
            return None
        assert part.status is not None  # noqa: S101 - only a place can lie beyond the end
        return LoadedObject(bytes(part.data), part.status)

    def begin_fetch(self, key: str, places: Sequence[Place], *, etag: str | None = None) -> list[Callable[[], Buffer]]:
        """As :meth:`ObjectStore.begin_fetch`."""
        self.connect()
        fetches: list[Callable[[], Buffer]] = [_nothing] * len(places)
        for run in merge_places(places):
            fetch = _Fetch(self, key, run.place, etag)
            for index in run.indices:
                fetches[index] = partial(slice_of, fetch, places[index].offset - run.place.offset, places[index].length)
        return fetches

    def create(self, key: str, data: bytes) -> str | None:
        """As :meth:`ObjectStore.create`."""
        condition = WriteCondition("missing")
        return self._checked(key, self.run(f"create {key!r}", lambda requests: requests.write(key, data, condition)))

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """As :meth:`ObjectStore.replace`.

        If the reply to the first try was lost, a later one finds its own object, which is recognised by its content.
        """
        condition = WriteCondition("match", etag)

        def attempt(number: int) -> str | None:
            found = self.requests.write(key, data, condition)
            if found is None and number and (loaded := self.requests.read(key, None, None)).data == data:
                assert loaded.status is not None  # noqa: S101 - the whole object was read
                return loaded.status.etag
            return found

        self.connect()
        run = partial(self._retries.run, attempt, f"replace {key!r}", self.threads.is_closing)
        try:
            return self._checked(key, self.threads.run(run))
        except ObjectGoneError:
            return None

    def _checked(self, key: str, etag: str | None) -> str | None:
        if etag == "":
            raise StoreError(f"{self.url}: the store tells no ETag of {key!r}, so changes of it cannot be noticed")
        return etag

    def upload(self, key: str, path: str) -> ObjectStatus:
        """As :meth:`ObjectStore.upload`."""
        return upload_object(self, key, path)

    def download(
        self, key: str, path: str, *, etag: str | None = None, progress: Callable[[int], None] | None = None
    ) -> ObjectStatus:
        """As :meth:`ObjectStore.download`."""
        return download_object(self, key, path, etag, progress)

    def scan(self, folder: str) -> Iterator[ObjectStatus]:
        """As :meth:`ObjectStore.scan`."""
        folder = folder.strip("/")
        cursor = uuid.uuid4().hex
        after: str | None = None
        is_last = False
        while not is_last:
            request = partial(_list_page, folder, after, cursor)
            page, is_last = self.run(f"list {folder!r}" if folder else "list it", request)
            yield from page
            last = page[-1].key if page else after
            if last == after and not is_last:
                raise StoreError(f"{self.url}: the listing of {folder!r} does not advance beyond {after!r}")
            after = last

    def status(self, keys: Sequence[str]) -> list[ObjectStatus | None]:
        """As :meth:`ObjectStore.status`."""
        self.connect()
        pending = [self.threads.submit(partial(self._head, key)) for key in keys]
        found = [one.result() for one in pending]
        if None in found:
            self._check_bucket()
        return found

    def _head(self, key: str) -> ObjectStatus | None:
        return self.attempt(f"look at {key!r}", lambda requests: requests.head(key))

    def _check_bucket(self) -> None:
        """Raise an error if there is no bucket, which an answer without a body does not tell."""
        if not self._has_bucket and not self._address.is_http:
            self.load(f"no-such-object-{uuid.uuid4().hex}")
            self._has_bucket = True

    def delete(self, keys: Iterable[str]) -> None:
        """As :meth:`ObjectStore.delete`."""
        listed = list(keys)
        parts = [listed[start : start + _DELETED_AT_ONCE] for start in range(0, len(listed), _DELETED_AT_ONCE)]
        for part in parts:
            self.run(f"delete {part[0]!r}", partial(_delete, part))


def _list_page(folder: str, after: str | None, cursor: str, requests: StoreRequests) -> ListedPage:
    return requests.list_page(folder, after, cursor)


def _delete(keys: Sequence[str], requests: StoreRequests) -> None:
    requests.delete(keys)


def _nothing() -> Buffer:
    return memoryview(b"")


class _Fetch:
    """A run of bytes that a thread is fetching."""

    def __init__(self, client: StoreClient, key: str, place: Place, etag: str | None) -> None:
        self._work = partial(client.read_part, key, place, etag)
        self._client = client
        self._pending: Pending[ReadPart] = client.threads.submit(self._work)

    def __call__(self) -> Buffer:
        if self._pending.is_lost:  # it was forked before the bytes arrived
            self._pending = self._client.threads.submit(self._work)
        return self._pending.result().data


class Connector:
    """Gives a process the requests of a store, and its threads; see :mod:`ndframes.system.objects.connection`."""

    @property
    def threads(self) -> RequestThreads:
        """The threads of this process."""
        raise NotImplementedError

    def connect(
        self, address: StoreAddress, credentials: Credentials | None, limits: Limits, *, allow_private: bool
    ) -> StoreRequests:
        """The requests of this process to a store."""
        raise NotImplementedError
