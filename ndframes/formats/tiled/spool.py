"""Spools: files in which encoded tiles wait, until it is known where in a TIFF each of them will lie."""

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
#: Makes an unnamed file with room for so many bytes.
ScratchMaker = Callable[[int], IO[bytes]]


class TileSpool:
    """Encoded tiles of one TIFF directory, in the order in which they were made.

    Args:
        file: where they wait.
        tile_count: how many there will be.
    """

    def __init__(self, file: IO[bytes], tile_count: int) -> None:
        self.file = file
        self.offsets = [0] * tile_count
        self.byte_counts = [0] * tile_count
        self.checksums = [0] * tile_count
        self._position = 0

    def append(self, first: int, tiles: Sequence[bytes], checksums: Sequence[int]) -> None:
        """Take tiles that follow each other, from number ``first`` on."""
        for index, (data, crc32) in enumerate(zip(tiles, checksums, strict=True), first):
            self.offsets[index], self.byte_counts[index], self.checksums[index] = self._position, len(data), crc32
            self.file.write(data)
            self._position += len(data)

    def runs(self, order: Iterable[int]) -> Iterator[tuple[int, int]]:
        """The tiles in this order as (offset, length) pieces of the file, neighbours joined."""
        start = length = 0
        for index in order:
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
    """Write a TIFF: its head, then the tiles of its directories, those of the last one first.

    Args:
        file: where to.
        directories: what each says.
        spools: the tiles of each.
        layout: which pixels the tiles hold; see :class:`~ndframes.system.segments.Manifest`.
        big: whether it is BigTIFF.
    """
    head, starts = layout_directories(directories, [spool.byte_counts for spool in spools], big=big)
    file.write(head)
    orders = [directory.file_order for directory in directories]
    for spool, order in zip(reversed(spools), reversed(orders), strict=True):
        spool.file.flush()
        for start, length in spool.runs(order):
            _copy_bytes(spool.file, file, start, length)
    codec = {"compress": directories[0].compress, "predictor": directories[0].predictor}
    return Manifest(_segments(head, starts, spools, orders), {**layout, **codec})


def scratch_beside(file: IO[bytes]) -> ScratchMaker:
    """Makes unnamed files in the folder of ``file``."""
    folder = os.path.dirname(os.path.abspath(file.name))

    def make(room_bytes: int) -> IO[bytes]:
        scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        scratch.truncate(room_bytes)
        return scratch

    return make


def _segments(
    head: bytes, starts: Sequence[int], spools: Sequence[TileSpool], orders: Sequence[Sequence[int]]
) -> np.ndarray[Any, np.dtype[Any]]:
    """The head, then every tile, directory after directory, in each as they lie in the file."""
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
        if not count:  # else we would ask for the rest for ever
            raise OSError(errno.EIO, f"{length:,} bytes that were written to a scratch file are not there")
        target.write(buffer[:count])
        length -= count
