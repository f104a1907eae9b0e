"""The system's page cache: taking files out of it, seeing what is in it, counting what comes from the disk."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from touched import PAGE_BYTES

_READ_CHUNK_BYTES = 16 * 2**20


def drop(files: Iterable[Path]) -> None:
    """Take files out of the page cache; needs no root.

    What is not on the disk yet stays, so it is written first. Pages that some process maps stay as well: readers must be
    closed. On tmpfs files live nowhere else, and nothing happens.
    """
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def count_resident_bytes(files: Iterable[Path]) -> int:
    """How much of the files is in the page cache."""
    return sum(_count_resident_pages(path) for path in files) * PAGE_BYTES


def fill(files: Iterable[Path]) -> None:
    """Bring files into the page cache."""
    buffer = bytearray(_READ_CHUNK_BYTES)
    for path in files:
        with open(path, "rb", 0) as file:
            while file.readinto(buffer):
                pass


def count_bytes_read() -> int:
    """What this process had the disk read so far, all threads and faults of maps included."""
    with open("/proc/self/io", encoding="ascii") as lines:
        counts = dict(line.split(": ") for line in lines)
    return int(counts["read_bytes"])


def _count_resident_pages(path: Path) -> int:
    if not path.stat().st_size:
        return 0
    mapped = np.memmap(path, np.uint8, "r")
    flags = np.empty(-(-len(mapped) // PAGE_BYTES), np.uint8)
    address, length = ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(len(mapped))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(address, length, ctypes.c_void_p(flags.ctypes.data)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return int((flags & 1).sum())
