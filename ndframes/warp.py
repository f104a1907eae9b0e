"""Resampling along the axes: arrays in, arrays out.

Coordinates follow pixel corners: pixel ``i`` covers ``[i, i + 1)``, its centre is at ``i + 0.5``. What lies outside an
array is its nearest pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np

from .errors import RegionError, shorten
from .regions import Selection, to_index

__all__ = ["INTERPOLATIONS", "Interpolation", "Sampling", "resample", "resolve_scale"]

Array = np.ndarray[Any, np.dtype[Any]]

#: How a value between pixels is found: the pixel that holds the point, or a mean weighted by distance.
Interpolation = Literal["nearest", "linear"]
INTERPOLATIONS = ("nearest", "linear")

# Steps and starts come from divisions; what is so close to a whole number was meant to be one.
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where along one axis the pixels of a result lie in the array that they are taken from.

    Attributes:
        start: the corner at which the first one begins.
        step: how long each is: over 1 shrinks.
        count: how many there are.
    """

    start: float
    step: float
    count: int

    @property
    def is_whole(self) -> bool:
        """Whether the result's pixels are pixels of the array."""
        return abs(self.step - 1) < _EPSILON and abs(self.start - round(self.start)) < _EPSILON

    def find_pixels(self, extent: int) -> range | None:
        """The pixels of an axis of ``extent`` that the result's are, one by one; ``None`` where they are not.

        Example:
            >>> Sampling(3.0, 1.0, 4).find_pixels(9), Sampling(3.5, 1.0, 4).find_pixels(9)
            (range(3, 7), None)
        """
        first = round(self.start)
        is_inside = first >= 0 and first + self.count <= extent
        return range(first, first + self.count) if self.is_whole and is_inside else None

    def in_plane(self, factor: float, origin: int = 0) -> Sampling:
        """The same in an array that is ``factor`` times as coarse, counted from its pixel ``origin``."""
        return Sampling(self.start / factor - origin, self.step / factor, self.count)

    def cut(self, count: int) -> Iterator[tuple[slice, Sampling]]:
        """Pieces of so many pixels: where each stands in the result, and its own sampling."""
        for first in range(0, self.count, count):
            last = min(first + count, self.count)
            yield slice(first, last), Sampling(self.start + first * self.step, self.step, last - first)

    def footprint(self, extent: int, interpolation: Interpolation, *, antialias: bool) -> range:
        """The pixels of an axis of ``extent`` that the result is made of.

        Example:
            >>> Sampling(4.0, 2.0, 3).footprint(100, "linear", antialias=True)
            range(3, 11)
            >>> Sampling(4.0, 2.0, 3).footprint(100, "nearest", antialias=True)
            range(5, 10)
        """
        if not self.count:
            return range(0)
        indices = _taps(self, extent, interpolation, antialias=antialias)[0]
        return range(int(indices.min()), int(indices.max()) + 1)


def resolve_scale(
    selection: Selection, scale: float | tuple[float, float] | None, shape: tuple[int, int] | None
) -> tuple[Sampling, Sampling]:
    """Where the pixels of a scaled region lie in the image, in y and in x.

    Args:
        selection: the region, of which y and x are plain runs of pixels.
        scale: the result's size over the region's, one number or ``(y, x)``. The result has as many pixels as come
            nearest to that, halves up and one at least, and each covers exactly ``1 / scale`` of the image's.
        shape: the result's ``(height, width)``, which then covers exactly the region.

    Raises:
        RegionError: both are given, or neither is positive, or the region has steps, integers or no pixels.
    """
    rows, cols = selection.ranges[:2]
    if selection.dropped[0] or selection.dropped[1] or rows.step != 1 or cols.step != 1:
        raise RegionError("a region that is scaled is made of slices without steps in y and x")
    if scale is not None and shape is not None:
        raise RegionError(f"scale={shorten(scale)} and shape={shorten(shape)} are given; one of them says it all")
    if shape is not None:
        height, width = _to_shape(shape)
        return _fit(rows, height), _fit(cols, width)
    scale_y, scale_x = _to_scales(scale)
    return _stretch(rows, scale_y), _stretch(cols, scale_x)


