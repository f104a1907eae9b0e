"""The file operations of a cache, in one place.

A cache touches its files only through a :class:`FileSystem`. So another kind of storage can take the place of the local
disk, and a test can put in one that fails at a chosen operation (:mod:`ndframes.testing.faults`). Files are named by
strings; what the operations return are plain values and the handles of this module.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import tempfile
from typing import IO, TYPE_CHECKING, NamedTuple

from filelock import FileLock

from .mounts import is_remote
from .stamp import SourceStamp, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from .segments import SegmentCopy

__all__ = ["FileItem", "FileMap", "FileStatus", "FileSystem", "LocalFile", "OpenFile", "read_whole"]
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]
# A FIFO would block an open without O_NONBLOCK until a writer comes.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_ZEROS = bytes(1 << 20)


class FileStatus(NamedTuple):
    """What is known of a file without reading it.

    Attributes:
        is_file: whether it is a regular file; links, folders and devices are not.
        is_folder: whether it is a folder.
        size_bytes: the length of the content.
        mtime: when the content was last changed, in seconds since 1970.
        atime: when the content was last read, in seconds since 1970, as far as that is recorded.
        stamp: tells this state of the file from every other.
    """

    is_file: bool
    is_folder: bool
    size_bytes: int
    mtime: float
    atime: float
    stamp: SourceStamp


class FileItem(NamedTuple):
    """One item of a folder.

    Attributes:
        name: its name in the folder.
        path: the folder's path and its name.
        is_file: whether it is a regular file; links are not.
        is_folder: whether it is a folder; links are not.
    """

    name: str
    path: str
    is_file: bool
    is_folder: bool


class OpenFile:
    """A file that is open to be read by position, by any number of threads at once.

    It is closed by :meth:`close`, or when the last reference to it goes. A storage implements :meth:`read_at` and
    :meth:`close`. The other methods are for what a local file can do better; their defaults do nothing.

    Args:
        status: the status of the open file.

    Attributes:
        status: the status of the file when it was opened.
        is_distant: whether each read waits for a network, so that several reads must be announced by :meth:`read_ahead`.
        copy: segments of a distant file on this machine's disk; ``None`` if none are kept.
        local_path: where this machine's disk has the whole file under another name; ``None``: only under its own.
        local_stamp: the stamp of the file of that name.
        tail_bytes: how many bytes of the file's end are best read at once.
        descriptor_count: how many file descriptors it uses.
    """

    is_distant = False
    copy: SegmentCopy | None = None
    local_path: str | None = None
    local_stamp: SourceStamp | None = None
    tail_bytes = 8192
    descriptor_count = 1

    def __init__(self, status: FileStatus) -> None:
        self.status = status

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer only where the file ends."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        raise NotImplementedError

    def read_again(self, offset: int, length: int) -> bytes:
        """As :meth:`read_at`, but never from what was fetched before."""
        return self.read_at(offset, length)

    def map(self) -> FileMap | None:
        """Map the whole file into memory; ``None`` where that is not possible (see :meth:`FileSystem.can_map`)."""
        return None

    def expect_random_reads(self) -> None:
        """Advise the system to read nothing beyond what is requested."""

    def read_ahead(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:
        """Have the bytes of these places fetched now, without waiting for them.

        Args:
            places: an offset and a length each.
            is_batch: whether what reads them announces them once more before it does.
        """

    def check_length(self) -> None:
        """Check that the file is as long as its status says, where it was opened without asking for that."""

    def keep_atime(self) -> None:
        """Do not count reads through this handle as uses of the file."""

    def distrust(self) -> bool:
        """Called when bytes do not match their checksum. Returns whether there is another copy, which is opened from now on."""
        return False

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FileMap:
    """A file that is mapped into memory, until nobody uses it or a view of it any more.

    Attributes:
        buffer: the whole content.
    """

    __slots__ = ("_mapping", "buffer")

    def __init__(self, descriptor: int) -> None:
        self._mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            # Else the kernel reads far ahead of each page, and crops of a large file fetch mostly what they don't need.
            self._mapping.madvise(mmap.MADV_RANDOM)
        self.buffer = memoryview(self._mapping)

    def view(self, offset: int, length: int) -> memoryview:
        """A view of bytes that are about to be read: a cold disk fetches them in one request, not page by page."""
        if hasattr(mmap, "MADV_WILLNEED"):
            # madvise accepts only starts at a border of pages.
            start = offset // mmap.PAGESIZE * mmap.PAGESIZE
            self._mapping.madvise(mmap.MADV_WILLNEED, start, offset + length - start)
        return self.buffer[offset : offset + length]


class LocalFile(OpenFile):
    """A file of the local file system, open to be read by position.

    Args:
        path: the file; anything that can be opened, a folder too.
    """

    def __init__(self, path: str) -> None:
        # Set before the open, which may raise: __del__ reads it.
        self._descriptor = -1
        self._descriptor = os.open(path, _READ_FLAGS)
        try:
            super().__init__(_to_status(os.fstat(self._descriptor)))
        except BaseException:
            self.close()
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer only where the file ends."""
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length:  # a signal may cut a read short
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        # Forgotten first: a second close would hit whatever file has got the same number since.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def map(self) -> FileMap | None:
        """Map the whole file into memory."""
        return FileMap(self._descriptor)

    def expect_random_reads(self) -> None:
        """Advise the system to read nothing beyond what is requested."""
        if hasattr(os, "posix_fadvise"):
            # macOS and Windows have no posix_fadvise; the advice only saves time.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def read_ahead(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:  # noqa: ARG002 - the kernel counts no readers
        """Advise the system to fetch these bytes now, without waiting for them."""
        if hasattr(os, "posix_fadvise"):
            for offset, length in places:
                os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def keep_atime(self) -> None:
        """Do not count reads through this handle as uses of the file."""
        if fcntl is not None and hasattr(os, "O_NOATIME"):
            try:
                flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
                fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_NOATIME)
            except OSError:  # only the file's owner may do that
                pass


