"""Stamps: the state of a source file as ``stat`` reports it, and the errors of a file that cannot be read."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceKindError,
    SourceMissingError,
)
from .objects.addresses import hint_at_slash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = [
    "OpeningGuard",
    "SourceStamp",
    "changed_error",
    "check_regular_file",
    "guard_opening",
    "is_unchanged",
    "require_same_file",
    "source_error",
    "stamp_of",
    "stat_source",
]
#: Makes a context in which a file is opened by its name; an error if it is not the file that is expected.
OpeningGuard: TypeAlias = "Callable[[], AbstractContextManager[None]]"
# FAT stores times in steps of two seconds; no file system in use has longer steps.
_LONGEST_TICK_NS = 2_000_000_000
# On Windows, ctime is the time of creation, so only mtime tells of changes there.
_CTIME_IS_CHANGE = os.name == "posix"
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class SourceStamp(NamedTuple):
    """The state of a file, from which a change is detected without reading it.

    Attributes:
        device: the number of the file system.
        inode: the number of the file in it.
        size_bytes: the length of the file.
        mtime_ns: the time of the last change of the content, in nanoseconds since 1970.
        ctime_ns: the time of the last change of the content or the metadata, which programs cannot set. On Windows, the
            time of creation.

    Example:
        >>> old = stat_source(__file__)
        >>> old.is_same_file(old._replace(ctime_ns=0)), old.is_same_file(old._replace(inode=0))
        (True, False)
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    def is_same_file(self, other: SourceStamp) -> bool:
        """Whether both stamps are of the same file with the same content.

        ``ctime_ns`` is not compared, because a new hard link or another mode changes it, but no pixel.
        """
        return self[:4] == other[:4]

    @property
    def changed(self) -> float:
        """When the file was last changed, in seconds since 1970, as far as the system tells."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9

    def is_settled(self, now_ns: int) -> bool:
        """Whether every change after ``now_ns`` will give the file another stamp.

        File systems store times in steps of up to two seconds. A second change within the same step may leave size, mtime
        and ctime the same, so a stamp that was taken between the two changes does not tell the contents apart; git calls
        such a file racy. A stamp is settled when the last change is at least two seconds old. A change in the future,
        from a machine with another clock, is not settled.

        Args:
            now_ns: the time at which the stamp was taken, in nanoseconds since 1970.

        Example:
            >>> stamp = SourceStamp(1, 2, size_bytes=3, mtime_ns=10**9, ctime_ns=10**9)
            >>> stamp.is_settled(2 * 10**9), stamp.is_settled(3 * 10**9)
            (False, True)
        """
        changed_ns = self.ctime_ns if _CTIME_IS_CHANGE else max(self.mtime_ns, self.ctime_ns)
        return now_ns - changed_ns >= _LONGEST_TICK_NS


def stat_source(path: str) -> SourceStamp:
    """The stamp of the regular file at ``path``; symbolic links are followed.

    Raises:
        SourceMissingError: the file does not exist.
        SourceAccessError: this user may not search one of the folders.
        SourceKindError: it is not a regular file.
        SourceError: the system refuses the path for another reason.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise source_error(path, error) from error
    check_regular_file(path, status)
    return stamp_of(status)


def is_unchanged(path: str, stamp: SourceStamp) -> bool:
    """Whether the file at ``path`` exists and has exactly this stamp, at the cost of one ``stat``.

    Example:
        >>> is_unchanged(__file__, stat_source(__file__)), is_unchanged("/no/such/file", stat_source(__file__))
        (True, False)
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    # A plain tuple, because making a SourceStamp takes as long as the stat.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) == stamp


def check_regular_file(path: str, status: os.stat_result) -> None:
    """Check that ``status`` is that of a regular file.

    Raises:
        SourceKindError: otherwise; the message names the kind of file.
    """
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
        raise SourceKindError(f"{path} is {kind}; give the path of an image file")


def stamp_of(status: os.stat_result) -> SourceStamp:
    """The stamp in a result of ``os.stat`` or ``os.fstat``.

    Example:
        >>> with open(__file__) as file:
        ...     stamp_of(os.fstat(file.fileno())) == stat_source(__file__)
        True
    """
    return SourceStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def require_same_file(
    path: str, stamp: SourceStamp | None, *, may_be_gone: bool = False, may_grow: bool = False
) -> Iterator[None]:
    """Check before and after the context that ``path`` is the file of ``stamp``; for code that opens it by name.

    Args:
        path: the file.
        stamp: the expected stamp; ``None`` checks nothing.
        may_be_gone: whether a missing file is accepted; another file in its place is not.
        may_grow: whether the same file is accepted when it has become longer, as a recording does.

    Raises:
        SourceChangedError: the file was replaced or removed. It takes the place of an error that the context raised.

    Example:
        >>> with require_same_file(__file__, stat_source(__file__)), open(__file__) as file:
        ...     head = file.read(3)
    """
    check = partial(_check_same, path, stamp, may_be_gone=may_be_gone, may_grow=may_grow)
    check()
    try:
        yield
    except Exception:
        check()
        raise
    check()


def guard_opening(path: str, stamp: SourceStamp | None) -> OpeningGuard:
    """What makes the context in which a file is opened by name, now or later, again and again: see :func:`require_same_file`.

    A file that has just been changed when this is called may be a recording, and may grow.

    Args:
        path: the file.
        stamp: its state now; ``None`` checks nothing.

    Example:
        >>> guard = guard_opening(__file__, stat_source(__file__))
        >>> with guard(), open(__file__) as file:
        ...     head = file.read(3)
    """
    may_grow = stamp is not None and not stamp.is_settled(time.time_ns())
    return partial(require_same_file, path, stamp, may_grow=may_grow)


def changed_error(path: str) -> SourceChangedError:
    """The error for a file that was replaced or removed."""
    return SourceChangedError(f"{path} was replaced or removed since it was opened; open it again")


def _check_same(path: str, stamp: SourceStamp | None, *, may_be_gone: bool, may_grow: bool) -> None:
    if stamp is None:
        return
    try:
        found = stat_source(path)
    # Other errors, such as a refused access, do not prove that the file changed.
    except (SourceMissingError, SourceKindError) as error:
        if may_be_gone and isinstance(error, SourceMissingError):
            return
        raise changed_error(path) from error
    has_grown = may_grow and stamp[:2] == found[:2] and stamp.size_bytes < found.size_bytes
    if not (has_grown or stamp.is_same_file(found)):
        raise changed_error(path)


def source_error(path: str, error: Exception) -> SourceError:
    """The :class:`~ndframes.errors.SourceError` for a failed system call on ``path``."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENOTDIR) and "://" in path:
        found: SourceError = SourceMissingError(
            f"{path} is not a file; an address can be read by Frames with sources= alone, elsewhere give the path of a local copy"
        )
    elif code in (errno.ENOENT, errno.ENOTDIR):
        found = SourceMissingError(
            f"{path} does not exist; {hint_at_slash(path) or f'check the path (relative to {_here()})'}"
        )
    elif code in (errno.EACCES, errno.EPERM):
        found = SourceAccessError(f"{path} cannot be read by this user (permission denied); check its mode and folders")
    else:
        found = SourceError(f"{path} cannot be read: {error}")
    # OSError sets errno itself only from two or more arguments.
    found.errno = code
    return found


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "a working directory that was removed"
