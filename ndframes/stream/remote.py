"""RemoteReading: a source that is read in a process of its own, which never waits for this one.

The other process decodes every frame, whatever this process is doing, and tells it of each one. The image comes with it if
one of a few slots of shared memory is free; otherwise the frame comes without an image.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NdframesError, StreamError
from ..system.ring import create_memory, map_memory, release_handle
from .opening import open_source
from .peer import Peer, shut_down
from .reading import SourceCounts, SourceEvent
from .values import Frame

if TYPE_CHECKING:
    import mmap
    from collections.abc import Generator, Iterator

    from .._typing import Array
    from .source import Source

__all__ = ["NO_IMAGE", "RemoteReading"]
#: The image of a frame that came when no slot was free.
NO_IMAGE = np.zeros((0, 0), np.uint8)
NO_IMAGE.flags.writeable = False
_SLOTS = 4
_END_SECONDS = 0.5


class RemoteReading:
    """The frames of a source that is read in another process; see :class:`~ndframes.stream.reading.Reading`.

    Args:
        source: the source.
        is_paced: whether frames of a file come at their times, as from a camera.
    """

    def __init__(self, source: Source, *, is_paced: bool) -> None:
        self.source = source
        self.counts = SourceCounts()
        self._is_paced = is_paced
        self._memory: list[mmap.mmap | None] = [None] * _SLOTS
        self._stopping = threading.Event()
        self._pipe: Any = None

    def __iter__(self) -> Generator[Frame | SourceEvent, None, None]:
        peer = Peer(_read, (self.source, self._is_paced), f"source {self.source.name}: its reader process")
        self._pipe = peer.pipe
        try:
            yield from self._receive(peer)
        finally:
            self._end(peer)

    def _end(self, peer: Peer) -> None:
        """End the process. It ends by itself when it is told, unless FFmpeg does not return."""
        peer.end_sending()
        if not self._release_unmapped(_END_SECONDS):
            peer.kill()
            self._release_unmapped(_END_SECONDS)
        peer.close(_END_SECONDS)
        self._memory = [None] * _SLOTS

    def _release_unmapped(self, seconds: float) -> bool:
        """Remove the memory that is still on its way, up to the end of the pipe; returns whether that came in time."""
        deadline = time.monotonic() + seconds
        try:
            while self._pipe.poll(max(0.0, deadline - time.monotonic())):
                item = self._pipe.recv()
                if isinstance(item, tuple) and item[-1] is not None:
                    release_handle(item[-1])
        except (EOFError, OSError):
            return True
        return False

    def stop(self) -> None:
        """Let the iteration end."""
        self._stopping.set()

    def _receive(self, peer: Peer) -> Iterator[Frame | SourceEvent]:
        while not self._stopping.is_set():
            try:
                if not self._pipe.poll(0.1):
                    continue
                item = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise StreamError(f"source {self.source.name}: its reader process {peer.describe_end()}") from error
            if isinstance(item, NdframesError):
                raise item
            if item is None:
                return
            what, self.counts, slot, shape, dtype, handle = item
            if isinstance(what, Frame):
                yield self._with_image(what, slot, shape, dtype, handle)
            else:
                yield what
        yield SourceEvent("ended", max(0, self.counts.epochs - 1), "stopped")

    def _with_image(self, frame: Frame, slot: int | None, shape: tuple[int, ...], dtype: str, handle: Any) -> Frame:
        if slot is None:
            return replace(frame, image=NO_IMAGE)
        if handle is not None:
            self._memory[slot] = map_memory(handle)
        memory = self._memory[slot]
        assert memory is not None  # noqa: S101 - it came with the first frame in this slot
        # Copied, so that the slot is free at once, however long an algorithm keeps the frame.
        image: Array = np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape).copy()
        with contextlib.suppress(OSError):  # the process has ended
            self._pipe.send(slot)
        return replace(frame, image=image)


def _read(pipe: Any, what: tuple[Source, bool]) -> None:
    """What the process does: it reads the source, and sends what it finds."""
    source, is_paced = what
    try:
        reading = open_source(source)
    except NdframesError as error:
        pipe.send(error)
        return
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(_SLOTS):
        free.put(slot)
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sender = threading.Thread(target=_send, args=(pipe, outbox), daemon=True)
    sender.start()
    receiver = threading.Thread(target=_receive_slots, args=(pipe, free, reading), daemon=True)
    receiver.start()
    slots = _SlotMemory()
    begin: float | None = None
    try:
        for item in reading:
            counts = replace(reading.counts)
            if isinstance(item, SourceEvent):
                outbox.put((item, counts, None, (), "", None))
                continue
            if is_paced:
                begin = time.monotonic() - item.time if begin is None else begin
                time.sleep(max(0.0, begin + item.time - time.monotonic()))
            outbox.put(slots.pack(item, counts, free))
        outbox.put(None)
    except NdframesError as error:
        outbox.put(error)
    except Exception as error:  # noqa: BLE001 - raised again in the process that reads
        outbox.put(StreamError(f"source {source.name}: {type(error).__name__}: {error}"))
    outbox.put(_LAST)
    sender.join()
    # The caller closes the pipe, which fails in a thread that receives from it.
    shut_down(pipe, socket.SHUT_RD)
    receiver.join()


class _SlotMemory:
    """The writer's side of the slots."""

    def __init__(self) -> None:
        self._memory: list[mmap.mmap | None] = [None] * _SLOTS

    def pack(self, frame: Frame, counts: SourceCounts, free: queue.SimpleQueue[int]) -> tuple[Any, ...]:
        """A frame without its image, and where the image is."""
        bare = replace(frame, image=NO_IMAGE)
        try:
            slot = free.get_nowait()
        except queue.Empty:
            return bare, counts, None, (), "", None
        image, handle = np.ascontiguousarray(frame.image), None
        memory = self._memory[slot]
        if memory is None or len(memory) < image.nbytes:
            memory, handle = create_memory(image.nbytes, "shared_memory")
            self._memory[slot] = memory
        np.frombuffer(memory, np.uint8, image.nbytes)[...] = image.reshape(-1).view(np.uint8)
        return bare, counts, slot, image.shape, image.dtype.str, handle


_LAST = object()


def _send(pipe: Any, outbox: queue.SimpleQueue[Any]) -> None:
    """Send what there is to send; the reader does not wait for it."""
    while (item := outbox.get()) is not _LAST:
        try:
            pipe.send(item)
        except OSError:
            if isinstance(item, tuple) and item[-1] is not None:
                release_handle(item[-1])
            return


def _receive_slots(pipe: Any, free: queue.SimpleQueue[int], reading: Any) -> None:
    """Take slots back; when the other process is gone, end the reading."""
    try:
        while True:
            free.put(pipe.recv())
    except (EOFError, OSError):
        reading.stop()
