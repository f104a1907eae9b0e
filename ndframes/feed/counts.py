"""Counts: arguments that count something."""

from __future__ import annotations

import operator
from typing import Any

from ..errors import PatchError, shorten

__all__ = ["to_count"]


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
