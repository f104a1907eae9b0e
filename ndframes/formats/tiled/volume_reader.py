"""VolumeReader: crops of a video that is stored in tiles of space and time."""

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
    from .tile_reader import SegmentFile

__all__ = ["VolumeReader"]


class VolumeReader(Reader):
    """Crops of a video from its tiles ``(frames, height, width)``. A read decodes only the tiles that it touches.

    Args:
        path: the file, for messages.
        layout: which pixels each tile holds; see :class:`~ndframes.system.segments.Manifest`.
        dtype: of the pixels.
        band_count: the number of samples in a pixel.
        file: the bytes of the tiles.
        cache: stores decoded tiles; many readers may share it.

    Raises:
        UnreadableImageError: a tile does not decode, when reading.
    """

    def __init__(
        self,
        path: str,
        layout: Mapping[str, Any],
        dtype: np.dtype[Any],
        band_count: int,
        file: SegmentFile,
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
        self._file = file
        self._cache = cache
        self._token = object()
        # A tile is encoded as one tall image, its frames below each other.
        rows_by_cols = self._block[0] * self._block[1], self._block[2], band_count
        self._decode = find_decoder(layout["compress"], layout["predictor"], rows_by_cols, dtype)

    def load_tile(self, index: int) -> Array:
        """Load a tile ``(frames, height, width, bands)``, by its number in the file; it must not be written to."""
        key = (self._token, index)
        tile = self._cache.look_up(key)
        if tile is None:
            data = self._file.read(index)
            try:
                tile = self._decode(data).reshape(*self._block, self.shape[2])
            except DECODE_ERRORS as error:
                raise UnreadableImageError(f"{self.path}: tile {index:,} does not decode: {error}") from error
            self._cache.admit(key, tile)
        return tile

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`: each tile is decoded once, in the order of the file."""
        if not out.size:
            return
        picks = None if bands == self.all_bands else list(bands)
        numbers = np.asarray(times)
        # All frames of a tile are copied at once, and tiles are visited in the order of the file, each once.
        tile_times = numbers // self._block[0]
        row_spans, col_spans = _tile_spans(rows, self._block[1]), _tile_spans(cols, self._block[2])
        if self._file.is_distant:
            rows_of_tiles = [
                self._first + (tile_time * self._down + tile_row) * self._across
                for tile_time in np.unique(tile_times).tolist()
                for tile_row, _, _ in row_spans
            ]
            indices = [start + tile_col for start in rows_of_tiles for tile_col, _, _ in col_spans]
            self._file.read_ahead([index for index in indices if (self._token, index) not in self._cache])
        for tile_time in np.unique(tile_times).tolist():
            places = np.flatnonzero(tile_times == tile_time)
            inside_frames = _as_slice(numbers[places] - tile_time * self._block[0])
            out_frames = _as_slice(places)
            for tile_row, inside_rows, out_rows in row_spans:
                start = self._first + (tile_time * self._down + tile_row) * self._across
                for tile_col, inside_cols, out_cols in col_spans:
                    part = self.load_tile(start + tile_col)[inside_frames, inside_rows, inside_cols]
                    out[out_frames, out_rows, out_cols] = part if picks is None else part[..., picks]


def _tile_spans(axis: range, extent: int) -> list[tuple[int, slice, slice]]:
    """As :func:`~ndframes.geometry.tiling.tile_spans`, for any step."""
    spans = []
    done = 0
    for index, some in tile_ranges(axis, extent):
        origin = index * extent
        inside = to_slice(range(some.start - origin, some.stop - origin, some.step))
        spans.append((index, inside, slice(done, done + len(some))))
        done += len(some)
    return spans


def _as_slice(numbers: Array) -> Any:
    """Turn consecutive numbers into a slice: numpy copies by a slice faster than by a list."""
    if len(numbers) == 1 or (np.diff(numbers) == 1).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers
