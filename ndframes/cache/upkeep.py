"""Upkeep: how much a cache holds, and what of it is of no use any more."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..text import count_noun, format_bytes
from .layout import parse_part
from .leases import leased_elsewhere
from .remover import (
    GcReport,
    bytes_of,
    owned_files,
    quarantined_files,
    sweeping,
    telling,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .store import Cache, CacheEntry

__all__ = ["BackendStat", "CacheStat", "clear_cache", "collect_garbage", "stat_cache"]


class BackendStat(NamedTuple):
    """The entries of one form: the digest of its options, their suffix, how many there are, how many bytes."""

    backend_id: str
    suffix: str
    entries: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class CacheStat:
    """How much a cache holds.

    Attributes:
        entries: how many entries there are.
        total_bytes: their bytes.
        by_backend: the same for each form of entry, the largest first.
        oldest_used: when the entry used longest ago was, in seconds since 1970; ``None`` where there is none.
        newest_used: the same of the one used last.
        superseded: how many entries are of a state in which their source is no more.
        superseded_bytes: their bytes.
        temporary: how many files are being written, or were left by writers that died.
        temporary_bytes: their bytes.
        quarantined: how many damaged entries were taken out of the way.
        quarantined_bytes: their bytes.
        leased: how many entries other running jobs hold.
        free_bytes: what is free on the disk.
        max_bytes: the budget, if there is one.
        min_free_bytes: what must stay free, if anything.
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
    free_bytes: int
    max_bytes: int | None = None
    min_free_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
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
        kept_free = "" if self.min_free_bytes is None else f", {format_bytes(self.min_free_bytes)} must stay so"
        lines.append(f"{format_bytes(self.free_bytes)} free on the disk{kept_free}")
        return "\n".join(lines)


def stat_cache(cache: Cache) -> CacheStat:
    """Count; see :meth:`Cache.stat`."""
    with telling(cache):
        entries = list(cache.ls())
        superseded = _find_superseded(entries)
        temporary = list(owned_files(cache.files, cache.root / "tmp", parse_part))
        quarantined = list(quarantined_files(cache))
        leased = leased_elsewhere(cache.files, cache.root, cache.lease_names)
        return CacheStat(
            entries=len(entries),
            total_bytes=bytes_of(entries),
            by_backend=_count_by_backend(entries),
            oldest_used=min((entry.used for entry in entries), default=None),
            newest_used=max((entry.used for entry in entries), default=None),
            superseded=len(superseded),
            superseded_bytes=bytes_of(superseded),
            temporary=len(temporary),
            temporary_bytes=sum(status.st_size for _, status, _ in temporary),
            quarantined=len(quarantined),
            quarantined_bytes=sum(status.st_size for _, status in quarantined),
            leased=sum(entry.key.relative_path in leased for entry in entries),
            free_bytes=cache.files.free_bytes(_existing(cache.root)),
            max_bytes=cache.max_bytes,
            min_free_bytes=cache.min_free_bytes,
        )


def collect_garbage(cache: Cache, *, max_bytes: int | None, dry_run: bool) -> GcReport:
    """Remove what is of no use any more; see :meth:`Cache.gc`."""
    limit = cache.max_bytes if max_bytes is None else max_bytes
    with sweeping(cache, dry_run=dry_run) as remover:
        if remover is None:
            return GcReport(0, 0, 0, is_dry_run=dry_run)
        remover.sweep_leftovers()
        for entry in _find_superseded(remover.entries):
            remover.evict(entry)
        if limit is not None:
            remover.evict_until(limit)
        return remover.report()


def clear_cache(cache: Cache, *, dry_run: bool) -> GcReport:
    """Remove every entry; see :meth:`Cache.clear`."""
    with sweeping(cache, dry_run=dry_run) as remover:
        if remover is None:
            return GcReport(0, 0, 0, is_dry_run=dry_run)
        remover.sweep_leftovers()
        for entry in list(remover.entries):
            remover.evict(entry)
        return remover.report()


def _find_superseded(entries: Iterable[CacheEntry]) -> list[CacheEntry]:
    """All but the one written last, of the entries of one source in one form."""
    states: dict[tuple[str, str, str], list[CacheEntry]] = defaultdict(list)
    for entry in entries:
        states[entry.key.backend_id, entry.key.source_id, entry.key.suffix].append(entry)
    return [
        entry
        for group in states.values()
        for entry in sorted(group, key=lambda entry: (entry.mtime, str(entry.path)))[:-1]
    ]


def _count_by_backend(entries: Sequence[CacheEntry]) -> tuple[BackendStat, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        form = entry.key.backend_id, entry.key.suffix
        counts[form] += 1
        sizes[form] += entry.size_bytes
    stats = [BackendStat(*form, count, sizes[form]) for form, count in counts.items()]
    return tuple(sorted(stats, key=lambda stat: (-stat.total_bytes, stat.backend_id)))


def _existing(path: Path) -> str:
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return str(path)
