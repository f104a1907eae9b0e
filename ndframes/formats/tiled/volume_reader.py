"""Reading a video from a TIFF of tiles in space and time: a crop of some frames decodes the tiles that it touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UnreadableImageError
from ...geometry.regions import to_slice
from ...geometry.tiling import tile_ranges
from ..reader import Reader, ReaderFacts
from .codecs import DECODE_ERRORS, find_decoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..._typing import Array
    from .tile_cache import TileCache
    from .tile_reader import TileSource

__all__ = ["VolumeReader"]


class VolumeReader(Reader):
    """Crops of a video from its tiles ``(frames, height, width)``.

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
        volume = layout["volume"]
        count, height, width = volume["shape"]
        self._block = tuple(volume["tile_shape"])
        facts = ReaderFacts(
            format="COG",
            shape=(height, width, band_count),
            dtype=dtype,
            tile_shape=(min(self._block[1], height), min(self._block[2], width)),
            frame_count=count,
            tile_frames=min(self._block[0], count),
        )
        super().__init__(path, facts)
        self._first = int(volume["first_segment"])
        self._down, self._across = -(-height // self._block[1]), -(-width // self._block[2])
        self._source = source
        self._cache = cache
        self._token = object()
        rows_by_cols = self._block[0] * self._block[1], self._block[2], band_count
        self._decode = find_decoder(layout["compress"], layout["predictor"], rows_by_cols, dtype)

    def load_tile(self, index: int) -> Array:
        """One decoded tile ``(frames, height, width, bands)``, by its number in the file; not to be written to."""
        key = (self._token, index)
        tile = self._cache.recall(key)
        if tile is None:
            data = self._source.read(index)
            try:
                tile = self._decode(data).reshape(*self._block, self.shape[2])
            except DECODE_ERRORS as error:
                raise UnreadableImageError(f"{self.path}: tile {index:,} does not decode: {error}") from error
            self._cache.offer(key, tile)
        return tile

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`: each tile is decoded once, in the order of the file."""
        if not out.size:
            return
        picks = None if bands == self.all_bands else list(bands)
        wanted = np.asarray(times)
        blocks = wanted // self._block[0]
        row_spans, col_spans = _spans(rows, self._block[1]), _spans(cols, self._block[2])
        for block in np.unique(blocks).tolist():
            places = np.flatnonzero(blocks == block)
            frames = _as_slice(wanted[places] - block * self._block[0])
            at = _as_slice(places)
            for row, inside_rows, out_rows in row_spans:
                start = self._first + (block * self._down + row) * self._across
                for col, inside_cols, out_cols in col_spans:
                    part = self.load_tile(start + col)[frames, inside_rows, inside_cols]
                    out[at, out_rows, out_cols] = part if picks is None else part[..., picks]


def _spans(axis: range, extent: int) -> list[tuple[int, slice, slice]]:
    """Where the tiles under ``axis`` meet it: tile index, part of the tile, part of ``axis``."""
    spans = []
    done = 0
    for index, some in tile_ranges(axis, extent):
        origin = index * extent
        inside = to_slice(range(some.start - origin, some.stop - origin, some.step))
        spans.append((index, inside, slice(done, done + len(some))))
        done += len(some)
    return spans


def _as_slice(numbers: Array) -> Any:
    """Numbers that follow each other as a slice, which copies sooner than a list of them."""
    if len(numbers) == 1 or (np.diff(numbers) == 1).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers
