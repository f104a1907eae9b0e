"""LiveReading: the frames of a camera, network stream or filter, over reconnects."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import StreamError, StreamOpenError, StreamStalledError
from ..video.live import Ending, LiveStream
from .reading import SourceEvent
from .reading_frames import FrameFacts, FrameMaker
from .reading_pictures import to_picture
from .reading_times import StreamClock, to_microseconds

if TYPE_CHECKING:
    from fractions import Fraction

    from ..video.addresses import StreamAddress
    from ..video.live import LiveFrame
    from .reading import SourceState
    from .source import Source
    from .values import Frame

__all__ = ["LiveReading"]


class LiveReading:
    """The frames of a camera, network stream or filter, over reconnects. See :class:`Reading`.

    The thread that iterates opens, reads and closes each connection. Each one is read from its first key frame on, and not
    beyond an error. Where it may have been cut, its last frame is held back: it may be half of the frame before.

    Args:
        source: what is read, and how.
        name: of the source.
        address: where it comes from.
    """

    def __init__(self, source: Source, name: str, address: StreamAddress) -> None:
        self.source = source
        self._maker = FrameMaker(source, name)
        self.counts = self._maker.counts
        is_live = address.is_live if source.live is None else source.live
        # A recording is read to its last frame.
        self._address = replace(address, is_live=is_live, may_be_cut=address.may_be_cut and is_live)
        self._is_live = is_live
        self._clock = StreamClock(is_live=self._is_live)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the iteration end at the next frame or time limit; see :meth:`Reading.stop`."""
        self._stopped.set()

    def __iter__(self) -> Generator[Frame | SourceEvent, None, None]:
        """As :meth:`Reading.__iter__`."""
        try:
            yield from self._read()
        except StreamError as error:
            yield self._event("failed", str(error))
            raise

    def _read(self) -> Iterator[Frame | SourceEvent]:
        yield self._event("opening")
        failures = 0
        while True:
            epochs = self.counts.epochs
            ending = yield from self._read_connection()
            failures = 0 if self.counts.epochs > epochs else failures + 1
            wait = self._find_wait(ending, failures)
            if wait is None:
                yield self._event("ended", ending.why)
                return
            yield self._event("reconnecting", ending.why)
            if self._stopped.wait(wait):
                yield self._event("ended", "stopped")
                return
            self.counts.reconnects += 1

    def _find_wait(self, ending: Ending, failures: int) -> float | None:
        """Seconds until the source is opened again; ``None`` if it has ended.

        Raises:
            StreamOpenError, StreamStalledError, StreamError: it has failed.
        """
        if ending.kind == "stopped":
            return None
        backoff = self.source.reconnect if self._is_live else None
        if not self.counts.epochs and ending.kind != "ended":
            raise StreamOpenError(f"{self._maker.name}: {ending.why}")
        if not self.counts.epochs:
            raise StreamOpenError(f"{self._maker.name}: {self._address.name} ended before its first frame")
        if backoff is None or backoff.attempts == 0:
            self._check_end(ending)
            return None
        if backoff.attempts is not None and failures >= backoff.attempts:
            raise StreamOpenError(
                f"{self._maker.name}: given up after {failures} failed attempts to reconnect: {ending.why}"
            )
        return backoff.seconds(failures)

    def _check_end(self, ending: Ending) -> None:
        """Check how a source ended that is not opened again.

        Raises:
            StreamStalledError, StreamError: otherwise than by its sender.
        """
        what = f"{self._maker.name}: {self._address.name}: {ending.why}"
        if ending.kind == "stalled":
            raise StreamStalledError(f"{what}; with reconnect=Backoff() a live source is opened again")
        if ending.kind != "ended":
            raise StreamError(f"{what}; with reconnect=Backoff() a live source is opened again")

    def _read_connection(self) -> Generator[Frame | SourceEvent, None, Ending]:
        """Open the source, and read it until the connection ends."""
        if self._stopped.is_set():
            return Ending("stopped", "stopped")
        try:
            stream = LiveStream(
                self._address,
                open_timeout=self.source.open_timeout,
                stall_timeout=self.source.stall_timeout,
                is_stopped=self._stopped.is_set,
            )
        except StreamOpenError as error:
            return Ending("broken", str(error))
        self._clock.restart()
        with stream:
            yield from self._show(stream)
        ending = stream.ending or Ending("stopped", "stopped")
        self.counts.stalls += ending.kind == "stalled"
        return ending

    def _show(self, stream: LiveStream) -> Iterator[Frame | SourceEvent]:
        """The frames of a connection, without the last one if that may be cut."""
        is_begun = False
        held: LiveFrame | None = None
        try:
            for found in stream.frames():
                if not found.is_sound:
                    self._maker.hold_back()
                    continue
                ready, held = (held, found) if self._address.may_be_cut else (found, None)
                if ready is None:
                    continue
                if not is_begun:
                    is_begun = True
                    self.counts.epochs += 1
                    yield self._event("reading")
                frame = self._make(stream, ready, found)
                if frame is not None:
                    yield frame
        finally:
            if held is not None:
                self._maker.hold_back()

    def _make(self, stream: LiveStream, ready: LiveFrame, following: LiveFrame) -> Frame | None:
        """A frame that is given out; ``None`` if it is left out."""
        interval = stream.interval
        stamp = ready.stamp
        # The first frame that RTSP gives out has no timestamp.
        if stamp is None and following.stamp is not None and following is not ready:
            stamp = following.stamp - (interval or to_microseconds(following.arrived - ready.arrived))
        time = self._clock.place(stamp, ready.arrived, interval)
        if not self._maker.keeps(time):
            self._maker.leave_out()
            return None
        image = self._maker.fit(to_picture(ready.picture, self.source.pixel_format, self._maker.name))
        return self._maker.number(image, self._describe(stream, ready, stamp, time))

    def _describe(self, stream: LiveStream, ready: LiveFrame, stamp: Fraction | None, time: Fraction) -> FrameFacts:
        epoch = self.counts.epochs - 1
        if not self._is_live:
            return FrameFacts(time, epoch)
        sent = stream.wall_time(stamp)
        if sent is None:
            return FrameFacts(time, epoch, ready.arrived_at, "arrival")
        return FrameFacts(time, epoch, sent, "rtcp")

    def _event(self, state: SourceState, why: str = "") -> SourceEvent:
        return SourceEvent(state, max(0, self.counts.epochs - 1), why)
