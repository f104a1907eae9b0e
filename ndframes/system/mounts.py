"""The type of the file system under a path."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

__all__ = ["file_system_of", "is_remote", "is_remote_type"]
_REMOTE_TYPES = ("nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "afs")
_MOUNTS = Path("/proc/self/mountinfo")
# The fields of mountinfo are separated by white space, so the kernel writes these characters as octal escapes.
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def file_system_of(path: str | os.PathLike[str], table: Path = _MOUNTS) -> str | None:
    """The type of the file system that holds ``path``, as Linux names it; ``None`` if it is unknown.

    Args:
        path: the path; it need not exist.
        table: the list of mounts, in the format of ``/proc/self/mountinfo``.

    Example:
        >>> file_system_of("/") == file_system_of("/no such folder")
        True
    """
    try:
        # Paths may contain bytes that are not UTF-8.
        lines = table.read_text(errors="surrogateescape").splitlines()
        resolved = Path(path).resolve()
    except (OSError, RuntimeError):  # no such table, or a loop of symbolic links
        return None
    longest, found = -1, None
    for line in lines:
        # The number of fields before the dash varies.
        left, _, right = line.partition(" - ")
        point = _unescape(left.split(" ")[4])
        # Of mounts at the same point, the last one hides the others.
        if len(point) >= longest and (point == "/" or resolved.is_relative_to(point)):
            longest, found = len(point), right.split(" ")[0]
    return found


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is on a network file system or on one in user space (FUSE).

    On such file systems a file may change or shrink without the local kernel noticing at once. ``False`` if the type is
    unknown or the path does not exist. The result is cached by file system, so further calls cost one ``stat``.

    Example:
        >>> is_remote("/proc")
        False
    """
    try:
        device = os.stat(path).st_dev
    except (OSError, ValueError):
        return False
    return is_remote_type(_type_at(_Location(device, os.fspath(path))))


def is_remote_type(type_name: str | None) -> bool:
    """Whether file systems of this type are on the network or in user space.

    Example:
        >>> is_remote_type("nfs4"), is_remote_type("fuse.sshfs"), is_remote_type("ext4")
        (True, True, False)
    """
    return type_name is not None and (type_name in _REMOTE_TYPES or type_name.startswith("fuse"))


@dataclass(frozen=True, slots=True)
class _Location:
    """A key of the cache: all paths of one device compare equal."""

    device: int
    path: str = field(compare=False)


@lru_cache(maxsize=256)
def _type_at(location: _Location) -> str | None:
    return file_system_of(location.path)


def _unescape(name: str) -> str:
    for escape, character in _ESCAPES:
        name = name.replace(escape, character)
    return name
