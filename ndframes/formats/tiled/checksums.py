"""Compare the segments of a written file with their checksums."""

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
# A read for each tile would cost a system call for a few kilobytes.
_READ_BYTES = 2**20


def check_segments(file: IO[bytes], segments: Array, threads: int, *, read_bytes: int = _READ_BYTES) -> None:
    """Read every segment of a flushed file back, and compare it with its checksum.

    Args:
        file: the file.
        segments: array of :data:`~ndframes.system.segments.SEGMENT_DTYPE`.
        threads: the number of threads that read and compare.
        read_bytes: adjacent segments are read together up to about this many bytes.

    Raises:
        CacheEntryDamagedError: a segment differs.
    """
    descriptor = file.fileno()

    def check(run: Array) -> None:
        # pread has no position, so that threads can share the descriptor.
        first = int(run["offset"][0])
        # A short read is found as well: its checksum is wrong.
        data = memoryview(os.pread(descriptor, int(run["offset"][-1]) + int(run["length"][-1]) - first, first))
        for offset, length, crc32 in run.tolist():
            if checksum(data[offset - first : offset - first + length]) != crc32:
                raise CacheEntryDamagedError(
                    f"{file.name}: {length:,} bytes at {offset:,} do not read back as they were written; not published"
                )

    with ThreadPoolExecutor(threads) as pool:
        # The loop raises the first error of a thread.
        for _ in pool.map(check, _runs_of(segments, read_bytes)):
            pass


def _runs_of(segments: Array, read_bytes: int) -> Iterator[Array]:
    """Sort the segments by offset, and cut them into runs of about ``read_bytes``."""
    ordered = np.sort(segments, order="offset")
    pieces = ordered["offset"] // read_bytes
    return iter(np.split(ordered, np.flatnonzero(np.diff(pieces)) + 1))
