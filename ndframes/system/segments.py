"""Segments: the pieces of a written file, each with its checksum, and which pixels lie in which piece."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHUNK_BYTES", "SEGMENT_DTYPE", "Manifest", "SegmentBuilder", "checksum"]
#: Where a piece begins, how long it is, and the CRC-32 of its bytes.
SEGMENT_DTYPE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
#: Pixels that are not stored in tiles are checked in pieces of this many bytes.
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a writer says of the bytes that it wrote.

    Attributes:
        segments: array of :data:`SEGMENT_DTYPE`: the head of the file first, then its pixels piece by piece; together they
            cover every byte once.
        layout: plain data that says which pixels a segment holds. For tiles: ``{"levels": [{"shape": [h, w],
            "tile_extent": edge, "first_segment": index}, ...], "compress": codec, "predictor": differencing}``, row after
            row of tiles, one behind the other in the file; with ``"tile_order": "columns"`` column after column. For an array:
            ``{"data_offset": bytes, "chunk_bytes": bytes}``.
    """

    segments: np.ndarray[Any, np.dtype[Any]]
    layout: Mapping[str, Any]


def checksum(data: Any, start: int = 0) -> int:
    """CRC-32 of bytes; ``start`` is that of the bytes before them.

    CRC-32 finds every change of up to 32 bits in a row and misses one in four billion of the others. It is no defence
    against somebody who forges entries on purpose: a folder that strangers may write to is no cache.

    Example:
        >>> checksum(b"pixels") == checksum(b"els", checksum(b"pix"))
        True
    """
    return zlib.crc32(data, start)


class SegmentBuilder:
    """Cuts a stream of bytes into a head and chunks, and takes the checksum of each.

    Args:
        take_checksum: :func:`checksum`, or another way to the same result.

    Example:
        >>> builder = SegmentBuilder()
        >>> builder.end_segment(b"head")
        >>> builder.add_chunks(bytes(CHUNK_BYTES + 1))
        >>> builder.finish()["length"].tolist()
        [4, 1048576, 1]
    """

    def __init__(self, take_checksum: Callable[[Any, int], int] = checksum) -> None:
        self._checksum = take_checksum
        self._rows: list[tuple[int, int, int]] = []
        self._position = 0
        self._open_bytes = 0
        self._open_crc = 0

    def end_segment(self, data: Any) -> None:
        """Take ``data`` as one segment of its own."""
        length = memoryview(data).nbytes
        self._rows.append((self._position, length, self._checksum(data, 0)))
        self._position += length

    def add_chunks(self, data: Any) -> None:
        """Take ``data`` as the next bytes of a run that is cut every :data:`CHUNK_BYTES`."""
        view = memoryview(data).cast("B")
        while view:
            piece = view[: CHUNK_BYTES - self._open_bytes]
            self._open_crc = self._checksum(piece, self._open_crc)
            self._open_bytes += len(piece)
            view = view[len(piece) :]
            if self._open_bytes == CHUNK_BYTES:
                self._close_chunk()

    def finish(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Every segment so far."""
        if self._open_bytes:
            self._close_chunk()
        return np.array(self._rows, SEGMENT_DTYPE)

    def _close_chunk(self) -> None:
        self._rows.append((self._position, self._open_bytes, self._open_crc))
        self._position += self._open_bytes
        self._open_bytes = self._open_crc = 0
