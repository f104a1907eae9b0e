"""Probes: tests of single properties that the cache requires of a file system."""

from __future__ import annotations

import mmap
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ...system.files import FileSystem
from .fork_server import ForkServer
from .results import Recorder

if TYPE_CHECKING:
    from .results import ExperimentResult

__all__ = ["PROBES", "probe_locks", "run_probe"]
_RACERS = 4
_NAMES = 100
_REPLACEMENTS = 300
_WAIT_SECONDS = 15.0
# 64 KiB: more than a page, so that a read during a replacement could see parts of both files.
_PAGE = b"ndframes" * 8192
Probe = Callable[[ForkServer, str, Recorder], None]


def probe_locks(fork_server: ForkServer, folder: str) -> tuple[ExperimentResult, bool]:
    """Test that a lock excludes other processes, and is released when its holder is killed.

    Returns:
        The result, without violations in any case, and whether locks work. The cache is correct without them.
    """
    recorder = Recorder()
    path = os.path.join(folder, "locked")
    result = fork_server.run(partial(_hold_lock, path), partial(_try_lock, path), seconds=60.0)[1]
    problem = result.value if result.ok else result.problem
    recorder.count("locks tried", 2)
    if problem:
        recorder.notes.append(f"conversions may be repeated, with the right result: {problem}")
    return recorder.finish("locks"), not problem


def run_probe(name: str, fork_server: ForkServer, folder: str) -> ExperimentResult:
    """Run one of :data:`PROBES`, in a new folder under ``folder``."""
    recorder = Recorder("failures")
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            PROBES[name](fork_server, place, recorder)
    except OSError as error:
        recorder.violate("failures", note=str(error))
    return recorder.finish(name)


def _probe_create(fork_server: ForkServer, folder: str, recorder: Recorder) -> None:
    """When several processes create a file at once, exactly one succeeds."""
    results = fork_server.run(*[partial(_create_all, folder)] * _RACERS)
    created = sum(result.value or 0 for result in results)
    recorder.count("names", _NAMES)
    recorder.count("processes", _RACERS)
    recorder.violate("failures", abs(created - _NAMES), f"{created} creations of {_NAMES} names succeeded")


def _probe_link(fork_server: ForkServer, folder: str, recorder: Recorder) -> None:
    """Linking a finished file to its final name fails if the name exists."""
    files = FileSystem()
    first, second, final = (os.path.join(folder, name) for name in ("first", "second", "final"))
    for path in (first, second):
        with files.create(path) as file:
            file.write(path.encode())
    outcomes = files.link_or_replace(first, final), files.link_or_replace(second, final)
    with open(final, "rb") as file:
        kept = file.read()
    recorder.count("names", 1)
    if not os.path.lexists(first):
        recorder.notes.append(
            "no hard links: entries are renamed into place, and the later of two replaces the earlier"
        )
        return
    is_kept = outcomes == (True, False) and kept == first.encode()
    recorder.violate(
        "failures", int(not is_kept), f"two links to one name gave {outcomes}, and the file holds {kept!r}"
    )


def _probe_rename(fork_server: ForkServer, folder: str, recorder: Recorder) -> None:
    """A reader of a file that is being replaced sees all of the old or all of the new content."""
    path = os.path.join(folder, "file")
    _write(path, b"\0" * len(_PAGE))
    reader, writer = fork_server.run(partial(_read_while, path), partial(_replace_often, path))
    recorder.count("replacements", _REPLACEMENTS)
    for result in (reader, writer):
        recorder.violate("failures", int(not result.ok), result.problem)
    reads, torn = reader.value or (0, 0)
    recorder.count("reads", reads)
    recorder.violate("failures", torn, "a reader saw neither the old file nor the new one")


def _probe_sync(fork_server: ForkServer, folder: str, recorder: Recorder) -> None:
    """Files and folders can be synced."""
    files = FileSystem()
    with files.create(os.path.join(folder, "file")) as file:
        file.write(_PAGE)
        files.sync_file(file)
    files.sync_folder(folder)
    recorder.count("syncs", 2)


def _probe_map(fork_server: ForkServer, folder: str, recorder: Recorder) -> None:
    """A mapped file can be read after it was unlinked."""
    # In a child process: a failure is a SIGBUS.
    result = fork_server.run(partial(_read_unlinked_map, folder))[0]
    recorder.count("maps", 1)
    recorder.violate("failures", int(not result.ok or not result.value), f"status {result.status}: {result.problem}")


def _probe_free(fork_server: ForkServer, folder: str, recorder: Recorder) -> None:
    """The system reports the free space."""
    free = FileSystem().free_bytes(folder)
    recorder.count("MB free", free // 10**6)
    recorder.violate("failures", int(free <= 0), f"{free} bytes free, though files can be written")


#: The required properties, and the functions that test them.
PROBES: Mapping[str, Probe] = {
    "exclusive create": _probe_create,
    "link does not replace": _probe_link,
    "atomic rename": _probe_rename,
    "sync": _probe_sync,
    "map of an unlinked file": _probe_map,
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
    """Take the lock, write the own process id, or 0 if the lock was refused, and wait to be killed."""
    with open(path, "wb") as file:
        is_granted = FileSystem().try_lock(file)
        # The newline shows that the number is complete.
        file.write(b"%d\n" % (os.getpid() if is_granted else 0))
        file.flush()
        if is_granted:
            signal.pause()


def _try_lock(path: str) -> str:
    """Try the lock while another process holds it, and after killing that process; returns the problem, or ``""``."""
    holder_pid = _wait_for_holder(path)
    if not holder_pid:
        return "an unheld lock was not granted"
    try:
        with open(path, "rb") as file:
            if FileSystem().try_lock(file):
                return "a lock that another process holds was granted"
    finally:
        os.kill(holder_pid, signal.SIGKILL)
    deadline = time.monotonic() + _WAIT_SECONDS
    with open(path, "rb") as file:
        while not FileSystem().try_lock(file):
            if time.monotonic() > deadline:
                return "the lock of a killed process was not released"
            time.sleep(0.05)
    return ""


def _wait_for_holder(path: str) -> int:
    """The process id in the lock file; 0 if the holder has no lock."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError), open(path, "rb") as file:
            content = file.read()
            if content.endswith(b"\n"):
                return int(content)
        time.sleep(0.01)
    return 0


def _replace_often(path: str) -> None:
    for number in range(_REPLACEMENTS):
        _write(path + ".new", bytes([number % 256]) * len(_PAGE))
        FileSystem().move(path + ".new", path)
    _write(path + ".done", b"")


def _read_while(path: str) -> tuple[int, int]:
    reads = torn = 0
    while not os.path.exists(path + ".done"):
        with open(path, "rb") as file:
            data = file.read()
        reads += 1
        # Each version repeats one byte, so two bytes that differ come from two versions.
        torn += len(data) != len(_PAGE) or data.count(data[:1]) != len(data)
    return reads, torn


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
