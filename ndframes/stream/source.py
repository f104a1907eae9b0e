"""Source: a camera, a network stream, a file or an array, described; it is opened where it is read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal

from ..errors import StreamError, StreamOpenError, shorten
from ..video.addresses import find_address, hide_secrets

__all__ = ["Backoff", "PixelFormat", "Source"]
PixelFormat = Literal["rgb24", "bgr24", "gray"]
_FORMATS = ("rgb24", "bgr24", "gray")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each attempt to reconnect: twice as long as before, up to a limit.

    Args:
        first: seconds before the first attempt.
        most: the limit, in seconds.
        attempts: after this many failed attempts in a row the source is given up; ``None``: never, 0: at once.

    Example:
        >>> from ndframes.stream.source import Backoff
        >>> [Backoff(0.5, 3).seconds(attempt) for attempt in range(5)]
        [0.5, 1.0, 2.0, 3, 3]
    """

    first: float = 0.5
    most: float = 30.0
    attempts: int | None = None

    def __post_init__(self) -> None:
        for name in ("first", "most"):
            check_seconds(f"Backoff({name}", getattr(self, name), zero_is_allowed=True)
        if self.attempts is not None and (
            isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 0
        ):
            raise StreamError(f"Backoff(attempts={shorten(self.attempts)}); give a whole number, or None for no limit")

    def seconds(self, attempt: int) -> float:
        """How long to wait before an attempt, counted from 0."""
        return min(self.most, self.first * 2.0 ** min(attempt, 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A camera, a network stream, a file, a folder of images, an array or an image of :class:`~ndframes.Frames`.

    It only describes: it is opened where it is read, in another process too, and pickles.

    Args:
        uri: a path of a video, a folder or glob of images; ``rtsp://``, ``rtmp://``, ``http(s)://``, ``udp://`` or ``tcp://``
            (MPEG-TS, HLS, MJPEG ...); a camera: its number, or ``/dev/video0``; ``lavfi:testsrc2=size=640x360:rate=25``; an
            array ``(t, height, width[, channels])``; a :class:`~ndframes.LazyFrame` with a time axis.
        fps: the most frames a second that are given out: the first one of each interval; ``None``: all.
        shape: ``(height, width)`` to which frames are resized; ``None``: as they are. Frames of another size after a
            reconnect are an error without it.
        pixel_format: ``"rgb24"``, ``"bgr24"`` as OpenCV has it, or ``"gray"``.
        start: seconds from the begin at which a file begins.
        name: of the source, unique in a pipeline; ``None``: from the uri, without its password and query.
        live: whether frames come in real time and are lost if nobody reads them. ``None``: by the uri: a network stream,
            camera or ``realtime`` filter is live.
        open_timeout: seconds in which the first frame must come.
        stall_timeout: seconds without a frame after which a live source has stalled.
        reconnect: how a live source is opened again after an error or its end; ``None``: not.
        options: FFmpeg's options of the source, such as ``{"rtsp_transport": "tcp"}``.

    Raises:
        StreamError: a value is not allowed.
    """

    uri: Any = field(kw_only=False)
    fps: float | None = None
    shape: tuple[int, int] | None = None
    pixel_format: PixelFormat = "rgb24"
    start: float = 0.0
    name: str | None = None
    live: bool | None = None
    open_timeout: float = 10.0
    stall_timeout: float = 5.0
    reconnect: Backoff | None = field(default_factory=Backoff)
    options: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.fps is not None:
            check_seconds("Source(fps", self.fps)
        for name in ("open_timeout", "stall_timeout"):
            check_seconds(f"Source({name}", getattr(self, name))
        check_seconds("Source(start", self.start, zero_is_allowed=True)
        if self.pixel_format not in _FORMATS:
            raise StreamError(
                f"Source(pixel_format={shorten(self.pixel_format)}); allowed: {', '.join(map(repr, _FORMATS))}"
            )
        self._check_shape()
        self._check_types()
        if isinstance(self.uri, os.PathLike):
            object.__setattr__(self, "uri", os.fsdecode(self.uri))

    @property
    def is_live(self) -> bool:
        """Whether frames come in real time, and are lost if nobody reads them."""
        if self.live is not None:
            return self.live
        try:
            address = find_address(self.uri)
        except StreamOpenError:  # raised where it is opened
            return False
        return address is not None and address.is_live

    def __repr__(self) -> str:
        uri = hide_secrets(self.uri) if isinstance(self.uri, str) else self.uri
        # Options may hold a header with a password.
        given = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if each.name not in ("uri", "options") and getattr(self, each.name) not in (None, _default_of(each))
        ]
        return f"Source({', '.join([shorten(uri), *given])})"

    def _check_shape(self) -> None:
        shape = self.shape
        if shape is None:
            return
        is_pair = isinstance(shape, Sequence) and not isinstance(shape, str) and len(shape) == 2
        if not is_pair or any(isinstance(each, bool) or not isinstance(each, Integral) or each < 1 for each in shape):
            raise StreamError(f"Source(shape={shorten(shape)}); give (height, width), two whole numbers of at least 1")

    def _check_types(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise StreamError(f"Source(name={shorten(self.name)}); give a text")
        if self.live is not None and not isinstance(self.live, bool):
            raise StreamError(f"Source(live={shorten(self.live)}); give True, False or None")
        if self.reconnect is not None and not isinstance(self.reconnect, Backoff):
            raise StreamError(f"Source(reconnect={shorten(self.reconnect)}); give a Backoff, or None for none")
        if self.options is not None and not (
            isinstance(self.options, Mapping)
            and all(isinstance(name, str) and isinstance(value, (str, Real)) for name, value in self.options.items())
        ):
            # Without the values: a header may have a password.
            raise StreamError(
                "Source(options=...); give a mapping of texts to texts, such as {'rtsp_transport': 'tcp'}"
            )


def _default_of(option: Field[Any]) -> object:
    return option.default_factory() if option.default_factory is not MISSING else option.default


def check_seconds(what: str, value: object, *, zero_is_allowed: bool = False) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (value == 0 and not zero_is_allowed):  # type: ignore[operator, arg-type]
        raise StreamError(f"{what}={shorten(value)}); give a number {'of at least' if zero_is_allowed else 'above'} 0")
