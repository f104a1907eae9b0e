"""The dtypes in which pixels are interpolated, and rounding back to the source's dtype."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["ignore_float_errors", "work_dtype"]


def work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating dtype in which pixels of ``dtype`` are interpolated."""
    if dtype.kind == "c":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 and dtype.kind != "f" else np.float64)


def point_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """As :func:`work_dtype`, where weights are not the same to the bit in every crop: what is rounded has bits to spare."""
    return np.dtype(np.float64) if dtype.kind in "ui" and dtype.itemsize == 2 else work_dtype(dtype)


def round_to_dtype(sums: Array, dtype: np.dtype[Any], *, may_overshoot: bool = True) -> Array:
    """Sums as numbers of ``dtype``; they may be written over."""
    if sums.dtype == dtype:
        return sums
    if dtype.kind in "fc":
        with ignore_float_errors():
            return sums.astype(dtype)
    if dtype.kind == "b":
        return np.asarray(sums >= 0.5)
    sums += 0.5
    if dtype.kind == "i":
        np.floor(sums, out=sums)
    limits = _limits_of(dtype)
    if may_overshoot or dtype.itemsize == 8:
        np.maximum(sums, limits.min, out=sums)
        np.minimum(sums, limits.max, out=sums)
    if dtype.itemsize < 8:
        return sums.astype(dtype)
    # float64 does not hold the largest 64-bit integers: what is past them by rounding is one of them
    with ignore_float_errors():
        out = sums.astype(dtype)
    out[sums >= limits.max] = limits.max
    return out


def ignore_float_errors() -> Any:
    """Infinities and overflows are let be."""
    return np.errstate(invalid="ignore", over="ignore")


@lru_cache(maxsize=16)
def _limits_of(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype)
