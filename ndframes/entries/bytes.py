"""EntryBytes: the segments of an entry's file, verified against their checksums."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any, Literal

from ..cache.trailer import SegmentTable
from ..errors import CacheEntryDamagedError, CacheEntryGoneError
from ..system.handles import SharedHandle
from ..system.mounts import is_remote
from ..system.segments import SEGMENT_DTYPE, checksum
from ..system.stamp import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..cache.trailer import Trailer
    from ..system.files import FileSystem
    from ..system.handles import HandlePool
    from ..system.stamp import SourceStamp

__all__ = ["VerifyMode"]


#: How much of an entry is checked while it is read: its trailer; each piece when it is first touched; each piece, always.
VerifyMode = Literal["open", "first-touch", "always"]


class _EntryFile(SharedHandle):
    """An entry, open to be read by position and, where it is wanted, mapped into memory."""

    def __init__(self, descriptor: int, mapping: mmap.mmap | None) -> None:
        self._owned = _OwnedDescriptor(descriptor)
        self.descriptor = descriptor
        self.mapping = mapping
        self.views: dict[int, Array] | None = None if mapping is None else {}
        self.descriptor_count = 1 if mapping is None else 2  # Python keeps one of its own with every map

    def view(self, offset: int, length: int) -> memoryview:
        """Bytes of the mapped file, about to be read: a cold disk fetches them in one piece, not page by page."""
        assert self.mapping is not None  # noqa: S101
        if hasattr(mmap, "MADV_WILLNEED"):
            start = offset // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapping.madvise(mmap.MADV_WILLNEED, start, offset + length - start)
        return memoryview(self.mapping)[offset : offset + length]


class _OwnedDescriptor:
    """Closes a file with its last user.

    No finalizer of the handle itself: while that ran, the weak reference by which readers keep the handle would still
    give it out, and another thread would read by a descriptor that is closed, or another file's by then.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class EntryBytes:
    """The segments of an entry, by number, each held against its checksum as ``verify`` says.

    Attributes:
        memory_bytes: what it costs once every segment was touched.
        is_mapped: whether the file is mapped into memory where it is opened.
        checksum: takes the CRC-32 of bytes.
    """

    def __init__(
        self,
        path: str,
        stamp: SourceStamp,
        trailer: Trailer,
        files: FileSystem,
        pool: HandlePool,
        verify: VerifyMode,
    ) -> None:
        self._path, self._stamp, self._trailer, self._files, self._pool = path, stamp, trailer, files, pool
        self._table = SegmentTable(trailer, files)
        self._is_checked = bytearray([verify == "open"]) * trailer.segment_count
        self._is_remembered = verify != "always"
        self.is_mapped = trailer.meta["layout"].get("compress") == "NONE" and not is_remote(path)
        self.checksum: Callable[[bytes], int] = checksum
        self._token = object()
        self._file: Callable[[], _EntryFile | None] = _nothing
        self.memory_bytes = trailer.segment_count * (SEGMENT_DTYPE.itemsize + 1)
        weakref.finalize(self, pool.discard, self._token)

    def read(self, index: int) -> Any:
        """The bytes of one segment; a view of them where the file is mapped.

        Raises:
            CacheEntryDamagedError: they are not what was written.
            CacheEntryGoneError: another file, or none, lies there now.
        """
        file = self._open()
        offset, length, crc32 = self._table.row(file.descriptor, index)
        if file.mapping is None:
            data: Any = self._files.read_at(file.descriptor, offset, length)
        else:
            data = file.view(offset, length)
        self._check(index, data, offset, length, crc32)
        return data

    def read_run(self, run: range) -> list[Any]:
        """The bytes of several segments, in one request where they follow each other; for what is not mapped.

        Raises:
            CacheEntryDamagedError, CacheEntryGoneError: as :meth:`read`.
        """
        if run.step != 1:
            return [self.read(index) for index in run]
        file = self._open()
        rows = self._table.rows(file.descriptor, run)
        starts, stops = [row[0] for row in rows], [row[0] + row[1] for row in rows]
        if starts[1:] != stops[:-1]:
            return [self.read(index) for index in run]
        origin, size = starts[0], stops[-1] - starts[0]
        data = memoryview(self._files.read_at(file.descriptor, origin, size))
        pieces = [data[start - origin : stop - origin] for start, stop in zip(starts, stops, strict=True)]
        if len(data) != size or self._is_checked.find(0, run.start, run.stop) >= 0:
            for index, piece, row in zip(run, pieces, rows, strict=True):
                self._check(index, piece, *row)
        return pieces

    def _check(self, index: int, data: Any, offset: int, length: int, crc32: int) -> None:
        """Hold a segment against its checksum, as far as that is due."""
        if len(data) != length or (not self._is_checked[index] and self.checksum(data) != crc32):
            raise self._trailer.segment_error(index, offset, length)
        if self._is_remembered:
            self._is_checked[index] = True

    def is_checked(self, first: int, stop: int) -> bool:
        """Whether nothing is due for these segments."""
        return self._is_checked.find(0, first, stop) < 0

    def touch(self, runs: Sequence[range]) -> None:
        """Check the segments of these runs, as far as that is due, where they lie."""
        find = self._is_checked.find
        for run in runs:
            if find(0, run.start, run.stop) >= 0:
                break
        else:
            return
        self.expect(runs)
        for index in self._list_due(runs):
            self.read(index)

    def expect(self, runs: Sequence[range]) -> bool:
        """As :meth:`read_ahead`, for those segments of these runs that are due to be checked: the others were read before.

        Returns:
            Whether there are any. Of a single one nothing is said: it is read at once.
        """
        if len(runs) == len(runs[0]) == 1:
            return False
        due = self._list_due(runs)
        for index in due:
            self.read_ahead(index)
        return bool(due)

    def _list_due(self, runs: Sequence[range]) -> list[int]:
        is_checked = self._is_checked
        return [index for run in runs for index in run if not is_checked[index]]

    def read_ahead(self, index: int) -> None:
        """Have the bytes of one segment fetched from the disk without waiting for them."""
        file = self._open()
        offset, length, _ = self._table.row(file.descriptor, index)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def views(self) -> dict[int, Array] | None:
        """Arrays over the mapped file, kept as long as it stays mapped; ``None`` where it is not."""
        return self._open().views

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """The bytes of segments of one length that follow each other, as they lie in the mapped file."""
        file = self._open()
        start = self._table.row(file.descriptor, first)[0]
        last = self._table.row(file.descriptor, first + count - 1)
        if last[:2] != (start + (count - 1) * tile_bytes, tile_bytes):
            raise CacheEntryDamagedError(f"{self._path}: its tiles do not lie one behind the other")
        assert file.mapping is not None  # noqa: S101
        return memoryview(file.mapping)[start : start + count * tile_bytes]

    def check_everything(self) -> None:
        """Where something does not decode: hold every byte against its checksum.

        Raises:
            CacheEntryDamagedError: something is not what was written.
        """
        self._trailer.check_everything(self._files, self._open().descriptor)

    def _open(self) -> _EntryFile:
        file = self._file()
        if file is None:
            file = self._pool.share(self._token, self._open_file)
            self._file = weakref.ref(file)
        file.is_used = True
        return file

    def _open_file(self) -> _EntryFile:
        descriptor = self._files.open_to_read(self._path)
        try:
            self._check_same(stamp_of(os.fstat(descriptor)))
            mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if self.is_mapped else None
            _expect_random_reads(descriptor, mapping)
        except BaseException:
            os.close(descriptor)
            raise
        return _EntryFile(descriptor, mapping)

    def _check_same(self, stamp: SourceStamp) -> None:
        if not self._stamp.is_same_file(stamp):
            raise CacheEntryGoneError(f"{self._path} was replaced since it was opened")


def _expect_random_reads(descriptor: int, mapping: mmap.mmap | None) -> None:
    """Have the system fetch what is asked for, and not megabytes behind it in the hope that those come next."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    if mapping is not None and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)


def _nothing() -> None:
    return None
