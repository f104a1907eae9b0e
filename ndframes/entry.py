"""Entry: a cache entry opened for crops, its bytes held against their checksums before they are decoded."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from .cache.trailer import Trailer, read_trailer_of
from .convert import open_payload
from .errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    CacheError,
    SourceChangedError,
    SourceMissingError,
    UnreadableImageError,
)
from .formats.reader import Array, Reader
from .regions import bounding_range
from .segments import SEGMENT
from .stamp import stamp_of

if TYPE_CHECKING:
    from pathlib import Path

    from .cache.fs import FileSystem
    from .cache.keys import EntryKey
    from .formats.handles import HandlePool
    from .stamp import SourceStamp

__all__ = ["EntryReader", "VerifyMode", "open_trailer"]

#: How much of an entry is checked while it is read: its trailer; each piece when it is first touched; each piece, always.
VerifyMode = Literal["open", "first-touch", "always"]


class EntryReader(Reader):
    """Crops of one cache entry.

    Opening checks the trailer: that the file is whole, and that it is the entry of ``key``. With ``"first-touch"`` every
    tile (every MiB of an npy) is held against its checksum before this reader decodes it for the first time, with
    ``"always"`` every time.

    Attributes:
        key: its name.
        trailer: what the entry says of itself.
        stamp: which file it is.

    Raises:
        CacheEntryGoneError: it is not there any more.
        CacheEntryDamagedError: it is not what was written.
        CacheEntryError: a newer version wrote it.
    """

    def __init__(self, path: Path, key: EntryKey, files: FileSystem, pool: HandlePool, *, verify: VerifyMode) -> None:
        name = str(path)
        self.key = key
        self.trailer, self.stamp = open_trailer(name, key, files)
        meta = self.trailer.meta
        self._files = files
        self._pool = pool
        self._token = object()
        self._verify = verify
        self._checker: _Checker | None = None
        self.path = name
        with _AsCacheErrors(name):
            try:
                self._inner = open_payload(name, key.suffix, pool, stamp=self.stamp)
            except UnreadableImageError:
                self._check_everything()
                raise
        super().__init__(
            name,
            format=self._inner.format,
            shape=self._inner.shape,
            dtype=self._inner.dtype,
            tile_shape=self._inner.tile_shape,
            memory_bytes=self._inner.memory_bytes,
        )
        if (list(self.shape), self.dtype) != (meta["shape"], np.dtype(meta["dtype"])):
            raise CacheEntryDamagedError(f"{name} opens as {self.shape} {self.dtype}, but was written otherwise")
        weakref.finalize(self, pool.discard, self._token)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As for the form that the entry has."""
        return self._inner.count_decoded(rows, cols)

    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array, *, level: int = 0) -> None:
        """As :meth:`Reader.read`; what is touched is checked first.

        Raises:
            CacheEntryGoneError, CacheEntryDamagedError: as when it was opened; ``out`` may be half filled.
        """
        if not out.size:
            return
        with _AsCacheErrors(self.path):
            if self._verify != "open":
                self._check(bounding_range(rows), bounding_range(cols), level)
            try:
                self._inner.read(rows, cols, bands, out, level=level)
            except UnreadableImageError:
                self._check_everything()
                raise

    def _find_overview_shapes(self) -> Sequence[tuple[int, int]]:
        with _AsCacheErrors(self.path):
            return self._inner.overview_shapes

    def _read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        self.read(rows, cols, bands, out, level=level)

    def _check(self, rows: range, cols: range, level: int) -> None:
        checker = self._checker
        if checker is None:
            with self._borrow() as file:
                segments = self.trailer.load_segments(self._files, file.fileno())
                checker = _make_checker(segments, self.trailer.meta["layout"], self._inner)
            self.memory_bytes += segments.nbytes
            self._checker = checker
        indices = checker.touched(rows, cols, level, again=self._verify == "always")
        if len(indices):
            with self._borrow() as file:
                for index in indices:
                    self.trailer.check_segment(self._files, file.fileno(), checker.segments[index], int(index))
            checker.mark(indices)

    def _check_everything(self) -> None:
        """Where something does not decode: find out whether that is for the bytes, or for want of memory or handles."""
        with self._borrow() as file:
            self.trailer.check_everything(self._files, file.fileno())

    def _borrow(self) -> Any:
        return self._pool.borrow(self._token, self._open)

    def _open(self) -> IO[bytes]:
        file = os.fdopen(self._files.open_to_read(self.path), "rb", 0)
        if not self.stamp.is_same_file(stamp_of(os.fstat(file.fileno()))):
            file.close()
            raise CacheEntryGoneError(f"{self.path} was replaced since it was opened")
        return file


