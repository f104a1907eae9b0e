"""Reading: the frames of a source in order, numbered, over reconnects."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from .source import Source
    from .values import Frame

__all__ = ["Reading", "SourceCounts", "SourceEvent", "SourceState"]
#: What a source is doing.
SourceState = Literal["opening", "reading", "reconnecting", "ended", "failed"]


@dataclass(slots=True)
class SourceCounts:
    """What happened to the frames of a source.

    Attributes:
        captured: frames that were given out, numbered from 0 without holes: ``captured == given_out`` of the reader.
        decoded: frames that the decoder put out, those that ``fps`` leaves out and those that were held back included.
        decimated: decoded frames that ``fps`` or ``start`` leaves out.
        held_back: decoded frames that were not shown because the stream broke off behind them, or before its next key frame.
        reconnects: how often the source was opened again.
        stalls: how often it had stopped sending.
        epochs: the connections that gave out a frame.
        expected: of a recording that is open: how many frames will have been decoded at its end; ``None`` for all others.
    """

    captured: int = 0
    decoded: int = 0
    decimated: int = 0
    held_back: int = 0
    reconnects: int = 0
    stalls: int = 0
    epochs: int = 0
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A change of the state of a source.

    Attributes:
        state: the new state.
        epoch: of the connection that begins or ended.
        why: for people; empty if it is as expected.
    """

    state: SourceState
    epoch: int
    why: str = ""


class Reading(Protocol):
    """The frames of a source that is being read, by one thread."""

    source: Source
    counts: SourceCounts

    def __iter__(self) -> Generator[Frame | SourceEvent, None, None]:
        """The frames in order, and between them the changes of its state.

        Raises:
            StreamOpenError: it does not open, and is not, or no longer, opened again.
            StreamStalledError: it has stalled, and is not opened again.
            StreamError: frames have another size after a reconnect, and the source has no ``shape``.
        """

    def stop(self) -> None:
        """Let the iteration end at the next frame or time limit; any thread may call it. Nothing is closed from here."""
