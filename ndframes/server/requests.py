"""Requests: what a client asks to read, checked, from the query of an address or from JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RegionError, shorten
from .regions import AXES, fill_from_text, item_from_text, region_from_json

__all__ = ["FORMATS", "PARAMETERS", "Batch", "Wanted", "Warp", "batch_from_json", "wanted_from_query", "warp_from_json"]
FORMATS = ("npy", "png", "tif", "zip")
_BATCH_FORMATS = ("npy", "zip")
_OPTIONS = ("scale", "shape", "pad", "fill", "interpolation", "antialias", "nodata", "outside")
_WARP_OPTIONS = ("fill", "interpolation", "antialias", "nodata")
#: The parameters of ``/frames/NAME/region``.
PARAMETERS = (*AXES, "channels", "format", "state", *_OPTIONS)
_MOST_REQUESTS = 4096
_MOST_CHANNELS = 4096
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One region of one image, as it is asked for.

    Attributes:
        name: of the image.
        region: a tuple, ``None``, or a mapping from axes to items.
        channels: as in :meth:`ndframes.Frames.load_region`.
        options: the other keywords of :meth:`ndframes.Frames.load_region`.
        format: of the answer.
        state: of the image, which all pixels must have; ``None``: any.
    """

    name: str
    region: Any
    channels: str | Sequence[str] | None
    options: Mapping[str, Any]
    format: str
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Regions of images that are read together.

    Attributes:
        items: pairs of the name of an image and a region of it.
        channels: as in :meth:`ndframes.Frames.load_regions`.
        options: its other keywords.
        format: of the answer; ``None``: ``"npy"`` if all results have the same shape and dtype, else ``"zip"``.
    """

    items: tuple[tuple[str, Any], ...]
    channels: str | Sequence[str] | None
    options: Mapping[str, Any]
    format: str | None


@dataclass(frozen=True, slots=True)
class Warp:
    """An image that is read through a matrix.

    Attributes:
        name: of the image.
        transform: as in :meth:`ndframes.Frames.load_warped`, which checks it.
        shape: height and width of the result.
        channels: as in :meth:`ndframes.Frames.load_warped`.
        options: its keywords.
    """

    name: str
    transform: Any
    shape: tuple[int, int]
    channels: str | Sequence[str] | None
    options: Mapping[str, Any]


def wanted_from_query(name: str, query: Sequence[tuple[str, str]]) -> Wanted:
    """The request for ``/frames/NAME/region?...``.

    Raises:
        RegionError: a parameter is unknown, given twice, or has a value that is not allowed.

    Example:
        >>> wanted = wanted_from_query("cup", [("y", "0:256"), ("x", "-64:"), ("channels", "r|g"), ("scale", "0.5")])
        >>> wanted.region, wanted.channels, wanted.options
        ({'y': slice(0, 256, None), 'x': slice(-64, None, None)}, 'r|g', {'scale': 0.5})
    """
    given: dict[str, str] = {}
    for parameter, text in query:
        if parameter not in PARAMETERS:
            raise RegionError(f"{shorten(parameter)} is not a parameter; allowed: {', '.join(PARAMETERS)}")
        if parameter in given:
            raise RegionError(f"{parameter} is given twice")
        # An empty value is that of a form in which nothing was entered.
        if text:
            given[parameter] = text
    region = {axis: item_from_text(given[axis], axis) for axis in AXES if axis in given}
    options = {option: _option_from_text(option, given[option]) for option in _OPTIONS if option in given}
    form = _check_format(given.get("format", "npy"), FORMATS)
    return Wanted(name, region or None, given.get("channels"), options, form, given.get("state"))


def batch_from_json(body: bytes) -> Batch:
    """The request for ``POST /regions``.

    It is a list of objects with ``id`` and ``region``, or an object with that list as ``requests`` and, beside it,
    ``channels``, ``format`` and the options of all.

    Raises:
        RegionError: it is not JSON of this form.

    Example:
        >>> batch_from_json(b'[{"id": "cup", "region": {"y": [0, 9]}}, {"id": "cup"}]').items
        (('cup', {'y': slice(0, 9, None)}), ('cup', None))
    """
    value = _parse(body)
    if isinstance(value, list):
        value = {"requests": value}
    if not isinstance(value, dict) or not isinstance(value.get("requests"), list):
        raise RegionError('the request is not a list [{"id": ..., "region": ...}], or an object with it as "requests"')
    _check_keys(value, ("requests", "channels", "format", *_OPTIONS), "the request")
    if len(value["requests"]) > _MOST_REQUESTS:
        raise RegionError(f"{len(value['requests']):,} requests; send at most {_MOST_REQUESTS:,} together")
    form = value.get("format")
    return Batch(
        tuple(_item_from_json(number, item) for number, item in enumerate(value["requests"])),
        _channels_from_json(value.get("channels")),
        {name: _option_from_json(name, value[name]) for name in _OPTIONS if name in value},
        None if form is None else _check_format(form, _BATCH_FORMATS),
    )


def warp_from_json(body: bytes) -> Warp:
    """The request for ``POST /warped``: an object with ``id``, ``transform``, ``shape``, ``channels`` and the options.

    Raises:
        RegionError: it is not JSON of this form.

    Example:
        >>> warp_from_json(b'{"id": "cup", "transform": [[2, 0, 0], [0, 2, 0], [0, 0, 1]], "shape": [8, 9]}').shape
        (8, 9)
    """
    value = _parse(body)
    if not isinstance(value, dict) or not _is_name(value.get("id")):
        raise RegionError('the request is not an object with "id", "transform" and "shape"')
    _check_keys(value, ("id", "transform", "shape", "channels", *_WARP_OPTIONS), "the request")
    shape = value.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(extent) is int and extent > 0 for extent in shape)
    ):
        raise RegionError(f"shape={shorten(shape)}; give height and width, whole numbers from 1")
    return Warp(
        str(value["id"]),
        value.get("transform"),
        (shape[0], shape[1]),
        _channels_from_json(value.get("channels")),
        {name: _option_from_json(name, value[name]) for name in _WARP_OPTIONS if name in value},
    )


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RegionError(f"the request is not JSON: {error}") from error


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _item_from_json(number: int, item: Any) -> tuple[str, Any]:
    if not isinstance(item, dict) or not _is_name(item.get("id")):
        raise RegionError(f'request {number} is {shorten(item)}; each is an object with "id" and "region"')
    _check_keys(item, ("id", "region"), f"request {number}")
    return str(item["id"]), region_from_json(item.get("region"))


def _check_keys(value: Mapping[str, Any], allowed: Sequence[str], what: str) -> None:
    if unknown := [key for key in value if key not in allowed]:
        raise RegionError(f"{what} has {shorten(unknown[0])}; allowed: {', '.join(allowed)}")


def _check_format(value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise RegionError(f"format={shorten(value)}; allowed: {', '.join(allowed)}")
    return str(value)


def _channels_from_json(value: Any) -> str | list[str] | None:
    is_list = isinstance(value, list) and len(value) <= _MOST_CHANNELS and all(isinstance(code, str) for code in value)
    if value is not None and not isinstance(value, str) and not is_list:
        raise RegionError(f"channels={shorten(value)}; give a text such as 'r|g|b', or a list of codes")
    return value  # type: ignore[no-any-return]


def _option_from_text(name: str, text: str) -> Any:
    if name == "scale":
        numbers = [_to_float(name, part) for part in text.split(",")]
        return numbers[0] if len(numbers) == 1 else _to_pair(name, numbers)
    if name == "shape":
        return _to_pair(name, [item_from_text(part, name) for part in text.replace("x", ",").split(",")])
    if name == "antialias":
        if text.lower() not in _BOOLEANS:
            raise RegionError(f"antialias={shorten(text)}; allowed: true, false")
        return _BOOLEANS[text.lower()]
    return fill_from_text(text) if name == "fill" else text


def _option_from_json(name: str, value: Any) -> Any:
    if name == "fill":
        return fill_from_text(value)
    if name in ("scale", "shape") and isinstance(value, list) and all(type(item) in (int, float) for item in value):
        return tuple(value)
    if name == "interpolation" and isinstance(value, dict):
        return value
    # What a keyword does not take is refused by the read, with its own message; but it must not be a structure.
    if value is not None and not isinstance(value, (str, int, float)):
        raise RegionError(f"{name}={shorten(value)} is not allowed")
    return value


def _to_pair(name: str, values: Sequence[Any]) -> tuple[Any, Any]:
    is_pair = len(values) == 2 and not any(isinstance(value, (bool, slice)) for value in values)
    if not is_pair or not all(isinstance(value, (int, float)) for value in values):
        raise RegionError(f"{name}={shorten(list(values))}; give two numbers, y before x")
    return values[0], values[1]


def _to_float(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise RegionError(f"{name}={shorten(text)} is not a number") from error
    if not math.isfinite(number):
        raise RegionError(f"{name}={shorten(text)} is not a finite number")
    return number
