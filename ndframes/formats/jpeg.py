"""JPEG for tiles, with restarts within each row of blocks, so that any window decodes without the rest.

A JPEG is decoded from its beginning on, since each block builds upon the one before. A restart marker ends that: what lies
between two of them can be taken out, and put together with others behind a head that says another size. So the part of
tiles side by side that a crop touches is made one JPEG, and decoded at once. Every decoder reads the tiles as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import imagecodecs as _imagecodecs
import numpy as np

from .._process import IMPORTING

if TYPE_CHECKING:
    from .reader import Array

__all__ = ["JpegRuns", "decode_jpeg", "encode_jpeg_tile"]

imagecodecs: Any = _imagecodecs  # its stubs say less than it takes

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


class JpegRuns:
    """Decodes windows of tiles that lie side by side, for any number of threads."""

    def __init__(self) -> None:
        self._head = _NO_HEAD

    def __call__(self, tiles: Sequence[bytes], rows: slice, cols: slice) -> Array:
        """Decode the pixels at ``rows`` x ``cols`` of tiles of one size, from left to right.

        Returns:
            Those pixels ``(h, w, bands)``. Where tiles have no restarts, they were decoded whole for it.
        """
        head = self._head
        if not head.leads(tiles):
            head = self._head = _Head.parse(tiles[0])  # it is the same in all tiles of a file
            if not head.leads(tiles):
                return _decode_whole(tiles, rows, cols)
        unit_px = head.interval * _BLOCK_PX
        down = range(rows.start // _BLOCK_PX, -(-rows.stop // _BLOCK_PX))
        across = range(cols.start // unit_px, -(-cols.stop // unit_px))
        units = len(down) * len(across)
        if len(tiles) == 1 and units > (1 - _WORTH_SPARING) * head.height * head.width / (_BLOCK_PX * unit_px):
            return _decode_whole(tiles, rows, cols)
        pieces = _take(head, tiles, down, across)
        if len(pieces) != units:
            return _decode_whole(tiles, rows, cols)
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
        return cls(data[:place], height, width, size_at, interval if is_regular else 0)

    def leads(self, tiles: Sequence[bytes]) -> bool:
        """Whether it is the head of them all, and their restarts are where they can be used."""
        return self.interval > 0 and all(data.startswith(self.data) for data in tiles)

    def resize(self, height: int, width: int) -> bytes:
        """The head of a picture of another size."""
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        return self.data[: self.size_at] + size + self.data[self.size_at + 4 :]


_NO_HEAD = _Head(b"", 0, 0, 0, 0)


def _decode_whole(tiles: Sequence[bytes], rows: slice, cols: slice) -> Array:
    return np.concatenate([decode_jpeg(data) for data in tiles], axis=1)[rows, cols]


def _take(head: _Head, tiles: Sequence[bytes], down: range, across: range) -> list[bytes]:
    """What lies between two restarts each, row after row; too few, where the tiles do not have all of their restarts."""
    per_row = head.width // (head.interval * _BLOCK_PX)
    parts = []
    for number, data in enumerate(tiles):
        cuts = _ANY_RESTART.split(data[len(head.data) : -len(_END)])
        if len(cuts) * _BLOCK_PX != per_row * head.height:
            return []
        parts.append((cuts, max(0, across.start - number * per_row), min(per_row, across.stop - number * per_row)))
    return [
        piece
        for row in range(down.start * per_row, down.stop * per_row, per_row)
        for cuts, first, stop in parts
        for piece in cuts[row + first : row + stop]
    ]
