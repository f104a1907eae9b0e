"""Results as plain data and as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StreamError

if TYPE_CHECKING:
    from .values import Result

__all__ = ["RESULT_FIELDS", "describe_result", "to_dict", "to_json", "to_line", "to_strict_json"]
#: The attributes of a result, in order.
RESULT_FIELDS = (
    "name",
    "source",
    "index",
    "time",
    "epoch",
    "frames",
    "value",
    "error",
    "latency",
    "captured",
    "clock",
)


def to_dict(result: Result) -> dict[str, Any]:
    """A result as a plain dict."""
    return {name: getattr(result, name) for name in RESULT_FIELDS}


def to_line(result: Result) -> str:
    """A result as a line of JSON; arrays become lists.

    Raises:
        StreamError: its value is not JSON.
    """
    return to_json(to_dict(result), describe_result(result)) + "\n"


def describe_result(result: Result) -> str:
    """Which result it is, for messages."""
    return f"the result of {result.name} at frame {result.index:,} of {result.source}"


def to_json(value: Any, what: str) -> str:
    """A value as JSON; arrays become lists.

    Args:
        value: plain data and arrays.
        what: it is, for the error.

    Raises:
        StreamError: it is not JSON.
    """
    try:
        return json.dumps(value, default=_to_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise StreamError(f"{what} is not JSON: {error}") from error


def to_strict_json(value: Any, what: str) -> str:
    """As :func:`to_json`, but NaN and infinities, which JSON lacks, become ``null``."""
    try:
        return json.dumps(value, default=_to_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # The rare case, or an error that is raised again.
        return to_json(_to_finite(json.loads(to_json(value, what))), what)


def _to_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_to_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
