"""DynamicConfig: a run described by plain data."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import StreamError, shorten

__all__ = ["AlgoConfig", "DynamicConfig", "ObjectConfig", "ProducerConfig", "read_config"]
_REQUIRED = object()
_Check = tuple[Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TEXT: _Check = (lambda value: isinstance(value, str) and bool(value), "a text")
_LIST: _Check = (lambda value: isinstance(value, (list, tuple)), "a list")
_TABLE: _Check = (lambda value: isinstance(value, Mapping), "a table")
_FPS: _Check = (lambda value: _is_number(value) and value > 0, "a number above 0")
_SECONDS: _Check = (lambda value: _is_number(value) and value >= 0, "a number of at least 0")
_COUNT: _Check = (lambda value: _is_whole(value) and value >= 1, "a whole number of at least 1")
_STEP: _Check = (lambda value: _is_whole(value) and value >= 0, "a whole number of at least 0")


def _one_of(*names: str) -> _Check:
    return (lambda value: getattr(value, "value", value) in names, " or ".join(map(repr, names)))


def _or_none(check: _Check) -> _Check:
    return (lambda value: value is None or check[0](value), f"{check[1]}, or null")


#: The keys of each table: how its value is checked, and what it is where it lacks.
_CONFIG: dict[str, tuple[_Check, Any]] = {
    "mode": (_one_of("offline", "realtime"), _REQUIRED),
    "source": (
        (lambda value: _TEXT[0](value) or _is_whole(value), "a path, a URL or the number of a camera"),
        _REQUIRED,
    ),
    "fps": (_FPS, _REQUIRED),
    "dispatcher": (_TABLE, _REQUIRED),
    "algos": (_LIST, _REQUIRED),
    "producer": (_TABLE, _REQUIRED),
    "process": (_or_none(_TABLE), None),
    "recording_path": (_or_none(_TEXT), None),
    "logging_level": (_or_none(_TEXT), None),
}
_OBJECT: dict[str, tuple[_Check, Any]] = {
    "module": (_TEXT, _REQUIRED),
    "name": ((lambda value: isinstance(value, str) and value.isidentifier(), "a name"), _REQUIRED),
    "args": (_or_none(_LIST), ()),
    "kwargs": (_or_none(_TABLE), {}),
}
_ALGO: dict[str, tuple[_Check, Any]] = {**_OBJECT, "kwargs": (_TABLE, _REQUIRED)}
_SCHEDULE: dict[str, tuple[_Check, Any]] = {
    "frame_count": (_COUNT, _REQUIRED),
    "frame_step": (_STEP, _REQUIRED),
    "interval": (_SECONDS, _REQUIRED),
}
_PRODUCER: dict[str, tuple[_Check, Any]] = {
    "type": (_one_of("opencv", "pyav"), _REQUIRED),
    "width": (_or_none(_COUNT), None),
    "height": (_or_none(_COUNT), None),
}


@dataclass(frozen=True, slots=True)
class ObjectConfig:
    """An object: a module, a name in it, and what it is called with."""

    module: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlgoConfig:
    """An algorithm, and the keywords of :meth:`Inference.load_algo`."""

    algo: ObjectConfig
    load: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProducerConfig:
    """A producer."""

    type: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class DynamicConfig:
    """A run described by plain data, checked; nothing is imported or opened."""

    mode: str
    source: str | int
    fps: float
    dispatcher: ObjectConfig
    algos: tuple[AlgoConfig, ...]
    producer: ProducerConfig
    process: ObjectConfig | None = None
    recording_path: str | None = None
    logging_level: str | None = None

    @property
    def objects(self) -> list[tuple[str, ObjectConfig]]:
        """All objects that are imported, after their keys."""
        process = [] if self.process is None else [("process", self.process)]
        algos = [(f"algos[{place}]", each.algo) for place, each in enumerate(self.algos)]
        return [("dispatcher", self.dispatcher), *algos, *process]


def read_config(config: Any) -> DynamicConfig:
    """A configuration from a dict, JSON text, or the path of a JSON file.

    Raises:
        StreamError: something is wrong with it; the message lists everything.
    """
    table = _load(config)
    errors: list[str] = []
    found = _read_table(table, _CONFIG, "", errors)
    dispatcher = _read_object(found.get("dispatcher"), _OBJECT, "dispatcher", errors)
    process = _read_object(found.get("process"), _OBJECT, "process", errors)
    algos = [_read_algo(each, f"algos[{place}]", errors) for place, each in enumerate(found.get("algos") or ())]
    producer = _read_table(found.get("producer") or {}, _PRODUCER, "producer", errors)
    if errors:
        raise StreamError("the configuration has errors:\n" + "\n".join(f"- {each}" for each in errors))
    assert dispatcher is not None  # noqa: S101
    return DynamicConfig(
        getattr(found["mode"], "value", found["mode"]),
        found["source"],
        found["fps"],
        dispatcher,
        tuple(each for each in algos if each is not None),
        ProducerConfig(getattr(producer["type"], "value", producer["type"]), producer["width"], producer["height"]),
        process,
        found["recording_path"],
        found["logging_level"],
    )


def _load(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if not isinstance(config, (str, os.PathLike)):
        raise StreamError(f"config={shorten(config)}; give a dict, JSON text, or the path of a JSON file")
    text, name = os.fspath(config), "the configuration"
    if not text.lstrip().startswith("{"):
        name = text
        try:
            with open(text, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise StreamError(f"{name}: {error}; give a dict, JSON text, or the path of a JSON file") from error
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{name} is not JSON: {error}") from error
    if not isinstance(table, Mapping):
        raise StreamError(f"{name} holds {shorten(table)}; a configuration is a table")
    return table


def _read_table(
    table: Mapping[str, Any],
    keys: Mapping[str, tuple[_Check, Any]],
    path: str,
    errors: list[str],
    *,
    open_end: bool = False,
) -> dict[str, Any]:
    """The checked values of a table; those that are wrong are left out, and named in ``errors``."""
    prefix = f"{path}." if path else ""
    for key in table:
        if key not in keys and not open_end:
            close = difflib.get_close_matches(str(key), keys, 1)
            hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(keys)}"
            errors.append(f"{prefix}{key} is unknown; {hint}")
    found = {}
    for key, ((is_good, what), default) in keys.items():
        value = table.get(key, default)
        if value is _REQUIRED:
            errors.append(f"{prefix}{key} is missing; give {what}")
        elif key in table and not is_good(value):
            errors.append(f"{prefix}{key}={shorten(value)}; give {what}")
        else:
            found[key] = value
    return found


def _read_object(
    table: Any, keys: Mapping[str, tuple[_Check, Any]], path: str, errors: list[str]
) -> ObjectConfig | None:
    if table is None:
        return None
    if not isinstance(table, Mapping):
        errors.append(f"{path}={shorten(table)}; give a table")
        return None
    found = _read_table(table, keys, path, errors)
    if len(found) < len(keys):
        return None
    return ObjectConfig(found["module"], found["name"], tuple(found["args"] or ()), dict(found["kwargs"] or {}))


def _read_algo(table: Any, path: str, errors: list[str]) -> AlgoConfig | None:
    algo = _read_object(table, _ALGO, path, errors)
    if algo is None:
        return None
    # Further keywords are those of the algorithm's init.
    _read_table(algo.kwargs, _SCHEDULE, f"{path}.kwargs", errors, open_end=True)
    return AlgoConfig(algo, algo.kwargs)
