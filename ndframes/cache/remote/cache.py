"""RemoteCache: a cache in an object store."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...errors import CacheEntryError, CacheError, ObjectTooLongError, StoreError, shorten
from ...system.objects.addresses import parse_address
from ...system.objects.connection import connect_store
from ..budget import to_limit
from ..cache import Cache
from ..store import LOCK_AGE_SECONDS, CacheEntry
from ..trailer import read_trailer_of
from .files import RemoteFile, RemoteFiles, load_commit
from .layout import COMMITS, DATA, FOLDER, digest_source, group_files, new_quarantine_key, parse_commit, parse_data
from .probe import find_fault, read_mark
from .publish import publish
from .scratch import Scratch
from .tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ...system.objects.store import ObjectStatus, ObjectStore
    from ...system.stamp import SourceStamp
    from ..keys import EntryKey
    from ..remover import GcReport
    from ..store import EntryPath
    from ..upkeep import CacheStat
    from ..verify import VerifyReport

__all__ = ["RemoteCache"]
_LOADED_AT_ONCE = 32


class RemoteCache(Cache):
    """The entries of a cache in an object store: the same files as on a disk, each with a small commit.

    Made by ``Cache("s3://bucket/prefix")``. Reading fetches the tiles under a crop, and compares each with its checksum. Entries that
    nobody needs are removed by :meth:`gc`; there are no leases, so a reader whose entry is removed finds or makes another one.

    Args:
        workdir: the address: ``s3://``, ``az://`` or ``gs://``, a bucket and a prefix; ``http://`` or ``https://`` to read only.
        max_bytes: not supported: a limit that many machines share must be kept by one of them, with ``gc(max_bytes=...)``.
        min_free_bytes: not supported.
        local_tier: a folder on this machine's disk, where what is read is kept, and files are written that become entries. Its
            processes share it. ``None``: nothing is kept, and files are written to the system's folder for temporary files.
        tier_bytes: how much what is kept may take on the disk: a number of bytes, or a text such as ``"500GB"``. What was used
            longest ago is removed, down to 85 % of the limit. ``None``: no limit.

    Raises:
        StoreError: the address is not valid.
        CacheError: an option is not supported.
        MissingExtraError: obstore is not installed.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        files: Any = None,
        lock_age_seconds: float = LOCK_AGE_SECONDS,
        local_tier: str | os.PathLike[str] | None = None,
        tier_bytes: int | str | None = None,
    ) -> None:
        if max_bytes is not None or min_free_bytes is not None or files is not None:
            raise CacheError(
                f"{workdir}: max_bytes=, min_free_bytes= and files= are for a cache on a disk; call gc(max_bytes=...) to remove entries of an "
                "object store"
            )
        address = parse_address(str(workdir))
        super().__init__(Path(FOLDER), lock_age_seconds=lock_age_seconds)
        self._store = connect_store(address.join(FOLDER).url)
        self.workdir = address.url
        self._is_http = address.is_http
        self.root = self._store.url  # type: ignore[assignment] # an address, for messages
        self.local_tier = None if local_tier is None else Path(os.path.expanduser(local_tier)).absolute()
        self.tier_bytes = to_limit("tier_bytes", tier_bytes)
        if self.local_tier is None and tier_bytes is not None:
            raise CacheError(
                f"tier_bytes={shorten(tier_bytes)} is the limit of a local tier; give local_tier= its folder"
            )
        self._tier = None if self.local_tier is None else Tier(self.local_tier, self.tier_bytes)
        self.files = RemoteFiles(self._store, self._tier)
        self._scratch = Scratch(None if self.local_tier is None else self.local_tier / "scratch")
        self._fault: str | None = None
        self._is_probed = False
        # The entries, and for each the names of the files that may be its own.
        self._listed: dict[EntryKey, list[str]] | None = None

    def __repr__(self) -> str:
        return f"Cache({str(self.workdir)!r})"

    def _options(self) -> dict[str, Any]:
        return {"lock_age_seconds": self.lock_age_seconds, "local_tier": self.local_tier, "tier_bytes": self.tier_bytes}

    @property
    def store(self) -> ObjectStore:
        """The object store, at the cache's own folder."""
        return self._store

    @property
    def is_distant(self) -> bool:
        """Whether reads wait for a network: they do."""
        return True

    # -- finding ----------------------------------------------------------------------------------------------------

    def path(self, key: EntryKey) -> EntryPath:
        """The address of the entry of ``key``, whether it exists or not."""
        return f"{self._store.url}/{key.relative_path}"

    def find(self, key: EntryKey) -> EntryPath | None:
        """The address of the entry of ``key``, or ``None`` if it does not exist."""
        return None if load_commit(self._store, key) is None else self.path(key)

    def ls(self) -> Iterator[CacheEntry]:
        """Every entry, in no particular order."""
        files = group_files(self._store.scan(DATA))
        return self._to_entries(self._store.scan(COMMITS), files)

    def ls_source(self, backend_id: str, source_id: str) -> list[CacheEntry]:
        """The entries of one source in one form, of any state of the source; the last one written comes first."""
        commits = self._store.scan(f"{COMMITS}/{backend_id}/{source_id[:2]}")
        found = [item for item in commits if item.key.rsplit("/", 1)[1].startswith(source_id + ".")]
        return sorted(self._to_entries(found, {}), key=lambda entry: (-entry.mtime, str(entry.path)))

    def ls_forms(self, source_id: str) -> list[CacheEntry]:
        """The entries of one source in all forms, each form in the order of :meth:`ls_source`."""
        entries = [
            entry for entry in self._to_entries(self._store.scan(COMMITS), {}) if entry.key.source_id == source_id
        ]
        return sorted(entries, key=lambda entry: (entry.key.backend_id, -entry.mtime, str(entry.path)))

    def _to_entries(self, commits: Iterable[ObjectStatus], data: dict[str, list[ObjectStatus]]) -> Iterator[CacheEntry]:
        for item in commits:
            key = parse_commit(item.key)
            if key is None:
                continue
            files = data.get(key.state_id, [])
            # Only the commit tells which of several files is that of the entry.
            size_bytes = files[0].size_bytes if len(files) == 1 else self._find_size(key)
            if size_bytes is not None:
                yield CacheEntry(self.path(key), key, size_bytes, item.modified, item.modified)

    def _find_size(self, key: EntryKey) -> int | None:
        try:
            status = self.files.status(str(self.path(key)))
        except CacheEntryError:  # a newer version wrote it
            return 0
        return None if status is None else status.size_bytes

    def note_use(self, path: EntryPath, mtime_ns: int) -> None:
        """Do nothing: object stores record no uses."""

    # -- planning ---------------------------------------------------------------------------------------------------

    @contextmanager
    def surveying(self) -> Iterator[None]:
        """Within it, :meth:`recall` answers from a list of all entries, which costs one request for a thousand of them.

        A web server has no list, so each entry is looked at.
        """
        if self._is_http:
            yield
            return
        files = group_files(self._store.scan(DATA))
        keys = [key for item in self._store.scan(COMMITS) if (key := parse_commit(item.key)) is not None]
        self._listed = {key: [item.key for item in files.get(key.state_id, [])] for key in keys}
        try:
            yield
        finally:
            self._listed = None

    def recall(self, key: EntryKey, stamp: SourceStamp | None) -> bool | None:
        """As :meth:`Cache.recall`."""
        if self._listed is None:
            return None
        files = self._listed.get(key)
        if files is None:
            return False
        if not files and self._is_dangling(key):
            self.quarantine(self.path(key))
            return False
        name = parse_data(files[0]) if len(files) == 1 else None
        # The commit of another state of the source must be read: it tells whether the content is the same.
        return True if stamp is None or (name is not None and name.source == digest_source(stamp)) else None

    def _is_dangling(self, key: EntryKey) -> bool:
        """Whether an entry lacks its file; one that is not in a list may have been written since."""
        try:
            commit = load_commit(self._store, key)
        except CacheEntryError:
            return False
        return commit is not None and self._store.status([commit.data_key]) == [None]

    # -- writing ----------------------------------------------------------------------------------------------------

    def publish(
        self, key: EntryKey, write: Callable[[IO[bytes]], None], *, estimated_bytes: int
    ) -> tuple[EntryPath, bool]:
        """As :meth:`Store.publish`: the file is written to this machine's disk, uploaded, and committed."""
        self._check_writable()
        return self.path(key), publish(self._store, self._scratch, key, write, estimated_bytes=estimated_bytes)

    def _check_writable(self) -> None:
        """Try the store, once a process, unless it bears the mark of a store that was tried.

        Raises:
            CacheError: entries cannot be published there; it tells why.
        """
        if self._is_http:
            raise CacheError(
                f"{self.workdir} can only be read from, since web servers take no files; prepare in a folder or a bucket (s3://, az://, gs://) of "
                "which it is a copy, or use backend=None to read sources directly"
            )
        if not self._is_probed:
            self._fault = None if read_mark(self._store) else find_fault(self._store)
            self._is_probed = True
        if self._fault is not None:
            raise CacheError(
                f"{self.workdir} can only be read from: {self._fault}; entries published there could replace each other. Choose another "
                "workdir, or backend=None to read sources directly"
            )

    def find_scratch_folder(self) -> Path:
        """As :meth:`Store.find_scratch_folder`: the local tier, or the folder for temporary files."""
        return self._scratch.make()

    def scratch(self, room_bytes: int = 0) -> IO[bytes]:
        """A file without a name on this machine's disk, with this much room reserved."""
        return self._scratch.unnamed(room_bytes)

    def quarantine(self, path: EntryPath, seen: SourceStamp | None = None) -> bool:
        """Put the commit of a damaged entry aside; see :meth:`Store.quarantine`."""
        return self._withdraw(path, seen, is_kept=True)

    def discard(self, path: EntryPath, seen: SourceStamp | None = None) -> bool:
        """Remove an entry that is no longer useful; see :meth:`Store.discard`."""
        return self._withdraw(path, seen, is_kept=False)

    def _withdraw(self, path: EntryPath, seen: SourceStamp | None, *, is_kept: bool) -> bool:
        name = str(path)[len(self._store.url) + 1 :] + ".json"
        try:
            status = self.files.status(str(path))
            if self._tier is not None:
                self._tier.forget(str(path))
            if status is None or (seen is not None and status.is_file and not seen.is_same_file(status.stamp)):
                return True
            if is_kept:
                self._put_aside(name)
            # Not the file: other processes may be reading it. gc() finds it.
            self._store.delete([name])
        except StoreError:  # no right to write, for example: the reader must do without this entry
            return False
        return True

    def _put_aside(self, name: str) -> None:
        """Keep a copy of a commit, to find out later what happened to it."""
        try:
            found = self._store.load(name)
        except ObjectTooLongError:  # no commit of ours
            return
        if found is not None:
            self._store.create(new_quarantine_key(name), found.data)

    def hold(self, keys: Iterable[EntryKey]) -> None:
        """Do nothing: nothing is removed from an object store unasked."""

    def has_marks(self) -> bool:
        """Whether there is a cache in the workdir."""
        return read_mark(self._store)

    def check_marks(self) -> None:
        """As :meth:`Store.check_marks`.

        Raises:
            CacheError: it does not bear the mark of a cache, so nothing in it may be removed.
        """
        if not read_mark(self._store):
            raise CacheError(
                f"{self.root} does not bear the mark of a cache (ndframes.json), so nothing in it is removed"
            )

    # -- maintenance ------------------------------------------------------------------------------------------------

    def stat(self) -> CacheStat:
        """Count the entries, their bytes, other objects, and what the local tier takes on this machine's disk."""
        from .upkeep import stat_objects

        stat = stat_objects(self, self._store)
        return stat if self._tier is None else replace(stat, tier_bytes=self._tier.count_bytes())

    def verify(
        self, read_data: bool = False, repair: bool = False, *, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """As :meth:`Cache.verify`; the entries in the store are checked, and not what the local tier has of them."""
        cache = self if self._tier is None else type(self)(self.workdir, lock_age_seconds=self.lock_age_seconds)
        return super(RemoteCache, cache).verify(read_data, repair, progress=progress)

    def source_of(self, entry: CacheEntry) -> str | None:
        """As :meth:`Cache.source_of`; the commit of the entry tells."""
        try:
            commit = load_commit(self._store, entry.key)
            if commit is None:  # removed meanwhile
                return None
            trailer = read_trailer_of(entry.key, str(entry.path), RemoteFile(self._store, commit))
        except CacheEntryError:  # damaged, which verify reports
            return None
        path = (trailer.meta.get("source") or {}).get("path")
        return None if path is None else str(path)

    def sources_of(self, entries: Iterable[CacheEntry]) -> list[str | None]:
        """As :meth:`source_of` for each entry, for many at the same time."""
        with ThreadPoolExecutor(_LOADED_AT_ONCE) as pool:
            try:
                return list(pool.map(self.source_of, entries))
            finally:  # also at Ctrl-C
                pool.shutdown(wait=False, cancel_futures=True)

    def clear_tier(self) -> int:
        """Remove everything from the local tier, what other caches have there included; returns the bytes that it took on the disk.

        Programs that are reading go on, over the network.
        """
        return 0 if self._tier is None else self._tier.clear()

    def gc(self, max_bytes: int | None = None, dry_run: bool = False, *, older_than: float = 3600.0) -> GcReport:
        """Remove what is no longer useful: files without a commit, claims of dead writers, damaged entries, and former states.

        Args:
            max_bytes: also remove entries, those written longest ago first, until the others fit in this many bytes.
            dry_run: whether to remove nothing and only report what would be removed.
            older_than: files without a commit, and claims, that were written less than this many seconds ago stay, since their
                writers may be at work. 0 removes them, too.

        Raises:
            CacheError: the folder does not bear the mark of a cache, or that of a newer version.
        """
        from .upkeep import collect_objects

        return collect_objects(self, self._store, max_bytes, dry_run=dry_run, older_than=older_than)

    def clear(self, dry_run: bool = False, *, source: str | os.PathLike[str] | None = None) -> GcReport:
        """Remove every entry, and everything that :meth:`gc` removes.

        What the local tiers of this and other machines have of them is used for an hour at most, and is removed then, or by
        :meth:`clear_tier`.

        Args:
            dry_run: whether to remove nothing and only report what would be removed.
            source: remove only the entries of this file, or of the files in this folder.
        """
        from .upkeep import clear_objects

        return clear_objects(self, self._store, dry_run=dry_run, source=None if source is None else os.fspath(source))

    @property
    def lease_names(self) -> frozenset[str]:
        """None: an object store has no leases."""
        return frozenset()
