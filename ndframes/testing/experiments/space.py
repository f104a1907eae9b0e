"""Full disks: conversions on a disk that has too little space."""

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
from .checks import find_leftovers
from .results import ExperimentResult, Recorder

if TYPE_CHECKING:
    from .fork_server import ForkServer
    from .images import SyntheticImages

__all__ = ["LimitKind", "exhaust_space"]
#: What runs out: a small file system of its own in memory, or the length that a file may have (RLIMIT_FSIZE).
LimitKind = Literal["tmpfs", "file length"]
# A full disk, the limit of the length of a file, and a quota.
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_LEAST_BYTES = 1 << 14
# So small that the COG writer's overview data does not fit in memory and goes to a mapped file.
_COLUMN_BYTES, _SMALL_COLUMN_BYTES = cog.BufferSizes().column_bytes, 1 << 14
_PLENTY_BYTES = 1 << 40
# Constants of Linux's unshare(2) and mount(2).
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000


def exhaust_space(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    limit: LimitKind = "tmpfs",
    steps: int = 50,
    seconds: float = 60.0,
) -> ExperimentResult:
    """Convert an image with limited space, from far too little to more than enough.

    Each size is tried on a file system that reports its free space, and on one that overstates it, as a quota does; COGs
    also with overviews from a mapped file. A conversion must succeed, or raise an error with the system's error number.
    Published entries must be intact, nothing may be left behind, and no process may die of a signal such as SIGBUS.

    Args:
        fork_server: forks a process for each conversion.
        images: the sources; the first one is used.
        folder: for the caches, or the mount point of the tmpfs.
        limit: what runs out. ``"tmpfs"`` needs Linux and the privilege to mount.
        steps: how many sizes to try.
        seconds: the time limit of a conversion.
    """
    recorder = Recorder(
        "wrong crops", "damaged entries", "signals", "unclear errors", "leftovers", "timeouts", "unexpected exits"
    )
    name = f"full disk, {limit}"
    if limit == "tmpfs":
        problem = fork_server.run(partial(_find_mount_problem, folder))[0].value
        if problem:
            return ExperimentResult(name, skipped=f"a tmpfs cannot be mounted here: {problem}")
    most_bytes = 3 * images.array(0).nbytes
    sizes = [_LEAST_BYTES + (most_bytes - _LEAST_BYTES) * step // max(1, steps - 1) for step in range(steps)]
    for size_bytes in sizes:
        calls = [
            partial(_convert_with_limit, images, form, folder, limit, size_bytes, overstates, column_bytes)
            for form, column_bytes in (("cog", _COLUMN_BYTES), ("cog", _SMALL_COLUMN_BYTES), ("npy", _COLUMN_BYTES))
            for overstates in (False, True)
        ]
        # One after the other, since they share a folder.
        for call in calls:
            result = fork_server.run(call, seconds=seconds)[0]
            context = f"{call.args[1]}, {size_bytes:,} bytes"
            if result.status < 0 and not result.timed_out:
                recorder.violate("signals", note=f"{context}: status {result.status}: {result.problem}")
            else:
                recorder.merge_child(result, context)
    recorder.count("sizes", len(sizes))
    return recorder.finish(name)


def _convert_with_limit(
    images: SyntheticImages,
    form: str,
    folder: str,
    limit: LimitKind,
    size_bytes: int,
    overstates: bool,
    column_bytes: int,
) -> Recorder:
    workdir = os.path.join(folder, "full")
    os.makedirs(workdir, exist_ok=True)
    if limit == "tmpfs":
        _mount_tmpfs(workdir, size_bytes)
    else:
        _limit_file_length(size_bytes)
    cog._SIZES = cog.BufferSizes(column_bytes=column_bytes)  # noqa: SLF001 - in this child process, which ends soon
    recorder = Recorder()
    files = _LimitedFileSystem(overstates)
    frames = images.frames(workdir, form, files)
    recorder.count("conversions")
    try:
        is_equal = np.array_equal(frames.load_region(0), images.array(0))
        recorder.count("that fitted")
        recorder.violate("wrong crops", int(not is_equal))
    except NdframesError as error:
        is_clear = isinstance(error, CacheError) and error.errno in _FULL
        recorder.violate("unclear errors", int(not is_clear), f"{type(error).__name__} {error}")
    recorder.count("mapped files", files.mapped)
    report = Cache(workdir).verify(read_data=True)
    recorder.violate("damaged entries", len(report.bad), str(report))
    leftovers = [name for name in find_leftovers(frames.cache) if name.startswith("tmp")]
    recorder.violate("leftovers", len(leftovers), ", ".join(leftovers))
    if limit != "tmpfs":
        # A tmpfs disappears together with this process.
        shutil.rmtree(workdir)
    return recorder


class _LimitedFileSystem(WatchedFileSystem):
    """Counts the files that will be mapped, and may overstate the free space."""

    def __init__(self, overstates: bool) -> None:
        self._overstates = overstates
        self.mapped = 0

    def before(self, operation: str, path: str) -> None:
        pass

    def scratch(self, folder: str, room_bytes: int = 0) -> IO[bytes]:
        file = super().scratch(folder, room_bytes)
        self.mapped += room_bytes > 0
        return file

    def free_bytes(self, path: str) -> int:
        return _PLENTY_BYTES if self._overstates else super().free_bytes(path)


def _find_mount_problem(folder: str) -> str:
    point = os.path.join(folder, "mounted")
    os.makedirs(point, exist_ok=True)
    try:
        _mount_tmpfs(point, _LEAST_BYTES)
    except (OSError, AttributeError) as error:
        return str(error)
    return ""


def _mount_tmpfs(point: str, size_bytes: int) -> None:
    """Mount a tmpfs in a mount namespace of this process, which the kernel removes when the process ends."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "tmpfs exists on Linux only")
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    # Private: otherwise the mount would propagate to the parent namespace.
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(libc.mount(b"none", os.fsencode(point), b"tmpfs", 0, f"size={size_bytes}".encode()))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _limit_file_length(size_bytes: int) -> None:
    # Not on Windows.
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    # Python ignores SIGXFSZ, so a write beyond the limit raises EFBIG.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
