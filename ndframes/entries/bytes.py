"""EntryBytes: reads the segments of an entry, and compares them with their checksums."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ..cache.trailer import SegmentTable, read_trailer_of
from ..errors import CacheEntryDamagedError, CacheEntryGoneError
from ..system.handles import SharedHandle
from ..system.segments import SEGMENT_DTYPE, checksum, fetch_ahead, read_intact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..cache.keys import EntryKey
    from ..system.files import FileMap, FileSystem, OpenFile
    from ..system.handles import HandlePool

__all__ = ["VerifyMode"]

#: What is compared with its checksum when an entry is read: the trailer alone; each segment when it is first read; each
#: segment every time.
VerifyMode = Literal["open", "first-touch", "always"]


class _EntryFile(SharedHandle):
    """An open entry, shared by the threads that read it.

    It has no finalizer. While a finalizer ran, the weak reference by which readers keep this object would still give
    it out, and another thread would read from a closed file. So ``opened`` closes itself, after this object is gone.
    """

    def __init__(self, opened: OpenFile, mapping: FileMap | None) -> None:
        self.opened = opened
        self.read_at = opened.read_at  # looked up here and not for each tile
        self.mapping = mapping
        self.views: dict[int, Array] | None = None if mapping is None else {}
        self.descriptor_count = opened.descriptor_count + (mapping is not None)  # mmap duplicates the descriptor


class EntryBytes:
    """The segments of an entry, by number, compared with their checksums as ``verify`` demands.

    Args:
        path: the file.
        key: the key of the entry.
        files: the file operations.
        pool: keeps the open file.
        verify: which segments are compared with their checksums.
        checksum: the function that computes a CRC-32.

    Attributes:
        trailer: the trailer of the entry, checked.
        stamp: the stamp of the file.
        memory_bytes: the memory that this object takes once every segment was read.
        local_path: the file on this machine's disk that other readers may open.
        local_stamp: its stamp.
        is_mapped: whether the file is mapped into memory when it is opened.
        is_distant: whether each read waits for a network, so that several reads must be announced by :meth:`read_ahead`.

    Raises:
        OSError: the file cannot be opened or read.
        CacheEntryDamagedError: the trailer differs from what was written, or is that of another key.
        CacheEntryError: a newer version of ndframes wrote the entry.
    """

    def __init__(
        self,
        path: str,
        key: EntryKey,
        files: FileSystem,
        pool: HandlePool,
        verify: VerifyMode,
        *,
        checksum: Callable[[bytes], int] = checksum,
    ) -> None:
        self._path, self._files, self._pool = path, files, pool
        self._checksum = checksum
        # A key that only this object has: a path may lead to another file later.
        self._token = object()
        opened = files.open_to_read(path)
        try:
            self.trailer, self.stamp = read_trailer_of(key, path, opened), opened.status.stamp
            self.is_distant = opened.is_distant
            self.local_path, self.local_stamp = opened.local_path or path, opened.local_stamp or self.stamp
            # Only pixels that are not compressed can be used, or checked, as they are in the file. Reading the rows of a .npy that
            # a crop touches into new memory would take three times as long as their checksums.
            layout = self.trailer.meta["layout"]
            self.is_mapped = (layout.get("compress") == "NONE" or "chunk_bytes" in layout) and files.can_map(
                self.local_path
            )
            # A weak reference, so that the pool alone decides how many files stay open.
            self._file = weakref.ref(pool.share(self._token, partial(self._to_file, opened)))
        except BaseException:
            opened.close()
            raise
        # The finalizer must not refer to this object, which it would keep alive.
        weakref.finalize(self, pool.discard, self._token)
        self._table = SegmentTable(self.trailer)
        segment_count = self.trailer.segment_count
        # One byte a segment, because a search in bytes is much faster than a loop over a list.
        self._is_checked = bytearray([verify == "open"]) * segment_count
        self._is_remembered = verify != "always"
        self.memory_bytes = segment_count * (SEGMENT_DTYPE.itemsize + 1)

    def read(self, index: int) -> Any:
        """The bytes of one segment; a view of them where the file is mapped.

        Raises:
            CacheEntryDamagedError: the bytes do not match their checksum.
            CacheEntryGoneError: the file was removed or replaced.
        """
        file = self._open()
        offset, length, crc32 = self._table.row(file.opened, index)
        if self.is_distant:
            return self._read_distant(file.opened, index, offset, length, crc32)
        if file.mapping is None:
            data: Any = file.read_at(offset, length)
        else:
            data = file.mapping.view(offset, length)
        self._check(index, data, offset, length, crc32)
        return data

    def read_checked(self, index: int) -> bytes:
        """The bytes of one segment, compared with their checksum whatever ``verify`` demands.

        Raises:
            CacheEntryDamagedError, CacheEntryGoneError: as :meth:`read`.
        """
        file = self._open()
        return self._read_intact(file.opened, index, *self._table.row(file.opened, index))

    def _read_intact(self, file: OpenFile, index: int, offset: int, length: int, crc32: int) -> bytes:
        data: bytes | None = read_intact(file, offset, length, crc32, self._checksum)
        if data is None:
            raise self.trailer.segment_error(index, offset, length)
        return data

    def _read_distant(self, file: OpenFile, index: int, offset: int, length: int, crc32: int) -> bytes:
        """A segment of a distant file. What comes over the network is checked each time, a copy on this machine as any file."""
        known = self._read_known(file, [(offset, length, crc32)])
        return self._read_intact(file, index, offset, length, crc32) if known is None else known[0]

    def _read_known(self, file: OpenFile, rows: Sequence[tuple[int, int, int]]) -> list[Any] | None:
        """Segments that this process has checked in the copy on this machine; ``None`` if some are not."""
        return None if file.copy is None or not self._is_remembered else file.copy.read_known(rows)

    def read_run(self, run: range) -> list[Any]:
        """The bytes of several segments, read in one request where they are adjacent; not for mapped files.

        Raises:
            CacheEntryDamagedError, CacheEntryGoneError: as :meth:`read`.
        """
        if run.step != 1:
            return [self.read(index) for index in run]
        file = self._open()
        rows = self._table.rows(file.opened, run)
        if self.is_distant:
            known = self._read_known(file.opened, rows)
            return [self.read(index) for index in run] if known is None else known
        starts, stops = [row[0] for row in rows], [row[0] + row[1] for row in rows]
        if starts[1:] != stops[:-1]:
            return [self.read(index) for index in run]
        origin, size = starts[0], stops[-1] - starts[0]
        # Slices of a view share the bytes, and do not copy each tile.
        data = memoryview(file.read_at(origin, size))
        pieces = [data[start - origin : stop - origin] for start, stop in zip(starts, stops, strict=True)]
        # A short read is an error even for checked segments; otherwise most runs need no loop.
        if len(data) != size or self._is_checked.find(0, run.start, run.stop) >= 0:
            for index, piece, row in zip(run, pieces, rows, strict=True):
                self._check(index, piece, *row)
        return pieces

    def _check(self, index: int, data: Any, offset: int, length: int, crc32: int) -> None:
        """Compare a segment with its checksum, unless that was done before and need not be repeated."""
        if len(data) != length or (not self._is_checked[index] and self._checksum(data) != crc32):
            raise self.trailer.segment_error(index, offset, length)
        if self._is_remembered:
            self._is_checked[index] = True  # threads may do this at once: storing a byte is atomic

    def is_checked(self, first: int, stop: int) -> bool:
        """Whether none of these segments needs a check."""
        return self._is_checked.find(0, first, stop) < 0

    def touch(self, runs: Sequence[range]) -> None:
        """Read and check those segments of these runs that need a check."""
        find = self._is_checked.find
        for run in runs:
            if find(0, run.start, run.stop) >= 0:
                break
        else:
            return
        self.expect(runs)
        for index in self._list_unchecked(runs):
            self.read(index)

    def expect(self, runs: Sequence[range]) -> bool:
        """Call :meth:`read_ahead` for the segments of these runs that need a check; the others were read before.

        Returns:
            Whether there are any. ``False`` for a single segment: it is read at once, so fetching it ahead gains nothing.
        """
        if len(runs) == len(runs[0]) == 1:
            return False
        unchecked = self._list_unchecked(runs)
        self.read_ahead(unchecked)
        return bool(unchecked)

    def _list_unchecked(self, runs: Sequence[range]) -> list[int]:
        is_checked = self._is_checked
        return [index for run in runs for index in run if not is_checked[index]]

    def read_ahead(self, indices: Sequence[int], *, is_batch: bool = False) -> bool:
        """Have the bytes of some segments fetched, without waiting for them. ``False``: all are on this machine."""
        if not indices:
            return False
        file = self._open()
        self._table.load(file.opened, indices)
        rows = [self._table.row(file.opened, index) for index in indices]
        return fetch_ahead(file.opened, rows, self._checksum, is_batch=is_batch)

    def views(self) -> dict[int, Array] | None:
        """A dictionary for arrays over the mapped file, kept as long as it stays mapped; ``None`` if it is not mapped."""
        return self._open().views

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """A view of adjacent segments of equal length in the mapped file.

        Raises:
            CacheEntryDamagedError: the segments are not adjacent.
            CacheEntryGoneError: the file was removed or replaced.
        """
        file = self._open()
        start = self._table.row(file.opened, first)[0]
        last = self._table.row(file.opened, first + count - 1)
        if last[:2] != (start + (count - 1) * tile_bytes, tile_bytes):
            raise CacheEntryDamagedError(f"{self._path}: its tiles are not adjacent in the file")
        assert file.mapping is not None  # noqa: S101
        return file.mapping.buffer[start : start + count * tile_bytes]

    def check_everything(self) -> None:
        """Compare every byte with its checksum: called when decoding failed, to find out whether the bytes are at fault.

        Raises:
            CacheEntryDamagedError: bytes do not match their checksum.
        """
        try:
            self.trailer.check_everything(self._open().opened)
        except CacheEntryDamagedError as error:
            self.raise_if_copied(error)
            raise

    def raise_if_copied(self, error: CacheEntryDamagedError) -> None:
        """Raise an error on which the entry is opened again, if it was a copy of it that is damaged.

        Raises:
            CacheEntryGoneError: it was.
        """
        if self._open().opened.distrust():
            raise CacheEntryGoneError(
                f"{self._path}: its copy on this machine is damaged, and was removed: {error}"
            ) from error

    def _open(self) -> _EntryFile:
        file = self._file()
        if file is None:
            file = self._pool.share(self._token, self._open_file)
            self._file = weakref.ref(file)
        file.is_used = True
        return file

    def _open_file(self) -> _EntryFile:
        opened = self._files.open_to_read(self._path)
        try:
            self._check_same(opened)
            return self._to_file(opened)
        except BaseException:
            opened.close()
            raise

    def _to_file(self, opened: OpenFile) -> _EntryFile:
        opened.expect_random_reads()
        return _EntryFile(opened, opened.map() if self.is_mapped else None)

    def _check_same(self, opened: OpenFile) -> None:
        if not self.stamp.is_same_file(opened.status.stamp):
            raise CacheEntryGoneError(f"{self._path} was replaced since it was opened")
        # What is checked when, and what is mapped, was decided for a file of the other kind.
        if self.is_distant != opened.is_distant:
            raise CacheEntryGoneError(f"{self._path} is at another place since it was opened")
