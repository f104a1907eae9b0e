"""Write a cloud optimized GeoTIFF from any reader, in one pass and bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import tifffile

from ...errors import CacheEntryDamagedError
from ...geometry.tiling import count_tiles, overview_shapes, tile_ranges
from ..reader import row_bands
from .codecs import checksum, encode_tile, extra_tags
from .directories import NODATA_TAG, Directory, Tags, by_column, needs_bigtiff
from .halve import RULE, halve
from .spool import TileSpool, assemble, scratch_beside

if TYPE_CHECKING:
    from ..._typing import Array
    from ...spec.backends import Backend, TileCodec
    from ...system.segments import Manifest
    from ..reader import Reader
    from .spool import ScratchMaker

__all__ = ["BufferSizes", "check_tile_tables", "choose_grid", "write_cog"]
# ``rio cogeo validate`` accepts smaller images without tiles.
_MAX_UNTILED_PX = 512
#: Called with the fraction done, 0 to 1.
ProgressCallback = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class BufferSizes:
    """How many bytes of pixels the writer holds in memory.

    Attributes:
        column_bytes: a row of tiles at every level of one column of the image, together; and the largest whole level.
        read_bytes: the rows that are read at once.
        waiting_bytes: the pixels that wait for threads while the next rows are read.
        part_bytes: the pixels that a thread encodes as one task.
    """

    column_bytes: int = 32 * 2**20
    read_bytes: int = 16 * 2**20
    waiting_bytes: int = 16 * 2**20
    # Small, since Ctrl-C waits for the tasks that are running, and some codecs are slow.
    part_bytes: int = 2**18


_SIZES = BufferSizes()


def write_cog(  # noqa: PLR0913 - one keyword for each option
    file: IO[bytes],
    source: Reader,
    backend: Backend,
    *,
    threads: int = 1,
    progress: ProgressCallback | None = None,
    scratch: ScratchMaker | None = None,
    sizes: BufferSizes | None = None,
    tags: Tags = (),
    has_colours: bool = True,
) -> Manifest:
    """Write the image ``source`` as a COG to ``file``, which must be empty, seekable and on disk.

    The image is read once, from top to bottom, a few rows of tiles at a time. Every overview is averaged from the level
    above it on the way. While threads encode and halve some rows, the next are read. A COG begins with its directories and
    its coarse levels, so encoded tiles wait in unnamed files beside ``file`` until all are there. An image whose rows of
    tiles do not fit into memory is read in columns.

    Args:
        file: the file to write to.
        source: the image; it is written in its own dtype.
        backend: a ``cog`` backend.
        threads: the number of threads that encode and halve.
        progress: called after each row of tiles, with the fraction done, 0 to 1.
        scratch: creates the unnamed files in which tiles wait; ``None`` creates them beside ``file``.
        sizes: how much is held in memory.
        tags: more tags, for other programs: the value of missing pixels, and the georeference, which overviews do not get.
        has_colours: whether other programs take three or four bands of unsigned integers for red, green, blue and alpha.

    Returns:
        The head and every tile, with checksums computed before anything was written.
    """
    codec = backend.codec_for(source.dtype, source.shape[2])
    extent, shapes = choose_grid(source, backend)
    make_file = scratch or scratch_beside(file)
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(threads)
        # The pool as a context would encode all waiting rows before an error or Ctrl-C gets out.
        stack.callback(pool.shutdown, cancel_futures=True)
        spools = [_LevelSpool(stack.enter_context(make_file(0)), shape, extent) for shape in shapes]
        _Pyramid(spools, extent, codec, pool, make_file, sizes or _SIZES).fill(source, progress)
        directories = [
            replace(
                _directory(
                    spool.shape,
                    extent,
                    source,
                    codec,
                    is_overview=level > 0,
                    tags=tuple(tag for tag in tags if not level or tag[0] == NODATA_TAG),
                ),
                has_colours=has_colours,
            )
            for level, spool in enumerate(spools)
        ]
        # Each overview has a quarter of the pixels of the level above it: together a third of the image.
        is_big = needs_bigtiff(source.nbytes * 4 // 3, sum(d.tile_count for d in directories))
        return assemble(file, directories, spools, _describe(directories, spools), big=is_big)


def check_tile_tables(path: str, payload: Manifest) -> None:
    """Compare the tile tables of a written COG, as tifffile reads them, with the segments that were meant.

    This has to be exact: every TIFF library reads a tile with the offset 0 as zeros, without an error.

    Raises:
        CacheEntryDamagedError: they differ.
    """
    tables = []
    with tifffile.TiffFile(path) as tiff:
        page_count = len(tiff.pages)
        for page in tiff.pages:
            table = np.asarray([page.dataoffsets, page.databytecounts], np.uint64)
            if payload.layout.get("tile_order") == "columns":
                rows, cols = count_tiles(page.shape, (page.tilelength, page.tilewidth))
                table = table[:, by_column(rows, cols)]
            tables.append(table)
    found, meant = np.concatenate(tables, axis=1), payload.segments[1:]
    is_equal = np.array_equal(found[0], meant["offset"]) and np.array_equal(found[1], meant["length"])
    if not is_equal or page_count != len(payload.layout.get("levels", (0,))):
        raise CacheEntryDamagedError(f"{path}: its tile tables differ from the places of its tiles; not published")


def choose_grid(source: Reader, backend: Backend) -> tuple[int, list[tuple[int, int]]]:
    """Choose the edge of a tile and the shapes of all levels.

    Two rules come from ``rio cogeo validate``. It takes a tall level that is exactly one tile wide for an untiled one, so
    tiles are made a little larger then, unless the backend names their size. And it demands that every overview is narrower
    than the image, so an image of one column gets none.
    """
    extent = backend.tile_extent_for(source.dtype, source.shape[2])
    while True:
        shapes = [source.shape[:2]]
        if backend.overviews and source.shape[1] > 1:
            shapes += overview_shapes(source.shape, extent)
        looks_untiled = any(width == extent and height > _MAX_UNTILED_PX for height, width in shapes)
        if backend.blocksize is not None or not looks_untiled:
            return extent, shapes
        # TIFF demands multiples of 16 for the edges of tiles.
        extent += 16


class _LevelSpool(TileSpool):
    """The encoded tiles of one level, row after row."""

    def __init__(self, file: IO[bytes], shape: tuple[int, int], extent: int) -> None:
        self.shape = shape
        rows, self.cols = count_tiles(shape, (extent, extent))
        super().__init__(file, rows * self.cols)


class _Part(NamedTuple):
    """Adjacent tiles of a row of tiles, encoded; and their pixels, halved."""

    tiles: list[bytes]
    checksums: list[int]
    half: Array | None


class _StartedRow(NamedTuple):
    """A row of tiles that threads are encoding."""

    stream: _LevelStream
    first_tile: int
    height: int
    pixel_bytes: int
    parts: list[Future[_Part]]


class _Pyramid:
    """Encodes and halves rows of tiles in threads, while the next rows are read.

    Enough rows wait that no thread is idle. Results are written in the order of the rows; only then is the half of a row
    passed on to the next level. So the order of everything is the same for any number of threads.
    """

    def __init__(
        self,
        spools: list[_LevelSpool],
        extent: int,
        codec: TileCodec,
        pool: Executor,
        scratch: ScratchMaker,
        sizes: BufferSizes,
    ) -> None:
        self._spools = spools
        self._extent = extent
        self._codec = codec
        self._pool = pool
        self._scratch = scratch
        self._sizes = sizes
        self._started: deque[_StartedRow] = deque()

    def fill(self, source: Reader, progress: ProgressCallback | None) -> None:
        """Read the source once and write every level."""
        row_bytes = self._extent * self._extent * source.shape[2] * source.dtype.itemsize
        depth = 0  # the number of overviews that are built within a column of the image; the others span columns
        while depth < len(self._spools) - 1 and row_bytes << (depth + 1) <= self._sizes.column_bytes:
            depth += 1
        column_extent = self._extent << depth
        apex = self._make_apex(depth + 1, source)
        columns = range(0, source.shape[1], column_extent)
        # A column is a power of two of tiles wide, so that no tile of its overviews needs pixels of the next column.
        for number, left in enumerate(columns):
            cols = range(left, min(left + column_extent, source.shape[1]))
            below = None if apex is None else _ApexColumn(apex, left >> (depth + 1))
            streams = self._make_streams(range(depth + 1), cols, below)
            self._fill_column(source, cols, streams[0], _part_of(progress, number, len(columns)))
            self._finish(streams)
        if apex is not None:
            self._fill_apex(apex, depth + 1)

    def _make_apex(self, level: int, source: Reader) -> Array | None:
        """Allocate the whole first level that spans columns; on disk if it is large."""
        if level >= len(self._spools):
            return None
        shape = (*self._spools[level].shape, source.shape[2])
        apex_bytes = math.prod(shape) * source.dtype.itemsize
        if apex_bytes <= self._sizes.column_bytes:
            return np.empty(shape, source.dtype)
        # The map keeps the unnamed file after it is closed. The maker gets the size, so that it can reserve the bytes:
        # a write to a map on a full disk is a bus error.
        with self._scratch(apex_bytes) as file:
            return np.memmap(file, source.dtype, "r+", shape=shape)

    def _make_streams(self, levels: range, cols: range, below: _RowSink | None) -> list[_LevelStream]:
        """A stream for each of these levels. ``cols`` are the columns of the first; ``below`` takes the halves of the last."""
        streams: list[_LevelStream] = []
        for level in reversed(levels):
            shift = level - levels.start
            level_cols = range(cols.start >> shift, -(-cols.stop >> shift))
            below = _LevelStream(self, self._spools[level], self._extent, level_cols, below)
            streams.insert(0, below)
        return streams

    def _fill_column(
        self, source: Reader, cols: range, stream: _LevelStream, progress: ProgressCallback | None
    ) -> None:
        height, _, band_count = source.shape
        for rows in row_bands(source, len(cols), self._sizes.read_bytes, multiple=self._extent):
            # A new array each time: threads may still encode the rows before.
            pixels = _new_tiles(len(rows), len(cols), band_count, self._extent, source.dtype)
            source.read(rows, cols, range(band_count), pixels[: len(rows), : len(cols)])
            for _, tile_rows in tile_ranges(rows, self._extent):
                top = tile_rows.start - rows.start
                stream.encode(pixels[top : top + self._extent], len(tile_rows))
                self._wait(self._sizes.waiting_bytes)
                if progress is not None:
                    progress(tile_rows.stop / height)

    def _fill_apex(self, apex: Array, level: int) -> None:
        streams = self._make_streams(range(level, len(self._spools)), range(apex.shape[1]), None)
        for top in range(0, apex.shape[0], self._extent):
            streams[0].add(apex[top : top + self._extent])
            self._wait(self._sizes.waiting_bytes)
        self._finish(streams)

    def _finish(self, streams: list[_LevelStream]) -> None:
        """Encode and write the last, incomplete row of tiles of each level."""
        for stream in streams:
            # From fine to coarse: the last half row reaches a level when the level above it is written.
            stream.flush()
            self._wait(0)

    def start(self, stream: _LevelStream, first_tile: int, pixels: Array, height: int) -> None:
        """Start to encode a row of whole tiles; its first ``height`` rows of pixels are inside the image."""
        tile_bytes = self._extent * self._extent * pixels.shape[2] * pixels.itemsize
        step = max(1, self._sizes.part_bytes // tile_bytes) * self._extent
        parts = [
            self._pool.submit(_make_part, pixels[:, left : left + step], self._extent, self._codec, stream.has_below)
            for left in range(0, pixels.shape[1], step)
        ]
        self._started.append(_StartedRow(stream, first_tile, height, pixels.nbytes, parts))

    def _wait(self, most_bytes: int) -> None:
        """Write the oldest rows until at most ``most_bytes`` of pixels are still being encoded."""
        while sum(row.pixel_bytes for row in self._started) > most_bytes:
            row = self._started.popleft()
            row.stream.write(row.first_tile, row.height, [part.result() for part in row.parts])


class _RowSink(Protocol):
    """What takes the halves of a level."""

    def add(self, rows: Array) -> None:
        """Add the next rows."""


class _LevelStream:
    """One level of one column of the image: collects rows until they fill a row of tiles, and starts to encode it."""

    def __init__(self, pyramid: _Pyramid, spool: _LevelSpool, extent: int, cols: range, below: _RowSink | None) -> None:
        self._pyramid = pyramid
        self._spool = spool
        self._extent = extent
        self._width = len(cols)
        self._next_tile = cols.start // extent
        self._below = below
        self._pixels: Array | None = None
        self._filled = 0

    @property
    def has_below(self) -> bool:
        """Whether there is a level below, made of halves of this one."""
        return self._below is not None

    def add(self, rows: Array) -> None:
        """Add the next rows: at most as many as complete the current row of tiles."""
        if self._pixels is None:
            self._pixels = _new_tiles(self._extent, self._width, rows.shape[2], self._extent, rows.dtype)
        self._pixels[self._filled : self._filled + len(rows), : self._width] = rows
        self._filled += len(rows)
        if self._filled == self._extent:
            self.flush()

    def flush(self) -> None:
        """Start to encode the rows that were collected."""
        if self._pixels is not None:
            pixels, height = self._pixels, self._filled
            self._pixels, self._filled = None, 0
            self.encode(pixels, height)

    def encode(self, pixels: Array, height: int) -> None:
        """Start to encode a row of whole tiles; its first ``height`` rows of pixels are inside the image.

        Beyond the edges of the image its last pixels are repeated: that compresses best.
        """
        pixels[:height, self._width :] = pixels[:height, self._width - 1 : self._width]
        pixels[height:] = pixels[height - 1]
        self._pyramid.start(self, self._next_tile, pixels, height)
        self._next_tile += self._spool.cols

    def write(self, first_tile: int, height: int, parts: list[_Part]) -> None:
        """Write an encoded row of tiles, and pass its half on."""
        for part in parts:
            self._spool.append(first_tile, part.tiles, part.checksums)
            first_tile += len(part.tiles)
        if self._below is not None:
            # Tiles are halved whole; what lies beyond the edges of the image is cut off here.
            half = np.concatenate([part.half for part in parts if part.half is not None], axis=1)
            self._below.add(half[: -(-height // 2), : -(-self._width // 2)])


class _ApexColumn:
    """The place of one column in the first level that spans columns."""

    def __init__(self, apex: Array, left: int) -> None:
        self._apex = apex
        self._left = left
        self._top = 0

    def add(self, rows: Array) -> None:
        """Add the next rows."""
        self._apex[self._top : self._top + len(rows), self._left : self._left + rows.shape[1]] = rows
        self._top += len(rows)


def _new_tiles(height: int, width: int, band_count: int, extent: int, dtype: np.dtype[Any]) -> Array:
    """An uninitialised array of this height and width, rounded up to whole tiles."""
    return np.empty((-(-height // extent) * extent, -(-width // extent) * extent, band_count), dtype)


def _make_part(pixels: Array, extent: int, codec: TileCodec, is_halved: bool) -> _Part:
    tiles = [encode_tile(pixels[:, left : left + extent], codec) for left in range(0, pixels.shape[1], extent)]
    # Edges of tiles are multiples of 16, so every half begins at an even row and column of its level.
    return _Part(tiles, [checksum(tile) for tile in tiles], halve(pixels) if is_halved else None)


def _directory(
    shape: tuple[int, int], extent: int, source: Reader, codec: TileCodec, *, is_overview: bool, tags: Tags
) -> Directory:
    return Directory(
        shape=shape,
        tile_shape=(extent, extent),
        band_count=source.shape[2],
        dtype_kind=source.dtype.kind,
        bits=1 if source.dtype == bool else source.dtype.itemsize * 8,
        compress=codec.compress,
        predictor=codec.predictor,
        is_overview=is_overview,
        tags=(*extra_tags(codec, source.shape[2]), *tags),
        # A column of tiles is then one array in the mapped file.
        is_by_column=codec.compress == "NONE",
    )


def _describe(directories: list[Directory], spools: list[_LevelSpool]) -> dict[str, Any]:
    """Describe which pixels each tile holds: level by level, the first tile right after the head (segment 0)."""
    levels, first = [], 1
    for spool, item in zip(spools, directories, strict=True):
        levels.append({"shape": list(spool.shape), "tile_extent": item.tile_shape[0], "first_segment": first})
        first += item.tile_count
    return {"levels": levels, "halving": RULE, **({"tile_order": "columns"} if directories[0].is_by_column else {})}


def _part_of(progress: ProgressCallback | None, number: int, count: int) -> ProgressCallback | None:
    if progress is None:
        return None

    def report(fraction: float) -> Any:
        progress((number + fraction) / count)

    return report
