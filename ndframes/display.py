"""What people look at: byte counts in words, and pixels as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["count_noun", "format_bytes", "list_first", "to_picture"]

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


def to_picture(pixels: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
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
