"""Remover: removes files of a cache, or only reports which files it would remove.

Only regular files with the names of a cache (:mod:`.layout`), under a folder with the marks of a cache, are removed. A
file is unlinked, never changed, so a reader that has mapped it can go on.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import CacheError, NdframesError
from ..text import count_noun, format_bytes, list_first
from .layout import (
    is_abandoned,
    is_quarantined,
    parse_lease,
    parse_part,
)
from .leases import leased_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ..system.files import FileStatus, FileSystem
    from .layout import OwnedName
    from .store import CacheEntry, Store

__all__ = [
    "GcReport",
    "NotRemoved",
    "Remover",
    "by_last_use",
    "collector_lock",
    "open_remover",
    "owned_files",
    "quarantined_files",
    "search_errors",
    "sum_bytes",
]
_LOCK_WAIT_SECONDS = 2.0
_POLL_SECONDS = 0.01


class NotRemoved(NamedTuple):
    """A file that could not be removed, and why."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was removed from a cache, or would be removed.

    Attributes:
        removed: the number of entries removed.
        freed_bytes: the bytes of all removed files.
        kept: the number of entries that remain.
        remaining_bytes: the bytes of those.
        leased: how many of those should have been removed, but are held by other running jobs.
        leftovers: the number of other files removed: half-written, damaged, or of jobs that have ended.
        failed: the files that could not be removed.
        paths: the files that were removed.
        is_dry_run: whether nothing was removed and the report tells what would be.
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
        """Whether every file was removed that should be."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain data, ready for JSON."""
        return {**asdict(self), "failed": [item._asdict() for item in self.failed], "paths": list(self.paths)}

    def __str__(self) -> str:
        verb = "would be removed" if self.is_dry_run else "removed"
        held = f" ({self.leased:,} for other jobs)" if self.leased else ""
        lines = [
            f"{count_noun(self.removed, 'entry')} and {count_noun(self.leftovers, 'leftover')} {verb} "
            f"({format_bytes(self.freed_bytes)}), {self.kept:,} kept{held} ({format_bytes(self.remaining_bytes)})"
        ]
        return "\n".join([*lines, *list_first(f"{item.path}: {item.problem}" for item in self.failed)])


@contextmanager
def open_remover(store: Store, *, dry_run: bool) -> Iterator[Remover | None]:
    """A remover for the store, with the collector's lock if that is free; ``None`` where there is no store.

    Raises:
        CacheError: the folder does not bear the marks of a cache, or cannot be searched.
    """
    with search_errors(store):
        if store.files.status(str(store.root)) is None:
            yield None
            return
        store.check_marks()
        if dry_run:  # which writes nothing, no lock file either
            yield Remover(store, is_dry_run=True)
            return
        with collector_lock(store):
            yield Remover(store, is_dry_run=False)


@contextmanager
def collector_lock(store: Store) -> Iterator[None]:
    """Keep other collectors out, to save work.

    Two collectors at once do no harm, so the context is entered without the lock if another process holds it for long.
    """
    with ExitStack() as stack:
        try:
            path = str(store.root / "locks" / "gc")
            stack.enter_context(store.files.lock(path, seconds=_LOCK_WAIT_SECONDS, poll_seconds=_POLL_SECONDS))
        except OSError:
            pass  # held for too long, or this file system has no locks
        yield


@contextmanager
def search_errors(store: Store) -> Iterator[None]:
    """Raise the system's errors while the folder is searched as cache errors."""
    try:
        yield
    except NdframesError:
        raise
    except OSError as error:
        raise CacheError(
            f"cache folder {store.root} cannot be searched: {error}; check the folder's permissions"
        ) from error


