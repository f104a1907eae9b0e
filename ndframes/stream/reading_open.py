"""open_reading: the reading of a source of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StreamOpenError
from ..video.addresses import find_address
from .reading_live import LiveReading
from .reading_recorded import RecordedReading

if TYPE_CHECKING:
    from .reading import Reading
    from .source import Source

__all__ = ["open_reading"]


def open_reading(source: Source, name: str) -> Reading:
    """The reading of a source of any kind. It opens nothing: iterating over it does, in the thread that iterates.

    Args:
        source: what is read, and how.
        name: of the source, which its frames and errors have.

    Raises:
        StreamOpenError: the scheme of a URL is not supported.

    Example:
        >>> import numpy as np
        >>> from ndframes.stream.source import Source
        >>> reading = open_reading(Source(np.zeros((50, 4, 6), np.uint8), fps=10), "zeros")
        >>> frames = [item for item in reading if not hasattr(item, "state")]
        >>> [(frame.index, frame.time) for frame in frames[:3]], frames[0].image.shape
        ([(0, 0.0), (1, 0.12), (2, 0.2)], (4, 6, 3))
    """
    try:
        address = find_address(source.uri, source.options)
    except StreamOpenError as error:
        raise StreamOpenError(f"{name}: {error}") from error
    return RecordedReading(source, name) if address is None else LiveReading(source, name, address)
