"""Which workers read chunks: processes started in one way or another, or threads."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UnsupportedError
from ..system.children import StartMethod, can_start_children
from ..system.pickling import loads_without_main
from ..system.process import has_other_threads
from ..system.process_workers import ProcessWorkers
from ..system.thread_workers import ThreadWorkers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..system.ahead import Workers
    from ..system.serving import Work

__all__ = ["WorkerKind", "make_workers"]
#: Where chunks are read; ``"auto"`` is a process where one can be started, and otherwise a thread.
WorkerKind = Literal["auto", "process", "thread"]
# The attributes of works and datasets that users have passed in, without underscores.
_PART_NAMES = ("frames", "dataset", "patches", "transform")
# An object may refer to itself.
_MOST_NAMES = 8


def make_workers(work: Work, *, kind: WorkerKind, start_method: StartMethod | None, count: int, depth: int) -> Workers:
    """Workers that do ``work``; each is started with its first task.

    Args:
        work: what they do.
        kind: processes or threads.
        start_method: of processes; ``None``: the one that fits.
        count: the number of workers.
        depth: how many tasks each may have.

    Raises:
        UnsupportedError: a process was asked for and cannot be started here, or not with this work.
    """
    method = _pick_method(work, kind, start_method)
    if method is None:
        return ThreadWorkers(work, count=count, depth=depth)
    try:
        return ProcessWorkers(work, count=count, depth=depth, method=method)
    except Exception as error:
        raise UnsupportedError(
            f"{_name_part(work, _pickles)} cannot be pickled, and so not sent to a worker process ({type(error).__name__}: {error}); "
            "use start_method='fork' or worker='thread'"
        ) from error


def _pick_method(work: Work, kind: WorkerKind, start_method: StartMethod | None) -> StartMethod | None:
    """How to start processes; ``None`` for threads."""
    is_daemon = multiprocessing.current_process().daemon
    if kind == "thread" or (kind == "auto" and (is_daemon or not can_start_children())):
        return None
    if not can_start_children():
        raise UnsupportedError("worker='process' needs Unix sockets, which this system has not; use worker='thread'")
    if start_method is None:
        if loads_without_main(work):
            return "command"
        if kind == "auto" and (sys.platform != "linux" or is_daemon or has_other_threads()):
            return None  # a fork is not safe where other threads hold locks
        start_method = "fork" if sys.platform == "linux" else "command"
    if is_daemon and start_method != "command":
        raise UnsupportedError(
            "worker='process': multiprocessing starts no process in a daemonic one, such as a worker of a DataLoader; use "
            "worker='thread'"
        )
    if start_method == "command" and not loads_without_main(work):
        if not _pickles(work):
            raise UnsupportedError(
                f"{_name_part(work, _pickles)} cannot be pickled, and so not sent to a worker process; use start_method='fork' or "
                "worker='thread'"
            )
        raise UnsupportedError(
            f"a class or function of {_name_part(work, loads_without_main)} is defined in the main module, which a worker process of "
            "start_method='command' does not load; define it in a module that can be imported, or use start_method='fork' or "
            "worker='thread'"
        )
    return start_method


def _name_part(work: object, is_good: Callable[[object], bool]) -> str:
    """The innermost part of some work that is not good, such as "the transform", for messages."""
    names = ["work"]
    value: Any = work
    while True:
        parts = getattr(value, "__dict__", {}).items()
        found = next(((name, part) for name, part in parts if not is_good(part)), None)
        if found is None or len(names) > _MOST_NAMES:
            break
        names.append(found[0].lstrip("_"))
        value = found[1]
    # What lies deeper is a detail of these.
    known = [name for name in names if name in _PART_NAMES]
    return f"the {known[-1] if known else names[min(1, len(names) - 1)]}"


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - pickling runs the user's code
        return False
    return True
