"""SourceAccess: reaches sources, which are files at paths or objects at addresses."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import OrderedDict, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import SourceError, SourceMissingError, StoreError
from ..process import IMPORTING
from ..sources import hash_file
from ..stamp import SourceStamp, changed_error, stat_source
from .addresses import StoreAddress, is_url
from .rules import SourceRules
from .source_errors import as_source_errors
from .store import Place

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from ..sources import Algorithm
    from .object_file import ObjectFile
    from .store import ObjectStatus, ObjectStore

__all__ = ["RECHECK_SECONDS", "SourceAccess"]
#: For how long the state of an object is trusted unless it is said.
RECHECK_SECONDS = 60.0
_MOST_SEEN = 65536
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_HASHED_BYTES = 8 << 20
_HASHED_AHEAD = 4


class _Seen(NamedTuple):
    """What was seen of an object, and when, by the monotonic clock."""

    status: ObjectStatus
    stamp: SourceStamp
    checked: float


class SourceAccess:
    """Reaches sources: files by their paths, and objects by those addresses that rules allow.

    It pickles small, and threads and forked children may use it.

    Args:
        rules: the addresses that are allowed.
        recheck_seconds: for how long :meth:`recheck` trusts the state of an object that was seen.

    Attributes:
        rules: the addresses that are allowed.
        recheck_seconds: as given.

    Example:
        >>> SourceAccess().stamp(__file__) == stat_source(__file__)
        True
        >>> SourceAccess().stamp("s3://imagery/a.tif")
        Traceback (most recent call last):
        ndframes.errors.SourceAccessError: s3://imagery/a.tif is an address, and no address may be read unless it is allowed; ...
    """

    def __init__(self, rules: SourceRules | None = None, recheck_seconds: float = RECHECK_SECONDS) -> None:
        self.rules = rules or SourceRules()
        self.recheck_seconds = recheck_seconds
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._stores: dict[StoreAddress, ObjectStore] = {}

    def __reduce__(self) -> tuple[type[SourceAccess], tuple[Any, ...]]:
        # Most frames read files only, and their pickles stay small.
        is_plain = self.rules == SourceRules() and self.recheck_seconds == RECHECK_SECONDS
        return type(self), () if is_plain else (self.rules, self.recheck_seconds)

    def stamp(self, path: str) -> SourceStamp:
        """The state of a source now: by a ``stat`` for a file, by a request for an object.

        Raises:
            SourceMissingError: it does not exist.
            SourceAccessError: it may not be read: by its mode, by the rules, or by the store.
            SourceError: the path or address is not that of a file.
            StoreUnavailableError: the store does not answer.
        """
        return self._look(path).stamp if is_url(path) else stat_source(path)

    def recheck(self, path: str, *, seconds: float | None = None) -> SourceStamp:
        """As :meth:`stamp`, but an object that was seen lately is not asked for again.

        Args:
            path: the path or the address.
            seconds: how long ago it may have been seen; ``None``: ``recheck_seconds``.
        """
        if not is_url(path):
            return stat_source(path)
        seen = self._seen.get(path)
        if seen is not None and self._is_fresh(seen, seconds):
            return seen.stamp
        return self._look(path).stamp

    def _is_fresh(self, seen: _Seen | None, seconds: float | None) -> bool:
        limit = self.recheck_seconds if seconds is None else seconds
        return seen is not None and time.monotonic() - seen.checked < limit

    def forget(self) -> None:
        """Forget what was seen, so that the next look at each object is a request."""
        self._seen.clear()

    def preload(self, paths: Iterable[str], *, seconds: float | None = None) -> None:
        """Look at many objects at the same time, so that :meth:`recheck` finds them seen; files are passed over.

        Those that are not allowed, do not exist or cannot be asked for are left to :meth:`recheck`, which raises their errors.

        Args:
            paths: paths and addresses.
            seconds: how long ago they may have been seen; ``None``: ``recheck_seconds``.
        """
        keys: dict[StoreAddress, list[tuple[str, str]]] = defaultdict(list)
        for path in dict.fromkeys(paths):
            if is_url(path) and not self._is_fresh(self._seen.get(path), seconds):
                try:
                    root, key = _split(self.rules.check(path))
                except SourceError:
                    continue
                keys[root].append((path, key))
        for root, items in keys.items():
            self._preload_some(root, items)

    def _preload_some(self, root: StoreAddress, items: list[tuple[str, str]]) -> None:
        now = time.monotonic()
        try:
            found = self._store_at(root).status([key for _, key in items])
            for (path, _), status in zip(items, found, strict=True):
                if status is not None:
                    self._keep(path, _Seen(status, _to_stamp(path, root, status), now))
        except (StoreError, SourceError):
            return  # told for each object by its own check

    def hash(
        self, path: str, algorithm: Algorithm, stamp: SourceStamp | None = None, stop: threading.Event | None = None
    ) -> str:
        """The digest of a source's bytes in hexadecimal.

        Args:
            path: the file or the object.
            algorithm: the hash function.
            stamp: the state of the object; ``None``: that of now.
            stop: ends the reading early once it is set; the digest is then of the first part.

        Raises:
            SourceChangedError: the object is in another state.
            SourceError: it cannot be read.
        """
        if not is_url(path):
            return hash_file(path, algorithm, stop)
        file = self.open(path, stamp)
        digest = hashlib.new(algorithm, usedforsecurity=False)
        places = [
            Place(start, min(_HASHED_BYTES, file.size_bytes - start))
            for start in range(0, file.size_bytes, _HASHED_BYTES)
        ]
        file.read_ahead(places[:_HASHED_AHEAD])
        for number, place in enumerate(places):
            if stop is not None and stop.is_set():
                break
            digest.update(file.read_at(*place))
            file.read_ahead(places[number + _HASHED_AHEAD : number + _HASHED_AHEAD + 1])
        return digest.hexdigest()

    def download(
        self, url: str, stamp: SourceStamp, path: str, *, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write an object in the state ``stamp`` to the new file ``path``.

        Raises:
            SourceChangedError: the object is in another state, or changes meanwhile.
            SourceError: it cannot be read.
        """
        store, status = self._in_state(url, stamp)
        with as_source_errors(url, partial(self._seen.pop, url, None)):
            found = store.download(status.key, path, etag=status.etag, progress=progress)
        if found.size_bytes != status.size_bytes or not self._has_arrived(url, stamp, status, path):
            os.unlink(path)
            raise changed_error(url)

    def _has_arrived(self, url: str, stamp: SourceStamp, status: ObjectStatus, path: str) -> bool:
        """Whether a file has the bytes of an object, as far as an ETag that looks like their MD5 digest tells.

        With some kinds of encryption it is another number. Then the object is read once more, and two equal digests are enough.
        """
        match = _MD5.fullmatch(status.etag or "") if self.rules.check(url).scheme == "s3" else None
        if match is None:
            return True
        digest = hash_file(path, "md5")
        return digest == match[1] or digest == self.hash(url, "md5", stamp)

    def open(self, url: str, stamp: SourceStamp | None = None) -> ObjectFile:
        """An object in the state ``stamp`` for reads by ranges; ``None``: in the state of now.

        Raises:
            SourceChangedError: the object is in another state.
            SourceError: it cannot be read.
        """
        store, status = self._in_state(url, stamp)
        with IMPORTING:
            from .object_file import ObjectFile

        found = _to_stamp(url, self.rules.check(url), status)
        return ObjectFile(store, status, found, url, partial(self._seen.pop, url, None))

    def _in_state(self, url: str, stamp: SourceStamp | None) -> tuple[ObjectStore, ObjectStatus]:
        """The store of an object, and its status if it is in this state."""
        seen = self._seen.get(url)
        if seen is None or seen.stamp != stamp:
            seen = self._look(url)
        if stamp is not None and seen.stamp != stamp:
            raise changed_error(url)
        root, _ = _split(self.rules.check(url))
        return self._store_at(root), seen.status

    def _look(self, url: str) -> _Seen:
        address = self.rules.check(url)
        root, key = _split(address)
        now = time.monotonic()
        with as_source_errors(url):
            [status] = self._store_at(root).status([key])
        if status is None:
            self._seen.pop(url, None)
            raise SourceMissingError(f"{url} does not exist; check the address")
        seen = _Seen(status, _to_stamp(url, address, status), now)
        self._keep(url, seen)
        return seen

    def _keep(self, url: str, seen: _Seen) -> None:
        self._seen[url] = seen
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)

    def _store_at(self, root: StoreAddress) -> ObjectStore:
        # Two threads may both make it: they are equal.
        store = self._stores.get(root)
        if store is None:
            # Imported here, because most programs read files only.
            with IMPORTING:
                from .source_stores import open_store

            with as_source_errors(root.url):
                store = open_store(root, self.rules)
            self._stores[root] = store
        return store


def _split(address: StoreAddress) -> tuple[StoreAddress, str]:
    """The address of a whole bucket or server, and the key of an object in it."""
    return StoreAddress(address.scheme, address.bucket, "", address.account), address.prefix


def _to_stamp(url: str, address: StoreAddress, status: ObjectStatus) -> SourceStamp:
    """The state of an object in the form of a file's.

    The ETags of object stores differ after each write. Those of servers of files are often made of the time in seconds and the
    length, so for them a change counts as settled only some seconds later, as for files.

    Raises:
        SourceError: the server tells nothing by which a change would show.
    """
    if status.etag is None and status.version is None and not status.modified:
        raise SourceError(
            f"{url} cannot be read: the server tells neither its ETag nor its time, so changes of it could not be noticed"
        )
    text = repr((status.etag, status.version)).encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
    modified_ns = round(status.modified * 1e9)
    is_strong = not address.is_http and status.etag is not None
    return SourceStamp(0, number, status.size_bytes, modified_ns, 0 if is_strong else modified_ns)
