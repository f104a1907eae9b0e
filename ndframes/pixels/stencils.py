"""Resampling along one axis at a time, by precomputed weights."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..geometry.grid import Sampling
from ..geometry.kernels import EPSILON, KERNELS, first_tap
from .rounding import ignore_float_errors, round_to_dtype, work_dtype

if TYPE_CHECKING:
    from .._typing import Array
    from ..geometry.kernels import Indices, Interpolation

__all__ = ["Stencil", "apply_stencils", "find_stencil", "resample"]


def resample(pixels: Array, rows: Sampling, cols: Sampling, interpolation: Interpolation, *, antialias: bool) -> Array:
    """Sample an array ``(h, w, c)`` anew along y and x, all of it at once; see :func:`warp`.

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
    """What the pixels of a result are made of along one axis, wherever it begins, as long as it is at that fraction of a pixel.

    Attributes:
        first: the first pixel of the array, counted from the one in which the result begins.
        extent: how many pixels there are from it to the last one.
        indices: one array a tap, counted from ``first``; a single one where pixels are taken as they are.
        weights: of the taps, none where pixels are taken as they are.
    """

    first: int
    extent: int
    indices: list[Indices]
    weights: list[Array]


@lru_cache(maxsize=1024)
def find_stencil(
    fraction: float, step: float, count: int, interpolation: Interpolation, *, antialias: bool, dtype: np.dtype[Any]
) -> Stencil:
    """The stencil of ``count`` pixels of ``step`` each that begin at ``fraction``, from 0 to 1, for pixels of ``dtype``."""
    stencil = _stencil_of(Sampling(fraction, step, count), interpolation, antialias=antialias, dtype=dtype)
    first, last = int(stencil.indices[0].min()), int(stencil.indices[-1].max())
    return stencil._replace(first=first, extent=last - first + 1, indices=[each - first for each in stencil.indices])


def _stencil_of(sampling: Sampling, interpolation: Interpolation, *, antialias: bool, dtype: np.dtype[Any]) -> Stencil:
    """What a sampling is made of, counted from the array's first pixel; what lies outside is the first one or the last."""
    if sampling.is_pixel_aligned:
        interpolation = "nearest"
    indices, weights = _taps_of(sampling, interpolation, antialias, work_dtype(dtype).type(0).real.dtype)
    return Stencil(0, 0, indices, weights)


def apply_stencils(pixels: Array, down: Stencil, across: Stencil, *, rows_first: bool, may_overshoot: bool) -> Array:
    """Sample an array ``(h, w, c)`` along y and x; ``rows_first`` where that leaves fewer numbers for the second axis."""
    sums = pixels.astype(work_dtype(pixels.dtype)) if down.weights or across.weights else pixels
    with ignore_float_errors() if pixels.dtype.kind in "fc" else nullcontext():
        for is_down in (True, False) if rows_first else (False, True):
            if is_down:
                sums = _weigh(sums, down)
            elif across.weights:  # rows are copied in one piece, so columns are made rows
                turned = _weigh(np.ascontiguousarray(sums.transpose(1, 0, 2)), across)
                sums = np.ascontiguousarray(turned.transpose(1, 0, 2))
            else:
                sums = sums.take(across.indices[0], axis=1, mode="clip")
    return round_to_dtype(sums, pixels.dtype, may_overshoot=may_overshoot)


def _taps_of(
    sampling: Sampling,
    interpolation: Interpolation,
    antialias: bool,
    dtype: Any,
) -> tuple[list[Indices], list[Array]]:
    """The pixels that those of the result are made of, an array a tap; and their weights.

    They are the same for all samplings that begin at the same fraction of a pixel, which is so for most crops of an image of
    which the scale is a round number: crops begin within the first pixels of their windows.
    """
    return _taps(round(sampling.start, 12), sampling.step, sampling.count, interpolation, antialias, dtype)


@lru_cache(maxsize=512)
def _taps(
    start: float, step: float, count: int, interpolation: Interpolation, antialias: bool, dtype: Any
) -> tuple[list[Indices], list[Array]]:
    centres = start + (np.arange(count) + 0.5) * step
    if interpolation == "nearest":
        return [np.floor(centres + EPSILON).astype(np.intp)], []
    kernel, support = KERNELS[interpolation]
    stretch = max(1.0, step) if antialias else 1.0
    indices = first_tap(centres, support * stretch)[:, None] + np.arange(math.ceil(2 * support * stretch - EPSILON))
    weights = kernel(np.abs(indices + 0.5 - centres[:, None]) / stretch)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    taps = range(indices.shape[1])
    return (
        [np.ascontiguousarray(indices[:, tap]) for tap in taps],
        [np.ascontiguousarray(weights[:, tap])[:, None, None] for tap in taps],
    )


def _weigh(pixels: Array, stencil: Stencil) -> Array:
    """Means of rows, or rows as they are."""
    _, _, indices, weights = stencil
    out = pixels.take(indices[0], axis=0, mode="clip")
    if not weights:
        return out
    if len(indices) == 2 and pixels.dtype == np.float32:  # by far the most common, and finite: half the multiplications
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
