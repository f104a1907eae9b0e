"""Ctrl-C where Python cannot raise it: in a finalizer, a callback of a weak reference, or a hook of the garbage collector."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["lost_interrupts_repeated"]
# For the main thread to leave the hook, in which an exception would be ignored again.
_DELAY_SECONDS = 0.02


@contextmanager
def lost_interrupts_repeated() -> Iterator[None]:
    """Send SIGINT again when Python has ignored a :class:`KeyboardInterrupt`; at the latest, it is raised at the end.

    Python calls the handler of a signal between any two instructions. If they belong to a finalizer, the exception has no caller
    that could catch it: Python reports it to ``sys.unraisablehook`` and goes on, as if Ctrl-C had not been pressed.

    Raises:
        KeyboardInterrupt: in the main thread, soon after it was ignored.
    """
    hook = _Hook(sys.unraisablehook)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        try:
            hook.wait()
        finally:
            sys.unraisablehook = hook.previous


class _Hook:
    """A ``sys.unraisablehook``.

    Args:
        previous: reports what is not a :class:`KeyboardInterrupt`.
    """

    def __init__(self, previous: Callable[[Any], Any]) -> None:
        self.previous = previous
        # Held while a signal is on its way.
        self._sending = _thread.allocate_lock()

    def __call__(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self.previous(unraisable)
        elif self._sending.acquire(blocking=False):
            # Not by threading, one of whose locks the interrupted code may hold.
            _thread.start_new_thread(self._send, ())

    def wait(self) -> None:
        """Wait until a signal that is on its way has arrived."""
        with self._sending:
            pass

    def _send(self) -> None:
        time.sleep(_DELAY_SECONDS)
        try:
            _interrupt_main_thread()
        finally:
            self._sending.release()


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        # To this thread, so that a call of the system in which it waits is interrupted.
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()
