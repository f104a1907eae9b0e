"""JPEG for tiles, with a restart behind each row of blocks, so that some rows decode without the rest.

A JPEG is decoded from its beginning on, since each block builds upon the one before. A restart marker ends that: what lies
between two of them, put behind the header again, is a JPEG of these rows alone. Every decoder reads the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import imagecodecs as _imagecodecs

from .._process import IMPORTING

if TYPE_CHECKING:
    from .reader import Array

__all__ = ["JpegRows", "decode_jpeg", "encode_jpeg_tile"]

imagecodecs: Any = _imagecodecs  # its stubs say less than it takes

_BLOCK_PX = 8
_LEAST_SPARED_ROWS = 2  # of blocks: to take the others out of a tile has its price
_START_OF_FRAME, _RESTART_INTERVAL, _START_OF_SCAN = 0xC0, 0xDD, 0xDA
_RESTARTS = tuple(bytes([0xFF, 0xD0 + number]) for number in range(8))  # they are counted off
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
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, tile.shape[1] // _BLOCK_PX),
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


class JpegRows:
    """Decodes some rows of tiles, for any number of threads."""

    def __init__(self) -> None:
        self._head = _Head(b"", 0, 0)

    def __call__(self, data: Any, first: int, stop: int) -> tuple[Array, int]:
        """Decode the rows from ``first`` to below ``stop``, and what cannot be left out.

        Returns:
            Rows ``(h, w, bands)``, and the number of the first: all of them, where the tile has no restarts.
        """
        data = bytes(data)
        head = self._head
        if not data.startswith(head.data) or not head.data:
            head = self._head = _Head.parse(data)  # it is the same in all tiles of a file
        top, bottom = first // _BLOCK_PX, -(-stop // _BLOCK_PX)
        count = head.height // _BLOCK_PX
        is_worth_it = bottom - top <= count - _LEAST_SPARED_ROWS
        strips = _cut(data, len(head.data), top, bottom, count) if is_worth_it else None
        if strips is None:
            return decode_jpeg(data), 0
        return decode_jpeg(head.resize((bottom - top) * _BLOCK_PX) + strips), top * _BLOCK_PX


class _Head(NamedTuple):
    """What lies before the pixels of a JPEG.

    Attributes:
        data: its bytes.
        height: of the picture; 0 if it has no restart behind each row of blocks.
        height_at: where that is said.
    """

    data: bytes
    height: int
    height_at: int

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        """The head of a JPEG; what is none is left to the decoder."""
        place = 2
        height_at = height = interval = width = 0
        while data[place : place + 1] == b"\xff":
            marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
            if marker == _START_OF_FRAME:
                height_at = place + 5
                height, width = (int.from_bytes(data[at : at + 2], "big") for at in (height_at, height_at + 2))
            elif marker == _RESTART_INTERVAL:
                interval = int.from_bytes(data[place + 4 : place + 6], "big")
            place += 2 + size
            if marker == _START_OF_SCAN:
                break
        is_regular = height % _BLOCK_PX == 0 and interval > 0 and interval * _BLOCK_PX == width
        return cls(data[:place], height if is_regular else 0, height_at)

    def resize(self, height: int) -> bytes:
        """The head of a picture of another height."""
        return self.data[: self.height_at] + height.to_bytes(2, "big") + self.data[self.height_at + 2 :]


def _cut(data: bytes, start: int, first: int, stop: int, count: int) -> bytes | None:
    """Rows of blocks from ``first`` to below ``stop``, with their restarts counted anew; ``None``: they are not there."""
    strips: list[bytes] = []
    for number in range(stop):
        end = data.find(_RESTARTS[number % 8] if number < count - 1 else _END, start)
        if end < 0:
            return None
        if number >= first:
            strips += data[start:end], _RESTARTS[(number - first) % 8]
        start = end + 2
    strips[-1] = _END
    return b"".join(strips)
