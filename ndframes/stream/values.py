"""Frame and Result: what a source gives out, and what an algorithm makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["ClockName", "Frame", "Result"]
#: Where the wall time of a frame comes from: the sender's clock by RTCP (with PyAV 18 or later, which needs Python 3.11), the moment
#: at which it arrived, or the file.
ClockName = Literal["rtcp", "arrival", "file"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame that a source gives out.

    Attributes:
        image: ``(height, width, channels)``, or ``(height, width)`` for gray; uint8 unless the source is an array.
        source: the name of the source.
        index: its number among the frames that the source gives out; it never repeats, over reconnects either.
        epoch: the number of the connection: 0 for the first one, and for files.
        time: seconds from the first frame of the source; it goes on over reconnects.
        captured: when it was captured, in seconds since 1970, by the clock that ``clock`` names; ``None`` for a file that
            does not say.
        clock: the clock of ``captured``.
    """

    image: Array
    source: str
    index: int
    epoch: int
    time: float
    captured: float | None
    clock: ClockName


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What an algorithm returned for a window of frames.

    Attributes:
        name: the algorithm.
        source: the source of the frames.
        index: of the newest frame of the window.
        time: of that frame, in seconds.
        epoch: of that frame.
        frames: the indices of all frames of the window.
        value: what the algorithm returned; ``None`` after an error.
        error: why there is no value; ``None`` if there is one.
        latency: seconds from the arrival of the newest frame to the result.
        captured: when the newest frame was captured; see :class:`Frame`.
        clock: the clock of ``captured``.
    """

    name: str
    source: str
    index: int
    time: float
    epoch: int
    frames: tuple[int, ...]
    value: Any
    error: str | None = None
    latency: float = 0.0
    captured: float | None = None
    clock: ClockName = "file"
