"""Segments: consecutive pieces of a written file, each with its checksum."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "CHUNK_BYTES",
    "SEGMENT_DTYPE",
    "Bytes",
    "Manifest",
    "SegmentBuilder",
    "SegmentCopy",
    "checksum",
    "fetch_ahead",
    "read_intact",
]
#: One row a segment: its offset in the file, its length in bytes, and the CRC-32 of its bytes.
SEGMENT_DTYPE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
#: The length of the segments of pixels that are not stored in tiles.
CHUNK_BYTES = 1 << 20
# Of bytes that come damaged, in another way each time.
_MOST_READS = 5


class SegmentCopy(Protocol):
    """Some segments of a distant file, on this machine's disk. Which of them are there is told by their checksums only."""

    def read_at(self, offset: int, length: int) -> bytes:
        """What the copy has at this place: the bytes of a segment, or others, or fewer."""

    def read_known(self, rows: Sequence[tuple[int, int, int]]) -> list[Any] | None:
        """The bytes of segments; ``None`` unless all of them were noted before and are still there.

        Args:
            rows: the place, the length and the checksum of each.
        """

    def is_known(self, offset: int, length: int) -> bool:
        """Whether this segment was noted before."""

    def note(self, offset: int, length: int) -> None:
        """Remember that this segment of the copy matched its checksum."""

    def keep(self, offset: int, data: Any) -> None:
        """Add a segment that matched its checksum. A copy that cannot be written stays as it is."""

    def expect(self, places: Iterable[tuple[int, int]]) -> None:
        """Advise the system to read these places from the disk now."""


class Bytes(Protocol):
    """A file that is read by position; :class:`~ndframes.system.files.OpenFile` is one."""

    is_distant: bool

    @property
    def copy(self) -> SegmentCopy | None:
        """Segments of a distant file on this machine's disk."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``; fewer only where the file ends."""

    def read_again(self, offset: int, length: int) -> bytes:
        """As :meth:`read_at`, but never from what was fetched before."""

    def read_ahead(self, places: Iterable[tuple[int, int]], *, is_batch: bool = False) -> None:
        """Have the bytes of these places fetched now, without waiting for them."""


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

    A distant file is read from its copy on this machine first. What comes over the network is added to the copy. A network may
    damage bytes that are stored well, so those that do not match are fetched again, until the same bytes come twice.

    Args:
        file: the file.
        offset: the place of the segment.
        length: its length in bytes.
        crc32: its checksum.
        compute: :func:`checksum`, or another implementation of it.
    """
    copy = file.copy
    if copy is not None and (data := _read_copy(copy, offset, length, crc32, compute)) is not None:
        return data
    data = file.read_at(offset, length)
    seen: list[bytes] = []
    while len(data) != length or compute(data) != crc32:
        if not file.is_distant or data in seen or len(seen) == _MOST_READS:
            return None
        seen.append(data)
        data = file.read_again(offset, length)
    if copy is not None:
        copy.keep(offset, data)
    return data


def _read_copy(copy: SegmentCopy, offset: int, length: int, crc32: int, compute: Callable[[Any], int]) -> bytes | None:
    """A segment of a copy; ``None`` if it is not there."""
    data = copy.read_at(offset, length)
    if len(data) != length or compute(data) != crc32:
        return None
    copy.note(offset, length)
    return data


def fetch_ahead(
    file: Bytes,
    rows: Sequence[tuple[int, int, int]],
    compute: Callable[[Any], int] = checksum,
    *,
    is_batch: bool = False,
) -> bool:
    """Have segments fetched, without waiting for them, except those in the copy on this machine.

    Args:
        file: the file.
        rows: the place, the length and the checksum of each segment.
        compute: :func:`checksum`, or another implementation of it.
        is_batch: whether what reads them announces them once more before it does.

    Returns:
        Whether any are fetched.
    """
    copy = file.copy
    if copy is not None:
        rows = [row for row in rows if not copy.is_known(row[0], row[1])]
        copy.expect([row[:2] for row in rows])
        rows = [row for row in rows if _read_copy(copy, *row, compute) is None]
    if not rows:
        return False
    file.read_ahead([row[:2] for row in rows], is_batch=is_batch)
    return True


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
