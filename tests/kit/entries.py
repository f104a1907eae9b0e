"""Entries of a cache as they are on the disk, made without any image: for tests of the cache alone."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ndframes
from ndframes.cache.keys import EntryKey
from ndframes.cache.store import CacheEntry
from ndframes.cache.trailer import append_trailer
from ndframes.system.files import FileSystem, LocalFile
from ndframes.system.segments import SegmentBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ndframes.cache.cache import Cache
    from ndframes.system.files import OpenFile

#: A time long before any test, in seconds since 1970.
LONG_AGO = 1_000_000_000.0

#: What the code of a test's other process starts with: imports, and ``say``, which prints a line unbuffered.
PRELUDE = f"""
import os, signal, sys, time
sys.path[:0] = [{str(Path(ndframes.__file__).parents[1])!r}, {str(Path(__file__).parents[1])!r}]
from ndframes.cache.cache import Cache
from kit.entries import *
def say(*words): print(" ".join(map(str, words)) + "\\n", end="", flush=True)  # one write, so that threads' lines stay whole
"""


class ReadHook(FileSystem):
    """Calls a function with the offset and length of each read."""

    def __init__(self, hook: Callable[[int, int], object]) -> None:
        self.hook = hook

    def open_to_read(self, path: str) -> OpenFile:
        return _HookedFile(path, self.hook)


class _HookedFile(LocalFile):
    def __init__(self, path: str, hook: Callable[[int, int], object]) -> None:
        super().__init__(path)
        self.hook = hook

    def read_at(self, offset: int, length: int) -> bytes:
        self.hook(offset, length)
        return super().read_at(offset, length)


class CountingFiles(ReadHook):
    """Records the offset and length of each read."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []
        super().__init__(lambda offset, length: self.reads.append((offset, length)))


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
    segments.add_segment(payload[:128])
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


def publish_aged(cache: Cache, count: int, **options: Any) -> list[CacheEntry]:
    """Entries of the sources 0, 1, ...; each was used one second after the one before."""
    return [publish(cache, number, used=LONG_AGO + number, **options) for number in range(count)]


def keys_in(cache: Cache) -> set[EntryKey]:
    """The keys of all entries."""
    return {entry.key for entry in cache.ls()}


def hold_in_child(cache: Cache, *numbers: int) -> subprocess.Popen[str]:
    """Start a process that holds entries of these sources until it reads a line, or dies."""
    process = start_python(
        f"cache = Cache({str(cache.workdir)!r})\n"
        f"cache.hold([key_of(number) for number in {numbers!r}])\n"
        "say('held')\nsys.stdin.readline()"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def plant_leftovers(cache: Cache) -> tuple[dict[str, Path], dict[str, Path]]:
    """Files that may be removed, and files that may not, one of each kind: the paths of both."""
    with start_python("") as process:
        process.communicate(timeout=30)
    host, ended = socket.gethostname(), process.pid
    goes, stays = {}, {}
    for kind, name in (("tmp", f"{'0' * 32}-{{}}.part"), ("leases", "{}.lease")):
        goes[kind] = cache.root / kind / name.format(f"{host}-{ended}-{uuid.uuid4().hex}")
        stays[kind] = cache.root / kind / name.format(f"elsewhere-{ended}-{uuid.uuid4().hex}")
        stays[kind + " mine"] = cache.root / kind / name.format(f"{host}-{os.getpid()}-{uuid.uuid4().hex}")
    goes["quarantine"] = cache.root / "quarantine" / f"{'1' * 32}.{'2' * 32}.tif.01234567"
    for path in (*goes.values(), *stays.values()):
        path.write_bytes(b"half")
    return goes, stays


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
