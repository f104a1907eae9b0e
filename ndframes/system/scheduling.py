"""Scheduling of threads: undo what a library does to it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["keeping_scheduling"]


@contextmanager
def keeping_scheduling() -> Iterator[None]:
    """Restore the scheduling policy of this thread afterwards, and give it to the threads that were started meanwhile.

    SVT-AV1 gives the thread that opens an encoder, and all threads of the encoder, the highest real-time priority if the
    process is allowed to, as root is. Such a thread is never preempted by others: one that waits in a loop for another thread of
    Python, which waits for a core, hangs the machine. Child processes inherit the policy.
    """
    if not hasattr(os, "sched_setscheduler") or not os.path.isdir("/proc/self/task"):
        yield
        return
    policy, parameter, before = os.sched_getscheduler(0), os.sched_getparam(0), set(os.listdir("/proc/self/task"))
    try:
        yield
    finally:
        for thread in [0, *map(int, set(os.listdir("/proc/self/task")) - before)]:
            with suppress(ProcessLookupError):  # the thread has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameter)
