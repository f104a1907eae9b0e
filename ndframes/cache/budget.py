"""Budget: the byte limits of a cache, kept by removing the entries used longest ago."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import CacheError, shorten
from ..system.process import ForkAware
from ..text import count_noun, parse_bytes
from .leases import leases_elsewhere
from .remover import Remover, by_last_use, collector_lock, search_errors, sum_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from .remover import GcReport
    from .store import Store

__all__ = ["Budget", "Usage", "check_limit", "to_limit"]
_log = logging.getLogger("ndframes")
_LOW_WATER = 0.85
# The number of writers that may be at work at once, each of which may use its share before it counts again.
_WRITERS = 16
# In units of the time that one count took: counting then takes a twentieth of a writer's time at most.
_RECOUNT_FACTOR = 20.0
_SETTLE_SECONDS = 1.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process knows of the size of a cache without counting again.

    Attributes:
        total_bytes: the bytes of all entries when they were last counted.
        free_bytes: the bytes free on the disk at that time.
        valid_until: until when the count may be used, in seconds of ``time.monotonic()``.
        written_bytes: what this process has written since.
        is_stuck: whether entries that cannot be removed exceed the limit; then only time makes the count stale.
    """

    total_bytes: int
    free_bytes: int
    valid_until: float
    written_bytes: int = 0
    is_stuck: bool = False

    def is_stale(self, max_bytes: int, free_bytes: int) -> bool:
        """Whether the entries must be counted again, because other writers may have used up the rest of the limit.

        Each of several writers may use a share of what was left. A writer of little also counts when the free space of
        the disk shows that others have used half of what was left, and from time to time in any case: files that are
        deleted elsewhere on the disk hide the use.
        """
        left_bytes = max_bytes - self.total_bytes
        if time.monotonic() > self.valid_until:
            return True
        return not self.is_stuck and (
            left_bytes <= 0
            or self.written_bytes > left_bytes // _WRITERS
            or self.free_bytes - free_bytes > left_bytes // 2
        )


class Budget(ForkAware):
    """Keeps a store within its limits.

    The store is an argument of the methods, not an attribute: a cycle of references would keep a dropped store, and
    with it its lease, until the next garbage collection.

    Args:
        max_bytes: the limit of all entries together; ``None``: no limit.
        min_free_bytes: how much must stay free on the disk; ``None``: no limit.
        recount_factor: how long a count of the entries is used, in units of the time that it took.
    """

    def __init__(
        self, max_bytes: int | None, min_free_bytes: int | None, *, recount_factor: float = _RECOUNT_FACTOR
    ) -> None:
        check_limit("max_bytes", max_bytes)
        check_limit("min_free_bytes", min_free_bytes)
        self.max_bytes = max_bytes
        self.min_free_bytes = min_free_bytes
        self._recount_factor = recount_factor
        self._usage: Usage | None = None
        self._has_warned = False
        self._lock = threading.Lock()
        super().__init__()

    @property
    def is_limited(self) -> bool:
        """Whether entries may be removed because of a limit."""
        return self.max_bytes is not None or self.min_free_bytes is not None

    def make_room(self, store: Store, needed_bytes: int) -> int:
        """Remove entries until an entry of this size leaves ``min_free_bytes`` free; returns the bytes that are free.

        Raises:
            CacheError: the folder does not bear the marks of a cache, or those of a newer version.
        """
        free_bytes = store.files.free_bytes(str(store.root))
        if self.min_free_bytes is None or free_bytes >= needed_bytes + self.min_free_bytes:
            return free_bytes
        return _free_space(store, needed_bytes + self.min_free_bytes)

    def entry_published(self, store: Store, newest: Path) -> None:
        """Remove entries, those used longest ago first, if all exceed ``max_bytes``; never ``newest``.

        Called after each publication, so the entries are counted only now and then. A writer that finds the limit
        exceeded waits until it is kept again, so each writer is ahead by one entry at most. Raises no ``OSError``: the
        entry exists, and a limit that cannot be kept is only logged, once.
        """
        if self.max_bytes is None:
            return
        try:
            usage = self._add_written(store, newest)
            free_bytes = store.files.free_bytes(str(store.root))
            if usage is not None and not usage.is_stale(self.max_bytes, free_bytes):
                return
            if self._count(store) > self.max_bytes:
                self._shrink(store, newest, self.max_bytes)
        except OSError as error:
            self._warn_once(store, str(error))

    def _add_written(self, store: Store, newest: Path) -> Usage | None:
        """What is known of the store's size, with the newest entry in it; ``None`` before the first count."""
        size_bytes = _size_of(store, newest)
        with self._lock:
            if self._usage is not None:
                self._usage = replace(self._usage, written_bytes=self._usage.written_bytes + size_bytes)
            return self._usage

    def _count(self, store: Store, *, is_stuck: bool = False) -> int:
        """Count the bytes of all entries."""
        free_bytes = store.files.free_bytes(str(store.root))
        # free_bytes is read before the count, so that what others write meanwhile counts as used.
        started = time.monotonic()
        total_bytes = sum_bytes(store.ls())
        ended = time.monotonic()
        valid_until = ended + self._recount_factor * (ended - started)
        with self._lock:
            self._usage = Usage(total_bytes, free_bytes, valid_until, is_stuck=is_stuck)
        return total_bytes

    def _shrink(self, store: Store, newest: Path, max_bytes: int) -> None:
        """Remove entries down to below the limit, unless another process has just done so."""
        with collector_lock(store):
            store.check_marks()
            remover = Remover(store, is_dry_run=False)
            if remover.remaining_bytes > max_bytes:
                # Room to spare, so that the next entries do not cause a collection each.
                remover.evict_until(_LOW_WATER * max_bytes, spared=newest)
            report = remover.report()
            is_over = report.remaining_bytes > max_bytes
            # Counted, not computed: others have written and removed entries meanwhile.
            self._count(store, is_stuck=is_over and bool(report.leased or report.failed))
        if is_over:
            self._warn_once(store, _explain_excess(store, report, max_bytes))

    def _warn_once(self, store: Store, problem: str) -> None:
        with self._lock:
            had_warned, self._has_warned = self._has_warned, True
        # Without the lock: a log handler may be slow, or use this cache.
        if not had_warned:
            limit = f"{self.max_bytes:,}"
            _log.warning("cache %s does not keep its budget of %s bytes: %s", store.root, limit, problem)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


