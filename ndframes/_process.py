"""What this process is: how many cores it may use, and what a forked child of it must forget."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod

__all__ = ["ForkAware", "core_count"]


def core_count() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


_FORK_AWARE: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def _reset_all() -> None:
    for item in list(_FORK_AWARE):
        item._after_fork_in_child()  # noqa: SLF001 - the protocol of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
