"""Writing a cloud optimized GeoTIFF from any reader, in one pass and bounded memory."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import tifffile

from ..errors import CacheEntryDamagedError
from ..regions import overview_shapes
from ..segments import SEGMENT, Payload, checksum
from .codecs import encode_tile, extra_tags
from .halve import halve
from .tiffwrite import Directory, layout_directories, needs_bigtiff

if TYPE_CHECKING:
    from ..backends import Backend, Codec
    from .reader import Array, Reader

__all__ = ["check_tile_tables", "choose_grid", "write_cog"]

_BAND_BYTES = 32 * 2**20
_COPY_BYTES = 8 * 2**20
_MAX_UNTILED_PX = 512
#: Called with the fraction done, 0 to 1.
ProgressCallback = Callable[[float], None]
#: Makes an unnamed file with room for so many bytes.
ScratchMaker = Callable[[int], IO[bytes]]


def write_cog(
    file: IO[bytes],
    source: Reader,
    backend: Backend,
    *,
    threads: int = 1,
    progress: ProgressCallback | None = None,
    scratch: ScratchMaker | None = None,
) -> Payload:
    """Write ``source`` as a COG to ``file``, which must be empty, seekable and lie on disk.

    The image passes through once, from top to bottom, a row of tiles at a time; every overview is averaged from the
    level above it on the way. Encoded tiles wait in unnamed files beside ``file``, because a COG's directories and
    coarse levels stand before its pixels. Images too wide for that are taken in columns.

    Args:
        file: where to write.
        source: what to write; read in its own dtype.
        backend: a ``cog`` backend.
        threads: how many tiles to encode at once.
        progress: called after each row of tiles.
        scratch: makes the unnamed files in which tiles wait, given the room to reserve; ``None``: beside ``file``.

    Returns:
        The head and every tile, with checksums taken before anything was written.
    """
    codec = backend.codec_for(source.dtype, source.shape[2])
    extent, shapes = choose_grid(source, backend)
    make_file = scratch or _scratch_beside(file)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else stack.enter_context(nullcontext())
        spools = [_TileSpool(stack.enter_context(make_file(0)), shape, extent) for shape in shapes]
        _Pyramid(spools, extent, codec, pool, make_file).fill(source, progress)
        directories = [
            _directory(spool.shape, extent, source, codec, is_overview=level > 0) for level, spool in enumerate(spools)
        ]
        is_big = needs_bigtiff(source.nbytes * 4 // 3, sum(d.tile_count for d in directories))
        return _assemble(file, directories, spools, big=is_big)


def check_tile_tables(path: str, payload: Payload) -> None:
    """Hold the tile tables of a written COG, as another library reads them, against the segments that were meant.

    A tile whose place is zero is read as zeros by every TIFF library, without an error.

    Raises:
        CacheEntryDamagedError: they differ.
    """
    with tifffile.TiffFile(path) as tiff:
        pages = list(tiff.pages)
        places = [(page.dataoffsets, page.databytecounts) for page in pages]
    meant = payload.segments[1:]
    found = [np.concatenate([np.asarray(place[part], np.uint64) for place in places]) for part in (0, 1)]
    is_equal = np.array_equal(found[0], meant["offset"]) and np.array_equal(found[1], meant["length"])
    if not is_equal or len(pages) != len(payload.layout["levels"]):
        raise CacheEntryDamagedError(f"{path}: its tile tables do not say where its tiles are; not published")


def choose_grid(source: Reader, backend: Backend) -> tuple[int, list[tuple[int, int]]]:
    """The edge of a tile, and the shape of every level.

    ``rio cogeo validate`` takes a tall level that is exactly one tile wide for one that is not tiled; where no block size
    was named, it is a little larger then. It also wants every overview narrower than the image, so that an image of
    one column gets none.
    """
    extent = backend.tile_extent_for(source.dtype, source.shape[2])
    while True:
        shapes = [source.shape[:2]]
        if backend.overviews and source.shape[1] > 1:
            shapes += overview_shapes(source.shape, extent)
        looks_untiled = any(width == extent and height > _MAX_UNTILED_PX for height, width in shapes)
        if backend.blocksize is not None or not looks_untiled:
            return extent, shapes
        extent += 16


class _TileSpool:
    """The encoded tiles of one level, in the order in which they were made."""

    def __init__(self, file: IO[bytes], shape: tuple[int, int], extent: int) -> None:
        self.file = file
        self.shape = shape
        self.cols = -(-shape[1] // extent)
        rows = -(-shape[0] // extent)
        self.offsets = [0] * (rows * self.cols)
        self.byte_counts = [0] * (rows * self.cols)
        self.checksums = [0] * (rows * self.cols)
        self._position = 0

    def append(self, tile_row: int, tile_col: int, data: bytes, crc32: int) -> None:
        index = tile_row * self.cols + tile_col
        self.offsets[index], self.byte_counts[index], self.checksums[index] = self._position, len(data), crc32
        self.file.write(data)
        self._position += len(data)

    def runs(self) -> Iterator[tuple[int, int]]:
        """The tiles in tile order as (offset, length) pieces of the file, neighbours joined."""
        start = length = 0
        for offset, byte_count in zip(self.offsets, self.byte_counts, strict=True):
            if offset != start + length:
                yield start, length
                start, length = offset, 0
            length += byte_count
        yield start, length


class _Pyramid:
    """Cuts bands of rows into tiles, and passes each band's half on to the level below."""

    def __init__(
        self, spools: list[_TileSpool], extent: int, codec: Codec, pool: Executor | None, scratch: ScratchMaker
    ) -> None:
        self._spools = spools
        self._extent = extent
        self._codec = codec
        self._pool = pool
        self._scratch = scratch

    def fill(self, source: Reader, progress: ProgressCallback | None) -> None:
        """Read the source once and write every level."""
        row_bytes = self._extent * self._extent * source.shape[2] * source.dtype.itemsize
        depth = 0  # levels that a column of the image can build on its own
        while depth < len(self._spools) - 1 and row_bytes << (depth + 1) <= _BAND_BYTES:
            depth += 1
        column_extent = self._extent << depth
        apex = self._make_apex(depth + 1, source)
        columns = range(0, source.shape[1], column_extent)
        for number, left in enumerate(columns):
            right = min(left + column_extent, source.shape[1])
            report = _part_of(progress, number, len(columns))
            self._fill_column(source, range(left, right), depth, apex, report)
        if apex is not None:
            self._fill_apex(apex, depth + 1)

    def _make_apex(self, level: int, source: Reader) -> Array | None:
        """The whole first level that spans columns; on disk where it is large."""
        if level >= len(self._spools):
            return None
        shape = (*self._spools[level].shape, source.shape[2])
        apex_bytes = math.prod(shape) * source.dtype.itemsize
        if apex_bytes <= _BAND_BYTES:
            return np.empty(shape, source.dtype)
        with self._scratch(apex_bytes) as file:
            return np.memmap(file, source.dtype, "r+", shape=shape)

    def _fill_column(
        self, source: Reader, cols: range, depth: int, apex: Array | None, progress: ProgressCallback | None
    ) -> None:
        height = source.shape[0]
        bands = range(source.shape[2])
        stream = _LevelStream(self, 0, depth, cols.start, apex)
        for top in range(0, height, self._extent):
            rows = range(top, min(top + self._extent, height))
            band = np.empty((len(rows), len(cols), len(bands)), source.dtype)
            source.read(rows, cols, bands, band)
            stream.push(band)
            if progress is not None:
                progress(rows.stop / height)
        stream.finish()

    def _fill_apex(self, apex: Array, level: int) -> None:
        stream = _LevelStream(self, level, len(self._spools) - 1, 0, None)
        for top in range(0, apex.shape[0], self._extent):
            stream.push(np.asarray(apex[top : top + self._extent]))
        stream.finish()

    def write_band(self, level: int, top: int, left: int, band: Array) -> None:
        """Encode the tiles of one row of tiles."""
        tiles = [self._padded(band[:, start : start + self._extent]) for start in range(0, band.shape[1], self._extent)]
        encode = self._pool.map if self._pool is not None else map
        for number, (data, crc32) in enumerate(encode(_encode, tiles, [self._codec] * len(tiles))):
            self._spools[level].append(top // self._extent, left // self._extent + number, data, crc32)

    def _padded(self, tile: Array) -> Array:
        """A full tile: at the image's far edges its last pixels are repeated, which costs codecs least."""
        missing = self._extent - tile.shape[0], self._extent - tile.shape[1]
        return np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else tile

    @property
    def extent(self) -> int:
        return self._extent


class _LevelStream:
    """One level of one column: gathers rows until a row of tiles is full, writes it, and feeds the next level."""

    def __init__(self, pyramid: _Pyramid, level: int, last_level: int, left: int, apex: Array | None) -> None:
        self._pyramid = pyramid
        self._level = level
        self._left = left
        self._top = 0
        self._waiting: list[Array] = []
        self._apex, self._apex_top = (apex, 0) if level == last_level else (None, 0)
        self._next = _LevelStream(pyramid, level + 1, last_level, left // 2, apex) if level < last_level else None

    def push(self, rows: Array) -> None:
        """Take the next rows: at most a row of tiles in all."""
        self._waiting.append(rows)
        if sum(len(piece) for piece in self._waiting) >= self._pyramid.extent:
            self._flush()

    def finish(self) -> None:
        """Write what is left, here and below."""
        if self._waiting:
            self._flush()
        if self._next is not None:
            self._next.finish()

    def _flush(self) -> None:
        band = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting = []
        self._pyramid.write_band(self._level, self._top, self._left, band)
        self._top += len(band)
        if self._next is not None:
            self._next.push(halve(band))
        elif self._apex is not None:
            half = halve(band)
            left = self._left // 2
            self._apex[self._apex_top : self._apex_top + len(half), left : left + half.shape[1]] = half
            self._apex_top += len(half)


def _directory(shape: tuple[int, int], extent: int, source: Reader, codec: Codec, *, is_overview: bool) -> Directory:
    return Directory(
        shape=shape,
        tile_extent=extent,
        band_count=source.shape[2],
        dtype_kind=source.dtype.kind,
        bits=1 if source.dtype == bool else source.dtype.itemsize * 8,
        compress=codec.compress,
        predictor=codec.predictor,
        is_overview=is_overview,
        tags=extra_tags(codec, source.shape[2]),
    )


def _encode(tile: Array, codec: Codec) -> tuple[bytes, int]:
    data = encode_tile(tile, codec)
    return data, checksum(data)


def _scratch_beside(file: IO[bytes]) -> ScratchMaker:
    folder = os.path.dirname(os.path.abspath(file.name))

    def make(room_bytes: int) -> IO[bytes]:
        scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        scratch.truncate(room_bytes)
        return scratch

    return make


def _assemble(file: IO[bytes], directories: list[Directory], spools: list[_TileSpool], *, big: bool) -> Payload:
    head, starts = layout_directories(directories, [spool.byte_counts for spool in spools], big=big)
    file.write(head)
    for spool in reversed(spools):
        spool.file.flush()
        for start, length in spool.runs():
            _copy_bytes(spool.file, file, start, length)
    return _describe(head, starts, directories, spools)


def _describe(head: bytes, starts: list[int], directories: list[Directory], spools: list[_TileSpool]) -> Payload:
    """The head, then every tile, level after level and row after row."""
    segments = np.empty(1 + sum(len(spool.offsets) for spool in spools), SEGMENT)
    segments[0] = 0, len(head), checksum(head)
    levels, first = [], 1
    for spool, start, item in zip(spools, starts, directories, strict=True):
        part = segments[first : first + len(spool.offsets)]
        part["length"], part["crc32"] = spool.byte_counts, spool.checksums
        part["offset"] = start + np.cumsum([0, *spool.byte_counts[:-1]])
        levels.append({"shape": list(spool.shape), "tile_extent": item.tile_extent, "first_segment": first})
        first += len(part)
    codec = {"compress": directories[0].compress, "predictor": directories[0].predictor}
    return Payload(segments, {"levels": levels, **codec})


def _copy_bytes(source: IO[bytes], target: IO[bytes], start: int, length: int) -> None:
    source.seek(start)
    while length:
        data = source.read(min(length, _COPY_BYTES))
        if not data:  # else we would ask for the rest for ever
            raise OSError(errno.EIO, f"{length:,} bytes that were written to a scratch file are not there")
        target.write(data)
        length -= len(data)


def _part_of(progress: ProgressCallback | None, number: int, count: int) -> ProgressCallback | None:
    if progress is None:
        return None

    def report(fraction: float) -> Any:
        progress((number + fraction) / count)

    return report
