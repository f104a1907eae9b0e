"""Cache: the folder of entries. Entries are found by name, written aside, and appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import CacheEntryGoneError, CacheError, CacheFullError, NdframesError
from ..system.files import FileSystem
from ..system.process import ForkAware
from ..system.stamp import stamp_of
from .keys import FORMAT_VERSION
from .layout import (
    FOLDER,
    hold_lock,
    is_abandoned,
    is_regular,
    new_part_name,
    parse_entry,
    parse_part,
    write_marks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..system.stamp import SourceStamp
    from .budget import Usage
    from .keys import EntryKey
    from .leases import Lease
    from .remover import GcReport
    from .upkeep import CacheStat
    from .verify import VerifyReport

__all__ = ["Cache", "CacheEntry"]
_STRIPES = 4096
_LOCK_POLL_SECONDS = 1.0
_LOCK_AGE_SECONDS = 60.0
_TRIES = 3
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry of a cache.

    Attributes:
        path: the file.
        key: what it is the entry of.
        size_bytes: its length.
        mtime: when it was written, in seconds since 1970.
        atime: when it was last used, as far as the system keeps account, in seconds since 1970.
    """

    path: Path
    key: EntryKey
    size_bytes: int
    mtime: float
    atime: float

    @property
    def used(self) -> float:
        """When it was last used or written, in seconds since 1970."""
        return max(self.mtime, self.atime)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "path": str(self.path)}


