"""EntryCopy: segments of an entry that are kept in the local tier."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

from ...system.segments import SegmentCopy
from .tier_folder import disk_bytes_of, note_use, write_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .commit import Commit
    from .tier_budget import TierBudget
    from .tier_folder import TierFolder, TierNames

__all__ = ["NO_DESCRIPTORS", "EntryCopy", "SparseFile", "lacking_bytes"]
# Two segments of at least this length never begin in the same cell, so one byte for each cell tells which of them are known.
_CELL_BYTES = 1024
_TOUCH_SECONDS = 60.0
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
#: The errors of a process that has too many files open.
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class SparseFile:
    """An open file of the tier. Threads that read from it keep it open; it closes with its last reference.

    Args:
        path: the file.
        size_bytes: the length that it must have.

    Raises:
        OSError: it cannot be opened.
        ValueError: it has another length.
    """

    def __init__(self, path: str, size_bytes: int) -> None:
        self._descriptor = -1
        self._size_bytes = size_bytes
        self.is_writable = True
        try:
            self._descriptor = os.open(path, os.O_RDWR | _FLAGS)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._descriptor, self.is_writable = os.open(path, os.O_RDONLY | _FLAGS), False
        if not self.is_sound():
            raise ValueError(f"{path} is not {size_bytes:,} bytes long")
        # Of a child that is forked, too: known segments stay what they are.
        self._known = bytearray(size_bytes // _CELL_BYTES + 1)
        self.next_touch = 0.0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def is_sound(self) -> bool:
        """Whether it still has its name and its length: otherwise it was removed, or cut by another program."""
        status = os.fstat(self._descriptor)
        return status.st_nlink > 0 and status.st_size == self._size_bytes

    def disk_bytes(self) -> int:
        """What it takes on the disk."""
        return disk_bytes_of(os.fstat(self._descriptor))

    def is_known(self, offset: int, length: int) -> bool:
        """Whether a segment was noted. Short ones are never known; their checksums cost little."""
        return length >= _CELL_BYTES and self._known[offset // _CELL_BYTES] == 1

    def are_known(self, rows: Iterable[tuple[int, int, int]]) -> bool:
        """As :meth:`is_known`, of all segments; without a call for each."""
        known = self._known
        return all(length >= _CELL_BYTES and known[offset // _CELL_BYTES] for offset, length, _ in rows)

    def note(self, offset: int, length: int) -> None:
        """Note a segment that matched its checksum."""
        if length >= _CELL_BYTES:
            self._known[offset // _CELL_BYTES] = 1  # threads may do this at once: storing a byte is atomic

    def read_at(self, offset: int, length: int) -> bytes:
        """Read; fewer bytes if the file was cut or cannot be read, which the caller notices."""
        try:
            data = os.pread(self._descriptor, length, offset)
            while len(data) < length and (more := os.pread(self._descriptor, length - len(data), offset + len(data))):
                data += more
        except OSError:  # a defect of the disk
            return b""
        return data

    def write_at(self, offset: int, data: Any) -> None:
        """Write a segment."""
        write_at(self._descriptor, offset, data)

    def expect(self, places: Iterable[tuple[int, int]]) -> None:
        """Advise the system to read these places now."""
        if hasattr(os, "posix_fadvise"):
            for offset, length in places:
                os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def touch(self) -> None:
        """Record that it is used now."""
        note_use(self._descriptor)


class EntryCopy(SegmentCopy):
    """The segments of an entry that were read on this machine. Its file is created with the first one.

    Another process may remove the file at any time, to keep the limit; then there is another one from the next segment on.

    Args:
        folder: the tier.
        budget: its limit.
        commit: the commit of the entry.
        names: the names of its files.
        on_nearly_whole: called with ``False`` when the file seems to lack little, and with ``True`` each time that it has grown
            since then by half of what it may lack.

    Attributes:
        names: as given.
    """

    def __init__(
        self,
        folder: TierFolder,
        budget: TierBudget,
        commit: Commit,
        names: TierNames,
        on_nearly_whole: Callable[[bool], None] | None,
    ) -> None:
        self.names = names
        self._folder = folder
        self._budget = budget
        self._commit = commit
        self._on_nearly_whole = on_nearly_whole
        self._missing_bytes = lacking_bytes(commit.size_bytes)
        self._is_announced = False
        self._kept_bytes = 0  # since it was announced
        self._file: SparseFile | None = self._open()
        if self._file is not None:
            self._announce(self._file)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`SegmentCopy.read_at`."""
        file = self._file
        return b"" if file is None else file.read_at(offset, length)

    def read_known(self, rows: Sequence[tuple[int, int, int]]) -> list[Any] | None:
        """As :meth:`SegmentCopy.read_known`, by one read where they are adjacent."""
        file = self._file
        if file is None or not file.are_known(rows) or (time.monotonic() > file.next_touch and not self._touch(file)):
            return None
        starts, stops = [row[0] for row in rows], [row[0] + row[1] for row in rows]
        if starts[1:] == stops[:-1]:
            origin = starts[0]
            data = memoryview(file.read_at(origin, stops[-1] - origin))
            pieces: list[Any] = [
                data[start - origin : stop - origin] for start, stop in zip(starts, stops, strict=True)
            ]
        else:
            pieces = [file.read_at(row[0], row[1]) for row in rows]
        if any(len(piece) != row[1] for piece, row in zip(pieces, rows, strict=True)):
            self._file = None  # it was cut
            return None
        return pieces

    def is_known(self, offset: int, length: int) -> bool:
        """As :meth:`SegmentCopy.is_known`."""
        file = self._file
        return file is not None and file.is_known(offset, length)

    def note(self, offset: int, length: int) -> None:
        """As :meth:`SegmentCopy.note`."""
        file = self._file
        if file is not None:
            file.note(offset, length)

    def expect(self, places: Iterable[tuple[int, int]]) -> None:
        """As :meth:`SegmentCopy.expect`."""
        file = self._file
        if file is not None:
            file.expect(places)

    def _touch(self, file: SparseFile) -> bool:
        """Record from time to time that the file is in use. Close it if another process removed it, so that its space becomes free."""
        file.next_touch = time.monotonic() + _TOUCH_SECONDS
        if not file.is_sound():
            self._file = None
            return False
        file.touch()
        return True

    # -- writing ----------------------------------------------------------------------------------------------------

    def keep(self, offset: int, data: Any) -> None:
        """As :meth:`SegmentCopy.keep`."""
        if self._folder.is_paused or not self._budget.allows(self.names.entry):
            return
        try:
            file = self._open_to_write()
            if file is None:
                return
            file.write_at(offset, data)
            file.note(offset, len(data))
            self._budget.note_written(len(data), self.names.entry)
            self._kept_bytes += len(data)
            self._announce(file)
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:
                self._folder.pause(error)

    def _announce(self, file: SparseFile) -> None:
        if self._on_nearly_whole is None:
            return
        has_grown = self._is_announced
        if has_grown:
            # Blocks of the disk that are written in part count in full, so the file may lack more than it seemed. It is announced
            # again, in steps that do not miss the moment at which it lacks little.
            is_due = self._kept_bytes > self._missing_bytes // 2
        else:
            is_due = file.disk_bytes() >= self._commit.size_bytes - self._missing_bytes
        if is_due:
            self._is_announced, self._kept_bytes = True, 0
            self._on_nearly_whole(has_grown)

    def discard(self) -> None:
        """Remove the entry from the tier."""
        self._file = None
        self._folder.remove(self.names.commit)
        self._folder.remove(self.names.data)

    @property
    def has_file(self) -> bool:
        """Whether the tier has a file of the entry."""
        return self._file is not None

    def _open_to_write(self) -> SparseFile | None:
        """The file, which is created if there is none any more; ``None`` if this user may not write it."""
        file = self._file
        if file is None or not file.is_sound():
            self._file = None
            # The commit first: who finds the file without it fetches the commit, and who finds it alone makes the file.
            self._folder.write_commit(self.names, self._commit.encode())
            file = self._open()
            if file is None:
                self._folder.create_data(self.names, self._commit.size_bytes, self._commit.tail)
                file = self._open()
            self._file = file
        return file if file is not None and file.is_writable else None

    def _open(self) -> SparseFile | None:
        """The file if it exists; one of another length is removed."""
        try:
            file = SparseFile(self.names.data, self._commit.size_bytes)
            self._touch(file)
        except FileNotFoundError:
            return None
        except ValueError:
            self._folder.remove(self.names.data)
            return None
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:  # the caller closes some, and tries again
                raise
            self._folder.pause(error)
            return None
        return file


def lacking_bytes(size_bytes: int) -> int:
    """How much of a file may be missing for the rest to be fetched unasked: its head, for example, which crops do not read."""
    return size_bytes // 16 + 8192
