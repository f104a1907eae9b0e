"""JPEG for tiles, with restarts within each row of blocks, so that any window decodes without the rest.

A JPEG is decoded from its beginning on, since each block builds upon the one before. A restart marker ends that: what lies
between two of them can be taken out, and put together with others behind a head that says another size. So the part of
all tiles that a crop touches is made one JPEG, and decoded at once. Every decoder reads the tiles as they are.
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

__all__ = ["JpegGrids", "decode_jpeg", "encode_jpeg_tile"]
imagecodecs = load_extensions("_jpeg8")
_BLOCK_PX = 8
_MOST_BLOCKS = 4  # from a restart to the next: 32 pixels, for four per cent of the bytes
_WORTH_SPARING = 1 / 8  # of a tile: to take the others out of it has its price
_START_OF_FRAME, _RESTART_INTERVAL, _START_OF_SCAN = 0xC0, 0xDD, 0xDA
_RESTARTS = tuple(bytes([0xFF, 0xD0 + number]) for number in range(8))  # they are counted off
_ANY_RESTART = re.compile(b"\xff[\xd0-\xd7]")
_END = b"\xff\xd9"


def encode_jpeg_tile(tile: Array, quality: int) -> bytes:
    """Encode a tile ``(h, w, bands)``, uint8, of one or three bands; its edges are multiples of 8 pixels.

    Colour has full resolution: libraries that have to spread a coarser one do it in ways that differ by up to 20.
    """
    with IMPORTING:
        import cv2

    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, math.gcd(tile.shape[1] // _BLOCK_PX, _MOST_BLOCKS)),
    ]
    ordered = cv2.cvtColor(tile, cv2.COLOR_RGB2BGR) if tile.shape[2] == 3 else tile
    is_written, data = cv2.imencode(".jpg", ordered, options)
    if not is_written:
        raise ValueError(f"opencv encodes no JPEG of a tile {tile.shape} {tile.dtype}")
    encoded: bytes = data.tobytes()
    return encoded


def decode_jpeg(data: Any) -> Array:
    """Decode a whole tile ``(h, w, bands)``."""
    pixels: Array = imagecodecs.jpeg8_decode(data)
    return pixels.reshape(*pixels.shape[:2], -1)  # of one band it comes without that axis


class JpegGrids:
    """Decodes windows of neighbouring tiles, for any number of threads."""

    def __init__(self) -> None:
        self._head = _NO_HEAD

    def __call__(self, grid: Sequence[Sequence[bytes]], rows: slice, cols: slice) -> Array:
        """Decode the pixels at ``rows`` x ``cols`` of tiles of one size, which are given row by row.

        Returns:
            Those pixels ``(h, w, bands)``. Where tiles have no restarts, they were decoded whole for it.
        """
        head = self._head
        if not head.leads(grid):
            head = self._head = _Head.parse(grid[0][0])  # it is the same in all tiles of a file
            if not head.leads(grid):
                return _decode_whole(grid, rows, cols)
        unit_px = head.interval * _BLOCK_PX
        down = range(rows.start // _BLOCK_PX, -(-rows.stop // _BLOCK_PX))
        across = range(cols.start // unit_px, -(-cols.stop // unit_px))
        units = len(down) * len(across)
        is_alone = len(grid) == len(grid[0]) == 1
        if is_alone and units > (1 - _WORTH_SPARING) * math.prod(head.units):
            return _decode_whole(grid, rows, cols)
        pieces = _take(head, grid, down, across)
        if len(pieces) != units:
            return _decode_whole(grid, rows, cols)
        stream: list[bytes] = [b""] * (2 * units)
        stream[::2] = pieces
        stream[1::2] = (_RESTARTS * (units // 8 + 1))[:units]
        stream[-1] = _END
        pixels = decode_jpeg(head.resize(len(down) * _BLOCK_PX, len(across) * unit_px) + b"".join(stream))
        top, left = rows.start - down.start * _BLOCK_PX, cols.start - across.start * unit_px
        return pixels[top : top + rows.stop - rows.start, left : left + cols.stop - cols.start]


class _Head(NamedTuple):
    """What lies before the pixels of a JPEG.

    Attributes:
        data: its bytes.
        height: of the picture.
        width: likewise.
        size_at: where these are said.
        interval: from a restart to the next, in blocks; 0 if there are none, or not at the end of each row of blocks.
    """

    data: bytes
    height: int
    width: int
    size_at: int
    interval: int

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        """The head of a JPEG; what is none is left to the decoder."""
        place = 2
        size_at = height = width = interval = 0
        while data[place : place + 1] == b"\xff":
            marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
            if marker == _START_OF_FRAME:
                size_at = place + 5
                height, width = (int.from_bytes(data[at : at + 2], "big") for at in (size_at, size_at + 2))
            elif marker == _RESTART_INTERVAL:
                interval = int.from_bytes(data[place + 4 : place + 6], "big")
            place += 2 + size
            if marker == _START_OF_SCAN:
                break
        is_regular = interval and height and not height % _BLOCK_PX and not width % (interval * _BLOCK_PX)
        return cls(bytes(data[:place]), height, width, size_at, interval if is_regular else 0)

    @property
    def units(self) -> tuple[int, int]:
        """How many rows of blocks there are, and in each of them pieces from a restart to the next."""
        return self.height // _BLOCK_PX, self.width // (self.interval * _BLOCK_PX)

    def leads(self, grid: Sequence[Sequence[bytes]]) -> bool:
        """Whether it is the head of all tiles, and their restarts are where they can be used."""
        return self.interval > 0 and all(bytes(data[: len(self.data)]) == self.data for tiles in grid for data in tiles)

    def resize(self, height: int, width: int) -> bytes:
        """The head of a picture of another size."""
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        return self.data[: self.size_at] + size + self.data[self.size_at + 4 :]


_NO_HEAD = _Head(b"", 0, 0, 0, 0)


def _decode_whole(grid: Sequence[Sequence[bytes]], rows: slice, cols: slice) -> Array:
    if len(grid) == len(grid[0]) == 1:
        return decode_jpeg(grid[0][0])[rows, cols]
    lines = [np.concatenate([decode_jpeg(data) for data in tiles], axis=1) for tiles in grid]
    return np.concatenate(lines)[rows, cols]


def _take(head: _Head, grid: Sequence[Sequence[bytes]], down: range, across: range) -> list[bytes]:
    """What lies between two restarts each, row after row; too few, where the tiles do not have all of their restarts."""
    rows_per_tile, units_per_row = head.units
    pieces = []
    for number, tiles in enumerate(grid):
        parts = []
        for column, data in enumerate(tiles):
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
