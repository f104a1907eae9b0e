"""JPEG for tiles, with restart markers inside each row of blocks, so that any window decodes without the rest.

A JPEG is normally decoded from its beginning, since each block refers to the one before. A restart marker ends that: the
segment between two markers decodes on its own. So the segments under a crop, of all tiles that it touches, are joined
behind a head with another size, and decoded as one JPEG. Each tile is a regular JPEG that any decoder reads.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...system.process import IMPORTING
from ..extensions import load_extensions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._typing import Array

__all__ = ["BLOCK_PX", "JpegGrids", "decode_jpeg", "encode_jpeg_tile", "find_segment_px"]
imagecodecs = load_extensions("_jpeg8")
BLOCK_PX = 8
_MOST_BLOCKS = 4  # between two restarts: 32 pixels; the markers cost four per cent of the bytes
_LEAST_SKIPPED = 1 / 8  # of a tile: cutting segments out costs more than decoding fewer than these
_START_OF_FRAME, _RESTART_INTERVAL, _START_OF_SCAN = 0xC0, 0xDD, 0xDA
_RESTARTS = tuple(bytes([0xFF, 0xD0 + number]) for number in range(8))
_ANY_RESTART = re.compile(b"\xff[\xd0-\xd7]")
_END = b"\xff\xd9"


def find_segment_px(width: int) -> int:
    """The columns of pixels from one restart to the next in a tile of this width.

    Example:
        >>> find_segment_px(128), find_segment_px(48)
        (32, 16)
    """
    # A divisor of a row of blocks, so that each row ends with a restart.
    return BLOCK_PX * math.gcd(width // BLOCK_PX, _MOST_BLOCKS)


def encode_jpeg_tile(tile: Array, quality: int) -> bytes:
    """Encode a tile ``(h, w, bands)``, uint8, of one or three bands; its edges are multiples of 8 pixels.

    Colour has full resolution. Libraries upsample a coarser one in different ways, whose results differ by up to 20.
    """
    with IMPORTING:
        # OpenCV, since imagecodecs cannot set the restart interval.
        import cv2

    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, find_segment_px(tile.shape[1]) // BLOCK_PX),
    ]
    ordered = cv2.cvtColor(tile, cv2.COLOR_RGB2BGR) if tile.shape[2] == 3 else tile
    is_written, data = cv2.imencode(".jpg", ordered, options)
    if not is_written:
        raise ValueError(f"opencv does not encode a tile {tile.shape} {tile.dtype} as JPEG")
    encoded: bytes = data.tobytes()
    return encoded


def decode_jpeg(data: Any) -> Array:
    """Decode a whole tile ``(h, w, bands)``."""
    pixels: Array = imagecodecs.jpeg8_decode(data)
    return pixels.reshape(*pixels.shape[:2], -1)  # a gray JPEG comes without the axis of bands


class JpegGrids:
    """Decodes windows of adjacent tiles; any number of threads may call it."""

    def __init__(self) -> None:
        self._head = _NO_HEAD

    def __call__(self, grid: Sequence[Sequence[bytes]], rows: slice, cols: slice) -> Array:
        """Decode the pixels at ``rows`` x ``cols`` of tiles of one size, given row by row.

        Returns:
            The pixels ``(h, w, bands)``. Tiles without restart markers are decoded whole.
        """
        head = self._find_head(grid)
        if head is None:
            return _decode_whole(grid, rows, cols)
        unit_px = head.interval * BLOCK_PX
        down = range(rows.start // BLOCK_PX, -(-rows.stop // BLOCK_PX))
        across = range(cols.start // unit_px, -(-cols.stop // unit_px))
        is_alone = len(grid) == len(grid[0]) == 1
        if is_alone and len(down) * len(across) > (1 - _LEAST_SKIPPED) * math.prod(head.units):
            return _decode_whole(grid, rows, cols)
        joined = _join(head, grid, down, across, (len(down) * BLOCK_PX, len(across) * unit_px))
        if joined is None:
            return _decode_whole(grid, rows, cols)
        pixels = decode_jpeg(joined)
        top, left = rows.start - down.start * BLOCK_PX, cols.start - across.start * unit_px
        return pixels[top : top + rows.stop - rows.start, left : left + cols.stop - cols.start]

    def join(self, grid: Sequence[Sequence[bytes]], rows: slice, cols: slice) -> bytes | None:
        """The pixels at ``rows`` x ``cols`` as one JPEG, whose coded blocks are those of the tiles: nothing is decoded.

        Args:
            grid: tiles of one size, row by row; the window touches each of them.
            rows: of the pixels of all tiles.
            cols: likewise.

        Returns:
            The JPEG; ``None`` if the window does not begin and end with a segment. A row begins with a block of 8 pixels, and
            a column with a restart marker. At the bottom, and by less than 8 pixels at the right, a block may be cut.
        """
        height, width = rows.stop - rows.start, cols.stop - cols.start
        head = self._find_head(grid)
        if head is None:
            return None
        unit_px = head.interval * BLOCK_PX
        blocks = -(-width // BLOCK_PX)
        if rows.start % BLOCK_PX or cols.start % unit_px or blocks % head.interval:
            return None
        down = range(rows.start // BLOCK_PX, -(-rows.stop // BLOCK_PX))
        across = range(cols.start // unit_px, cols.start // unit_px + blocks // head.interval)
        return _join(head, grid, down, across, (height, width))

    def _find_head(self, grid: Sequence[Sequence[bytes]]) -> _Head | None:
        """The head of all tiles; ``None`` if they differ, or have no restart markers."""
        # A race between threads is harmless: each one continues with its own copy, and any of them may stay.
        head = self._head
        if not head.leads(grid):
            head = self._head = _Head.parse(grid[0][0])  # all tiles of a file have the same head
        return head if head.leads(grid) else None


class _Head(NamedTuple):
    """The part of a JPEG before its pixels.

    Attributes:
        data: the bytes.
        height: the height of the picture in pixels.
        width: the width of the picture in pixels.
        size_at: the position of height and width in ``data``.
        interval: the number of blocks from a restart marker to the next; 0 if there are none, or a row of blocks does not
            end with one.
    """

    data: bytes
    height: int
    width: int
    size_at: int
    interval: int

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        """Parse the head of a JPEG. Anything else gives ``interval=0``, so that the decoder gets it and raises."""
        place = 2
        size_at = height = width = interval = 0
        while data[place : place + 1] == b"\xff":
            marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
            # Baseline JPEG only. Others (progressive) keep a height of 0, so they are decoded whole.
            if marker == _START_OF_FRAME:
                size_at = place + 5
                height, width = (int.from_bytes(data[at : at + 2], "big") for at in (size_at, size_at + 2))
            elif marker == _RESTART_INTERVAL:
                interval = int.from_bytes(data[place + 4 : place + 6], "big")
            place += 2 + size
            if marker == _START_OF_SCAN:
                break
        is_regular = interval and height and not height % BLOCK_PX and not width % (interval * BLOCK_PX)
        return cls(bytes(data[:place]), height, width, size_at, interval if is_regular else 0)

    @property
    def units(self) -> tuple[int, int]:
        """The number of rows of blocks, and the number of restart segments in each."""
        return self.height // BLOCK_PX, self.width // (self.interval * BLOCK_PX)

    def leads(self, grid: Sequence[Sequence[bytes]]) -> bool:
        """Whether all tiles begin with this head, and it allows cutting."""
        return self.interval > 0 and all(bytes(data[: len(self.data)]) == self.data for tiles in grid for data in tiles)

    def resize(self, height: int, width: int) -> bytes:
        """The bytes of this head for a picture of another size."""
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        return self.data[: self.size_at] + size + self.data[self.size_at + 4 :]


_NO_HEAD = _Head(b"", 0, 0, 0, 0)


def _join(
    head: _Head, grid: Sequence[Sequence[bytes]], down: range, across: range, shape: tuple[int, int]
) -> bytes | None:
    """A JPEG of these rows of blocks and columns of segments; ``None`` if a tile lacks restart markers.

    Args:
        head: of the tiles.
        grid: the tiles, row by row.
        down: the rows of blocks.
        across: the columns of segments.
        shape: ``(height, width)`` of the picture, which may cut the last blocks.
    """
    units = len(down) * len(across)
    pieces = _cut_segments(head, grid, down, across)
    if len(pieces) != units:
        return None
    # Markers are numbered 0 to 7 in turn: segments get the numbers of their new places.
    stream: list[bytes] = [b""] * (2 * units)
    stream[::2] = pieces
    stream[1::2] = (_RESTARTS * (units // 8 + 1))[:units]
    stream[-1] = _END
    return head.resize(*shape) + b"".join(stream)


def _decode_whole(grid: Sequence[Sequence[bytes]], rows: slice, cols: slice) -> Array:
    if len(grid) == len(grid[0]) == 1:
        return decode_jpeg(grid[0][0])[rows, cols]
    lines = [np.concatenate([decode_jpeg(data) for data in tiles], axis=1) for tiles in grid]
    return np.concatenate(lines)[rows, cols]


def _cut_segments(head: _Head, grid: Sequence[Sequence[bytes]], down: range, across: range) -> list[bytes]:
    """The restart segments of these rows of blocks and these columns, row by row; none if a tile lacks restart markers."""
    rows_per_tile, units_per_row = head.units
    pieces = []
    for number, tiles in enumerate(grid):
        parts = []
        for column, data in enumerate(tiles):
            # A byte 0xFF in the coded pixels is followed by a stuffed 0, so these two bytes are always a marker.
            cuts = _ANY_RESTART.split(data[len(head.data) : -len(_END)])
            if len(cuts) != units_per_row * rows_per_tile:
                return []
            first, stop = (
                min(max(0, end - column * units_per_row), units_per_row) for end in (across.start, across.stop)
            )
            parts.append((cuts, first, stop))
        top = number * rows_per_tile
        for row in range(max(0, down.start - top), min(rows_per_tile, down.stop - top)):
            place = row * units_per_row
            for cuts, first, stop in parts:
                pieces += cuts[place + first : place + stop]
    return pieces
