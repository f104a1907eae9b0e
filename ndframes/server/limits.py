"""Limits: what one request, and all requests together, may cost."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RegionTooLargeError, ServerError, shorten
from ..geometry.grid import resolve_scale
from ..geometry.regions import resolve_region, resolve_unclipped
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..items.item import LazyImage
    from ..pixels.options import ReadOptions

__all__ = ["BytesInUse", "Cost", "ServiceLimits", "busy", "measure", "resolve_axes", "split_list"]
_BUSY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """The limits of a service.

    Attributes:
        threads: that read and decode.
        max_pixels: the most pixels (frames x rows x columns) of an answer, and of the part of an image that a read with steps
            goes through.
        max_bytes: the most bytes of the arrays of an answer.
        max_total_bytes: the most bytes of all answers that are being made or sent.
        max_waiting: the most requests that are read or wait for it; further ones are told to come again.
        deadline_seconds: after which a request that is not answered is given up.
    """

    threads: int = 4
    max_pixels: int = 2**26
    max_bytes: int = 2**28
    max_total_bytes: int = 2**30
    max_waiting: int = 256
    deadline_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("threads", "max_pixels", "max_bytes", "max_total_bytes", "max_waiting"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ServerError(f"{name}={shorten(value)}; give a whole number, 1 or more")
        seconds = self.deadline_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise ServerError(f"deadline_seconds={shorten(seconds)}; give a number of seconds above 0")

    def check(self, cost: Cost) -> None:
        """Check what a request would cost.

        Raises:
            RegionTooLargeError: too much.
        """
        for what, value, most in (("pixels", cost.pixels, self.max_pixels), ("bytes", cost.bytes, self.max_bytes)):
            if value > most:
                raise RegionTooLargeError(
                    f"the request takes {value:,} {what}, over the server's limit of {most:,}; ask for it in parts, or for "
                    "scale= with a smaller region"
                )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a read costs.

    Attributes:
        pixels: of the result, or of the part of the image that it goes through if that is more.
        bytes: of the result.
    """

    pixels: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.pixels + other.pixels, self.bytes + other.bytes)


def measure(item: LazyImage, region: Any, channels: str | Sequence[str] | None, options: ReadOptions) -> Cost:
    """What a read would cost; no pixel is read.

    Args:
        item: an image, a sequence or a video.
        region: a tuple of slices and numbers, the first of a video also a list; or ``None``.
        channels: as in :meth:`ndframes.Frames.load_region`.
        options: of the read.

    Raises:
        RegionError, ChannelError: the read would raise the same.
    """
    listed, plain = split_list(region)
    *times, rows, cols, _ = resolve_axes(plain, item.shape(channels), options)
    count = listed * math.prod(map(len, times))
    height, width = len(rows), len(cols)
    if options.is_resampled:
        height, width = (axis.count for axis in resolve_scale(rows, cols, options.scale, options.shape))
    elif options.pad is None:
        height, width = _span(rows), _span(cols)
    # At least 1 along each axis: the coordinates of a long one are listed although the other one is empty.
    pixels = max(1, count) * max(1, height) * max(1, width)
    return Cost(pixels, item.count_result_bytes(region, channels, options))


def split_list(region: Any) -> tuple[int, Any]:
    """A region that lists frames as their number, and the region of one of them; else 1, and the region.

    Example:
        >>> split_list(([5, 7], slice(0, 9)))
        (2, (slice(0, 1, None), slice(0, 9, None)))
    """
    if isinstance(region, tuple) and region and isinstance(region[0], list):
        return len(region[0]), (slice(0, 1), *region[1:])
    return 1, region


def resolve_axes(region: Any, shape: tuple[int, ...], options: ReadOptions) -> tuple[range, ...]:
    """The coordinates along each axis that a read goes through; padded ones may lie outside of the image.

    Raises:
        RegionError: the region does not fit the axes.
    """
    if options.pad is None:
        return resolve_region(region, shape).ranges
    items = region if isinstance(region, tuple) else () if region is None else (region,)
    # Only y and x are padded.
    count = len(shape) - 3
    return (*resolve_region(items[:count], shape[:count]).ranges, *resolve_unclipped(items[count:], shape[count:]))


def _span(axis: range) -> int:
    """The pixels from the first to the last one: a read with steps may decode all of them."""
    return abs(axis[-1] - axis[0]) + 1 if len(axis) else 0


class BytesInUse:
    """The bytes of the answers that are being made or sent. Safe to share between threads.

    Args:
        max_bytes: the most.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """The bytes that are taken now."""
        return self._used

    def take(self, count: int) -> None:
        """Take bytes for an answer. One that is larger than all together may be is alone.

        Raises:
            Problem: other answers have taken too many.
        """
        with self._lock:
            if self._used and self._used + count > self._max_bytes:
                raise busy("the answers that are being sent fill the server's memory")
            self._used += count

    def give_back(self, count: int) -> None:
        """Give them back."""
        with self._lock:
            self._used -= count


def busy(why: str) -> Problem:
    """The answer of a server that has too much to do."""
    return Problem(503, "RemoteError", f"{why}; ask again in a second", retry_seconds=_BUSY_SECONDS)
