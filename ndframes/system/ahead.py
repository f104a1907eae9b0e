"""What worker processes and worker threads have in common: tasks done ahead of their consumer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

__all__ = ["HELD_RESULTS", "Result", "Workers"]
#: What a consumer holds at most in a plain loop: a result, and the one before until the name is bound again.
HELD_RESULTS = 2


class Result(NamedTuple):
    """What came of a task.

    Attributes:
        value: what the work returned.
        is_copied: whether it was copied out of shared memory, because the consumer kept too many results.
        waited_seconds: for how long the worker had nothing to do before the task.
    """

    value: Any
    is_copied: bool
    waited_seconds: float


class Workers(ABC):
    """Workers that do tasks ahead of their consumer.

    Args:
        count: the number of workers.
        depth: how many tasks each may have, those included whose results were not received.
    """

    def __init__(self, count: int, depth: int) -> None:
        self.count = count
        self.depth = depth
        self.submitted = 0
        self.received = 0

    @property
    def has_room(self) -> bool:
        """Whether another task may be submitted now."""
        return self.submitted - self.received < self.count * self.depth

    @property
    def is_idle(self) -> bool:
        """Whether the results of all tasks were received."""
        return self.submitted == self.received

    @abstractmethod
    def submit(self, payload: Any, label: object) -> None:
        """Give a task to the worker whose turn it is. The label names it in errors."""

    @abstractmethod
    def receive(self) -> Result:
        """Wait for the result of the oldest task.

        Raises:
            WorkerDied: a worker process ended without being asked to.
            Exception: what the work raised.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers. What they do not have finished is lost; arrays in shared memory stay valid."""
