"""Store: immutable entries in a folder, found by key and published atomically."""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from ..errors import CacheEntryGoneError, CacheError, CacheFullError, NdframesError, shorten, to_seconds
from ..system.files import FileSystem
from .keys import FORMAT_VERSION
from .layout import (
    FOLDER,
    check_marks,
    new_part_name,
    parse_entry,
    parse_part,
    remove_abandoned,
    show_alive,
    write_marks,
)
from .leases import Lease
from .single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..system.stamp import SourceStamp
    from .keys import EntryKey

__all__ = ["LOCK_AGE_SECONDS", "CacheEntry", "EntryPath", "Store", "check_room"]
#: How long a writer may be silent before others stop waiting for it.
LOCK_AGE_SECONDS = 60.0
_ATTEMPTS = 3
# A quota and a limit for the size of one file are a lack of space, too.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


#: The file of an entry; its address where the cache is in an object store.
EntryPath: TypeAlias = "Path | str"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry of a cache.

    Attributes:
        path: the file; its address as a text where the cache is in an object store.
        key: the key under which it is found.
        size_bytes: the length of the file.
        mtime: when it was written, in seconds since 1970.
        atime: when it was last read, in seconds since 1970; approximate on most systems.
    """

    path: EntryPath
    key: EntryKey
    size_bytes: int
    mtime: float
    atime: float

    @property
    def used(self) -> float:
        """When it was last read or written, in seconds since 1970."""
        return max(self.mtime, self.atime)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain data, ready for JSON."""
        return {**asdict(self), "path": str(self.path)}


