"""Checksums of the pieces of a file, held against what it gives back."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

import numpy as np

from ...errors import CacheEntryDamagedError
from .codecs import checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._typing import Array

__all__ = ["check_segments"]
_READ_BYTES = 2**20


def check_segments(file: IO[bytes], segments: Array, threads: int) -> None:
    """Read back every segment of a flushed file, several at a time: what reached the file is what was meant.

    Raises:
        CacheEntryDamagedError: it is not.
    """
    descriptor = file.fileno()

    def check(run: Array) -> None:
        first = int(run["offset"][0])
        data = memoryview(os.pread(descriptor, int(run["offset"][-1]) + int(run["length"][-1]) - first, first))
        for offset, length, crc32 in run.tolist():
            if checksum(data[offset - first : offset - first + length]) != crc32:
                raise CacheEntryDamagedError(
                    f"{file.name}: {length:,} bytes at {offset:,} do not read back as they were written; not published"
                )

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(check, _runs_of(segments)):
            pass


def _runs_of(segments: Array) -> Iterator[Array]:
    """The segments in the order of the file, in runs of about as many bytes as are read at once."""
    ordered = np.sort(segments, order="offset")
    pieces = ordered["offset"] // _READ_BYTES
    return iter(np.split(ordered, np.flatnonzero(np.diff(pieces)) + 1))
