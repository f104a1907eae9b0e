"""The system's page cache: evict and load files, see what is cached, count bytes read from the disk."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kit.byte_ranges import PAGE_BYTES

_READ_CHUNK_BYTES = 16 * 2**20


def evict(files: Iterable[Path]) -> None:
    """Remove files from the page cache; needs no root.

    Dirty pages cannot be evicted, so each file is written to the disk first. Pages that a process maps stay, so readers
    must be closed. On tmpfs nothing happens: its files exist in memory only.
    """
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def fill(files: Iterable[Path]) -> None:
    """Load files into the page cache."""
    buffer = bytearray(_READ_CHUNK_BYTES)
    for path in files:
        with open(path, "rb", 0) as file:
            while file.readinto(buffer):
                pass


def count_resident_bytes(files: Iterable[Path]) -> int:
    """How many bytes of the files are in the page cache."""
    return sum(_count_resident_pages(path) for path in files) * PAGE_BYTES


def count_bytes_read() -> int:
    """How many bytes this process has read from the disk so far, page faults of mapped files included."""
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
