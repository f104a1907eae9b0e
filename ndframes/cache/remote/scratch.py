"""Scratch: files on this machine's disk, which become objects."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...errors import CacheError, CacheFullError, NdframesError
from ...system.files import FileSystem
from ..layout import new_part_name, remove_abandoned, show_alive
from ..store import check_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Scratch"]


class Scratch:
    """A folder for files that are written before they are uploaded.

    Args:
        folder: the folder; ``None``: one in the system's folder for temporary files, of this user.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._private = None if folder else Path(tempfile.gettempdir()) / f"ndframes-{_user()}"
        self._folder = folder or Path(tempfile.gettempdir()) / f"ndframes-{_user()}" / "scratch"
        self._files = FileSystem()
        self._is_clean = False

    @contextmanager
    def file(self, state_id: str, room_bytes: int) -> Iterator[IO[bytes]]:
        """A new file with a name, which is removed when the context ends. Those of processes that were killed are removed first.

        Raises:
            CacheFullError: the disk has less room than ``room_bytes``.
            CacheError: the folder cannot be written.
        """
        self.make()
        check_room(self._folder, self._files.free_bytes(str(self._folder)), room_bytes)
        path = str(self._folder / new_part_name(state_id))
        try:
            with self._files.create(path) as file:
                show_alive(self._files, file)
                yield file
        finally:
            self._files.remove(path)

    @contextmanager
    def filled(self, state_id: str, suffix: str, room_bytes: int, fill: Callable[[str], None]) -> Iterator[str]:
        """The path of a new file that ``fill`` has created there; it is removed when the context ends.

        Raises:
            CacheFullError: the disk has less room than ``room_bytes``.
            CacheError: the folder cannot be written.
        """
        self.make()
        check_room(self._folder, self._files.free_bytes(str(self._folder)), room_bytes)
        path = str(self._folder / new_part_name(state_id, suffix))
        pid = os.getpid()
        try:
            self._fill(path, fill)
            with open(path, "rb") as file:
                show_alive(self._files, file)
                yield path
        finally:
            if os.getpid() == pid:  # a child that was forked meanwhile must not remove what its parent reads
                self._files.remove(path)

    def _fill(self, path: str, fill: Callable[[str], None]) -> None:
        try:
            fill(path)
        except NdframesError:  # most are OSErrors, too
            raise
        except OSError as error:
            kind = CacheFullError if error.errno == errno.ENOSPC else CacheError
            raise kind(f"{self._folder}, where copies of sources are written, cannot be written: {error}") from error

    def unnamed(self, room_bytes: int = 0) -> IO[bytes]:
        """A file without a name, and with this much room reserved."""
        self.make()
        return self._files.scratch(str(self._folder), room_bytes)

    def make(self) -> Path:
        """The folder, which is created, and cleaned once.

        Raises:
            CacheError: it cannot be written, or others could change what is written there.
        """
        try:
            if self._private is not None:
                _make_private(self._private)
                _make_private(self._folder)
            self._files.make_folders(str(self._folder))
            if not self._is_clean:
                remove_abandoned(self._files, str(self._folder))
                self._is_clean = True
        except OSError as error:
            raise CacheError(
                f"{self._folder}, where entries are written before they are uploaded, cannot be written: {error}; give local_tier= another "
                "folder, or set TMPDIR"
            ) from error
        return self._folder


def _make_private(folder: Path) -> None:
    """Create a folder that only this user may enter.

    Everybody may create names in the folder for temporary files: a link, or a folder of theirs, in which they would replace what is
    about to be uploaded.

    Raises:
        OSError: the name is a link, or belongs to another user.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    if not hasattr(os, "getuid"):
        return
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(
            errno.EPERM, "it is not a folder of this user, so others could change what is written there", str(folder)
        )
    if status.st_mode & 0o077:  # of an older version
        os.chmod(folder, 0o700)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
