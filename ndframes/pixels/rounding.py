"""The dtypes for sums of weighted pixels, and rounding to the dtype of the source."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .._typing import Array

__all__ = [
    "POINT_BITS",
    "has_rounded_points",
    "ignore_float_errors",
    "point_dtype",
    "round_bits",
    "round_to_dtype",
    "work_dtype",
]


#: Points of 32-bit floats are rounded to 2**-24 of a pixel, which these floats do not resolve. The coordinates of a point in two
#: windows differ by whole pixels and by their last bits, which must not decide how a sum is rounded. A multiple of a fraction
#: such as 1/3 is far from the middle between two multiples of 2**-24, so it is rounded alike in every window.
POINT_BITS = 24
_SUM_BITS = 10
# Larger sums are left as they are: the rounding is not defined for them.
_MOST_ROUNDED = 2.0 ** (51 - _SUM_BITS)


def work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating dtype for sums of weighted pixels of ``dtype``."""
    if dtype.kind == "c":
        return dtype
    # float32 has 24 bits, which leaves 8 for the fractions of sums of 16-bit pixels.
    return np.dtype(np.float32 if dtype.itemsize <= 2 and dtype.kind != "f" else np.float64)


def point_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """As :func:`work_dtype`, but with more bits for weights that differ between crops in their last bits."""
    return np.dtype(np.float64) if dtype.kind in "ui" and dtype.itemsize == 2 else work_dtype(dtype)


def has_rounded_points(dtype: np.dtype[Any]) -> bool:
    """Whether pixels of ``dtype`` are interpolated at rounded points: floats of up to 32 bits, and pairs of them."""
    return dtype.kind in "fc" and dtype.itemsize <= (8 if dtype.kind == "c" else 4)


def round_bits(numbers: Array, bits: int, *, where: Any = True) -> None:
    """Round 64-bit floats below ``2**(51 - bits)`` to multiples of ``2**-bits``, in place.

    Example:
        >>> numbers = np.array([0.3, -0.3])
        >>> round_bits(numbers, 2)
        >>> numbers.tolist()
        [0.25, -0.25]
    """
    # A 64-bit float of this size has steps of 2**-bits. The factor 1.5 leaves room for negative numbers.
    term = 1.5 * 2.0 ** (52 - bits)
    np.add(numbers, term, out=numbers, where=where)
    np.subtract(numbers, term, out=numbers, where=where)


def round_to_dtype(sums: Array, dtype: np.dtype[Any], *, may_overshoot: bool = True) -> Array:
    """Round sums to ``dtype``. The array of sums may be overwritten.

    Args:
        sums: weighted sums of pixels.
        dtype: the dtype of the result. Integers are rounded to the nearest, halves to even, and clipped; bools are true from 0.5 on.
        may_overshoot: whether sums may exceed the range of the pixels, as those of kernels with negative weights do.
    """
    if sums.dtype == dtype:
        return sums
    if dtype.kind in "fc":
        with ignore_float_errors():
            return sums.astype(dtype)
    if dtype.kind == "b":
        return np.asarray(sums >= 0.5)
    # The last bits of a sum differ between crops. They must not decide whether a mean that ends in .5 rounds up.
    if sums.dtype == np.float64:
        round_bits(sums, _SUM_BITS, where=True if dtype.itemsize < 8 else np.abs(sums) < _MOST_ROUNDED)
    # Halves to even: if they always rounded up, an image would become brighter.
    np.rint(sums, out=sums)
    limits = _limits_of(dtype)
    # Linear sums stay in range, except that float64 may round 64-bit integers out of it.
    if may_overshoot or dtype.itemsize == 8:
        np.maximum(sums, limits.min, out=sums)
        np.minimum(sums, limits.max, out=sums)
    if dtype.itemsize < 8:
        return sums.astype(dtype)
    # float64 has no exact value for the largest 64-bit integer: the limit rounds up to a number that does not fit.
    with ignore_float_errors():
        out = sums.astype(dtype)
    out[sums >= limits.max] = limits.max
    return out


def ignore_float_errors() -> Any:
    """A context without warnings for invalid values and overflows, which images may contain."""
    return np.errstate(invalid="ignore", over="ignore")


@lru_cache(maxsize=16)
def _limits_of(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype)
