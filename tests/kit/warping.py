"""Pixels for tests of warping, and a comparison that allows for rounding."""

from __future__ import annotations

import numpy as np

from kit.synthetic import picture


def finite_picture(shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    """As :func:`kit.synthetic.picture`, but floats are between -100 and 100."""
    pixels = picture(shape, dtype)
    if pixels.dtype.kind not in "fc":
        return pixels
    rng = np.random.default_rng(1)
    numbers = rng.uniform(-100, 100, shape)
    return (numbers + 1j * rng.uniform(-100, 100, shape) if pixels.dtype.kind == "c" else numbers).astype(dtype)


def check_close(got: np.ndarray, expected: np.ndarray, interpolation: str) -> None:
    """Check that pixels are equal except where a value was rounded the other way."""
    if interpolation == "nearest":
        assert (got != expected).sum() <= max(1, 0.002 * got.size)
    elif got.dtype.kind in "ui":
        difference = np.abs(got.astype(np.int64) - expected.astype(np.int64))
        assert difference.max(initial=0) <= 1
        assert (difference > 0).sum() <= max(2, 0.001 * got.size)
    elif got.dtype.kind == "b":
        assert (got != expected).sum() <= max(2, 0.001 * got.size)
    else:
        scale = float(np.abs(expected.astype(np.float64)).max(initial=1e-3))
        tolerance = (1e-3 if got.dtype == np.float16 else 1e-5) * scale
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), atol=tolerance)
