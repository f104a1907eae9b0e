"""Output files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
import weakref
from typing import IO, TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PendingFile", "check_output_path", "write_atomically"]
_OPEN_FILES = "/proc/self/fd"


class PendingFile:
    """A file that appears under its name when it is complete.

    On Linux it has no name before, so nothing is left of it if the process is killed. On other systems, and on file systems
    that cannot do this, it is a hidden file beside its destination, which is removed with this object.

    Args:
        path: where it is to appear; a symbolic link stays, and the file behind it is replaced.

    Attributes:
        file: the open file, for reading and writing.

    Raises:
        OSError: the system refuses.

    Example:
        >>> pending = PendingFile(str(getfixture("tmp_path") / "a.txt"))
        >>> pending.file.write(b"text")
        4
        >>> pending.publish()
        >>> os.listdir(getfixture("tmp_path"))
        ['a.txt']
    """

    def __init__(self, path: str) -> None:
        self._final = os.path.realpath(path)
        # In the same folder: a rename across file systems is a copy. A unique name, for several writers of one path.
        self._name = os.path.join(os.path.dirname(self._final), f".{uuid.uuid4().hex}.part")
        # The file has this name attribute in any case, by which others find its folder.
        self.file: IO[bytes] = open(self._name, "x+b", opener=_open_unnamed)  # noqa: SIM115 - until it is discarded
        self._has_name = os.path.exists(self._name)
        self._remove = weakref.finalize(self, _remove, self.file, self._name, os.getpid())

    def hide(self) -> None:
        """Take its name away where the system allows that: it is read by this process alone, and never published."""
        if self._has_name and os.path.isdir(_OPEN_FILES):
            os.unlink(self._name)
            self._has_name = False

    @property
    def path(self) -> str:
        """A path by which this process can open the file again."""
        return self._name if self._has_name else f"{_OPEN_FILES}/{self.file.fileno()}"

    def publish(self) -> None:
        """Close the file, and let it appear under its name, where it replaces another one.

        Raises:
            OSError: the system refuses.
        """
        if not self.file.closed:  # else it failed below before
            self.file.flush()
            if not self._has_name:
                self._link()
                self._has_name = True
            self.file.close()
        os.replace(self._name, self._final)

    def discard(self) -> None:
        """Close the file and remove it; it does nothing after :meth:`publish`."""
        self._remove()

    def _link(self) -> None:
        folder = os.open(_OPEN_FILES, os.O_RDONLY)
        try:
            # With the descriptor of a folder: without, Python links the symbolic link of /proc and not the file.
            os.link(str(self.file.fileno()), self._name, src_dir_fd=folder)
        except OSError:  # a sandbox may forbid it
            with open(self._name, "xb") as copy:
                self.file.seek(0)
                shutil.copyfileobj(self.file, copy)
        finally:
            os.close(folder)


def _open_unnamed(name: str, flags: int) -> int:
    """An opener for :func:`open`: a file without a name in the folder of ``name``, where the system has such files."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir(_OPEN_FILES):
        try:
            return os.open(os.path.dirname(name), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError:  # the file system has none, or refuses the next call, too
            pass
    return os.open(name, flags, 0o666)


def _remove(file: IO[bytes], name: str, owner_pid: int) -> None:
    try:
        file.close()
    finally:
        # Not in a forked copy, whose parent still needs the file.
        if os.getpid() == owner_pid and os.path.exists(name):
            os.unlink(name)


def write_atomically(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file that appears at ``path`` when it is complete, where it replaces an existing file.

    Raises:
        OutputError: the system refuses; nothing is left.
    """
    check_output_path(path)
    try:
        pending = PendingFile(path)
        try:
            write(pending.file)
            pending.publish()
        finally:
            pending.discard()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def check_output_path(path: str) -> None:
    """Check that the folder of ``path`` exists, and that ``path`` is a regular file or does not exist.

    Raises:
        OutputError: otherwise.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{path} cannot be written: there is no folder {folder}; create it first")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(f"{path} cannot be written: it exists and is not a regular file")
