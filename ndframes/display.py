"""What people look at: counts and maps in words, and pixels as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

__all__ = [
    "BLUE",
    "GREEN",
    "MAGENTA",
    "RED",
    "WHITE",
    "Band",
    "checkerboard",
    "count_noun",
    "describe_affine",
    "find_limits",
    "format_bytes",
    "format_number",
    "format_seconds",
    "list_first",
    "mix_bands",
    "range_of",
    "split_affine",
    "to_picture",
]

Array = np.ndarray[Any, np.dtype[Any]]

_LISTED = 20
_SQUARE_PX = 8
_LIGHT, _DARK = 236, 204

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
MAGENTA, WHITE = (255, 0, 255), (255, 255, 255)


def format_bytes(count: float) -> str:
    """A byte count for people, in powers of 1000.

    Example:
        >>> format_bytes(201_326_592)
        '201 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def format_number(value: float) -> str:
    """A value for people: whole from 1,000 on, else of four digits.

    Example:
        >>> format_number(12776.4), format_number(0.123456), format_number(255.0), format_number(3e12)
        ('12,776', '0.1235', '255', '3e+12')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def format_seconds(seconds: float) -> str:
    """A span of time for people, in two digits.

    Example:
        >>> [format_seconds(span) for span in (0, 0.00123, 0.0456, 1.26, 75, 5000, 400_000)]
        ['0 s', '1.2 ms', '46 ms', '1.3 s', '75 s', '83 min', '4.6 days']
    """
    for unit, extent, most in (("ms", 1e-3, 1), ("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172_800)):
        if 0 < seconds < most:
            return f"{_two_digits(seconds / extent)} {unit}"
    return f"{_two_digits(seconds / 86_400)} days" if seconds else "0 s"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def count_noun(number: int, noun: str) -> str:
    """So many of something, in words.

    Example:
        >>> count_noun(1, "entry"), count_noun(2000, "entry")
        ('1 entry', '2,000 entries')
    """
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def list_first(lines: Iterable[str]) -> list[str]:
    """The first 20 of many lines, indented, and how many more there are.

    Example:
        >>> list_first(["a", "b"]), list_first(map(str, range(1021)))[-1]
        (['  a', '  b'], '  ... and 1,001 more')
    """
    remaining = iter(lines)
    listed = [f"  {line}" for line in islice(remaining, _LISTED)]
    more = sum(1 for _ in remaining)
    return [*listed, f"  ... and {more:,} more"] if more else listed


def split_affine(matrix: Array) -> dict[str, Any]:
    """What an affine map does, in parts: first scale, then shear in x, then rotation, then offset.

    Args:
        matrix: 3x3, of points ``(x, y)`` with y pointing down.

    Returns:
        ``scale``: ``(y, x)``, that of y negative where the map mirrors; ``shear``: how far x moves for each y, before it is
        turned; ``rotate_degrees``: counter-clockwise as seen on a screen; ``offset``: ``(y, x)``.

    Example:
        >>> split_affine(np.array([[0, 3.0, 5], [-2, 0, 7], [0, 0, 1]]))
        {'scale': (3.0, 2.0), 'shear': 0.0, 'rotate_degrees': 90.0, 'offset': (7.0, 5.0)}
    """
    (a, b, x), (d, e, y) = np.asarray(matrix, np.float64)[:2].tolist()
    scale_x = math.hypot(a, d)
    scale_y = (a * e - b * d) / scale_x
    return {
        "scale": (scale_y, scale_x),
        "shear": (a * b + d * e) / (scale_x * scale_y) + 0.0,
        "rotate_degrees": -math.degrees(math.atan2(d, a)) + 0.0,
        "offset": (y, x),
    }


def describe_affine(matrix: Array) -> str:
    """What an affine map does, in words.

    Example:
        >>> describe_affine(np.eye(3)), describe_affine(np.array([[6, 0, 0], [0, 6, -2.5], [0, 0, 1]]))
        ('as it is', 'times 6, moved by -2.5, 0')
        >>> describe_affine(np.array([[0, 3.0, 5], [-2, 0, 7], [0, 0, 1]]))
        'times 3, 2, turned by 90 degrees, moved by 7, 5'
    """
    parts = split_affine(matrix)
    (scale_y, scale_x), (y, x) = parts["scale"], parts["offset"]
    words = []
    if not math.isclose(abs(scale_y), scale_x, rel_tol=1e-6):
        words.append(f"times {abs(scale_y):.4g}, {scale_x:.4g}")
    elif not math.isclose(scale_x, 1, rel_tol=1e-6):
        words.append(f"times {scale_x:.4g}")
    if scale_y < 0:
        words.append("mirrored")
    if abs(parts["shear"]) > 1e-6:
        words.append(f"sheared by {parts['shear']:.4g}")
    if abs(parts["rotate_degrees"]) > 1e-4:
        words.append(f"turned by {parts['rotate_degrees']:.4g} degrees")
    if y or x:
        words.append(f"moved by {y:.6g}, {x:.6g}")
    return ", ".join(words) or "as it is"


@dataclass(frozen=True, slots=True)
class Band:
    """How one channel is shown.

    Attributes:
        code: the channel.
        colour: what its highest value looks like; black is its lowest.
        low: the value that is shown black, with all below.
        high: the value that is shown in full colour, with all above.
    """

    code: str
    colour: tuple[int, int, int]
    low: float
    high: float


def find_limits(
    values: Array, missing: Array | None = None, percentiles: tuple[float, float] = (2, 98)
) -> tuple[float, float]:
    """Between which values the stretch goes: percentiles of what is there, or all of it where these are one.

    Args:
        values: of any shape and real dtype.
        missing: which of them say nothing, of the same shape; so do not-a-numbers and infinities.
        percentiles: of the low and the high limit, 0 to 100.

    Example:
        >>> find_limits(np.arange(101)), find_limits(np.array([0, 0, 0, np.nan, 7]), percentiles=(20, 40))
        ((2.0, 98.0), (0.0, 7.0))
    """
    there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if missing is not None:
        there &= ~missing
    found = values[there].astype(np.float64)
    if not found.size:
        return 0.0, 1.0
    low, high = np.percentile(found, percentiles).tolist()
    return (low, high) if low < high else (float(found.min()), float(found.max()))


def range_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The values from black to white where nothing is stretched: all of an integer's, 0 to 1 of the others.

    Example:
        >>> range_of(np.dtype("uint8")), range_of(np.dtype("float32"))
        ((0.0, 255.0), (0.0, 1.0))
    """
    if dtype.kind not in "iu":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def mix_bands(pixels: Array, missing: Array, bands: Sequence[Band]) -> Array:
    """Channels as one picture: each in its colour, from black to full between its limits, and all added up.

    Where all channels are missing, there is a checkerboard; where one is, it adds nothing.

    Args:
        pixels: ``(h, w, c)`` of any real dtype.
        missing: which values say nothing: a mask of the same shape. Not-a-numbers say nothing either.
        bands: one a channel.

    Returns:
        ``(h, w, 3)`` uint8. A channel of uint8 with limits 0 and 255, in white, comes out as it is.

    Example:
        >>> pixels = np.array([[[0], [128], [200]]], np.uint8)
        >>> mix_bands(pixels, pixels == 200, [Band("gray", WHITE, 0, 255)])[0].tolist()
        [[0, 0, 0], [128, 128, 128], [236, 236, 236]]
    """
    gone = missing | np.isnan(pixels) if pixels.dtype.kind == "f" else missing
    picture = np.zeros((*pixels.shape[:2], 3), np.float64)
    for number, band in enumerate(bands):
        extent = band.high - band.low
        values = pixels[:, :, number].astype(np.float64) - band.low
        strength = (values / extent).clip(0, 1) if extent > 0 else np.full(values.shape, 0.5)
        strength[gone[:, :, number]] = 0
        picture += strength[:, :, np.newaxis] * band.colour
    shown: Array = np.rint(picture.clip(0, 255)).astype(np.uint8)
    nothing = gone.all(axis=2)
    shown[nothing] = checkerboard(*nothing.shape)[nothing]
    return shown


def checkerboard(height: int, width: int) -> Array:
    """What stands where there is nothing: light and darker gray squares, ``(height, width, 3)`` uint8."""
    rows, cols = np.arange(height)[:, None] // _SQUARE_PX, np.arange(width) // _SQUARE_PX
    squares = np.where((rows + cols) % 2, _DARK, _LIGHT).astype(np.uint8)
    coloured: Array = np.repeat(squares[:, :, np.newaxis], 3, axis=2)
    return coloured


def to_picture(pixels: Array) -> Array:
    """``(h, w, c)`` of any dtype as ``(h, w)`` or ``(h, w, 3)`` uint8 for looking at, stretched over percentiles 1 to 99."""
    shown = np.abs(pixels) if pixels.dtype.kind == "c" else pixels
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else shown[:, :, 0]
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    values = shown.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    scaled = (values - low) / (high - low if high > low else 1.0)
    return np.ascontiguousarray(np.nan_to_num(scaled.clip(0, 1) * 255).astype(np.uint8))
