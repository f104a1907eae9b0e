"""Upkeep: how much a cache holds, and what of it may go.

Nothing is removed but regular files that bear the names of a cache (:mod:`.layout`), under a folder that bears its marks.
A file is unlinked, never changed: whoever has it mapped reads on.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..display import format_bytes
from ..errors import CacheError, NdframesError
from .layout import OwnedName, check_marks, is_abandoned, is_quarantined, is_regular, parse_lease, parse_part
from .leases import leased_elsewhere, leases_elsewhere

if TYPE_CHECKING:
    from .fs import FileSystem
    from .store import Cache, CacheEntry

__all__ = [
    "BackendStat",
    "CacheStat",
    "GcReport",
    "NotRemoved",
    "Usage",
    "clear_cache",
    "collect_garbage",
    "free_space",
    "keep_budget",
    "stat_cache",
]

_log = logging.getLogger("ndframes")

_LISTED = 20
_LOW_WATER = 0.85
_WRITERS = 16
# In units of what one count took: so that counting takes a twentieth of the time at most.
_COUNT_EVERY = 20
_GC_WAIT_SECONDS = 2.0
_POLL_SECONDS = 0.01
_SETTLE_SECONDS = 1.0


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
        lines = [f"{_count(self.entries, 'entry')}, {format_bytes(self.total_bytes)}"]
        lines += [
            f"  {form.suffix} {form.backend_id}: {_count(form.entries, 'entry')}, {format_bytes(form.total_bytes)}"
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


class NotRemoved(NamedTuple):
    """A file that should have gone, and why it did not."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was removed from a cache, or would have been.

    Attributes:
        removed: how many entries.
        freed_bytes: the bytes of everything that was removed.
        kept: how many entries are left.
        remaining_bytes: their bytes.
        leased: how many of them were to go, and stay since other running jobs hold them.
        leftovers: how many other files were removed: half-written, damaged, of jobs that have ended.
        failed: what could not be removed.
        paths: everything that was removed.
        is_dry_run: whether all that was only looked up.
    """

    removed: int
    freed_bytes: int
    kept: int
    remaining_bytes: int = 0
    leased: int = 0
    leftovers: int = 0
    failed: tuple[NotRemoved, ...] = ()
    paths: tuple[str, ...] = field(default=(), repr=False)
    is_dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "failed": [item._asdict() for item in self.failed], "paths": list(self.paths)}

    def __str__(self) -> str:
        verb = "would be removed" if self.is_dry_run else "removed"
        held = f" ({self.leased:,} for other jobs)" if self.leased else ""
        lines = [
            f"{_count(self.removed, 'entry')} and {_count(self.leftovers, 'leftover')} {verb} "
            f"({format_bytes(self.freed_bytes)}), {self.kept:,} kept{held} ({format_bytes(self.remaining_bytes)})"
        ]
        lines += [f"  {item.path}: {item.problem}" for item in self.failed[:_LISTED]]
        if len(self.failed) > _LISTED:
            lines.append(f"  ... and {len(self.failed) - _LISTED:,} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process knows of the size of a cache without looking again.

    Attributes:
        total_bytes: all entries, when they were last counted.
        free_bytes: what was free on the disk then.
        valid_until: for how long that is believed, in seconds of ``time.monotonic()``.
        written_bytes: what this process has added since.
        is_stuck: whether others keep it over the budget; so the entries are counted from time to time alone.
        has_warned: whether that was told.
    """

    total_bytes: int
    free_bytes: int
    valid_until: float
    written_bytes: int = 0
    is_stuck: bool = False
    has_warned: bool = False

    def is_stale(self, max_bytes: int, free_bytes: int) -> bool:
        """Whether the entries must be counted again, lest many writers together exceed the budget unseen.

        Each may use its share of what was left. One that writes little looks again when the disk shows that the others
        have used up half of it, and from time to time, since what others delete there hides that.
        """
        left_bytes = max_bytes - self.total_bytes
        if time.monotonic() > self.valid_until:
            return True
        return not self.is_stuck and (
            left_bytes <= 0
            or self.written_bytes > left_bytes // _WRITERS
            or self.free_bytes - free_bytes > left_bytes // 2
        )


