"""Cache: the folder of entries. Entries are found by name, written aside, and appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from .._process import ForkAware
from ..errors import CacheError, CacheFullError, NdframesError
from . import fs
from .keys import FORMAT_VERSION, EntryKey

__all__ = ["Cache", "CacheEntry"]

_FOLDER = "ndframes-cache"
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder is a cache of ndframes: it may be deleted at any time, and backups may leave it out.\n"
)
_LOCK_SECONDS = 600
_STRIPES = 4096
_ENTRY_NAME = re.compile(r"(?P<source>[0-9a-f]{32})\.(?P<state>[0-9a-f]{32})(?P<suffix>\.tif|\.npy)")
_PART_NAME = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{32}\.part")


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry of a cache.

    Attributes:
        path: the file.
        key: what it is the entry of.
        size_bytes: its length.
        mtime: when it was written, in seconds since 1970.
    """

    path: Path
    key: EntryKey
    size_bytes: int
    mtime: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "path": str(self.path)}


class Cache(ForkAware):
    """The store of entries under a workdir, in a folder of its own: ``<workdir>/ndframes-cache``.

    Nothing is created before the first entry is written, and reading takes no lock and writes nothing. An entry is
    immutable: a regular, read-only ``.tif`` or ``.npy`` that any other tool can read.

    Args:
        workdir: the folder that belongs to the user; created when needed.

    Example:
        >>> import tempfile
        >>> cache = Cache(tempfile.mkdtemp())
        >>> list(cache.ls())
        []
    """

    def __init__(self, workdir: str | os.PathLike[str]) -> None:
        self.workdir = Path(os.fsdecode(workdir)).absolute()
        self.root = self.workdir / _FOLDER
        self._locks: dict[EntryKey, threading.Lock] = {}
        self._locks_lock = threading.Lock()
        self._is_marked = False
        super().__init__()

    def __repr__(self) -> str:
        return f"Cache({str(self.workdir)!r})"

    def __reduce__(self) -> tuple[type[Cache], tuple[str]]:
        return type(self), (str(self.workdir),)

    def path(self, key: EntryKey) -> Path:
        """Where the entry of ``key`` lies, or would lie."""
        return self.root / key.relative_path

    def find(self, key: EntryKey) -> Path | None:
        """The path of the entry of ``key``, or ``None`` if there is none.

        Raises:
            CacheError: the folder may not be searched.
        """
        path = self.path(key)
        try:
            return path if stat.S_ISREG(path.stat().st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CacheError(f"cache folder {self.root} cannot be searched: {error}; choose another workdir") from error

    def ls(self) -> Iterator[CacheEntry]:
        """Every entry, in no particular order."""
        for folder, _, names in os.walk(self.root / f"v{FORMAT_VERSION}"):
            for name in names:
                match = _ENTRY_NAME.fullmatch(name)
                if match is None:
                    continue
                path = Path(folder, name)
                try:
                    status = path.lstat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    key = EntryKey(path.parent.parent.name, match["source"], match["state"], match["suffix"])
                    yield CacheEntry(path, key, status.st_size, status.st_mtime)

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
            CacheError: the folder cannot be written.
        """
        final = self.path(key)
        try:
            self._mark()
            fs.make_folders(str(final.parent))
        except OSError as error:
            raise CacheError(f"cache folder {self.root} cannot be written: {error}; choose another workdir") from error
        with self._single_flight(key):
            if final.is_file():
                return final, False
            self._check_space(estimated_bytes)
            temporary = self.root / "tmp" / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}.part"
            try:
                self._write_and_name(str(temporary), str(final), write)
            finally:
                fs.remove_if_there(str(temporary))
        return final, True

    def _write_and_name(self, temporary: str, final: str, write: Callable[[IO[bytes]], None]) -> None:
        try:
            with fs.create_exclusive(temporary) as file:
                write(file)
                fs.sync_file(file)
                os.chmod(temporary, 0o444)
            fs.link_or_replace(temporary, final)
            fs.sync_folder(os.path.dirname(final))
        except NdframesError:
            raise
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            told = (CacheFullError if is_full else CacheError)(
                f"cache {self.root} {'ran out of space' if is_full else 'failed'} while writing an entry: {error}"
            )
            told.errno = error.errno
            raise told from error

    def _check_space(self, needed_bytes: int) -> None:
        free = fs.free_bytes(str(self.root))
        if free < needed_bytes:
            raise CacheFullError(
                f"cache {self.root} has {free:,} bytes left, an entry may need {needed_bytes:,}; free some, or choose another workdir"
            )

    @contextmanager
    def _single_flight(self, key: EntryKey) -> Iterator[None]:
        """One writer a key at a time: in this process surely, across processes where the file system has locks."""
        with self._locks_lock:
            lock = self._locks.setdefault(key, threading.Lock())
        stripe = self.root / "locks" / f"{int(key.state_id[:8], 16) % _STRIPES:03x}"
        with lock, ExitStack() as stack:
            try:
                stack.enter_context(FileLock(stripe, timeout=_LOCK_SECONDS))
            except (Timeout, NotImplementedError, OSError):
                pass  # no lock to be had: at worst the work is done twice
            yield
        with self._locks_lock:
            self._locks.pop(key, None)

    def _mark(self) -> None:
        """Create the folder with the marks that tell people and programs what it is; sweep what crashed writers left."""
        if self._is_marked and self.root.is_dir():
            return
        for name in ("tmp", "locks"):
            fs.make_folders(str(self.root / name))
        for name, text in (("CACHEDIR.TAG", _TAG), ("ndframes.json", json.dumps({"layout": FORMAT_VERSION}) + "\n")):
            mark = self.root / name
            if not mark.exists():
                mark.write_text(text)
        for item in os.scandir(self.root / "tmp"):
            if _is_abandoned(item.name):
                fs.remove_if_there(item.path)
        self._is_marked = True

    def _after_fork_in_child(self) -> None:
        self._locks = {}
        self._locks_lock = threading.Lock()


def _is_abandoned(name: str) -> bool:
    """Whether the process that wrote this temporary file, on this machine, is gone."""
    match = _PART_NAME.fullmatch(name)
    if match is None or match["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
