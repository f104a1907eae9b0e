"""File systems that fail or end the process at a chosen operation, and functions that damage a file.

To see what your own :class:`~ndframes.Frames` do when the disk fails, put their cache on such a file system, and use the
frames as usual::

    frames.cache = Cache(workdir, files=FaultyFileSystem("write", 3, "ENOSPC", is_lasting=True))

To cover every step, start with the first call of ``"any"`` operation, and go on with the next until ``fired`` stays
``False``.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import stat
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TYPE_CHECKING, Any

from ..system.files import FileSystem, OpenFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..system.files import FileItem, FileMap, FileStatus

__all__ = ["FaultyFileSystem", "WatchedFileSystem", "cut", "flip_bit", "zero"]
_ON_WRITES = ("short", "lost")
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
#: Every operation that can fail: the methods of a file system, a write to a file, and reads of an open file.
_OPERATIONS = ("write", *(name for name in vars(FileSystem) if not name.startswith("_")), "read_at", "map")


class WatchedFileSystem(FileSystem):
    """A file system that calls a method before each operation, and another one for each write.

    A subclass implements :meth:`before`, and may override :meth:`write`.
    """

    def before(self, operation: str, path: str) -> None:
        """Called before each operation; an exception raised here takes the place of the operation.

        Args:
            operation: the name of a method of :class:`~ndframes.system.files.FileSystem`; ``"read_at"`` or ``"map"``,
                for an open file; or ``"write"``.
            path: the file or folder.
        """
        raise NotImplementedError

    def write(self, raw: io.FileIO, data: memoryview) -> int:
        """Write to a file that this file system created; returns the number of bytes written."""
        return io.FileIO.write(raw, data)

    def make_folders(self, path: str) -> None:
        """As :meth:`FileSystem.make_folders`; the same holds for the methods that follow."""
        self.before("make_folders", path)
        super().make_folders(path)

    def create(self, path: str) -> IO[bytes]:
        self.before("create", path)
        return io.BufferedRandom(_WatchedFile(self, path, "x+"))

    def append(self, file: IO[bytes], data: bytes) -> None:
        self.before("append", str(file.name))
        assert isinstance(file, io.BufferedRandom)  # noqa: S101 - :meth:`create` made it
        while data:
            # Past the buffer, as the real append, but through the watched file.
            data = data[file.raw.write(data) :]

    def scratch(self, folder: str, room_bytes: int = 0) -> IO[bytes]:
        self.before("scratch", folder)
        with super().scratch(folder, room_bytes) as file:
            # The duplicate stays open when the context closes the original.
            return io.BufferedRandom(_WatchedFile(self, os.dup(file.fileno()), "r+"))

    def sync_file(self, file: IO[bytes]) -> None:
        self.before("sync_file", str(file.name))
        super().sync_file(file)

    def sync_folder(self, path: str) -> None:
        self.before("sync_folder", path)
        super().sync_folder(path)

    def make_read_only(self, path: str) -> None:
        self.before("make_read_only", path)
        super().make_read_only(path)

    def link_or_replace(self, temporary: str, final: str) -> bool:
        self.before("link_or_replace", final)
        return super().link_or_replace(temporary, final)

    def move(self, path: str, target: str) -> None:
        self.before("move", path)
        super().move(path, target)

    def remove(self, path: str) -> bool:
        self.before("remove", path)
        return super().remove(path)

    def touch(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        self.before("touch", path)
        super().touch(path, atime_ns, mtime_ns)

    def try_lock(self, file: IO[bytes]) -> bool:
        self.before("try_lock", str(file.name))
        return super().try_lock(file)

    def is_locked(self, path: str) -> bool:
        self.before("is_locked", path)
        return super().is_locked(path)

    def lock(self, path: str, *, seconds: float, poll_seconds: float = 0.05) -> AbstractContextManager[object]:
        self.before("lock", path)
        return super().lock(path, seconds=seconds, poll_seconds=poll_seconds)

    def open_to_read(self, path: str) -> OpenFile:
        self.before("open_to_read", path)
        return _WatchedOpenFile(self, path, super().open_to_read(path))

    def status(self, path: str, *, follows_links: bool = False) -> FileStatus | None:
        self.before("status", path)
        return super().status(path, follows_links=follows_links)

    def scan(self, folder: str) -> Iterator[FileItem]:
        self.before("scan", folder)
        return super().scan(folder)

    def can_map(self, path: str) -> bool:
        self.before("can_map", path)
        return super().can_map(path)

    def free_bytes(self, path: str) -> int:
        self.before("free_bytes", path)
        return super().free_bytes(path)


class _WatchedFile(io.FileIO):
    """The raw file below a buffered one: sees each write that reaches the system."""

    def __init__(self, files: WatchedFileSystem, file: str | int, mode: str) -> None:
        super().__init__(file, mode)
        self._files = files

    def write(self, data: Any, /) -> int:
        with memoryview(data) as view, view.cast("B") as octets:
            self._files.before("write", str(self.name))
            return self._files.write(self, octets)


class _WatchedOpenFile(OpenFile):
    """An open file whose reads are watched; advice to the system is not, for it cannot fail."""

    def __init__(self, files: WatchedFileSystem, path: str, file: OpenFile) -> None:
        super().__init__(file.status)
        self._files, self._path, self._file = files, path, file

    def read_at(self, offset: int, length: int) -> bytes:
        self._files.before("read_at", self._path)
        return self._file.read_at(offset, length)

    def map(self) -> FileMap | None:
        self._files.before("map", self._path)
        return self._file.map()

    def close(self) -> None:
        self._file.close()

    def expect_random_reads(self) -> None:
        self._file.expect_random_reads()

    def read_ahead(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:
        self._file.read_ahead(places, is_batch=is_batch)

    def keep_atime(self) -> None:
        self._file.keep_atime()


class FaultyFileSystem(WatchedFileSystem):
    """A file system in which one call fails: the ``nth`` call of an operation, once or from then on.

    Every process counts its own calls. A process that receives a pickled copy starts at one; a forked child goes on
    from its parent's count.

    Args:
        operation: the operation that fails: a method of :class:`~ndframes.system.files.FileSystem`; ``"read_at"`` or
            ``"map"``, of an open file; ``"write"``, a write that reaches the system, to a file that was created here;
            or ``"any"``, all of these.
        nth: which call fails, counted from 1.
        kind: how it fails. The name of an error number, such as ``"EIO"``, ``"ENOSPC"`` or ``"EDQUOT"``: with this
            error. ``"kill"``: the process is killed by SIGKILL. ``"stop"``: the process is stopped by SIGSTOP, until
            another one continues it. In both cases half of the bytes are written before, if the call is a write.
            ``"short"``: the write stores half of the bytes and returns that number, as any system may. ``"lost"``: the
            write returns that all bytes were stored, but loses the second half. These two count writes only.
        is_lasting: whether every later such call fails too, as on a full disk.

    Attributes:
        struck: the operation that failed last in this process; ``None`` if none has.

    Raises:
        ValueError: an unknown operation or kind, or ``nth`` below 1.

    Example:
        >>> import tempfile
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames.demo(workdir=tempfile.mkdtemp())
        >>> files = FaultyFileSystem("make_read_only", 1, "EIO")
        >>> frames.cache = nf.Cache(frames.cache.workdir, files=files)
        >>> frames.load_region("moon", (slice(0, 2), slice(0, 2)))
        Traceback (most recent call last):
        ndframes.errors.CacheError: image 'moon': cache ... failed while writing an entry: [Errno 5] ...
        >>> files.fired, frames.load_region("moon", (slice(0, 2), slice(0, 2))).shape
        (True, (2, 2, 1))
    """

    def __init__(self, operation: str = "any", nth: int = 1, kind: str = "EIO", *, is_lasting: bool = False) -> None:
        operations = ["any", *_OPERATIONS]
        kinds = [*_SIGNALS, *_ON_WRITES, *errno.errorcode.values()]
        if operation not in operations:
            raise ValueError(f"operation={operation!r}; allowed: {', '.join(operations)}")
        if kind not in kinds:
            allowed = ", ".join(kinds[: len(_SIGNALS) + len(_ON_WRITES)])
            raise ValueError(f"kind={kind!r}; allowed: {allowed}, or the name of an error number, such as EIO, ENOSPC")
        if kind in _ON_WRITES and operation not in ("any", "write"):
            raise ValueError(f"kind={kind!r} is for writes only; operation={operation!r}; allowed: any, write")
        if nth < 1:
            raise ValueError(f"nth={nth}; calls are counted from 1")
        self.operation = "write" if kind in _ON_WRITES else operation
        self.nth = nth
        self.kind = kind
        self.is_lasting = is_lasting
        self.struck: str | None = None
        self._is_armed = True
        self._numbers = itertools.count(1)  # next() on it is atomic, so threads need no lock

    def __repr__(self) -> str:
        lasting = ", is_lasting=True" if self.is_lasting else ""
        return f"FaultyFileSystem({self.operation!r}, {self.nth}, {self.kind!r}{lasting})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.operation, self.nth, self.kind, self.is_lasting)

    @property
    def fired(self) -> bool:
        """Whether a call has failed in this process."""
        return self.struck is not None

    def mend(self) -> None:
        """Let every call succeed from now on."""
        self._is_armed = False

    def before(self, operation: str, path: str) -> None:
        """Count the call, and fail if it is the chosen one; writes are counted in :meth:`write`."""
        if operation != "write" and self._is_due(operation):
            self._fail(path)

    def write(self, raw: io.FileIO, data: memoryview) -> int:
        """Write, or fail in the chosen way; returns the number of bytes written."""
        if not self._is_due("write"):
            return super().write(raw, data)
        half = len(data) // 2
        if self.kind in _SIGNALS:
            super().write(raw, data[:half])
            self._fail(str(raw.name))
            return half
        if self.kind == "short":
            # Never 0 bytes: the caller would try again for ever.
            return super().write(raw, data[: max(1, half)])
        if self.kind == "lost":
            super().write(raw, data[:half])
            # The position moves on as if all were written; the gap reads as zeros.
            raw.seek(len(data) - half, os.SEEK_CUR)
            return len(data)
        self._fail(str(raw.name))
        raise AssertionError("unreachable")

    def _is_due(self, operation: str) -> bool:
        if self.operation not in ("any", operation) or not self._is_armed:
            return False
        number = next(self._numbers)
        is_due = number >= self.nth if self.is_lasting else number == self.nth
        if is_due:
            self.struck = operation
        return is_due

    def _fail(self, path: str) -> None:
        if self.kind in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[self.kind])
            # A stopped process goes on here when another one continues it.
            return
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code), path or None)


def flip_bit(path: str | os.PathLike[str], bit: int) -> None:
    r"""Flip one bit of a file.

    The file's mode and times stay as they were, so that only the content shows the damage.

    Args:
        path: the file.
        bit: its number: 0 is the lowest bit of the first byte, -1 the highest bit of the last.

    Example:
        >>> path = getfixture("tmp_path") / "a"
        >>> _ = path.write_bytes(bytes(2))
        >>> flip_bit(path, 9)
        >>> path.read_bytes()
        b'\x00\x02'
    """
    with _writable(path) as file:
        offset, place = divmod(bit % (8 * _length(file)), 8)
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ 1 << place]))


def cut(path: str | os.PathLike[str], length_bytes: int) -> None:
    """Cut a file to a length; its mode and times stay.

    Args:
        path: the file.
        length_bytes: the new length; if negative, how many bytes are cut off.

    Example:
        >>> path = getfixture("tmp_path") / "a"
        >>> _ = path.write_bytes(b"pixels")
        >>> cut(path, -2)
        >>> path.read_bytes()
        b'pixe'
    """
    with _writable(path) as file:
        file.truncate(length_bytes if length_bytes >= 0 else max(0, _length(file) + length_bytes))


def zero(path: str | os.PathLike[str], offset: int, length_bytes: int) -> None:
    r"""Set bytes of a file to zero, as in a block that never reached the disk; its length, mode and times stay.

    Args:
        path: the file.
        offset: the first byte.
        length_bytes: how many bytes; those beyond the end of the file are ignored.

    Example:
        >>> path = getfixture("tmp_path") / "a"
        >>> _ = path.write_bytes(b"pixels")
        >>> zero(path, 4, 4096)
        >>> path.read_bytes()
        b'pixe\x00\x00'
    """
    with _writable(path) as file:
        count = max(0, min(length_bytes, _length(file) - offset))
        file.seek(offset)
        file.write(bytes(count))


@contextmanager
def _writable(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a read-only file for a change that its mode and times do not show."""
    status = os.stat(path)
    os.chmod(path, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
    try:
        with open(path, "r+b") as file:
            yield file
    finally:
        os.chmod(path, stat.S_IMODE(status.st_mode))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _rebuild(operation: str, nth: int, kind: str, is_lasting: bool) -> FaultyFileSystem:
    return FaultyFileSystem(operation, nth, kind, is_lasting=is_lasting)
