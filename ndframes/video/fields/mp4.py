"""Fragmented MP4 files of fields: where the samples of their fragments are (ISO/IEC 14496-12)."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .places import PLACE, Places, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...system.files import OpenFile

__all__ = ["PICTURE_TRACK", "VALUE_TRACK", "find_fragments", "make_table_box", "read_head", "shift_fragment"]
PICTURE_TRACK, VALUE_TRACK = 1, 2  # in the order in which they were created
_TIME = struct.Struct("<d")
_HEAD_BYTES = 8
# Flags of fragments.
_BASE_OFFSET, _SAMPLE_DESCRIPTION, _DEFAULT_DURATION, _DEFAULT_SIZE = 0x1, 0x2, 0x8, 0x10
_DATA_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800


class _Box(NamedTuple):
    kind: bytes
    start: int
    data: int
    stop: int


def make_table_box(places: Places) -> bytes:
    """The table of frames in a box that players skip."""
    table = write_table(places)
    return struct.pack(">I4s", _HEAD_BYTES + len(table), b"free") + table


def find_fragments(file: OpenFile, known: Places | None = None) -> Places | None:
    """Where the packets of each frame are, from the fragments that are complete; ``None`` if the file is another one.

    Args:
        file: the file, whose status is that of now.
        known: the places that were found when the file was shorter.
    """
    size = file.status.size_bytes
    if file.read_at(4, 4) != b"ftyp":
        return None
    samples: dict[int, list[tuple[int, int]]] = {PICTURE_TRACK: [], VALUE_TRACK: []}
    rows, stop = ([], 0) if known is None else (known.table.tolist(), known.stop)
    pending: dict[int, list[tuple[int, int]]] = {}
    for box in _boxes(file, stop, size):
        if box.kind == b"moof":
            pending = _read_fragment(file.read_at(box.start, box.stop - box.start), box.start, size)
        elif box.kind == b"mdat":
            if not pending:
                return None  # its samples are listed at its begin or end
            for track, found in pending.items():
                samples.setdefault(track, []).extend(found)
            pending = {}
            # Else the file would be continued behind a picture without values.
            if len(samples[PICTURE_TRACK]) == len(samples[VALUE_TRACK]):
                stop = box.stop
        elif box.kind in (b"ftyp", b"moov", b"free") and not samples[PICTURE_TRACK]:
            stop = box.stop
        else:
            # FFmpeg begins an ordinary MOV file with a box of no content.
            if known is None and not samples[PICTURE_TRACK]:
                return None
            break
    pairs = zip(samples[PICTURE_TRACK], samples[VALUE_TRACK], strict=False)
    rows += [(*picture, *_read_values(file, *values)) for picture, values in pairs]
    return Places(np.array(rows, PLACE), stop)


def _read_values(file: OpenFile, start: int, size: int) -> tuple[int, int, float]:
    """Where the values in a packet are, and its time; NaN if the packet is damaged."""
    head = file.read_at(start, min(size, _TIME.size))
    return start + len(head), size - len(head), _TIME.unpack(head)[0] if len(head) == _TIME.size else math.nan


def read_head(file: OpenFile) -> bytes | None:
    """What is before the fragments of a file; ``None`` if the file is another one."""
    for box in _boxes(file, 0, file.status.size_bytes):
        if box.kind == b"moov":
            return file.read_at(0, box.stop)
        if box.kind != b"ftyp":
            break
    return None


def shift_fragment(data: bytes, ticks: Mapping[int, int]) -> bytes:
    """A fragment that begins later; other boxes as they are.

    Args:
        data: a box.
        ticks: by how much, in the units of each track.
    """
    if data[4:8] != b"moof":
        return data
    shifted = bytearray(data)
    for kind, start, stop in _inner(data, _HEAD_BYTES, struct.unpack_from(">I", data)[0]):
        track = 0
        for part, first, _ in _inner(data, start, stop) if kind == b"traf" else ():
            if part == b"tfhd":
                track, _ = _read_track(data, first)
            elif part == b"tfdt":
                # Version 1 has 8 bytes.
                layout = ">Q" if data[first] else ">I"
                begin = struct.unpack_from(layout, data, first + 4)[0] + ticks.get(track, 0)
                struct.pack_into(layout, shifted, first + 4, begin)
    return bytes(shifted)


def _boxes(file: OpenFile, start: int, stop: int) -> Iterator[_Box]:
    """The boxes between two positions of a file, up to one that is cut off."""
    while start + _HEAD_BYTES <= stop:
        head = file.read_at(start, 16)
        size, kind = struct.unpack_from(">I4s", head)
        data = start + _HEAD_BYTES
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            data += 8
        if start + size > stop or size < data - start:
            return
        yield _Box(kind, start, data, start + size)
        start += size


def _inner(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes inside of a box in memory: kind, begin and end of the data."""
    while start + _HEAD_BYTES <= stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < _HEAD_BYTES:
            return
        yield kind, start + _HEAD_BYTES, start + size
        start += size


def _read_fragment(data: bytes, position: int, file_bytes: int) -> dict[int, list[tuple[int, int]]]:
    """The position and size of each sample, by track; ``data`` is the box of a fragment, which is at ``position``."""
    samples: dict[int, list[tuple[int, int]]] = {}
    try:
        for kind, start, stop in _inner(data, _HEAD_BYTES, len(data)):
            if kind == b"traf":
                track, default_size = 0, 0
                for part, first, _ in _inner(data, start, stop):
                    if part == b"tfhd":
                        track, default_size = _read_track(data, first)
                    elif part == b"trun":
                        samples.setdefault(track, []).extend(_read_run(data, first, position, default_size, file_bytes))
    except struct.error:
        return {}  # damaged
    return samples


def _read_track(data: bytes, start: int) -> tuple[int, int]:
    """The number of the track of a fragment, and the size of its samples if they are of one size."""
    flags, track = struct.unpack_from(">II", data, start)
    start += 8
    for flag, size in ((_BASE_OFFSET, 8), (_SAMPLE_DESCRIPTION, 4), (_DEFAULT_DURATION, 4)):
        start += size if flags & flag else 0
    return track, struct.unpack_from(">I", data, start)[0] if flags & _DEFAULT_SIZE else 0


def _read_run(data: bytes, start: int, position: int, default_size: int, file_bytes: int) -> Iterator[tuple[int, int]]:
    """The position and size of each sample of a run, up to one that is outside of the file."""
    flags, count = struct.unpack_from(">II", data, start)
    flags &= 0xFFFFFF
    start += 8
    if flags & _DATA_OFFSET:
        position += struct.unpack_from(">i", data, start)[0]
    start += 4 * (bool(flags & _DATA_OFFSET) + bool(flags & _FIRST_FLAGS))
    for _ in range(count):
        start += 4 * bool(flags & _DURATION)
        size = struct.unpack_from(">I", data, start)[0] if flags & _SIZE else default_size
        start += 4 * (bool(flags & _SIZE) + bool(flags & _FLAGS) + bool(flags & _COMPOSITION))
        if size < 1 or not 0 <= position <= file_bytes - size:
            return
        yield position, size
        position += size
