"""Threads that switch as often as the interpreter allows, so that races show."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def run_in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """The results of ``work(seed)`` in ``count`` threads that switch fast, or the errors that it raised."""
    outcomes: list[Any] = []

    def run(seed: int) -> None:
        try:
            outcomes.append(work(seed))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return outcomes