class FileSystem:
    """The file operations of a cache, on the local file system. Each raises ``OSError`` as the system does.

    A subclass for another kind of storage replaces every method. A file that is being written may be a local one there,
    which is uploaded when it gets its final name.
    """

    # -- writing --------------------------------------------------------------------------------------------------

    def make_folders(self, path: str) -> None:
        """Create the folder ``path`` and those above it, as far as they are missing.

        Raises:
            FileNotFoundError: another process removes them meanwhile.
        """
        try:
            os.makedirs(path, exist_ok=True)
        except FileExistsError as error:
            # Python asks whether it is a folder only after mkdir has failed; it may have been removed in between.
            if not os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, "removed while it was created", path) from error
            if not os.path.isdir(path):
                raise

    def create(self, path: str) -> IO[bytes]:
        """Create a file, open for writing and reading; fails if the path exists."""
        return open(path, "x+b")

    def append(self, file: IO[bytes], data: bytes) -> None:
        """Write at the end of a created file without a buffer: usually in one step, so readers see all of it or nothing."""
        descriptor = file.fileno()
        while data:
            data = data[os.write(descriptor, data) :]

    def scratch(self, folder: str, room_bytes: int = 0) -> IO[bytes]:
        """Create a file without a name in ``folder``.

        ``room_bytes`` are reserved: a program that writes through a map is killed by SIGBUS if the disk is full then.
        """
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        try:
            if room_bytes:
                _reserve(file, room_bytes)
        except BaseException:
            file.close()
            raise
        return file

    def sync_file(self, file: IO[bytes]) -> None:
        """Write everything to the disk, and wait until it is durable."""
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, path: str) -> None:
        """Make the folder's new names durable; does nothing where the system offers no way to."""
        if os.name != "posix":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_read_only(self, path: str) -> None:
        """Remove all permissions to write the file."""
        os.chmod(path, 0o444)

    def link_or_replace(self, temporary: str, final: str) -> bool:
        """Give a finished file its final name, atomically.

        Returns:
            Whether it got the name. ``False``: a file with this name exists, and stays.
        """
        try:
            # A link fails if the name exists. A rename would replace an entry that others may be reading.
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError:  # no hard links here; the last of several writers wins, and all wrote the same
            os.replace(temporary, final)
        return True

    def move(self, path: str, target: str) -> None:
        """Rename a file within the cache; a file with the new name is replaced."""
        os.replace(path, target)

    def remove(self, path: str) -> bool:
        """Remove a file; ``False`` if it does not exist."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def touch(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        """Set a file's access and modification time, in nanoseconds since 1970."""
        os.utime(path, ns=(atime_ns, mtime_ns))

    # -- locking --------------------------------------------------------------------------------------------------

    def try_lock(self, file: IO[bytes]) -> bool:
        """Lock a created file without waiting; the lock ends with the process. Returns whether it was granted."""
        return fcntl is None or _try_flock(file.fileno(), fcntl.LOCK_EX)

    def is_locked(self, path: str) -> bool:
        """Whether a living process holds the lock of :meth:`try_lock` on this file."""
        if fcntl is None:
            return False
        descriptor = os.open(path, _READ_FLAGS)
        try:
            # A shared lock, so that several processes may ask at once; it ends with the descriptor.
            return not _try_flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def lock(self, path: str, *, seconds: float, poll_seconds: float = 0.05) -> AbstractContextManager[object]:
        """Lock the file ``path`` against other processes until the context ends. The file is created if needed.

        Raises:
            TimeoutError: another process has held the lock for this many seconds.
            OSError: the file system has no locks.
        """
        try:
            return FileLock(path, timeout=seconds, poll_interval=poll_seconds).acquire()
        except NotImplementedError as error:  # filelock raises this on ENOSYS
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), path) from error

    # -- reading --------------------------------------------------------------------------------------------------

    def open_to_read(self, path: str) -> OpenFile:
        """Open a file to be read by position; opening a FIFO does not block."""
        return LocalFile(path)

    def status(self, path: str, *, follows_links: bool = False) -> FileStatus | None:
        """The status of a file or folder; ``None`` if it does not exist.

        Args:
            path: the file or folder.
            follows_links: whether a symbolic link stands for its target.
        """
        try:
            return _to_status(os.stat(path, follow_symlinks=follows_links))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def scan(self, folder: str) -> Iterator[FileItem]:
        """The items of a folder; none if the folder does not exist."""
        try:
            with os.scandir(folder) as items:
                for item in items:
                    is_file, is_folder = item.is_file(follow_symlinks=False), item.is_dir(follow_symlinks=False)
                    yield FileItem(item.name, item.path, is_file, is_folder)
        except (FileNotFoundError, NotADirectoryError):
            return

    def can_map(self, path: str) -> bool:
        """Whether :meth:`OpenFile.map` works for this file, and is safe.

        It is not safe on a network: if another machine truncates a mapped file, the process is killed by SIGBUS.
        """
        return not is_remote(path)

    def free_bytes(self, path: str) -> int:
        """How many bytes this user may still write to the file system of ``path``."""
        return shutil.disk_usage(path).free


def read_whole(files: FileSystem, path: str) -> bytes:
    """The content of a small file.

    Raises:
        OSError: it cannot be read.
    """
    with files.open_to_read(path) as file:
        return file.read_at(0, file.status.size_bytes)


def _to_status(status: os.stat_result) -> FileStatus:
    mode = status.st_mode
    return FileStatus(
        stat.S_ISREG(mode), stat.S_ISDIR(mode), status.st_size, status.st_mtime, status.st_atime, stamp_of(status)
    )


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        # Not lockf: its lock ends as soon as the process closes any descriptor of the file, as is_locked does.
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reserve(file: IO[bytes], room_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, room_bytes)
        return
    # Zeros, because truncate makes a sparse file, which reserves nothing.
    for start in range(0, room_bytes, len(_ZEROS)):
        file.write(_ZEROS[: room_bytes - start])
    file.flush()
