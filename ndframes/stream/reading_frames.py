"""FrameMaker: numbers the frames of a source, puts their pixels into the form that it asks for, and counts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import StreamError
from ..pixels.packed import pack, resize
from .reading import SourceCounts
from .values import Frame
from .window import Decimation, to_fraction

if TYPE_CHECKING:
    from fractions import Fraction

    from .._typing import Array
    from .source import Source
    from .values import ClockName

__all__ = ["FrameFacts", "FrameMaker"]


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What is known of a frame besides its pixels.

    Attributes:
        time: seconds from the begin of the source.
        epoch: the number of the connection.
        captured: seconds since 1970, by ``clock``.
        clock: see :class:`Frame`.
    """

    time: Fraction
    epoch: int = 0
    captured: float | None = None
    clock: ClockName = "file"


@dataclass(slots=True)
class FrameMaker:
    """Numbers the frames of a source, puts their pixels into the form that it asks for, and counts them.

    Each decoded frame ends in one of :meth:`leave_out`, :meth:`hold_back` and :meth:`make`, so the counts always add up.

    Args:
        source: says which frames are given out, and in which form.
        name: of the source.
    """

    source: Source
    name: str
    counts: SourceCounts = field(default_factory=SourceCounts)
    _decimation: Decimation = field(init=False)
    _start: Fraction = field(init=False)
    _shape: tuple[int, ...] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._decimation = Decimation(self.source.fps)
        self._start = to_fraction(self.source.start)

    def keeps(self, time: Fraction) -> bool:
        """Whether a frame at this time is given out; to be asked once for each frame, in order."""
        return time >= self._start and self._decimation.keeps(time)

    def leave_out(self) -> None:
        """Count a frame that is not kept."""
        self.counts.decoded += 1
        self.counts.decimated += 1

    def hold_back(self, count: int = 1) -> None:
        """Count frames that cannot be shown."""
        self.counts.decoded += count
        self.counts.held_back += count

    def make(self, pixels: Array, facts: FrameFacts) -> Frame:
        """A frame of pixels ``(height, width[, channels])`` in RGB; see :func:`~ndframes.pixels.packed.pack`.

        Raises:
            StreamError: the frame has another size than the ones before, or too many channels.
        """
        try:
            return self.number(pack(self.fit(pixels), self.source.pixel_format), facts)
        except ValueError as error:
            if isinstance(error, StreamError):
                raise
            raise StreamError(f"{self.name}: {error}") from error

    def fit(self, pixels: Array) -> Array:
        """The pixels in the size that the source asks for."""
        return pixels if self.source.shape is None else resize(pixels, self.source.shape)

    def number(self, image: Array, facts: FrameFacts) -> Frame:
        """A frame whose image has its form already.

        Raises:
            StreamError: it has another size than the ones before.
        """
        self._check(image)
        frame = Frame(
            image, self.name, self.counts.captured, facts.epoch, float(facts.time), facts.captured, facts.clock
        )
        self.counts.decoded += 1
        self.counts.captured += 1
        return frame

    def _check(self, image: Array) -> None:
        if self._shape is None:
            self._shape = image.shape
        if image.shape != self._shape:
            before, now = (" x ".join(map(str, shape)) for shape in (self._shape, image.shape))
            raise StreamError(
                f"{self.name}: frame {self.counts.captured:,} is {now} px, the frames before are {before}; give shape=(height, "
                "width), to which all are resized"
            )
