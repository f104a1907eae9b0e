"""Upkeep of a cache in an object store: counts what it holds, and removes what is no longer useful."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import CacheEntryError, CacheError, shorten
from ..budget import check_limit
from ..remover import GcReport, sum_bytes
from ..store import CacheEntry
from ..upkeep import CacheStat, count_by_backend, find_superseded, is_at
from .files import load_commit
from .layout import (
    CLAIMS,
    COMMITS,
    DATA,
    MARK,
    PROBES,
    QUARANTINE,
    commit_key,
    group_files,
    new_probe_key,
    parse_commit,
    parse_data,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...system.objects.store import ObjectStatus, ObjectStore
    from ..cache import Cache

__all__ = ["clear_objects", "collect_objects", "stat_objects"]


@dataclass(slots=True)
class _Contents:
    """What a cache in an object store holds.

    Attributes:
        entries: the entries, each with its file.
        files: the objects of each entry's file.
        loose: the files that no commit refers to.
        claims: the claims, and what probes left.
        quarantined: the commits that were put aside.
        dangling: the commits whose files are missing.
    """

    entries: dict[CacheEntry, None] = field(default_factory=dict)
    files: dict[CacheEntry, list[ObjectStatus]] = field(default_factory=dict)
    loose: list[ObjectStatus] = field(default_factory=list)
    claims: list[ObjectStatus] = field(default_factory=list)
    quarantined: list[ObjectStatus] = field(default_factory=list)
    dangling: list[ObjectStatus] = field(default_factory=list)

    @property
    def temporary(self) -> list[ObjectStatus]:
        """What may be of writers or copies that are still at work."""
        return [*self.claims, *self.loose, *self.dangling]


def stat_objects(cache: Cache, store: ObjectStore) -> CacheStat:
    """Count; see :meth:`Cache.stat`."""
    contents = _list_contents(cache, store)
    entries = list(contents.entries)
    superseded = find_superseded(entries)
    return CacheStat(
        entries=len(entries),
        total_bytes=sum_bytes(entries),
        by_backend=count_by_backend(entries),
        oldest_used=min((entry.used for entry in entries), default=None),
        newest_used=max((entry.used for entry in entries), default=None),
        superseded=len(superseded),
        superseded_bytes=sum_bytes(superseded),
        temporary=len(contents.loose),
        temporary_bytes=sum(item.size_bytes for item in contents.loose),
        quarantined=len(contents.quarantined),
        quarantined_bytes=sum(item.size_bytes for item in contents.quarantined),
        leased=0,
        free_bytes=None,
    )


def collect_objects(
    cache: Cache, store: ObjectStore, max_bytes: int | None, *, dry_run: bool, older_than: float
) -> GcReport:
    """Remove what is no longer useful, then entries down to the limit; see :meth:`RemoteCache.gc`."""
    check_limit("max_bytes", max_bytes)
    if isinstance(older_than, bool) or not isinstance(older_than, (int, float)) or not older_than >= 0:
        raise CacheError(f"older_than={shorten(older_than)}; give a number of seconds, 0 or more")
    contents = _open_contents(cache, store)
    if contents is None:
        return GcReport(0, 0, 0, is_dry_run=dry_run)
    remover = _Remover(store, contents, is_dry_run=dry_run)
    remover.remove_leftovers(older_than)
    remover.evict(find_superseded(contents.entries))
    if max_bytes is not None:
        remover.evict_until(max_bytes)
    return remover.report()


def clear_objects(cache: Cache, store: ObjectStore, *, dry_run: bool, source: str | None) -> GcReport:
    """Remove every entry, or those of one source; see :meth:`RemoteCache.clear`."""
    contents = _open_contents(cache, store)
    if contents is None:
        return GcReport(0, 0, 0, is_dry_run=dry_run)
    remover = _Remover(store, contents, is_dry_run=dry_run)
    if source is None:
        remover.remove_leftovers(_WRITER_SECONDS)
        remover.remove_dangling()
    entries = list(contents.entries)
    if source is not None:
        entries = [entry for entry, path in zip(entries, cache.sources_of(entries), strict=True) if is_at(path, source)]
    remover.evict(entries)
    return remover.report()


# For how long the file of a writer that still works may have no commit.
_WRITER_SECONDS = 3600.0


def _open_contents(cache: Cache, store: ObjectStore) -> _Contents | None:
    """What the cache holds; ``None`` if there is no cache.

    Raises:
        CacheError: there are objects, but no mark of a cache.
    """
    contents = _list_contents(cache, store)
    if contents == _Contents() and store.load(MARK) is None:
        return None
    cache.check_marks()
    return contents


def _list_contents(cache: Cache, store: ObjectStore) -> _Contents:
    # Commits last: what is committed meanwhile then has its file in the first list or in none.
    files = group_files(store.scan(DATA))
    contents = _Contents(claims=[*store.scan(CLAIMS), *store.scan(PROBES)], quarantined=list(store.scan(QUARANTINE)))
    suspects = []
    for item in store.scan(COMMITS):
        key = parse_commit(item.key)
        if key is None:
            continue
        owned = files.pop(key.state_id, [])
        if not owned:
            suspects.append(item)
        used = owned if len(owned) == 1 else _find_used(store, item, owned)
        contents.loose += [status for status in owned if status not in used]
        if used:  # several, if only a newer version can tell which is the one
            size_bytes = sum(status.size_bytes for status in used)
            entry = CacheEntry(cache.path(key), key, size_bytes, item.modified, item.modified)
            contents.entries[entry] = None
            contents.files[entry] = used
    contents.loose += [status for some in files.values() for status in some]
    contents.dangling = _find_dangling(store, suspects)
    return contents


def _find_dangling(store: ObjectStore, suspects: Sequence[ObjectStatus]) -> list[ObjectStatus]:
    """The commits, of those without a file in the list, that have none now: others were made after the list."""
    named = {}
    for item in suspects:
        key = parse_commit(item.key)
        try:
            found = None if key is None else load_commit(store, key)
        except CacheEntryError:  # damaged, which readers find out, or of a newer version
            continue
        if found is not None:
            named[found.data_key] = item
    return [item for item, status in zip(named.values(), store.status(list(named)), strict=True) if status is None]


def _find_used(store: ObjectStore, commit: ObjectStatus, files: Sequence[ObjectStatus]) -> list[ObjectStatus]:
    """Of several files of one state, the one that the commit refers to."""
    key = parse_commit(commit.key)
    try:
        found = None if key is None else load_commit(store, key)
    except CacheEntryError:  # damaged, or of a newer version: what it refers to is not known, so nothing is removed
        return list(files)
    return [item for item in files if found is not None and item.key == found.data_key]


class _Remover:
    """Removes objects of a cache, or only notes which, and counts them."""

    def __init__(self, store: ObjectStore, contents: _Contents, *, is_dry_run: bool) -> None:
        self._store = store
        self._contents = contents
        self._is_dry_run = is_dry_run
        self._paths: list[str] = []
        self._removed = 0
        self._leftovers = 0
        self._freed_bytes = 0

    def remove_leftovers(self, older_than: float) -> None:
        """Remove damaged entries, and the claims and files of writers that have ended."""
        now = self._read_clock()
        # A program that copies a cache may bring the commits first, and the files later.
        old = [item for item in self._contents.temporary if item.modified <= now - older_than]
        self._leftovers += self._delete([*self._contents.quarantined, *self._without_committed(old)])

    def _without_committed(self, items: Sequence[ObjectStatus]) -> list[ObjectStatus]:
        """Leave out the files whose writers have committed them since the list was made."""
        names = {item.key: parse_data(item.key) for item in items}
        if self._is_dry_run or not any(names.values()):
            return list(items)
        used = set()
        states = {name.state_id for name in names.values() if name is not None}
        for commit in self._store.scan(COMMITS):
            key = parse_commit(commit.key)
            if key is not None and key.state_id in states:
                used |= {item.key for item in _find_used(self._store, commit, items)}
        return [item for item in items if item.key not in used]

    def remove_dangling(self) -> None:
        """Remove the commits whose files are missing, whatever their age."""
        removed = set(self._paths)
        left = [item for item in self._contents.dangling if f"{self._store.url}/{item.key}" not in removed]
        self._leftovers += self._delete(left)

    def evict(self, entries: Iterable[CacheEntry]) -> None:
        """Remove entries: all commits first, so that no reader finds an entry without its file."""
        some = list(entries)
        if not self._is_dry_run:
            self._store.delete([commit_key(entry.key) for entry in some])
        self._delete([item for entry in some for item in self._contents.files[entry]])
        for entry in some:
            del self._contents.entries[entry]
        self._removed += len(some)

    def evict_until(self, limit_bytes: int) -> None:
        """Remove entries, those written longest ago first, until no more than ``limit_bytes`` remain."""
        remaining = sum_bytes(self._contents.entries)
        chosen = []
        for entry in sorted(self._contents.entries, key=_by_age):
            if remaining <= limit_bytes:
                break
            chosen.append(entry)
            remaining -= entry.size_bytes
        self.evict(chosen)

    def report(self) -> GcReport:
        """What was removed so far."""
        return GcReport(
            removed=self._removed,
            freed_bytes=self._freed_bytes,
            kept=len(self._contents.entries),
            remaining_bytes=sum_bytes(self._contents.entries),
            leftovers=self._leftovers,
            paths=tuple(self._paths),
            is_dry_run=self._is_dry_run,
        )

    def _delete(self, items: Sequence[ObjectStatus]) -> int:
        if not self._is_dry_run:
            self._store.delete([item.key for item in items])
        self._paths += [f"{self._store.url}/{item.key}" for item in items]
        self._freed_bytes += sum(item.size_bytes for item in items)
        return len(items)

    def _read_clock(self) -> float:
        """The time of the store now, which wrote the times of the objects; infinity if it is not needed."""
        temporary = self._contents.temporary
        if not temporary:
            return 0.0
        if self._is_dry_run:  # which writes nothing
            return max(item.modified for item in temporary)
        key = new_probe_key()
        self._store.create(key, b"")
        [status] = self._store.status([key])
        self._store.delete([key])
        return 0.0 if status is None else status.modified


def _by_age(entry: CacheEntry) -> tuple[float, str]:
    return entry.mtime, str(entry.path)
