"""Trailer: checksums and metadata behind the pixels of an entry, in the same file.

Readers of TIFF and ``.npy`` ignore bytes behind the data to which the format's own tables point. So an entry is one file,
published atomically, without a sidecar that could disagree with it::

    payload     the COG or .npy, as any tool reads it
    segments    16 bytes each: offset, length and CRC-32 of a piece of the payload
    blocks      4 bytes each: the CRC-32 of every 4,096 bytes of that table, so that a crop reads only its part of it
    meta        JSON: the fields of the key, the source's state, shape, dtype, layout, versions, time
    tail        64 bytes: sizes and offsets of the above, and their checksums

Checksums cover every byte of the file; the last one covers the tail.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import CacheEntryDamagedError, CacheEntryError
from ..system.segments import SEGMENT_DTYPE, checksum, fetch_ahead, read_intact
from .failures import AsCacheErrors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._typing import Array
    from ..system.files import FileSystem, OpenFile
    from ..system.stamp import SourceStamp
    from .keys import EntryKey

__all__ = [
    "TAIL_BYTES",
    "SegmentTable",
    "Trailer",
    "append_trailer",
    "check_cover",
    "open_trailer",
    "read_trailer",
    "read_trailer_of",
]
TAIL_BYTES = 64
_TAIL = struct.Struct("<8sIIQQQQIIII")
_MAGIC = b"ndframes"
_VERSION = 2
_BLOCK_BYTES = 4096
_ROW = struct.Struct("<QII")
_ROWS_PER_BLOCK = _BLOCK_BYTES // _ROW.size


class _Tail(NamedTuple):
    """The last 64 bytes of an entry."""

    magic: bytes
    version: int
    segment_count: int
    payload_bytes: int
    segments_offset: int
    meta_offset: int
    total_bytes: int
    segments_crc: int
    meta_crc: int
    blocks_crc: int
    crc: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """The trailer of one entry, compared with its checksums.

    Attributes:
        path: the entry.
        payload_bytes: the length of the COG or ``.npy``.
        total_bytes: the length of the file.
        segment_count: the number of segments of the payload.
        meta: the metadata of the entry.
    """

    path: str
    payload_bytes: int
    total_bytes: int
    segment_count: int
    meta: Mapping[str, Any]
    _segments_crc: int
    _blocks_crc: int
    # The table of segments and the checksums of its blocks, if they came with the metadata.
    _table: bytes

    @property
    def fingerprint(self) -> tuple[int, int, int]:
        """Numbers that differ for entries of one key with other bytes: its length, and the checksums of its tables."""
        return self.total_bytes, self._segments_crc, self._blocks_crc

    def load_segments(self, file: OpenFile) -> Array:
        """Read the whole table of segments, an array of :data:`~ndframes.system.segments.SEGMENT_DTYPE`.

        Raises:
            CacheEntryDamagedError: it does not match its checksum.
        """
        table_bytes, blocks_bytes = self._table_bytes
        table = self._load_table(file, 0, table_bytes, self._segments_crc)
        self._load_table(file, table_bytes, blocks_bytes, self._blocks_crc)
        return np.frombuffer(table, SEGMENT_DTYPE)

    def load_block(self, file: OpenFile, number: int, crc32: int) -> bytes:
        """Read a block of that table: 4,096 bytes, the last one fewer.

        Args:
            file: the open entry.
            number: the block's number.
            crc32: its checksum.

        Raises:
            CacheEntryDamagedError: it does not match its checksum.
        """
        offset, length = self.block_place(number)
        return self._load_table(file, offset - self.payload_bytes, length, crc32)

    def block_place(self, number: int) -> tuple[int, int]:
        """The offset of a block of that table in the file, and its length."""
        start = number * _BLOCK_BYTES
        return self.payload_bytes + start, min(_BLOCK_BYTES, self._table_bytes[0] - start)

    def load_block_checksums(self, file: OpenFile) -> tuple[int, ...]:
        """Read the checksums of all blocks.

        Raises:
            CacheEntryDamagedError: they do not match their own checksum.
        """
        table_bytes, blocks_bytes = self._table_bytes
        data = self._load_table(file, table_bytes, blocks_bytes, self._blocks_crc)
        return struct.unpack(f"<{blocks_bytes // 4}I", data)

    @property
    def table_bytes(self) -> int:
        """The length of the table of segments."""
        return self._table_bytes[0]

    @property
    def _table_bytes(self) -> tuple[int, int]:
        """The lengths in bytes of the table of segments, and of the checksums of its blocks."""
        table_bytes = self.segment_count * SEGMENT_DTYPE.itemsize
        return table_bytes, 4 * -(-table_bytes // _BLOCK_BYTES)

    def _load_table(self, file: OpenFile, start: int, length: int, crc32: int) -> bytes:
        """Some bytes of the tables, which came with the metadata, or are read now."""
        known = self._table[start : start + length]
        if len(known) == length and checksum(known) == crc32:
            return known
        data: bytes | None = read_intact(file, self.payload_bytes + start, length, crc32)
        if data is None:
            raise CacheEntryDamagedError(f"{self.path}: its table of checksums is damaged")
        return data

    def check_segment(self, file: OpenFile, segment: Any, index: int) -> None:
        """Read one segment, and compare it with its checksum.

        Raises:
            CacheEntryDamagedError: they do not match.
        """
        offset, length = int(segment["offset"]), int(segment["length"])
        if read_intact(file, offset, length, int(segment["crc32"])) is None:
            raise self.segment_error(index, offset, length)

    def segment_error(self, index: int, offset: int, length: int) -> CacheEntryDamagedError:
        """The error for a segment that does not match its checksum."""
        return CacheEntryDamagedError(
            f"{self.path}: segment {index:,} ({length:,} bytes at {offset:,}) is not what was written"
        )

    def check_everything(self, file: OpenFile) -> None:
        """Read the whole payload, and compare every segment with its checksum.

        Raises:
            CacheEntryDamagedError: a segment does not match.
        """
        segments = self.load_segments(file)
        check_cover(self.path, segments, self.payload_bytes)
        for index, segment in enumerate(segments):
            self.check_segment(file, segment, index)


class SegmentTable:
    """An entry's table of segments; each block is read and checked when it is first needed.

    Args:
        trailer: the entry's trailer.
    """

    def __init__(self, trailer: Trailer) -> None:
        self._trailer = trailer
        self._checksums: tuple[int, ...] | None = None
        self._blocks: dict[int, bytes] = {}

    def row(self, file: OpenFile, index: int) -> tuple[int, int, int]:
        """The offset of a segment, its length in bytes, and its CRC-32.

        Args:
            file: the open entry.
            index: the segment's number.

        Raises:
            CacheEntryDamagedError: the block of the table does not match its checksum.
        """
        number, place = divmod(index, _ROWS_PER_BLOCK)
        block = self._blocks.get(number)
        if block is None:  # two threads may load it at once: both get the same bytes, and a lock would cost every tile
            block = self._blocks[number] = self._load(file, number)
        return _ROW.unpack_from(block, place * _ROW.size)

    def rows(self, file: OpenFile, run: range) -> list[tuple[int, int, int]]:
        """As :meth:`row`, for consecutive segments."""
        number, place = divmod(run.start, _ROWS_PER_BLOCK)
        block = self._blocks.get(number)
        # Nearly every run lies in one block, and is then unpacked at once.
        if block is None or place + len(run) > _ROWS_PER_BLOCK:
            return [self.row(file, index) for index in run]
        return list(_ROW.iter_unpack(block[place * _ROW.size : (place + len(run)) * _ROW.size]))

    def load(self, file: OpenFile, indices: Iterable[int]) -> None:
        """Load the blocks of these segments, which are fetched at the same time where each read waits for a network.

        Args:
            file: the open entry.
            indices: the segments' numbers.

        Raises:
            CacheEntryDamagedError: a block does not match its checksum.
        """
        missing = {index // _ROWS_PER_BLOCK for index in indices} - self._blocks.keys()
        if len(missing) > 1 and file.is_distant:
            checksums = self._load_checksums(file)
            fetch_ahead(file, [(*self._trailer.block_place(number), checksums[number]) for number in sorted(missing)])
        for number in missing:
            self._blocks[number] = self._load(file, number)

    def _load(self, file: OpenFile, number: int) -> bytes:
        return self._trailer.load_block(file, number, self._load_checksums(file)[number])

    def _load_checksums(self, file: OpenFile) -> tuple[int, ...]:
        if self._checksums is None:
            self._checksums = self._trailer.load_block_checksums(file)
        return self._checksums


def append_trailer(file: IO[bytes], segments: Array, meta: Mapping[str, Any]) -> None:
    """Write the trailer of a payload that ``file`` contains; the file's position is the payload's end.

    Raises:
        CacheEntryDamagedError: the segments do not cover the payload.
    """
    payload_bytes = file.tell()
    check_cover(str(file.name), segments, payload_bytes)
    table = segments.astype(SEGMENT_DTYPE).tobytes()
    parts = [checksum(table[start : start + _BLOCK_BYTES]) for start in range(0, len(table), _BLOCK_BYTES)]
    blocks = struct.pack(f"<{len(parts)}I", *parts)
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    meta_offset = payload_bytes + len(table) + len(blocks)
    head = _TAIL.pack(
        _MAGIC, _VERSION, len(segments), payload_bytes, payload_bytes, meta_offset,
        meta_offset + len(text) + TAIL_BYTES, checksum(table), checksum(text), checksum(blocks), 0,
    )[:-4]  # fmt: skip
    file.write(table + blocks + text + head + struct.pack("<I", checksum(head)))


def read_trailer(path: str, file: OpenFile) -> Trailer:
    """Read and check the trailer of an open entry, usually by one small read of the file's end.

    Args:
        path: the entry, for error messages.
        file: the open entry.

    Raises:
        CacheEntryDamagedError: the file has no trailer, or the trailer does not match its checksums.
        CacheEntryError: a newer version wrote the entry.
    """
    file_bytes = file.status.size_bytes
    # The metadata of most entries is shorter than this, and so is the table of small images with it. One request brings
    # all of it, which on a network halves the time.
    last = min(file_bytes, file.tail_bytes)
    origin = file_bytes - last
    data = file.read_at(origin, last)
    tail = _check_tail(path, data[-TAIL_BYTES:], file_bytes)
    meta_bytes = file_bytes - TAIL_BYTES - tail.meta_offset
    if meta_bytes + TAIL_BYTES > last:
        text = file.read_at(tail.meta_offset, meta_bytes)
    else:
        text = data[last - TAIL_BYTES - meta_bytes : last - TAIL_BYTES]
    if len(text) != meta_bytes or checksum(text) != tail.meta_crc:
        raise CacheEntryDamagedError(f"{path}: its description is damaged")
    return Trailer(
        path,
        tail.payload_bytes,
        tail.total_bytes,
        tail.segment_count,
        json.loads(str(text, "ascii")),
        tail.segments_crc,
        tail.blocks_crc,
        data[tail.segments_offset - origin : tail.meta_offset - origin] if tail.segments_offset >= origin else b"",
    )


def read_trailer_of(key: EntryKey, path: str, file: OpenFile) -> Trailer:
    """As :func:`read_trailer`, for the file that must be the entry of ``key``.

    Args:
        key: the key of which the file has the name.
        path: the entry, for error messages.
        file: the open entry.

    Raises:
        CacheEntryDamagedError: also if it is not a regular file, or the entry of another key.
        CacheEntryError: a newer version wrote the entry.
    """
    if not file.status.is_file:
        raise CacheEntryDamagedError(f"{path} is not a regular file")
    trailer = read_trailer(path, file)
    try:
        is_of_key = key.is_of(trailer.meta["key"])
    except (KeyError, TypeError) as error:
        raise CacheEntryDamagedError(f"{path}: its description has no valid key") from error
    # A file that was renamed or copied by hand must not serve as the pixels of another source.
    if not is_of_key:
        raise CacheEntryDamagedError(f"{path} holds the entry of another key")
    return trailer


def check_cover(path: str, segments: Array, payload_bytes: int) -> None:
    """Check that the segments cover every byte of the payload exactly once.

    Raises:
        CacheEntryDamagedError: they do not.
    """
    ordered = np.sort(segments, order="offset")
    ends = ordered["offset"] + ordered["length"]
    is_closed = len(ordered) and ordered["offset"][0] == 0 and int(ends[-1]) == payload_bytes
    if not is_closed or not ordered["length"].all() or (ordered["offset"][1:] != ends[:-1]).any():
        raise CacheEntryDamagedError(f"{path}: its segments do not cover its {payload_bytes:,} bytes")


def _check_tail(path: str, data: bytes, file_bytes: int) -> _Tail:
    if len(data) != TAIL_BYTES or data[: len(_MAGIC)] != _MAGIC:
        raise CacheEntryDamagedError(
            f"{path}: its {file_bytes:,} bytes do not end as an entry does; it was cut, or is another kind of file"
        )
    tail = _Tail(*_TAIL.unpack(data))
    # Before the version: a damaged number must not pass for a newer version, whose entries are left alone.
    if checksum(data[:-4]) != tail.crc:
        raise CacheEntryDamagedError(f"{path}: its last {TAIL_BYTES} bytes are damaged")
    if tail.version > _VERSION:
        raise CacheEntryError(f"{path} was written by a newer version of ndframes; it is left alone")
    # Reported as damage, on which readers make the entry again.
    if tail.version < _VERSION:
        raise CacheEntryDamagedError(f"{path} was written by an older version of ndframes; it must be made again")
    if tail.total_bytes != file_bytes:
        raise CacheEntryDamagedError(f"{path} has {file_bytes:,} bytes, but was written with {tail.total_bytes:,}")
    return tail


def open_trailer(path: str, key: EntryKey, files: FileSystem) -> tuple[Trailer, SourceStamp]:
    """Read the trailer of the entry at ``path``, and the stamp of the file.

    Raises:
        CacheEntryGoneError: the entry does not exist.
        CacheEntryDamagedError: the file is damaged, or is not the entry of ``key``.
        CacheEntryError: a newer version wrote the entry.
        CacheError: the file cannot be read.
    """
    with AsCacheErrors(path), files.open_to_read(path) as file:
        return read_trailer_of(key, path, file), file.status.stamp
