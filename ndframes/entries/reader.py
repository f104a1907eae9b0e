"""EntryReader: a cache entry, opened for crops. Its bytes are compared with their checksums before they are decoded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..cache.failures import AsCacheErrors, raise_as_cache_error
from ..errors import CacheEntryDamagedError, UnreadableImageError
from ..formats.reader import Reader
from ..formats.tiled.halve import RULE
from ..geometry.tiling import bounding_range
from ..system.process import IMPORTING
from ..system.waiting import check_may_open
from .bytes import EntryBytes, VerifyMode
from .payload import open_frames, open_payload, parse_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..cache.keys import EntryKey
    from ..cache.store import EntryPath
    from ..formats.reader import Crop
    from ..formats.tiled.tile_cache import TileCache
    from ..formats.tiled.tile_reader import Tiling
    from ..system.files import FileSystem
    from ..system.handles import HandlePool

__all__ = ["EntryReader", "VerifyMode"]
# Frames of an array are checked and then read in groups of about this many bytes.
_CHECKED_BYTES = 1 << 22
_STATE_BYTES = 12


class EntryReader(Reader):
    """Crops of one cache entry.

    Opening checks the trailer: that the file is complete, and is the entry of ``key``. With ``"first-touch"`` every tile
    (every MiB of a ``.npy``) is compared with its checksum before this reader decodes it for the first time; with
    ``"always"`` every time.

    Args:
        path: the file.
        key: the key of the entry.
        files: the file operations.
        pool: keeps the open file.
        verify: what is compared with its checksum, and when.
        tiles: stores decoded tiles; ``None`` stores none.

    Attributes:
        key: the key of the entry.
        trailer: the trailer of the entry.
        stamp: the stamp of the file.
        state: a digest of the entry: another one for other bytes.
        tiling: how the tiles of an image become pixels; ``None`` for videos, and for a ``.npy``.

    Raises:
        CacheEntryGoneError: the file was removed.
        CacheEntryDamagedError: the file differs from what was written.
        CacheEntryError: a newer version of ndframes wrote it.
    """

    def __init__(
        self,
        path: EntryPath,
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
        self._chunks: _Chunks | None = None
        self.tiling: Tiling | None = None
        self._inner: Reader
        with IMPORTING:
            from ..formats.tiled import codecs

        with AsCacheErrors(name):
            # Five times as fast as zlib's.
            self._bytes = EntryBytes(name, key, files, pool, verify, checksum=codecs.checksum)
            self.trailer, self.stamp = self._bytes.trailer, self._bytes.stamp
            text = repr((str(key), self.trailer.fingerprint))
            self.state = hashlib.blake2b(text.encode(), digest_size=_STATE_BYTES).hexdigest()
            self._written = parse_pixels(self.trailer.meta)
            if key.suffix == ".npy":
                self._inner, self._chunks = self._open_array(pool)
            elif self._written.frame_count is not None:
                self._inner = self._open_frames(tiles, pool)
            else:
                self._inner = self._open_tiles(tiles)
        has_own_levels = self.trailer.meta["layout"].get("halving") == RULE
        self._own_levels = len(self._inner.overview_shapes) if has_own_levels else 0
        # After the payload is open: the facts are those of its reader.
        facts = replace(
            self._inner.facts,
            nodata=self._written.nodata,
            is_distant=self._bytes.is_distant,
            channels=self._written.channels,
            orientation=self._written.orientation,
            memory_bytes=self._inner.memory_bytes + self._bytes.memory_bytes,
        )
        super().__init__(name, facts)

    def read_stored(self, indices: Sequence[int]) -> list[bytes]:
        """The stored bytes of some tiles, by their numbers in the file, each compared with its checksum now.

        Raises:
            CacheEntryGoneError, CacheEntryDamagedError: as on opening.
        """
        stored: list[bytes] = []

        def read() -> None:
            if self._bytes.is_distant:
                self._bytes.read_ahead(indices)
            # Distant bytes may come in another type.
            stored.extend(bytes(self._bytes.read_checked(index)) for index in indices)

        self._run(read)
        return stored

    @property
    def is_worth_sharing(self) -> bool:
        """As the reader of the payload."""
        return self._inner.is_worth_sharing

    def estimate_seconds(self, crop: Crop) -> float:
        """As the reader of the payload."""
        return self._inner.estimate_seconds(crop)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As the reader of the payload."""
        return self._inner.count_decoded(rows, cols)

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """As the reader of the payload."""
        return self._inner.count_decoded_of(times, rows, cols)

    @property
    def own_levels(self) -> int:
        """All overviews, if they were made by the present rule of :func:`~ndframes.formats.tiled.halve.halve`."""
        return self._own_levels

    def level_factors(self, level: int) -> tuple[float, float]:
        """As the reader of the payload."""
        return self._inner.level_factors(level)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`; what is touched is checked first.

        Raises:
            CacheEntryGoneError, CacheEntryDamagedError: as on opening; ``out`` may be half filled.
        """
        try:  # not by _run: a call more on the path of every crop
            if self._chunks is not None:
                self._chunks.touch(0, rows, cols)
            self._inner.read_window(rows, cols, bands, out, level)
        except OSError as error:  # all our errors about files are OSErrors
            self._raise_for_entry(error)
            raise

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`read_window`, for any positive steps."""
        try:
            if self._chunks is not None:
                self._chunks.touch(0, bounding_range(rows), bounding_range(cols))
            self._inner.read_strided(rows, cols, bands, out, level)
        except OSError as error:
            self._raise_for_entry(error)
            raise

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`; what is touched is checked first."""
        if self._chunks is None:
            self._run(partial(self._inner.read_frames, times, rows, cols, bands, out))
        elif out.size:
            self._run(partial(self._read_checked, self._chunks, times, rows, cols, bands, out))

    def _read_checked(
        self, chunks: _Chunks, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array
    ) -> None:
        """Check some frames and read them, then the next: while they are read, their bytes are still in the page cache."""
        window = bounding_range(rows), bounding_range(cols)
        step = max(1, _CHECKED_BYTES // out[0].nbytes)
        for start in range(0, len(times), step):
            some = times[start : start + step]
            for time in some:
                chunks.touch(time, *window)
            self._inner.read_frames(some, rows, cols, bands, out[start : start + step])

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`."""
        if self._chunks is not None:
            # Whole crops, because read_window checks their chunks first.
            yield from super().split(crops)
            return
        for task in self._inner.split(crops):
            yield partial(self._run, task)

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`."""
        self._run(partial(self._inner.read_ahead, crops))

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except OSError as error:
            self._raise_for_entry(error)
            raise

    def _raise_for_entry(self, error: OSError) -> None:
        """Raise the error of the cache that corresponds to ``error``, if there is one."""
        if isinstance(error, UnreadableImageError):
            check_may_open()
            self._bytes.check_everything()  # raises if damaged bytes are the cause, and not a lack of memory or handles
        if isinstance(error, CacheEntryDamagedError):
            self._bytes.raise_if_copied(error)
        raise_as_cache_error(self.path, error)

    def _open_array(self, pool: HandlePool) -> tuple[Reader, _Chunks | None]:
        """Open a ``.npy``; if that fails, find out whether its bytes are damaged."""
        layout = self.trailer.meta["layout"]
        if self._bytes.is_distant:
            with IMPORTING:
                from ..formats.tiled.chunk_reader import ChunkReader

            return ChunkReader(self.path, layout, replace(self._written, format="npy"), self._bytes), None
        try:
            has_frames = self._written.frame_count is not None
            path, stamp = self._bytes.local_path, self._bytes.local_stamp
            reader = open_payload(path, self.key.suffix, pool, stamp=stamp, has_frames=has_frames)
        # Damaged bytes raise a cache error here, on which the entry is made again.
        except UnreadableImageError:
            self._bytes.check_everything()  # raises if damaged bytes are the cause
            raise
        found, written = ((facts.frame_count, facts.shape, facts.dtype) for facts in (reader.facts, self._written))
        if found != written:
            raise CacheEntryDamagedError(f"{self.path} opens as {found}, but was written as {written}")
        return reader, _Chunks(self._bytes, layout["chunk_bytes"], reader)

    def _open_frames(self, tiles: TileCache | None, pool: HandlePool) -> Reader:
        return open_frames(self.path, self.trailer.meta["layout"], self._written, self._bytes, tiles, pool)

    def _open_tiles(self, tiles: TileCache | None) -> Reader:
        with IMPORTING:
            from ..formats.tiled.tile_cache import TileCache
            from ..formats.tiled.tile_reader import TileReader, Tiling

        written = self._written
        # No room, rather than a cache of its own that nobody counts.
        cache = TileCache(0) if tiles is None else tiles
        self.tiling = Tiling.from_layout(self.trailer.meta["layout"], written.dtype, written.shape[2])
        return TileReader(self.path, self.tiling, self._bytes, cache)

    def _find_overview_shapes(self) -> Sequence[tuple[int, int]]:
        return self._inner.overview_shapes


class _Chunks:
    """The segments of a ``.npy``: the head, then chunks of equal length without regard to rows and frames."""

    def __init__(self, segments: EntryBytes, chunk_bytes: int, reader: Reader) -> None:
        self._segments = segments
        self._chunk_bytes = chunk_bytes
        self._pixel_bytes = reader.shape[2] * reader.dtype.itemsize
        self._row_bytes = reader.shape[1] * self._pixel_bytes
        self._frame_bytes = reader.shape[0] * self._row_bytes

    def touch(self, time: int, rows: range, cols: range) -> None:
        """Check the chunks under ``rows`` x ``cols``, of step 1, of a frame (0 in an image), and the head of the file.

        Chunks that were checked before are skipped, unless every read has to be checked.
        """
        origin = time * self._frame_bytes
        first, last = origin + cols.start * self._pixel_bytes, origin + cols.stop * self._pixel_bytes - 1
        # Chunks are no shorter than rows, so none lies between the parts of two rows.
        if self._row_bytes <= self._chunk_bytes:
            self._touch_bytes(rows.start * self._row_bytes + first, (rows.stop - 1) * self._row_bytes + last)
            return
        for row in rows:
            self._touch_bytes(row * self._row_bytes + first, row * self._row_bytes + last)

    def _touch_bytes(self, first: int, last: int) -> None:
        # Segment 0 is the head of the file.
        start, stop = first // self._chunk_bytes + 1, last // self._chunk_bytes + 2
        if not self._segments.is_checked(start, stop):
            self._segments.touch([range(1), range(start, stop)])
