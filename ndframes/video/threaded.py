"""Decoders with threads, for long runs of frames, in a process that allows them.

FFmpeg's threads decode consecutive frames at the same time. A forked child does not have them: where it used such a decoder, or
freed it, it would wait for them for ever. So no fork meets one. Each call into these decoders is inside a :class:`ForkGate`; a
fork waits until the calls have ended, and closes the decoders. Reads then go on with decoders of one thread.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import NdframesError
from ..system.handles import HandlePool
from ..system.process import ForkAware, ForkGate
from ..system.threads import resolve_thread_count
from .alpha import stores_alpha_aside
from .cursor import Cursor
from .index import naming_video

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.packet import Packet
    from av.video.frame import VideoFrame

    from ..system.stamp import OpeningGuard
    from .index import FrameIndex

__all__ = ["LongRuns", "allow_decoder_threads"]
# A decoder with threads takes longer to start, and puts a frame out only after as many packets as it has threads.
_SHORTEST_RUN = 32
# Whose decoders give the same frames with threads. Of others, such as interlaced MPEG-4 with B-frames, they are not the same.
_EXACT_CODECS = frozenset(["av1", "ffv1", "h264", "hevc", "vp8", "vp9"])
# Each holds a picture for each of its threads.
_MAX_IDLE = 4


def allow_decoder_threads(threads: int | None = None) -> None:
    """Let FFmpeg decode long runs of video frames with several threads, in this process.

    By default a decoder has one thread. With more, reads are faster that decode at least 32 frames one after the other: a
    window or a batch of frames, a frame far behind its key frame, or a sequence of single frames. Other reads use one thread.
    Frames, errors and the treatment of damaged frames are the same. At most one read of a process uses such a decoder at a
    time; meanwhile, reads in other threads have one thread each.

    The setting holds for this process: a forked child and a new process begin without. A fork by Python, as for a data loader's
    workers, ends these decoders first. Do not use this in a process that is forked by other means, such as by a C library.

    Args:
        threads: the threads of a decoder, at most 16. 0 or 1: no additional ones. ``None``: one for each core, and one in a
            worker process of ``multiprocessing``.

    Raises:
        ValueError: ``threads`` is not a non-negative whole number.

    Example:
        >>> import ndframes as nf
        >>> nf.allow_decoder_threads()
        >>> nf.allow_decoder_threads(1)  # as before
    """
    _DECODERS.threads = resolve_thread_count(threads)
    # They have another number of threads.
    _DECODERS.pool.close()


class LongRuns:
    """Decodes the frames of long runs with several threads, if the process allows it.

    Args:
        path: the video.
        index: where its frames are.
        guard: the context in which the file is opened.
    """

    def __init__(self, path: str, index: FrameIndex, guard: OpeningGuard) -> None:
        self._path = path
        self._index = index
        self._guard = guard
        # Frames that are counted depend on each packet before; a decoder with threads may meet a change in mid-stream too early.
        self._is_supported = index.has_exact_times and not index.needs_new_decoder
        self._start, self._next = 0, -1  # of the last run
        self._token = object()
        weakref.finalize(self, _DECODERS.pool.discard, self._token)

    def decode(self, requested: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the first of these frames, up to one that only a decoder of one thread can judge.

        Args:
            requested: the numbers, rising.

        Yields:
            The frames in their order: all of them, unless one does not decode or the process forks. None if a single thread is
            better, the codec does not allow it, or another read uses one.
        """
        if _DECODERS.threads == 1 or not self._is_supported or not self._is_long(requested):
            return
        in_use = _DECODERS.in_use
        if not in_use.acquire(blocking=False):
            return
        try:
            yield from self._decode(requested)
        finally:
            in_use.release()

    def _decode(self, requested: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        with _DECODERS.pool.borrow(self._token, self._open) as cursor:
            cursor.begin(requested[0])
            for place, number in enumerate(requested):
                frame = cursor.find(number, requested[place + 1] if place + 1 < len(requested) else None)
                if frame is None:
                    self._is_supported = cursor.is_supported
                    return
                try:
                    yield number, frame
                except GeneratorExit:  # as in VideoDecoder.decode
                    return

    def _open(self) -> _ThreadedCursor:
        return _ThreadedCursor(self._path, self._index, self._guard, _DECODERS.threads)

    def _is_long(self, requested: Sequence[int]) -> bool:
        """Whether a request has a long run of frames that are decoded, together with requests before that it continues."""
        # Without a lock: if threads read the same video, one of them may have the decoder that suits another one.
        if requested[0] != self._next:
            self._start = self._find_key(requested[0])
        longest, start = 0, self._start
        for number, following in itertools.pairwise(requested):
            key = self._find_key(following)
            if key > number + 1:  # the decoder seeks
                longest, start = max(longest, number + 1 - start), key
        self._start, self._next = start, requested[-1] + 1
        return max(longest, self._next - start) >= _SHORTEST_RUN

    def _find_key(self, number: int) -> int:
        return int(self._index.keys[self._index.find_key(number)])


class _RefusedError(Exception):
    """Decoding with threads ends here."""


class _ThreadedCursor(Cursor):
    """A cursor with threads. It gives up where one with a single thread might find a frame damaged.

    Its decoder takes each error as fatal. FFmpeg would conceal errors while other threads decode the frames that refer to the
    damaged one, and could give other pixels each time.

    Attributes:
        is_supported: whether a decoder with threads gives the same frames.
    """

    def __init__(self, path: str, index: FrameIndex, guard: OpeningGuard, threads: int) -> None:
        self._threads = threads
        self.is_supported = True
        with _GATE:
            _DECODERS.cursors.add(self)
            try:
                super().__init__(path, index, guard)
            except (NdframesError, _RefusedError):
                self.close()

    def find(self, number: int, following: int | None) -> VideoFrame | None:
        """As :meth:`Cursor.find`; ``None``, and the file is closed, if decoding with threads ends here."""
        with _GATE:
            # Differs in a forked child.
            if self._threads != _DECODERS.threads:
                return None
            try:
                with naming_video(self._path, number):
                    return super().find(number, following)
            except (NdframesError, _RefusedError):
                pass
            # After the except block: the traceback refers to the decoder, which must be freed before the gate opens.
            self.close()
            return None

    def close(self) -> None:
        """Close the file, and end the threads."""
        super().close()
        # Without these references the decoder is freed. The next frame opens the file again.
        self._frames, self._stream = iter(()), None
        self._is_spent = True

    def _set_threads(self) -> None:
        context = self._stream.codec_context
        if context.codec.canonical_name not in _EXACT_CODECS or stores_alpha_aside(self._stream):
            self.is_supported = False
            raise _RefusedError
        context.thread_type = "FRAME"
        context.thread_count = self._threads
        context.options = {"err_detect": "explode"}

    def _decode_until(self, number: int, key: int) -> VideoFrame:  # noqa: ARG002 - as Cursor
        frame = self._go_on(number)
        if frame is None:
            raise _RefusedError
        return frame

    def _send(self, packet: Packet[Any]) -> list[VideoFrame]:
        frames = super()._send(packet)
        # A fork waits for the end of this packet only, not of the whole run.
        if frames is None or _GATE.is_closed:
            raise _RefusedError
        return frames


class _Decoders(ForkAware):
    """The decoders with threads of this process.

    Attributes:
        threads: of each; 1: there are none.
        pool: those that no read uses.
        cursors: all of them.
        in_use: held by the read that uses one.
    """

    def __init__(self) -> None:
        self.threads = 1
        self.pool = HandlePool(max_idle=_MAX_IDLE)
        self.cursors: weakref.WeakSet[_ThreadedCursor] = weakref.WeakSet()
        self.in_use = threading.Lock()
        super().__init__()

    def close(self) -> None:
        """Close all of them."""
        for cursor in list(self.cursors):
            cursor.close()
        self.pool.close()

    def _after_fork_in_child(self) -> None:
        self.threads = 1
        self.in_use = threading.Lock()


_DECODERS = _Decoders()
if hasattr(os, "register_at_fork"):
    # Before the gate is made: what is registered later runs first, and the gate must be closed by then.
    os.register_at_fork(before=_DECODERS.close)
_GATE = ForkGate()
