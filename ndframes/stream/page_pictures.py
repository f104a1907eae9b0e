"""The pictures of a page: of each source the newest frame, copied and encoded only while somebody looks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pixels.jpeg import encode_preview

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .source import Source
    from .values import Frame

__all__ = ["Picture", "Pictures"]
_WANTED_SECONDS = 1.0  # how long a look counts
_REST_SECONDS = 1.0  # a source that sends nothing for so long shows its last frame


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as it is shown.

    Attributes:
        frame: with the image as the source gave it out.
        image: as it is shown; usually an array, but a user may have returned anything.
    """

    frame: Frame
    image: Any


class Pictures:
    """The newest frame of each source.

    The thread of a source passes each frame on with :meth:`show`, which keeps a reference. While somebody looks, it also copies a
    frame now and then, since a user may draw into the same array again. There is no queue: a slow viewer misses frames.

    Args:
        sources: of the pipeline.
        fps: the most pictures per second of a source.
        most_px: the longer side of a picture at most.
        is_over: whether no further frame comes.
        clock: of seconds.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        fps: float,
        most_px: int,
        is_over: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = {
            str(each.name): _Place(1 / fps, most_px, clock, is_bgr=each.pixel_format == "bgr24") for each in sources
        }
        self._is_over = is_over

    def show(self, frame: Frame, image: Any) -> None:
        """Take a frame in; called in the thread of its source."""
        self._places[frame.source].show(Picture(frame, image))

    def last(self, source: str) -> Frame | None:
        """The last frame that a source gave out."""
        picture = self._places[source].last
        return None if picture is None else picture.frame

    def find(self, source: str, after: int) -> Picture | None:
        """The newest picture of a frame with a higher index, if there is one now. It counts as a look."""
        return self._places[source].find(after, is_over=self._is_over())

    def encode(self, source: str, picture: Picture) -> bytes:
        """A picture as JPEG, encoded once for all viewers.

        Raises:
            ValueError: what a user returned is not a picture.
        """
        return self._places[source].encode(picture)


class _Place:
    """The newest frame of one source. One thread shows; one thread looks; each attribute is replaced as a whole."""

    def __init__(self, interval: float, most_px: int, clock: Callable[[], float], *, is_bgr: bool) -> None:
        self._interval, self._most_px, self._clock, self._is_bgr = interval, most_px, clock, is_bgr
        self.last: Picture | None = None
        self._last_at = 0.0
        self._copied: Picture | None = None
        self._copied_at = -interval
        self._wanted_until = 0.0
        self._encoded: tuple[Picture, bytes] | None = None

    def show(self, picture: Picture) -> None:
        now = self._clock()
        if now < self._wanted_until and now - self._copied_at >= self._interval:
            image = picture.image
            self._copied = Picture(picture.frame, image.copy() if isinstance(image, np.ndarray) else image)
            self._copied_at = now
        self._last_at = now
        self.last = picture

    def find(self, after: int, *, is_over: bool) -> Picture | None:
        now = self._clock()
        self._wanted_until = now + _WANTED_SECONDS
        last, copied = self.last, self._copied
        if last is not None and (is_over or now - self._last_at >= _REST_SECONDS):
            # Nobody draws into it now.
            return last if last.frame.index > after else None
        return copied if copied is not None and copied.frame.index > after else None

    def encode(self, picture: Picture) -> bytes:
        if self._encoded is None or self._encoded[0] is not picture:
            image = picture.image
            if self._is_bgr and isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3:
                image = image[:, :, ::-1]
            self._encoded = picture, encode_preview(image, most_px=self._most_px)
        return self._encoded[1]
