"""Realtime runs: sources are never kept waiting, and an algorithm takes the newest window when it is free."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from .plan import SourcePlan
from .remote import NO_IMAGE
from .workers import RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from .plan import Due
    from .reading import Reading
    from .run import Run

__all__ = ["run_realtime"]
_POLL_SECONDS = 0.2


class _Inbox:
    """The newest window of each source that an algorithm has not begun."""

    def __init__(self) -> None:
        self._waiting: dict[str, Due] = {}
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, due: Due) -> Due | None:
        """Put a window in; returns the one that it replaces."""
        with self._changed:
            replaced = self._waiting.pop(due.newest.source, None)
            self._waiting[due.newest.source] = due
            self._changed.notify()
        return replaced

    def take(self, most: int) -> list[Due] | None:
        """The windows that have waited longest; waits for one, ``None`` if no more will come."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            if not self._waiting:
                return None
            return [self._waiting.pop(source) for source in list(self._waiting)[:most]]

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def clear(self) -> list[Due]:
        """Take everything out."""
        with self._changed:
            found = list(self._waiting.values())
            self._waiting.clear()
        return found


def run_realtime(run: Run, fail: Callable[[BaseException], None]) -> None:
    """Read all sources until they end, or the run is stopped. Every window that is due is processed, or dropped and counted.

    Args:
        run: the run.
        fail: called with an error of a source or an algorithm, which ends the run.
    """
    inboxes = {each.name: _Inbox() for each in run.algorithms}
    readers = [_thread(run, fail, _read, reading, inboxes) for reading in run.readings]
    workers = [_thread(run, fail, _work, run.workers[name].algorithm.batch, inbox) for name, inbox in inboxes.items()]
    for reader in readers:
        _join(reader, run)
    for inbox in inboxes.values():
        if run.is_stopping:
            for due in inbox.clear():
                run.drop(due, "late")
        inbox.close()
    for worker in workers:
        _join(worker, run)


def _thread(
    run: Run, fail: Callable[[BaseException], None], target: Callable[..., None], *arguments: Any
) -> threading.Thread:
    def work() -> None:
        try:
            target(run, *arguments)
        except RunStopped:
            pass  # whoever stopped it knows that it has not ended by itself
        except BaseException as error:  # noqa: BLE001 - raised again by the pipeline
            fail(error)

    thread = threading.Thread(target=work, name="ndframes-stream", daemon=True)
    run.add_thread(thread)
    thread.start()
    return thread


def _join(thread: threading.Thread, run: Run) -> None:
    """Wait for a thread, after a stop only as long as is allowed: what it calls may never return."""
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        if run.is_abandoned:
            return


def _read(run: Run, reading: Reading, inboxes: dict[str, _Inbox]) -> None:
    """Take in the frames of a source, and put the windows that are due into the inboxes."""
    plan = SourcePlan(str(reading.source.name), run.algorithms)
    for frame in run.frames_of(reading):
        for due in plan.take(frame, time.monotonic()):
            run.schedule(due)
            # A frame came without its image, because this process was busy.
            if any(each.image is NO_IMAGE for each in due.frames):
                run.drop(due, "late")
                continue
            replaced = inboxes[due.algorithm.name].put(due)
            if replaced is not None:
                run.drop(replaced, "busy")
        if frame.image is NO_IMAGE:
            run.miss(frame)
        else:
            run.show(frame)


def _work(run: Run, most: int, inbox: _Inbox) -> None:
    """Process the newest windows, one batch after the other."""
    while (batch := inbox.take(most)) is not None:
        run.settle_batch(batch, run.submit(batch))
