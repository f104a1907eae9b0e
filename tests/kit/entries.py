"""Entries of a cache as they are on the disk, made without any image: for tests of the cache alone."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ndframes
from ndframes.cache.keys import EntryKey
from ndframes.cache.store import CacheEntry
from ndframes.cache.trailer import append_trailer
from ndframes.system.files import FileSystem
from ndframes.system.segments import SegmentBuilder

if TYPE_CHECKING:
    from ndframes.cache.cache import Cache

#: What the code of a test's other process starts with: imports, and ``say``, which prints a line unbuffered.
PRELUDE = f"""
import os, signal, sys, time
sys.path[:0] = [{str(Path(ndframes.__file__).parents[1])!r}, {str(Path(__file__).parents[1])!r}]
from ndframes.cache.cache import Cache
from kit.entries import *
def say(*words): print(" ".join(map(str, words)) + "\\n", end="", flush=True)  # one write, so that threads' lines stay whole
"""


class CountingFiles(FileSystem):
    """Remembers what is read: where, and how many bytes."""

    def __init__(self):
        self.reads = []

    def read_at(self, descriptor, offset, length):
        self.reads.append((offset, length))
        return super().read_at(descriptor, offset, length)


def fields_of(source: int = 0, state: int = 0, form: str = "npy") -> dict[str, Any]:
    """The fields of the key of one state of one source, in one form."""
    return {
        "format": 1,
        "mode": "PATH",
        "identity": f"/source/{source:06}",
        "part": [None, None, None],
        "state": [state, state],
        "backend": {"type": form, "config": {}},
    }


def key_of(source: int = 0, state: int = 0, form: str = "npy") -> EntryKey:
    return EntryKey.from_fields(fields_of(source, state, form))


def entry_bytes(
    source: int = 0, state: int = 0, form: str = "npy", *, payload_bytes: int = 1000, meta: dict[str, Any] | None = None
) -> bytes:
    """What an entry's file holds; all of one length where the arguments are."""
    payload = hashlib.shake_128(f"{source} {state}".encode()).digest(payload_bytes)
    segments = SegmentBuilder()
    segments.end_segment(payload[:128])
    segments.add_chunks(payload[128:])
    file = _Named(payload)
    file.seek(0, os.SEEK_END)
    append_trailer(file, segments.finish(), {"key": fields_of(source, state, form)} if meta is None else meta)
    return file.getvalue()


class _Named(io.BytesIO):
    name = "entry"


def publish(
    cache: Cache, source: int = 0, state: int = 0, form: str = "npy", *, payload_bytes: int = 1000, used: float = 0
) -> CacheEntry:
    """Write an entry; ``used``: seconds since 1970 of its writing and last use."""
    data = entry_bytes(source, state, form, payload_bytes=payload_bytes)
    path, _ = cache.publish(key_of(source, state, form), lambda file: file.write(data), estimated_bytes=len(data))
    if used:
        os.utime(path, (used, used))
    status = path.lstat()
    return CacheEntry(path, key_of(source, state, form), status.st_size, status.st_mtime, status.st_atime)


def start_python(code: str) -> subprocess.Popen[str]:
    """Start another process on ``code``, with :data:`PRELUDE` before it; close it with ``with``."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def tree_of(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything under a folder: names and kinds, and of all but folders the times and contents."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            content: Any = os.readlink(path)
        else:
            content = path.read_bytes() if path.is_file() else None
        mtime_ns = None if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_ino, mtime_ns, content)
    return found
