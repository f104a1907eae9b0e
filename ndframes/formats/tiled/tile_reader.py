"""TileReader: crops of an image that is stored in tiles or strips: of our entries, and of TIFF files.

Decoded tiles are cached, since the next crop may touch them too. Tiles of our entries without compression are copied
straight from the mapped file.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ...errors import UnreadableImageError
from ...geometry.tiling import count_tiles, tile_spans
from ...system.process import core_count, has_other_threads
from ..reader import WORTH_SHARING_SECONDS, Crop, Reader, ReaderFacts
from .codecs import DECODE_ERRORS, find_decoder, find_grid_decoder, find_several_decoder
from .tile_cache import PART_WEIGHT, WHOLE_WEIGHT, TileCache

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from ..._typing import Array
    from .codecs import Decoder, GridDecoder, SeveralDecoder

__all__ = ["SegmentFile", "TileCache", "TileFile", "TileLevel", "TileReader", "Tiling"]
T = TypeVar("T")
# The weight of the newest measurement in the running mean of the seconds that a tile takes to decode.
_NEWEST_WEIGHT = 0.1
# A tile is decoded sooner than the interpreter switches threads: sharing such tiles makes them slower.
_LEAST_SHARED_SECONDS = 15e-6
# Tiles are read and decoded in groups of up to this many bytes of pixels: 16 tiles of 128 x 128, RGB.
_GROUP_BYTES = 3 << 18
# With many cores, groups are smaller, so that no core runs out of work before the others.
_LEAST_TASKS_PER_CORE = 2
_ALL = slice(None)
#: A tile's row or column of tiles, a part of the tile, and that part in the crop; see
#: :func:`~ndframes.geometry.tiling.tile_spans`.
_Span = tuple[int, slice, slice]


class _TileBlock(NamedTuple):
    """A rectangle of tiles that a crop touches.

    Attributes:
        runs: the numbers of the tiles in the file, a row of tiles each.
        row_spans: where the rows of tiles meet the crop.
        col_spans: where the columns of tiles meet the crop.
        bands: the bands of the crop; ``None``: all, in order.
        out: the pixels of the crop.
    """

    runs: list[range]
    row_spans: Sequence[_Span]
    col_spans: Sequence[_Span]
    bands: list[int] | None
    out: Array

    @property
    def indices(self) -> list[int]:
        """The numbers of all tiles, row by row."""
        return list(chain.from_iterable(self.runs))

    @property
    def spans(self) -> list[tuple[_Span, _Span]]:
        """The spans of each tile, row by row."""
        return [(row_span, col_span) for row_span in self.row_spans for col_span in self.col_spans]

    def copy(self, part: Array, out_rows: slice, out_cols: slice) -> None:
        """Copy a part of a tile to its place in the crop."""
        self.out[out_rows, out_cols] = part if self.bands is None else part[:, :, self.bands]


#: One tile of a block, and its spans.
_BlockTile = tuple[_TileBlock, _Span, _Span]


class SegmentFile(Protocol):
    """A file of tiles or packets, by their numbers in the file."""

    @property
    def is_distant(self) -> bool:
        """Whether each read waits for a network, so that several reads must be announced by :meth:`read_ahead`."""

    def read(self, index: int) -> Any:
        """The checked bytes of one tile or packet."""

    def read_ahead(self, indices: Sequence[int], *, is_batch: bool = False) -> bool:
        """Have the bytes of some tiles or packets fetched, without waiting for them. ``False``: all are on this machine."""


class TileFile(SegmentFile, Protocol):
    """A file of tiles of an image, which may be mapped or compressed."""

    @property
    def is_mapped(self) -> bool:
        """Whether the file is mapped into memory when it is opened."""

    def read_run(self, run: range) -> list[Any]:
        """The checked bytes of several tiles, read in one request if they are adjacent in the file."""

    def views(self) -> dict[int, Array] | None:
        """A dictionary for arrays over the mapped file, kept as long as it stays mapped; ``None`` if it is not mapped."""

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """A view of adjacent tiles in the mapped file."""

    def expect(self, runs: Sequence[range]) -> bool:
        """Call :meth:`read_ahead` for those tiles of these runs that may not be in memory.

        Returns:
            Whether there are any; ``False`` for a single tile, which is read at once.
        """

    def touch(self, runs: Sequence[range]) -> None:
        """Check these runs of tiles in the mapped file."""


@dataclass(frozen=True, slots=True)
class TileLevel:
    """One resolution of the image.

    Attributes:
        shape: ``(height, width)``.
        tile_shape: ``(height, width)`` of a tile; tiles at the edges may decode to fewer rows and columns.
        first: the number of its first tile; tiles are numbered in the order of the file.
        down: the number of rows of tiles.
        across: the number of columns of tiles.
        row_step: the difference between the numbers of a tile and of the tile below it.
        col_step: the difference between the numbers of a tile and of the next tile in its row.
    """

    shape: tuple[int, int]
    tile_shape: tuple[int, int]
    first: int
    down: int
    across: int
    row_step: int
    col_step: int

    @classmethod
    def make(
        cls, shape: tuple[int, int], tile_shape: tuple[int, int], first: int, *, is_by_column: bool = False
    ) -> TileLevel:
        """A level whose tiles are numbered row by row, or column by column, from ``first``."""
        down, across = count_tiles(shape, tile_shape)
        return cls(shape, tile_shape, first, down, across, *((1, down) if is_by_column else (across, 1)))


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the tiles of a file become pixels.

    Attributes:
        format: the file's format in one word, for people.
        levels: the resolutions, largest first.
        dtype: of the pixels.
        band_count: the number of samples in a pixel.
        decode: makes the pixels of one tile from what :meth:`SegmentFile.read` returns.
        decode_several: likewise, of several tiles.
        decode_grid: likewise, of a window of adjacent tiles; ``None``: tiles are decoded whole.
        is_plain: whether the bytes of a tile are its pixels in little-endian order.
    """

    format: str
    levels: Sequence[TileLevel]
    dtype: np.dtype[Any]
    band_count: int
    decode: Decoder
    decode_several: SeveralDecoder
    decode_grid: GridDecoder | None = None
    is_plain: bool = False

    @property
    def tile_bytes(self) -> int:
        """The bytes of the pixels of a tile."""
        return math.prod(self.levels[0].tile_shape) * self.band_count * self.dtype.itemsize

    @classmethod
    def from_layout(cls, layout: Mapping[str, Any], dtype: np.dtype[Any], band_count: int) -> Tiling:
        """The tiling of an entry; see :class:`~ndframes.system.segments.Manifest`."""
        is_by_column = layout.get("tile_order") == "columns"
        levels = [
            TileLevel.make(
                (int(item["shape"][0]), int(item["shape"][1])),
                (int(item["tile_extent"]), int(item["tile_extent"])),
                int(item["first_segment"]),
                is_by_column=is_by_column,
            )
            for item in layout["levels"]
        ]
        coding = layout["compress"], layout["predictor"], (*levels[0].tile_shape, band_count), dtype
        return cls(
            "COG",
            levels,
            dtype,
            band_count,
            find_decoder(*coding),
            find_several_decoder(*coding),
            find_grid_decoder(layout["compress"]),
            # Booleans are stored as bits, so they have to be unpacked even without compression.
            is_plain=layout["compress"] == "NONE" and dtype.kind != "b",
        )

    @classmethod
    def from_volume(cls, layout: Mapping[str, Any], dtype: np.dtype[Any], band_count: int) -> Tiling:
        """The tiling of the first tiles in time of a video's entry.

        A tile of several frames decodes to one tall image, its frames below each other. The next tiles in time follow in the file.
        """
        volume = layout["volume"]
        count, *tile_shape = map(int, volume["tile_shape"])
        height, width = tile_shape
        level = TileLevel.make(tuple(volume["shape"][1:]), (height, width), int(volume["first_segment"]))
        coding = layout["compress"], layout["predictor"], (count * height, width, band_count), dtype
        is_plain = layout["compress"] == "NONE" and dtype.kind != "b"
        decoders = find_decoder(*coding), find_several_decoder(*coding)
        return cls("COG", [level], dtype, band_count, *decoders, is_plain=is_plain)


