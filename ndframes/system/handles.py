"""Open files, and a pool of handles for libraries whose handles serve one thread at a time."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict, deque
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from ..errors import SourceMissingError
from .process import ForkAware
from .stamp import changed_error, check_regular_file, source_error, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from .stamp import SourceStamp

__all__ = ["FileHandle", "HandlePool", "SharedHandle", "close_on_error", "is_out_of_descriptors"]
Opened = TypeVar("Opened")
Shared = TypeVar("Shared", bound="SharedHandle")
_MAX_IDLE, _MIN_IDLE = 128, 4
_IDLE_WITHOUT_LIMIT = 64
_MAX_ATTEMPTS = 4
# A FIFO would block an open without O_NONBLOCK; Windows translates line ends without O_BINARY.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Handles that a forked child inherited. Closing one, also by garbage collection, may need a lock of its library that a
# thread of the parent held during the fork; the child would wait for that lock for ever.
_INHERITED: list[object] = []


class Closable(Protocol):
    """A handle that a pool can keep.

    A handle that uses more than one file descriptor has an attribute ``descriptor_count``.
    """

    def close(self) -> None:
        """Close the file."""


class SharedHandle:
    """A handle that any number of threads use at once. Its file closes when the last reference to the handle is gone.

    Readers keep a weak reference between reads, and set :attr:`is_used` at each read. The pool passes over a handle that
    was used, once, when it looks for handles to close.
    """

    is_used = False

    def close(self) -> None:
        """Do nothing, because other threads may be reading."""


class FileHandle:
    """A file opened for reads at given positions.

    Args:
        path: the file.
        stamp: the expected stamp of the file; ``None`` accepts any regular file.

    Attributes:
        descriptor: the file descriptor.
        stamp: the stamp of the file when it was opened.

    Raises:
        SourceChangedError: the file at ``path`` has another stamp, or does not exist.
        SourceError: the file does not open; see :func:`~ndframes.system.stamp.stat_source`.

    Example:
        >>> file = FileHandle(__file__)
        >>> head = bytearray(3)
        >>> file.read_into(memoryview(head), offset=0)
        >>> file.close()
    """

    def __init__(self, path: str, stamp: SourceStamp | None = None) -> None:
        self.descriptor = -1
        try:
            self.descriptor = os.open(path, _FLAGS)
        except (OSError, ValueError) as error:
            raise _open_error(path, error, stamp) from error
        with close_on_error(self):
            # Of the descriptor, not of the path, which may lead to another file by now.
            status = os.fstat(self.descriptor)
            self.stamp = stamp_of(status)
            if stamp is not None and not stamp.is_same_file(self.stamp):
                raise changed_error(path)
            check_regular_file(path, status)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer``, a view of bytes, with the bytes at ``offset`` of the file.

        Raises:
            EOFError: the file ends before the buffer is full.
        """
        # A read may be short: Linux transfers at most 2 GiB at once, and a signal may interrupt it.
        done = got = os.preadv(self.descriptor, (buffer,), offset)
        while done < len(buffer):
            if not got:
                raise EOFError(f"expected {len(buffer):,} bytes at {offset:,}, but the file ends before")
            got = os.preadv(self.descriptor, (buffer[done:],), offset + done)
            done += got

    def close(self) -> None:
        """Close the file. Further calls do nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()  # a pool that is never closed is collected together with its idle handles


class HandlePool(ForkAware):
    """Lends each handle to one borrower at a time, and keeps idle handles open for the next borrower.

    A thread that finds no idle handle of its file opens another one, so threads never wait for each other. Idle handles
    use at most ``max_idle`` file descriptors; borrowed handles do not count. A forked child starts with an empty pool
    and does not close the handles of its parent.

    Args:
        max_idle: the limit, in descriptors; ``None`` is a quarter of the files that this process may have open, from 4 to
            128, or 64 where the system has no such limit.

    Example:
        >>> pool = HandlePool(max_idle=8)
        >>> with pool.borrow("a", lambda: open(__file__)) as first:
        ...     pass
        >>> with pool.borrow("a", lambda: open(__file__)) as second:
        ...     second is first
        True
        >>> pool.close()
    """

    def __init__(self, max_idle: int | None = None) -> None:
        self.max_idle = _default_max_idle() if max_idle is None else max_idle
        self._idle_descriptors = 0
        self._idle: OrderedDict[int, tuple[Hashable, Closable]] = OrderedDict()
        self._by_key: dict[Hashable, list[int]] = {}
        self._discarded: deque[Hashable] = deque()
        self._next_number = 0
        self._generation = 0
        self._lock = threading.Lock()
        self._reclaim_lock = threading.Lock()
        super().__init__()
        _POOLS[id(self)] = self

    def borrow(self, key: Hashable, open_handle: Callable[[], Any]) -> AbstractContextManager[Any]:
        """Lend a handle of ``key`` until the context ends. The handle is closed instead of kept if the context raises."""
        return _Borrowed(self, key, open_handle)

    def share(self, key: Hashable, open_handle: Callable[[], Shared]) -> Shared:
        """Return the one handle of ``key`` that all threads use, opened if necessary and kept like an idle handle."""
        with self._lock:
            shared: Shared | None = self._peek(key)
        if shared is not None:
            self._close_surplus([])
            return shared
        # Without the lock: opening may be slow, and it takes the lock itself to close idle handles.
        handle = self.open(open_handle)
        with self._lock:
            shared = self._peek(key)  # another thread may have been faster
            surplus = self._add(key, handle) if shared is None else []
        self._close_surplus(surplus)
        # The handle of the slower thread closes with its last reference.
        return handle if shared is None else shared

    def open(self, open_handle: Callable[[], Opened]) -> Opened:
        """Call ``open_handle``; if the process is out of file descriptors, close idle handles and try again.

        Opening an idle handle again is cheap compared with a read that fails, so all of them are closed, in every pool of
        the process, and from then on this pool keeps half as many. Other threads may take the freed descriptors first; hence there are several
        attempts. Their number is limited, because other code may hold all descriptors.

        Args:
            open_handle: called up to four times.
        """
        for _ in range(_MAX_ATTEMPTS - 1):
            try:
                return open_handle()
            except Exception as error:
                if not is_out_of_descriptors(error):
                    raise
            # Not in the except block: the error's traceback keeps the handles of the failed attempt open.
            with self._reclaim_lock:  # a second thread must not try again before the first has closed the handles
                self.max_idle = min(self.max_idle, max(_MIN_IDLE, self.max_idle // 2))
                # Each file that was opened by itself has a pool. The list is a copy: other threads make and drop pools.
                for reference in _POOLS.valuerefs():
                    pool = reference()
                    if pool is not None:
                        pool.close()
        return open_handle()

    def close(self) -> None:
        """Close all idle handles."""
        with self._lock:
            idle, self._idle, self._by_key = self._idle, OrderedDict(), {}
            self._idle_descriptors = 0
        # Outside the lock, because a close may be slow.
        _close_all(handle for _, handle in idle.values())

    def discard(self, key: Hashable) -> None:
        """Close the idle handles of ``key``, now or as soon as the pool's lock is free.

        This method never waits for the lock. Finalizers call it, and a garbage collection may run them in a thread that
        holds the lock.
        """
        self._discarded.append(key)
        self._close_discarded()

    def _take(self, key: Hashable) -> Closable | None:
        with self._lock:
            handle = self._pop(key)
        if self._discarded:
            self._close_discarded()
        return handle

    def _give_back(self, key: Hashable, handle: Closable) -> None:
        with self._lock:
            surplus = self._add(key, handle)
        self._close_surplus(surplus)

    def _peek(self, key: Hashable) -> Any:
        """The idle handle of ``key`` that was used last, or ``None``. Call with the lock held."""
        numbers = self._by_key.get(key)
        return self._idle[numbers[-1]][1] if numbers else None

    def _add(self, key: Hashable, handle: Closable) -> list[Closable]:
        """Add an idle handle; return those that the caller must close. Call with the lock held."""
        surplus: list[Closable] = []
        count = _count_descriptors(handle)
        # Make room first: if all other handles were used lately, the new one, not used yet, would be evicted.
        while self._idle and self._idle_descriptors + count > self.max_idle:
            number, (oldest_key, oldest) = self._idle.popitem(last=False)
            if getattr(oldest, "is_used", False):
                oldest.is_used = False  # type: ignore[attr-defined]
                self._idle[number] = (oldest_key, oldest)
                continue
            self._idle_descriptors -= _count_descriptors(oldest)
            self._by_key[oldest_key].remove(number)
            if not self._by_key[oldest_key]:
                del self._by_key[oldest_key]
            surplus.append(oldest)
        if count > self.max_idle:
            return [*surplus, handle]
        self._idle[self._next_number] = (key, handle)
        self._by_key.setdefault(key, []).append(self._next_number)
        self._next_number += 1
        self._idle_descriptors += count
        return surplus

    def _pop(self, key: Hashable) -> Closable | None:
        """Remove and return the idle handle of ``key`` that was used last. Call with the lock held."""
        numbers = self._by_key.get(key)
        if not numbers:
            return None
        number = numbers.pop()
        if not numbers:
            del self._by_key[key]
        handle = self._idle.pop(number)[1]
        self._idle_descriptors -= _count_descriptors(handle)
        return handle

    def _close_surplus(self, surplus: list[Closable]) -> None:
        if surplus:
            _close_all(surplus)
        if self._discarded:
            self._close_discarded()

    def _close_discarded(self) -> None:
        # Checked again after each release: a key that was added while the lock was held is closed by this thread.
        while self._discarded and self._lock.acquire(blocking=False):
            handles: list[Closable] = []
            try:
                while self._discarded:
                    key = self._discarded.popleft()
                    while (handle := self._pop(key)) is not None:
                        handles.append(handle)
            finally:
                self._lock.release()
            _close_all(handles)

    def _after_fork_in_child(self) -> None:
        _INHERITED.append(self._idle)
        self._idle, self._by_key, self._discarded = OrderedDict(), {}, deque()
        self._idle_descriptors = 0
        self._generation += 1
        self._lock = threading.Lock()
        self._reclaim_lock = threading.Lock()


# All pools of the process; weak references, so that a forgotten pool is not kept.
_POOLS: WeakValueDictionary[int, HandlePool] = WeakValueDictionary()


class _Borrowed:
    """The context of one borrowed handle; a class, because a generator takes twice as long."""

    __slots__ = ("_generation", "_handle", "_key", "_open_handle", "_pool")

    def __init__(self, pool: HandlePool, key: Hashable, open_handle: Callable[[], Any]) -> None:
        self._pool, self._key, self._open_handle = pool, key, open_handle

    def __enter__(self) -> Any:
        pool = self._pool
        handle = pool._take(self._key)  # noqa: SLF001 - a part of the pool
        self._generation = pool._generation  # noqa: SLF001
        self._handle = pool.open(self._open_handle) if handle is None else handle
        return self._handle

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        pool = self._pool
        if self._generation != pool._generation:  # noqa: SLF001 - a child that was forked inside of the context
            _INHERITED.append(self._handle)
        elif kind is None:
            pool._give_back(self._key, self._handle)  # noqa: SLF001
        else:
            self._handle.close()


@contextmanager
def close_on_error(handle: Closable | None) -> Iterator[None]:
    """Close ``handle`` if the context raises; a caller that keeps the error would keep the handle open by its traceback.

    Example:
        >>> file = FileHandle(__file__)
        >>> with close_on_error(file):
        ...     raise EOFError
        Traceback (most recent call last):
        EOFError
        >>> file.descriptor
        -1
    """
    try:
        yield
    except BaseException:
        if handle is not None:
            handle.close()
        raise


def is_out_of_descriptors(error: BaseException) -> bool:
    """Whether an error or one of its causes says that this process or the machine has too many open files.

    Example:
        >>> is_out_of_descriptors(OSError(errno.EMFILE, "")), is_out_of_descriptors(OSError(errno.ENOENT, ""))
        (True, False)
    """
    link: BaseException | None = error
    seen: set[BaseException] = set()
    while link is not None and link not in seen:  # two errors may be each other's cause
        seen.add(link)
        if isinstance(link, OSError) and link.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if "Too many open files" in str(link):  # errors of GDAL and of the dynamic linker have no errno
            return True
        link = link.__cause__ or link.__context__
    return False


def _open_error(path: str, error: Exception, stamp: SourceStamp | None) -> Exception:
    # A function of its own: an error in a local variable of the frame that raises it is a reference cycle.
    found = source_error(path, error)
    return changed_error(path) if stamp is not None and isinstance(found, SourceMissingError) else found


def _default_max_idle() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return _IDLE_WITHOUT_LIMIT
    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft_limit == resource.RLIM_INFINITY:
        return _MAX_IDLE
    return max(_MIN_IDLE, min(_MAX_IDLE, soft_limit // 4))


def _count_descriptors(handle: Closable) -> int:
    count: int = getattr(handle, "descriptor_count", 1)
    return count


def _close_all(handles: Iterable[Closable]) -> None:
    """Close all handles, even if one of them raises."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.close)
