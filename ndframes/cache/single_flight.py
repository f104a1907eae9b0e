"""SingleFlight: one writer for each key at a time, among the threads and processes that share a store."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..system.process import ForkAware
from .layout import parse_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..system.files import FileSystem
    from .keys import EntryKey

__all__ = ["SingleFlight"]
_LOCK_FILES = 4096
_POLL_SECONDS = 1.0


class SingleFlight(ForkAware):
    """Lets one writer at a time work on a key, so that the others find its result instead of repeating the work.

    Threads of this process exclude each other always, processes where the file system has working locks. The locks
    only save work: an entry is published atomically, so two writers of one key do no harm.

    Args:
        root: the store's folder.
        lock_age_seconds: how long to wait for another process that holds the lock but no longer writes.
    """

    def __init__(self, root: Path, lock_age_seconds: float) -> None:
        self._root = root
        self._lock_age_seconds = lock_age_seconds
        self._locks: dict[EntryKey, threading.Lock] = {}
        self._locks_guard = threading.Lock()
        super().__init__()

    @contextmanager
    def enter(self, files: FileSystem, key: EntryKey) -> Iterator[None]:
        """Wait for other writers of ``key``; they wait until the context ends."""
        with self._locks_guard:
            lock = self._locks.setdefault(key, threading.Lock())
        try:
            with lock, ExitStack() as stack:
                self._lock_file(files, _lock_file_of(key.state_id), stack)
                yield
        finally:
            with self._locks_guard:
                # Threads that wait hold this lock object; one that comes now gets a new one, and finds the entry.
                self._locks.pop(key, None)

    def _lock_file(self, files: FileSystem, name: str, stack: ExitStack) -> None:
        """Take the lock between processes; go on without it when its holder shows no sign of life."""
        path = str(self._root / "locks" / name)
        # Not monotonic: it is compared with the times of files.
        started = time.time()
        while time.time() - max(started, self._last_written(files, name)) < self._lock_age_seconds:
            try:
                # Waits in short turns, and looks in between whether the holder still writes.
                stack.enter_context(files.lock(path, seconds=_POLL_SECONDS))
            except TimeoutError:
                continue
            except OSError:
                pass  # this file system has no locks
            return

    def _last_written(self, files: FileSystem, name: str) -> float:
        """When a writer under this lock last wrote to its temporary file, in seconds since 1970."""
        latest = 0.0
        for item in files.scan(str(self._root / "tmp")):
            owner = parse_part(item.name)
            # Any writer under this lock counts, because keys share lock files.
            if owner is not None and _lock_file_of(owner.state_id) == name:
                status = files.status(item.path)
                latest = max(latest, 0.0 if status is None else status.mtime)
        return latest

    def _after_fork_in_child(self) -> None:
        self._locks = {}
        self._locks_guard = threading.Lock()


def _lock_file_of(state_id: str) -> str:
    """Keys share a fixed number of lock files: files of their own would stay behind, one for each entry ever written."""
    return f"{int(state_id[:8], 16) % _LOCK_FILES:03x}"