def check_limit(name: str, value: int | None) -> None:
    """Check that a limit is a number of bytes or ``None``.

    Raises:
        CacheError: it is not.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise CacheError(f"{name}={shorten(value)}; allowed: a number of bytes, 0 or more, or None")


def to_limit(name: str, value: int | str | None) -> int | None:
    """A limit in bytes, which may be a text with a unit.

    Raises:
        CacheError: it is not a number of bytes, nor ``None``.

    Example:
        >>> to_limit("tier_bytes", "1GB"), to_limit("tier_bytes", 4096), to_limit("tier_bytes", None)
        (1000000000, 4096, None)
    """
    limit = parse_bytes(value) if isinstance(value, str) else value
    if isinstance(value, str) and limit is None:
        raise CacheError(f"{name}={shorten(value)} is not a size; write 500MB, 2.5GB, 1TiB or a number of bytes")
    check_limit(name, limit)
    return limit


def _free_space(store: Store, wanted_free_bytes: int) -> int:
    """Remove entries, those used longest ago first, until so many bytes are free; returns the bytes that are free.

    If all entries together are not enough, none is removed. It also ends when twice the missing bytes were removed:
    the bytes of a mapped entry become free only when the map is closed, and some file systems free them late, so
    waiting for the number to be reached could empty the cache for nothing.
    """
    with search_errors(store), collector_lock(store):
        store.check_marks()
        free_bytes = store.files.free_bytes(str(store.root))
        if free_bytes >= wanted_free_bytes:  # another process has made room meanwhile
            return free_bytes
        remover = Remover(store, is_dry_run=False)
        if free_bytes + remover.removable_bytes < wanted_free_bytes:
            return free_bytes
        most_bytes = 2 * (wanted_free_bytes - free_bytes)
        for entry in sorted(remover.entries, key=by_last_use):
            if free_bytes >= wanted_free_bytes or remover.freed_bytes >= most_bytes:
                break
            remover.evict(entry)
            free_bytes = store.files.free_bytes(str(store.root))
        deadline = time.monotonic() + _SETTLE_SECONDS
        while remover.freed_bytes and free_bytes < wanted_free_bytes and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            free_bytes = store.files.free_bytes(str(store.root))
        return free_bytes


def _explain_excess(store: Store, report: GcReport, max_bytes: int) -> str:
    excess = f"it holds {report.remaining_bytes - max_bytes:,} bytes more"
    if report.leased:
        holders = {lease.owner for lease in leases_elsewhere(store.files, store.root, store.lease_names)}
        names = ", ".join(f"process {owner.pid} on {owner.host}" for owner in sorted(holders))
        return f"{excess}, and {count_noun(report.leased, 'entry')} must stay for other jobs: {names}"
    if report.failed:
        return f"{excess}; {report.failed[0].path} could not be removed: {report.failed[0].problem}"
    return f"{excess}; its newest entry alone is too large"


def _size_of(store: Store, path: Path) -> int:
    status = store.files.status(str(path))
    return 0 if status is None else status.size_bytes  # another process may have removed it already
