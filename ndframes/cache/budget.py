"""Budget: a cache keeps to its size, and leaves so much of the disk free, by removing what was used longest ago."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..text import count_noun
from .layout import check_marks
from .leases import leases_elsewhere
from .remover import (
    Remover,
    alone,
    by_use,
    bytes_of,
    telling,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..system.files import FileSystem
    from .remover import GcReport
    from .store import Cache

__all__ = ["Usage", "free_space", "keep_budget"]
_log = logging.getLogger("ndframes")
_LOW_WATER = 0.85
_WRITERS = 16
# In units of what one count took: so that counting takes a twentieth of the time at most.
_COUNT_EVERY = 20
_SETTLE_SECONDS = 1.0
_POLL_SECONDS = 0.01


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
    with telling(cache), alone(cache):
        check_marks(cache.root)
        free = cache.files.free_bytes(str(cache.root))
        if free >= wanted_free_bytes:
            return free
        remover = Remover(cache, is_dry_run=False)
        if free + remover.removable_bytes < wanted_free_bytes:
            return free
        most = 2 * (wanted_free_bytes - free)
        for entry in sorted(remover.entries, key=by_use):
            if free >= wanted_free_bytes or remover.freed_bytes >= most:
                break
            remover.evict(entry)
            free = cache.files.free_bytes(str(cache.root))
        deadline = time.monotonic() + _SETTLE_SECONDS
        while remover.freed_bytes and free < wanted_free_bytes and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            free = cache.files.free_bytes(str(cache.root))
        return free


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
    total = bytes_of(cache.ls())
    ended = time.monotonic()
    has_warned = cache._usage is not None and cache._usage.has_warned  # noqa: SLF001 - kept there for this module
    valid_until = ended + _COUNT_EVERY * (ended - started)
    cache._usage = Usage(total, free, valid_until, is_stuck=is_stuck, has_warned=has_warned)  # noqa: SLF001
    return total


def _shrink(cache: Cache, newest: Path) -> None:
    """Bring the cache back under its budget, with room to spare, unless another process just did."""
    assert cache.max_bytes is not None  # noqa: S101
    with alone(cache):
        check_marks(cache.root)
        remover = Remover(cache, is_dry_run=False)
        if remover.remaining_bytes > cache.max_bytes:
            remover.evict_until(_LOW_WATER * cache.max_bytes, spared=newest)
        report = remover.report()
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
        return f"{excess}, and {count_noun(report.leased, 'entry')} must stay for other jobs: {named}"
    if report.failed:
        return f"{excess}; {report.failed[0].path} could not be removed: {report.failed[0].problem}"
    return f"{excess}; its newest entry alone is too large"


def _warn_once(cache: Cache, problem: str) -> None:
    usage = cache._usage or Usage(cache.max_bytes or 0, 0, 0.0)  # noqa: SLF001
    if not usage.has_warned:
        _log.warning("cache %s does not keep its budget of %s bytes: %s", cache.root, f"{cache.max_bytes:,}", problem)
    cache._usage = replace(usage, has_warned=True)  # noqa: SLF001


def _size_of(files: FileSystem, path: Path) -> int:
    try:
        return files.status(str(path)).st_size
    except FileNotFoundError:  # removed by another process already
        return 0
