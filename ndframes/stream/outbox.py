"""Outbox: results that wait to be sent, up to a limit."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .values import Result

__all__ = ["Outbox", "Outgoing", "Overflow"]
#: What happens to a result for which there is no room: the caller waits, the oldest or the newest result is dropped, or it is an
#: error.
Overflow = Literal["wait", "drop_oldest", "drop_newest", "raise"]


class Outgoing(NamedTuple):
    """A result, and its JSON."""

    result: Result
    text: str


class Outbox:
    """Results that wait to be sent, and what became of all others.

    ``received == delivered + failed + dropped + waiting`` at all times.

    Args:
        most: how many wait.
        overflow: what happens to a result for which there is no room.
    """

    def __init__(self, most: int, overflow: Overflow) -> None:
        self._most = most
        self._overflow = overflow
        self._waiting: deque[Outgoing] = deque()
        self._sending: list[Outgoing] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._received = self._delivered = self._failed = self._dropped = self._retries = 0

    def put(self, item: Outgoing) -> bool:
        """Take a result in; returns whether there was room. Without room, it is counted as dropped, or waits."""
        with self._changed:
            self._received += 1
            while len(self._waiting) >= self._most and not self._is_closed:
                if self._overflow == "wait":
                    self._changed.wait()
                    continue
                self._dropped += 1
                if self._overflow != "drop_oldest":
                    return False
                self._waiting.popleft()
            if self._is_closed:
                self._failed += 1
                return False
            self._waiting.append(item)
            self._changed.notify_all()
        return True

    def take(self, most: int) -> list[Outgoing]:
        """The results that have waited longest, at most so many; waits for one. Empty if no more will come."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            self._sending = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._changed.notify_all()
            return list(self._sending)

    def settle(self, *, is_success: bool) -> None:
        """Count what was taken."""
        with self._changed:
            if is_success:
                self._delivered += len(self._sending)
            else:
                self._failed += len(self._sending)
            self._sending = []

    def count_retry(self) -> None:
        """Count another attempt."""
        with self._changed:
            self._retries += 1

    def close(self) -> None:
        """No more will come. What waits can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def abandon(self) -> list[Outgoing]:
        """Close it, and count everything that has not been delivered as failed; returns that."""
        with self._changed:
            self._is_closed = True
            left = [*self._sending, *self._waiting]
            self._failed += len(left)
            self._sending = []
            self._waiting.clear()
            self._changed.notify_all()
        return left

    @property
    def settled(self) -> int:
        """How many have been delivered, or have failed."""
        with self._changed:
            return self._delivered + self._failed

    @property
    def stats(self) -> dict[str, int]:
        """All counts."""
        with self._changed:
            return {
                "received": self._received,
                "delivered": self._delivered,
                "failed": self._failed,
                "dropped": self._dropped,
                "waiting": len(self._waiting) + len(self._sending),
                "retries": self._retries,
            }
