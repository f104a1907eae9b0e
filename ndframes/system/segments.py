"""Segments: consecutive pieces of a written file, each with its checksum."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHUNK_BYTES", "SEGMENT_DTYPE", "Bytes", "Manifest", "SegmentBuilder", "checksum", "read_intact"]
#: One row a segment: its offset in the file, its length in bytes, and the CRC-32 of its bytes.
SEGMENT_DTYPE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
#: The length of the segments of pixels that are not stored in tiles.
CHUNK_BYTES = 1 << 20


class Bytes(Protocol):
    """A file that is read by position; :class:`~ndframes.system.files.OpenFile` is one."""

    is_distant: bool

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer only where the file ends."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The segments of a file, and which pixels each of them holds; a writer returns it.

    Attributes:
        segments: array of :data:`SEGMENT_DTYPE`: the head of the file first, then its pixels. The segments cover every byte
            exactly once.
        layout: plain data that maps segments to pixels. For tiles: ``{"levels": [{"shape": [h, w], "tile_extent": edge,
            "first_segment": index}, ...], "compress": codec, "predictor": predictor}``, with tiles in row-major order, or
            in column-major order if ``"tile_order"`` is ``"columns"``; ``"halving"`` is the rule by which each level was
            averaged from the one above it. For an array:
            ``{"data_offset": bytes, "chunk_bytes": bytes}``.
    """

    segments: np.ndarray[Any, np.dtype[Any]]
    layout: Mapping[str, Any]


def checksum(data: Any, start: int = 0) -> int:
    """CRC-32 of bytes that follow bytes with the checksum ``start``.

    CRC-32 detects every burst error of up to 32 bits, and all but one in four billion of the others. It does not detect
    forgery, so a cache must not lie in a folder that strangers can write to.

    Example:
        >>> checksum(b"pixels") == checksum(b"els", checksum(b"pix"))
        True
    """
    return zlib.crc32(data, start)


def read_intact(file: Bytes, offset: int, length: int, crc32: int, compute: Callable[[Any], int] = checksum) -> Any:
    """Read a segment; ``None`` if its bytes do not match its checksum.

    A network may damage bytes that are stored well, so distant bytes that do not match are read once more.

    Args:
        file: the file.
        offset: the place of the segment.
        length: its length in bytes.
        crc32: its checksum.
        compute: :func:`checksum`, or another implementation of it.
    """
    for _ in range(2 if file.is_distant else 1):
        data = file.read_at(offset, length)
        if len(data) == length and compute(data) == crc32:
            return data
    return None


class SegmentBuilder:
    """Divides a stream of bytes into segments and computes their checksums.

    Args:
        compute_checksum: :func:`checksum`, or another implementation of it.

    Example:
        >>> builder = SegmentBuilder()
        >>> builder.add_segment(b"head")
        >>> builder.add_chunks(bytes(CHUNK_BYTES + 1))
        >>> builder.finish()["length"].tolist()
        [4, 1048576, 1]
    """

    def __init__(self, compute_checksum: Callable[[Any, int], int] = checksum) -> None:
        self._checksum = compute_checksum
        self._rows: list[tuple[int, int, int]] = []
        self._position = 0
        self._open_bytes = 0
        self._open_crc = 0

    def add_segment(self, data: Any) -> None:
        """Add ``data`` as one segment."""
        length = memoryview(data).nbytes
        self._rows.append((self._position, length, self._checksum(data, 0)))
        self._position += length

    def add_chunks(self, data: Any) -> None:
        """Add ``data`` to a run of bytes that is divided every :data:`CHUNK_BYTES`."""
        # Slices of this view are slices in bytes, whatever the items of data are.
        view = memoryview(data).cast("B")
        while view:
            piece = view[: CHUNK_BYTES - self._open_bytes]
            self._open_crc = self._checksum(piece, self._open_crc)
            self._open_bytes += len(piece)
            view = view[len(piece) :]
            if self._open_bytes == CHUNK_BYTES:
                self._close_chunk()

    def finish(self) -> np.ndarray[Any, np.dtype[Any]]:
        """All segments, as an array of :data:`SEGMENT_DTYPE`."""
        if self._open_bytes:
            self._close_chunk()
        return np.array(self._rows, SEGMENT_DTYPE)

    def _close_chunk(self) -> None:
        self._rows.append((self._position, self._open_bytes, self._open_crc))
        self._position += self._open_bytes
        self._open_bytes = self._open_crc = 0
