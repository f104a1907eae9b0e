"""Matroska files of fields: written frame by frame, appended to in place, and read by position.

FFmpeg's muxer stores no packets of other codecs, rounds times to milliseconds and keeps frames in memory. So the few elements
that a movie needs are written here: each frame is one cluster, in one write, with the time as a subtitle before the picture.
At the end come the positions of the key frames for players, and a table of all frames in an element that players skip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .ebml import UNKNOWN_SIZE, Element, children, element, floating, number, read_element, text
from .places import PLACE, Places, write_table

if TYPE_CHECKING:
    from fractions import Fraction

    from ...system.files import OpenFile

__all__ = [
    "BLOCK_HEAD_BYTES",
    "Layout",
    "find_layout",
    "find_places",
    "finishing",
    "make_cluster",
    "make_head",
    "make_tail",
    "unfinishing",
]
_EBML, _SEGMENT, _SEEK_HEAD, _VOID, _INFO, _TRACKS, _TAGS, _CLUSTER, _CUES = (
    0x1A45DFA3, 0x18538067, 0x114D9B74, 0xEC, 0x1549A966, 0x1654AE6B, 0x1254C367, 0x1F43B675, 0x1C53BB6B,
)  # fmt: skip
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK, _BLOCK_DURATION, _TIME = 0xA3, 0xA0, 0xA1, 0x9B, 0xE7
#: The numbers of the tracks.
PICTURE_TRACK, TIME_TRACK, VALUE_TRACK = 1, 2, 3
_VIDEO, _SUBTITLE = 1, 17
_KEY = 0x80
_SEEK_HEAD_BYTES, _DURATION_BYTES = 64, 11
_ELEMENT_BYTES = 12
_MUXER = 0x4D80
#: What is before the frame in the data of a block: its track, its time, its flags.
BLOCK_HEAD_BYTES = 4
_TIME_PREFIX = b"t = "
_APP = b"ndframes"  # the program that wrote the file, and the library


def make_head(
    *, width: int, height: int, codec_id: str, extradata: bytes, rate: Fraction, comment: str, has_values: bool
) -> bytes:
    """The begin of a file, up to the first cluster."""
    unit = round(10**9 / rate)  # nanoseconds: time stamps are numbers of frames
    ebml = (number(0x4286, 1), number(0x42F7, 1), number(0x42F2, 4), number(0x42F3, 8), text(0x4282, "matroska"),
            number(0x4287, 4), number(0x4285, 2))  # fmt: skip
    # The duration is the last part of the information.
    info = number(0x2AD7B1, unit) + element(_MUXER, _APP) + element(0x5741, _APP) + _void(_DURATION_BYTES)
    picture = element(0xE0, number(0xB0, width) + number(0xBA, height) + number(0x9A, 2))
    tracks = [
        _track(PICTURE_TRACK, _VIDEO, codec_id, number(0x23E383, unit) + picture, extradata, is_default=True),
        _track(TIME_TRACK, _SUBTITLE, "S_TEXT/UTF8", text(0x536E, "time")),
    ]
    if has_values:
        tracks.append(_track(VALUE_TRACK, _SUBTITLE, "S_NDFRAMES", text(0x536E, "values")))
    tag = element(0x7373, element(0x63C0, b"") + element(0x67C8, text(0x45A3, "COMMENT") + text(0x4487, comment)))
    parts = (
        element(_EBML, b"".join(ebml)),
        _SEGMENT.to_bytes(4, "big") + UNKNOWN_SIZE,
        _void(_SEEK_HEAD_BYTES),  # room for the positions of the elements at the end
        element(_INFO, info),
        element(_TRACKS, b"".join(tracks)),
        element(_TAGS, tag),
    )
    return b"".join(parts)


def _track(
    track: int, kind: int, codec_id: str, rest: bytes, extradata: bytes = b"", *, is_default: bool = False
) -> bytes:
    private = element(0x63A2, extradata) if extradata else b""
    flags = number(0x88, is_default) + number(0x9C, 0)  # no lacing: one frame a block
    return element(
        0xAE,
        number(0xD7, track)
        + number(0x73C5, track)
        + number(0x83, kind)
        + flags
        + text(0x86, codec_id)
        + rest
        + private,
    )


def _void(byte_count: int) -> bytes:
    """An element without meaning, of this many bytes."""
    return element(_VOID, bytes(byte_count - 2), size_bytes=1)


class Cluster(NamedTuple):
    """One frame.

    Attributes:
        data: its bytes.
        picture: where the picture begins in them.
        values: where the packed values begin in them; 0 if there are none.
    """

    data: bytes
    picture: int
    values: int


def make_cluster(frame: int, time: float, picture: bytes, values: bytes | None, *, is_key: bool) -> Cluster:
    """One frame."""
    words = _block(TIME_TRACK, 0, _TIME_PREFIX + repr(time).encode())
    parts = [number(_TIME, frame), element(_BLOCK_GROUP, element(_BLOCK, words) + number(_BLOCK_DURATION, 1))]
    if values is not None:
        parts.append(element(_SIMPLE_BLOCK, _block(VALUE_TRACK, _KEY, values)))
    # Last, so that a frame whose picture is complete is complete.
    shown = element(_SIMPLE_BLOCK, _block(PICTURE_TRACK, _KEY if is_key else 0, picture))
    data = element(_CLUSTER, b"".join((*parts, shown)))
    return Cluster(data, len(data) - len(picture), 0 if values is None else len(data) - len(shown) - len(values))


def _block(track: int, flags: int, data: bytes) -> bytes:
    return bytes((0x80 | track, 0, 0, flags)) + data


def make_tail(file: OpenFile, layout: Layout, places: Places) -> bytes:
    """The end of a file: the positions of key frames for players, and the table of all frames."""
    points = []
    start = layout.clusters
    for frame, row in enumerate(places.table.tolist()):
        # The flags are the last byte before a picture, and the picture is the last part of its cluster.
        if file.read_at(row[0] - 1, 1)[0] & _KEY:
            position = number(0xF7, PICTURE_TRACK) + number(0xF1, start - layout.segment)
            points.append(element(0xBB, number(0xB3, frame) + element(0xB7, position)))
        start = row[0] + row[1]
    return element(_CUES, b"".join(points)) + element(_VOID, write_table(places))


def finishing(layout: Layout, frames: int, stop: int, size: int) -> dict[int, bytes]:
    """What changes at the begin of a file when it is finished, by position.

    Args:
        layout: of the file.
        frames: the number of frames.
        stop: the position of :func:`make_tail`.
        size: of the file.
    """
    cues = element(0x4DBB, element(0x53AB, _CUES.to_bytes(4, "big")) + number(0x53AC, stop - layout.segment))
    seek_head = element(_SEEK_HEAD, cues)
    return {
        layout.duration: floating(0x4489, frames),
        layout.segment: seek_head + _void(_SEEK_HEAD_BYTES - len(seek_head)),
        layout.segment - len(UNKNOWN_SIZE): (size - layout.segment | 1 << 56).to_bytes(8, "big"),
    }


def unfinishing(layout: Layout) -> dict[int, bytes]:
    """Undo :func:`finishing`, so that the file may grow."""
    return {
        layout.segment - len(UNKNOWN_SIZE): UNKNOWN_SIZE,
        layout.segment: _void(_SEEK_HEAD_BYTES),
        layout.duration: _void(_DURATION_BYTES),
    }


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a file are.

    Attributes:
        segment: the position of the data of the segment, from which positions are counted.
        duration: the position of the duration, or of the room for it.
        clusters: the position of the first cluster.
    """

    segment: int
    duration: int
    clusters: int


