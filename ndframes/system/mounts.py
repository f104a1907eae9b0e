"""What kind of file system a path lies on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

__all__ = ["file_system_of", "is_remote", "is_remote_kind"]
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "afs")
_MOUNTS = Path("/proc/self/mountinfo")
# Where one name ends and the next begins must stay clear, so the kernel writes these as octal numbers.
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def file_system_of(path: str | os.PathLike[str], table: Path = _MOUNTS) -> str | None:
    """The kind of file system, as Linux names it; ``None`` where nobody says.

    Args:
        path: need not be there.
        table: what is mounted where.

    Example:
        >>> file_system_of("/") == file_system_of("/no such folder")
        True
    """
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
        resolved = Path(path).resolve()
    except (OSError, RuntimeError):  # no such table, or a loop of links
        return None
    best, kind = -1, None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = _unescape(left.split(" ")[4])
        if len(point) >= best and (point == "/" or resolved.is_relative_to(point)):  # the last of equals lies on top
            best, kind = len(point), right.split(" ")[0]
    return kind


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether another machine, or a program of some user, answers for this file: a network or user-space file system.

    Such a file may change or shrink in ways of which this machine's kernel hears late. ``False`` where nobody says, and
    where nothing is at ``path``. Costs one ``stat``: the answer is kept for each file system.

    Example:
        >>> is_remote("/proc")
        False
    """
    try:
        device = os.stat(path).st_dev
    except (OSError, ValueError):
        return False
    return is_remote_kind(_kind_at(_Place(device, os.fspath(path))))


def is_remote_kind(kind: str | None) -> bool:
    """Whether a file system of this kind is one of the network, or of user space.

    Example:
        >>> is_remote_kind("nfs4"), is_remote_kind("fuse.sshfs"), is_remote_kind("ext4")
        (True, True, False)
    """
    return kind is not None and (kind in _REMOTE or kind.startswith("fuse"))


@dataclass(frozen=True, slots=True)
class _Place:
    """A path that stands for its whole file system."""

    device: int
    path: str = field(compare=False)


@lru_cache(maxsize=256)
def _kind_at(place: _Place) -> str | None:
    return file_system_of(place.path)


def _unescape(name: str) -> str:
    for escape, character in _ESCAPES:
        name = name.replace(escape, character)
    return name
