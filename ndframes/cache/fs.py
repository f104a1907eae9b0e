"""Every file operation of the cache, in one place: what can fail, fails here."""

from __future__ import annotations

import os
import shutil
from typing import IO

__all__ = [
    "create_exclusive",
    "free_bytes",
    "link_or_replace",
    "make_folders",
    "remove_if_there",
    "sync_file",
    "sync_folder",
]


def make_folders(path: str) -> None:
    """Create ``path`` and what lies above it."""
    os.makedirs(path, exist_ok=True)


def create_exclusive(path: str) -> IO[bytes]:
    """A new file at ``path``, open to write and read; fails where something is."""
    return open(path, "x+b")


def sync_file(file: IO[bytes]) -> None:
    """Hand everything written to the disk, and wait for it."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: str) -> None:
    """Make the folder's new names last; a file system that cannot is left in peace."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_replace(temporary: str, final: str) -> None:
    """Give a finished file its final name, in one step; an equal one that came first stays."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(temporary, final)
        return
    os.unlink(temporary)


def remove_if_there(path: str) -> None:
    """Unlink ``path``; nothing happens where nothing is."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def free_bytes(path: str) -> int:
    """What this user may still write to the file system of ``path``."""
    return shutil.disk_usage(path).free
