"""Affine maps of points, as six numbers: where windows go, and how to come back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import RegionError, shorten

__all__ = [
    "IDENTITY",
    "Affine",
    "box_of",
    "invert",
    "reach_of",
    "to_affine",
    "window_between",
]

Array = np.ndarray[Any, np.dtype[Any]]

_EPSILON = 1e-9


#: An affine map of points, ``(a, b, c, d, e, f)``: ``(x, y)`` goes to ``(a x + b y + c, d x + e y + f)``.
Affine = tuple[float, float, float, float, float, float]

IDENTITY: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def to_affine(matrix: Any, what: str) -> Affine:
    """An affine matrix, 3x3 or 2x3, or an object that has one, as six numbers.

    Raises:
        RegionError: it is none, or it cannot be inverted.
    """
    try:
        array = np.asarray(getattr(matrix, "matrix", matrix), np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape == (3, 3) and abs(array[2] - (0, 0, 1)).max() < _EPSILON:
        array = array[:2]
    if array.shape == (2, 3):
        a, b, c, d, e, f = array.ravel().tolist()
        if all(map(math.isfinite, (a, b, c, d, e, f))) and a * e - b * d:
            return a, b, c, d, e, f
    raise RegionError(f"{what} must be an affine 3x3 matrix that can be inverted, got {shorten(matrix)}")


def invert(affine: Affine) -> Affine:
    """The way back.

    Example:
        >>> invert((2.0, 0.0, 3.0, 0.0, 4.0, 5.0))
        (0.5, -0.0, -1.5, -0.0, 0.25, -1.25)
    """
    a, b, c, d, e, f = affine
    det = a * e - b * d
    return e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det


def box_of(affine: Affine, rows: range, cols: range) -> tuple[tuple[float, float], tuple[float, float]]:
    """From where to where the corners of a window go, in y and in x."""
    a, b, c, d, e, f = affine
    corners = [(x, y) for x in (cols.start, cols.stop) for y in (rows.start, rows.stop)]
    x_ends, y_ends = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    return (min(y_ends), max(y_ends)), (min(x_ends), max(x_ends))


def window_between(low: float, high: float, extent: int) -> range:
    """The pixels of an axis of ``extent`` that lie between two points, if only in part."""
    first = min(max(math.floor(low + _EPSILON), 0), extent)
    return range(first, min(max(math.ceil(high - _EPSILON), first), extent))


def reach_of(matrix: Array, height: int, width: int) -> tuple[int, int]:
    """The size of an image that a file of this size reaches to the end of."""
    (_, bottom), (_, right) = box_of(to_affine(matrix, "img_from_src"), range(height), range(width))
    return max(1, math.ceil(bottom - _EPSILON)), max(1, math.ceil(right - _EPSILON))
