"""A cache in memory with a budget in bytes."""

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
    """Keeps recently used values within a budget, by the clock algorithm (Corbato, 1968). Threads may share it.

    A value that was used since its last turn is passed over once, so the order of eviction is close to that of least
    recent use. A ``get`` takes no lock and moves nothing, because every crop calls it several times. A value that costs
    more than the budget is not kept.

    Args:
        max_bytes: the budget.
        cost: the cost of a value, in bytes.

    Example:
        >>> cache = ClockCache(10, len)
        >>> for text in ("aaaa", "bbbb", "cccc"):
        ...     cache.put(text[0], text)
        >>> cache.get("a"), cache.get("c"), cache.used_bytes
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
        """Return the value of ``key`` and mark it as used; ``None`` if it is not in the cache."""
        # A look-up in a dict is atomic. At worst, this marks an item that another thread has just evicted.
        item = self._items.get(key)
        if item is None:
            return None
        item.is_used = True
        return item.value

    def put(self, key: K, value: V) -> None:
        """Keep ``value``, and evict others until the budget holds."""
        cost = self._cost(value)
        with self._lock:
            released = [self._drop(key)]
            if cost <= self.max_bytes:
                # Make room first: if all other values were used lately, the new one, not used yet, would be evicted.
                released += self._shrink(self.max_bytes - cost)
                self._items[key] = _Item(value, cost)
                self.used_bytes += cost
        del released  # outside the lock, because finalizers may be slow or may call this cache

    def discard(self, key: K) -> None:
        """Remove ``key`` if it is in the cache."""
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
        # The fork may have come between two lines of put in another thread.
        self.used_bytes = sum(item.cost for item in self._items.values())
        self._shrink(self.max_bytes)
