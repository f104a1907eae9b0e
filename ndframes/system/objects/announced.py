"""AnnouncedReads: parts of an object that are fetched before they are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..process import ForkAware
from .store import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from .store import ObjectStore

__all__ = ["AnnouncedReads"]
# What was announced and never read must not fill the memory.
_MOST_BYTES = 256 << 20


class _Fetch:
    """A place that is being fetched.

    Attributes:
        wait: waits for its bytes, and returns them.
        readers: how many announced reads have not come yet. Those of a batch are not counted: each of its tasks announces its own
            places once more before it reads them, and a place that is kept for a read that never comes would stay in memory.
    """

    __slots__ = ("readers", "wait")

    def __init__(self, wait: Callable[[], Buffer]) -> None:
        self.wait = wait
        self.readers = 0


class AnnouncedReads(ForkAware):
    """Reads of one object. Those that were announced together are fetched together, each place once for all its readers.

    Args:
        store: the object store.
        key: the object.
        etag: the state of the object; another one is an error. ``None`` accepts any.

    Example:
        >>> from ndframes.system.objects.connection import connect_store
        >>> store = connect_store("memory://announced")
        >>> etag = store.create("a", b"0123456789")
        >>> reads = AnnouncedReads(store, "a")
        >>> reads.announce([(0, 2), (6, 3)])
        >>> bytes(reads.read(6, 3)), bytes(reads.read(1, 4))
        (b'678', b'1234')
    """

    def __init__(self, store: ObjectStore, key: str, etag: str | None = None) -> None:
        self._store, self._key, self._etag = store, key, etag
        self.forget()
        super().__init__()

    def announce(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:
        """Begin to fetch places; each is kept until all who announced it have read it.

        Args:
            places: an offset and a length each.
            is_batch: whether they are announced once more by those who read them.
        """
        wanted = [Place(*place) for place in dict.fromkeys(places)]
        with self._lock:
            new = [place for place in wanted if place not in self._fetches]
            begun = self._store.begin_fetch(self._key, new, etag=self._etag) if new else []
            for place, wait in zip(new, begun, strict=True):
                self._fetches[place] = _Fetch(wait)
            for place in () if is_batch else wanted:
                self._fetches[place].readers += 1
            self._bytes += sum(place.length for place in new)
            while self._bytes > _MOST_BYTES:
                place, _ = self._fetches.popitem(last=False)
                self._bytes -= place.length

    def read(self, offset: int, length: int) -> Buffer:
        """Read a place, which may have been announced.

        Raises:
            ObjectGoneError: the object does not exist, or is in another state.
            StoreError: it cannot be read.
        """
        place = Place(offset, length)
        with self._lock:
            fetch = self._fetches.get(place)
        if fetch is None:
            return self.read_again(offset, length)
        try:
            return fetch.wait()
        finally:
            # Not before: others who announce the place meanwhile share the request.
            self._release(place, fetch)

    def read_again(self, offset: int, length: int) -> Buffer:
        """As :meth:`read`, but never from what was fetched before."""
        [wait] = self._store.begin_fetch(self._key, [Place(offset, length)], etag=self._etag)
        return wait()

    def forget(self) -> None:
        """Forget what was announced."""
        self._lock = threading.Lock()
        self._fetches: OrderedDict[Place, _Fetch] = OrderedDict()
        self._bytes = 0

    def _release(self, place: Place, fetch: _Fetch) -> None:
        with self._lock:
            fetch.readers -= 1
            if fetch.readers <= 0 and self._fetches.get(place) is fetch:
                del self._fetches[place]
                self._bytes -= place.length

    def _after_fork_in_child(self) -> None:
        # The threads that fetch are those of the parent.
        self.forget()
