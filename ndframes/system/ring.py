"""Slots of shared memory in which a worker hands arrays to its consumer, without copying them.

Most of the cost of new shared memory is that its pages are allocated, zeroed and mapped one by one: a new segment for each
chunk takes 20 times as long as a copy. So the pages of a slot are mapped once, and used again and again.

The consumer decides which slot a chunk goes to, because it knows which are in use. The worker makes the memory of a slot,
because it knows how large the chunk is, and passes it on.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import pickle
import sys
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import SharedMemoryError
from ..text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.shared_memory import SharedMemory

    from .._typing import Array

__all__ = [
    "MemoryHandle",
    "MemoryKind",
    "Packed",
    "SlotWriter",
    "Slots",
    "create_memory",
    "map_memory",
    "release_handle",
    "shared_memory_kind",
    "unpack",
]
#: ``"memfd"`` has no name and no limit but that of all memory; ``"shared_memory"`` is POSIX shared memory in ``/dev/shm``.
MemoryKind = Literal["memfd", "shared_memory"]
_PAGE_BYTES = mmap.PAGESIZE
# A cache line; also enough for any dtype.
_ALIGNMENT = 64
# Most chunks are an array and little else, which then fits as well.
_SPARE_BYTES = 64 << 10


class MemoryHandle(NamedTuple):
    """What another process needs to map shared memory: a file descriptor, or a name where there is none."""

    nbytes: int
    descriptor: int | None
    name: str | None


def shared_memory_kind() -> MemoryKind:
    """The kind of shared memory on this system."""
    return "memfd" if hasattr(os, "memfd_create") else "shared_memory"


def create_memory(nbytes: int, kind: MemoryKind) -> tuple[mmap.mmap, MemoryHandle]:
    """Allocate shared memory and map it. The descriptor of the handle is the caller's.

    All pages are allocated here: otherwise, the first write to a page for which there is no space kills the process.

    Raises:
        SharedMemoryError: there is not enough space, or no file descriptor.
    """
    nbytes = -(-nbytes // _PAGE_BYTES) * _PAGE_BYTES
    try:
        return _create_memfd(nbytes) if kind == "memfd" else _create_segment(nbytes)
    except OSError as error:
        raise _no_memory_error(nbytes, kind, error) from error


def map_memory(handle: MemoryHandle) -> mmap.mmap:
    """Map memory that another process has created, and close the handle.

    Raises:
        SharedMemoryError: it cannot be mapped.
    """
    try:
        if handle.descriptor is None:
            return _attach_segment(handle)
        try:
            return _map_pages(handle.descriptor, handle.nbytes)
        finally:
            os.close(handle.descriptor)
    except OSError as error:
        raise _no_memory_error(handle.nbytes, "memfd" if handle.name is None else "shared_memory", error) from error


class _Lent(weakref.ref[Any]):
    """An array over a slot's memory, referred to until it dies."""

    __slots__ = ("number",)
    number: int


class Slots:
    """The consumer's side: which slots are free, and arrays over their memory.

    A slot becomes free when the array over it dies, with all views of it.

    Args:
        count: the number of slots; they have no memory yet.

    Example:
        >>> slots = Slots(2)
        >>> number = slots.take()
        >>> slots.assign(number, bytearray(100))
        >>> view = slots.lend(number)[:5]
        >>> slots.free_count
        1
        >>> del view
        >>> slots.free_count
        2
    """

    def __init__(self, count: int) -> None:
        # The last one returned is taken first, so that as few slots as possible get memory.
        self._free = deque(range(count - 1, -1, -1))
        # An array that dies appends its reference here, in any thread and while the garbage collector runs. No Python code
        # runs meanwhile: an interrupt by Ctrl-C during a finalizer would be dropped.
        self._dead: deque[_Lent] = deque()
        self._lent: dict[int, _Lent] = {}
        self._memory: list[mmap.mmap | bytearray | None] = [None] * count

    @property
    def free_count(self) -> int:
        """The number of slots that are not in use."""
        return len(self._free) + len(self._dead)

    def take(self) -> int | None:
        """The number of a free slot, which is in use from now on; ``None`` if there is none."""
        # Several threads may do this at once, so each end of a deque is tried, and not looked at before.
        with suppress(IndexError):
            while True:
                number = self._dead.popleft().number
                self._lent.pop(number, None)
                self._free.append(number)
        try:
            return self._free.pop()
        except IndexError:
            return None

    def give_back(self, number: int) -> None:
        """Make a slot free over which there is no array."""
        self._free.append(number)

    def assign(self, number: int, memory: mmap.mmap | bytearray) -> None:
        """Give a slot its memory, in place of what it had."""
        self._memory[number] = memory

    def capacity(self, number: int) -> int:
        """The bytes of a slot's memory."""
        memory = self._memory[number]
        return 0 if memory is None else len(memory)

    def lend(self, number: int) -> Array:
        """All bytes of a slot as an array; when it and its views are dead, the slot is free."""
        memory = self._memory[number]
        assert memory is not None  # noqa: S101 - the worker has sent it before the first chunk in it
        # Not np.ndarray(buffer=...), which does not keep the memory mapped. All views of this array have it as their base.
        base = np.frombuffer(memory, np.uint8)
        lent = _Lent(base, self._dead.append)
        lent.number = number
        self._lent[number] = lent
        return base


