"""Work for worker processes that cannot load what a test module defines."""

from __future__ import annotations

import os
import time

import numpy as np

from ndframes.system.threads import resolve_thread_count


def fill(size: int, allocate) -> np.ndarray:
    """An array of fives."""
    return np.full(size, 5, np.uint8)


def describe_process(_: object, allocate) -> tuple[int, int]:
    """The process, and its default number of threads."""
    return os.getpid(), resolve_thread_count(None)


def sleep(seconds: float, allocate) -> float:
    time.sleep(seconds)
    return seconds


def echo(value: object, allocate) -> object:
    return value
