"""Reading the tiles of a COG that this package wrote: its table is known, so no TIFF library stands in between.

A tile is decoded whole and kept for a while, since the next crop may touch it too. Tiles that are not compressed are
not decoded at all: where the file can be mapped, a crop is copied from where it lies.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import UnreadableImageError
from ..lru import ByteLRU
from ..regions import count_tiles, tile_spans
from .codecs import DECODE_ERRORS, Decoder, find_decoder, find_run_decoder
from .reader import WORTH_SHARING_SECONDS, Array, Crop, Reader

__all__ = ["TileCache", "TileReader", "TileSource"]


class TileCache(ByteLRU[tuple[object, int], Array]):
    """Decoded tiles, by the reader's token and the tile's number.

    To keep a tile costs fresh memory, which may take longer to have than a tile to decode. So tiles are kept while enough of
    them are asked for again: each that is, or would have been had it been kept, speaks for it, and each that is decoded
    and was not seen lately speaks against it, a quarter as loud.

    Args:
        max_bytes: how much of them is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, _nbytes)
        self._worth = _MOST_WORTH
        self._lately: OrderedDict[tuple[object, int], None] = OrderedDict()

    def recall(self, key: tuple[object, int]) -> Array | None:
        """As :meth:`get`, for one that is wanted."""
        tile = self.get(key)
        if tile is not None:
            self._worth = min(_MOST_WORTH, self._worth + _GAIN)
        return tile

    def offer(self, key: tuple[object, int], tile: Array) -> None:
        """Keep a tile that was decoded just now, if that is worth it."""
        if self.expects(key):
            self.put(key, tile)

    def expects(self, key: tuple[object, int]) -> bool:
        """Take notice of a tile that is to be decoded now; returns whether it is worth keeping."""
        is_again = self._lately.pop(key, key) is None
        self._lately[key] = None
        self._worth = min(_MOST_WORTH, self._worth + _GAIN) if is_again else max(0, self._worth - 1)
        if len(self._lately) > _MOST_SEEN:
            self._lately.popitem(last=False)
        return self.is_keeping

    @property
    def is_keeping(self) -> bool:
        """Whether tiles are worth keeping, as things stand."""
        return self._worth >= _ENOUGH_WORTH and self.max_bytes > 0


_MOST_WORTH, _ENOUGH_WORTH, _GAIN = 64, 16, 4
_MOST_SEEN = 1024

# How much the tile decoded last counts in the mean of how long one takes.
_NEWEST_SHARE = 0.1
_LEAST_SHARED_SECONDS = 40e-6

# Tiles that lie side by side are decoded at once up to so many bytes of pixels, which the processor's caches hold.
_MOST_RUN_BYTES = 1 << 20

#: A part of a tile, which of its bands (``None``: all), and where it goes.
_Share = tuple[tuple[slice, slice], "list[int] | None", Array]
#: Where columns of a crop meet a tile; see :func:`~ndframes.regions.tile_spans`.
_Span = tuple[int, slice, slice]


class _Run(NamedTuple):
    """Tiles side by side that a crop touches, by their numbers; which rows and columns of them; which bands; and where they go."""

    tiles: range
    rows: slice
    col_spans: list[_Span]
    picks: list[int] | None
    out: Array


class TileSource(Protocol):
    """Where a reader gets the bytes of tiles from, by their numbers in the file."""

    @property
    def is_mapped(self) -> bool:
        """Whether the file lies in memory as it is. Known before it is opened."""

    def read(self, index: int) -> Any:
        """The bytes of one tile, fit to be decoded."""

    def read_run(self, first: int, stop: int) -> list[Any]:
        """The same of several that follow each other, in one request where the file allows it."""

    def views(self) -> dict[int, Array] | None:
        """Arrays over the mapped file, kept as long as it stays mapped; ``None`` where it is not."""

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """The bytes of tiles that follow each other, as they lie in the mapped file."""

    def read_ahead(self, index: int) -> None:
        """Have the bytes of one tile fetched from the disk without waiting for them."""

    def expect(self, runs: Sequence[tuple[int, int]]) -> None:
        """The same, for those tiles of these runs, each from a first to below a last, that may not be in memory."""

    def touch(self, runs: Sequence[tuple[int, int]]) -> None:
        """See to it that these runs of tiles, which lie mapped there, are fit to be used."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One resolution of the image.

    Attributes:
        shape: ``(height, width)``.
        extent: a tile's edge in pixels.
        first: the number of its first tile.
        across: how many tiles lie side by side.
        count: how many there are.
    """

    shape: tuple[int, int]
    extent: int
    first: int
    across: int
    count: int

    @classmethod
    def from_layout(cls, item: Mapping[str, Any]) -> _Level:
        """The level that an entry's layout describes; see :class:`~ndframes.segments.Payload`."""
        height, width = item["shape"]
        extent = int(item["tile_extent"])
        down, across = count_tiles((height, width), (extent, extent))
        return cls((int(height), int(width)), extent, int(item["first_segment"]), across, down * across)


