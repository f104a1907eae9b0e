"""Waiting: whether this thread may do what takes long: open and convert files, or wait for an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["WouldOpenError", "check_may_open", "opening_nothing"]
_OPENS_NOTHING: ContextVar[bool] = ContextVar("_OPENS_NOTHING", default=False)


class WouldOpenError(Exception):
    """A file must be opened, converted or checked as a whole, or a store be asked, within :func:`opening_nothing`."""


@contextmanager
def opening_nothing() -> Iterator[None]:
    """Within it, this thread reads open files only. What would open one raises :class:`WouldOpenError` instead.

    Opening may take long: it may convert the file. So a thread that must not wait, such as that of an event loop, can read what
    is open, and leave the rest to another thread.
    """
    before = _OPENS_NOTHING.set(True)
    try:
        yield
    finally:
        _OPENS_NOTHING.reset(before)


def check_may_open() -> None:
    """Called before what may take long.

    Raises:
        WouldOpenError: this thread is within :func:`opening_nothing`.
    """
    if _OPENS_NOTHING.get():
        raise WouldOpenError
