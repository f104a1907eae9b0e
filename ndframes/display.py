"""What people look at: byte counts in words, and pixels as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["count_noun", "describe_affine", "format_bytes", "list_first", "split_affine", "to_picture"]

Array = np.ndarray[Any, np.dtype[Any]]

_LISTED = 20


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
