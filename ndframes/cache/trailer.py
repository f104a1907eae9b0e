"""Trailer: what stands behind an entry's pixels in the same file, and tells whether they are what was written.

A TIFF or ``.npy`` may be followed by anything: its readers look no further than its own tables. So an entry is one
file, published in one step, and no sidecar can disagree with it::

    payload     the COG or .npy, as any tool reads it
    segments    16 bytes each: where a piece of the payload begins, how long it is, the CRC-32 of its bytes
    meta        JSON: the fields of the key, the source's state, shape, dtype, layout, versions, time
    tail        64 bytes: sizes and places of the above, and their checksums

Every byte of the file is under a checksum, and the last of them under its own.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import CacheEntryDamagedError, CacheEntryError
from ..segments import SEGMENT, checksum
from .keys import EntryKey
from .layout import is_regular

if TYPE_CHECKING:
    from .fs import FileSystem

__all__ = ["TAIL_BYTES", "Trailer", "append_trailer", "check_cover", "read_trailer", "read_trailer_of"]

TAIL_BYTES = 64
_TAIL = struct.Struct("<8sIIQQQQIIII")
_MAGIC = b"ndframes"
_VERSION = 1
_FIRST_READ_BYTES = 8192
_COPY_BYTES = 1 << 20

Array = np.ndarray[Any, np.dtype[Any]]


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
    reserved: int
    crc: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """The trailer of one entry, checked.

    Attributes:
        path: the entry.
        payload_bytes: how long the COG or ``.npy`` in front of it is.
        total_bytes: the length of the file.
        meta: what it says of the entry.
    """

    path: str
    payload_bytes: int
    total_bytes: int
    meta: Mapping[str, Any]
    _segment_count: int
    _segments_crc: int

    def load_segments(self, files: FileSystem, descriptor: int) -> Array:
        """The table of segments, an array of :data:`~ndframes.segments.SEGMENT`.

        Raises:
            CacheEntryDamagedError: it is not what was written.
        """
        length = self._segment_count * SEGMENT.itemsize
        data = files.read_at(descriptor, self.payload_bytes, length)
        if len(data) != length or checksum(data) != self._segments_crc:
            raise CacheEntryDamagedError(f"{self.path}: its table of checksums is damaged")
        return np.frombuffer(data, SEGMENT)

    def check_segment(self, files: FileSystem, descriptor: int, segment: Any, index: int) -> None:
        """Read one segment, and hold it against its checksum.

        Raises:
            CacheEntryDamagedError: it is not what was written.
        """
        offset, length = int(segment["offset"]), int(segment["length"])
        data = files.read_at(descriptor, offset, length)
        if len(data) != length or checksum(data) != int(segment["crc32"]):
            raise CacheEntryDamagedError(
                f"{self.path}: segment {index:,} ({length:,} bytes at {offset:,}) is not what was written"
            )

    def check_everything(self, files: FileSystem, descriptor: int) -> None:
        """Read the whole payload, and hold every segment against its checksum.

        Raises:
            CacheEntryDamagedError: something is not what was written.
        """
        segments = self.load_segments(files, descriptor)
        check_cover(self.path, segments, self.payload_bytes)
        for index, segment in enumerate(segments):
            self.check_segment(files, descriptor, segment, index)


def append_trailer(file: IO[bytes], segments: Array, meta: Mapping[str, Any]) -> None:
    """Write the trailer behind the payload that ``file`` holds, at whose end it stands."""
    payload_bytes = file.tell()
    check_cover(str(file.name), segments, payload_bytes)
    table = segments.astype(SEGMENT).tobytes()
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    meta_offset = payload_bytes + len(table)
    head = _TAIL.pack(
        _MAGIC, _VERSION, len(segments), payload_bytes, payload_bytes, meta_offset,
        meta_offset + len(text) + TAIL_BYTES, checksum(table), checksum(text), 0, 0,
    )[:-4]  # fmt: skip
    file.write(table + text + head + struct.pack("<I", checksum(head)))


def read_trailer(path: str, files: FileSystem, descriptor: int, file_bytes: int) -> Trailer:
    """Read and check the trailer of the open entry at ``path``: one small read of its end, as a rule.

    Raises:
        CacheEntryDamagedError: there is none, or it is not what was written.
        CacheEntryError: it was written by a newer version.
    """
    last = min(file_bytes, _FIRST_READ_BYTES)
    data = files.read_at(descriptor, file_bytes - last, last)
    tail = _check_tail(path, data[-TAIL_BYTES:], file_bytes)
    meta_bytes = file_bytes - TAIL_BYTES - tail.meta_offset
    if meta_bytes + TAIL_BYTES > last:
        text = files.read_at(descriptor, tail.meta_offset, meta_bytes)
    else:
        text = data[last - TAIL_BYTES - meta_bytes : last - TAIL_BYTES]
    if len(text) != meta_bytes or checksum(text) != tail.meta_crc:
        raise CacheEntryDamagedError(f"{path}: its description is damaged")
    return Trailer(
        path, tail.payload_bytes, tail.total_bytes, json.loads(text), tail.segment_count, tail.segments_crc
    )  # fmt: skip


def read_trailer_of(key: EntryKey, path: str, files: FileSystem, descriptor: int, status: os.stat_result) -> Trailer:
    """As :func:`read_trailer`, of what must be the entry of ``key``.

    Args:
        key: what its name says.
        path: where it lies.
        files: the file operations.
        descriptor: the open file.
        status: what the system says of that.

    Raises:
        CacheEntryDamagedError: also where it is no regular file, or the entry of another key.
        CacheEntryError: it was written by a newer version.
    """
    if not is_regular(status):
        raise CacheEntryDamagedError(f"{path} is no regular file")
    trailer = read_trailer(path, files, descriptor, status.st_size)
    try:
        written = EntryKey.from_fields(trailer.meta["key"])
    except (KeyError, TypeError) as error:
        raise CacheEntryDamagedError(f"{path} does not say what it is the entry of") from error
    if written != key:
        raise CacheEntryDamagedError(f"{path} holds the entry of another key")
    return trailer


def check_cover(path: str, segments: Array, payload_bytes: int) -> None:
    """See to it that the segments cover the payload, every byte once.

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
            f"{path}: {file_bytes:,} bytes that do not end as an entry does; it was cut, or is none"
        )
    tail = _Tail(*_TAIL.unpack(data))
    if checksum(data[:-4]) != tail.crc:
        raise CacheEntryDamagedError(f"{path}: its last {TAIL_BYTES} bytes are damaged")
    if tail.version > _VERSION:
        raise CacheEntryError(f"{path} was written by a newer version of ndframes; it is left alone")
    if tail.total_bytes != file_bytes:
        raise CacheEntryDamagedError(f"{path} has {file_bytes:,} bytes, but was written with {tail.total_bytes:,}")
    return tail
