"""Affine maps of points, as six numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RegionError, shorten

if TYPE_CHECKING:
    from .._typing import Array

__all__ = [
    "IDENTITY",
    "Affine",
    "compose",
    "decompose_affine",
    "describe_affine",
    "invert",
    "pixels_between",
    "spanned_shape",
    "to_affine",
    "window_bounds",
]
_EPSILON = 1e-9
#: An affine map ``(a, b, c, d, e, f)`` takes the point ``(x, y)`` to ``(a x + b y + c, d x + e y + f)``.
Affine = tuple[float, float, float, float, float, float]
IDENTITY: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def to_affine(matrix: Any, what: str) -> Affine:
    """Six numbers from an affine matrix, 3x3 or 2x3, or from an object with an attribute ``matrix``.

    Args:
        matrix: the matrix, which acts on columns ``(x, y)``.
        what: the name of the value, for the message.

    Raises:
        RegionError: the value is not an affine matrix, or is not invertible.
    """
    try:
        given = np.asarray(getattr(matrix, "matrix", matrix))
        array = np.empty(0) if given.dtype.kind == "c" else given.astype(np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    # The last row of a product of matrices may differ from 0 0 1 in its last bits.
    if array.shape == (3, 3) and abs(array[2] - (0, 0, 1)).max() < _EPSILON:
        array = array[:2]
    if array.shape == (2, 3):
        a, b, c, d, e, f = array.ravel().tolist()
        # An exact zero: a tiny determinant is that of a small but valid scale.
        if all(map(math.isfinite, (a, b, c, d, e, f))) and a * e - b * d:
            return a, b, c, d, e, f
    raise RegionError(f"{what} must be an invertible affine matrix, 3x3 or 2x3, got {shorten(matrix)}")


def invert(affine: Affine) -> Affine:
    """The inverse map.

    Example:
        >>> invert((2.0, 0.0, 3.0, 0.0, 4.0, 5.0))
        (0.5, -0.0, -1.5, -0.0, 0.25, -1.25)
    """
    a, b, c, d, e, f = affine
    det = a * e - b * d
    return e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies ``inner`` first, then ``outer``.

    Example:
        >>> compose((2.0, 0.0, 3.0, 0.0, 4.0, 5.0), (1.0, 0.0, 10.0, 0.0, 1.0, 20.0))
        (2.0, 0.0, 23.0, 0.0, 4.0, 85.0)
    """
    a, b, c, d, e, f = outer
    g, h, i, j, k, m = inner
    return a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f


def window_bounds(affine: Affine, rows: range, cols: range) -> tuple[tuple[float, float], tuple[float, float]]:
    """The bounds of a mapped window: the lowest and highest y of its corners, then x."""
    a, b, c, d, e, f = affine
    corners = [(x, y) for x in (cols.start, cols.stop) for y in (rows.start, rows.stop)]
    x_ends, y_ends = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    return (min(y_ends), max(y_ends)), (min(x_ends), max(x_ends))


def pixels_between(low: float, high: float, extent: int) -> range:
    """The pixels of an axis of ``extent`` that overlap the interval from ``low`` to ``high``."""
    # A bound that a rounding error moves past the border of a pixel must not add that pixel.
    first = min(max(math.floor(low + _EPSILON), 0), extent)
    return range(first, min(max(math.ceil(high - _EPSILON), first), extent))


def spanned_shape(matrix: Array, height: int, width: int) -> tuple[int, int]:
    """The shape of the smallest image from the origin that holds a mapped file of ``height`` x ``width``."""
    (_, bottom), (_, right) = window_bounds(to_affine(matrix, "img_from_src"), range(height), range(width))
    # A mirrored file may end at the origin or before it.
    return max(1, math.ceil(bottom - _EPSILON)), max(1, math.ceil(right - _EPSILON))


def decompose_affine(matrix: Array) -> dict[str, Any]:
    """Decompose an affine map into scale, then shear in x, then rotation, then offset.

    Args:
        matrix: 3x3, which acts on columns ``(x, y)``; y points down.

    Returns:
        ``scale``: ``(y, x)``, with a negative y if the map mirrors; ``shear``: the shift of x for each y, before the
        rotation; ``rotate_degrees``: counter-clockwise on a screen; ``offset``: ``(y, x)``.

    Example:
        >>> decompose_affine(np.array([[0, 3.0, 5], [-2, 0, 7], [0, 0, 1]]))
        {'scale': (3.0, 2.0), 'shear': 0.0, 'rotate_degrees': 90.0, 'offset': (7.0, 5.0)}
    """
    (a, b, x), (d, e, y) = np.asarray(matrix, np.float64)[:2].tolist()
    scale_x = math.hypot(a, d)
    scale_y = (a * e - b * d) / scale_x
    return {
        "scale": (scale_y, scale_x),
        # + 0.0 replaces -0.0, which would be printed
        "shear": (a * b + d * e) / (scale_x * scale_y) + 0.0,
        "rotate_degrees": -math.degrees(math.atan2(d, a)) + 0.0,
        "offset": (y, x),
    }


def describe_affine(matrix: Array) -> str:
    """An affine map in words.

    Example:
        >>> describe_affine(np.eye(3)), describe_affine(np.array([[6, 0, 0], [0, 6, -2.5], [0, 0, 1]]))
        ('as it is', 'times 6, moved by -2.5, 0')
        >>> describe_affine(np.array([[0, 3.0, 5], [-2, 0, 7], [0, 0, 1]]))
        'times 3, 2, turned by 90 degrees, moved by 7, 5'
    """
    parts = decompose_affine(matrix)
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
