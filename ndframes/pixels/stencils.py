"""Resampling along one axis at a time, with precomputed weights."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..geometry.grid import Sampling
from ..geometry.kernels import EPSILON, KERNELS, first_tap
from .rounding import POINT_BITS, has_rounded_points, ignore_float_errors, round_bits, round_to_dtype, work_dtype

if TYPE_CHECKING:
    from .._typing import Array
    from ..geometry.kernels import Indices, Interpolation

__all__ = ["Stencil", "apply_stencils", "find_stencil", "resample"]


def resample(pixels: Array, rows: Sampling, cols: Sampling, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Resample a whole array ``(h, w, c)`` along y and x; see :func:`warp`.

    Returns:
        A new array ``(rows.count, cols.count, c)`` of the same dtype.

    Example:
        >>> ramp = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
        >>> resample(ramp, Sampling(0, 1, 1), Sampling(2, 0.5, 4), "nearest", antialias=False)[0, :, 0].tolist()
        [2, 2, 3, 3]
    """
    down, across = (
        _stencil_of(sampling, interpolation, antialias=antialias, dtype=pixels.dtype) for sampling in (rows, cols)
    )
    return apply_stencils(pixels, down, across, rows_first=rows.step > 1, may_overshoot=interpolation != "linear")


class Stencil(NamedTuple):
    """The source pixels and weights of a result along one axis. All results with the same fraction of a pixel share it.

    Attributes:
        first: the first source pixel, relative to the one in which the result begins.
        extent: the number of source pixels, from the first to the last.
        indices: for each tap an array of source pixels, relative to ``first``; a single array if pixels are copied.
        weights: for each tap an array of weights; empty if pixels are copied.
    """

    first: int
    extent: int
    indices: list[Indices]
    weights: list[Array]


@lru_cache(maxsize=1024)
def find_stencil(
    fraction: float, step: float, count: int, interpolation: Interpolation, *, antialias: bool, dtype: np.dtype[Any]
) -> Stencil:
    """The stencil of ``count`` pixels of extent ``step`` that begin at ``fraction``, from 0 to 1, for ``dtype``."""
    stencil = _stencil_of(Sampling(fraction, step, count), interpolation, antialias=antialias, dtype=dtype)
    first, last = int(stencil.indices[0].min()), int(stencil.indices[-1].max())
    return stencil._replace(first=first, extent=last - first + 1, indices=[each - first for each in stencil.indices])


def _stencil_of(sampling: Sampling, interpolation: Interpolation, *, antialias: bool, dtype: np.dtype[Any]) -> Stencil:
    """The stencil of a sampling, relative to the first pixel of the array. Pixels outside are replaced by border pixels."""
    # Every kernel would give these pixels with a weight of 1, but for rounding.
    if sampling.is_pixel_aligned:
        interpolation = "nearest"
    # The cache is keyed by a rounded start: windows begin a few pixels before their crop, so with a round scale most crops
    # have one of few starts.
    start, weight_dtype = round(sampling.start, 12), work_dtype(dtype).type(0).real.dtype
    indices, weights = _taps(
        start, sampling.step, sampling.count, interpolation, antialias, has_rounded_points(dtype), weight_dtype
    )
    return Stencil(0, 0, indices, weights)


def apply_stencils(pixels: Array, down: Stencil, across: Stencil, *, rows_first: bool, may_overshoot: bool) -> Array:
    """Resample an array ``(h, w, c)``.

    Args:
        pixels: the array.
        down: the stencil along y.
        across: the stencil along x.
        rows_first: whether to resample along y first, which is faster if it shrinks.
        may_overshoot: see :func:`round_to_dtype`.
    """
    sums = pixels.astype(work_dtype(pixels.dtype)) if down.weights or across.weights else pixels
    with ignore_float_errors() if pixels.dtype.kind in "fc" else nullcontext():
        for is_down in (True, False) if rows_first else (False, True):
            if is_down:
                sums = _weighted_sums(sums, down)
            elif across.weights:  # copies of rows are fast, so the axes are swapped
                turned = _weighted_sums(np.ascontiguousarray(sums.transpose(1, 0, 2)), across)
                sums = np.ascontiguousarray(turned.transpose(1, 0, 2))
            else:
                sums = sums.take(across.indices[0], axis=1, mode="clip")
    return round_to_dtype(sums, pixels.dtype, may_overshoot=may_overshoot)


@lru_cache(maxsize=512)
def _taps(
    start: float, step: float, count: int, interpolation: Interpolation, antialias: bool, is_rounded: bool, dtype: Any
) -> tuple[list[Indices], list[Array]]:
    centres = start + (np.arange(count) + 0.5) * step
    if interpolation == "nearest":
        return [np.floor(centres + EPSILON).astype(np.intp)], []
    kernel, support = KERNELS[interpolation]
    if is_rounded:
        round_bits(centres, POINT_BITS)
    # A coarser result averages over its whole pixel; a finer one interpolates with the plain kernel.
    stretch = max(1.0, step) if antialias else 1.0
    # The EPSILON keeps a rounding error from adding a tap that has no weight.
    indices = first_tap(centres, support * stretch)[:, None] + np.arange(math.ceil(2 * support * stretch - EPSILON))
    weights = kernel(np.abs(indices + 0.5 - centres[:, None]) / stretch)
    # The weights of Lanczos and of widened kernels do not add up to exactly 1.
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    taps = range(indices.shape[1])
    return (
        [np.ascontiguousarray(indices[:, tap]) for tap in taps],
        [np.ascontiguousarray(weights[:, tap])[:, None, None] for tap in taps],
    )


def _weighted_sums(pixels: Array, stencil: Stencil) -> Array:
    """Weighted sums of rows, or copies of rows."""
    _, _, indices, weights = stencil
    # clip replaces pixels outside by border pixels, and saves numpy the check of the bounds.
    out = pixels.take(indices[0], axis=0, mode="clip")
    if not weights:
        return out
    if len(indices) == 2 and pixels.dtype == np.float32:  # the most common case; half as many multiplications
        term = pixels.take(indices[1], axis=0, mode="clip")
        term -= out
        term *= weights[1]
        out += term
        return out
    out *= weights[0]
    for tap in range(1, len(indices)):
        term = pixels.take(indices[tap], axis=0, mode="clip")
        term *= weights[tap]
        out += term
    return out
