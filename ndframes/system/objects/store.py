"""ObjectStore: what the cache and sources need of an object store, and the values that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

__all__ = ["LoadedObject", "ObjectStatus", "ObjectStore", "Place"]


class Place(NamedTuple):
    """Some bytes of an object."""

    offset: int
    length: int


class ObjectStatus(NamedTuple):
    """What is known of an object without reading it.

    Attributes:
        key: its name in the store, below the store's prefix.
        size_bytes: its length.
        modified: when it was last written, in seconds since 1970, by the clock of the store.
        etag: differs for different contents; ``None`` if the store does not tell one.
        version: the number of this version, where the store keeps several.
    """

    key: str
    size_bytes: int
    modified: float
    etag: str | None = None
    version: str | None = None


class LoadedObject(NamedTuple):
    """A whole object."""

    data: bytes
    status: ObjectStatus


class ObjectStore(Protocol):
    """Objects under one prefix of a bucket, or under one address of an HTTP server.

    Keys are relative to the prefix. All methods may be called by several threads at once, in forked children too. An error that is
    likely to pass is tried again, within bounds.

    Raises:
        StoreUnavailableError: each method, if the store does not answer, or answers with errors only.
        StoreAccessError: each method, if the credentials are refused, or there is no such bucket.
        StoreError: each method, if the store answers what it must not.
    """

    @property
    def url(self) -> str:
        """The address, without credentials, for messages."""

    def load(self, key: str) -> LoadedObject | None:
        """A whole object, which must be small; ``None`` if there is no such object."""

    def begin_fetch(self, key: str, places: Sequence[Place], *, etag: str | None = None) -> list[Callable[[], Buffer]]:
        """Begin to fetch parts of an object, without waiting.

        Neighbours are fetched by one request. All requests run at the same time, as far as the limit of the process allows.

        Args:
            key: the object.
            places: the parts.
            etag: the state of the object; another one is an error. ``None`` accepts any.

        Returns:
            A function for each place that waits for its bytes and returns them; fewer where the object ends. It raises
            ``ObjectGoneError`` if the object does not exist, or is in another state.
        """

    def create(self, key: str, data: bytes) -> str | None:
        """Create an object unless one of this name exists; the ETag, or ``None`` if it exists.

        If the reply of the store was lost, the call may find its own object. So the content must tell whose it is.
        """

    def replace(self, key: str, data: bytes, etag: str) -> str | None:
        """Replace an object that is in the state ``etag``; the new ETag, or ``None`` if it is in another state or missing."""

    def upload(self, key: str, path: str) -> ObjectStatus:
        """Write the file at ``path`` as an object, in parts. Compares what arrived with what was sent.

        Memory stays below 100 MB, however large the file is.
        """

    def download(
        self, key: str, path: str, *, etag: str | None = None, progress: Callable[[int], None] | None = None
    ) -> ObjectStatus:
        """Write an object to the new file ``path``, in parts that are fetched at the same time.

        Args:
            key: the object.
            path: the file; it is removed if the download fails.
            etag: the state of the object; ``None``: the present one.
            progress: called with the number of bytes that have arrived so far, by one thread at a time.

        Raises:
            ObjectGoneError: the object does not exist, or is in another state than ``etag``, or changes meanwhile.
        """

    def scan(self, folder: str) -> Iterator[ObjectStatus]:
        """All objects whose keys begin with ``folder`` and a slash; ``folder`` may be empty: all objects.

        They come in the order of the store: that of the keys, or, as in SeaweedFS, folder by folder. Both are the same in a folder
        without folders.
        """

    def status(self, keys: Sequence[str]) -> list[ObjectStatus | None]:
        """The status of each of these objects, asked for at the same time; ``None``: there is none."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are passed over."""
