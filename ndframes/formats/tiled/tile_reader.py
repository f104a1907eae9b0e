"""Reading the tiles of a COG that this package wrote: its table is known, so no TIFF library stands in between.

A tile is decoded whole and kept for a while, since the next crop may touch it too. Tiles that are not compressed are
not decoded at all: where the file can be mapped, a crop is copied from where it lies.
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
    from .codecs import GridDecoder

__all__ = ["TileCache", "TileReader", "TileSource"]
T = TypeVar("T")
# How much the tile decoded last counts in the mean of how long one takes.
_NEWEST_SHARE = 0.1
_LEAST_SHARED_SECONDS = 15e-6
# Tiles are read and decoded together up to so many bytes of pixels: 16 tiles of 128 x 128, RGB.
_MOST_TOGETHER_BYTES = 3 << 18
# Where many cores would leave each other nothing to do, groups are smaller.
_LEAST_TASKS_PER_CORE = 2
_ALL = slice(None)
#: Where rows or columns of a crop meet a tile; see :func:`~ndframes.geometry.tiling.tile_spans`.
_Span = tuple[int, slice, slice]


class _Block(NamedTuple):
    """Tiles that a crop touches, row by row; which part of them, which bands (``None``: all), and where they go.

    ``runs`` are their numbers in the file.
    """

    runs: list[range]
    row_spans: Sequence[_Span]
    col_spans: Sequence[_Span]
    picks: list[int] | None
    out: Array

    @property
    def indices(self) -> list[int]:
        """The numbers of all its tiles, row by row."""
        return list(chain.from_iterable(self.runs))

    @property
    def spans(self) -> list[tuple[_Span, _Span]]:
        """Where each of them is, row by row."""
        return [(row_span, col_span) for row_span in self.row_spans for col_span in self.col_spans]

    def put(self, part: Array, out_rows: slice, out_cols: slice) -> None:
        """Bring a part of a tile to its place."""
        self.out[out_rows, out_cols] = part if self.picks is None else part[:, :, self.picks]


#: A tile's part in a block: which rows and columns of it.
_Share = tuple[_Block, _Span, _Span]


class TileSource(Protocol):
    """Where a reader gets the bytes of tiles from, by their numbers in the file."""

    @property
    def is_mapped(self) -> bool:
        """Whether the file lies in memory as it is. Known before it is opened."""

    def read(self, index: int) -> Any:
        """The bytes of one tile, fit to be decoded."""

    def read_run(self, run: range) -> list[Any]:
        """The same of several, in one request where they follow each other and the file allows it."""

    def views(self) -> dict[int, Array] | None:
        """Arrays over the mapped file, kept as long as it stays mapped; ``None`` where it is not."""

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """The bytes of tiles that follow each other, as they lie in the mapped file."""

    def read_ahead(self, index: int) -> None:
        """Have the bytes of one tile fetched from the disk without waiting for them."""

    def expect(self, runs: Sequence[range]) -> bool:
        """The same, for those tiles of these runs that may not be in memory; whether there are any.

        Not where there is but one, which is read at once.
        """

    def touch(self, runs: Sequence[range]) -> None:
        """See to it that these runs of tiles, which lie mapped there, are fit to be used."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One resolution of the image.

    Attributes:
        shape: ``(height, width)``.
        extent: a tile's edge in pixels.
        first: the number of its first tile; tiles are numbered as they lie in the file.
        down: how many tiles lie one below the other.
        across: how many lie side by side.
        row_step: from a tile's number to that of the one below it.
        col_step: from a tile's number to that of the one beside it.
    """

    shape: tuple[int, int]
    extent: int
    first: int
    down: int
    across: int
    row_step: int
    col_step: int

    @classmethod
    def from_layout(cls, item: Mapping[str, Any], *, is_by_column: bool) -> _Level:
        """The level that an entry's layout describes; see :class:`~ndframes.system.segments.Payload`."""
        height, width = item["shape"]
        extent = int(item["tile_extent"])
        down, across = count_tiles((height, width), (extent, extent))
        steps = (1, down) if is_by_column else (across, 1)
        return cls((int(height), int(width)), extent, int(item["first_segment"]), down, across, *steps)


