"""Leases: which entries the running jobs want kept. The kernel ends the lease of a process that dies."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

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

    from ..system.files import FileSystem
    from .keys import EntryKey
    from .layout import OwnedName

__all__ = ["HeldLease", "Lease", "leased_elsewhere", "leases_elsewhere"]
_log = logging.getLogger("ndframes")


class Lease(ForkAware):
    """Entries that this process wants kept, written down where the others look before they remove any.

    The lease is a file, made when the first entry is added, and locked until this object is gone or the process ends,
    however it ends. A forked child shares it: the lock holds until both are gone, and the file goes with whoever made
    it. Where the folder cannot be written nothing is promised, and nothing fails.

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
        self._listed: dict[str, None] = {}  # in the order of their coming
        self._descriptor: int | None = None
        self._give_up: weakref.finalize[[FileSystem, str, list[int], int], Lease] | None = None
        self._is_refused = self._has_told = False
        self._lock = threading.Lock()
        super().__init__()

    @property
    def name(self) -> str:
        """The name of its file, whether that is there already or not."""
        return self._path.name

    def add(self, keys: Iterable[EntryKey]) -> None:
        """Keep the entries of these keys as well."""
        with self._lock:
            new = {path: None for key in keys if (path := key.relative_path) not in self._listed}
            if not new or self._is_refused:
                return
            self._listed.update(new)
            try:
                if self._descriptor is not None and os.path.lexists(self._path):
                    self._write(new)
                else:  # the first time, or the whole cache was deleted in use
                    self._take()
                    self._write(self._listed)
            except OSError as error:
                for path in new:
                    del self._listed[path]
                self._is_refused = self._descriptor is None
                self._tell(error)

    def _take(self) -> None:
        if self._give_up is not None:
            self._give_up()
            self._descriptor = None
        if not self._path.parent.is_dir():
            write_marks(self._files, self._root)
        descriptors: list[int] = []
        # Before there is a file, so that none is left whenever a Ctrl-C comes.
        self._give_up = weakref.finalize(self, _let_go, self._files, str(self._path), descriptors, os.getpid())
        with self._files.create(str(self._path)) as file:
            try:
                hold_lock(self._files, file)
            except OSError:
                self._files.remove(str(self._path))  # without a lock nobody could tell when this process has ended
                raise
            descriptors.append(os.dup(file.fileno()))
        self._descriptor = descriptors[0]

    def _tell(self, error: OSError) -> None:
        if not self._has_told:
            _log.info(
                "no lease in %s, so other jobs may remove entries that this one uses: %s", self._path.parent, error
            )
        self._has_told = True

    def _write(self, paths: Iterable[str]) -> None:
        """In one call as a rule, so that no reader meets half a line; after one that was cut short, on a new line."""
        assert self._descriptor is not None  # noqa: S101
        data = "".join(f"\n{path}" for path in paths).encode("ascii") + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


class HeldLease(NamedTuple):
    """A lease of another running job.

    Attributes:
        owner: whose it is.
        paths: the entries that it keeps, relative to the cache's root.
    """

    owner: OwnedName
    paths: frozenset[str]


def leases_elsewhere(files: FileSystem, root: Path, own_names: Collection[str] = ()) -> Iterator[HeldLease]:
    """The leases of other jobs that still run.

    What this process holds itself does not count: its own orders go before its own leases.

    Args:
        files: the file operations.
        root: the cache's folder.
        own_names: leases of the job that this process works for.
    """
    for item in files.scan(str(root / "leases")):
        owner = parse_lease(item.name)
        if owner is None or owner.is_mine or item.name in own_names or not item.is_file(follow_symlinks=False):
            continue
        if is_abandoned(files, item.path, owner):
            continue
        try:
            yield HeldLease(owner, _read_lease(files, item.path))
        except OSError as error:  # given up meanwhile; or another user's that nobody else may read
            if os.path.lexists(item.path):
                _log.info("lease %s cannot be read, so the entries that it names are not known: %s", item.path, error)


def leased_elsewhere(files: FileSystem, root: Path, own_names: Collection[str] = ()) -> set[str]:
    """The entries that other running jobs keep, as paths relative to the cache's root.

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
    """The lines that are paths of entries; whatever else is there may be half written, and means nothing."""
    descriptor = files.open_to_read(path)
    try:
        data = files.read_at(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    lines = data.decode("ascii", errors="replace").split("\n")[:-1]
    return frozenset(line for line in lines if _is_entry_path(line))


def _is_entry_path(line: str) -> bool:
    key = parse_entry(line)
    return key is not None and key.relative_path == line


def _let_go(files: FileSystem, path: str, descriptors: Sequence[int], maker_pid: int) -> None:
    """Close the lease; its file is removed by the process that made it alone, a forked child only lets go of it."""
    try:
        if os.getpid() == maker_pid:
            files.remove(path)
    except OSError as error:
        _log.info("lease %s could not be removed: %s", path, error)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
