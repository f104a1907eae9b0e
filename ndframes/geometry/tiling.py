"""Tile grids: the tiles that a region touches, and the shapes of overviews."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bounding_range", "count_tiles", "count_touched_tiles", "overview_shapes", "tile_ranges", "tile_spans"]


def bounding_range(axis: range) -> range:
    """The smallest range of step 1 that covers ``axis``.

    Example:
        >>> bounding_range(range(9, 0, -4)), bounding_range(range(3, 3))
        (range(1, 10), range(3, 3))
    """
    if not axis:
        return range(axis.start, axis.start)
    if axis.step == 1:
        return axis
    return range(min(axis[0], axis[-1]), max(axis[0], axis[-1]) + 1)


def tile_ranges(axis: range, tile_extent: int) -> list[tuple[int, range]]:
    """Split ``axis`` at the borders of tiles: pairs of tile index and sub-range, in the order of ``axis``.

    Example:
        >>> tile_ranges(range(3, 9), 4)
        [(0, range(3, 4)), (1, range(4, 8)), (2, range(8, 9))]
    """
    pieces = []
    position = 0
    while position < len(axis):
        tile_index = axis[position] // tile_extent
        # An axis that runs backwards leaves a tile at the pixel before its first.
        end = (tile_index + 1) * tile_extent if axis.step > 0 else tile_index * tile_extent - 1
        count = len(range(axis[position], end, axis.step))
        pieces.append((tile_index, axis[position : position + count]))
        position += count
    return pieces


def tile_spans(axis: range, tile_extent: int) -> list[tuple[int, slice, slice]]:
    """The overlaps of ``axis``, of step 1, with tiles: tile index, part of the tile, part of ``axis``.

    Example:
        >>> tile_spans(range(3, 9), 4)
        [(0, slice(3, 4, None), slice(0, 1, None)), (1, slice(0, 4, None), slice(1, 5, None)), (2, slice(0, 1, None), slice(5, 6, None))]
    """
    count = axis.stop - axis.start
    # Plain integers, because every crop calls this function twice.
    index, inside = divmod(axis.start, tile_extent)
    done, room = 0, tile_extent - inside
    spans = []
    while room < count - done:
        spans.append((index, slice(inside, tile_extent), slice(done, done + room)))
        index += 1
        done += room
        inside, room = 0, tile_extent
    spans.append((index, slice(inside, inside + count - done), slice(done, count)))
    return spans


def count_tiles(shape: Sequence[int], tile_shape: Sequence[int]) -> tuple[int, int]:
    """The number of tiles that cover ``shape``, in y and in x.

    Example:
        >>> count_tiles((300, 256), (256, 256))
        (2, 1)
    """
    return -(-shape[0] // tile_shape[0]), -(-shape[1] // tile_shape[1])


def count_touched_tiles(rows: range, cols: range, tile_shape: Sequence[int]) -> int:
    """The number of tiles that hold at least one pixel at ``rows`` x ``cols``.

    Example:
        >>> count_touched_tiles(range(250, 260), range(0, 256), (256, 256))
        2
    """
    return math.prod(
        len(tile_ranges(axis if axis.step > 0 else axis[::-1], extent))
        for axis, extent in zip((rows, cols), tile_shape, strict=True)
    )


def overview_shapes(shape: Sequence[int], tile_extent: int) -> list[tuple[int, int]]:
    """The shapes of the overviews of an image: halved and rounded up until one fits into a tile.

    Example:
        >>> overview_shapes((1000, 600), 256)
        [(500, 300), (250, 150)]
    """
    shapes = []
    height, width = shape[0], shape[1]
    while max(height, width) > tile_extent:
        height, width = -(-height // 2), -(-width // 2)
        shapes.append((height, width))
    return shapes
