"""ObjectFile: one state of an object, read by ranges like a file."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING

from ...errors import NdframesError
from .announced import AnnouncedReads
from .source_errors import as_source_errors
from .store import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from ..stamp import SourceStamp
    from .store import ObjectStatus, ObjectStore

__all__ = ["ObjectFile", "ObjectStream"]
_BLOCK_BYTES = 1 << 16
_MOST_BLOCKS = 512
# A stream that is read on and on fetches more at a time, up to this many blocks.
_MOST_BLOCKS_AHEAD = 64


class ObjectFile:
    """One state of an object, of which each read is a request.

    Args:
        store: the object store.
        status: the object, in the state that is read.
        stamp: that state.
        url: the address, for messages.
        on_change: called when the object is found in another state.

    Attributes:
        path: the address.
        stamp: the state that is read; another one is an error.

    Raises:
        SourceChangedError: the object was replaced or removed; when reading.
        StoreError: it cannot be read; when reading.
    """

    def __init__(
        self,
        store: ObjectStore,
        status: ObjectStatus,
        stamp: SourceStamp,
        url: str,
        on_change: Callable[[], object] | None = None,
    ) -> None:
        self.path = url
        self.stamp = stamp
        self._store = store
        self._status = status
        self._on_change = on_change
        self._reads = AnnouncedReads(store, status.key, status.etag)

    @property
    def size_bytes(self) -> int:
        """The length of the object."""
        return self._status.size_bytes

    def read_at(self, offset: int, length: int) -> Buffer:
        """Read ``length`` bytes from ``offset``; fewer only where the object ends.

        Bytes that :meth:`read_ahead` has announced are not requested again.
        """
        length = max(0, min(length, self.size_bytes - offset))
        if not length:
            return b""
        with as_source_errors(self.path, self._on_change):
            return self._reads.read(offset, length)

    def read_several(self, places: list[Place]) -> list[Buffer]:
        """Read several places at the same time."""
        with as_source_errors(self.path, self._on_change):
            fetches = self._store.begin_fetch(self._status.key, places, etag=self._status.etag)
            return [wait() for wait in fetches]

    def read_ahead(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:
        """Begin to fetch these places, each an offset and a length; each is kept until it is read."""
        self._reads.announce(places, is_batch=is_batch)


class ObjectStream(io.RawIOBase):
    """The bytes of an object as a file for programs that read it piece by piece: its blocks are fetched when they are needed.

    Blocks that follow each other are fetched together, more and more of them.

    Args:
        file: the object.

    Attributes:
        file: the object.
        error: the first error of a request, since some programs go on after one; ``None``: all succeeded.
    """

    def __init__(self, file: ObjectFile) -> None:
        super().__init__()
        self.file = file
        self.error: NdframesError | None = None
        self._position = 0
        self._blocks: OrderedDict[int, Buffer] = OrderedDict()
        self._ahead = 2

    @property
    def size_bytes(self) -> int:
        """The length of the object."""
        return self.file.size_bytes

    def readable(self) -> bool:
        """``True``."""
        return True

    def seekable(self) -> bool:
        """``True``."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next read."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        if origin + offset < 0:
            raise ValueError(f"{self.file.path}: {origin + offset} lies before the beginning of the file")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        """Fill a buffer from the current position on; less only at the end."""
        target = memoryview(buffer).cast("B")
        data = self.read_at(self._position, len(target))
        target[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Some bytes from ``offset`` on; fewer only where the object ends."""
        length = max(0, min(length, self.size_bytes - offset))
        if not length:
            return b""
        try:
            return self._read(offset, length)
        except NdframesError as error:
            self.error = self.error or error
            raise

    def forget(self) -> None:
        """Drop the blocks, which take up to 32 MiB."""
        self._blocks.clear()

    def _read(self, offset: int, length: int) -> bytes:
        numbers = range(offset // _BLOCK_BYTES, (offset + length - 1) // _BLOCK_BYTES + 1)
        if len(numbers) > _MOST_BLOCKS // 2:  # a table of this size is read once
            return bytes(self.file.read_at(offset, length))
        self._load(numbers)
        data = b"".join(self._blocks[number] for number in numbers)
        start = offset - numbers[0] * _BLOCK_BYTES
        return data[start : start + length]

    def _load(self, numbers: range) -> None:
        """Fetch the blocks that are missing, and some that follow."""
        missing = [number for number in numbers if number not in self._blocks]
        for number in numbers:
            if number in self._blocks:
                self._blocks.move_to_end(number)
        if not missing:
            return
        if missing[0] - 1 in self._blocks:
            self._ahead = min(2 * self._ahead, _MOST_BLOCKS_AHEAD)
        last = (self.size_bytes - 1) // _BLOCK_BYTES
        following = range(numbers[-1] + 1, min(numbers[-1] + self._ahead - len(missing), last) + 1)
        wanted = [*missing, *(number for number in following if number not in self._blocks)]
        places = [self._place(number) for number in wanted]
        self._blocks.update(zip(wanted, self.file.read_several(places), strict=True))
        while len(self._blocks) > _MOST_BLOCKS:
            self._blocks.popitem(last=False)

    def _place(self, number: int) -> Place:
        start = number * _BLOCK_BYTES
        return Place(start, min(_BLOCK_BYTES, self.size_bytes - start))
