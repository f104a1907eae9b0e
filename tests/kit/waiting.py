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
def within(seconds: float) -> Iterator[None]:
    """Limit the processor time, which other load on the machine does not change."""
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds
