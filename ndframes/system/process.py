"""What this process is: how many cores it may use, whether it has threads, when it may fork, and what a forked child of it must forget."""

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
    "half_of_memory",
    "has_other_threads",
    "keep_freed_memory",
]
_FORK_WAIT_SECONDS = 30.0
_LARGEST_KEPT_BYTES = 31 << 20


def core_count() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def half_of_memory() -> int:
    """Half of the machine's memory, in bytes: the largest array that is made unless another limit is set."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def has_other_threads() -> bool:
    """Whether there are Python threads beside the main one, those of :mod:`_thread` included.

    Example:
        >>> timer = threading.Timer(60, print)
        >>> timer.start()
        >>> has_other_threads()
        True
        >>> timer.cancel()
    """
    return _thread._count() > 0  # noqa: SLF001 - threading knows its own only


@cache
def keep_freed_memory() -> None:
    """Have memory that is let go of kept for what needs as much next, and not given back to the system at once.

    Each page that is fetched from there again costs a fault, for which all threads wait: two that decode groups of tiles took 5,000
    in a batch of 30 ms, and as long as one alone. glibc keeps blocks up to the size of the largest that it saw freed, which may be
    32 MiB (``mallopt(3)``, M_MMAP_THRESHOLD); so it is shown such a one, which nobody touches. Other C libraries learn nothing
    from it, nor does a glibc that is told otherwise (``MALLOC_TRIM_THRESHOLD_``).
    """
    np.empty(_LARGEST_KEPT_BYTES, np.uint8)


class ForkAware(ABC):
    """An object that holds handles or locks, and lets go of them in a forked child before any other code runs there.

    A lock that another thread held at the moment of the fork would stay locked for ever in the child, and a file
    handle would be shared with the parent. So both are replaced, and the old handles forgotten, never closed.

    A subclass calls ``super().__init__()`` last: another thread may fork before its own attributes are there.
    """

    def __init__(self) -> None:
        _FORK_AWARE.add(self)

    @abstractmethod
    def _after_fork_in_child(self) -> None:
        """Replace locks; forget handles."""


class ForkGate:
    """Keeps forks out while a thread is inside a library whose locks a child would inherit locked.

    ``with gate:`` stands around every call into such a library. A fork anywhere in the process waits until no other
    thread is inside, and lets none in before it is done; after half a minute it goes ahead, as it would have without a
    gate. Make one for a library, when the module that knows the library is imported.

    Example:
        >>> gate = ForkGate()
        >>> with gate:
        ...     pass
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._start_open(0)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._close,
                after_in_parent=self._open,
                after_in_child=lambda: self._start_open(self._depth),
            )

    def __enter__(self) -> None:
        with self._condition:
            if not self._depth:  # who is inside already must be let through, or the fork would wait for him
                self._condition.wait_for(lambda: not self._is_closed)
            self._inside += 1
        self._own.depth = self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()

    @property
    def _depth(self) -> int:
        """How often this thread is inside."""
        return getattr(self._own, "depth", 0)

    def _start_open(self, inside: int) -> None:
        self._condition = threading.Condition()
        self._inside = inside
        self._is_closed = False

    def _close(self) -> None:
        with self._condition:
            self._is_closed = True
            self._condition.wait_for(lambda: self._inside <= self._depth, _FORK_WAIT_SECONDS)

    def _open(self) -> None:
        with self._condition:
            self._is_closed = False
            self._condition.notify_all()


#: Stands around an import that a read may be the first to make: a child would wait for ever for the thread that was
#: importing when it was forked.
IMPORTING = ForkGate()
_FORK_AWARE: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def _reset_all() -> None:
    for item in list(_FORK_AWARE):
        item._after_fork_in_child()  # noqa: SLF001 - the protocol of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
