"""Faults: a file system that fails or dies at a chosen call, and ways to damage a file that was whole.

Whoever wants to know what their own :class:`~ndframes.Frames` does on a bad day puts the cache on such a file system, and
uses the frames as ever::

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

from ..system.files import FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FaultyFileSystem", "WatchedFileSystem", "cut", "flip_bit", "zero"]
_ON_WRITES = ("short", "lost")
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class WatchedFileSystem(FileSystem):
    """A file system that tells of each operation before it is done, and lets every write pass by a method.

    A subclass writes :meth:`before`, and :meth:`write` where it wants to.
    """

    def before(self, operation: str, path: str) -> None:
        """``operation``, the name of a method or ``"write"``, is about to be done on ``path``; may raise instead.

        ``path`` is empty where the operation has a descriptor only.
        """
        raise NotImplementedError

    def write(self, raw: io.FileIO, data: memoryview) -> int:
        """Write to a file that this file system made, and say how many bytes went."""
        return io.FileIO.write(raw, data)

    def make_folders(self, path: str) -> None:
        """As the method above it, like all that follow."""
        self.before("make_folders", path)
        super().make_folders(path)

    def create(self, path: str) -> IO[bytes]:
        self.before("create", path)
        return io.BufferedRandom(_WatchedFile(self, path, "x+"))

    def scratch(self, folder: str, room_bytes: int = 0) -> IO[bytes]:
        self.before("scratch", folder)
        with super().scratch(folder, room_bytes) as file:
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

    def try_lock(self, file: IO[bytes], *, is_shared: bool = False) -> bool:
        self.before("try_lock", str(file.name))
        return super().try_lock(file, is_shared=is_shared)

    def lock(self, path: str, *, seconds: float, poll_seconds: float = 0.05) -> AbstractContextManager[Any]:
        self.before("lock", path)
        return super().lock(path, seconds=seconds, poll_seconds=poll_seconds)

    def open_to_read(self, path: str) -> int:
        self.before("open_to_read", path)
        return super().open_to_read(path)

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        self.before("read_at", "")
        return super().read_at(descriptor, offset, length)

    def status(self, path: str) -> os.stat_result:
        self.before("status", path)
        return super().status(path)

    def scan(self, folder: str) -> Iterator[os.DirEntry[str]]:
        self.before("scan", folder)
        return super().scan(folder)

    def free_bytes(self, path: str) -> int:
        self.before("free_bytes", path)
        return super().free_bytes(path)


class _WatchedFile(io.FileIO):
    """The raw file under a buffered one: what reaches the system comes by here."""

    def __init__(self, files: WatchedFileSystem, file: str | int, mode: str) -> None:
        super().__init__(file, mode)
        self._files = files

    def write(self, data: Any, /) -> int:
        with memoryview(data) as view, view.cast("B") as octets:
            self._files.before("write", str(self.name))
            return self._files.write(self, octets)


class FaultyFileSystem(WatchedFileSystem):
    """A file system of which one call fails: the ``nth`` of an operation, once or from then on.

    Every process counts its own calls, and one that gets a pickled copy starts from one; so does a forked child from
    where its parent was.

    Args:
        operation: a method of :class:`~ndframes.system.files.FileSystem`; ``"write"``, a write that reaches the system, to
            a file that was made here; or ``"any"``: all of these.
        nth: which call, from 1.
        kind: the name of an error number, such as ``"EIO"``, ``"ENOSPC"`` or ``"EDQUOT"``: the call fails with it.
            ``"kill"``: the process ends there by SIGKILL; ``"stop"``: it stops there by SIGSTOP, until somebody
            continues it; where that call is a write, half of the bytes are written before. ``"short"``: a write takes
            half of the bytes and says so, as every system may. ``"lost"``: a write claims all bytes, and loses the
            second half. The last two strike writes alone, which are all that they count.
        is_lasting: whether every later such call fails too, as on a disk that is full.

    Attributes:
        struck: the operation that it struck last, in this process; ``None`` as long as it did not.

    Raises:
        ValueError: an operation, a number or a kind that there is not.

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
        operations = ["any", "write", *(name for name in vars(FileSystem) if not name.startswith("_"))]
        kinds = [*_SIGNALS, *_ON_WRITES, *errno.errorcode.values()]
        if operation not in operations:
            raise ValueError(f"operation={operation!r}; allowed: {', '.join(operations)}")
        if kind not in kinds:
            raise ValueError(f"kind={kind!r}; allowed: {', '.join(kinds[:4])}, or an error's name, such as EIO, ENOSPC")
        if kind in _ON_WRITES and operation not in ("any", "write"):
            raise ValueError(f"kind={kind!r} strikes writes; operation={operation!r} is none")
        if nth < 1:
            raise ValueError(f"nth={nth}; calls are counted from 1")
        self.operation = "write" if kind in _ON_WRITES else operation
        self.nth = nth
        self.kind = kind
        self.is_lasting = is_lasting
        self.struck: str | None = None
        self._is_armed = True
        self._numbers = itertools.count(1)  # whose next() needs no lock

    def __repr__(self) -> str:
        lasting = ", is_lasting=True" if self.is_lasting else ""
        return f"FaultyFileSystem({self.operation!r}, {self.nth}, {self.kind!r}{lasting})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.operation, self.nth, self.kind, self.is_lasting)

    @property
    def fired(self) -> bool:
        """Whether it struck, in this process."""
        return self.struck is not None

    def mend(self) -> None:
        """Fail no more."""
        self._is_armed = False

    def before(self, operation: str, path: str) -> None:
        """Count the call, and fail if it is its turn; a write has its turn in :meth:`write`."""
        if operation == "write" or not self._is_due(operation):
            return
        self._strike(path)

    def write(self, raw: io.FileIO, data: memoryview) -> int:
        """Write, wholly or as badly as was asked for."""
        if not self._is_due("write"):
            return super().write(raw, data)
        half = len(data) // 2
        if self.kind in _SIGNALS:
            super().write(raw, data[:half])
            self._strike(str(raw.name))
            return half
        if self.kind == "short":
            return super().write(raw, data[: max(1, half)])
        if self.kind == "lost":
            super().write(raw, data[:half])
            raw.seek(len(data) - half, os.SEEK_CUR)
            return len(data)
        self._strike(str(raw.name))
        raise AssertionError("unreachable")

    def _is_due(self, operation: str) -> bool:
        if self.operation not in ("any", operation) or not self._is_armed:
            return False
        number = next(self._numbers)
        is_due = number >= self.nth if self.is_lasting else number == self.nth
        if is_due:
            self.struck = operation
        return is_due

    def _strike(self, path: str) -> None:
        if self.kind in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[self.kind])
            return
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code), path or None)


def flip_bit(path: str | os.PathLike[str], bit: int) -> None:
    r"""Turn over one bit of a file, counted from 0, the lowest of the first byte; negative ones from the end.

    Mode and time of change stay as they were, so that nothing but the content tells. The same for the functions below.

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
    """Leave only the first bytes of a file; for a negative number, take away so many.

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
    r"""Make some bytes of a file zero, as a block is that never reached the disk; none beyond its end.

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
    """A read-only file, open to be changed behind its owner's back."""
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
