"""Interpolation kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .._typing import Array

__all__ = ["EPSILON", "INTERPOLATIONS", "KERNELS", "Indices", "Interpolation", "Kernel"]


Indices = np.ndarray[Any, np.dtype[np.intp]]
#: How a value between pixels is found: the pixel that holds the point, or a mean of its neighbours, 2, 4 or 8 an axis.
Interpolation = Literal["nearest", "linear", "cubic", "lanczos"]
INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos")
# Steps and starts come from divisions; what is so close to a whole number was meant to be one.
EPSILON = 1e-9
Kernel = Callable[[Array], Array]


def first_tap(centres: Any, radius: float) -> Indices:
    """The first pixel of which the centre lies within ``radius`` of each point."""
    first: Indices = np.floor(centres - 0.5 - radius + EPSILON).astype(np.intp) + 1
    return first


def _linear(distance: Array) -> Array:
    weights: Array = np.maximum(0, 1 - distance)
    return weights


def _cubic(distance: Array) -> Array:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _lanczos(distance: Array) -> Array:
    return np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)


#: The kernel, and how far it reaches.
KERNELS: dict[str, tuple[Kernel, int]] = {"linear": (_linear, 1), "cubic": (_cubic, 2), "lanczos": (_lanczos, 4)}
