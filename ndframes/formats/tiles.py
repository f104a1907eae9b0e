"""Reading the tiles of a COG that this package wrote: its table is known, so no TIFF library stands in between.

A tile is decoded whole and kept for a while, since the next crop may touch it too. Tiles that are not compressed are
not decoded at all: where the file can be mapped, a crop is copied from where it lies.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..errors import UnreadableImageError
from ..lru import ByteLRU
from ..regions import count_tiles, tile_spans
from .codecs import DECODE_ERRORS, Decoder, find_decoder, find_row_decoder
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
        return self._worth >= _ENOUGH_WORTH and self.max_bytes > 0


_MOST_WORTH, _ENOUGH_WORTH, _GAIN = 64, 16, 4
_MOST_SEEN = 1024

# How much the tile decoded last counts in the mean of how long one takes.
_NEWEST_SHARE = 0.1
_LEAST_SHARED_SECONDS = 40e-6

#: A part of a tile, which of its bands (``None``: all), and where it goes.
_Share = tuple[tuple[slice, slice], "list[int] | None", Array]


class TileSource(Protocol):
    """Where a reader gets the bytes of tiles from, by their numbers in the file."""

    @property
    def is_mapped(self) -> bool:
        """Whether the file lies in memory as it is. Known before it is opened."""

    def read(self, index: int) -> Any:
        """The bytes of one tile, fit to be decoded."""

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
        self._decode_rows = find_row_decoder(layout["compress"])
        self._is_plain = layout["compress"] == "NONE" and dtype.kind != "b"
        self.is_shareable = not self._is_plain

    def count_decoded(self, rows: range, cols: range) -> int:
        """None, where the pixels lie there as they are."""
        return 0 if self._is_plain and self._source.is_mapped else super().count_decoded(rows, cols)

    def level_factors(self, level: int) -> tuple[float, float]:
        """As :meth:`Reader.level_factors`: each level halves the one above it, whatever is left over at its far edges."""
        return 2.0**level, 2.0**level

    def load_rows(self, index: int, rows: slice) -> Array:
        """Rows of a tile ``(rows, extent, bands)``, by its number in the file; not to be written to.

        A tile that is not worth keeping is decoded no further than is wanted, where its codec can do that.
        """
        key = (self._token, index)
        tile = self._cache.recall(key)
        if tile is None:
            if not self._cache.expects(key):
                return self._decode_tile(index, rows)
            tile = self._decode_tile(index)
            self._cache.put(key, tile)
        return tile[rows]

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
        for (start, _), (_, inside_rows, out_rows) in zip(runs, row_spans):
            index = start
            for _, inside_cols, out_cols in col_spans:
                if tiles is not None:
                    part = tiles[index - chosen.first, inside_rows, inside_cols]
                else:
                    part = self.load_rows(index, inside_rows)[:, inside_cols]
                out[out_rows, out_cols] = part if picks is None else part[:, :, picks]
                index += 1

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
        shares, others = self._share_tiles(crops)
        yield from super().split(others)
        for index in sorted(shares):
            yield partial(self._serve, index, shares[index])

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`: exactly the tiles that are touched and not in memory yet."""
        for index in sorted(self._share_tiles(crops)[0]):
            if (self._token, index) not in self._cache:
                self._source.read_ahead(index)

    def _share_tiles(self, crops: Sequence[Crop]) -> tuple[dict[int, list[_Share]], list[Crop]]:
        """By tile, which part of it goes where; and the crops with steps, which are no runs of pixels."""
        shares: dict[int, list[_Share]] = {}
        others = []
        for crop in crops:
            if crop.rows.step != 1 or crop.cols.step != 1:
                others.append(crop)
                continue
            level = self._levels[crop.level]
            picks = None if crop.bands == self.all_bands else list(crop.bands)
            col_spans = tile_spans(crop.cols, level.extent)
            for tile_row, inside_rows, out_rows in tile_spans(crop.rows, level.extent):
                start = level.first + tile_row * level.across
                for tile_col, inside_cols, out_cols in col_spans:
                    share = (inside_rows, inside_cols), picks, crop.out[out_rows, out_cols]
                    shares.setdefault(start + tile_col, []).append(share)
        return shares, others

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
        first = min(rows.start for (rows, _), _, _ in shares)
        part = self.load_rows(index, slice(first, max(rows.stop for (rows, _), _, _ in shares)))
        for (rows, cols), picks, target in shares:
            inside = part[rows.start - first : rows.stop - first, cols]
            target[...] = inside if picks is None else inside[:, :, picks]

    def _decode_tile(self, index: int, rows: slice | None = None) -> Array:
        """One tile, or only some rows of it, if its codec can do that."""
        data = self._source.read(index)
        started = time.perf_counter()
        try:
            if rows is None or self._decode_rows is None:
                tile, top = self._decode(data), 0
            else:
                tile, top = self._decode_rows(data, rows.start, rows.stop)
        except DECODE_ERRORS as error:
            raise UnreadableImageError(f"{self.path}: tile {index:,} does not decode: {error}") from error
        elapsed = (time.perf_counter() - started) * self._tile_shape[0] / len(tile)
        self._decode_seconds += (elapsed - self._decode_seconds) * (_NEWEST_SHARE if self._decode_seconds else 1)
        return tile if rows is None else tile[rows.start - top : rows.stop - top]


def _nbytes(tile: Array) -> int:
    return tile.nbytes
