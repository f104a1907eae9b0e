"""A pool of open handles for libraries whose handles serve one thread at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .._process import ForkAware

__all__ = ["HandlePool"]


class Closable(Protocol):
    """What a handle must be able to do."""

    def close(self) -> None:
        """Let go of the file."""


class HandlePool(ForkAware):
    """Lends handles, each to one borrower at a time, and keeps the idle ones for the next borrower.

    A thread that finds no idle handle of its file opens one more, so threads never wait for each other, and at most
    ``max_idle`` handles stay open beside those in use. A forked child starts with an empty pool: it forgets its
    parent's handles without closing them.

    Example:
        >>> pool = HandlePool(max_idle=8)
        >>> with pool.borrow("a", lambda: open(__file__)) as first:
        ...     pass
        >>> with pool.borrow("a", lambda: open(__file__)) as second:
        ...     second is first
        True
        >>> pool.close()
    """

    def __init__(self, max_idle: int = 64) -> None:
        super().__init__()
        self.max_idle = max_idle
        self._idle: OrderedDict[int, tuple[Hashable, Closable]] = OrderedDict()
        self._by_key: dict[Hashable, list[int]] = {}
        self._next_ticket = 0
        self._lock = threading.Lock()
        self._inherited: list[object] = []

    @contextmanager
    def borrow(self, key: Hashable, open_handle: Callable[[], Any]) -> Iterator[Any]:
        """Lend a handle for ``key`` until the context ends; a handle whose borrower failed is closed, not kept."""
        handle = self._take(key)
        if handle is None:
            handle = open_handle()
        try:
            yield handle
        except BaseException:
            handle.close()
            raise
        for surplus in self._give_back(key, handle):
            surplus.close()

    def close(self) -> None:
        """Close every idle handle."""
        with self._lock:
            idle, self._idle, self._by_key = self._idle, OrderedDict(), {}
        for _, handle in idle.values():
            handle.close()

    def discard(self, key: Hashable) -> None:
        """Close the idle handles of ``key``."""
        while (handle := self._take(key)) is not None:
            handle.close()

    def _take(self, key: Hashable) -> Closable | None:
        with self._lock:
            tickets = self._by_key.get(key)
            if not tickets:
                return None
            ticket = tickets.pop()
            if not tickets:
                del self._by_key[key]
            return self._idle.pop(ticket)[1]

    def _give_back(self, key: Hashable, handle: Closable) -> list[Closable]:
        surplus = []
        with self._lock:
            self._idle[self._next_ticket] = (key, handle)
            self._by_key.setdefault(key, []).append(self._next_ticket)
            self._next_ticket += 1
            while len(self._idle) > self.max_idle:
                ticket, (oldest_key, oldest) = self._idle.popitem(last=False)
                self._by_key[oldest_key].remove(ticket)
                if not self._by_key[oldest_key]:
                    del self._by_key[oldest_key]
                surplus.append(oldest)
        return surplus

    def _after_fork_in_child(self) -> None:
        self._inherited.append(self._idle)
        self._idle, self._by_key = OrderedDict(), {}
        self._lock = threading.Lock()
