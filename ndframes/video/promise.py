"""What the header of a video file promises: how many frames it has, and how long the file is.

A file whose copy or download ended early opens, and shows the frames that are there. Only its header tells that there were
more.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..text import count_noun
from .index import open_container, pick_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from .index import FrameIndex

__all__ = ["count_promised", "is_cut_off", "warn_if_cut_off"]
_log = logging.getLogger("ndframes")
# Containers whose header holds the duration of a video; of others, FFmpeg estimates it.
_TIMED_FORMATS = frozenset(["mov", "matroska", "flv", "asf"])
_MICROSECONDS = 1_000_000
# If the header tells how many frames there are, a warning needs so many less, and such a part of them.
_FEWEST_LOST = 2
_SMALLEST_LOSS = 0.01
# Codecs put at most so many frames out of order.
_MOST_REORDERED = 16
_MOST_BOXES = 100_000
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def count_promised(container: InputContainer, stream: VideoStream, index: FrameIndex) -> int | None:
    """How many frames the header says that a video shows.

    MP4, AVI and IVF store a count. Matroska, FLV and ASF store a duration, which gives a count if all frames have the same.

    Args:
        container: the opened file.
        stream: the stream that is read.
        index: its frames.

    Returns:
        The count; ``None`` if the header has none, or none that is exact.
    """
    names = set(container.format.name.split(","))
    if "mov" in names:
        # The table of all frames, less the ones that the edit list hides; a fragmented file has no table.
        return sum(not entry.is_discard for entry in stream.index_entries) if stream.frames else None
    if stream.frames:
        return int(stream.frames)
    duration = _find_duration(container, stream, names)
    if duration is None or index.rate is None or not _is_steady(index):
        return None
    count = duration * float(index.rate)
    # A unit of milliseconds rounds a duration by less than this.
    return round(count) if abs(count - round(count)) < 0.1 else None


def _find_duration(container: InputContainer, stream: VideoStream, names: set[str]) -> float | None:
    """How long the video is in seconds, by the header."""
    tag = next((text for name, text in stream.metadata.items() if name.upper().startswith("DURATION")), None)
    if "matroska" in names and tag is not None:
        hours, minutes, seconds = tag.split(":") if tag.count(":") == 2 else ("", "", "")
        try:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    # The duration of the file is that of its longest stream.
    if not names & _TIMED_FORMATS or len(container.streams) > 1 or not container.duration:
        return None
    # FLV counts from time 0, which B-frames put before the first frame.
    start = (container.start_time or 0) if "flv" in names else 0
    return float((container.duration - start) / _MICROSECONDS)


def _is_steady(index: FrameIndex) -> bool:
    """Whether each frame is shown for as long as the rate says, within the precision of the container."""
    if index.rate is None or not index.has_exact_times:
        return False
    step = float(1 / (index.rate * index.time_base))
    times = index.times - index.times[0]
    numbers = np.rint(times / step)
    # B-frames are missing before the last frames of a file that is cut off.
    inner = numbers[:-_MOST_REORDERED]
    return bool(np.abs(times - step * numbers).max() <= 1 and (inner == np.arange(len(inner))).all())


def warn_if_cut_off(path: str, index: FrameIndex) -> None:
    """Say once in the log that a file ends before its header says, if many of its frames are missing.

    Args:
        path: the file.
        index: the frames that are there.
    """
    try:
        size_bytes = os.stat(path).st_size
        is_cut = is_cut_off(path)
    except OSError:  # reading its frames raises an error that says more
        return
    if not is_cut:
        return
    with open_container(path) as container:
        promised = count_promised(container, pick_stream(container, path, index.stream), index)
    if promised is None:
        _warn_once(path, size_bytes, count_noun(len(index), "frame"))
    elif promised - len(index) >= max(_FEWEST_LOST, _SMALLEST_LOSS * promised):
        _warn_once(path, size_bytes, f"{len(index):,} of {promised:,} frames")


@lru_cache(maxsize=1024)
def _warn_once(path: str, size_bytes: int, found: str) -> None:
    _log.warning(
        "%s is truncated: it ends after %s bytes, before its header says, and has %s; copy or download it again",
        path,
        f"{size_bytes:,}",
        found,
    )


def is_cut_off(path: str) -> bool:
    """Whether a file ends before its own structure does: MP4, Matroska, AVI, FLV, ASF and IVF tell, other formats never do.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(64)
        size_bytes = os.fstat(file.fileno()).st_size
        walk = _find_walk(head)
        return walk is not None and walk(file, size_bytes)


def _find_walk(head: bytes) -> Callable[[Any, int], bool] | None:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
        return _is_mp4_cut
    if head[:4] == b"RIFF":
        return _is_riff_cut
    starts = {_EBML: _is_matroska_cut, b"FLV\x01": _is_flv_cut, _ASF[:4]: _is_asf_cut, b"DKIF": _is_ivf_cut}
    return starts.get(head[:4])


def _read(file: Any, place: int, count: int) -> bytes:
    file.seek(place)
    found: bytes = file.read(count)
    return found


def _is_mp4_cut(file: Any, size_bytes: int) -> bool:
    place = 0
    for _ in range(_MOST_BOXES):
        head = _read(file, place, 16)
        if len(head) < 8:
            return bool(head)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:
            return False
        place += size
        if place > size_bytes:
            return True
    return False


def _is_riff_cut(file: Any, size_bytes: int) -> bool:
    """Large AVI files have several parts one behind the other."""
    place = 0
    while (head := _read(file, place, 8))[:4] == b"RIFF":
        size = int.from_bytes(head[4:], "little")
        if not size:  # never finished
            return False
        place += 8 + size + size % 2
    # Some writers leave the last padding byte out.
    return place > size_bytes + 1


def _is_matroska_cut(file: Any, size_bytes: int) -> bool:
    place = 0
    while (head := _read(file, place, 12))[:4] in (_EBML, _SEGMENT) and len(head) == 12:
        # The leading zeros of the first byte tell how many bytes the size has.
        length = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
        if length > 8 or size == (1 << 7 * length) - 1:
            return False
        place += 4 + length + size
    return place > size_bytes


def _is_flv_cut(file: Any, size_bytes: int) -> bool:
    """A whole file ends with the size of its last tag."""
    last = int.from_bytes(_read(file, size_bytes - 4, 4), "big")
    tag = _read(file, max(size_bytes - 4 - last, 0), 4)
    return last < 11 or tag[:1] not in (b"\x08", b"\x09", b"\x12") or int.from_bytes(tag[1:], "big") + 11 != last


def _is_asf_cut(file: Any, size_bytes: int) -> bool:
    header = _read(file, 0, min(size_bytes, 1 << 16))
    place = header.find(_ASF_FILE)
    if place < 0:
        return False
    is_live = bool(header[place + 88 : place + 89] and header[place + 88] & 1)
    return not is_live and int.from_bytes(header[place + 40 : place + 48], "little") > size_bytes


def _is_ivf_cut(file: Any, size_bytes: int) -> bool:
    place = int.from_bytes(_read(file, 6, 2), "little")
    while place < size_bytes:
        head = _read(file, place, 4)
        place += 12 + int.from_bytes(head, "little")
    return place > size_bytes