def resample(pixels: Array, rows: Sampling, cols: Sampling, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Sample an array ``(h, w, c)`` anew along y and x.

    With ``"linear"`` and ``antialias``, where the result is smaller, each of its pixels is a mean of all that it covers,
    weighted by a triangle twice its width, as Pillow and torch do it. Sums are taken in float32 for 8 and 16 bits, else in
    float64; integers are rounded to the nearest, halves up; booleans are true from one half on.

    Args:
        pixels: what is sampled.
        rows: where in y.
        cols: where in x.
        interpolation: see :data:`Interpolation`.
        antialias: whether shrinking averages.

    Returns:
        A new array ``(rows.count, cols.count, c)`` of the same dtype.

    Example:
        >>> ramp = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
        >>> resample(ramp, Sampling(0, 1, 1), Sampling(0, 2, 4), "linear", antialias=True)[0, :, 0].tolist()
        [1, 3, 5, 6]
        >>> resample(ramp, Sampling(0, 1, 1), Sampling(2, 0.5, 4), "nearest", antialias=False)[0, :, 0].tolist()
        [2, 2, 3, 3]
    """
    for axis, sampling in ((0, rows), (1, cols)):
        if interpolation == "nearest" or sampling.is_whole:
            indices = _taps(sampling, pixels.shape[axis], "nearest", antialias=False)[0]
            pixels = np.take(pixels, indices[:, 0], axis=axis)
    if interpolation == "nearest" or (rows.is_whole and cols.is_whole):
        return np.ascontiguousarray(pixels)
    sums = pixels.astype(_work_dtype(pixels.dtype))
    for axis, sampling in ((0, rows), (1, cols)):
        if not sampling.is_whole:
            sums = _weigh(sums, axis, *_taps(sampling, pixels.shape[axis], interpolation, antialias=antialias))
    return _round(sums, pixels.dtype)


def _to_shape(shape: object) -> tuple[int, int]:
    if isinstance(shape, (tuple, list)) and len(shape) == 2:
        extents = [to_index(extent, axis) for axis, extent in enumerate(shape)]
        if min(extents) > 0:
            return extents[0], extents[1]
    raise RegionError(f"shape={shorten(shape)}; give the result's (height, width) in whole pixels, 1 or more each")


def _to_scales(scale: Any) -> tuple[float, float]:
    pair = tuple(scale) if isinstance(scale, (tuple, list)) else (scale, scale)
    if len(pair) == 2 and all(isinstance(item, Real) and not isinstance(item, bool) for item in pair):
        factors = float(pair[0]), float(pair[1])
        if all(0 < factor < math.inf for factor in factors):
            return factors
    raise RegionError(f"scale={shorten(scale)}; give a positive number, or two of them: (y, x)")


def _fit(axis: range, count: int) -> Sampling:
    if not axis:
        raise RegionError("the region holds no pixels that could be scaled to a shape")
    return Sampling(axis.start, len(axis) / count, count)


def _stretch(axis: range, factor: float) -> Sampling:
    count = max(1, math.floor(len(axis) * factor + 0.5)) if axis else 0
    return Sampling(axis.start, 1 / factor, count)


def _taps(
    sampling: Sampling, extent: int, interpolation: Interpolation, *, antialias: bool
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], Array]:
    """Per pixel of the result the pixels that it is made of, ``(count, taps)``, and their weights, which add up to 1."""
    centres = sampling.start + (np.arange(sampling.count) + 0.5) * sampling.step
    if interpolation == "nearest":
        indices = np.floor(centres + _EPSILON).astype(np.intp)[:, None]
        return indices.clip(0, extent - 1), np.ones((sampling.count, 1))
    radius = max(1.0, sampling.step) if antialias else 1.0
    first = np.floor(centres - 0.5 - radius + _EPSILON).astype(np.intp) + 1
    indices = first[:, None] + np.arange(math.ceil(2 * radius - _EPSILON))
    weights = np.maximum(0, 1 - np.abs(indices + 0.5 - centres[:, None]) / radius)
    return indices.clip(0, extent - 1), weights / weights.sum(axis=1, keepdims=True)


def _weigh(pixels: Array, axis: int, indices: np.ndarray[Any, np.dtype[np.intp]], weights: Array) -> Array:
    shape = [1, 1, 1]
    shape[axis] = len(indices)
    out: Array | None = None
    with np.errstate(invalid="ignore", over="ignore"):
        for tap in range(indices.shape[1]):
            term = np.take(pixels, indices[:, tap], axis=axis)
            term *= weights[:, tap].astype(pixels.real.dtype).reshape(shape)
            out = term if out is None else np.add(out, term, out=out)
    assert out is not None  # noqa: S101
    return out


def _work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "c":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def _round(sums: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind in "fc":
        with np.errstate(over="ignore"):
            return sums.astype(dtype)
    if dtype.kind == "b":
        return np.asarray(sums >= 0.5)
    limits = np.iinfo(dtype)
    whole = np.floor(sums + 0.5)
    # float64 does not hold the largest 64-bit integers: what is past them by rounding is one of them
    with np.errstate(invalid="ignore"):
        out = whole.clip(limits.min, limits.max).astype(dtype)
    out[whole >= limits.max] = limits.max
    return out