class Cache(ForkAware):
    """The store of entries under a workdir, in a folder of its own: ``<workdir>/ndframes-cache``.

    Nothing is created before the first entry is written, and reading takes no lock and writes nothing. An entry is
    immutable: a regular, read-only ``.tif`` or ``.npy`` that any other tool can read.

    Args:
        workdir: the folder that belongs to the user; created when needed.
        max_bytes: a budget for all entries together: when a new one exceeds it, those used longest ago are removed,
            down to 85 % of it. ``None``: no limit, and nothing is ever removed unasked.
        min_free_bytes: so much is left free on the disk, by removing entries before a new one is written; where that is
            not enough, nothing is written. ``None``: only what the new entry needs must be free.
        files: the file operations, for tests of what happens when they fail.

    Example:
        >>> import tempfile
        >>> cache = Cache(tempfile.mkdtemp())
        >>> list(cache.ls())
        []
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        files: FileSystem | None = None,
    ) -> None:
        self.workdir = Path(os.fsdecode(workdir)).absolute()
        self.root = self.workdir / FOLDER
        self.max_bytes = _check_bytes("max_bytes", max_bytes)
        self.min_free_bytes = _check_bytes("min_free_bytes", min_free_bytes)
        self.files = files or FileSystem()
        self._job_leases: frozenset[str] = frozenset()
        self._lease: Lease | None = None
        self._usage: Usage | None = None
        self._locks: dict[EntryKey, threading.Lock] = {}
        self._locks_lock = threading.Lock()
        self._is_marked = False
        super().__init__()

    def __repr__(self) -> str:
        limits = {"max_bytes": self.max_bytes, "min_free_bytes": self.min_free_bytes}
        given = "".join(f", {name}={value}" for name, value in limits.items() if value is not None)
        return f"Cache({str(self.workdir)!r}{given})"

    def __reduce__(self) -> tuple[Any, ...]:
        limits = {"max_bytes": self.max_bytes, "min_free_bytes": self.min_free_bytes, "files": self.files}
        return _rebuild, (type(self), str(self.workdir), limits, self.lease_names)

    # -- finding --------------------------------------------------------------------------------------------------

    def path(self, key: EntryKey) -> Path:
        """Where the entry of ``key`` lies, or would lie."""
        return self.root / key.relative_path

    def find(self, key: EntryKey) -> Path | None:
        """The path of the entry of ``key``, or ``None`` if there is none. Its content is not looked at.

        Raises:
            CacheError: the folder may not be searched.
        """
        path = self.path(key)
        try:
            return path if stat.S_ISREG(path.stat().st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unsearchable(error) from error

    def ls(self) -> Iterator[CacheEntry]:
        """Every entry, in no particular order; what lies behind a link is none.

        Raises:
            CacheError: the folder may not be searched.
        """
        try:
            for layout in self.files.scan(str(self.root)):
                if layout.name == f"v{FORMAT_VERSION}" and layout.is_dir(follow_symlinks=False):
                    for backend in self._ls_folders(layout.path):
                        for shard in self._ls_folders(backend):
                            yield from self._ls_shard(shard)
        except OSError as error:
            raise self._unsearchable(error) from error

    def _unsearchable(self, error: OSError) -> CacheError:
        return CacheError(f"cache folder {self.root} cannot be searched: {error}; choose another workdir")

    def _ls_folders(self, folder: str) -> Iterator[str]:
        return (item.path for item in self.files.scan(folder) if item.is_dir(follow_symlinks=False))

    def ls_source(self, backend_id: str, source_id: str) -> list[CacheEntry]:
        """The entries of one source in one form, whatever its state then; the one written last comes first."""
        shard = self.root / f"v{FORMAT_VERSION}" / backend_id / source_id[:2]
        found = [entry for entry in self._ls_shard(str(shard)) if entry.key.source_id == source_id]
        return sorted(found, key=lambda entry: (-entry.mtime, str(entry.path)))

    def ls_forms(self, source_id: str) -> list[CacheEntry]:
        """The entries of one source in all forms; of each form those as :meth:`ls_source` lists them.

        Raises:
            CacheError: the folder may not be searched.
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
            try:
                status = self.files.status(item.path)
            except FileNotFoundError:
                continue
            if is_regular(status):
                yield CacheEntry(Path(item.path), key, status.st_size, status.st_mtime, status.st_atime)

    def note_use(self, path: Path, mtime_ns: int) -> None:
        """Remember that an entry is in use, where that decides what is removed first: in its time of access."""
        if self.max_bytes is None and self.min_free_bytes is None:
            return
        try:
            self.files.touch(str(path), time.time_ns(), mtime_ns)
        except OSError:
            pass  # removed meanwhile, or not ours to touch: the kernel's own account of access must do

    # -- writing --------------------------------------------------------------------------------------------------

    def publish(self, key: EntryKey, write: Callable[[IO[bytes]], None], *, estimated_bytes: int) -> tuple[Path, bool]:
        """Make the entry of ``key`` by calling ``write`` with an empty file, unless it is there.

        The file is given its name only after ``write`` returned and its bytes reached the disk. Locks keep others from
        doing the same work at the same time; that the result is right never depends on them.

        Args:
            key: the entry's name.
            write: fills the file; whatever it raises, nothing is published and nothing is left behind.
            estimated_bytes: space that must be free before anything is written.

        Returns:
            The entry's path, and whether this call wrote it.

        Raises:
            CacheFullError: too little space is free.
            CacheEntryGoneError: somebody deletes the cache again and again.
            CacheError: the folder cannot be written.
        """
        final = self.path(key)
        for tries_left in reversed(range(_TRIES)):
            temporary = self.root / "tmp" / new_part_name(key.state_id)
            try:
                self._mark(final.parent)
                with self._telling(), self._single_flight(key):
                    if final.is_file():
                        return final, False
                    self._make_room(estimated_bytes)
                    is_new = self._write_and_name(str(temporary), str(final), write)
                break
            except OSError as error:
                if not _was_deleted(error, temporary, final):
                    raise
                if not tries_left:
                    raise CacheEntryGoneError(f"cache {self.root} is being deleted all the time: {error}") from error
                self._is_marked = False
            finally:
                self._drop(temporary)
        if is_new:
            self._keep_budget(final)
        return final, is_new

    def scratch(self, room_bytes: int = 0) -> IO[bytes]:
        """A file without a name, with so much room, for what waits while an entry is being written."""
        return self.files.scratch(str(self.root / "tmp"), room_bytes)

    def quarantine(self, path: Path, seen: SourceStamp | None = None) -> bool:
        """Take a damaged entry out of the way, to be looked at; whether it is out of the way.

        Args:
            path: the entry.
            seen: what was found damaged: another file that has come to its place meanwhile is left alone.
        """
        target = self.root / "quarantine" / f"{path.name}.{uuid.uuid4().hex[:8]}"
        return self._take_away(path, seen, lambda: self.files.move(str(path), str(target)))

    def discard(self, path: Path, seen: SourceStamp | None = None) -> bool:
        """Remove an entry that is of no use any more; arguments and result as for :meth:`quarantine`."""
        return self._take_away(path, seen, lambda: self.files.remove(str(path)))

    def _take_away(self, path: Path, seen: SourceStamp | None, take: Callable[[], object]) -> bool:
        try:
            if seen is None or seen.is_same_file(stamp_of(self.files.status(str(path)))):
                take()
        except FileNotFoundError:
            return not path.exists()
        except OSError:  # a read-only folder, or another user's: whoever reads must do without this entry
            return False
        return True

    def _write_and_name(self, temporary: str, final: str, write: Callable[[IO[bytes]], None]) -> bool:
        with self.files.create(temporary) as file:
            self._hold(file)
            write(file)
            self.files.make_read_only(temporary)
            self.files.sync_file(file)
        is_new = self.files.link_or_replace(temporary, final)
        self.files.sync_folder(os.path.dirname(final))
        return is_new

    def _drop(self, temporary: Path) -> None:
        """Remove what was written aside; what cannot be removed now is swept when its writer has ended."""
        try:
            self.files.remove(str(temporary))
        except OSError:
            pass

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What the system says, as an error of ours."""
        try:
            yield
        except NdframesError:
            raise
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> CacheError:
        if error.errno in _REFUSED:
            return self._refusal(error)
        outcome = "ran out of space" if error.errno in _FULL else "failed"
        return _to_cache_error(f"cache {self.root} {outcome} while writing an entry: {error}", error)

    def _refusal(self, error: OSError) -> CacheError:
        """The error for a folder in which nothing can be written."""
        return _to_cache_error(
            f"cache folder {self.root} cannot be written: {error}; choose another workdir, or backend=None to read sources directly",
            error,
        )

    def _hold(self, file: IO[bytes]) -> None:
        """Show others that the writer of this file lives."""
        try:
            hold_lock(self.files, file)
        except OSError:
            pass  # no locks on this file system: the file's age must do

    def _make_room(self, needed_bytes: int) -> None:
        wanted = needed_bytes + (self.min_free_bytes or 0)
        free = self.files.free_bytes(str(self.root))
        if free < wanted and self.min_free_bytes is not None:
            from .budget import free_space

            free = free_space(self, wanted)
        if free < wanted:
            told = CacheFullError(
                f"cache {self.root} has {free:,} bytes left, an entry may need {needed_bytes:,}"
                + (f" and {self.min_free_bytes:,} must stay free" if self.min_free_bytes else "")
                + "; free some ('ndframes cache gc --max-bytes'), or choose another workdir"
            )
            told.errno = errno.ENOSPC
            raise told

    def _keep_budget(self, newest: Path) -> None:
        if self.max_bytes is not None:
            from .budget import keep_budget

            keep_budget(self, newest)

    @contextmanager
    def _single_flight(self, key: EntryKey) -> Iterator[None]:
        """One writer a key at a time: in this process surely, across processes where the file system has locks."""
        with self._locks_lock:
            lock = self._locks.setdefault(key, threading.Lock())
        try:
            with lock, ExitStack() as stack:
                self._wait_for_lock(_stripe_of(key.state_id), stack)
                yield
        finally:
            with self._locks_lock:
                self._locks.pop(key, None)

    def _wait_for_lock(self, stripe: str, stack: ExitStack) -> None:
        """Wait while whoever has the lock shows signs of life; at worst the work is done twice."""
        path = str(self.root / "locks" / stripe)
        started = time.time()
        while time.time() - max(started, self._last_sign_of_life(stripe)) < _LOCK_AGE_SECONDS:
            try:
                stack.enter_context(self.files.lock(path, seconds=_LOCK_POLL_SECONDS))
            except TimeoutError:
                continue
            except OSError:
                pass  # no lock to be had
            return

    def _last_sign_of_life(self, stripe: str) -> float:
        """When the writer that has this lock last touched what it writes, in seconds since 1970."""
        latest = 0.0
        for item in self.files.scan(str(self.root / "tmp")):
            owner = parse_part(item.name)
            if owner is not None and _stripe_of(owner.state_id) == stripe:
                try:
                    latest = max(latest, item.stat(follow_symlinks=False).st_mtime)
                except FileNotFoundError:
                    continue
        return latest

    def _mark(self, folder: Path) -> None:
        """Create the folders; once a process, sweep what crashed writers left."""
        try:
            if not (self._is_marked and self.root.is_dir()):
                write_marks(self.files, self.root)
                for item in self.files.scan(str(self.root / "tmp")):
                    owner = parse_part(item.name)
                    if owner is not None and is_abandoned(self.files, item.path, owner):
                        self.files.remove(item.path)
                self._is_marked = True
            self.files.make_folders(str(folder))
        except OSError as error:
            raise self._refusal(error) from error

    # -- upkeep ---------------------------------------------------------------------------------------------------

    def stat(self) -> CacheStat:
        """How much there is of what: entries, bytes, leftovers, free space."""
        from .upkeep import stat_cache

        return stat_cache(self)

    def verify(
        self, read_data: bool = False, repair: bool = False, *, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """Check every entry: its length, its trailer, and that it bears the name of what it holds.

        Args:
            read_data: whether to read everything as well, and to hold every byte against its checksum.
            repair: whether to take damaged entries out of the way; what is missing is made again when it is needed.
            progress: called with the bytes looked at so far, and those of all entries.
        """
        from .verify import verify_cache

        return verify_cache(self, read_data=read_data, repair=repair, progress=progress)

    def gc(self, max_bytes: int | None = None, dry_run: bool = False) -> GcReport:
        """Remove what is of no use any more: what dead writers left, damaged entries, superseded states of sources.

        Entries that a running job of another process holds are kept. No file but the cache's own is ever removed.

        Args:
            max_bytes: remove entries as well, those used longest ago first, until all others fit; ``None``: the cache's
                own budget, if it has one.
            dry_run: only say what would be removed.

        Raises:
            CacheError: the folder does not bear the marks of a cache, or those of a newer version.
        """
        from .upkeep import collect_garbage

        _check_bytes("max_bytes", max_bytes)
        return collect_garbage(self, max_bytes=max_bytes, dry_run=dry_run)

    def clear(self, dry_run: bool = False) -> GcReport:
        """Remove every entry that no running job of another process holds, and everything that is of no use any more.

        Raises:
            CacheError: the folder does not bear the marks of a cache, or those of a newer version.
        """
        from .upkeep import clear_cache

        return clear_cache(self, dry_run=dry_run)

    # -- leases ---------------------------------------------------------------------------------------------------

    def hold(self, keys: Iterable[EntryKey]) -> None:
        """Keep these entries from being removed by other processes, until this one ends or forgets this cache."""
        from .leases import Lease

        if self._lease is None:
            self._lease = Lease(self.files, self.root)
        self._lease.add(keys)

    @property
    def lease_names(self) -> frozenset[str]:
        """The leases of this job: its own, and those of the process that sent it this cache."""
        return self._job_leases | ({self._lease.name} if self._lease is not None else set())

    def _after_fork_in_child(self) -> None:
        self._locks = {}
        self._locks_lock = threading.Lock()


def _rebuild(kind: type[Cache], workdir: str, limits: dict[str, Any], leases: frozenset[str]) -> Cache:
    cache = kind(workdir, **limits)
    cache._job_leases = leases  # noqa: SLF001 - what of it travels beside its arguments
    return cache


def _to_cache_error(message: str, error: OSError) -> CacheError:
    told = (CacheFullError if error.errno in _FULL else CacheError)(message)
    told.errno = error.errno
    return told


def _stripe_of(state_id: str) -> str:
    return f"{int(state_id[:8], 16) % _STRIPES:03x}"


def _was_deleted(error: OSError, temporary: Path, final: Path) -> bool:
    """Whether an error came of somebody's deleting the cache, or its folders, while an entry was being written.

    Where the cache itself lacks a file, it did, even if everything is there: a third process may have made it anew.
    """
    if isinstance(error, CacheError) and error.errno == errno.ENOENT:
        return True
    is_gone = not os.path.lexists(temporary) or not final.parent.is_dir()
    return error.errno in (None, errno.ENOENT) and is_gone


def _check_bytes(name: str, value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise CacheError(f"{name}={value!r}; allowed: a number of bytes, 0 or more, or None")
    return value
