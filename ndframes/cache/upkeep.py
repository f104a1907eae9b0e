"""Upkeep: counts what a store holds, and removes what is no longer useful."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import CacheError
from ..system.sources import real_path
from ..text import count_noun, format_bytes
from .layout import parse_part
from .leases import leased_elsewhere
from .remover import GcReport, open_remover, owned_files, quarantined_files, search_errors, sum_bytes
from .trailer import open_trailer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .store import CacheEntry, Store

__all__ = [
    "BackendStat",
    "CacheStat",
    "clear_cache",
    "collect_garbage",
    "count_by_backend",
    "find_source",
    "find_superseded",
    "is_at",
    "stat_cache",
]


class BackendStat(NamedTuple):
    """The entries of one form: the digest of its options, their suffix, their number and their bytes."""

    backend_id: str
    suffix: str
    entries: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class CacheStat:
    """How much a cache holds.

    Attributes:
        entries: the number of entries.
        total_bytes: their bytes.
        by_backend: the same for each form of entry, the largest first.
        oldest_used: when the entry used longest ago was used, in seconds since 1970; ``None`` without entries.
        newest_used: when the entry used last was used, in seconds since 1970; ``None`` without entries.
        superseded: the number of entries of former states of their sources.
        superseded_bytes: their bytes.
        temporary: the number of files that are being written, or that dead writers left.
        temporary_bytes: their bytes.
        quarantined: the number of damaged entries in the quarantine folder.
        quarantined_bytes: their bytes.
        leased: the number of entries that other running jobs hold.
        free_bytes: the bytes free on the disk; ``None`` for an object store.
        max_bytes: the limit of all entries together, if there is one.
        min_free_bytes: what must stay free on the disk, if that is limited.
        tier_bytes: of an object store with a local tier, what that takes on this machine's disk.
    """

    entries: int
    total_bytes: int
    by_backend: tuple[BackendStat, ...]
    oldest_used: float | None
    newest_used: float | None
    superseded: int
    superseded_bytes: int
    temporary: int
    temporary_bytes: int
    quarantined: int
    quarantined_bytes: int
    leased: int
    free_bytes: int | None
    max_bytes: int | None = None
    min_free_bytes: int | None = None
    tier_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain data, ready for JSON."""
        return {**asdict(self), "by_backend": [form._asdict() for form in self.by_backend]}

    def __str__(self) -> str:
        lines = [f"{count_noun(self.entries, 'entry')}, {format_bytes(self.total_bytes)}"]
        lines += [
            f"  {form.suffix} {form.backend_id}: {count_noun(form.entries, 'entry')}, {format_bytes(form.total_bytes)}"
            for form in self.by_backend
        ]
        rest = (
            ("superseded", self.superseded, self.superseded_bytes),
            ("temporary", self.temporary, self.temporary_bytes),
            ("quarantined", self.quarantined, self.quarantined_bytes),
        )
        lines += [f"{count:,} {name}, {format_bytes(size)}" for name, count, size in rest if count]
        if self.leased:
            lines.append(f"{self.leased:,} held by other jobs")
        if self.max_bytes is not None:
            lines.append(f"budget {format_bytes(self.max_bytes)}")
        if self.tier_bytes is not None:
            lines.append(f"{format_bytes(self.tier_bytes)} in the local tier")
        if self.free_bytes is None:
            return "\n".join(lines)
        kept_free = "" if self.min_free_bytes is None else f", {format_bytes(self.min_free_bytes)} must stay so"
        lines.append(f"{format_bytes(self.free_bytes)} free on the disk{kept_free}")
        return "\n".join(lines)


