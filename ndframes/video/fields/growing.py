"""GrowingFile: a file that grows frame by frame, and stays readable if its writer dies."""

from __future__ import annotations

import os
import time
import uuid
from typing import IO, TYPE_CHECKING, Any, Literal

from ...system.files import FileSystem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Durability", "GrowingFile"]
#: What a killed writer leaves: every frame but the newest; the same, and after a power failure all but the last second; or
#: whatever has been written.
Durability = Literal["frame", "second", "close"]
_SYNC_SECONDS = 1.0
_BUFFER_BYTES = 1 << 20


class GrowingFile:
    """A file that is written at its end.

    Args:
        path: the file.
        durability: when bytes reach the system and the disk.
        stop: where an existing file is continued. ``None``: a new file, under a hidden name until the first :meth:`commit`,
            which replaces an existing file.

    Attributes:
        position: where the next bytes go.
        final: the path with links resolved.

    Raises:
        OSError: the system refuses.
        BlockingIOError: another process writes the file.
    """

    def __init__(self, path: str, durability: Durability, *, stop: int | None = None) -> None:
        self._files = FileSystem()
        self.final = os.path.realpath(path)
        self._durability = durability
        self._hidden: str | None = None
        self._buffer: list[bytes] = []
        self._synced = time.monotonic()
        if stop is None:
            folder, name = os.path.split(self.final)
            self._hidden = os.path.join(folder, f".{name[:80]}.{uuid.uuid4().hex}.part")
            self._file: IO[bytes] = self._files.create(self._hidden)
        else:
            self._file = open(self.final, "r+b")  # noqa: SIM115 - closed by close
        self.position = 0 if stop is None else stop
        if not self._files.try_lock(self._file):
            self._file.close()
            raise BlockingIOError("another process writes it")

    @property
    def path(self) -> str:
        """Where the file is now."""
        return self._hidden or self.final

    @property
    def has_name(self) -> bool:
        """Whether the file is visible under its name."""
        return self._hidden is None

    def cut(self) -> None:
        """Cut the file off at the position where it is continued."""
        self._file.flush()
        self._file.truncate(self.position)

    def write(self, data: Any) -> int:
        """Write at the position, in memory for now; FFmpeg calls this. Returns the number of bytes."""
        self._buffer.append(bytes(data))
        self.position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position; FFmpeg calls this to go back to the begin of a file."""
        self.flush()
        self.position = self._file.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        """The position."""
        return self.position

    def commit(self) -> None:
        """A frame is complete: pass it to the system, to the disk, or keep it, as the durability demands.

        Raises:
            OSError: the system refuses; the file is cut off after the last frame that was committed.
        """
        if self._durability == "close" and sum(map(len, self._buffer)) < _BUFFER_BYTES and self.has_name:
            return
        self.flush()
        if self._durability == "second" and time.monotonic() - self._synced >= _SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        if self._hidden is not None:
            os.replace(self._hidden, self.final)
            self._hidden = None

    def flush(self) -> None:
        """Pass everything to the system.

        Raises:
            OSError: the system refuses; the file then ends after the last :meth:`write` that is complete.
        """
        start = self.position - sum(map(len, self._buffer))
        chunks, self._buffer = self._buffer, []
        for chunk in chunks:
            done = 0
            try:
                while done < len(chunk):
                    done += os.pwrite(self._file.fileno(), chunk[done:], start + done)
            except OSError:
                self.position = start
                self._file.truncate(start)
                raise
            start += len(chunk)

    def patch(self, changes: Mapping[int, bytes]) -> None:
        """Replace bytes of the file."""
        self.flush()
        for position, data in changes.items():
            os.pwrite(self._file.fileno(), data, position)

    def close(self) -> None:
        """Pass everything to the disk, and close the file."""
        try:
            self.commit()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close the file without writing what is in memory; a file without a name is removed."""
        self._buffer = []
        self._file.close()
        if self._hidden is not None:
            self._files.remove(self._hidden)
