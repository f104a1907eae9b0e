"""What a source file is at this moment: one ``stat``, or an error that says why there is none."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from .errors import SourceAccessError, SourceError, SourceKindError, SourceMissingError

__all__ = ["SourceStamp", "stat_source"]

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
        ctime_ns: when anything about it was last changed; cannot be set back.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


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
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise SourceKindError(f"{path} is {kind}; give the path of an image file")
    return SourceStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def source_error(path: str, error: Exception) -> SourceError:
    """The error of ours for a failed system call on ``path``."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENOTDIR):
        told: SourceError = SourceMissingError(f"{path} does not exist; check the path (relative to {_here()})")
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
