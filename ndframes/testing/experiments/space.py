"""Space: what a cache does on a disk that is full."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from functools import partial
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from ...cache.cache import Cache
from ...errors import CacheError, NdframesError
from ...formats.tiled import cog_writer as cog
from ..faults import WatchedFileSystem
from .scene import Findings, Tally, find_leftovers

if TYPE_CHECKING:
    from .fork_server import ForkServer
    from .scene import Scene

__all__ = ["LimitKind", "fill_up"]
#: What runs out: a small file system of its own in memory; or the length that a file may have.
LimitKind = Literal["tmpfs", "file length"]
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_LEAST_BYTES = 1 << 14
# With the small one, the first overview that spans columns does not fit into memory: it is mapped from a file.
_COLUMN_BYTES, _SMALL_COLUMN_BYTES = cog.BufferSizes().column_bytes, 1 << 14
_PLENTY_BYTES = 1 << 40
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000


def fill_up(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    limit: LimitKind = "tmpfs",
    steps: int = 50,
    seconds: float = 60.0,
) -> Findings:
    """Convert an image where there is too little room for it, in so many steps up to more than enough.

    Each is tried twice: on a file system that tells how much is free, and on one that promises plenty, as a quota does;
    COGs also with overviews from a mapped file. A conversion must succeed, or raise an error with the system's number
    for it; what is published must be whole, nothing may be left behind, and no signal raised.

    Args:
        fork_server: forks a process for each try.
        scene: the images; the first is used.
        folder: where the caches go; with ``"tmpfs"`` only where that is mounted.
        limit: what runs out. ``"tmpfs"`` needs Linux and the right to mount.
        steps: how many sizes.
        seconds: what takes longer hangs.
    """
    tally = Tally("wrong crops", "failed verify", "signals", "unclear errors", "leftovers", "hangs", "odd ends")
    name = f"full disk, {limit}"
    if limit == "tmpfs":
        problem = fork_server.run(partial(_find_mount_problem, folder))[0].value
        if problem:
            return Findings(name, skipped=f"no tmpfs can be mounted here: {problem}")
    most = 3 * scene.array(0).nbytes
    sizes = [_LEAST_BYTES + (most - _LEAST_BYTES) * step // max(1, steps - 1) for step in range(steps)]
    for size in sizes:
        calls = [
            partial(_convert_within, scene, form, folder, limit, size, is_boastful, column_bytes)
            for form, column_bytes in (("cog", _COLUMN_BYTES), ("cog", _SMALL_COLUMN_BYTES), ("npy", _COLUMN_BYTES))
            for is_boastful in (False, True)
        ]
        for call in calls:
            end = fork_server.run(call, seconds=seconds)[0]
            context = f"{call.args[1]}, {size:,} bytes"
            if end.ok:
                tally.add(end.value, context)
            elif end.is_hung:
                tally.fault("hangs", note=context)
            else:
                promise = "signals" if end.status < 0 else "odd ends"
                tally.fault(promise, note=f"{context}: status {end.status}: {end.problem}")
    tally.count("sizes", len(sizes))
    return tally.finish(name)


def _convert_within(
    scene: Scene, form: str, folder: str, limit: LimitKind, size_bytes: int, is_boastful: bool, column_bytes: int
) -> Tally:
    workdir = os.path.join(folder, "full")
    os.makedirs(workdir, exist_ok=True)
    if limit == "tmpfs":
        _mount_tmpfs(workdir, size_bytes)
    else:
        _limit_file_length(size_bytes)
    cog._SIZES = cog.BufferSizes(column_bytes=column_bytes)  # noqa: SLF001 - in this child process, which ends soon
    tally = Tally()
    files = _RoomyFileSystem(is_boastful)
    frames = scene.frames(workdir, form, files)
    tally.count("conversions")
    try:
        is_equal = np.array_equal(frames.load_region(0), scene.array(0))
        tally.count("that fitted")
        tally.fault("wrong crops", int(not is_equal))
    except NdframesError as error:
        is_clear = isinstance(error, CacheError) and error.errno in _FULL
        tally.fault("unclear errors", int(not is_clear), f"{type(error).__name__} {error}")
    tally.count("mapped files", files.mapped)
    report = Cache(workdir).verify(read_data=True)
    tally.fault("failed verify", len(report.bad), str(report))
    left = [name for name in find_leftovers(frames.cache) if name.startswith("tmp")]
    tally.fault("leftovers", len(left), ", ".join(left))
    if limit != "tmpfs":
        shutil.rmtree(workdir)
    return tally


class _RoomyFileSystem(WatchedFileSystem):
    """Counts files to be mapped, and may promise more room than there is."""

    def __init__(self, is_boastful: bool) -> None:
        self._is_boastful = is_boastful
        self.mapped = 0

    def before(self, operation: str, path: str) -> None:
        pass

    def scratch(self, folder: str, room_bytes: int = 0) -> IO[bytes]:
        file = super().scratch(folder, room_bytes)
        self.mapped += room_bytes > 0
        return file

    def free_bytes(self, path: str) -> int:
        return _PLENTY_BYTES if self._is_boastful else super().free_bytes(path)


def _find_mount_problem(folder: str) -> str:
    point = os.path.join(folder, "mounted")
    os.makedirs(point, exist_ok=True)
    try:
        _mount_tmpfs(point, _LEAST_BYTES)
    except (OSError, AttributeError) as error:
        return str(error)
    return ""


def _mount_tmpfs(point: str, size_bytes: int) -> None:
    """Mount a tmpfs for this process alone; it goes when the process ends."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "Linux alone has tmpfs")
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(libc.mount(b"none", os.fsencode(point), b"tmpfs", 0, f"size={size_bytes}".encode()))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _limit_file_length(size_bytes: int) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
