"""TileSpool: a file in which encoded tiles wait until their places in the TIFF are known."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...system.segments import SEGMENT_DTYPE, Manifest
from .codecs import checksum
from .directories import layout_directories

if TYPE_CHECKING:
    from .directories import Directory

__all__ = ["ScratchMaker", "TileSpool", "assemble", "scratch_beside"]
_COPY_BYTES = 2**20
#: Creates an unnamed file of this many bytes.
ScratchMaker = Callable[[int], IO[bytes]]


class TileSpool:
    """The encoded tiles of one TIFF directory, in the order in which they were encoded.

    Args:
        file: the file in which they wait.
        tile_count: the number of tiles of the directory.
    """

    def __init__(self, file: IO[bytes], tile_count: int) -> None:
        self.file = file
        self.offsets = [0] * tile_count
        self.byte_counts = [0] * tile_count
        self.checksums = [0] * tile_count
        self._position = 0

    def append(self, first: int, tiles: Sequence[bytes], checksums: Sequence[int]) -> None:
        """Append consecutive tiles, from number ``first`` on."""
        for index, (data, crc32) in enumerate(zip(tiles, checksums, strict=True), first):
            self.offsets[index], self.byte_counts[index], self.checksums[index] = self._position, len(data), crc32
            self.file.write(data)
            self._position += len(data)

    def runs(self, order: Iterable[int]) -> Iterator[tuple[int, int]]:
        """The (offset, length) pieces of the file that hold the tiles in this order, adjacent tiles joined."""
        start = length = 0
        for index in order:
            # A large image is encoded in columns, so the tiles of one row may be far apart in this file.
            if self.offsets[index] != start + length:
                yield start, length
                start, length = self.offsets[index], 0
            length += self.byte_counts[index]
        yield start, length


def assemble(
    file: IO[bytes],
    directories: Sequence[Directory],
    spools: Sequence[TileSpool],
    layout: Mapping[str, Any],
    *,
    big: bool,
) -> Manifest:
    """Write a TIFF: the head, then the tiles of its directories, those of the last directory first.

    Args:
        file: the file to write to.
        directories: the directories, largest resolution first.
        spools: the tiles of each directory.
        layout: which pixels each tile holds; see :class:`~ndframes.system.segments.Manifest`.
        big: whether to write BigTIFF.
    """
    # Directories first, then the coarsest level: a reader that shows a preview needs the beginning of the file alone.
    head, starts = layout_directories(directories, [spool.byte_counts for spool in spools], big=big)
    file.write(head)
    orders = [directory.file_order for directory in directories]
    # The coarsest level first, as GDAL's rules for COGs demand.
    for spool, order in zip(reversed(spools), reversed(orders), strict=True):
        # The last tiles may still be in the buffer.
        spool.file.flush()
        for start, length in spool.runs(order):
            _copy_bytes(spool.file, file, start, length)
    codec = {"compress": directories[0].compress, "predictor": directories[0].predictor}
    return Manifest(_segments(head, starts, spools, orders), {**layout, **codec})


def scratch_beside(file: IO[bytes]) -> ScratchMaker:
    """Create unnamed files in the folder of ``file``."""
    folder = os.path.dirname(os.path.abspath(file.name))

    def make(room_bytes: int) -> IO[bytes]:
        scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        scratch.truncate(room_bytes)
        return scratch

    return make


def _segments(
    head: bytes, starts: Sequence[int], spools: Sequence[TileSpool], orders: Sequence[Sequence[int]]
) -> np.ndarray[Any, np.dtype[Any]]:
    """The head, then every tile: directory by directory, in each in the order of the file."""
    segments = np.empty(1 + sum(len(spool.offsets) for spool in spools), SEGMENT_DTYPE)
    segments[0] = 0, len(head), checksum(head)
    first = 1
    for spool, start, order in zip(spools, starts, orders, strict=True):
        part = segments[first : first + len(order)]
        part["length"], part["crc32"] = np.take(spool.byte_counts, order), np.take(spool.checksums, order)
        part["offset"] = start + np.cumsum(part["length"], dtype=np.uint64) - part["length"]
        first += len(part)
    return segments


def _copy_bytes(source: IO[bytes], target: IO[bytes], start: int, length: int) -> None:
    source.seek(start)
    buffer = memoryview(bytearray(min(length, _COPY_BYTES)))
    while length:
        count = source.readinto(buffer[:length])  # type: ignore[attr-defined]
        if not count:  # without this check a truncated scratch file would be read for ever
            raise OSError(errno.EIO, f"a scratch file lacks {length:,} bytes that were written to it")
        target.write(buffer[:count])
        length -= count