def stat_cache(cache: Cache) -> CacheStat:
    """Count; see :meth:`Cache.stat`."""
    with _telling(cache):
        entries = list(cache.ls())
        superseded = _find_superseded(entries)
        temporary = list(_owned_files(cache.files, cache.root / "tmp", parse_part))
        quarantined = list(_quarantined_files(cache))
        leased = leased_elsewhere(cache.files, cache.root, cache.lease_names)
        return CacheStat(
            entries=len(entries),
            total_bytes=_bytes_of(entries),
            by_backend=_count_by_backend(entries),
            oldest_used=min((entry.used for entry in entries), default=None),
            newest_used=max((entry.used for entry in entries), default=None),
            superseded=len(superseded),
            superseded_bytes=_bytes_of(superseded),
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
    with _sweeping(cache, dry_run=dry_run) as broom:
        if broom is None:
            return GcReport(0, 0, 0, is_dry_run=dry_run)
        broom.sweep_leftovers()
        for entry in _find_superseded(broom.entries):
            broom.evict(entry)
        if limit is not None:
            broom.evict_until(limit)
        return broom.report()


def clear_cache(cache: Cache, *, dry_run: bool) -> GcReport:
    """Remove every entry; see :meth:`Cache.clear`."""
    with _sweeping(cache, dry_run=dry_run) as broom:
        if broom is None:
            return GcReport(0, 0, 0, is_dry_run=dry_run)
        broom.sweep_leftovers()
        for entry in list(broom.entries):
            broom.evict(entry)
        return broom.report()


def keep_budget(cache: Cache, newest: Path) -> None:
    """Remove entries, those used longest ago first, if there are more than ``cache.max_bytes``; never ``newest``.

    Called after every publish, so the entries are counted only now and then. A writer that finds the budget exceeded
    waits until it is kept again, so that each is one entry ahead at most. Raises nothing: the entry is there, and a
    budget that cannot be kept is told once.
    """
    assert cache.max_bytes is not None  # noqa: S101
    try:
        usage = _note_written(cache, newest)
        free = cache.files.free_bytes(str(cache.root))
        if usage is not None and not usage.is_stale(cache.max_bytes, free):
            return
        if _count_again(cache) > cache.max_bytes:
            _shrink(cache, newest)
    except OSError as error:
        _warn_once(cache, str(error))


def free_space(cache: Cache, wanted_free_bytes: int) -> int:
    """Remove entries, those used longest ago first, until so many bytes are free on the disk.

    The bytes of an entry that somebody has mapped come back when the map is closed, and some file systems take their
    time. So it ends, too, when twice as much was removed as was short: more would empty the cache for nothing. Where all
    entries together are not enough, none is removed.

    Returns:
        How many bytes are free then.

    Raises:
        CacheError: the folder does not bear the marks of a cache, or those of a newer version.
    """
    with _telling(cache), _alone(cache):
        check_marks(cache.root)
        free = cache.files.free_bytes(str(cache.root))
        if free >= wanted_free_bytes:
            return free
        broom = _Broom(cache, is_dry_run=False)
        if free + broom.removable_bytes < wanted_free_bytes:
            return free
        most = 2 * (wanted_free_bytes - free)
        for entry in sorted(broom.entries, key=_by_use):
            if free >= wanted_free_bytes or broom.freed_bytes >= most:
                break
            broom.evict(entry)
            free = cache.files.free_bytes(str(cache.root))
        deadline = time.monotonic() + _SETTLE_SECONDS
        while broom.freed_bytes and free < wanted_free_bytes and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            free = cache.files.free_bytes(str(cache.root))
        return free


class _Broom:
    """Removes files, or only notes which, and counts."""

    def __init__(self, cache: Cache, *, is_dry_run: bool) -> None:
        self._cache = cache
        self._files = cache.files
        self._is_dry_run = is_dry_run
        self._leased = leased_elsewhere(cache.files, cache.root, cache.lease_names)
        self._bound: set[str] = set()
        self._failed: list[NotRemoved] = []
        self._paths: list[str] = []
        self._removed = 0
        self._leftovers = 0
        self.freed_bytes = 0
        #: what is left, in the order in which it was found
        self.entries: dict[CacheEntry, None] = dict.fromkeys(cache.ls())

    @property
    def remaining_bytes(self) -> int:
        """The bytes of the entries that are left."""
        return _bytes_of(self.entries)

    @property
    def removable_bytes(self) -> int:
        """The bytes of those of them that no other job holds."""
        return _bytes_of(entry for entry in self.entries if entry.key.relative_path not in self._leased)

    def sweep_leftovers(self) -> None:
        """Remove what dead writers left, damaged entries, and the leases of jobs that have ended."""
        root = self._cache.root
        for path, status, owner in _owned_files(self._files, root / "tmp", parse_part):
            if is_abandoned(self._files, path, owner):
                self._sweep(path, status)
        for path, status in _quarantined_files(self._cache):
            self._sweep(path, status)
        for path, status, owner in _owned_files(self._files, root / "leases", parse_lease):
            if is_abandoned(self._files, path, owner):
                self._sweep(path, status)

    def evict_until(self, limit_bytes: float, *, spared: Path | None = None) -> None:
        """Remove entries, those used longest ago first, until no more than so many bytes are left."""
        remaining = self.remaining_bytes
        for entry in sorted(self.entries, key=_by_use):
            if remaining <= limit_bytes:
                return
            if entry.path != spared and self.evict(entry):
                remaining -= entry.size_bytes

    def evict(self, entry: CacheEntry) -> bool:
        """Remove an entry, unless another job holds it, or anything has happened to it since; whether it is gone."""
        if entry.key.relative_path in self._leased:
            self._bound.add(entry.key.relative_path)
            return False
        path = str(entry.path)
        try:
            status = self._files.status(path)
        except FileNotFoundError:
            del self.entries[entry]
            return True
        is_same = (status.st_size, status.st_mtime) == (entry.size_bytes, entry.mtime)
        if not is_regular(status) or not is_same or status.st_atime > entry.used or not self._remove(path, status):
            return False
        self._removed += 1
        del self.entries[entry]
        return True

    def report(self) -> GcReport:
        """What was done."""
        return GcReport(
            removed=self._removed,
            freed_bytes=self.freed_bytes,
            kept=len(self.entries),
            remaining_bytes=self.remaining_bytes,
            leased=len(self._bound),
            leftovers=self._leftovers,
            failed=tuple(self._failed),
            paths=tuple(self._paths),
            is_dry_run=self._is_dry_run,
        )

    def _sweep(self, path: str, status: os.stat_result) -> None:
        self._leftovers += self._remove(path, status)

    def _remove(self, path: str, status: os.stat_result) -> bool:
        if not self._is_dry_run:
            try:
                self._files.remove(path)
            except OSError as error:  # another user's, as a rule; the rest can go all the same
                self._failed.append(NotRemoved(path, error.strerror or str(error)))
                return False
        self._paths.append(path)
        self.freed_bytes += status.st_size
        return True


def _note_written(cache: Cache, newest: Path) -> Usage | None:
    """What is known of the cache's size, with the newest entry in it."""
    with cache._locks_lock:  # noqa: SLF001 - two threads may publish at once
        usage = cache._usage  # noqa: SLF001
        if usage is not None:
            usage = replace(usage, written_bytes=usage.written_bytes + _size_of(cache.files, newest))
            cache._usage = usage  # noqa: SLF001
    return usage


def _count_again(cache: Cache, *, is_stuck: bool = False) -> int:
    """How many bytes the entries have, now."""
    free = cache.files.free_bytes(str(cache.root))
    started = time.monotonic()
    total = _bytes_of(cache.ls())
    ended = time.monotonic()
    has_warned = cache._usage is not None and cache._usage.has_warned  # noqa: SLF001 - kept there for this module
    valid_until = ended + _COUNT_EVERY * (ended - started)
    cache._usage = Usage(total, free, valid_until, is_stuck=is_stuck, has_warned=has_warned)  # noqa: SLF001
    return total


def _shrink(cache: Cache, newest: Path) -> None:
    """Bring the cache back under its budget, with room to spare, unless another process just did."""
    assert cache.max_bytes is not None  # noqa: S101
    with _alone(cache):
        check_marks(cache.root)
        broom = _Broom(cache, is_dry_run=False)
        if broom.remaining_bytes > cache.max_bytes:
            broom.evict_until(_LOW_WATER * cache.max_bytes, spared=newest)
        report = broom.report()
        is_over = report.remaining_bytes > cache.max_bytes
        _count_again(cache, is_stuck=is_over and bool(report.leased or report.failed))
    if is_over:
        _warn_once(cache, _explain_excess(cache, report))


def _explain_excess(cache: Cache, report: GcReport) -> str:
    assert cache.max_bytes is not None  # noqa: S101
    excess = f"it holds {report.remaining_bytes - cache.max_bytes:,} bytes more"
    if report.leased:
        holders = {lease.owner for lease in leases_elsewhere(cache.files, cache.root, cache.lease_names)}
        named = ", ".join(f"process {owner.pid} on {owner.host}" for owner in sorted(holders))
        return f"{excess}, and {_count(report.leased, 'entry')} must stay for other jobs: {named}"
    if report.failed:
        return f"{excess}; {report.failed[0].path} could not be removed: {report.failed[0].problem}"
    return f"{excess}; its newest entry alone is too large"


def _warn_once(cache: Cache, problem: str) -> None:
    usage = cache._usage or Usage(cache.max_bytes or 0, 0, 0.0)  # noqa: SLF001
    if not usage.has_warned:
        _log.warning("cache %s does not keep its budget of %s bytes: %s", cache.root, f"{cache.max_bytes:,}", problem)
    cache._usage = replace(usage, has_warned=True)  # noqa: SLF001


@contextmanager
def _sweeping(cache: Cache, *, dry_run: bool) -> Iterator[_Broom | None]:
    """A broom for the cache, nobody else's at work as far as that can be had; ``None`` where there is no cache."""
    with _telling(cache):
        if not _is_there(cache.files, cache.root):
            yield None
            return
        check_marks(cache.root)
        if dry_run:  # which writes nothing, a lock neither
            yield _Broom(cache, is_dry_run=True)
            return
        with _alone(cache):
            yield _Broom(cache, is_dry_run=False)


@contextmanager
def _alone(cache: Cache) -> Iterator[None]:
    """One collector at a time, as far as that can be had. To save work: two of them do no harm, one that hangs does."""
    with ExitStack() as stack:
        try:
            path = str(cache.root / "locks" / "gc")
            stack.enter_context(cache.files.lock(path, seconds=_GC_WAIT_SECONDS, poll_seconds=_POLL_SECONDS))
        except OSError:
            pass  # whoever has it takes too long, or no lock is to be had
        yield


@contextmanager
def _telling(cache: Cache) -> Iterator[None]:
    """What the system says, as an error of ours."""
    try:
        yield
    except NdframesError:
        raise
    except OSError as error:
        raise CacheError(f"cache folder {cache.root} cannot be searched: {error}; check who may read it") from error


def _owned_files(
    files: FileSystem, folder: Path, parse: Callable[[str], OwnedName | None]
) -> Iterator[tuple[str, os.stat_result, OwnedName]]:
    for name, path, status in _plain_files(files, folder):
        owner = parse(name)
        if owner is not None:
            yield path, status, owner


def _quarantined_files(cache: Cache) -> Iterator[tuple[str, os.stat_result]]:
    for name, path, status in _plain_files(cache.files, cache.root / "quarantine"):
        if is_quarantined(name):
            yield path, status


def _plain_files(files: FileSystem, folder: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    """The regular files of a folder; a link is none, and no folder either."""
    if folder.is_symlink():
        return
    for item in files.scan(str(folder)):
        try:
            status = files.status(item.path)
        except FileNotFoundError:
            continue
        if is_regular(status):
            yield item.name, item.path, status


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


def _by_use(entry: CacheEntry) -> tuple[float, str]:
    return entry.used, str(entry.path)


def _bytes_of(entries: Iterable[CacheEntry]) -> int:
    return sum(entry.size_bytes for entry in entries)


def _size_of(files: FileSystem, path: Path) -> int:
    try:
        return files.status(str(path)).st_size
    except FileNotFoundError:  # removed by another process already
        return 0


def _is_there(files: FileSystem, path: Path) -> bool:
    try:
        files.status(str(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _existing(path: Path) -> str:
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return str(path)


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"
