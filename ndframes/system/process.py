"""Facts about this process (cores, memory, threads), and what makes a fork of it safe."""

from __future__ import annotations

import _thread
import os
import threading
import weakref
from abc import ABC, abstractmethod
from functools import cache

import numpy as np

__all__ = [
    "IMPORTING",
    "ForkAware",
    "ForkGate",
    "core_count",
    "count_descriptors",
    "half_of_memory",
    "has_other_threads",
    "keep_freed_memory",
    "resident_bytes",
]
# Just below 32 MiB, above which glibc no longer raises its threshold; the block has a header, too.
_LARGEST_KEPT_BYTES = 31 << 20


def core_count() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def half_of_memory() -> int:
    """Half of the machine's memory in bytes: the default limit for the size of a result."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    # Windows has no sysconf, and other systems may lack these names.
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def resident_bytes() -> int | None:
    """The memory that this process has now; ``None`` where the system has no ``/proc``."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return None


def count_descriptors() -> int | None:
    """How many file descriptors this process has open; ``None`` where the system has no ``/proc``."""
    try:
        # One of them is that of the folder.
        return len(os.listdir("/proc/self/fd")) - 1
    except FileNotFoundError:
        return None


def has_other_threads() -> bool:
    """Whether Python threads besides the main one are running, those of :mod:`_thread` included.

    Example:
        >>> timer = threading.Timer(60, print)
        >>> timer.start()
        >>> has_other_threads()
        True
        >>> timer.cancel()
    """
    return _thread._count() > 0  # noqa: SLF001 - threading counts only threads that it started


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for reuse instead of returning them to the system at once.

    A page that was returned costs a page fault when it is used again, and page faults of one process wait for each other:
    two threads that decoded a batch in 30 ms had 5,000 of them, and were no faster than one. glibc raises its threshold
    for returning a block to the size of the largest block that was freed, up to 32 MiB (``mallopt(3)``,
    M_MMAP_THRESHOLD). So this function allocates and frees such a block; its pages are never touched. It has no effect
    with other C libraries, nor if ``MALLOC_TRIM_THRESHOLD_`` is set.
    """
    np.empty(_LARGEST_KEPT_BYTES, np.uint8)


class ForkAware(ABC):
    """An object with handles or locks, which are reset in a forked child before any other code runs there.

    A lock that another thread held during the fork would stay locked in the child for ever, and the child would share the
    position of an open file with its parent. So the child replaces the locks and drops the handles without closing them.

    A subclass calls ``super().__init__()`` last, because another thread may fork before the other attributes are set.
    """

    def __init__(self) -> None:
        _FORK_AWARE.add(self)

    @abstractmethod
    def _after_fork_in_child(self) -> None:
        """Replace locks; drop handles."""


class ForkGate:
    """Delays forks while a thread is inside a library whose locks a child would inherit locked.

    Enclose every call into such a library in ``with gate:``. A fork anywhere in the process waits until no other thread is
    inside, and no thread enters before the fork is done. Make one gate for a library, in the module that imports it.

    Args:
        max_wait_seconds: a fork that waited so long goes ahead, as it would without a gate.

    Example:
        >>> gate = ForkGate()
        >>> with gate:
        ...     pass
    """

    def __init__(self, max_wait_seconds: float = 30.0) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._own = threading.local()
        self._reset(0)
        if hasattr(os, "register_at_fork"):
            # Hooks cannot be removed, so a gate lives as long as the process.
            os.register_at_fork(
                before=self._close,
                after_in_parent=self._open,
                # Of the threads inside, only the one that forked exists in the child.
                after_in_child=lambda: self._reset(self._depth),
            )

    def __enter__(self) -> None:
        with self._condition:
            if not self._depth:  # a fork waits for a thread that is inside, so that thread must not wait for the fork
                self._condition.wait_for(lambda: not self._is_closed)
            self._inside += 1
        self._own.depth = self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether a fork waits for the threads that are inside, or is under way."""
        return self._is_closed

    @property
    def _depth(self) -> int:
        """How many times this thread has entered."""
        return getattr(self._own, "depth", 0)

    def _reset(self, inside: int) -> None:
        # A new one: in a child, the old one's lock may belong to a thread that does not exist there.
        self._condition = threading.Condition()
        self._inside = inside
        self._is_closed = False

    def _close(self) -> None:
        with self._condition:
            self._is_closed = True
            # The thread that forks may be inside itself; it must not wait for itself.
            self._condition.wait_for(lambda: self._inside <= self._depth, self._max_wait_seconds)

    def _open(self) -> None:
        with self._condition:
            self._is_closed = False
            self._condition.notify_all()


#: Encloses imports that a read may trigger. A child that was forked during an import in another thread would wait for
#: that thread's import lock for ever.
IMPORTING = ForkGate()
# Weak references, so that a forgotten object is not kept alive by this list.
_FORK_AWARE: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def _reset_all() -> None:
    # A copy, because a reset may create or drop other objects of the set.
    for item in list(_FORK_AWARE):
        item._after_fork_in_child()  # noqa: SLF001 - the protocol of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
