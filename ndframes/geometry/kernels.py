"""Interpolation kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .._typing import Array

__all__ = ["EPSILON", "INTERPOLATIONS", "KERNELS", "Indices", "Interpolation", "Kernel"]


Indices = np.ndarray[Any, np.dtype[np.intp]]
#: The pixel that holds the point, or a weighted mean of 2, 4 or 8 neighbours along each axis.
Interpolation = Literal["nearest", "linear", "cubic", "lanczos"]
INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos")
# Steps and starts are results of divisions; a value this close to a whole number is taken for it.
EPSILON = 1e-9
Kernel = Callable[[Array], Array]


def first_tap(centres: Any, radius: float) -> Indices:
    """The first pixel whose centre is within ``radius`` of each point."""
    # The same rounding as in the footprint of a grid, which must contain every tap.
    first: Indices = np.floor(centres - 0.5 - radius + EPSILON).astype(np.intp) + 1
    return first


def _linear(distance: Array) -> Array:
    weights: Array = np.maximum(0, 1 - distance)
    return weights


def _cubic(distance: Array) -> Array:
    # The kernel of Keys (1981) with a = -0.5, as in GDAL and Pillow; OpenCV uses -0.75.
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _lanczos(distance: Array) -> Array:
    return np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)


#: Each kernel with its radius in pixels.
KERNELS: dict[str, tuple[Kernel, int]] = {"linear": (_linear, 1), "cubic": (_cubic, 2), "lanczos": (_lanczos, 4)}
