"""A memory of values that cost bytes: what was not used for longest goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from .process import ForkAware

__all__ = ["ClockCache"]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Item(Generic[V]):
    __slots__ = ("cost", "is_used", "value")

    def __init__(self, value: V, cost: int) -> None:
        self.value, self.cost, self.is_used = value, cost, False


class ClockCache(ForkAware, Generic[K, V]):
    """Keeps the values used lately, as long as their costs fit a budget; safe to share between threads.

    A value that was used since its turn came last is passed over once (Corbato's clock, 1968): nearly the order of
    strict least recent use, and a ``get`` takes no lock and moves nothing, since it stands on the way of every crop.
    A single value that costs more than the whole budget is handed through and not kept.

    Args:
        max_bytes: the budget.
        cost: what a value costs, in bytes.

    Example:
        >>> lru = ClockCache(10, len)
        >>> for text in ("aaaa", "bbbb", "cccc"):
        ...     lru.put(text[0], text)
        >>> lru.get("a"), lru.get("c"), lru.used_bytes
        (None, 'cccc', 8)
    """

    def __init__(self, max_bytes: int, cost: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._cost = cost
        self._items: OrderedDict[K, _Item[V]] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__()

    def get(self, key: K) -> V | None:
        """The value of ``key``, now one of those used lately; ``None`` if it is not kept."""
        item = self._items.get(key)
        if item is None:
            return None
        item.is_used = True
        return item.value

    def put(self, key: K, value: V) -> None:
        """Keep ``value``; let go of those unused for longest until the budget holds."""
        cost = self._cost(value)
        with self._lock:
            released = [self._drop(key)]
            if cost <= self.max_bytes:
                # before it is there itself: it would be the one to go where all others were used
                released += self._shrink(self.max_bytes - cost)
                self._items[key] = _Item(value, cost)
                self.used_bytes += cost
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
        item = self._items.pop(key, None)
        if item is None:
            return None
        self.used_bytes -= item.cost
        return item.value

    def _shrink(self, max_bytes: int) -> list[V | None]:
        released: list[V | None] = []
        while self.used_bytes > max_bytes:
            key, item = next(iter(self._items.items()))
            if item.is_used:
                item.is_used = False
                self._items.move_to_end(key)
            else:
                released.append(self._drop(key))
        return released

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        # another thread may have been between two lines of put when the process forked
        self.used_bytes = sum(item.cost for item in self._items.values())
        self._shrink(self.max_bytes)
