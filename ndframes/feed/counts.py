"""Arguments that are numbers: counts, factors and shares."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ..errors import PatchError, shorten

__all__ = ["to_count", "to_factor", "to_number"]


def to_count(name: str, value: Any, what: str = "a whole number", *, least: int = 1) -> int:
    """An argument that counts something, as an int, from an integer of Python or numpy.

    Raises:
        PatchError: it is not an integer from ``least``.

    Example:
        >>> to_count("batch_size", 0, "a number of patches")
        Traceback (most recent call last):
        ndframes.errors.PatchError: batch_size=0; give a number of patches from 1
    """
    try:
        # A bool is an integer to Python.
        count = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise PatchError(f"{name}={shorten(value)}; give {what} from {least}")
    return count


def to_number(name: str, value: Any, most: float = math.inf) -> float:
    """A number from 0 to ``most``.

    Raises:
        PatchError: otherwise.

    Example:
        >>> to_number("jitter", 2, 1)
        Traceback (most recent call last):
        ndframes.errors.PatchError: jitter=2; give a share from 0 to 1
    """
    number = _to_float(value)
    if not 0 <= number <= most or number == math.inf:
        allowed = "a number from 0" if most == math.inf else f"a share from 0 to {most:g}"
        raise PatchError(f"{name}={shorten(value)}; give {allowed}")
    return number


def to_factor(name: str, value: Any, what: str = "a number above 0") -> float:
    """A factor by which something is scaled.

    Raises:
        PatchError: it is not a finite number above 0.
    """
    number = _to_float(value)
    if not 0 < number < math.inf:
        raise PatchError(f"{name}={shorten(value)}; give {what}")
    return number


def _to_float(value: Any) -> float:
    """A number of Python or numpy; -1 for anything else."""
    # A bool is a number to Python, and float() takes texts.
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return float(value) if is_number else -1.0
