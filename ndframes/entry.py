"""Entry: a cache entry opened for crops, its bytes held against their checksums before they are decoded."""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._process import IMPORTING
from .cache.trailer import SegmentTable, Trailer, read_trailer_of
from .errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    CacheError,
    SourceChangedError,
    SourceMissingError,
    UnreadableImageError,
)
from .formats.handles import Shareable
from .formats.reader import Array, Crop, Reader
from .mounts import is_remote
from .payload import open_frames, open_payload
from .regions import bounding_range
from .segments import SEGMENT, checksum
from .stamp import stamp_of

if TYPE_CHECKING:
    from pathlib import Path

    from .cache.fs import FileSystem
    from .cache.keys import EntryKey
    from .formats.handles import HandlePool
    from .formats.tiles import TileCache
    from .stamp import SourceStamp

__all__ = ["EntryReader", "VerifyMode", "open_trailer"]

#: How much of an entry is checked while it is read: its trailer; each piece when it is first touched; each piece, always.
VerifyMode = Literal["open", "first-touch", "always"]


class EntryReader(Reader):
    """Crops of one cache entry.

    Opening checks the trailer: that the file is whole, and that it is the entry of ``key``. With ``"first-touch"`` every
    tile (every MiB of an npy) is held against its checksum before this reader decodes it for the first time, with
    ``"always"`` every time.

    Args:
        path: where it lies.
        key: its name.
        files: the file operations.
        pool: lends the open file.
        verify: how much is checked, and when.
        tiles: keeps decoded tiles; ``None`` keeps none.

    Attributes:
        key: its name.
        trailer: what the entry says of itself.
        stamp: which file it is.

    Raises:
        CacheEntryGoneError: it is not there any more.
        CacheEntryDamagedError: it is not what was written.
        CacheEntryError: a newer version wrote it.
    """

    def __init__(
        self,
        path: Path,
        key: EntryKey,
        files: FileSystem,
        pool: HandlePool,
        *,
        verify: VerifyMode,
        tiles: TileCache | None = None,
    ) -> None:
        name = str(path)
        self.key = key
        self.path = name
        self.trailer, self.stamp = open_trailer(name, key, files)
        self._chunks: _Chunks | None = None
        self._inner: Reader
        with _AsCacheErrors(name):
            self._bytes = _EntryBytes(name, self.stamp, self.trailer, files, pool, verify)
            if key.suffix == ".npy":
                self._inner, self._chunks = self._open_array(pool)
            elif self.trailer.meta.get("frames") is not None:
                self._inner = self._open_frames(tiles, pool)
            else:
                self._inner = self._open_tiles(tiles)
        super().__init__(
            name,
            format=self._inner.format,
            shape=self._inner.shape,
            dtype=self._inner.dtype,
            tile_shape=self._inner.tile_shape,
            memory_bytes=self._inner.memory_bytes + self._bytes.memory_bytes,
        )
        self.is_shareable = self._inner.is_shareable
        self.frame_count, self.tile_frames = self._inner.frame_count, self._inner.tile_frames
        self.nodata = self.trailer.meta.get("nodata")

    @property
    def is_worth_sharing(self) -> bool:
        """As for the form that the entry has."""
        return self._inner.is_worth_sharing

    def estimate_seconds(self, crop: Crop) -> float:
        """As for the form that the entry has."""
        return self._inner.estimate_seconds(crop)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As for the form that the entry has."""
        return self._inner.count_decoded(rows, cols)

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """As for the form that the entry has."""
        return self._inner.count_decoded_of(times, rows, cols)

    def level_factors(self, level: int) -> tuple[float, float]:
        """As for the form that the entry has."""
        return self._inner.level_factors(level)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`; what is touched is checked first.

        Raises:
            CacheEntryGoneError, CacheEntryDamagedError: as when it was opened; ``out`` may be half filled.
        """
        try:
            if self._chunks is not None:
                self._chunks.touch(rows, cols)
            self._inner.read_window(rows, cols, bands, out, level)
        except OSError as error:  # an UnreadableImageError too
            self._explain(error)
            raise

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`read_window`, for any positive steps."""
        try:
            if self._chunks is not None:
                self._chunks.touch(bounding_range(rows), bounding_range(cols))
            self._inner.read_strided(rows, cols, bands, out, level)
        except OSError as error:
            self._explain(error)
            raise

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`; what is touched is checked first."""
        if self._chunks is not None:
            super().read_frames(times, rows, cols, bands, out)
            return
        self._do(partial(self._inner.read_frames, times, rows, cols, bands, out))

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`."""
        if self._chunks is not None:
            yield from super().split(crops)
            return
        for task in self._inner.split(crops):
            yield partial(self._do, task)

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`."""
        self._do(partial(self._inner.read_ahead, crops))

    def _do(self, task: Callable[[], None]) -> None:
        try:
            task()
        except OSError as error:
            self._explain(error)
            raise

    def _explain(self, error: OSError) -> None:
        """Raise what ``error`` means for an entry."""
        if isinstance(error, UnreadableImageError):
            self._bytes.check_everything()  # for the bytes, or for want of memory or handles?
        _raise_as_cache_error(self.path, error)

    def _open_array(self, pool: HandlePool) -> tuple[Reader, _Chunks]:
        """The pixels of an npy; where it does not open, find out whether that is for its bytes."""
        try:
            has_frames = self.trailer.meta.get("frames") is not None
            reader = open_payload(self.path, self.key.suffix, pool, stamp=self.stamp, has_frames=has_frames)
        except UnreadableImageError:
            self._bytes.check_everything()
            raise
        meta = self.trailer.meta
        if (list(reader.shape), reader.dtype) != (meta["shape"], np.dtype(meta["dtype"])):
            raise CacheEntryDamagedError(
                f"{self.path} opens as {reader.shape} {reader.dtype}, but was written otherwise"
            )
        return reader, _Chunks(self._bytes, meta["layout"]["chunk_bytes"], reader)

    def _open_frames(self, tiles: TileCache | None, pool: HandlePool) -> Reader:
        with IMPORTING:
            from .formats import codecs

        meta = self.trailer.meta
        self._bytes.checksum = codecs.checksum
        shape, dtype = tuple(meta["shape"]), np.dtype(meta["dtype"])
        return open_frames(self.path, meta["layout"], shape, dtype, meta["frames"], self._bytes, tiles, pool)

    def _open_tiles(self, tiles: TileCache | None) -> Reader:
        with IMPORTING:
            from .formats import codecs
            from .formats.tiles import TileCache, TileReader

        meta = self.trailer.meta
        self._bytes.checksum = codecs.checksum
        cache = TileCache(0) if tiles is None else tiles
        return TileReader(self.path, meta["layout"], np.dtype(meta["dtype"]), meta["shape"][2], self._bytes, cache)

    def _find_overview_shapes(self) -> Sequence[tuple[int, int]]:
        return self._inner.overview_shapes


class _EntryFile(Shareable):
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


class _EntryBytes:
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
        self.memory_bytes = trailer.segment_count * (SEGMENT.itemsize + 1)
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


class _Chunks:
    """Which segments of an array a window touches: behind the head, each run of so many bytes is one."""

    def __init__(self, segments: _EntryBytes, chunk_bytes: int, reader: Reader) -> None:
        self._segments = segments
        self._chunk_bytes = chunk_bytes
        self._pixel_bytes = reader.shape[2] * reader.dtype.itemsize
        self._row_bytes = reader.shape[1] * self._pixel_bytes

    def touch(self, rows: range, cols: range) -> None:
        """Check what lies under ``rows`` x ``cols``, of step 1, as far as that is due; the head too, which says how to read it."""
        first, last = cols.start * self._pixel_bytes, cols.stop * self._pixel_bytes - 1
        if self._row_bytes <= self._chunk_bytes:
            self._touch_bytes(rows.start * self._row_bytes + first, (rows.stop - 1) * self._row_bytes + last)
            return
        for row in rows:
            self._touch_bytes(row * self._row_bytes + first, row * self._row_bytes + last)

    def _touch_bytes(self, first: int, last: int) -> None:
        start, stop = first // self._chunk_bytes + 1, last // self._chunk_bytes + 2
        if not self._segments.is_checked(start, stop):
            self._segments.touch([range(1), range(start, stop)])


def open_trailer(path: str, key: EntryKey, files: FileSystem) -> tuple[Trailer, SourceStamp]:
    """The checked trailer of the entry at ``path``, and which file that is: an ``open``, an ``fstat``, a small read.

    Raises:
        CacheEntryGoneError: nothing is there.
        CacheEntryDamagedError: it is no whole entry, or not the one of ``key``.
        CacheEntryError: a newer version wrote it.
        CacheError: it may not be read.
    """
    with _AsCacheErrors(path):
        descriptor = files.open_to_read(path)
        try:
            status = os.fstat(descriptor)
            return read_trailer_of(key, path, files, descriptor, status), stamp_of(status)
        finally:
            os.close(descriptor)


def _expect_random_reads(descriptor: int, mapping: mmap.mmap | None) -> None:
    """Have the system fetch what is asked for, and not megabytes behind it in the hope that those come next."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    if mapping is not None and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)


def _nothing() -> None:
    return None


class _AsCacheErrors:
    """What is wrong with a file, told as what is wrong with an entry.

    A class, since the error of a generator would refer to itself by way of its traceback, and keep all that its frames
    hold until the next garbage collection: no entry being there yet is nothing out of the ordinary.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            _raise_as_cache_error(self._path, error)


def _raise_as_cache_error(path: str, error: OSError) -> None:
    """Raise what ``error`` means for an entry; nothing, where it says that itself."""
    if isinstance(error, (CacheError, UnreadableImageError)):
        return
    if isinstance(error, (SourceChangedError, SourceMissingError, FileNotFoundError, NotADirectoryError)):
        raise CacheEntryGoneError(f"{path} was removed or replaced by another process") from error
    if error.errno == errno.ESTALE:  # what NFS says of a file that another machine removed
        raise CacheEntryGoneError(f"{path} was removed or replaced on another machine") from error
    raise CacheError(f"{path} cannot be read: {error}") from error
