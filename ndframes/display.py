"""What people look at: byte counts in words, and pixels as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["format_bytes", "to_picture"]


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
