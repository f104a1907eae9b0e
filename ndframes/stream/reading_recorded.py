"""RecordedReading: the frames of a file, of images or of an array, each once, in order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..errors import NdframesError, StreamError, StreamOpenError
from .reading import SourceEvent
from .reading_frames import FrameFacts, FrameMaker
from .recordings import open_recording
from .window import to_fraction

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from .._typing import Array
    from .recordings import Recording
    from .source import Source
    from .values import Frame

__all__ = ["RecordedReading"]
# Between two of them a decoder with threads is free for other reads.
_CHUNK_FRAMES = 64


class RecordedReading:
    """The frames of a file, of images or of an array, each once, in order. See :class:`Reading`.

    Args:
        source: what is read, and how.
        name: of the source.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.source = source
        self._maker = FrameMaker(source, name)
        self.counts = self._maker.counts
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the iteration end at the next frame; see :meth:`Reading.stop`."""
        self._stopped.set()

    def __iter__(self) -> Generator[Frame | SourceEvent, None, None]:
        """As :meth:`Reading.__iter__`."""
        yield SourceEvent("opening", 0)
        try:
            recording = self._open()
            yield SourceEvent("reading", 0)
            self.counts.epochs = 1
            first = self._find_first(recording)
            self.counts.expected = len(recording) - first
            yield from self._read(recording, first)
        except StreamError as error:
            yield SourceEvent("failed", 0, str(error))
            raise
        yield SourceEvent("ended", 0, "stopped" if self._stopped.is_set() else "")

    def _open(self) -> Recording:
        try:
            recording = open_recording(self.source, self._maker.name)
            count = len(recording)
        except StreamError:
            raise
        except NdframesError as error:
            raise StreamOpenError(f"{self._maker.name}: {error}") from error
        if not count:
            raise StreamOpenError(f"{self._maker.name}: it has no frame")
        return recording

    def _find_first(self, recording: Recording) -> int:
        """The first frame at or after the start, by bisection: times rise."""
        start = to_fraction(self.source.start)
        low, high = 0, len(recording)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if recording.time_of(middle) < start else (low, middle)
        if low == len(recording):
            last = float(recording.time_of(low - 1))
            raise StreamOpenError(
                f"{self._maker.name}: start={self.source.start:g} s is behind its last frame, at {last:g} s; give less"
            )
        return low

    def _read(self, recording: Recording, first: int) -> Iterator[Frame]:
        for begin in range(first, len(recording), _CHUNK_FRAMES):
            chunk = range(begin, min(begin + _CHUNK_FRAMES, len(recording)))
            times = [recording.time_of(number) for number in chunk]
            kept = [self._maker.keeps(time) for time in times]
            pictures = recording.read([number for number, is_kept in zip(chunk, kept, strict=True) if is_kept])
            for number, time, is_kept in zip(chunk, times, kept, strict=True):
                if self._stopped.is_set():
                    return
                if not is_kept:
                    self._maker.leave_out()
                    continue
                picture = self._maker.fit(self._take(pictures, number))
                yield self._maker.number(picture, FrameFacts(time))

    def _take(self, pictures: Iterator[Array], number: int) -> Array:
        """The next picture.

        Raises:
            StreamError: it cannot be read, or its channels have no colours.
        """
        try:
            return next(pictures)
        except (NdframesError, ValueError) as error:
            raise StreamError(f"{self._maker.name}: frame {number:,}: {error}") from error