class TileReader(Reader):
    """Crops of a COG from its tiles.

    Args:
        path: the file, for messages.
        layout: what its writer says of it; see :class:`~ndframes.system.segments.Payload`.
        dtype: of the pixels.
        band_count: how many samples a pixel has.
        source: where the bytes of tiles come from.
        cache: keeps decoded tiles; may serve many readers.

    Raises:
        UnreadableImageError: a tile does not decode, when reading.
    """

    def __init__(
        self,
        path: str,
        layout: Mapping[str, Any],
        dtype: np.dtype[Any],
        band_count: int,
        source: TileSource,
        cache: TileCache,
    ) -> None:
        is_by_column = layout.get("tile_order") == "columns"
        self._levels = [_Level.from_layout(item, is_by_column=is_by_column) for item in layout["levels"]]
        base = self._levels[0]
        self._is_plain = layout["compress"] == "NONE" and dtype.kind != "b"
        facts = ReaderFacts(
            format="COG",
            shape=(*base.shape, band_count),
            dtype=dtype,
            tile_shape=(min(base.extent, base.shape[0]), min(base.extent, base.shape[1])),
            is_shareable=not self._is_plain,
        )
        super().__init__(path, facts)
        self._source = source
        self._cache = cache
        self._token = object()
        self._decode_seconds = 0.0
        self._tile_shape = base.extent, base.extent, band_count
        self._tile_bytes = math.prod(self._tile_shape) * dtype.itemsize
        coding = layout["compress"], layout["predictor"], self._tile_shape, dtype
        self._decode, self._decode_several = find_decoder(*coding), find_several_decoder(*coding)
        self._decode_grid = find_grid_decoder(layout["compress"])
        self._voice = WHOLE_WEIGHT if self._decode_grid is None else PART_WEIGHT
        self._most_together = max(1, _MOST_TOGETHER_BYTES // self._tile_bytes)

    def count_decoded(self, rows: range, cols: range) -> int:
        """None, where the pixels lie there as they are."""
        return 0 if self._is_plain and self._source.is_mapped else super().count_decoded(rows, cols)

    def level_factors(self, level: int) -> tuple[float, float]:
        """As :meth:`Reader.level_factors`: each level halves the one above it, whatever is left over at its far edges."""
        return 2.0**level, 2.0**level

    def load_part(self, index: int, rows: slice, cols: slice) -> Array:
        """A part of a tile ``(h, w, bands)``, by its number in the file; not to be written to.

        A tile that is not worth keeping is decoded no further than is wanted, where its codec can do that.
        """
        key = (self._token, index)
        tile = self._cache.recall(key, self._voice)
        if tile is None:
            is_kept = self._cache.expects(key, self._voice)
            data = self._source.read(index)
            if self._decode_grid is not None and not is_kept:
                return self._decode_with(self._decode_grid, [index], [[data]], rows, cols)
            tile = self._decode_with(self._decode, [index], data)
            if is_kept:
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
        spans = tile_spans(cols, chosen.extent)
        top = chosen.first + rows.start // chosen.extent
        stop = chosen.first + (rows.stop - 1) // chosen.extent + 1
        self._source.touch([range(top + col * chosen.down, stop + col * chosen.down) for col, _, _ in spans])
        picks = None if bands == self.all_bands else list(bands)
        inside_rows = slice(rows.start, rows.stop)
        for col, inside_cols, out_cols in spans:
            part = columns[col, inside_rows, inside_cols]
            out[:, out_cols] = part if picks is None else part[:, :, picks]

    def _read_block(self, block: _Block) -> None:
        """Read some tiles: as one picture, where the codec can do that, or each whole."""
        if self._decode_grid is not None:
            self._read_picture(block, self._decode_grid)
            return
        for tile, ((_, rows, out_rows), (_, cols, out_cols)) in zip(
            self._load_tiles(block.runs, is_alone=True), block.spans, strict=True
        ):
            block.put(tile[rows, cols], out_rows, out_cols)

    def _read_picture(self, block: _Block, decode: GridDecoder) -> None:
        """Read some tiles as one picture; one by one where they are worth keeping, or all kept."""
        indices = block.indices
        keys = [(self._token, index) for index in indices]
        self._source.expect(block.runs)
        if self._cache.is_keeping or all(map(self._cache.__contains__, keys)):
            for (_, index), ((_, rows, out_rows), (_, cols, out_cols)) in zip(keys, block.spans, strict=True):
                block.put(self.load_part(index, rows, cols), out_rows, out_cols)
            return
        self._cache.notice(keys, self._voice)
        grid = [self._source.read_run(run) for run in block.runs]
        extent = self._tile_shape[0]
        window = _window_of(block.row_spans, extent), _window_of(block.col_spans, extent)
        part = self._decode_with(decode, indices, grid, *window)
        places = (_bounding([place for _, _, place in axis]) for axis in (block.row_spans, block.col_spans))
        block.put(part, *places)

    def _load_tiles(self, runs: Sequence[range], *, is_alone: bool) -> Iterator[Array]:
        """Tiles, whole: one by one where they are worth keeping, else those that are kept, and all others decoded together.

        Args:
            runs: their numbers.
            is_alone: nobody else decodes while the disk is waited for: so what came first is decoded while the rest is on its way.
        """
        cache, weight = self._cache, self._voice
        keys = [(self._token, index) for run in runs for index in run]
        is_by_run = self._source.expect(runs) and is_alone
        if cache.is_keeping:
            return (self.load_part(index, _ALL, _ALL) for _, index in keys)
        if not any(map(cache.__contains__, keys)):
            cache.notice(keys, weight)
            return self._decode_together(runs, is_by_run=is_by_run)
        kept = [cache.recall(key, weight) for key in keys]
        missing = [key for key, tile in zip(keys, kept, strict=True) if tile is None]
        cache.notice(missing, weight)
        decoded = self._decode_together(_runs_of(index for _, index in missing), is_by_run=is_by_run)
        return (next(decoded) if tile is None else tile for tile in kept)

    def _decode_together(self, runs: Sequence[range], *, is_by_run: bool) -> Iterator[Array]:
        """Tiles that are not kept, all at once or run by run; notice was taken of them."""
        for group in [[run] for run in runs] if is_by_run else [runs]:
            indices = list(chain.from_iterable(group))
            pieces = list(chain.from_iterable(map(self._source.read_run, group)))
            yield from self._decode_with(self._decode_several, indices, pieces)

    def _map_level(self, level: _Level) -> Array | None:
        """All columns of tiles of a level, ``(across, down * extent, extent, bands)``, as they lie in the mapped file.

        ``None`` where it is not mapped, or they do not lie there so.
        """
        views = self._source.views()
        if views is None or level.row_step != 1:
            return None
        columns = views.get(level.first)
        if columns is None:
            data = self._source.map(level.first, level.down * level.across, self._tile_bytes)
            shape = level.across, level.down * level.extent, *self._tile_shape[1:]
            columns = views[level.first] = np.ndarray(shape, self.dtype.newbyteorder("<"), data)
        return columns

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`, in the order of the file: a piece of work is a few tiles, or a crop that is decoded as a picture."""
        if self._is_plain and self._source.is_mapped:
            yield from super().split(crops)
            return
        blocks, others = self._list_blocks(crops)
        yield from super().split(others)
        pictures, shares = self._sort_out(blocks)
        tasks = [(block.runs[0].start, partial(self._read_block, block)) for block in pictures]
        share = max(1, len(shares) // (_LEAST_TASKS_PER_CORE * core_count()))
        most = min(share, self._most_together) if self._decode_grid is None else 1
        for runs in _groups_of(shares, most):
            wanted = [shares[index] for index in chain.from_iterable(runs)]
            tasks.append((runs[0].start, partial(self._serve, runs, wanted)))
        for _, task in sorted(tasks, key=itemgetter(0)):
            yield task

    def _sort_out(self, blocks: Sequence[_Block]) -> tuple[list[_Block], dict[int, list[_Share]]]:
        """The blocks that are decoded as a picture each, since they share no tile; of all others, who wants what of each tile."""
        pictures: list[_Block] = []
        shares: dict[int, list[_Share]] = {}
        touches = (
            Counter(chain.from_iterable(block.indices for block in blocks)) if self._decode_grid is not None else {}
        )
        for block in blocks:
            if touches and max(map(touches.__getitem__, block.indices)) == 1:
                pictures.append(block)
                continue
            for run, row_span in zip(block.runs, block.row_spans, strict=True):
                for index, col_span in zip(run, block.col_spans, strict=True):
                    shares.setdefault(index, []).append((block, row_span, col_span))
        return pictures, shares

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`: exactly the tiles that are touched and not in memory yet."""
        for index in sorted({index for block in self._list_blocks(crops)[0] for index in block.indices}):
            if (self._token, index) not in self._cache:
                self._source.read_ahead(index)

    def _list_blocks(self, crops: Sequence[Crop]) -> tuple[list[_Block], list[Crop]]:
        """The tiles that crops touch, those of one that is alone row by row; and the crops with steps, which are no runs of pixels."""
        plain: list[Crop] = []
        others: list[Crop] = []
        for crop in crops:
            (plain if crop.rows.step == crop.cols.step == 1 else others).append(crop)
        is_alone = len(plain) == 1
        return [block for crop in plain for block in self._find_blocks(crop, is_by_row=is_alone)], others

    def _find_blocks(self, crop: Crop, *, is_by_row: bool = False) -> list[_Block]:
        """The tiles that a crop touches, all together or, if wished or where they are too many, by pieces of a row."""
        picks = None if crop.bands == self.all_bands else list(crop.bands)
        row_spans, col_spans, runs = _find_tiles(self._levels[crop.level], crop.rows, crop.cols)
        most = self._most_together
        if not is_by_row and len(runs) * len(col_spans) <= most:
            return [_Block(runs, row_spans, col_spans, picks, crop.out)]
        return [
            _Block([run[first : first + most]], [row_span], col_spans[first : first + most], picks, crop.out)
            for run, row_span in zip(runs, row_spans, strict=True)
            for first in range(0, len(run), most)
        ]

    @property
    def is_worth_sharing(self) -> bool:
        """As :meth:`Reader.is_worth_sharing`: not where a tile is decoded sooner than the interpreter changes hands."""
        return self.is_shareable and (not self._decode_seconds or self._decode_seconds > _LEAST_SHARED_SECONDS)

    def estimate_seconds(self, crop: Crop) -> float:
        """As :meth:`Reader.estimate_seconds`: the tiles that are not in memory, each as long as those before took."""
        level = self._levels[crop.level]
        if not self.is_worth_sharing or crop.rows.step != 1 or crop.cols.step != 1:
            return 0.0
        rows = range(crop.rows.start // level.extent, (crop.rows.stop - 1) // level.extent + 1)
        cols = range(crop.cols.start // level.extent, (crop.cols.stop - 1) // level.extent + 1)
        if len(rows) * len(cols) * self._decode_seconds < WORTH_SHARING_SECONDS:
            return 0.0
        indices = (level.first + row * level.row_step + col * level.col_step for row in rows for col in cols)
        return self._decode_seconds * sum((self._token, index) not in self._cache for index in indices)

    def _serve(self, runs: Sequence[range], shares: Sequence[Sequence[_Share]]) -> None:
        """Read tiles, each once and as far as it is wanted, and hand out its parts."""
        if self._decode_grid is None:
            for tile, found in zip(self._load_tiles(runs, is_alone=not has_other_threads()), shares, strict=True):
                _hand_out(tile, found)
            return
        for index, found in zip(chain.from_iterable(runs), shares, strict=True):
            rows = _bounding([inside_rows for _, (_, inside_rows, _), _ in found])
            cols = _bounding([inside_cols for _, _, (_, inside_cols, _) in found])
            _hand_out(self.load_part(index, rows, cols), found, rows.start, cols.start)

    def _decode_with(self, decode: Callable[..., T], indices: Sequence[int], *arguments: Any) -> T:
        """What ``decode`` gives for these tiles; the time it takes is remembered.

        Raises:
            UnreadableImageError: one of them does not decode; which one is found out.
        """
        started = time.perf_counter()
        try:
            pixels = decode(*arguments)
        except DECODE_ERRORS as error:
            which = f"tile {indices[0]:,} does not decode"
            if len(indices) > 1:
                for index in indices:
                    self._decode_with(self._decode, [index], self._source.read(index))
                which = f"tiles {indices[0]:,} to {indices[-1]:,} do not decode together"
            raise UnreadableImageError(f"{self.path}: {which}: {error}") from error
        elapsed = (time.perf_counter() - started) / len(indices)
        self._decode_seconds += (elapsed - self._decode_seconds) * (_NEWEST_SHARE if self._decode_seconds else 1)
        return pixels


def _find_tiles(level: _Level, rows: range, cols: range) -> tuple[list[_Span], list[_Span], list[range]]:
    """Where ``rows`` and ``cols`` meet tiles, and the numbers of these tiles in the file, row by row."""
    row_spans, col_spans = tile_spans(rows, level.extent), tile_spans(cols, level.extent)
    first, count = level.first + col_spans[0][0] * level.col_step, len(col_spans)
    runs = []
    for tile_row, _, _ in row_spans:
        start = first + tile_row * level.row_step
        runs.append(range(start, start + count * level.col_step, level.col_step))
    return row_spans, col_spans, runs


def _window_of(spans: Sequence[_Span], extent: int) -> slice:
    """The part of several tiles, one behind the other, that these spans are."""
    return slice(spans[0][1].start, (len(spans) - 1) * extent + spans[-1][1].stop)


def _groups_of(indices: Iterable[int], most: int) -> list[list[range]]:
    """Numbers, each once, in groups of no more than so many; those of a group as runs that follow each other.

    Example:
        >>> _groups_of([7, 1, 2, 3, 9], 4)
        [[range(1, 4), range(7, 8)], [range(9, 10)]]
    """
    ordered = sorted(indices)
    return [_runs_of(ordered[first : first + most]) for first in range(0, len(ordered), most)]


def _runs_of(indices: Iterable[int]) -> list[range]:
    """Numbers, in their order, as runs of such as follow each other."""
    runs: list[range] = []
    first = stop = -1
    for index in indices:
        if index != stop:
            if stop >= 0:
                runs.append(range(first, stop))
            first = index
        stop = index + 1
    return [*runs, range(first, stop)] if stop >= 0 else []


def _hand_out(part: Array, shares: Sequence[_Share], top: int = 0, left: int = 0) -> None:
    """Bring to its places what several blocks want of a part of a tile that begins at (``top``, ``left``)."""
    for block, (_, rows, out_rows), (_, cols, out_cols) in shares:
        inside = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
        block.put(part[inside], out_rows, out_cols)


def _bounding(parts: Sequence[slice]) -> slice:
    return slice(min(part.start for part in parts), max(part.stop for part in parts))