class Remover:
    """Removes files of a store, or only notes which, and counts them.

    Args:
        store: the store.
        is_dry_run: whether to remove nothing.

    Attributes:
        entries: the entries that remain, in the order in which they were found.
        freed_bytes: the bytes of all files removed so far.
    """

    def __init__(self, store: Store, *, is_dry_run: bool) -> None:
        self._store = store
        self._files = store.files
        self._is_dry_run = is_dry_run
        # Listed before the leases are read: an entry that another job makes and leases in between is then not listed,
        # whereas in the other order it would be listed without its lease, and removed.
        self.entries: dict[CacheEntry, None] = dict.fromkeys(store.ls())
        self._leased = leased_elsewhere(store.files, store.root, store.lease_names)
        self._kept_for_lease: set[str] = set()
        self._failed: list[NotRemoved] = []
        self._paths: list[str] = []
        self._removed = 0
        self._leftovers = 0
        self.freed_bytes = 0

    @property
    def remaining_bytes(self) -> int:
        """The bytes of the entries that remain."""
        return sum_bytes(self.entries)

    @property
    def removable_bytes(self) -> int:
        """The bytes of the remaining entries that no other job holds."""
        return sum_bytes(entry for entry in self.entries if entry.key.relative_path not in self._leased)

    def remove_leftovers(self) -> None:
        """Remove the files of dead writers, damaged entries, and the leases of jobs that have ended."""
        root = self._store.root
        for path, status, owner in owned_files(self._files, root / "tmp", parse_part):
            if is_abandoned(self._files, path, owner):
                self._remove_leftover(path, status)
        for path, status in quarantined_files(self._store):
            self._remove_leftover(path, status)
        for path, status, owner in owned_files(self._files, root / "leases", parse_lease):
            if is_abandoned(self._files, path, owner):
                self._remove_leftover(path, status)

    def evict_until(self, limit_bytes: float, *, spared: Path | None = None) -> None:
        """Remove entries, those used longest ago first, until no more than ``limit_bytes`` remain; never ``spared``."""
        remaining = self.remaining_bytes
        for entry in sorted(self.entries, key=by_last_use):
            if remaining <= limit_bytes:
                return
            if entry.path != spared and self.evict(entry):
                remaining -= entry.size_bytes

    def evict(self, entry: CacheEntry) -> bool:
        """Remove an entry unless another job holds it, or it was read or replaced since it was listed.

        Returns:
            Whether the entry is gone.
        """
        if entry.key.relative_path in self._leased:
            self._kept_for_lease.add(entry.key.relative_path)
            return False
        path = str(entry.path)
        status = self._files.status(path)
        # Removed by another process: it no longer takes room, which is what the caller wants to know.
        if status is None:
            del self.entries[entry]
            return True
        # Listing all entries may take minutes, in which another process may have read this one, or published a new state.
        is_same = (status.size_bytes, status.mtime) == (entry.size_bytes, entry.mtime)
        if not status.is_file or not is_same or status.atime > entry.used or not self._remove(path, status):
            return False
        self._removed += 1
        del self.entries[entry]
        return True

    def report(self) -> GcReport:
        """What was removed so far."""
        return GcReport(
            removed=self._removed,
            freed_bytes=self.freed_bytes,
            kept=len(self.entries),
            remaining_bytes=self.remaining_bytes,
            leased=len(self._kept_for_lease),
            leftovers=self._leftovers,
            failed=tuple(self._failed),
            paths=tuple(self._paths),
            is_dry_run=self._is_dry_run,
        )

    def _remove_leftover(self, path: str, status: FileStatus) -> None:
        self._leftovers += self._remove(path, status)

    def _remove(self, path: str, status: FileStatus) -> bool:
        if not self._is_dry_run:
            try:
                self._files.remove(path)
            except OSError as error:  # usually another user's file; the others can still be removed
                self._failed.append(NotRemoved(path, error.strerror or str(error)))
                return False
        self._paths.append(path)
        self.freed_bytes += status.size_bytes
        return True


def owned_files(
    files: FileSystem, folder: Path, parse: Callable[[str], OwnedName | None]
) -> Iterator[tuple[str, FileStatus, OwnedName]]:
    """The regular files of a folder whose names ``parse`` reads as an owner: path, status, owner."""
    for name, path, status in _regular_files(files, folder):
        owner = parse(name)
        if owner is not None:
            yield path, status, owner


def quarantined_files(store: Store) -> Iterator[tuple[str, FileStatus]]:
    """The damaged entries in the quarantine folder: path and status."""
    for name, path, status in _regular_files(store.files, store.root / "quarantine"):
        if is_quarantined(name):
            yield path, status


def _regular_files(files: FileSystem, folder: Path) -> Iterator[tuple[str, str, FileStatus]]:
    """The regular files of a folder; links are not followed, to the folder neither."""
    folder_status = files.status(str(folder))
    if folder_status is None or not folder_status.is_folder:
        return
    for item in files.scan(str(folder)):
        status = files.status(item.path)
        if status is not None and status.is_file:
            yield item.name, item.path, status


def by_last_use(entry: CacheEntry) -> tuple[float, str]:
    """Sort key of the order in which entries are removed: those used longest ago first."""
    return entry.used, str(entry.path)


def sum_bytes(entries: Iterable[CacheEntry]) -> int:
    """The bytes of all these entries."""
    return sum(entry.size_bytes for entry in entries)