class Packed(NamedTuple):
    """An object that is pickled up to the contents of its arrays.

    Attributes:
        body: the pickle.
        spans: where in the slot each array lies: its start and length in bytes.
    """

    body: bytes
    spans: list[tuple[int, int]]


class SlotWriter:
    """The worker's side: memory for the slots, and objects packed into it.

    Example:
        >>> writer = SlotWriter("shared_memory" if not hasattr(os, "memfd_create") else "memfd")
        >>> writer.begin(0)
        >>> array = writer.allocate((2, 3), np.dtype("uint8"))
        >>> array[...] = 7
        >>> packed = writer.pack({"images": array, "count": 2})
        >>> packed.spans
        [(0, 6)]
        >>> memory = map_memory(writer.take_handle())
        >>> unpack(packed, np.frombuffer(memory, np.uint8))["images"].tolist()
        [[7, 7, 7], [7, 7, 7]]
    """

    def __init__(self, kind: MemoryKind) -> None:
        self._kind = kind
        self._memory: dict[int, mmap.mmap] = {}
        self._slot = 0
        self._used_bytes = 0
        self._handle: MemoryHandle | None = None

    def begin(self, slot: int) -> None:
        """Start a chunk in a slot that the consumer does not use."""
        self._slot, self._used_bytes = slot, 0

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """An array in the slot, whose contents are arbitrary. :meth:`pack` finds it there and does not copy it.

        Raises:
            SharedMemoryError: there is no memory for it.
        """
        count = math.prod(shape)
        (start,), end = _lay_out(self._used_bytes, [count * dtype.itemsize])
        if end > self._capacity:
            # Arrays that were allocated before stay in the memory that is replaced; pack() copies them.
            self._replace_memory(end + _SPARE_BYTES)
        self._used_bytes = end
        return np.frombuffer(self._memory[self._slot], dtype, count, start).reshape(shape)

    def pack(self, value: Any) -> Packed:
        """Pickle an object; the contents of its contiguous arrays go to the slot.

        Raises:
            SharedMemoryError: there is no memory for them.
            Exception: whatever pickling raises.
        """
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        contents = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        places = [self._find(content) for content in contents]
        missing = [number for number, place in enumerate(places) if place is None]
        starts, end = _lay_out(self._used_bytes, [contents[number].size for number in missing])
        if end > self._capacity:
            missing = list(range(len(contents)))
            starts, end = _lay_out(0, [content.size for content in contents])
            self._replace_memory(end)
        for number, start in zip(missing, starts, strict=True):
            places[number] = start
            size = contents[number].size
            if size:
                np.frombuffer(self._memory[self._slot], np.uint8, size, start)[...] = contents[number]
        spans = [(place or 0, content.size) for place, content in zip(places, contents, strict=True)]
        return Packed(body, spans)

    def take_handle(self) -> MemoryHandle | None:
        """The handle of memory that is new since the last call, for the consumer."""
        handle, self._handle = self._handle, None
        return handle

    @property
    def _capacity(self) -> int:
        memory = self._memory.get(self._slot)
        return 0 if memory is None else len(memory)

    def _find(self, content: Array) -> int | None:
        """Where in the slot these bytes lie; ``None`` if they are elsewhere."""
        memory = self._memory.get(self._slot)
        if memory is None or not content.size:
            return None
        start = _address(content) - _address(np.frombuffer(memory, np.uint8))
        return start if 0 <= start <= len(memory) - content.size else None

    def _replace_memory(self, nbytes: int) -> None:
        handle = self.take_handle()
        if handle is not None:
            release_handle(handle)
        # First, so that it can be freed before there is more.
        self._memory.pop(self._slot, None)
        self._memory[self._slot], self._handle = create_memory(nbytes, self._kind)


