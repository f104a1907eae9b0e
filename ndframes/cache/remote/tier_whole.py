"""Files of the local tier without holes: how they are completed, and read."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from ...errors import NdframesError
from ...system.files import LocalFile
from ...system.process import ForkAware
from ...system.segments import fetch_ahead, read_intact
from ..trailer import read_trailer
from .tier_copy import lacking_bytes
from .tier_folder import note_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..._typing import Array
    from ...system.files import OpenFile
    from .commit import Commit

__all__ = ["Completions", "WholeFile"]
_log = logging.getLogger("ndframes")
_WRITE_BITS = 0o222
_ROWS_AT_ONCE = 1 << 14
_RETRY_SECONDS = 600.0
_MOST_FAILED = 10_000


class WholeFile(LocalFile):
    """A file of the local tier that has all of an entry: as fast as a file of a cache on the disk.

    Args:
        path: the file.
        commit: the commit of the entry.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not whole.
    """

    def __init__(self, path: str, commit: Commit) -> None:
        super().__init__(path)
        status = os.fstat(self._descriptor)
        if status.st_size != commit.size_bytes or status.st_mode & _WRITE_BITS:
            self.close()
            raise ValueError(f"{path} is not whole")
        note_use(self._descriptor)
        self.local_path, self.local_stamp = path, self.status.stamp
        # Readers compare it when they open the entry again.
        self.status = commit.status
        self._commit = commit
        self._tail_start = commit.tail_start
        self.tail_bytes = len(commit.tail)

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer only where the file ends."""
        # Of the commit, which was checked: a damaged description would be taken for damage of the entry in the store.
        if offset >= self._tail_start:
            start = offset - self._tail_start
            return self._commit.tail[start : start + length]
        return super().read_at(offset, length)

    def distrust(self) -> bool:
        """Remove the file, so that the entry is fetched again."""
        assert self.local_path is not None  # noqa: S101 - set above
        _log.warning("%s is damaged and is removed; the entry is fetched again", self.local_path)
        try:
            os.unlink(self.local_path)
        except FileNotFoundError:  # another thread was faster
            pass
        except OSError:  # it would be opened again
            return False
        return True


class Completions(ForkAware):
    """Completes files of the tier that lack little, one after the other, in a thread that ends when nothing is left to do."""

    def __init__(self) -> None:
        self._is_running = False
        # When files were tried that could not be completed.
        self._failed: dict[str, float] = {}
        self._reset()
        ForkAware.__init__(self)

    def submit(self, path: str, open_file: Callable[[], OpenFile], data: str, has_grown: bool) -> None:
        """Complete a file of the tier soon, unless that has failed a short while ago and it has not grown since.

        Args:
            path: the entry.
            open_file: opens it.
            data: its file in the tier.
            has_grown: whether more of it was written since it was last submitted.
        """
        with self._lock:
            if not has_grown and time.monotonic() < self._failed.get(data, 0.0) + _RETRY_SECONDS:
                return
            self._waiting[data] = (path, open_file)
            if not self._is_running:
                self._is_running = True
                try:
                    threading.Thread(target=self._run, name="ndframes-tier", daemon=True).start()
                except RuntimeError:  # too many threads, or the interpreter is shutting down
                    self._is_running = False
                    self._waiting.clear()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                data, (path, open_file) = self._waiting.popitem(last=False)
            try:
                is_done = _complete(path, open_file, data)
            except (OSError, NdframesError) as error:  # it stays as it is, and is read as before
                _log.info("%s could not be completed in the local tier: %s", path, error)
                is_done = False
            if not is_done:
                self._note_failure(data)

    def _note_failure(self, data: str) -> None:
        with self._lock:
            if len(self._failed) >= _MOST_FAILED:
                self._failed.clear()
            self._failed[data] = time.monotonic()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, tuple[str, Callable[[], OpenFile]]] = OrderedDict()
        self._is_running = False

    def _after_fork_in_child(self) -> None:
        # The thread is one of the parent.
        self._reset()


def _complete(path: str, open_file: Callable[[], OpenFile], data: str) -> bool:
    """Fetch what a file of the tier lacks, unless that is much, compare all of it with its checksums, and mark it as whole."""
    sparse = _SparseReader(data)
    with open_file() as file, sparse:
        if not file.is_distant:  # another process has done it
            return True
        segments = read_trailer(path, file).load_segments(file)
        missing = [row for row in _rows_of(segments) if read_intact(sparse, *row) is None]
        if sum(row[1] for row in missing) > lacking_bytes(file.status.size_bytes):
            return False
        fetch_ahead(file, missing)
        for row in missing:
            read_intact(file, *row)
        # By the same descriptor: the file may have been removed, and another one begun, or the disk may be full.
        if any(read_intact(sparse, *row) is None for row in missing):
            return False
        read_trailer(path, sparse).load_segments(sparse)
        sparse.seal()
        return True


def _rows_of(segments: Array) -> Iterator[tuple[int, int, int]]:
    for start in range(0, len(segments), _ROWS_AT_ONCE):
        yield from segments[start : start + _ROWS_AT_ONCE].tolist()


class _SparseReader(LocalFile):
    """A file of the tier that is read as if it had no holes."""

    def seal(self) -> None:
        """Make it durable, then read-only, which tells that it has no holes."""
        os.fsync(self._descriptor)
        os.fchmod(self._descriptor, os.fstat(self._descriptor).st_mode & 0o777 & ~_WRITE_BITS)