class Store:
    """Entries under a workdir, in a folder of their own: ``<workdir>/ndframes-cache``.

    An entry is found by its key, written to a temporary file, and published atomically. Reading takes no lock and
    writes nothing. :class:`~ndframes.Cache` adds limits and maintenance.

    Args:
        workdir: the user's folder; it is created when the first entry is written.
        files: the file operations.
        lock_age_seconds: how long a writer may be silent before others stop waiting for it.

    Raises:
        CacheError: ``workdir`` is not the path of a folder.
        ValueError: ``lock_age_seconds`` is not a number of seconds.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        files: FileSystem | None = None,
        lock_age_seconds: float = LOCK_AGE_SECONDS,
    ) -> None:
        # Absolute, so that a later chdir does not move the cache; links stay as the user wrote them.
        folder = _to_folder(workdir)
        self.workdir: EntryPath = folder
        self.root = folder / FOLDER
        self.files = files or FileSystem()
        self.lock_age_seconds = to_seconds("lock_age_seconds", lock_age_seconds)
        self._job_leases: frozenset[str] = frozenset()
        self._lease: Lease | None = None
        self._single_flight = SingleFlight(self.root, self.lock_age_seconds)
        self._has_folders = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.workdir)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self.workdir), self._options(), self.lease_names)

    def _options(self) -> dict[str, Any]:
        """The keyword arguments that make an equal store in another process."""
        return {"files": self.files, "lock_age_seconds": self.lock_age_seconds}

    # -- finding --------------------------------------------------------------------------------------------------

    def path(self, key: EntryKey) -> EntryPath:
        """The path of the entry of ``key``, whether the entry exists or not."""
        return self._path(key)

    def _path(self, key: EntryKey) -> Path:
        return self.root / key.relative_path

    def find(self, key: EntryKey) -> EntryPath | None:
        """The path of the entry of ``key``, or ``None`` if it does not exist. The content is not checked.

        Raises:
            CacheError: the folder cannot be searched.
        """
        path = self._path(key)
        try:
            return path if self._is_file(path) else None
        except OSError as error:
            raise self._unsearchable(error) from error

    def _is_file(self, path: Path) -> bool:
        """Whether this is a regular file, or a link to one: users may move entries to another disk and link them."""
        status = self.files.status(str(path), follows_links=True)
        return status is not None and status.is_file

    def ls(self) -> Iterator[CacheEntry]:
        """Every entry, in no particular order. Links are not followed.

        Raises:
            CacheError: the folder cannot be searched.
        """
        try:
            # Scanned, not opened by name, because a link in place of the folder must not be followed.
            for layout in self.files.scan(str(self.root)):
                if layout.name == f"v{FORMAT_VERSION}" and layout.is_folder:
                    for backend in self._ls_folders(layout.path):
                        for shard in self._ls_folders(backend):
                            yield from self._ls_shard(shard)
        except OSError as error:
            raise self._unsearchable(error) from error

    def _unsearchable(self, error: OSError) -> CacheError:
        return CacheError(f"cache folder {self.root} cannot be searched: {error}; choose another workdir")

    def _ls_folders(self, folder: str) -> Iterator[str]:
        return (item.path for item in self.files.scan(folder) if item.is_folder)

    def ls_source(self, backend_id: str, source_id: str) -> list[CacheEntry]:
        """The entries of one source in one form, of any state of the source; the last one written comes first."""
        shard = self.root / f"v{FORMAT_VERSION}" / backend_id / source_id[:2]
        found = [entry for entry in self._ls_shard(str(shard)) if entry.key.source_id == source_id]
        return sorted(found, key=lambda entry: (-entry.mtime, str(entry.path)))

    def ls_forms(self, source_id: str) -> list[CacheEntry]:
        """The entries of one source in all forms, each form in the order of :meth:`ls_source`.

        Raises:
            CacheError: the folder cannot be searched.
        """
        try:
            forms = [os.path.basename(path) for path in self._ls_folders(str(self.root / f"v{FORMAT_VERSION}"))]
            return [entry for form in sorted(forms) for entry in self.ls_source(form, source_id)]
        except OSError as error:
            raise self._unsearchable(error) from error

    def _ls_shard(self, folder: str) -> Iterator[CacheEntry]:
        for item in self.files.scan(folder):
            key = parse_entry(item.path)
            if key is None:
                continue
            status = self.files.status(item.path)
            if status is not None and status.is_file:
                yield CacheEntry(Path(item.path), key, status.size_bytes, status.mtime, status.atime)

    def note_use(self, path: EntryPath, mtime_ns: int) -> None:
        """Record in an entry's access time that it is used now.

        Args:
            path: the entry.
            mtime_ns: its modification time, which stays.
        """
        try:
            self.files.touch(str(path), time.time_ns(), mtime_ns)
        except OSError:
            pass  # removed meanwhile, or another user's file: the access time that the kernel keeps must do

    # -- writing --------------------------------------------------------------------------------------------------

    def publish(
        self, key: EntryKey, write: Callable[[IO[bytes]], None], *, estimated_bytes: int
    ) -> tuple[EntryPath, bool]:
        """Create the entry of ``key`` by calling ``write`` with an empty file, unless the entry exists.

        The file gets its name only after ``write`` has returned and the bytes have reached the disk. Locks keep
        others from doing the same work at the same time; the result never depends on them.

        Args:
            key: the entry's key.
            write: fills the file. If it raises, nothing is published and nothing is left behind.
            estimated_bytes: the space that must be free before anything is written.

        Returns:
            The entry's path, and whether this call wrote it.

        Raises:
            CacheFullError: there is not enough free space.
            CacheEntryGoneError: another process keeps deleting the cache.
            CacheError: the folder cannot be created or written.
        """
        final = self._path(key)
        for attempts_left in reversed(range(_ATTEMPTS)):
            temporary = self.root / "tmp" / new_part_name(key.state_id)
            has_folders = False
            try:
                self._make_folders(final.parent)
                has_folders = True
                with self._as_cache_errors(), self._single_flight.enter(self.files, key):
                    if self._is_file(final):  # written by the previous holder of the lock
                        return final, False
                    # With the lock held: only the writer needs room, not those that wait for its entry.
                    self.make_room(estimated_bytes)
                    is_new = self._write_and_link(str(temporary), str(final), write)
                break
            except OSError as error:
                if not self._was_deleted(error, temporary, final):
                    raise
                if not attempts_left and not has_folders and self._cannot_exist(error):
                    raise
                if not attempts_left:
                    raise CacheEntryGoneError(f"cache {self.root} is being deleted all the time: {error}") from error
                self._has_folders = False
            finally:
                # Also after success: the link has given the file a second name.
                self._remove_temporary(temporary)
        # Without the locks: a collection may take long, and other writers need not wait for it.
        if is_new:
            self.entry_published(final)
        return final, is_new

    def make_room(self, needed_bytes: int) -> None:
        """Called before an entry is written: check that the disk has this many bytes free.

        Raises:
            CacheFullError: it has not.
        """
        check_room(self.root, self.files.free_bytes(str(self.root)), needed_bytes)

    def entry_published(self, path: Path) -> None:
        """Called after an entry was written. Does nothing here; a subclass may remove other entries."""

    def scratch(self, room_bytes: int = 0) -> IO[bytes]:
        """A file without a name and with this much room reserved, for data that waits while an entry is written."""
        return self.files.scratch(str(self.root / "tmp"), room_bytes)

    def find_scratch_folder(self) -> Path:
        """The folder on this machine for files that are needed while an entry is made; it exists.

        Raises:
            CacheError: it cannot be created.
        """
        folder = self.root / "tmp"
        self._make_folders(folder)
        return folder

    def quarantine(self, path: EntryPath, seen: SourceStamp | None = None) -> bool:
        """Move a damaged entry to the quarantine folder, where it can be inspected.

        Args:
            path: the entry.
            seen: the stamp of the damaged file. A file that has replaced it meanwhile is left alone.

        Returns:
            Whether the damaged file is out of the way.
        """
        # A unique name, because entries of the same key may be damaged again.
        target = self.root / "quarantine" / f"{Path(path).name}.{uuid.uuid4().hex[:8]}"
        return self._take_away(path, seen, lambda: self.files.move(str(path), str(target)))

    def discard(self, path: EntryPath, seen: SourceStamp | None = None) -> bool:
        """Remove an entry that is no longer useful; arguments and result as for :meth:`quarantine`."""
        return self._take_away(path, seen, lambda: self.files.remove(str(path)))

    def _take_away(self, path: EntryPath, seen: SourceStamp | None, take: Callable[[], object]) -> bool:
        try:
            status = self.files.status(str(path))
            if status is not None and (seen is None or seen.is_same_file(status.stamp)):
                take()
        except FileNotFoundError:
            # The quarantine folder may be missing instead, and then the entry is still there.
            return self._is_missing(Path(path))
        except OSError:  # a read-only folder, or another user's: the reader must do without this entry
            return False
        return True

    def _make_folders(self, folder: Path) -> None:
        """Create the folders; once a process, remove what crashed writers left."""
        try:
            if not (self._has_folders and self._is_folder(self.root)):
                write_marks(self.files, self.root)
                remove_abandoned(self.files, str(self.root / "tmp"))
                self._has_folders = True
            self.files.make_folders(str(folder))
        except OSError as error:
            raise self._unwritable(error) from error

    def _write_and_link(self, temporary: str, final: str, write: Callable[[IO[bytes]], None]) -> bool:
        with self.files.create(temporary) as file:
            show_alive(self.files, file)
            write(file)
            # While the file has its temporary name only: the entry must never be seen writable.
            self.files.make_read_only(temporary)
            # The bytes must be durable before the name is: a power loss in between would leave a name without content.
            self.files.sync_file(file)
        is_new = self.files.link_or_replace(temporary, final)
        self.files.sync_folder(os.path.dirname(final))
        return is_new

    def _remove_temporary(self, temporary: Path) -> None:
        try:
            self.files.remove(str(temporary))
        except OSError:
            pass  # a later writer removes it once this process has ended

    def check_marks(self) -> None:
        """Check that the folder bears the marks of a cache that this version knows.

        Raises:
            CacheError: it does not, so nothing in it may be removed.
        """
        check_marks(self.files, self.root)

    # -- errors ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _as_cache_errors(self) -> Iterator[None]:
        """Raise the system's errors as cache errors."""
        try:
            yield
        except NdframesError:
            raise
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> CacheError:
        if error.errno in _REFUSED:
            return self._unwritable(error)
        outcome = "ran out of space" if error.errno in _FULL else "failed"
        return _to_cache_error(f"cache {self.root} {outcome} while writing an entry: {error}", error)

    def _unwritable(self, error: OSError) -> CacheError:
        link = self._find_dead_link() if error.errno == errno.ENOENT else None
        cause = error if link is None else f"{link} is a link to a folder that does not exist"
        return _to_cache_error(
            f"cache folder {self.root} cannot be written: {cause}; choose another workdir, or backend=None to read sources directly",
            error,
        )

    def _find_dead_link(self) -> Path | None:
        """The cache's folder, or the one above it that exists, if it is a link that leads nowhere."""
        for path in (self.root, *self.root.parents):
            if not self._is_missing(path):
                is_dead = self.files.status(str(path), follows_links=True) is None
                return path if is_dead else None
        return None

    def _cannot_exist(self, error: OSError) -> bool:
        """Whether a folder was not created although nobody deleted the one above it: ``/proc`` has no other folders."""
        refused = getattr(error.__cause__, "filename", None)
        if self._find_dead_link() is not None:
            return True
        # A file that is missing was deleted. So may the folder above this one have been, which exists again.
        if not isinstance(refused, str) or parse_part(os.path.basename(refused)) is not None:
            return False
        try:
            self.files.make_folders(refused)
        except FileNotFoundError:
            return self._is_folder(Path(refused).parent)
        except OSError:
            pass
        return False

    def _was_deleted(self, error: OSError, temporary: Path, final: Path) -> bool:
        """Whether the error comes from somebody deleting the cache, or its folders, while an entry was being written.

        A missing file of the cache itself proves it even if everything exists now: a third process may have rebuilt
        the folders since.
        """
        if isinstance(error, CacheError) and error.errno == errno.ENOENT:
            return True
        return error.errno in (None, errno.ENOENT) and (
            self._is_missing(temporary) or not self._is_folder(final.parent)
        )

    def _is_missing(self, path: Path) -> bool:
        try:
            return self.files.status(str(path)) is None
        except OSError:
            return False

    def _is_folder(self, path: Path) -> bool:
        """Whether this is a folder, or a link to one: the whole cache may be on another disk."""
        status = self.files.status(str(path), follows_links=True)
        return status is not None and status.is_folder

    # -- leases ---------------------------------------------------------------------------------------------------

    def hold(self, keys: Iterable[EntryKey]) -> None:
        """Keep other processes from removing these entries, until this process ends or drops this object."""
        if self._lease is None:
            self._lease = Lease(self.files, self.root)
        self._lease.add(keys)

    @property
    def lease_names(self) -> frozenset[str]:
        """The names of this job's leases: its own, and those of the process from which it got this object."""
        return self._job_leases | ({self._lease.name} if self._lease is not None else set())


