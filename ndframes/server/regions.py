"""Regions as text and as JSON: how a request says what is read, as numpy's slices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import numpy as np

from ..errors import RegionError, shorten

__all__ = ["AXES", "fill_from_text", "fill_to_text", "item_from_text", "item_to_json", "order_axes", "region_from_json"]
#: The names of the axes of a video or a sequence; an image has no ``t``.
AXES = ("t", "y", "x", "c")
# More digits than any image needs, and fewer than int() refuses.
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_MOST_NUMBER = 10**18
_MOST_LISTED = 10_000


def item_from_text(text: str, axis: str) -> Any:
    """The item of a region for one axis: a slice ``0:256``, ``-5:``, ``::2`` or ``::-1``, a number ``7``, or for ``t`` a list ``3,1,3``.

    Raises:
        RegionError: the text has another form.

    Example:
        >>> item_from_text("-64::2", "y"), item_from_text("7", "x"), item_from_text("3,1,3", "t")
        (slice(-64, None, 2), 7, [3, 1, 3])
    """
    if axis == "t" and "," in text:
        parts = text.split(",")
        if len(parts) > _MOST_LISTED:
            raise RegionError(f"{axis} lists {len(parts):,} frames; give at most {_MOST_LISTED:,}")
        return [_number_from_text(part, axis, text) for part in parts]
    pieces = text.split(":")
    if len(pieces) == 1:
        return _number_from_text(text, axis, text)
    if len(pieces) > 3:
        raise _not_an_item(axis, text)
    return slice(*(None if not piece else _number_from_text(piece, axis, text) for piece in pieces))


def region_from_json(value: Any) -> Any:
    """A region as it stands in a request: ``None``, a list of items in the order of the axes, or a mapping from axes to items.

    An item is a whole number; ``[start, stop]`` or ``[start, stop, step]``, where ``null`` leaves a value out; a text as in an
    address; or ``{"list": [...]}`` of frame numbers for the first axis.

    Returns:
        ``None``, a tuple, or a dictionary for :func:`order_axes`.

    Raises:
        RegionError: it is none of these.

    Example:
        >>> region_from_json([[0, 256], [None, None, -1]])
        (slice(0, 256, None), slice(None, None, -1))
        >>> region_from_json({"y": [0, 256], "t": 5})
        {'y': slice(0, 256, None), 't': 5}
    """
    if value is None:
        return None
    if isinstance(value, list):
        if len(value) > len(AXES):
            raise RegionError(
                f"a region of {len(value)} items; an image has the axes y, x, c, and a video t before them"
            )
        return tuple(_item_from_json(item, f"axis {number}", is_first=not number) for number, item in enumerate(value))
    if isinstance(value, dict):
        if unknown := [name for name in value if name not in AXES]:
            raise RegionError(f"a region with {shorten(unknown[0])}; allowed: {', '.join(AXES)}")
        return {name: _item_from_json(item, name, is_first=name == "t") for name, item in value.items()}
    raise RegionError(f"region {shorten(value)}; give null, a list of items, or an object with {', '.join(AXES)}")


def order_axes(region: Any, axis_count: int) -> Any:
    """A region with named axes as a tuple in the order of an image with so many axes; others are returned as they are.

    Raises:
        RegionError: the image has no axis ``t``.

    Example:
        >>> order_axes({"x": 3}, 3)
        (slice(None, None, None), 3, slice(None, None, None))
    """
    if not isinstance(region, Mapping):
        return region
    names = AXES[len(AXES) - axis_count :]
    if missing := [name for name in region if name not in names]:
        raise RegionError(f"{missing[0]}={shorten(region[missing[0]])}: this image has the axes {', '.join(names)}")
    return tuple(region.get(name, slice(None)) for name in names) if region else None


def item_to_json(item: Any) -> Any:
    """An item of a region as JSON; ``...`` where it is no slice, number or list of whole numbers.

    Example:
        >>> item_to_json(slice(np.int64(3), None)), item_to_json(-1), item_to_json([2, 0]), item_to_json(0.5)
        ([3, None, None], -1, {'list': [2, 0]}, Ellipsis)
    """
    if isinstance(item, slice):
        parts = [_to_int(part) for part in (item.start, item.stop, item.step)]
        return ... if ... in parts else parts
    if isinstance(item, list):
        numbers = [_to_int(number) for number in item]
        return ... if ... in numbers or None in numbers else {"list": numbers}
    found = _to_int(item)
    return ... if found is None else found


def fill_to_text(fill: complex) -> int | str:
    """A fill value as JSON: JSON has no complex numbers, and no nan.

    Raises:
        RegionError: it is not a number.
    """
    if isinstance(fill, (int, np.integer)):
        return index(fill)
    value = np.asarray(fill)
    if value.ndim or value.dtype.kind not in "biufc":
        raise RegionError(f"fill={shorten(fill)} is not a number")
    return repr(complex(value[()])).strip("()")


def fill_from_text(value: Any) -> complex:
    """The fill value that is written as a number or as text.

    Raises:
        RegionError: it is not a number.

    Example:
        >>> fill_from_text("7"), fill_from_text("nan+0j"), fill_from_text(fill_to_text(1 - 2j))
        (7, nan, (1-2j))
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    try:
        number = complex(value) if isinstance(value, (str, float)) else complex(index(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise RegionError(f"fill={shorten(value)} is not a number") from error
    if isinstance(value, int):
        return value
    # The sign of a zero is kept, and math.copysign tells it from that of a complex number that was meant.
    return number.real if number.imag == 0 and math.copysign(1, number.imag) > 0 else number


def _item_from_json(item: Any, axis: str, *, is_first: bool) -> Any:
    if isinstance(item, str):
        return item_from_text(item, "t" if is_first else axis)
    if isinstance(item, list) and 2 <= len(item) <= 3:
        return slice(*(None if part is None else _check_number(part, axis, item) for part in item))
    if isinstance(item, dict) and [*item] == ["list"] and isinstance(item["list"], list) and is_first:
        if len(item["list"]) > _MOST_LISTED:
            raise RegionError(f"{axis} lists {len(item['list']):,} frames; give at most {_MOST_LISTED:,}")
        return [_check_number(number, axis, item) for number in item["list"]]
    return _check_number(item, axis, item)


def _number_from_text(text: str, axis: str, whole: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise _not_an_item(axis, whole)
    return int(text)


def _check_number(value: Any, axis: str, whole: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _MOST_NUMBER:
        raise _not_an_item(axis, whole)
    return value


def _not_an_item(axis: str, value: Any) -> RegionError:
    return RegionError(
        f"{axis}={shorten(value)} is not a slice or a whole number of at most 18 digits; write 0:256, -64:, ::2 or 7, "
        "and in JSON [0, 256] or [null, null, 2]"
    )


def _to_int(value: Any) -> Any:
    """A whole number as an int; ``None`` as it is; ``...`` for others."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_, Sequence)):
        return ...
    try:
        number = index(value)
    except TypeError:
        return ...
    return number if abs(number) < _MOST_NUMBER else ...
