"""StoredFile: the tiles of a cache entry as they are stored, of an image or a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.upright import UprightReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..entries.opened import OpenedChannel
    from ..entries.reader import EntryReader
    from ..formats.tiled.tile_reader import TileLevel, Tiling

__all__ = ["StoredFile", "find_stored_file"]
# Clients need not accept frames of zstd with larger windows; see RFC 9659.
_MOST_WINDOW_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file whose pixels are stored as tiles.

    Attributes:
        entry: the cache entry.
        tiling: how its tiles become pixels; of a video, those of the first tiles in time.
        tile_frames: the number of frames in a tile of a video; ``None``: an image.
    """

    entry: EntryReader
    tiling: Tiling
    tile_frames: int | None = None

    @property
    def state(self) -> str:
        """A digest of the entry: another one for other bytes."""
        return self.entry.state

    @property
    def tile_shape(self) -> tuple[int, int, int]:
        """``(height, width, bands)`` of every tile, those at the edges included."""
        return *self.tiling.levels[0].tile_shape, self.tiling.band_count

    @property
    def tile_times(self) -> int:
        """The number of tiles that follow each other in time; 1 for an image."""
        return 1 if self.tile_frames is None else -(-(self.entry.frame_count or 0) // self.tile_frames)

    @property
    def tile_bytes(self) -> int:
        """The bytes of the pixels of a tile."""
        return (self.tile_frames or 1) * self.tiling.tile_bytes

    @property
    def is_zstd(self) -> bool:
        """Whether a client that unpacks the stored bytes by zstd has pixels: without a predictor, and not packed to bits."""
        layout = self.entry.trailer.meta["layout"]
        is_plain = layout["predictor"] == "NO" and self.tiling.dtype.kind != "b"
        return layout["compress"] == "ZSTD" and is_plain and self.tile_bytes <= _MOST_WINDOW_BYTES

    @property
    def is_jpeg(self) -> bool:
        """Whether each tile is a JPEG."""
        return bool(self.entry.trailer.meta["layout"]["compress"] == "JPEG")

    @property
    def is_plain(self) -> bool:
        """Whether the stored bytes are pixels."""
        return self.tiling.is_plain

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        frames = {"tile_frames": self.tile_frames, "tile_times": self.tile_times}
        return {
            "state": self.state,
            "dtype": self.tiling.dtype.newbyteorder("<").str,
            "tile_shape": list(self.tile_shape),
            **({} if self.tile_frames is None else frames),
            "is_zstd": self.is_zstd,
            "is_jpeg": self.is_jpeg,
            "levels": [
                {"shape": list(level.shape), "tile_rows": level.down, "tile_cols": level.across}
                for level in self.tiling.levels
            ],
        }

    def load(
        self, level: TileLevel, times: Iterable[int], rows: Iterable[int], cols: Iterable[int], *, as_zstd: bool
    ) -> bytes:
        """The tiles, row by row for each time: as they are stored, or their pixels in little-endian order.

        Raises:
            CacheEntryGoneError, CacheEntryDamagedError: the entry cannot be read any more.
        """
        indices = [
            level.first + time * level.down * level.across + row * level.row_step + col * level.col_step
            for time in times
            for row in rows
            for col in cols
        ]
        stored = self.entry.read_stored(indices)
        return b"".join(stored if as_zstd or self.is_plain else map(self._unpack, stored))

    def join(self, level: TileLevel, rows: range, cols: range) -> bytes | None:
        """Pixels of a level of an image as one JPEG, joined from the stored tiles without decoding them.

        Args:
            level: the resolution.
            rows: of its pixels; the padding of the last tiles counts.
            cols: likewise.

        Returns:
            The JPEG; ``None`` if the file holds other tiles, or they cannot be cut there.

        Raises:
            CacheEntryGoneError, CacheEntryDamagedError: the entry cannot be read any more.
        """
        # Loaded with the entry, not with the server.
        from ..formats.tiled.jpeg import JpegGrids

        grids = self.tiling.decode_grid
        if not isinstance(grids, JpegGrids):
            return None
        (tile_rows, down), (tile_cols, across) = map(_to_tiles, (rows, cols), level.tile_shape)
        stored = self.entry.read_stored(
            [level.first + row * level.row_step + col * level.col_step for row in tile_rows for col in tile_cols]
        )
        if len(stored) == 1 and (len(rows), len(cols)) == level.tile_shape:
            return stored[0]
        count = len(tile_cols)
        grid = [stored[start : start + count] for start in range(0, len(stored), count)]
        return grids.join(grid, down, across)

    def _unpack(self, data: bytes) -> bytes:
        tile = self.tiling.decode(data)
        return np.ascontiguousarray(tile, tile.dtype.newbyteorder("<")).tobytes()


def find_stored_file(opened: OpenedChannel) -> StoredFile | None:
    """The stored tiles of an opened file; ``None`` if it has none as it is read."""
    # Loaded with the entry, not with the server.
    from ..formats.tiled.tile_reader import Tiling

    entry = opened.entry
    if entry is None or isinstance(opened.reader, UprightReader):
        return None
    if entry.tiling is not None:
        return StoredFile(entry, entry.tiling)
    layout, written = entry.trailer.meta["layout"], (entry.dtype, entry.shape[2])
    if "volume" in layout:
        return StoredFile(entry, Tiling.from_volume(layout, *written), int(layout["volume"]["tile_shape"][0]))
    return None


def _to_tiles(pixels: range, extent: int) -> tuple[range, slice]:
    """The tiles that hold some pixels of an axis, and the part of them that these are."""
    first, stop = pixels.start // extent, -(-pixels.stop // extent)
    return range(first, stop), slice(pixels.start - first * extent, pixels.stop - first * extent)
