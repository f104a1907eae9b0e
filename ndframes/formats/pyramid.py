"""PyramidReader: an image's own pyramid of 2 x 2 means, computed where it is not stored."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..geometry.tiling import tile_ranges
from .reader import Reader
from .tiled.halve import halve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._typing import Array

__all__ = ["PyramidReader"]
# The pixels that are averaged at a time take about this much memory; those of the level above as much, and so on.
_BLOCK_BYTES = 2 * 2**20
# Blocks are not smaller than tiles that are decoded as a whole, unless these take more memory than this.
_TILE_BYTES = 512 * 2**20
_EPSILON = 1e-9


class PyramidReader(Reader):
    """An image with all levels of its own pyramid: each holds the means of 2 x 2 pixels of the level above it.

    A level is a function of the image's pixels only, whichever file they come from. Stored levels are read if our writer
    made them. The others are averaged from the level above, in blocks, so that memory does not grow with the image.

    Args:
        image: reads the image, and the levels that are stored.
    """

    def __init__(self, image: Reader) -> None:
        super().__init__(image.path, replace(image.facts, is_shareable=False))
        self._image = image
        self._is_decoded = image.count_decoded(range(1), range(1)) > 0  # otherwise pixels are copied from memory
        # Down to one pixel. The mean of booleans is no boolean, so they have no further level.
        self._last_level = 0 if image.dtype == bool else (max(image.shape[:2]) - 1).bit_length()

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """``(height, width, bands)`` of a level: halved and rounded up each time."""
        height, width, bands = self.shape
        return -(-height >> level), -(-width >> level), bands

    def level_factors(self, level: int) -> tuple[float, float]:
        """Exact powers of two: the pixels of an odd last row or column extend beyond the image."""
        return 2.0**level, 2.0**level

    def find_level(self, step_y: float, step_x: float) -> int:
        """The coarsest level whose pixels are at most ``step_y`` high and ``step_x`` wide, in pixels of the image."""
        whole_step = int(min(step_y, step_x, 2.0**self._last_level) + _EPSILON)
        return max(0, whole_step.bit_length() - 1)

    def find_stored_level(self, level: int) -> int:
        """The level that is read from the file to get ``level``."""
        return min(level, self._image.own_levels)

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        return [self.level_shape(level)[:2] for level in range(1, self._last_level + 1)]

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        if level <= self._image.own_levels:
            self._image.read_window(rows, cols, bands, out, level)
            return
        height, width, _ = self.level_shape(level - 1)
        for some_rows, some_cols in self._blocks(rows, cols, len(bands), level):
            above_rows = range(2 * some_rows.start, min(2 * some_rows.stop, height))
            above_cols = range(2 * some_cols.start, min(2 * some_cols.stop, width))
            above = np.empty((len(above_rows), len(above_cols), len(bands)), self.dtype)
            self.read_window(above_rows, above_cols, bands, above, level - 1)
            top, left = some_rows.start - rows.start, some_cols.start - cols.start
            target = out[top : top + len(some_rows), left : left + len(some_cols)]
            target[...] = halve(above, (some_rows.start, some_cols.start))

    def _blocks(self, rows: range, cols: range, band_count: int, level: int) -> Iterator[tuple[range, range]]:
        """Cut a window of a level into blocks whose pixels of the level above fit into memory.

        Their extents are powers of two, and they lie at multiples of them. So a block of a level is made of whole blocks of
        the level above, and few tiles are cut.
        """
        block_px = _BLOCK_BYTES // (4 * band_count * self.dtype.itemsize)
        is_in_rows = self.tile_shape[1] >= self.shape[1]
        # Rows that the file stores as a whole are read as a whole.
        extent_y, extent_x = (block_px // len(cols), cols.stop) if is_in_rows else (math.isqrt(block_px),) * 2
        if self._is_decoded and self.block_bytes <= _TILE_BYTES:
            extent_y = max(extent_y, self.tile_shape[0] >> level)
            extent_x = max(extent_x, self.tile_shape[1] >> level)
        for _, some_rows in tile_ranges(rows, _ceil_power(extent_y)):
            for _, some_cols in tile_ranges(cols, _ceil_power(extent_x)):
                yield some_rows, some_cols


def _ceil_power(number: int) -> int:
    """The smallest power of two that is not smaller than ``number``; at least 1."""
    return 1 << max(0, number - 1).bit_length()
