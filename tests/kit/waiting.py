"""Waiting for an event, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Poll until ``condition()`` is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.005)


@contextmanager
def little_work(seconds: float = 1) -> Iterator[None]:
    """Check that this thread computes for ``seconds`` at most: its own time, which waiting for a busy machine does not lengthen."""
    start = time.thread_time()
    yield
    spent = time.thread_time() - start
    assert spent < seconds, f"took {spent:.2f} s of work"