def unpack(packed: Packed, base: Array, *, is_copied: bool = False) -> Any:
    """The object of :meth:`SlotWriter.pack`. Its arrays are views of ``base``, the bytes of the slot, unless they are copied."""
    parts = [base[start : start + size] for start, size in packed.spans]
    return pickle.loads(packed.body, buffers=[part.copy() if is_copied else part for part in parts])  # noqa: S301


def release_handle(handle: MemoryHandle) -> None:
    """Close a handle that was not passed on."""
    if handle.descriptor is not None:
        os.close(handle.descriptor)
    elif handle.name is not None:
        _attach_segment(handle)


def _lay_out(start: int, sizes: Sequence[int]) -> tuple[list[int], int]:
    """The aligned positions of pieces one after another, and the end of the last one."""
    starts = []
    for size in sizes:
        start = -(-start // _ALIGNMENT) * _ALIGNMENT
        starts.append(start)
        start += size
    return starts, start


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _create_memfd(nbytes: int) -> tuple[mmap.mmap, MemoryHandle]:
    descriptor = os.memfd_create("ndframes")
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
        return _map_pages(descriptor, nbytes), MemoryHandle(nbytes, descriptor, None)
    except BaseException:
        os.close(descriptor)
        raise


def _map_pages(descriptor: int, nbytes: int) -> mmap.mmap:
    """Map shared memory with all its pages, which exist already."""
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    if sys.version_info >= (3, 13):  # which need not keep a copy of the descriptor for as long as there are arrays
        return mmap.mmap(descriptor, nbytes, flags=flags, trackfd=False)
    return mmap.mmap(descriptor, nbytes, flags=flags)


def _create_segment(nbytes: int) -> tuple[mmap.mmap, MemoryHandle]:
    from multiprocessing import resource_tracker, shared_memory

    segment = shared_memory.SharedMemory(create=True, size=nbytes)
    # The consumer removes the name. A tracker of this process would do so again, with a warning, when the process ends.
    resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(segment._fd, 0, nbytes)  # type: ignore[attr-defined]  # noqa: SLF001
    except BaseException:
        resource_tracker.register(segment._name, "shared_memory")  # type: ignore[attr-defined]  # noqa: SLF001
        segment.unlink()
        raise
    return _take_mapping(segment), MemoryHandle(nbytes, None, segment.name)


def _attach_segment(handle: MemoryHandle) -> mmap.mmap:
    from multiprocessing import shared_memory

    segment = shared_memory.SharedMemory(handle.name)
    # Both sides have it mapped, so nothing is left behind whatever happens to them.
    segment.unlink()
    return _take_mapping(segment)


def _take_mapping(segment: SharedMemory) -> mmap.mmap:
    """The mapping of a segment, to be unmapped with the last array over it.

    ``SharedMemory.close`` raises an error while there are such arrays, and its finalizer calls it.
    """
    mapping: mmap.mmap = segment._mmap  # type: ignore[attr-defined]  # noqa: SLF001
    segment._buf.release()  # type: ignore[attr-defined]  # noqa: SLF001
    segment._buf = segment._mmap = None  # type: ignore[attr-defined]  # noqa: SLF001
    segment.close()
    return mapping


def _no_memory_error(nbytes: int, kind: MemoryKind, error: OSError) -> SharedMemoryError:
    where = "memory" if kind == "memfd" else "/dev/shm"  # noqa: S108 - named, not used
    reasons = {
        errno.ENOSPC: f"{where} has no space for it",
        errno.EMFILE: "this process has no file descriptor left",
        errno.ENFILE: "the system has no file descriptor left",
    }
    reason = reasons.get(error.errno or 0, str(error))
    result = SharedMemoryError(
        f"{format_bytes(nbytes)} of shared memory for a chunk: {reason}; use smaller chunks, fewer workers or less depth, or "
        "worker='thread', which needs none"
    )
    result.errno = error.errno
    return result
