"""Leases: the entries that running jobs hold. The kernel ends the lease of a process that dies."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from ..system.files import read_whole
from ..system.process import ForkAware
from .layout import (
    hold_lock,
    is_abandoned,
    new_lease_name,
    parse_entry,
    parse_lease,
    write_marks,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import IO

    from ..system.files import FileSystem
    from .keys import EntryKey
    from .layout import OwnedName

__all__ = ["HeldLease", "Lease", "leased_elsewhere", "leases_elsewhere"]
_log = logging.getLogger("ndframes")


class Lease(ForkAware):
    """Entries that other processes must not remove, listed in a file that they read before they remove any.

    The file is created when the first entry is added, and locked until this object is deleted or the process ends, in
    whatever way. A forked child shares the lease: the lock lasts until both processes have dropped it, and the process
    that created the file removes it. If the folder cannot be written, nothing is held and no error is raised.

    Args:
        files: the file operations.
        root: the cache's folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ndframes.system.files import FileSystem
        >>> from ndframes.cache.keys import EntryKey
        >>> root = Path(tempfile.mkdtemp())
        >>> lease = Lease(FileSystem(), root)
        >>> lease.add([EntryKey("b" * 12, "5" * 32, "7" * 32, ".tif")])
        >>> (root / "leases" / lease.name).read_text().strip()
        'v1/bbbbbbbbbbbb/55/55555555555555555555555555555555.77777777777777777777777777777777.tif'
    """

    def __init__(self, files: FileSystem, root: Path) -> None:
        self._files = files
        self._root = root
        self._path = root / "leases" / new_lease_name()
        self._listed: dict[str, None] = {}  # an ordered set
        self._file: IO[bytes] | None = None
        self._release: weakref.finalize[[FileSystem, str, list[IO[bytes]], int], Lease] | None = None
        self._is_refused = self._has_logged = False
        self._lock = threading.Lock()
        super().__init__()

    @property
    def name(self) -> str:
        """The name of the lease's file, whether it exists yet or not."""
        return self._path.name

    def add(self, keys: Iterable[EntryKey]) -> None:
        """Hold the entries of these keys too."""
        with self._lock:
            new = {path: None for key in keys if (path := key.relative_path) not in self._listed}
            if not new or self._is_refused:
                return
            self._listed.update(new)
            try:
                if self._file is not None and self._files.status(str(self._path)) is not None:
                    self._append(self._file, new)
                else:  # the first entry, or the whole cache was deleted in use
                    self._append(self._create(), self._listed)
            except OSError as error:
                for path in new:
                    del self._listed[path]
                # A folder that refuses the file will refuse it again; an append that failed may succeed later.
                self._is_refused = self._file is None
                self._log_once(error)

    def _create(self) -> IO[bytes]:
        if self._release is not None:
            self._release()
            self._file = None
        if self._files.status(str(self._path.parent), follows_links=True) is None:
            write_marks(self._files, self._root)
        # A list, because the finalizer must not refer to the lease, which it would keep alive.
        opened: list[IO[bytes]] = []
        # Registered before the file exists, so that a Ctrl-C at any moment leaves none behind.
        self._release = weakref.finalize(self, _close_lease, self._files, str(self._path), opened, os.getpid())
        opened.append(self._files.create(str(self._path)))
        try:
            hold_lock(self._files, opened[0])
        except OSError:
            self._release()  # without a lock, others could not tell when this process has ended
            raise
        self._file = opened[0]
        return self._file

    def _append(self, file: IO[bytes], paths: Iterable[str]) -> None:
        """Write paths, each after a line end too: the write before may have been cut short in the middle of a line."""
        self._files.append(file, "".join(f"\n{path}" for path in paths).encode("ascii") + b"\n")

    def _log_once(self, error: OSError) -> None:
        if not self._has_logged:
            _log.info(
                "no lease in %s, so other jobs may remove entries that this one uses: %s", self._path.parent, error
            )
        self._has_logged = True

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


class HeldLease(NamedTuple):
    """A lease of another running job.

    Attributes:
        owner: the process that holds it.
        paths: the paths of the held entries, relative to the cache's root.
    """

    owner: OwnedName
    paths: frozenset[str]


def leases_elsewhere(files: FileSystem, root: Path, own_names: Collection[str] = ()) -> Iterator[HeldLease]:
    """The leases of other running jobs.

    The leases of this process do not count, so a job may remove the entries that it holds itself.

    Args:
        files: the file operations.
        root: the cache's folder.
        own_names: the leases of the job to which this process belongs.
    """
    for item in files.scan(str(root / "leases")):
        owner = parse_lease(item.name)
        if owner is None or owner.is_mine or item.name in own_names or not item.is_file:
            continue
        if is_abandoned(files, item.path, owner):
            continue
        try:
            yield HeldLease(owner, _read_lease(files, item.path))
        except FileNotFoundError:  # its process has ended meanwhile
            continue
        except OSError as error:  # usually another user's file
            _log.info("lease %s cannot be read, so the entries that it names are not known: %s", item.path, error)


def leased_elsewhere(files: FileSystem, root: Path, own_names: Collection[str] = ()) -> set[str]:
    """The entries that other running jobs hold, as paths relative to the cache's root.

    Arguments as for :func:`leases_elsewhere`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ndframes.system.files import FileSystem
        >>> leased_elsewhere(FileSystem(), Path(tempfile.mkdtemp()))
        set()
    """
    return {path for lease in leases_elsewhere(files, root, own_names) for path in lease.paths}


def _read_lease(files: FileSystem, path: str) -> frozenset[str]:
    """The lines that are paths of entries; other lines may be half written, and are ignored."""
    lines = read_whole(files, path).decode("ascii", errors="replace").split("\n")[:-1]
    return frozenset(line for line in lines if _is_entry_path(line))


def _is_entry_path(line: str) -> bool:
    key = parse_entry(line)
    return key is not None and key.relative_path == line


def _close_lease(files: FileSystem, path: str, opened: Sequence[IO[bytes]], maker_pid: int) -> None:
    """Close the lease, and remove its file if this process made it; a forked child only closes its copy."""
    try:
        if os.getpid() == maker_pid:
            # Before the lock ends, so that nobody takes the file for that of a dead process.
            files.remove(path)
    except OSError as error:
        _log.info("lease %s could not be removed: %s", path, error)
    finally:
        for file in opened:
            file.close()
