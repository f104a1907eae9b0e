"""Files: entries in an object store, read as files are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...errors import CacheEntryDamagedError, CacheEntryGoneError, ObjectGoneError, ObjectTooLongError, StoreError
from ...system.files import FileStatus, FileSystem, OpenFile
from ...system.objects.addresses import is_url
from ...system.objects.announced import AnnouncedReads
from .commit import Commit
from .layout import commit_key, parse_commit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from ...system.objects.store import ObjectStore
    from ..keys import EntryKey
    from .tier import Tier
    from .tier_copy import EntryCopy

__all__ = ["RemoteFile", "RemoteFiles", "load_commit"]
_MOST_LOADS = 5


class RemoteFile(OpenFile):
    """The file of an entry in an object store, of which each read is a request.

    Bytes at the end of the file, which describe it, come with its commit.

    Args:
        store: the object store.
        commit: the commit of the entry.
        copy: what was read of it before.
    """

    is_distant = True

    def __init__(self, store: ObjectStore, commit: Commit, copy: EntryCopy | None = None) -> None:
        super().__init__(commit.status)
        self._store = store
        self._commit = commit
        self.copy: EntryCopy | None = copy
        self.descriptor_count = 0 if copy is None else 1
        self.tail_bytes = len(commit.tail)
        self._reads = AnnouncedReads(store, commit.data_key)

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer only where the file ends."""
        commit = self._commit
        length = min(length, commit.size_bytes - offset)
        in_tail = offset - commit.tail_start
        if in_tail >= 0:
            return commit.tail[in_tail : in_tail + length]
        if in_tail + length > 0:
            return bytes(self._fetch(offset, -in_tail)) + commit.tail[: in_tail + length]
        return self._fetch(offset, length)  # type: ignore[return-value] # callers take any buffer

    def read_again(self, offset: int, length: int) -> bytes:
        """As :meth:`read_at`, but never from what was fetched before."""
        return self._fetch(offset, length, is_new=True)  # type: ignore[return-value] # as in read_at

    def read_ahead(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:
        """Begin to fetch these places; each is kept until it is read."""
        self._reads.announce((place for place in places if sum(place) <= self._commit.tail_start), is_batch=is_batch)

    def check_length(self) -> None:
        """As :meth:`OpenFile.check_length`: the commit alone was read.

        Raises:
            CacheEntryDamagedError: the object is missing, or has another length.
            CacheEntryGoneError: the entry was removed meanwhile.
        """
        commit = self._commit
        [status] = self._store.status([commit.data_key])
        if status is None:
            self._raise_for_missing(ObjectGoneError(f"{self._store.url}: there is no object {commit.data_key!r}"))
        elif status.size_bytes != commit.size_bytes:
            raise CacheEntryDamagedError(
                f"{self._store.url}/{commit.name}: its file has {status.size_bytes:,} bytes instead of {commit.size_bytes:,}"
            )

    def close(self) -> None:
        """Forget what was fetched ahead."""
        self._reads.forget()

    def _fetch(self, offset: int, length: int, *, is_new: bool = False) -> Buffer:
        try:
            return (self._reads.read_again if is_new else self._reads.read)(offset, length)
        except ObjectGoneError as error:
            self._raise_for_missing(error)
            raise

    def _raise_for_missing(self, error: ObjectGoneError) -> None:
        """Raise an error that tells whether the entry was removed, or lacks its file.

        Whoever removes an entry removes the commit first.
        """
        found = self._load()
        if self.copy is not None:
            self.copy.discard()
        if found is not None and found.data_key == self._commit.data_key:
            raise CacheEntryDamagedError(
                f"{self._store.url}/{found.name}: its file {found.data_key} is missing"
            ) from error
        raise CacheEntryGoneError(
            f"{self._store.url}/{self._commit.name} was removed or replaced by another process"
        ) from error

    def _load(self) -> Commit | None:
        key = parse_commit(self._commit.name + ".json")
        return None if key is None else load_commit(self._store, key)


class RemoteFiles(FileSystem):
    """The file operations of a cache in an object store: entries are addresses, and files being written are on a disk.

    Args:
        store: the object store, at the cache's folder.
        tier: has copies of entries on this machine's disk; ``None``: each read is a request.
    """

    def __init__(self, store: ObjectStore, tier: Tier | None = None) -> None:
        self._store = store
        self._tier = tier

    def open_to_read(self, path: str) -> OpenFile:
        """Open an entry by its address, or a file of the disk.

        Raises:
            FileNotFoundError: there is no such entry.
            CacheEntryDamagedError: its commit is damaged.
            StoreError: the store cannot be asked.
        """
        key = self._key_of(path)
        if key is None:
            return super().open_to_read(path)
        commit = load_commit(self._store, key) if self._tier is None else self._find_commit(self._tier, path, key)
        if commit is None:
            raise CacheEntryGoneError(f"{path} does not exist")
        return self._open(path, commit, completes=True)

    def _open(self, path: str, commit: Commit, *, completes: bool) -> OpenFile:
        if self._tier is None:
            return RemoteFile(self._store, commit)
        whole = self._tier.open_whole(path, commit)
        if whole is not None:
            return whole
        open_file = partial(self._open, path, commit, completes=False) if completes else None
        return RemoteFile(self._store, commit, self._tier.copy_of(path, commit, open_file))

    def _find_commit(self, tier: Tier, path: str, key: EntryKey) -> Commit | None:
        """The commit of an entry from the tier, or from the store if the tier does not have it, or has had it for long."""
        kept = tier.load_commit(path, key)
        if kept is not None and kept[1]:
            return kept[0]
        try:
            found = load_commit(self._store, key)
        except StoreError:
            # What is on this machine can be read while the store cannot be reached.
            if kept is None:
                raise
            return kept[0]
        if kept is not None and found is None:
            tier.forget(path)
        elif found is not None:
            tier.confirm(path, None if kept is None else kept[0], found)
        return found

    def status(self, path: str, *, follows_links: bool = False) -> FileStatus | None:
        """The status of an entry, or of a file of the disk; ``None`` if it does not exist."""
        key = self._key_of(path)
        if key is None:
            return super().status(path, follows_links=follows_links)
        try:
            commit = load_commit(self._store, key)
        except CacheEntryDamagedError:
            # It exists, but nothing is known of it.
            return FileStatus(False, False, 0, 0.0, 0.0, Commit("", "", 0, 0.0, b"").status.stamp)
        return None if commit is None else commit.status

    def can_map(self, path: str) -> bool:
        """``False`` for entries, which are not on a disk."""
        return not is_url(path) and super().can_map(path)

    def _key_of(self, path: str) -> EntryKey | None:
        """The key of the entry at an address; ``None`` for a path."""
        if not is_url(path):
            return None
        prefix = self._store.url + "/"
        return parse_commit(path[len(prefix) :] + ".json") if path.startswith(prefix) else None


def load_commit(store: ObjectStore, key: EntryKey) -> Commit | None:
    """The commit of an entry; ``None`` if there is none.

    A network may damage bytes that are stored well. So a commit counts as damaged when it arrives twice with the same damage.

    Raises:
        CacheEntryDamagedError: it is damaged.
        CacheEntryError: a newer version of ndframes wrote it.
        StoreError: the store cannot be asked.
    """
    name = commit_key(key)
    seen: set[bytes] = set()
    while True:
        try:
            found = store.load(name)
        except ObjectTooLongError as error:
            raise CacheEntryDamagedError(f"{store.url}/{name} is not a commit: {error}") from error
        if found is None:
            return None
        try:
            return Commit.decode(found.data, key, f"{store.url}/{name}")
        except CacheEntryDamagedError:
            if found.data in seen or len(seen) == _MOST_LOADS:
                raise
            seen.add(found.data)