def find_layout(file: OpenFile) -> Layout | None:
    """Find the parts of a file that :func:`make_head` began; ``None`` if it is another file."""
    size = file.status.size_bytes
    start = read_element(file.read_at(0, min(_ELEMENT_BYTES, size)), 0)
    if start is None or start.name != _EBML or start.stop + _ELEMENT_BYTES > size:
        return None
    segment = read_element(file.read_at(start.stop, _ELEMENT_BYTES), start.stop)
    if segment is None or segment.name != _SEGMENT:
        return None
    duration, clusters = 0, 0
    for found in children(file, segment.data, size):
        if found.name == _INFO:
            is_ours = element(_MUXER, _APP) in file.read_at(found.data, found.stop - found.data)
            duration = found.stop - _DURATION_BYTES if is_ours else 0
        if found.name == _CLUSTER:
            break
        clusters = found.stop
    return Layout(segment.data, duration, clusters) if duration else None


def find_places(file: OpenFile, layout: Layout, known: Places | None = None) -> Places:
    """Where the packets of each frame are, from the clusters that are complete.

    Args:
        file: the file, whose status is that of now.
        layout: of the file.
        known: the places that were found when the file was shorter.
    """
    rows, stop = ([], layout.clusters) if known is None else (known.table.tolist(), known.stop)
    for found in children(file, stop, file.status.size_bytes):
        if found.name != _CLUSTER:
            break
        rows.append(_read_cluster(file, found))
        stop = found.stop
    return Places(np.array(rows, PLACE), stop)


def _read_cluster(file: OpenFile, found: Element) -> tuple[int, int, int, int, float]:
    """The row of the frame in a cluster of :func:`make_cluster`."""
    place = {PICTURE_TRACK: (0, 0), VALUE_TRACK: (0, 0)}
    time = math.nan
    for part in children(file, found.data, found.stop):
        if part.name == _SIMPLE_BLOCK and part.stop - part.data > BLOCK_HEAD_BYTES:
            track, start = file.read_at(part.data, 1)[0] & 0x7F, part.data + BLOCK_HEAD_BYTES
            place[track] = (start, part.stop - start)
        elif part.name == _BLOCK_GROUP:
            time = _read_time(file.read_at(part.data, part.stop - part.data))
    return *place[PICTURE_TRACK], *place[VALUE_TRACK], time


def _read_time(block: bytes) -> float:
    """The time in a block of text; NaN if it is damaged, since the values of the frame are still there."""
    start = block.find(_TIME_PREFIX) + len(_TIME_PREFIX)
    stop = block.find(bytes((_BLOCK_DURATION, 0x81)), start)
    try:
        return float(block[start:stop]) if stop > start >= len(_TIME_PREFIX) else math.nan
    except ValueError:
        return math.nan