class TileReader(Reader):
    """Crops of an image from its tiles.

    Args:
        path: the file, for messages.
        tiling: which pixels each tile holds, and how.
        file: the bytes of the tiles.
        cache: stores decoded tiles; many readers may share it.
        group_bytes: tiles are read and decoded in groups of up to this many bytes of pixels.

    Raises:
        UnreadableImageError: a tile does not decode, when reading.
    """

    def __init__(
        self,
        path: str,
        tiling: Tiling,
        file: TileFile,
        cache: TileCache,
        *,
        group_bytes: int = _GROUP_BYTES,
    ) -> None:
        self._levels = tiling.levels
        base = self._levels[0]
        self._is_plain = tiling.is_plain
        facts = ReaderFacts(
            format=tiling.format,
            shape=(*base.shape, tiling.band_count),
            dtype=tiling.dtype,
            tile_shape=(min(base.tile_shape[0], base.shape[0]), min(base.tile_shape[1], base.shape[1])),
            is_shareable=not self._is_plain,
        )
        super().__init__(path, facts)
        self._file = file
        self._cache = cache
        # Not the path: a later entry of the same name must not find tiles of this one in the cache.
        self._token = object()
        self._decode_seconds = 0.0
        self._tile_shape = *base.tile_shape, tiling.band_count
        self._tile_bytes = tiling.tile_bytes
        self._decode, self._decode_several, self._decode_grid = (
            tiling.decode,
            tiling.decode_several,
            tiling.decode_grid,
        )
        self._hit_weight = WHOLE_WEIGHT if self._decode_grid is None else PART_WEIGHT
        self._group_tiles = max(1, group_bytes // self._tile_bytes)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded`: 0 if pixels are copied from the mapped file."""
        return 0 if self._is_plain and self._file.is_mapped else super().count_decoded(rows, cols)

    def level_factors(self, level: int) -> tuple[float, float]:
        """As :meth:`Reader.level_factors`: exact powers of two, since only our entries have several levels here.

        An odd last row or column makes the shapes of two levels differ by a little more or less than that, but a pixel
        still covers 2 x 2 pixels of the level above.
        """
        return 2.0**level, 2.0**level

    def load_part(self, index: int, rows: slice, cols: slice) -> Array:
        """Load a part of a tile ``(h, w, bands)``, by its number in the file; it must not be written to.

        A tile that is not going to be cached is decoded no further than that part, if its codec can do so.
        """
        key = (self._token, index)
        tile = self._cache.look_up(key, self._hit_weight)
        if tile is None:
            is_stored = self._cache.record_miss(key, self._hit_weight)
            data = self._file.read(index)
            if self._decode_grid is not None and not is_stored:
                return self._decode_with(self._decode_grid, [index], [[data]], rows, cols)
            tile = self._decode_with(self._decode, [index], data)
            if is_stored:
                self._cache.put(key, tile)
        return tile[rows, cols]

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        return [level.shape for level in self._levels[1:]]

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        chosen = self._levels[level]
        columns = self._map_level(chosen) if self._is_plain else None
        if columns is None:
            for block in self._find_blocks(Crop(rows, cols, bands, out, level)):
                self._read_block(block)
            return
        # Tiles without compression are in the file column by column: each column of tiles is one tall array of pixels.
        tile_rows, tile_cols = chosen.tile_shape
        col_spans = tile_spans(cols, tile_cols)
        first = chosen.first + rows.start // tile_rows
        stop = chosen.first + (rows.stop - 1) // tile_rows + 1
        self._file.touch([range(first + col * chosen.down, stop + col * chosen.down) for col, _, _ in col_spans])
        picks = None if bands == self.all_bands else list(bands)
        src_rows = slice(rows.start, rows.stop)
        for tile_col, inside_cols, out_cols in col_spans:
            part = columns[tile_col, src_rows, inside_cols]
            out[:, out_cols] = part if picks is None else part[:, :, picks]

    def _read_block(self, block: _TileBlock) -> None:
        """Read a block: as one picture if the codec can decode a window of several tiles, else tile by tile."""
        if self._decode_grid is not None:
            self._read_picture(block, self._decode_grid)
            return
        for tile, ((_, inside_rows, out_rows), (_, inside_cols, out_cols)) in zip(
            self._load_tiles(block.runs, is_alone=True), block.spans, strict=True
        ):
            block.copy(tile[inside_rows, inside_cols], out_rows, out_cols)

    def _read_picture(self, block: _TileBlock, decode: GridDecoder) -> None:
        """Decode a window of several tiles at once; tile by tile if tiles are admitted to the cache, or all are in it."""
        indices = block.indices
        keys = [(self._token, index) for index in indices]
        # First, so that the disk is at work during the look into the cache.
        self._expect(block.runs)
        if self._cache.is_admitting or all(map(self._cache.__contains__, keys)):
            for (_, index), ((_, rows, out_rows), (_, cols, out_cols)) in zip(keys, block.spans, strict=True):
                block.copy(self.load_part(index, rows, cols), out_rows, out_cols)
            return
        self._cache.record_misses(keys, self._hit_weight)
        grid = [self._file.read_run(run) for run in block.runs]
        tile_rows, tile_cols, _ = self._tile_shape
        window = _window_of(block.row_spans, tile_rows), _window_of(block.col_spans, tile_cols)
        part = self._decode_with(decode, indices, grid, *window)
        out_rows, out_cols = (
            _bounding([out_part for _, _, out_part in axis]) for axis in (block.row_spans, block.col_spans)
        )
        block.copy(part, out_rows, out_cols)

    def _load_tiles(self, runs: Sequence[range], *, is_alone: bool) -> Iterator[Array]:
        """Load whole tiles, by their numbers.

        While tiles are admitted to the cache, they are decoded one by one. Otherwise those in the cache are taken from
        there, and all others are decoded in one call.

        Args:
            runs: the numbers of the tiles.
            is_alone: whether no other thread decodes meanwhile. Then each run is decoded as soon as it is read, while the
                disk fetches the next one.
        """
        cache, weight = self._cache, self._hit_weight
        keys = [(self._token, index) for run in runs for index in run]
        # In this order, since it also asks the disk for the tiles.
        is_by_run = self._expect(runs) and is_alone
        if cache.is_admitting:  # one by one, so that each tile goes to the cache as soon as it is decoded
            return (self.load_part(index, _ALL, _ALL) for _, index in keys)
        if not any(map(cache.__contains__, keys)):
            cache.record_misses(keys, weight)
            return self._decode_group(runs, is_by_run=is_by_run)
        # All at once: the cache may drop these tiles while others are decoded.
        stored = [cache.look_up(key, weight) for key in keys]
        missing = [key for key, tile in zip(keys, stored, strict=True) if tile is None]
        cache.record_misses(missing, weight)
        decoded = self._decode_group(_runs_of(index for _, index in missing), is_by_run=is_by_run)
        return (next(decoded) if tile is None else tile for tile in stored)

    def _expect(self, runs: Sequence[range]) -> bool:
        """As :meth:`TileFile.expect`. Of a distant file, tiles in the cache are left out, since fetching them takes time."""
        if not self._file.is_distant:
            return self._file.expect(runs)
        missing = [index for run in runs for index in run if (self._token, index) not in self._cache]
        return self._file.read_ahead(missing) and len(missing) > 1

    def _decode_group(self, runs: Sequence[range], *, is_by_run: bool) -> Iterator[Array]:
        """Read and decode tiles, all in one call or run by run, past the cache."""
        for group in [[run] for run in runs] if is_by_run else [runs]:
            indices = list(chain.from_iterable(group))
            pieces = list(chain.from_iterable(map(self._file.read_run, group)))
            yield from self._decode_with(self._decode_several, indices, pieces)

    def _map_level(self, level: TileLevel) -> Array | None:
        """The columns of tiles of a level in the mapped file, ``(across, down * height, width, bands)``.

        ``None`` if the file is not mapped, or its tiles are stored row by row.
        """
        views = self._file.views()
        if views is None or level.row_step != 1:
            return None
        columns = views.get(level.first)
        if columns is None:
            # Two threads may both get here: their arrays show the same memory.
            data = self._file.map(level.first, level.down * level.across, self._tile_bytes)
            shape = level.across, level.down * level.tile_shape[0], *self._tile_shape[1:]
            columns = views[level.first] = np.ndarray(shape, self.dtype.newbyteorder("<"), data)
        return columns

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`, in the order of the file. A task reads a group of tiles, or a block as one picture."""
        if self._is_plain and self._file.is_mapped:
            yield from super().split(crops)
            return
        blocks, others = self._list_blocks(crops)
        yield from super().split(others)
        pictures, shared = self._separate(blocks)
        tasks = [(block.runs[0].start, partial(self._read_block, block)) for block in pictures]
        per_task = max(1, len(shared) // (_LEAST_TASKS_PER_CORE * core_count()))
        most = min(per_task, self._group_tiles) if self._decode_grid is None else 1
        for runs in _groups_of(shared, most):
            uses = [shared[index] for index in chain.from_iterable(runs)]
            tasks.append((runs[0].start, partial(self._read_shared, runs, uses)))
        for _, task in sorted(tasks, key=itemgetter(0)):  # a disk reads forward
            yield task

    def _separate(self, blocks: Sequence[_TileBlock]) -> tuple[list[_TileBlock], dict[int, list[_BlockTile]]]:
        """The blocks to decode as one picture each, since no other block touches their tiles; the uses of all other tiles."""
        pictures: list[_TileBlock] = []
        shared: dict[int, list[_BlockTile]] = {}
        touches = (
            Counter(chain.from_iterable(block.indices for block in blocks)) if self._decode_grid is not None else {}
        )
        for block in blocks:
            if touches and max(map(touches.__getitem__, block.indices)) == 1:
                pictures.append(block)
                continue
            for run, row_span in zip(block.runs, block.row_spans, strict=True):
                for index, col_span in zip(run, block.col_spans, strict=True):
                    shared.setdefault(index, []).append((block, row_span, col_span))
        return pictures, shared

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`: exactly the tiles that the crops touch and that are not in the cache."""
        touched = {index for block in self._list_blocks(crops)[0] for index in block.indices}
        missing = [index for index in sorted(touched) if (self._token, index) not in self._cache]
        self._file.read_ahead(missing, is_batch=True)

    def _list_blocks(self, crops: Sequence[Crop]) -> tuple[list[_TileBlock], list[Crop]]:
        """The blocks of all crops of step 1, and the other crops. A single crop is cut into rows of tiles, to share it."""
        plain: list[Crop] = []
        others: list[Crop] = []
        for crop in crops:
            (plain if crop.rows.step == crop.cols.step == 1 else others).append(crop)
        is_alone = len(plain) == 1
        return [block for crop in plain for block in self._find_blocks(crop, is_by_row=is_alone)], others

    def _find_blocks(self, crop: Crop, *, is_by_row: bool = False) -> list[_TileBlock]:
        """The tiles that a crop touches: one block, or parts of rows of tiles if requested, or if the block is too large."""
        bands = None if crop.bands == self.all_bands else list(crop.bands)
        row_spans, col_spans, runs = _find_tiles(self._levels[crop.level], crop.rows, crop.cols)
        most = self._group_tiles
        if not is_by_row and len(runs) * len(col_spans) <= most:
            return [_TileBlock(runs, row_spans, col_spans, bands, crop.out)]
        return [
            _TileBlock([run[first : first + most]], [row_span], col_spans[first : first + most], bands, crop.out)
            for run, row_span in zip(runs, row_spans, strict=True)
            for first in range(0, len(run), most)
        ]

    @property
    def is_worth_sharing(self) -> bool:
        """As :meth:`Reader.is_worth_sharing`: not if a tile is decoded sooner than the interpreter switches threads."""
        # As long as no tile was measured, the work is shared.
        return self.is_shareable and (not self._decode_seconds or self._decode_seconds > _LEAST_SHARED_SECONDS)

    def estimate_seconds(self, crop: Crop) -> float:
        """As :meth:`Reader.estimate_seconds`: the number of tiles that are not in the cache, times the mean of the past."""
        level = self._levels[crop.level]
        if not self.is_worth_sharing or crop.rows.step != 1 or crop.cols.step != 1:
            return 0.0
        tile_rows, tile_cols = level.tile_shape
        rows = range(crop.rows.start // tile_rows, (crop.rows.stop - 1) // tile_rows + 1)
        cols = range(crop.cols.start // tile_cols, (crop.cols.stop - 1) // tile_cols + 1)
        # Most crops end here: looking up each tile would take as long as it could save.
        if len(rows) * len(cols) * self._decode_seconds < WORTH_SHARING_SECONDS:
            return 0.0
        indices = (level.first + row * level.row_step + col * level.col_step for row in rows for col in cols)
        return self._decode_seconds * sum((self._token, index) not in self._cache for index in indices)

    def _read_shared(self, runs: Sequence[range], uses: Sequence[Sequence[_BlockTile]]) -> None:
        """Read tiles, each once and no further than any block needs, and copy their parts to all blocks that use them."""
        if self._decode_grid is None:
            for tile, found in zip(self._load_tiles(runs, is_alone=not has_other_threads()), uses, strict=True):
                _copy_to_blocks(tile, found)
            return
        for index, found in zip(chain.from_iterable(runs), uses, strict=True):
            rows = _bounding([inside_rows for _, (_, inside_rows, _), _ in found])
            cols = _bounding([inside_cols for _, _, (_, inside_cols, _) in found])
            _copy_to_blocks(self.load_part(index, rows, cols), found, rows.start, cols.start)

    def _decode_with(self, decode: Callable[..., T], indices: Sequence[int], *arguments: Any) -> T:
        """Call ``decode`` for these tiles, and measure the time.

        Raises:
            UnreadableImageError: a tile does not decode; the message names it.
        """
        # Threads update the mean without a lock: a lost measurement does not matter.
        started = time.perf_counter()
        try:
            pixels = decode(*arguments)
        except DECODE_ERRORS as error:
            which = f"tile {indices[0]:,} does not decode"
            if len(indices) > 1:
                for index in indices:  # raises for the tile that is to blame
                    self._decode_with(self._decode, [index], self._file.read(index))
                which = f"tiles {indices[0]:,} to {indices[-1]:,} do not decode together"
            raise UnreadableImageError(f"{self.path}: {which}: {error}") from error
        elapsed = (time.perf_counter() - started) / len(indices)
        # Threads race here; a lost measurement does not matter to a mean.
        self._decode_seconds += (elapsed - self._decode_seconds) * (_NEWEST_WEIGHT if self._decode_seconds else 1)
        return pixels


def _find_tiles(level: TileLevel, rows: range, cols: range) -> tuple[list[_Span], list[_Span], list[range]]:
    """The spans of ``rows`` and ``cols`` over tiles, and the numbers of these tiles in the file, row by row."""
    row_spans, col_spans = tile_spans(rows, level.tile_shape[0]), tile_spans(cols, level.tile_shape[1])
    first, count = level.first + col_spans[0][0] * level.col_step, len(col_spans)
    runs = []
    for tile_row, _, _ in row_spans:
        start = first + tile_row * level.row_step
        runs.append(range(start, start + count * level.col_step, level.col_step))
    return row_spans, col_spans, runs


def _window_of(spans: Sequence[_Span], extent: int) -> slice:
    """The part that these spans take of all their tiles, put side by side."""
    return slice(spans[0][1].start, (len(spans) - 1) * extent + spans[-1][1].stop)


def _groups_of(indices: Iterable[int], most: int) -> list[list[range]]:
    """Sort distinct numbers, cut them into groups of at most ``most``, and each group into runs of consecutive numbers.

    Example:
        >>> _groups_of([7, 1, 2, 3, 9], 4)
        [[range(1, 4), range(7, 8)], [range(9, 10)]]
    """
    ordered = sorted(indices)
    return [_runs_of(ordered[first : first + most]) for first in range(0, len(ordered), most)]


def _runs_of(indices: Iterable[int]) -> list[range]:
    """Cut a sequence of numbers into runs of consecutive ones."""
    runs: list[range] = []
    first = stop = -1
    for index in indices:
        if index != stop:
            if stop >= 0:
                runs.append(range(first, stop))
            first = index
        stop = index + 1
    return [*runs, range(first, stop)] if stop >= 0 else []


def _copy_to_blocks(part: Array, uses: Sequence[_BlockTile], top: int = 0, left: int = 0) -> None:
    """Copy a part of a tile, which begins at (``top``, ``left``) inside the tile, to all blocks that use it."""
    for block, (_, rows, out_rows), (_, cols, out_cols) in uses:
        inside = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
        block.copy(part[inside], out_rows, out_cols)


def _bounding(parts: Sequence[slice]) -> slice:
    return slice(min(part.start for part in parts), max(part.stop for part in parts))
