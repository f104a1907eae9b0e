"""Open handles, and a pool of them for libraries whose handles serve one thread at a time."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict, deque
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import SourceMissingError
from .process import ForkAware
from .stamp import changed_error, check_regular_file, source_error, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from .stamp import SourceStamp

__all__ = ["FileHandle", "HandlePool", "SharedHandle", "close_on_error", "is_out_of_descriptors"]
Opened = TypeVar("Opened")
Shared = TypeVar("Shared", bound="SharedHandle")
_MOST_IDLE, _LEAST_IDLE = 128, 4
_IDLE_WITHOUT_LIMIT = 64
_TRIES = 4
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# What forked children must never close, nor let a garbage collector close: a library's own lock, held by a thread of the
# parent at the moment of the fork, would be waited for in vain.
_INHERITED: list[object] = []


class Closable(Protocol):
    """What a handle must be able to do.

    One that takes more than one file descriptor says so in an attribute ``descriptor_count``.
    """

    def close(self) -> None:
        """Let go of the file."""


class SharedHandle:
    """A handle for any number of threads at once. Its file closes with its last user, so nobody needs to say when.

    Whoever keeps one beyond a read does so by a weak reference, and sets :attr:`is_used` when he reads by it: the pool
    passes over those once when it looks for handles to let go of.
    """

    is_used = False

    def close(self) -> None:
        """Nothing: others may be reading by it."""


class FileHandle:
    """A file that is open to be read by position.

    Args:
        path: the file.
        stamp: what the file must be; ``None`` takes any regular file.

    Attributes:
        descriptor: the system's number of the open file.
        stamp: what the file was when it was opened.

    Raises:
        SourceChangedError: the file at ``path`` is not that of ``stamp``, or there is none.
        SourceError: it does not open; see :func:`~ndframes.system.stamp.stat_source`.

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
            status = os.fstat(self.descriptor)
            self.stamp = stamp_of(status)
            if stamp is not None and not stamp.is_same_file(self.stamp):
                raise changed_error(path)
            check_regular_file(path, status)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer``, which is of bytes, with what lies at ``offset`` of the file.

        Raises:
            EOFError: the file ends before.
        """
        done = got = os.preadv(self.descriptor, (buffer,), offset)
        while done < len(buffer):
            if not got:
                raise EOFError(f"{len(buffer):,} bytes should lie at {offset:,}, but the file ends before")
            got = os.preadv(self.descriptor, (buffer[done:],), offset + done)
            done += got

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()  # a pool that nobody closes takes its idle handles with it


class HandlePool(ForkAware):
    """Lends handles, each to one borrower at a time, and keeps the idle ones for the next borrower.

    A thread that finds no idle handle of its file opens one more, so threads never wait for each other. Beside those
    in use, as many handles stay open as take ``max_idle`` file descriptors. A forked child starts with an empty pool:
    it forgets its parent's handles without closing them.

    Args:
        max_idle: ``None`` is a quarter of the files that this process may have open, 4 to 128; 64 where the system has
            no such limit.

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
        self._unwanted: deque[Hashable] = deque()
        self._next_ticket = 0
        self._generation = 0
        self._lock = threading.Lock()
        self._scarcity = threading.Lock()
        super().__init__()

    def borrow(self, key: Hashable, open_handle: Callable[[], Any]) -> AbstractContextManager[Any]:
        """Lend a handle for ``key`` until the context ends; a handle whose borrower failed is closed, not kept."""
        return _Lending(self, key, open_handle)

    def share(self, key: Hashable, open_handle: Callable[[], Shared]) -> Shared:
        """The one handle of ``key`` that all threads use, opened if need be; kept as the idle ones are."""
        with self._lock:
            shared: Shared | None = self._peek(key)
        if shared is not None:
            self._let_go([])
            return shared
        handle = self.open(open_handle)
        with self._lock:
            shared = self._peek(key)  # another thread may have been quicker
            surplus = self._keep(key, handle) if shared is None else []
        self._let_go(surplus)
        return handle if shared is None else shared

    def open(self, open_handle: Callable[[], Opened]) -> Opened:
        """Call what takes file descriptors; where none is left, the idle handles make room for it.

        The limit is the process's, so the descriptors may have gone to anybody's files. An idle handle costs one open
        to have back, and a read that fails costs the caller his work: every idle one goes, only half as many are kept
        from then on, and there is another try. Other threads may be quicker to take what was set free, so that is done
        more than once; not for ever, since there may be nothing left to give.

        Args:
            open_handle: called until it succeeds, or has failed too often.
        """
        for _ in range(_TRIES - 1):
            try:
                return open_handle()
            except Exception as error:
                if not is_out_of_descriptors(error):
                    raise
            with self._scarcity:  # who comes second must not try again before the first has closed them
                self.max_idle = min(self.max_idle, max(_LEAST_IDLE, self.max_idle // 2))
                self.close()
        return open_handle()

    def close(self) -> None:
        """Close every idle handle."""
        with self._lock:
            idle, self._idle, self._by_key = self._idle, OrderedDict(), {}
            self._idle_descriptors = 0
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
        if self._unwanted:
            self._close_unwanted()
        return handle

    def _give_back(self, key: Hashable, handle: Closable) -> None:
        with self._lock:
            surplus = self._keep(key, handle)
        self._let_go(surplus)

    def _peek(self, key: Hashable) -> Any:
        """The idle handle of ``key`` that was used last, still the pool's; ``None`` if there is none; the lock is held."""
        tickets = self._by_key.get(key)
        return self._idle[tickets[-1]][1] if tickets else None

    def _keep(self, key: Hashable, handle: Closable) -> list[Closable]:
        """One more idle handle; returns those that are too many now; the lock is held."""
        surplus: list[Closable] = []
        count = _count_descriptors(handle)
        # before it is there itself: it would be the one to go where all others were used
        while self._idle and self._idle_descriptors + count > self.max_idle:
            ticket, (oldest_key, oldest) = self._idle.popitem(last=False)
            if getattr(oldest, "is_used", False):
                oldest.is_used = False  # type: ignore[attr-defined]
                self._idle[ticket] = (oldest_key, oldest)
                continue
            self._idle_descriptors -= _count_descriptors(oldest)
            self._by_key[oldest_key].remove(ticket)
            if not self._by_key[oldest_key]:
                del self._by_key[oldest_key]
            surplus.append(oldest)
        if count > self.max_idle:
            return [*surplus, handle]
        self._idle[self._next_ticket] = (key, handle)
        self._by_key.setdefault(key, []).append(self._next_ticket)
        self._next_ticket += 1
        self._idle_descriptors += count
        return surplus

    def _let_go(self, surplus: list[Closable]) -> None:
        if surplus:
            _close_all(surplus)
        if self._unwanted:
            self._close_unwanted()

    def _pop(self, key: Hashable) -> Closable | None:
        """The idle handle of ``key`` that was used last, no longer the pool's; the lock is held."""
        tickets = self._by_key.get(key)
        if not tickets:
            return None
        ticket = tickets.pop()
        if not tickets:
            del self._by_key[key]
        handle = self._idle.pop(ticket)[1]
        self._idle_descriptors -= _count_descriptors(handle)
        return handle

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
        self._idle_descriptors = 0
        self._generation += 1
        self._lock = threading.Lock()
        self._scarcity = threading.Lock()


class _Lending:
    """One handle's time with one borrower; a class of its own, since a generator takes twice as long."""

    __slots__ = ("_generation", "_handle", "_key", "_open_handle", "_pool")

    def __init__(self, pool: HandlePool, key: Hashable, open_handle: Callable[[], Any]) -> None:
        self._pool, self._key, self._open_handle = pool, key, open_handle

    def __enter__(self) -> Any:
        pool = self._pool
        handle = pool._take(self._key)  # noqa: SLF001 - the pool's other half
        self._generation = pool._generation  # noqa: SLF001
        self._handle = pool.open(self._open_handle) if handle is None else handle
        return self._handle

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        pool = self._pool
        if self._generation != pool._generation:  # noqa: SLF001 - the borrower forked, and this is the child
            _INHERITED.append(self._handle)
        elif kind is None:
            pool._give_back(self._key, self._handle)  # noqa: SLF001
        else:
            self._handle.close()


@contextmanager
def close_on_error(handle: Closable | None) -> Iterator[None]:
    """Close ``handle`` if what comes next fails: whoever keeps the error keeps alive what its traceback holds.

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
    """Whether an error, or what caused it, is that too many files are open, in this process or in the machine.

    Example:
        >>> is_out_of_descriptors(OSError(errno.EMFILE, "")), is_out_of_descriptors(OSError(errno.ENOENT, ""))
        (True, False)
    """
    link: BaseException | None = error
    seen: set[BaseException] = set()
    while link is not None and link not in seen:  # two errors may name each other as their cause
        seen.add(link)
        if isinstance(link, OSError) and link.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if "Too many open files" in str(link):  # GDAL has the words only
            return True
        link = link.__cause__ or link.__context__
    return False


def _open_error(path: str, error: Exception, stamp: SourceStamp | None) -> Exception:
    """A function of its own: were the error a local name of the frame that raises it, both would live until a collection."""
    told = source_error(path, error)
    return changed_error(path) if stamp is not None and isinstance(told, SourceMissingError) else told


def _default_max_idle() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return _IDLE_WITHOUT_LIMIT
    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft_limit == resource.RLIM_INFINITY:
        return _MOST_IDLE
    return max(_LEAST_IDLE, min(_MOST_IDLE, soft_limit // 4))


def _count_descriptors(handle: Closable) -> int:
    count: int = getattr(handle, "descriptor_count", 1)
    return count


def _close_all(handles: Iterable[Closable]) -> None:
    """Close every one of them, even where one of them fails to."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.close)
