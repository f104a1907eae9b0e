"""TierBudget: the limit of a local tier, kept by removing the entries used longest ago."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ...system.process import ForkAware

if TYPE_CHECKING:
    from .tier_folder import TierFolder

__all__ = ["TierBudget"]
_log = logging.getLogger("ndframes")
_LOW_WATER = 0.85
# The number of processes that may write at once, each of which may use its share before it counts again.
_WRITERS = 32
# In units of the time that one count took: counting then takes a twentieth of a writer's time at most.
_RECOUNT_FACTOR = 20.0
_RETRY_SECONDS = 1.0


class TierBudget(ForkAware):
    """Keeps a local tier within its limit.

    Args:
        folder: the tier.
        max_bytes: the limit of what it takes on the disk; ``None``: no limit.
    """

    def __init__(self, folder: TierFolder, max_bytes: int | None) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        # What this process may write before it counts again, and when it may count.
        self._allowed_bytes = 0
        self._next_count = 0.0
        # The entry that alone is too large, and until when nothing is added to it.
        self._too_large = ""
        self._lock = threading.Lock()
        ForkAware.__init__(self)

    def allows(self, entry: str) -> bool:
        """Whether something may be added to this entry: not if it alone exceeds the limit, nor before a count that is due."""
        if self.max_bytes is None:
            return True
        now = time.monotonic()
        if self._too_large == entry and now < self._next_count + _RETRY_SECONDS:
            return False
        return self._allowed_bytes >= 0 or now >= self._next_count

    def note_written(self, count: int, entry: str) -> None:
        """Count what was written to an entry. Remove others, those used longest ago first, if all exceed the limit.

        Raises:
            OSError: the folder cannot be searched.
        """
        if self.max_bytes is None:
            return
        with self._lock:
            self._allowed_bytes -= count
            if self._allowed_bytes >= 0 or time.monotonic() < self._next_count:
                return
            # Until this thread has counted, others go on.
            self._allowed_bytes = self.max_bytes // _WRITERS
        with self._folder.collecting() as is_mine:
            if is_mine:
                self._count(self.max_bytes, entry)

    def _count(self, max_bytes: int, spared: str) -> None:
        started = time.monotonic()
        remaining = self._shrink(max_bytes, spared)
        ended = time.monotonic()
        with self._lock:
            self._allowed_bytes = max(0, max_bytes - remaining) // _WRITERS
            self._next_count = ended + _RECOUNT_FACTOR * (ended - started)
            self._too_large = spared if remaining > max_bytes else ""

    def _shrink(self, max_bytes: int, spared: str) -> int:
        """Remove entries if all exceed the limit; returns what the others take."""
        entries = self._folder.list_entries()
        remaining = sum(entry.disk_bytes for entry in entries)
        if remaining <= max_bytes:
            return remaining
        removed = 0
        for entry in sorted(entries, key=lambda entry: entry.used):
            if remaining <= _LOW_WATER * max_bytes:
                break
            if entry.entry == spared:
                continue
            for path in entry.paths:
                self._folder.remove(path)
            remaining -= entry.disk_bytes
            removed += 1
        _log.info("%s: %d entries were removed; %d bytes remain", self._folder.root, removed, remaining)
        return remaining

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