class TileReader(Reader):
    """Crops of a COG from its tiles.

    Args:
        path: the file, for messages.
        layout: what its writer says of it; see :class:`~ndframes.segments.Payload`.
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
        self._levels = [_Level.from_layout(item) for item in layout["levels"]]
        base = self._levels[0]
        super().__init__(
            path,
            format="COG",
            shape=(*base.shape, band_count),
            dtype=dtype,
            tile_shape=(min(base.extent, base.shape[0]), min(base.extent, base.shape[1])),
        )
        self._source = source
        self._cache = cache
        self._token = object()
        self._decode_seconds = 0.0
        self._tile_shape = base.extent, base.extent, band_count
        self._tile_bytes = math.prod(self._tile_shape) * dtype.itemsize
        self._decode: Decoder = find_decoder(layout["compress"], layout["predictor"], self._tile_shape, dtype)
        self._decode_run = find_run_decoder(layout["compress"])
        self._most_in_run = max(1, _MOST_RUN_BYTES // self._tile_bytes)
        self._is_plain = layout["compress"] == "NONE" and dtype.kind != "b"
        self.is_shareable = not self._is_plain

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
        tile = self._cache.recall(key)
        if tile is None:
            is_kept = self._cache.expects(key)
            data = self._source.read(index)
            if self._decode_run is not None and not is_kept:
                return self._decode_with(self._decode_run, index, 1, [data], rows, cols)
            tile = self._decode_with(self._decode, index, 1, data)
            if is_kept:
                self._cache.put(key, tile)
        return tile[rows, cols]

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        return [level.shape for level in self._levels[1:]]

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        chosen = self._levels[level]
        picks = None if bands == self.all_bands else list(bands)
        row_spans, col_spans = tile_spans(rows, chosen.extent), tile_spans(cols, chosen.extent)
        first, width = chosen.first + col_spans[0][0], len(col_spans)
        runs = []
        for tile_row, _, _ in row_spans:
            start = first + tile_row * chosen.across
            runs.append((start, start + width))
        tiles = self._map_level(chosen) if self._is_plain else None
        if tiles is not None:
            self._source.touch(runs)
        elif width > 1 or len(runs) > 1:  # else the first one read is the only one
            self._source.expect(runs)
        for (start, _), (_, inside_rows, out_rows) in zip(runs, row_spans, strict=True):
            if tiles is None:
                self._read_run(start, inside_rows, col_spans, picks, out[out_rows])
                continue
            index = start - chosen.first
            for _, inside_cols, out_cols in col_spans:
                part = tiles[index, inside_rows, inside_cols]
                out[out_rows, out_cols] = part if picks is None else part[:, :, picks]
                index += 1

    def _read_run(
        self, first: int, rows: slice, col_spans: Sequence[_Span], picks: list[int] | None, out: Array
    ) -> None:
        """Fill ``out`` from tiles side by side, by the number of the first; at once where none of them is kept, nor worth it."""
        count = len(col_spans)
        keys = [(self._token, index) for index in range(first, first + count)]
        cache = self._cache
        if count > self._most_in_run or cache.is_keeping or any(key in cache for key in keys):
            for index, (_, inside_cols, out_cols) in enumerate(col_spans, first):
                part = self.load_part(index, rows, inside_cols)
                out[:, out_cols] = part if picks is None else part[:, :, picks]
            return
        for key in keys:
            cache.expects(key)
        data = self._source.read_run(first, first + count)
        if self._decode_run is not None:
            inside = slice(col_spans[0][1].start, (count - 1) * self._tile_shape[1] + col_spans[-1][1].stop)
            part = self._decode_with(self._decode_run, first, count, data, rows, inside)
            out[...] = part if picks is None else part[:, :, picks]
            return
        for number, (_, inside_cols, out_cols) in enumerate(col_spans):
            part = self._decode_with(self._decode, first + number, 1, data[number])[rows, inside_cols]
            out[:, out_cols] = part if picks is None else part[:, :, picks]

    def _map_level(self, level: _Level) -> Array | None:
        """All tiles of a level ``(count, extent, extent, bands)`` as they lie in the mapped file; ``None`` where it is not mapped."""
        views = self._source.views()
        if views is None:
            return None
        tiles = views.get(level.first)
        if tiles is None:
            data = self._source.map(level.first, level.count, self._tile_bytes)
            tiles = views[level.first] = np.ndarray(
                (level.count, *self._tile_shape), self.dtype.newbyteorder("<"), data
            )
        return tiles

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`: a piece of work a tile, in the order of the file."""
        if self._is_plain and self._source.is_mapped:
            yield from super().split(crops)
            return
        runs, others = self._find_runs(crops)
        yield from super().split(others)
        touches = Counter(index for run in runs for index in run.tiles)
        shares: dict[int, list[_Share]] = {}
        tasks: list[tuple[int, Callable[[], None]]] = []
        for run in runs:
            if all(touches[index] == 1 for index in run.tiles):
                task = partial(self._read_run, run.tiles.start, run.rows, run.col_spans, run.picks, run.out)
                tasks.append((run.tiles.start, task))
                continue
            for index, (_, inside_cols, out_cols) in zip(run.tiles, run.col_spans, strict=True):
                shares.setdefault(index, []).append(((run.rows, inside_cols), run.picks, run.out[:, out_cols]))
        tasks += [(index, partial(self._serve, index, found)) for index, found in shares.items()]
        for _, task in sorted(tasks, key=itemgetter(0)):
            yield task

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`: exactly the tiles that are touched and not in memory yet."""
        for index in sorted({index for run in self._find_runs(crops)[0] for index in run.tiles}):
            if (self._token, index) not in self._cache:
                self._source.read_ahead(index)

    def _find_runs(self, crops: Sequence[Crop]) -> tuple[list[_Run], list[Crop]]:
        """The tiles side by side that crops touch; and the crops with steps, which are no runs of pixels."""
        runs = []
        others = []
        for crop in crops:
            if crop.rows.step != 1 or crop.cols.step != 1:
                others.append(crop)
                continue
            level = self._levels[crop.level]
            picks = None if crop.bands == self.all_bands else list(crop.bands)
            col_spans = tile_spans(crop.cols, level.extent)
            for tile_row, rows, out_rows in tile_spans(crop.rows, level.extent):
                start = level.first + tile_row * level.across + col_spans[0][0]
                runs.append(_Run(range(start, start + len(col_spans)), rows, col_spans, picks, crop.out[out_rows]))
        return runs, others

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
        indices = (level.first + row * level.across + col for row in rows for col in cols)
        return self._decode_seconds * sum((self._token, index) not in self._cache for index in indices)

    def _serve(self, index: int, shares: Sequence[_Share]) -> None:
        """Decode one tile, as far as it is wanted, and hand out its parts."""
        rows, cols = (_bounding([inside[axis] for inside, _, _ in shares]) for axis in (0, 1))
        part = self.load_part(index, rows, cols)
        for (inside_rows, inside_cols), picks, target in shares:
            inside = part[_within(inside_rows, rows), _within(inside_cols, cols)]
            target[...] = inside if picks is None else inside[:, :, picks]

    def _decode_with(self, decode: Callable[..., Array], index: int, count: int, *arguments: Any) -> Array:
        """What ``decode`` gives for so many tiles side by side, by the number of the first; the time it takes is remembered."""
        started = time.perf_counter()
        try:
            pixels = decode(*arguments)
        except DECODE_ERRORS as error:
            names = f"tile {index:,}" if count == 1 else f"one of the tiles {index:,} to {index + count - 1:,}"
            raise UnreadableImageError(f"{self.path}: {names} does not decode: {error}") from error
        elapsed = (time.perf_counter() - started) / count
        self._decode_seconds += (elapsed - self._decode_seconds) * (_NEWEST_SHARE if self._decode_seconds else 1)
        return pixels


def _bounding(parts: Sequence[slice]) -> slice:
    return slice(min(part.start for part in parts), max(part.stop for part in parts))


def _within(part: slice, window: slice) -> slice:
    return slice(part.start - window.start, part.stop - window.start)


def _nbytes(tile: Array) -> int:
    return tile.nbytes
