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
        readers: how many reads are still to come after the next one. A batch announces all of its places, and each of its tasks
            announces its own once more before it reads them, so the first announcement is not counted: a place that is kept
            for a read that never comes would stay in memory.
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

    def announce(self, places: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch these places, each an offset and a length; each is kept until it is read.

        One that is announced again meanwhile is kept for that many reads, less one. A reader that comes too late requests it again.
        """
        wanted = [Place(*place) for place in dict.fromkeys(places)]
        with self._lock:
            new = [place for place in wanted if place not in self._fetches]
            for place in wanted:
                if place in self._fetches:
                    self._fetches[place].readers += 1
            begun = self._store.begin_fetch(self._key, new, etag=self._etag) if new else []
            for place, wait in zip(new, begun, strict=True):
                self._fetches[place] = _Fetch(wait)
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
        wait = self._take(Place(offset, length))
        return self.read_again(offset, length) if wait is None else wait()

    def read_again(self, offset: int, length: int) -> Buffer:
        """As :meth:`read`, but never from what was fetched before."""
        [wait] = self._store.begin_fetch(self._key, [Place(offset, length)], etag=self._etag)
        return wait()

    def forget(self) -> None:
        """Forget what was announced."""
        self._lock = threading.Lock()
        self._fetches: OrderedDict[Place, _Fetch] = OrderedDict()
        self._bytes = 0

    def _take(self, place: Place) -> Callable[[], Buffer] | None:
        with self._lock:
            fetch = self._fetches.get(place)
            if fetch is None:
                return None
            fetch.readers -= 1
            if fetch.readers <= 0:
                del self._fetches[place]
                self._bytes -= place.length
            return fetch.wait

    def _after_fork_in_child(self) -> None:
        # The threads that fetch are those of the parent.
        self.forget()