def check_room(root: Path, free_bytes: int, needed_bytes: int, min_free_bytes: int = 0) -> None:
    """Check that an entry fits on the disk.

    Args:
        root: the store's folder.
        free_bytes: what is free on its disk.
        needed_bytes: what the entry may need.
        min_free_bytes: what must stay free beside it.

    Raises:
        CacheFullError: there is not enough space.
    """
    if free_bytes >= needed_bytes + min_free_bytes:
        return
    error = CacheFullError(
        f"cache {root} has {free_bytes:,} bytes left, an entry may need {needed_bytes:,}"
        + (f" and {min_free_bytes:,} must stay free" if min_free_bytes else "")
        + "; free some ('ndframes cache gc --max-bytes'), or choose another workdir"
    )
    error.errno = errno.ENOSPC
    raise error


def _rebuild(kind: type[Store], workdir: str, options: dict[str, Any], leases: frozenset[str]) -> Store:
    store = kind(workdir, **options)
    store._job_leases = leases  # noqa: SLF001 - it travels beside the constructor's arguments
    return store


def _to_folder(workdir: object) -> Path:
    if not isinstance(workdir, (str, bytes, os.PathLike)) or "\0" in os.fsdecode(workdir):
        raise CacheError(f"workdir={shorten(workdir)}; give the path of a folder")
    return Path(os.path.expanduser(os.fsdecode(workdir))).absolute()


def _to_cache_error(message: str, error: OSError) -> CacheError:
    converted = (CacheFullError if error.errno in _FULL else CacheError)(message)
    converted.errno = error.errno
    return converted
