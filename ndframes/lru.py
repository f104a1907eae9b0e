"""A least-recently-used memory of values that cost bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ._process import ForkAware

__all__ = ["ByteLRU"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLRU(ForkAware, Generic[K, V]):
    """Keeps the values used last, as long as their costs fit a budget; safe to share between threads.

    A single value that costs more than the whole budget is handed through and not kept.

    Args:
        max_bytes: the budget.
        cost: what a value costs, in bytes.

    Example:
        >>> lru = ByteLRU(10, len)
        >>> for text in ("aaaa", "bbbb", "cccc"):
        ...     lru.put(text[0], text)
        >>> lru.get("a"), lru.get("c"), lru.used_bytes
        (None, 'cccc', 8)
    """

    def __init__(self, max_bytes: int, cost: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._cost = cost
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__()

    def get(self, key: K) -> V | None:
        """The value of ``key``, now the one used last; ``None`` if it is not kept."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: K, value: V) -> None:
        """Keep ``value``; let go of those used longest ago until the budget holds."""
        cost = self._cost(value)
        with self._lock:
            released = [self._drop(key)]
            if cost <= self.max_bytes:
                self._items[key] = (value, cost)
                self.used_bytes += cost
                released += self._shrink()
        del released  # only now, outside the lock: finalizers may take their time, or come back here

    def discard(self, key: K) -> None:
        """Let go of ``key``, if it is kept."""
        with self._lock:
            released = self._drop(key)
        del released

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return key in self._items

    def _drop(self, key: K) -> V | None:
        value, cost = self._items.pop(key, (None, 0))
        self.used_bytes -= cost
        return value

    def _shrink(self) -> list[V | None]:
        released = []
        while self.used_bytes > self.max_bytes:
            released.append(self._drop(next(iter(self._items))))
        return released

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        # another thread may have been between two lines of put when the process forked
        self.used_bytes = sum(cost for _, cost in self._items.values())
        self._shrink()
