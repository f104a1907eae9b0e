"""Jobs: work that puts an entry into the cache, in this process or in a child with limits."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import UnreadableImageError
from ..system.process import ForkAware
from ..system.workers import WorkerPool
from ..text import count_noun

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cache.keys import EntryKey
    from ..cache.store import EntryPath
    from ..spec.pathinfo import ChannelInfo
    from ..system.workers import Limits

__all__ = ["CONVERTING", "Job", "JobResult", "run_job"]
_MOST_CONVERSIONS = 4


@dataclass(frozen=True, slots=True)
class JobResult:
    """The outcome of a job.

    Attributes:
        path: the entry.
        is_new: whether this job wrote it; otherwise another process wrote it first.
        bytes_written: its length if it is new.
    """

    path: EntryPath
    is_new: bool
    bytes_written: int


class Job(Protocol):
    """Makes one entry: a converted source, or the index of a video's frames. It pickles, to run in any process."""

    @property
    def info(self) -> ChannelInfo:
        """The source."""

    @property
    def key(self) -> EntryKey:
        """The entry."""

    @property
    def limits(self) -> Limits | None:
        """The limits of the child process that runs the job; ``None`` runs it in the calling process."""

    def run(self, *, threads: int = 1, progress: Callable[[float], None] | None = None) -> JobResult:
        """Make the entry, unless it exists.

        Args:
            threads: the number of threads that encode.
            progress: called with the fraction that is done.
        """


class _Slots(ForkAware):
    """A context that only a few threads of a process are in at a time; the others wait."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._semaphore = threading.Semaphore(count)
        super().__init__()

    def __enter__(self) -> None:
        self._semaphore.acquire()

    def __exit__(self, *_: object) -> None:
        self._semaphore.release()

    def _after_fork_in_child(self) -> None:
        # Those that hold it are threads of the parent.
        self._semaphore = threading.Semaphore(self._count)


#: Reads convert in it. A batch opens many images at once, and each conversion takes memory, disk and all cores.
CONVERTING = _Slots(_MOST_CONVERSIONS)


def run_job(job: Job, *, threads: int = 1, progress: Callable[[float], None] | None = None) -> JobResult:
    """Run a job here or, if it has limits, in a child process of its own.

    Raises:
        WorkerCrashError: the child died because of a limit or of the file.
        UnreadableImageError: the file took more memory than the limit allows.
        NdframesError: whatever the job raises.
    """
    if job.limits is None:
        return job.run(threads=threads, progress=progress)
    pool = WorkerPool(1, limits=job.limits)
    try:
        # Without progress: a callable of this process may not pickle, and would be called in the child.
        done: JobResult = pool.submit(job.run, threads=threads).result()
    except MemoryError as error:
        # The child has survived the failed allocation, so it can end in order.
        pool.shutdown()
        raise UnreadableImageError(
            f"{job.info.path} does not convert within {count_noun(job.limits.memory_bytes, 'byte')} of memory, about 2 GB for "
            "the program itself included; allow more by isolate=Limits(memory_bytes=...) if you trust the file"
        ) from error
    # Also for Ctrl-C, which children ignore: the job would go on to its end.
    except BaseException:
        pool.terminate()
        raise
    pool.shutdown()
    return done
