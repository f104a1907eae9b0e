"""Probes: single properties of a file system that the cache relies on."""

from __future__ import annotations

import mmap
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ...system.files import FileSystem
from .fork_server import ForkServer, Task
from .scene import Tally

if TYPE_CHECKING:
    from .scene import Findings

__all__ = ["PROBES", "probe_locks", "run_probe"]
_RACERS = 4
_NAMES = 100
_REPLACEMENTS = 300
_PAGE = b"ndframes" * 8192
Probe = Callable[[ForkServer, str, Tally], None]


def probe_locks(fork_server: ForkServer, folder: str) -> tuple[Findings, bool]:
    """Whether a lock keeps other processes out, and ends with its holder when that is killed; the latter as a bool."""
    tally = Tally()
    path = os.path.join(folder, "locked")
    holder = Task(partial(_hold_lock, path), [(3.0, signal.SIGKILL, False)])
    end = fork_server.run(holder, partial(_try_lock, path), seconds=30.0)[1]
    problem = end.problem if not end.ok else end.value
    tally.count("locks tried", 2)
    if problem:
        tally.notes.append(f"work may be done twice, with the right result: {problem}")
    return tally.finish("locks"), not problem


def run_probe(name: str, fork_server: ForkServer, folder: str) -> Findings:
    """Probe one of :data:`PROBES`, in a folder of its own under ``folder``."""
    tally = Tally("failures")
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            PROBES[name](fork_server, place, tally)
    except OSError as error:
        tally.fault("failures", note=str(error))
    return tally.finish(name)


def _probe_create(fork_server: ForkServer, folder: str, tally: Tally) -> None:
    """Of many that create a file at once, one does."""
    ends = fork_server.run(*[partial(_create_all, folder)] * _RACERS)
    winners = sum(end.value or 0 for end in ends)
    tally.count("names", _NAMES)
    tally.count("processes", _RACERS)
    tally.fault("failures", abs(winners - _NAMES), f"{winners} creations of {_NAMES} names succeeded")


def _probe_link(fork_server: ForkServer, folder: str, tally: Tally) -> None:
    """A finished file gets its name, unless another has it already."""
    files = FileSystem()
    first, second, final = (os.path.join(folder, name) for name in ("first", "second", "final"))
    for path in (first, second):
        with files.create(path) as file:
            file.write(path.encode())
    outcomes = files.link_or_replace(first, final), files.link_or_replace(second, final)
    with open(final, "rb") as file:
        kept = file.read()
    tally.count("names", 1)
    if not os.path.lexists(first):
        tally.notes.append("no hard links here: entries are renamed into place, and the last of two stays")
        return
    is_kept = outcomes == (True, False) and kept == first.encode()
    tally.fault("failures", int(not is_kept), f"a second link to one name: {outcomes}, holds {kept!r}")


def _probe_rename(fork_server: ForkServer, folder: str, tally: Tally) -> None:
    """Who reads a file that is being replaced sees the old one or the new one, whole."""
    path = os.path.join(folder, "file")
    _write(path, b"\0" * len(_PAGE))
    reader, writer = fork_server.run(partial(_read_while, path), partial(_replace_often, path))
    tally.count("replacements", _REPLACEMENTS)
    for end in (reader, writer):
        tally.fault("failures", int(not end.ok), end.problem)
    looks, torn = reader.value or (0, 0)
    tally.count("reads", looks)
    tally.fault("failures", torn, "a reader saw neither the old file nor the new one")


def _probe_sync(fork_server: ForkServer, folder: str, tally: Tally) -> None:
    """Files and folders can be synced."""
    files = FileSystem()
    with files.create(os.path.join(folder, "file")) as file:
        file.write(_PAGE)
        files.sync_file(file)
    files.sync_folder(folder)
    tally.count("syncs", 2)


def _probe_map(fork_server: ForkServer, folder: str, tally: Tally) -> None:
    """A mapped file can be read after its name is gone; in a child, since what may happen is a signal."""
    end = fork_server.run(partial(_read_unlinked_map, folder))[0]
    tally.count("maps", 1)
    tally.fault("failures", int(not end.ok or not end.value), f"status {end.status}: {end.problem}")


def _probe_free(fork_server: ForkServer, folder: str, tally: Tally) -> None:
    """The free space is told."""
    free = FileSystem().free_bytes(folder)
    tally.count("MB free", free // 10**6)
    tally.fault("failures", int(free <= 0), f"{free} bytes free, though files can be written")


#: By what is to hold.
PROBES: Mapping[str, Probe] = {
    "create excludes": _probe_create,
    "link does not clobber": _probe_link,
    "rename is one step": _probe_rename,
    "sync": _probe_sync,
    "a map outlives its name": _probe_map,
    "free space": _probe_free,
}


def _create_all(folder: str) -> int:
    created = 0
    for number in range(_NAMES):
        try:
            FileSystem().create(os.path.join(folder, str(number))).close()
            created += 1
        except FileExistsError:
            continue
    return created


def _hold_lock(path: str) -> None:
    with open(path, "wb") as file:
        if FileSystem().try_lock(file):
            file.write(b"held")
            file.flush()
        while True:
            time.sleep(1)


def _try_lock(path: str) -> str:
    """Try while another holds it, then when that one was killed; what is wrong, if anything."""
    deadline = time.monotonic() + 2
    while not (os.path.exists(path) and os.path.getsize(path)):
        if time.monotonic() > deadline:
            return "the first lock was not granted"
        time.sleep(0.01)
    with open(path, "rb") as file:
        if FileSystem().try_lock(file):
            return "a lock that another process holds was granted once more"
        deadline = time.monotonic() + 10
        while not FileSystem().try_lock(file):
            if time.monotonic() > deadline:
                return "the lock of a killed process stays"
            time.sleep(0.05)
    return ""


def _replace_often(path: str) -> None:
    for number in range(_REPLACEMENTS):
        _write(path + ".new", bytes([number % 256]) * len(_PAGE))
        FileSystem().move(path + ".new", path)
    _write(path + ".done", b"")


def _read_while(path: str) -> tuple[int, int]:
    looks = torn = 0
    while not os.path.exists(path + ".done"):
        with open(path, "rb") as file:
            data = file.read()
        looks += 1
        torn += len(data) != len(_PAGE) or data.count(data[:1]) != len(data)
    return looks, torn


def _read_unlinked_map(folder: str) -> bool:
    path = os.path.join(folder, "mapped")
    _write(path, _PAGE)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        file.close()
        _write(path + ".new", bytes(len(_PAGE)))
        os.replace(path + ".new", path)
        os.unlink(path)
        return mapped[:] == _PAGE


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
