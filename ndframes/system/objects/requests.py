"""StoreRequests: single requests to a store, each tried once; retries, threads and merging are built on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from .store import ObjectStatus, Place

__all__ = ["MOST_WHOLE_BYTES", "ListedPage", "ReadPart", "StoreRequests", "TransientError", "WriteCondition"]
#: Objects that are read as a whole are small. What somebody put in the place of one may be of any length.
MOST_WHOLE_BYTES = 1 << 24


class TransientError(Exception):
    """A request that failed in a way that is likely to pass. It never leaves this package.

    Args:
        reason: what happened, as a clause without a subject: ``"answered 503 Slow Down"``.
        is_silent: whether nothing came back for as long as allowed, so the request took a long time.
    """

    def __init__(self, reason: str, is_silent: bool = False) -> None:
        super().__init__(reason, is_silent)
        self.reason = reason
        self.is_silent = is_silent


class ReadPart(NamedTuple):
    """Bytes of an object, and what the store said of the object; ``None`` if the place lies beyond its end."""

    data: Buffer
    status: ObjectStatus | None


class ListedPage(NamedTuple):
    """Some objects of a listing, and whether they are the last ones."""

    statuses: list[ObjectStatus]
    is_last: bool


class WriteCondition(NamedTuple):
    """When an object may be written.

    Attributes:
        kind: ``"always"``, ``"missing"``: if there is no such object, or ``"match"``: if it is in the state ``etag``.
        etag: for ``"match"``.
    """

    kind: Literal["always", "missing", "match"]
    etag: str | None = None


class StoreRequests(Protocol):
    """Requests to one store; of one process, for all of its threads. Keys are relative to the prefix.

    Raises:
        TransientError: each method, for what is worth another try.
        StoreError: each method, for anything else. ``ObjectGoneError``: there is no such object, or it is in another state.
    """

    def read(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """An object, or some of its bytes: fewer where it ends.

        Raises:
            ObjectTooLongError: the whole object is longer than :data:`MOST_WHOLE_BYTES`.
        """

    def head(self, key: str) -> ObjectStatus | None:
        """What is known of an object; ``None``: it does not exist, or its bucket does not."""

    def write(self, key: str, data: Buffer, condition: WriteCondition) -> str | None:
        """Write an object; its ETag, an empty one if the store tells none; ``None`` if the condition does not hold."""

    def write_parts(self, key: str, path: str, part_bytes: int, is_stopped: threading.Event) -> str:
        """Write a file as an object in parts, four at a time; the MD5 digest of their MD5 digests, as ``<hex>-<count>``.

        Requests are tried again here. A ``TransientError`` means that the whole upload is worth another try.

        Args:
            key: the object.
            path: the file.
            part_bytes: the size of all parts but the last one.
            is_stopped: set when nobody waits for it any more; no further part is sent then, and there is no object.
        """

    def list_page(self, folder: str, after: str | None, cursor: str) -> ListedPage:
        """The next objects of a listing.

        Args:
            folder: whose objects are listed; empty: all.
            after: the key of the last object that was returned; ``None`` at the beginning.
            cursor: the same for all pages of a listing, and different for each listing.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, at most 1,000; those that do not exist are passed over."""