class _Checker:
    """Which segments of an entry a window touches, and which of them were checked already."""

    def __init__(self, segments: Array) -> None:
        self.segments = segments
        self._is_checked = np.zeros(len(segments), bool)

    def touched(self, rows: range, cols: range, level: int, *, again: bool) -> Array:
        """The segments under a window that have to be checked; the file's head, with all its tables, is one of them."""
        indices = self._find(rows, cols, level)
        unchecked = indices if again else indices[~self._is_checked[indices]]
        return unchecked if self._is_checked[0] and not again else np.append(unchecked, 0)

    def mark(self, indices: Array) -> None:
        """These were checked."""
        self._is_checked[indices] = True

    def _find(self, rows: range, cols: range, level: int) -> Array:
        raise NotImplementedError


class _TileChecker(_Checker):
    """Each tile is a segment."""

    def __init__(self, segments: Array, levels: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(segments)
        self._levels = [
            (
                int(item["first_segment"]),
                int(item["tile_extent"]),
                -(-int(item["shape"][1]) // int(item["tile_extent"])),
            )
            for item in levels
        ]

    def _find(self, rows: range, cols: range, level: int) -> Array:
        first, extent, across = self._levels[level]
        tile_rows = np.arange(rows[0] // extent, rows[-1] // extent + 1)
        tile_cols = np.arange(cols[0] // extent, cols[-1] // extent + 1)
        return (first + tile_rows[:, None] * across + tile_cols).ravel()


class _ChunkChecker(_Checker):
    """Behind the head, each run of so many bytes is a segment."""

    def __init__(self, segments: Array, chunk_bytes: int, shape: tuple[int, int, int], itemsize: int) -> None:
        super().__init__(segments)
        self._chunk_bytes = chunk_bytes
        self._pixel_bytes = shape[2] * itemsize
        self._row_bytes = shape[1] * self._pixel_bytes

    def _find(self, rows: range, cols: range, level: int) -> Array:  # noqa: ARG002
        first, last = cols[0] * self._pixel_bytes, (cols[-1] + 1) * self._pixel_bytes - 1
        starts = np.arange(rows[0], rows[-1] + 1, dtype=np.int64) * self._row_bytes
        begins, ends = (starts + first) // self._chunk_bytes, (starts + last) // self._chunk_bytes
        if self._row_bytes <= self._chunk_bytes:
            return np.arange(begins[0], ends[-1] + 1) + 1
        return np.unique(np.concatenate([np.arange(*pair) for pair in zip(begins, ends + 1, strict=True)])) + 1


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


def _make_checker(segments: Array, layout: Mapping[str, Any], reader: Reader) -> _Checker:
    assert segments.dtype == SEGMENT  # noqa: S101
    if "levels" in layout:
        return _TileChecker(segments, layout["levels"])
    return _ChunkChecker(segments, int(layout["chunk_bytes"]), reader.shape, reader.dtype.itemsize)


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
        if not isinstance(error, OSError) or isinstance(error, (CacheError, UnreadableImageError)):
            return
        if isinstance(error, (SourceChangedError, SourceMissingError, FileNotFoundError, NotADirectoryError)):
            raise CacheEntryGoneError(f"{self._path} was removed or replaced by another process") from error
        if error.errno == errno.ESTALE:  # what NFS says of a file that another machine removed
            raise CacheEntryGoneError(f"{self._path} was removed or replaced on another machine") from error
        raise CacheError(f"{self._path} cannot be read: {error}") from error
