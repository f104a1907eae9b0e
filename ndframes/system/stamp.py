"""What a source file is at this moment: one ``stat``, or an error that says why there is none."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceKindError,
    SourceMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "SourceStamp",
    "changed_error",
    "check_regular_file",
    "is_unchanged",
    "require_same_file",
    "source_error",
    "stamp_of",
    "stat_source",
]
# FAT writes times down in steps of two seconds; no file system in use takes longer ones.
_LONGEST_TICK_NS = 2_000_000_000
_CTIME_IS_CHANGE = os.name == "posix"
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class SourceStamp(NamedTuple):
    """What tells one state of a file from another without reading it.

    Attributes:
        device: the file system's number.
        inode: the file's number in it.
        size_bytes: its length.
        mtime_ns: when its content was last changed, in nanoseconds since 1970.
        ctime_ns: when anything about it was last changed; cannot be set back. On Windows, when it was created.

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
        """Whether both are one file with one content.

        ``ctime_ns`` is left out: another link to the file, or another mode, changes it and no pixel.
        """
        return self[:4] == other[:4]

    def is_settled(self, now_ns: int) -> bool:
        """Whether any change after ``now_ns`` is sure to give the file another stamp.

        The clocks of file systems tick in steps of up to two seconds. A second change within the tick of the first
        leaves size, mtime and ctime as they were, so a stamp taken in between stands for both contents; git calls
        such a file racy. The stamp is settled once the last change lies two seconds back; a change in the future, by
        another machine's clock, is not.

        Args:
            now_ns: when the stamp was taken, in nanoseconds since 1970.

        Example:
            >>> stamp = SourceStamp(1, 2, size_bytes=3, mtime_ns=10**9, ctime_ns=10**9)
            >>> stamp.is_settled(2 * 10**9), stamp.is_settled(3 * 10**9)
            (False, True)
        """
        changed_ns = self.ctime_ns if _CTIME_IS_CHANGE else max(self.mtime_ns, self.ctime_ns)
        return now_ns - changed_ns >= _LONGEST_TICK_NS


def stat_source(path: str) -> SourceStamp:
    """Stamp the regular file at ``path``, symlinks followed.

    Raises:
        SourceMissingError: nothing is there.
        SourceAccessError: a folder on the way may not be searched.
        SourceKindError: it is not a regular file.
        SourceError: the system refuses the path for another reason.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise source_error(path, error) from error
    check_regular_file(path, status)
    return stamp_of(status)


def is_unchanged(path: str, stamp: SourceStamp) -> bool:
    """Whether the file at ``path`` is there and in the state of ``stamp``: one ``stat`` and next to nothing else.

    Example:
        >>> is_unchanged(__file__, stat_source(__file__)), is_unchanged("/no/such/file", stat_source(__file__))
        (True, False)
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) == stamp


def check_regular_file(path: str, status: os.stat_result) -> None:
    """Refuse what is no regular file.

    Raises:
        SourceKindError: the message says what it is.
    """
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise SourceKindError(f"{path} is {kind}; give the path of an image file")


def stamp_of(status: os.stat_result) -> SourceStamp:
    """The stamp in what ``os.stat`` or ``os.fstat`` said.

    Example:
        >>> with open(__file__) as file:
        ...     stamp_of(os.fstat(file.fileno())) == stat_source(__file__)
        True
    """
    return SourceStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def require_same_file(path: str, stamp: SourceStamp | None, *, may_be_gone: bool = False) -> Iterator[None]:
    """Stands around what opens ``path`` by its name: before and after, the file of ``stamp`` must lie there.

    Args:
        path: the file.
        stamp: what it was; ``None`` checks nothing.
        may_be_gone: a file that is no longer there is no error, one in its place is.

    Raises:
        SourceChangedError: another file lies there, or none; also in place of any error that came of it.

    Example:
        >>> with require_same_file(__file__, stat_source(__file__)), open(__file__) as file:
        ...     head = file.read(3)
    """
    _check_same(path, stamp, may_be_gone=may_be_gone)
    try:
        yield
    except Exception:
        _check_same(path, stamp, may_be_gone=may_be_gone)
        raise
    _check_same(path, stamp, may_be_gone=may_be_gone)


def changed_error(path: str) -> SourceChangedError:
    """The error for a file that is no longer the one that was opened."""
    return SourceChangedError(f"{path} was replaced or removed since it was opened; open it anew")


def _check_same(path: str, stamp: SourceStamp | None, *, may_be_gone: bool) -> None:
    if stamp is None:
        return
    try:
        found = stat_source(path)
    except (SourceMissingError, SourceKindError) as error:
        if may_be_gone and isinstance(error, SourceMissingError):
            return
        raise changed_error(path) from error
    if not stamp.is_same_file(found):
        raise changed_error(path)


def source_error(path: str, error: Exception) -> SourceError:
    """The error of ours for a failed system call on ``path``."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENOTDIR) and "://" in path:
        told: SourceError = SourceMissingError(
            f"{path} is no file, and URLs are not read; give the path of a local copy"
        )
    elif code in (errno.ENOENT, errno.ENOTDIR):
        told = SourceMissingError(f"{path} does not exist; check the path (relative to {_here()})")
    elif code in (errno.EACCES, errno.EPERM):
        told = SourceAccessError(f"{path} may not be read by this user (permission denied); check its mode and folders")
    else:
        told = SourceError(f"{path} cannot be read: {error}")
    told.errno = code
    return told


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "a working directory that is gone"
