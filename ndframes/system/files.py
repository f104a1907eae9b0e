"""Every file operation of the cache, in one place: what can fail, fails here.

The cache does nothing to a disk but by a :class:`FileSystem`, so that tests, and users on a file system that they do not
trust yet, can put one in its place that fails or dies at any chosen call (:mod:`ndframes.testing.faults`).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["FileSystem"]
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_ZEROS = bytes(1 << 20)


class FileSystem:
    """The operations of a cache on its folder. Each raises ``OSError`` as the system does."""

    # -- writing --------------------------------------------------------------------------------------------------

    def make_folders(self, path: str) -> None:
        """Create ``path`` and what lies above it."""
        os.makedirs(path, exist_ok=True)

    def create(self, path: str) -> IO[bytes]:
        """A new file at ``path``, open to write and read; fails where something is."""
        return open(path, "x+b")

    def scratch(self, folder: str, room_bytes: int = 0) -> IO[bytes]:
        """A file without a name in ``folder``, with so much room reserved: to be mapped, which must not meet a full disk."""
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        try:
            if room_bytes:
                _reserve(file, room_bytes)
        except BaseException:
            file.close()
            raise
        return file

    def sync_file(self, file: IO[bytes]) -> None:
        """Hand everything written to the disk, and wait for it."""
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, path: str) -> None:
        """Make the folder's new names last; systems that cannot are left in peace."""
        if os.name != "posix":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_read_only(self, path: str) -> None:
        """Take away everybody's right to write."""
        os.chmod(path, 0o444)

    def link_or_replace(self, temporary: str, final: str) -> bool:
        """Give a finished file its final name, in one step; whether it got it, or another came first and stays."""
        try:
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            os.replace(temporary, final)
        return True

    def move(self, path: str, target: str) -> None:
        """Rename within the cache, replacing what had that name."""
        os.replace(path, target)

    def remove(self, path: str) -> bool:
        """Unlink ``path``; ``False`` where nothing was."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def touch(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        """Set a file's times."""
        os.utime(path, ns=(atime_ns, mtime_ns))

    def try_lock(self, file: IO[bytes], *, is_shared: bool = False) -> bool:
        """Lock an open file against other processes, without waiting; the kernel unlocks it when this process ends."""
        if fcntl is None:
            return True
        try:
            fcntl.flock(file.fileno(), (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(self, path: str, *, seconds: float, poll_seconds: float = 0.05) -> AbstractContextManager[Any]:
        """Lock the file at ``path``, made where there is none, against other processes, until the context ends.

        Raises:
            TimeoutError: another process has had it for so many seconds.
            OSError: no locks are to be had here.
        """
        try:
            return FileLock(path, timeout=seconds, poll_interval=poll_seconds).acquire()
        except NotImplementedError as error:  # how filelock tells it
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), path) from error

    # -- reading --------------------------------------------------------------------------------------------------

    def open_to_read(self, path: str) -> int:
        """A descriptor of the file at ``path``; a FIFO does not block."""
        return os.open(path, _READ_FLAGS)

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        """So many bytes from ``offset``; fewer only where the file ends."""
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def status(self, path: str) -> os.stat_result:
        """What is at ``path``; a link is not followed."""
        return os.lstat(path)

    def scan(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """What a folder holds; nothing where there is no folder."""
        try:
            with os.scandir(folder) as items:
                yield from items
        except (FileNotFoundError, NotADirectoryError):
            return

    def free_bytes(self, path: str) -> int:
        """What this user may still write to the file system of ``path``."""
        return shutil.disk_usage(path).free


def _reserve(file: IO[bytes], room_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, room_bytes)
        return
    for start in range(0, room_bytes, len(_ZEROS)):
        file.write(_ZEROS[: room_bytes - start])
    file.flush()
