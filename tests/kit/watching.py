"""A reading that is iterated by a thread, and what must hold for whatever it has given out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ndframes.stream.reading import SourceEvent
from ndframes.stream.reading_open import open_reading

from .numbered import read_number

if TYPE_CHECKING:
    from ndframes.stream.source import Source


class Watch:
    """A reading that a thread iterates. Pictures are read and not kept.

    Attributes:
        items: ``(frame's number or None, index, epoch, time, captured, clock)`` of each frame, and the events, in order.
        error: what ended the iteration; ``None`` if nothing did.
    """

    def __init__(self, source: Source, name: str = "cam") -> None:
        self.reading = open_reading(source, name)
        self.items: list[Any] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for item in self.reading:
                self.items.append(item if isinstance(item, SourceEvent) else _describe(item))
        except BaseException as error:
            self.error = error

    @property
    def frames(self) -> list[tuple[Any, ...]]:
        return [item for item in list(self.items) if not isinstance(item, SourceEvent)]

    @property
    def events(self) -> list[SourceEvent]:
        return [item for item in list(self.items) if isinstance(item, SourceEvent)]

    @property
    def numbers(self) -> list[int | None]:
        return [number for number, *_ in self.frames]

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.events]

    def wait(self, condition: Callable[[], object], seconds: float = 90) -> None:
        """Wait until something holds, or the reading has ended, which is an error if it does not hold then."""
        deadline = time.monotonic() + seconds
        while not condition() and self.thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert condition(), (self.error, self.events, self.reading.counts)

    def finish(self, seconds: float = 60) -> float:
        """Stop it and wait for its thread; return how long that took."""
        began = time.monotonic()
        self.reading.stop()
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        return time.monotonic() - began

    def check(self) -> None:
        """Whatever happened: numbers and times rise, counts add up, and no picture is of two."""
        counts, frames = self.reading.counts, self.frames
        assert [index for _, index, *_ in frames] == list(range(counts.captured))
        assert counts.decoded == counts.captured + counts.decimated + counts.held_back
        assert None not in self.numbers, (self.numbers, self.events)
        # Within a connection numbers rise as well.
        for earlier, later in pairwise(frames):
            assert later[3] > earlier[3]
            assert later[2] in (earlier[2], earlier[2] + 1)
            assert earlier[2] != later[2] or later[0] > earlier[0], (earlier, later, self.numbers, self.events)
        assert self.states.count("reading") == counts.epochs
        assert counts.epochs <= counts.reconnects + 1
        assert [event.epoch for event in self.events if event.state == "reading"] == list(range(counts.epochs))
        self._check_places_of_events()

    def _check_places_of_events(self) -> None:
        """The first frame of a connection comes after the event that says that it is read."""
        epoch = None
        for item in self.items:
            if isinstance(item, SourceEvent):
                epoch = item.epoch if item.state == "reading" else None
            else:
                assert item[2] == epoch


def _describe(frame: Any) -> tuple[Any, ...]:
    return read_number(frame.image), frame.index, frame.epoch, frame.time, frame.captured, frame.clock