def stat_cache(store: Store, *, max_bytes: int | None, min_free_bytes: int | None) -> CacheStat:
    """Count; see :meth:`Cache.stat`. The limits are only reported."""
    with search_errors(store):
        entries = list(store.ls())
        superseded = find_superseded(entries)
        temporary = list(owned_files(store.files, store.root / "tmp", parse_part))
        quarantined = list(quarantined_files(store))
        leased = leased_elsewhere(store.files, store.root, store.lease_names)
        return CacheStat(
            entries=len(entries),
            total_bytes=sum_bytes(entries),
            by_backend=count_by_backend(entries),
            oldest_used=min((entry.used for entry in entries), default=None),
            newest_used=max((entry.used for entry in entries), default=None),
            superseded=len(superseded),
            superseded_bytes=sum_bytes(superseded),
            temporary=len(temporary),
            temporary_bytes=sum(status.size_bytes for _, status, _ in temporary),
            quarantined=len(quarantined),
            quarantined_bytes=sum(status.size_bytes for _, status in quarantined),
            leased=sum(entry.key.relative_path in leased for entry in entries),
            free_bytes=store.files.free_bytes(_existing(store)),
            max_bytes=max_bytes,
            min_free_bytes=min_free_bytes,
        )


def collect_garbage(store: Store, limit_bytes: int | None, *, dry_run: bool) -> GcReport:
    """Remove what is no longer useful, then entries down to the limit; see :meth:`Cache.gc`."""
    with open_remover(store, dry_run=dry_run) as remover:
        if remover is None:
            return GcReport(0, 0, 0, is_dry_run=dry_run)
        remover.remove_leftovers()
        # Before the limit is applied: nobody reads former states, and their room may be enough.
        for entry in find_superseded(remover.entries):
            remover.evict(entry)
        if limit_bytes is not None:
            remover.evict_until(limit_bytes)
        return remover.report()


def clear_cache(store: Store, *, dry_run: bool, source: str | None = None) -> GcReport:
    """Remove every entry, or those of one source; see :meth:`Cache.clear`."""
    with open_remover(store, dry_run=dry_run) as remover:
        if remover is None:
            return GcReport(0, 0, 0, is_dry_run=dry_run)
        if source is None:
            remover.remove_leftovers()
        for entry in list(remover.entries):
            if source is None or is_at(find_source(store, entry), source):
                remover.evict(entry)
        return remover.report()


def find_source(store: Store, entry: CacheEntry) -> str | None:
    """The path of an entry's source; see :meth:`Cache.source_of`."""
    name = str(entry.path)
    before = store.files.status(name)
    try:
        trailer, stamp = open_trailer(name, entry.key, store.files)
    except CacheError:  # removed meanwhile, or damaged, which verify reports
        return None
    after = store.files.status(name)
    if before is not None and after is not None and after.atime > before.atime:
        # To be listed is no use of an entry.
        _set_access_time(store, name, int(before.atime * 1e9), stamp.mtime_ns)
    path = (trailer.meta.get("source") or {}).get("path")
    return None if path is None else str(path)


def _set_access_time(store: Store, path: str, atime_ns: int, mtime_ns: int) -> None:
    try:
        store.files.touch(path, atime_ns, mtime_ns)
    except OSError:
        pass  # another user's file: it counts as used now, and is removed later than it might


def is_at(path: str | None, source: str) -> bool:
    """Whether a resolved path is that of a file, or lies in a folder."""
    where = real_path(os.path.expanduser(source))
    return path is not None and (path == where or path.startswith(where.rstrip(os.sep) + os.sep))


def find_superseded(entries: Iterable[CacheEntry]) -> list[CacheEntry]:
    """Of the entries of one source in one form, all but the one written last."""
    # By time of writing and not of use: a read of an old state by another job does not make it current.
    states: dict[tuple[str, str, str], list[CacheEntry]] = defaultdict(list)
    for entry in entries:
        states[entry.key.backend_id, entry.key.source_id, entry.key.suffix].append(entry)
    return [
        entry
        for group in states.values()
        for entry in sorted(group, key=lambda entry: (entry.mtime, str(entry.path)))[:-1]
    ]


def count_by_backend(entries: Sequence[CacheEntry]) -> tuple[BackendStat, ...]:
    """The entries of each form, the largest first."""
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        form = entry.key.backend_id, entry.key.suffix
        counts[form] += 1
        sizes[form] += entry.size_bytes
    stats = [BackendStat(*form, count, sizes[form]) for form, count in counts.items()]
    return tuple(sorted(stats, key=lambda stat: (-stat.total_bytes, stat.backend_id)))


def _existing(store: Store) -> str:
    """The store's folder, or the nearest folder above it that exists."""
    path = store.root
    while store.files.status(str(path), follows_links=True) is None:
        path = path.parent
    return str(path)
