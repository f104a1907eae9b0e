"""Values of a configuration: what is allowed at each place, with the line and key of what is not."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, get_args

from ..errors import NdframesError, shorten
from .configuration_nodes import UNREADABLE, Node, Problems

__all__ = [
    "INVALID",
    "Reader",
    "choice",
    "flag",
    "listed",
    "mapping",
    "number",
    "optional",
    "parsed",
    "plain_mapping",
    "shape",
    "text",
    "text_mapping",
    "text_or_whole",
    "whole",
]
#: Makes a value of a node; if it is not allowed, notes a problem and returns :data:`INVALID`.
Reader = Callable[[Node, Problems], Any]
INVALID: Any = object()
_FRACTION = re.compile(r"[0-9]{1,12}/[0-9]{1,12}")
_LONGEST_KEY = 60  # of those that are compared with the allowed ones


def text(node: Node, problems: Problems) -> Any:
    """A text that is not empty."""
    if isinstance(node.value, str) and node.value:
        return node.value
    hint = f"; write it in quotes: '{node.text}'" if node.text and not isinstance(node.value, str) else ""
    return _refuse(node, problems, f"a text{hint}")


def text_or_whole(node: Node, problems: Problems) -> Any:
    """A text, or a whole number of at least 0."""
    if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value >= 0:
        return node.value
    return text(node, problems)


def flag(node: Node, problems: Problems) -> Any:
    """``true`` or ``false``."""
    return node.value if isinstance(node.value, bool) else _refuse(node, problems, "true, false")


def whole(least: int) -> Reader:
    """A whole number of at least ``least``."""

    def read(node: Node, problems: Problems) -> Any:
        is_whole = isinstance(node.value, int) and not isinstance(node.value, bool)
        if is_whole and node.value >= least:
            return node.value
        return _refuse(node, problems, f"a whole number of at least {least}")

    return read


def number(*, zero_is_allowed: bool = False, fraction_is_allowed: bool = False) -> Reader:
    """A finite number above 0, or of at least 0; also as a fraction such as 30000/1001."""
    wanted = f"a number {'of at least' if zero_is_allowed else 'above'} 0"
    wanted += ", or a fraction such as 30000/1001" if fraction_is_allowed else ""

    def read(node: Node, problems: Problems) -> Any:
        value = node.value
        if fraction_is_allowed and isinstance(value, str) and _FRACTION.fullmatch(value) and int(value.split("/")[1]):
            value = Fraction(value)
        is_number = isinstance(value, (int, float, Fraction)) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and (value > 0 or (zero_is_allowed and value == 0)):
            return value
        return _refuse(node, problems, wanted)

    return read


def choice(literal: object) -> Reader:
    """One of the values of a ``Literal``."""
    allowed = get_args(literal)

    def read(node: Node, problems: Problems) -> Any:
        if isinstance(node.value, str) and node.value in allowed:
            return node.value
        return _refuse(node, problems, ", ".join(allowed) + _suggest(node.value, allowed))

    return read


def shape(node: Node, problems: Problems) -> Any:
    """``[height, width]``."""
    values = [item.value for item in node.value] if isinstance(node.value, list) else []
    if len(values) == 2 and all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in values):
        return tuple(values)
    return _refuse(node, problems, "[height, width] in pixels, such as [480, 640]")


def parsed(parse: Callable[[str], Any]) -> Reader:
    """What a function makes of a text, whose errors are problems."""

    def read(node: Node, problems: Problems) -> Any:
        found = text(node, problems)
        if found is INVALID:
            return INVALID
        try:
            return parse(found)
        except NdframesError as error:
            problems.add(node.place, str(error))
            return INVALID

    return read


def optional(read: Reader) -> Reader:
    """A value, or nothing (``null``)."""
    return lambda node, problems: None if node.value is None else read(node, problems)


def listed(read: Reader, *, may_be_one: bool = True) -> Reader:
    """A list, as a tuple; a single value is a list of one."""

    def read_all(node: Node, problems: Problems) -> Any:
        if not isinstance(node.value, list):
            if not may_be_one:
                return _refuse(node, problems, "a list")
            found = _read(read, node, problems)
            return found if found is INVALID else (found,)
        values = [_read(read, item, problems) for item in node.value]
        return INVALID if any(value is INVALID for value in values) else tuple(values)

    return read_all


def text_mapping(node: Node, problems: Problems) -> Any:
    """A mapping of texts, in which numbers and flags are the texts that they are written as."""
    if not isinstance(node.value, dict):
        return _refuse(node, problems, "a mapping of texts")
    wrong = [item for item in node.value.values() if isinstance(item.value, (dict, list)) or item.value is None]
    for item in wrong:
        _refuse(item, problems, "a text")
    return INVALID if wrong else {name: item.text for name, item in node.value.items()}


def plain_mapping(node: Node, problems: Problems) -> Any:
    """A mapping of any values."""
    return node.to_plain() if isinstance(node.value, dict) else _refuse(node, problems, "a mapping")


def mapping(
    make: Callable[..., Any],
    fields: Mapping[str, Reader],
    required: Sequence[str] = (),
    *,
    takes_place: bool = False,
) -> Reader:
    """A mapping whose values are the arguments of ``make``, whose errors are problems.

    Args:
        make: makes the value.
        fields: the allowed keys, and how their values are read.
        required: the keys that must be there.
        takes_place: whether ``make`` also takes the place of the mapping.
    """

    def read(node: Node, problems: Problems) -> Any:
        if not isinstance(node.value, dict):
            return _refuse(node, problems, f"a mapping with the keys {', '.join(fields)}")
        values = {name: _read(fields[name], item, problems) for name, item in node.value.items() if name in fields}
        unknown = [name for name in node.value if name not in fields]
        for name in unknown:
            suggestion = _suggest(name, fields)
            problems.add(
                node.value[name].place, f"there is no key {shorten(name)}; allowed: {', '.join(fields)}{suggestion}"
            )
        missing = [name for name in required if name not in node.value]
        for name in missing:
            problems.add(node.place, f"the key {name!r} is missing")
        if missing or unknown or any(value is INVALID for value in values.values()):
            return INVALID
        try:
            return make(**values, **({"place": node.place} if takes_place else {}))
        except NdframesError as error:
            problems.add(node.place, str(error))
            return INVALID

    return read


def _read(read: Reader, node: Node, problems: Problems) -> Any:
    return INVALID if node.value is UNREADABLE else read(node, problems)


def _refuse(node: Node, problems: Problems, allowed: str) -> Any:
    problems.add(node.place, f"found {node.describe()}; allowed: {allowed}")
    return INVALID


def _suggest(found: object, allowed: Mapping[str, Any] | Sequence[str]) -> str:
    if not isinstance(found, str) or len(found) > _LONGEST_KEY:
        return ""
    near = difflib.get_close_matches(found, list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
