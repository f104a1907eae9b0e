"""The text of a configuration as nodes that know their line and key. PyYAML only splits it up; nothing is constructed by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, StreamConfigurationError, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_BYTES", "UNREADABLE", "Node", "Place", "Problem", "Problems", "parse_nodes"]
#: PyYAML reads about 100 kB a second at worst, so larger files are refused.
MOST_BYTES = 256 * 1024
_MOST_NODES = 5000
_MOST_DEPTH = 20
_MOST_PROBLEMS = 100
#: The value of a node that has a problem already.
UNREADABLE = object()
_NULL = ("", "~", "null", "Null", "NULL")
_FLAGS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18}|[0-9]{1,18}(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?")
_NO_NUMBERS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is in a file.

    Attributes:
        line: counted from 1.
        key: such as ``algorithms[1].window.every``; empty for the whole file.
    """

    line: int
    key: str = ""

    def item(self, number: int, line: int) -> Place:
        """The place of an item of a list."""
        return Place(line, f"{self.key}[{number}]")

    def child(self, name: str, line: int) -> Place:
        """The place of a value of a mapping."""
        name = name if len(name) <= 60 else f"{name[:57]}..."
        return Place(line, f"{self.key}.{name}" if self.key else name)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not allowed.

    Attributes:
        file: the name of the file.
        line: counted from 1; 0 if it is the file as a whole.
        key: such as ``algorithms[1].window.every``.
        text: what was found, and what is allowed.
    """

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.text}" if self.key else f"{where}: {self.text}"


class Problems:
    """The problems of a file, gathered to be raised at once.

    Args:
        file: its name, for messages.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Problem] = []
        self._more = 0

    def add(self, place: Place, text: str) -> None:
        """Note a problem."""
        if len(self._found) < _MOST_PROBLEMS:
            self._found.append(Problem(self.file, place.line, place.key, text))
        else:
            self._more += 1

    def check(self) -> None:
        """Raise what was found.

        Raises:
            StreamConfigurationError: there is a problem.
        """
        if self._found:
            raise self._to_error()

    def fail(self, place: Place, text: str) -> StreamConfigurationError:
        """The error of what was found, and of a problem after which reading cannot go on."""
        self._found.append(Problem(self.file, place.line, place.key, text))
        return self._to_error()

    def _to_error(self) -> StreamConfigurationError:
        found = sorted(self._found, key=lambda problem: problem.line)
        lines = [str(problem) for problem in found]
        error = StreamConfigurationError("\n".join([*lines, f"... and {self._more} more"] if self._more else lines))
        error.problems = tuple(found)
        return error


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file.

    Attributes:
        value: ``None``, a bool, an int, a float, a text; a list of nodes, or a dict of nodes; or :data:`UNREADABLE`.
        place: where it is: for a value of a mapping, the line of its key.
        text: a single value as it is written.
    """

    value: Any
    place: Place
    text: str = ""

    def describe(self) -> str:
        """What it is, for a message."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        return "nothing" if self.value is None else shorten(self.value)

    def to_plain(self) -> Any:
        """Plain data."""
        if isinstance(self.value, dict):
            return {key: node.to_plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.to_plain() for node in self.value]
        return self.value


def parse_nodes(text: str, problems: Problems) -> Node:
    """The nodes of a text.

    Duplicate keys, tags, anchors and aliases are noted as problems.

    Args:
        text: YAML.
        problems: where problems are noted.

    Raises:
        StreamConfigurationError: it is not YAML, or too large, too deep, or several documents.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError('configuration needs PyYAML: pip install "ndframes[stream]"', name="yaml") from error
    try:
        return _Builder(iter(yaml.parse(text, Loader=yaml.SafeLoader)), problems).read_document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        hint = "; indent with blanks, not with tabs" if "'\\t'" in what else ""
        raise problems.fail(Place(line), f"it is not YAML: {what}{hint}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise problems.fail(Place(line), f"the character {error.character:#x} is not allowed in YAML") from error


class _Builder:
    """Makes nodes of PyYAML's events, within limits.

    Args:
        events: of the text.
        problems: where problems are noted.
    """

    def __init__(self, events: Iterator[Any], problems: Problems) -> None:
        self._events = events
        self._problems = problems
        self._count = 0

    def read_document(self) -> Node:
        """The only document of the text."""
        next(self._events)  # the begin of the stream
        event = next(self._events)
        if self._kind(event) == "StreamEnd":
            raise self._problems.fail(Place(0), "it is empty; give sources and algorithms")
        node = self._read(next(self._events), Place(1), 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if self._kind(event) != "StreamEnd":
            raise self._problems.fail(Place(self._line(event)), "a second document begins; give one")
        return node

    def _read(self, event: Any, place: Place, depth: int) -> Node:
        self._count += 1
        if self._count > _MOST_NODES:
            raise self._problems.fail(place, f"the file has more than {_MOST_NODES:,} values")
        if depth > _MOST_DEPTH:
            raise self._problems.fail(place, f"values are nested more than {_MOST_DEPTH} levels deep")
        problem = self._find_problem(event)
        if problem is not None:
            self._problems.add(place, problem)
        kind = self._kind(event)
        value: Any = UNREADABLE
        if kind == "MappingStart":
            value = self._read_mapping(place, depth)
        elif kind == "SequenceStart":
            value = self._read_list(place, depth)
        elif kind == "Scalar":
            value = _to_value(event.value) if event.style is None else event.value
        return Node(value if problem is None else UNREADABLE, place, getattr(event, "value", ""))

    def _read_mapping(self, place: Place, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self._kind(event := next(self._events)) != "MappingEnd":
            line = self._line(event)
            is_text = self._kind(event) == "Scalar"
            name = event.value if is_text else "?"
            key = self._read(event, place.child(name, line), depth + 1)
            node = self._read(next(self._events), key.place, depth + 1)
            if not is_text or not name:
                self._problems.add(key.place, f"the key is {key.describe() if is_text else 'not a text'}; give a text")
            elif name in found:
                self._problems.add(
                    key.place, f"the key {shorten(name)} is there twice, first in line {found[name].place.line}"
                )
            else:
                found[name] = node
        return found

    def _read_list(self, place: Place, depth: int) -> list[Node]:
        found: list[Node] = []
        while self._kind(event := next(self._events)) != "SequenceEnd":
            found.append(self._read(event, place.item(len(found), self._line(event)), depth + 1))
        return found

    def _find_problem(self, event: Any) -> str | None:
        if self._kind(event) == "Alias":
            return f"found the alias *{shorten(event.anchor)}; aliases are not allowed: write the value again"
        if event.anchor is not None:
            return f"found the anchor &{shorten(event.anchor)}; anchors are not allowed"
        if event.tag is not None:
            return f"found the tag {shorten(event.tag)}; tags are not allowed"
        return None

    @staticmethod
    def _kind(event: Any) -> str:
        return str(type(event).__name__.removesuffix("Event"))

    @staticmethod
    def _line(event: Any) -> int:
        return int(event.start_mark.line) + 1


def _to_value(text: str) -> Any:
    """What a text without quotes stands for, by the core schema of YAML 1.2, in which ``no`` and ``1:20`` are texts."""
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    lower = text.lower()
    return float(_NO_NUMBERS[lower]) if lower in _NO_NUMBERS else text
