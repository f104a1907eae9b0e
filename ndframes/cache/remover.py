"""Remover: removes files of a cache, or only says which it would.

Nothing is removed but regular files that bear the names of a cache (:mod:`.layout`), under a folder that bears its marks.
A file is unlinked, never changed: whoever has it mapped reads on.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import CacheError, NdframesError
from ..text import count_noun, format_bytes, list_first
from .layout import (
    check_marks,
    is_abandoned,
    is_quarantined,
    is_regular,
    parse_lease,
    parse_part,
)
from .leases import leased_elsewhere

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ..system.files import FileSystem
    from .layout import OwnedName
    from .store import Cache, CacheEntry

__all__ = [
    "GcReport",
    "NotRemoved",
    "Remover",
    "alone",
    "by_use",
    "bytes_of",
    "owned_files",
    "quarantined_files",
    "sweeping",
    "telling",
]  # fmt: skip
_GC_WAIT_SECONDS = 2.0
_POLL_SECONDS = 0.01


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
            f"{count_noun(self.removed, 'entry')} and {count_noun(self.leftovers, 'leftover')} {verb} "
            f"({format_bytes(self.freed_bytes)}), {self.kept:,} kept{held} ({format_bytes(self.remaining_bytes)})"
        ]
        return "\n".join([*lines, *list_first(f"{item.path}: {item.problem}" for item in self.failed)])


@contextmanager
def sweeping(cache: Cache, *, dry_run: bool) -> Iterator[Remover | None]:
    """A remover for the cache, nobody else's at work as far as that can be had; ``None`` where there is no cache."""
    with telling(cache):
        if not _is_there(cache.files, cache.root):
            yield None
            return
        check_marks(cache.root)
        if dry_run:  # which writes nothing, a lock neither
            yield Remover(cache, is_dry_run=True)
            return
        with alone(cache):
            yield Remover(cache, is_dry_run=False)


@contextmanager
def alone(cache: Cache) -> Iterator[None]:
    """One collector at a time, as far as that can be had. To save work: two of them do no harm, one that hangs does."""
    with ExitStack() as stack:
        try:
            path = str(cache.root / "locks" / "gc")
            stack.enter_context(cache.files.lock(path, seconds=_GC_WAIT_SECONDS, poll_seconds=_POLL_SECONDS))
        except OSError:
            pass  # whoever has it takes too long, or no lock is to be had
        yield


@contextmanager
def telling(cache: Cache) -> Iterator[None]:
    """What the system says, as an error of ours."""
    try:
        yield
    except NdframesError:
        raise
    except OSError as error:
        raise CacheError(f"cache folder {cache.root} cannot be searched: {error}; check who may read it") from error


class Remover:
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
        return bytes_of(self.entries)

    @property
    def removable_bytes(self) -> int:
        """The bytes of those of them that no other job holds."""
        return bytes_of(entry for entry in self.entries if entry.key.relative_path not in self._leased)

    def sweep_leftovers(self) -> None:
        """Remove what dead writers left, damaged entries, and the leases of jobs that have ended."""
        root = self._cache.root
        for path, status, owner in owned_files(self._files, root / "tmp", parse_part):
            if is_abandoned(self._files, path, owner):
                self._sweep(path, status)
        for path, status in quarantined_files(self._cache):
            self._sweep(path, status)
        for path, status, owner in owned_files(self._files, root / "leases", parse_lease):
            if is_abandoned(self._files, path, owner):
                self._sweep(path, status)

    def evict_until(self, limit_bytes: float, *, spared: Path | None = None) -> None:
        """Remove entries, those used longest ago first, until no more than so many bytes are left."""
        remaining = self.remaining_bytes
        for entry in sorted(self.entries, key=by_use):
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


def owned_files(
    files: FileSystem, folder: Path, parse: Callable[[str], OwnedName | None]
) -> Iterator[tuple[str, os.stat_result, OwnedName]]:
    """The regular files of a folder whose names, as ``parse`` reads them, tell whose they are: path, status, owner."""
    for name, path, status in _plain_files(files, folder):
        owner = parse(name)
        if owner is not None:
            yield path, status, owner


def quarantined_files(cache: Cache) -> Iterator[tuple[str, os.stat_result]]:
    """The damaged entries that were put away: path and status."""
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


def _is_there(files: FileSystem, path: Path) -> bool:
    try:
        files.status(str(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def by_use(entry: CacheEntry) -> tuple[float, str]:
    """In this order entries go: those used longest ago first."""
    return entry.used, str(entry.path)


def bytes_of(entries: Iterable[CacheEntry]) -> int:
    """The length of all of them together."""
    return sum(entry.size_bytes for entry in entries)
