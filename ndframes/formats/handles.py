"""A pool of open handles for libraries whose handles serve one thread at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from .._process import ForkAware

__all__ = ["HandlePool"]

# What forked children must never close, nor let a garbage collector close: a library's own lock, held by a thread of the
# parent at the moment of the fork, would be waited for in vain.
_INHERITED: list[object] = []


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
        self.max_idle = max_idle
        self._idle: OrderedDict[int, tuple[Hashable, Closable]] = OrderedDict()
        self._by_key: dict[Hashable, list[int]] = {}
        self._unwanted: deque[Hashable] = deque()
        self._next_ticket = 0
        self._generation = 0
        self._lock = threading.Lock()
        super().__init__()

    @contextmanager
    def borrow(self, key: Hashable, open_handle: Callable[[], Any]) -> Iterator[Any]:
        """Lend a handle for ``key`` until the context ends; a handle whose borrower failed is closed, not kept."""
        handle = self._take(key)
        generation = self._generation
        if handle is None:
            handle = open_handle()
        try:
            yield handle
        except BaseException:
            if generation == self._generation:
                handle.close()
            raise
        finally:
            if generation != self._generation:  # the borrower forked, and this is the child
                _INHERITED.append(handle)
        if generation == self._generation:
            self._give_back(key, handle)

    def close(self) -> None:
        """Close every idle handle."""
        with self._lock:
            idle, self._idle, self._by_key = self._idle, OrderedDict(), {}
        _close_all(handle for _, handle in idle.values())

    def discard(self, key: Hashable) -> None:
        """Close the idle handles of ``key``.

        Never waits: while the pool is at work, it is left to whoever is at work there. So a finalizer may call this,
        and finalizers run anywhere, in the middle of this class's own methods too.
        """
        self._unwanted.append(key)
        self._close_unwanted()

    def _take(self, key: Hashable) -> Closable | None:
        with self._lock:
            handle = self._pop(key)
        self._close_unwanted()
        return handle

    def _give_back(self, key: Hashable, handle: Closable) -> None:
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
        _close_all(surplus)
        self._close_unwanted()

    def _pop(self, key: Hashable) -> Closable | None:
        """The idle handle of ``key`` that was used last, no longer the pool's; the lock is held."""
        tickets = self._by_key.get(key)
        if not tickets:
            return None
        ticket = tickets.pop()
        if not tickets:
            del self._by_key[key]
        return self._idle.pop(ticket)[1]

    def _close_unwanted(self) -> None:
        while self._unwanted and self._lock.acquire(blocking=False):
            unwanted: list[Closable] = []
            try:
                while self._unwanted:
                    key = self._unwanted.popleft()
                    while (handle := self._pop(key)) is not None:
                        unwanted.append(handle)
            finally:
                self._lock.release()
            _close_all(unwanted)

    def _after_fork_in_child(self) -> None:
        _INHERITED.append(self._idle)
        self._idle, self._by_key, self._unwanted = OrderedDict(), {}, deque()
        self._generation += 1
        self._lock = threading.Lock()


def _close_all(handles: Iterable[Closable]) -> None:
    """Close every one of them, even where one of them fails to."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.close)
