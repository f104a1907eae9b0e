"""Publish: a conversion becomes an entry of an object store, once."""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING

from ...errors import CacheEntryDamagedError, ObjectGoneError, StoreError
from .claims import claim
from .commit import Commit
from .files import load_commit
from .layout import commit_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...system.objects.store import ObjectStore
    from ..keys import EntryKey
    from .scratch import Scratch

__all__ = ["publish"]
_MOST_UPLOADS = 5
_log = logging.getLogger("ndframes")


def publish(
    store: ObjectStore, scratch: Scratch, key: EntryKey, write: Callable[[IO[bytes]], None], *, estimated_bytes: int
) -> bool:
    """Create an entry by calling ``write`` with an empty file, unless the entry exists; returns whether this call created it.

    The file is written to the disk and checked there. It is then uploaded under a name that nobody else uses. Last, its commit is
    created, which the store does for one writer only.

    Raises:
        CacheFullError: the disk of this machine is full.
        StoreError: the store does not take it.
    """

    def exists() -> bool:
        return load_commit(store, key) is not None

    if exists():
        return False
    with claim(store, key.state_id, exists) as is_mine:
        # The one before may have published between the question and the claim.
        if not is_mine or exists():
            return False
        with scratch.file(key.state_id, estimated_bytes) as file:
            write(file)
            file.flush()
            return _upload(store, key, file.name)


def _upload(store: ObjectStore, key: EntryKey, path: str) -> bool:
    commit = Commit.of_file(key, path)
    data_key = commit.data_key
    try:
        _send(store, data_key, path)
    except BaseException:
        _delete(store, data_key)
        raise
    # If this raises, the commit may exist: only gc() can tell whether the file is an entry's.
    is_ours = _commit(store, key, commit)
    if is_ours:
        _restore(store, data_key, path)
    else:
        _delete(store, data_key)
    return is_ours


def _restore(store: ObjectStore, data_key: str, path: str) -> None:
    """Upload a file again that ``gc(older_than=0)`` removed between its upload and its commit.

    It is looked at after the commit, since no gc() removes it from then on.
    """
    if store.status([data_key]) == [None]:
        _log.info("%s/%s was removed before it was committed; it is uploaded again", store.url, data_key)
        _send(store, data_key, path)


def _send(store: ObjectStore, data_key: str, path: str) -> None:
    """Upload a file, again if gc(older_than=0) removed it before it was compared with what was sent."""
    for tries_left in reversed(range(_MOST_UPLOADS)):
        try:
            store.upload(data_key, path)
        except ObjectGoneError:
            if not tries_left:
                raise
        else:
            return


def _commit(store: ObjectStore, key: EntryKey, commit: Commit) -> bool:
    """Create the commit; ``False`` if the entry has another one."""
    if store.create(commit_key(key), commit.encode()) is not None:
        return True
    try:
        found = load_commit(store, key)
    except CacheEntryDamagedError:
        return False
    # Our own, if the reply to the request that created it was lost.
    return found is not None and found.data_key == commit.data_key


def _delete(store: ObjectStore, data_key: str) -> None:
    try:
        store.delete([data_key])
    except StoreError as error:
        _log.info("%s/%s could not be removed; gc() will do it: %s", store.url, data_key, error)
