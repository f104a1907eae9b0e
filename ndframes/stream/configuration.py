"""Configuration: a pipeline described by a YAML file, whose keys are the arguments of the constructors."""

from __future__ import annotations

import functools
import glob
import inspect
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import NdframesError, StreamError, shorten
from ..video.addresses import find_address
from .algorithm import WorkerKind, set_up, tear_down
from .configuration_nodes import MOST_BYTES, UNREADABLE, Node, Place, Problems, parse_nodes
from .configuration_values import (
    INVALID,
    choice,
    flag,
    listed,
    mapping,
    number,
    optional,
    parsed,
    plain_mapping,
    shape,
    text,
    text_mapping,
    text_or_whole,
    whole,
)
from .imports import Allowed, ImportPath
from .opening import name_sources
from .pipeline import Mode, Pipeline
from .run import ErrorMode
from .sinks import JsonLines, ParquetFile
from .source import Backoff, PixelFormat, Source
from .window import Window

if TYPE_CHECKING:
    from .configuration_values import Reader

__all__ = ["AlgorithmEntry", "Configuration", "RecordEntry", "ResultsEntry", "load_pipeline", "read_configuration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmEntry:
    """An algorithm of a configuration; see :meth:`Pipeline.add`.

    Attributes:
        path: from where it is imported: the key ``import``.
        arguments: with which a class is constructed, in its worker; a function gets them with each call.
    """

    place: Place
    import_place: Place
    name: str
    path: ImportPath
    arguments: Mapping[str, Any] = field(default_factory=dict)
    window: Window | None = None
    source: tuple[str, ...] | None = None
    batch: int = 1
    worker: WorkerKind = "inline"
    with_info: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEntry:
    """A recording of a configuration; see :meth:`Pipeline.record`."""

    place: Place
    path: str
    annotated: bool = True
    source: str | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsEntry:
    """Where results are written: a ``.jsonl`` file, line by line as they come, or a ``.parquet`` file at the end."""

    path: str
    place: Place = Place(0)  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if os.path.splitext(self.path)[1] not in _SINKS:
            raise StreamError(f"found path={shorten(self.path)}; allowed: a path that ends with {' or '.join(_SINKS)}")

    def make_sink(self) -> Callable[[Any], None]:
        """The sink that writes the file.

        Raises:
            OutputError: the file cannot be written.
            MissingExtraError: a package that writes it is not installed.
        """
        sink: Callable[[Any], None] = _SINKS[os.path.splitext(self.path)[1]](self.path)
        return sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A pipeline that is described by a file; nothing is opened or imported yet.

    Attributes:
        file: the file that it was read from.
        sources: the sources, each with its name.
    """

    file: str
    sources: tuple[Source, ...]
    algorithms: tuple[AlgorithmEntry, ...] = ()
    mode: Mode = "offline"
    errors: ErrorMode = "raise"
    buffer: int = 30
    record: tuple[RecordEntry, ...] = ()
    log: str | None = None
    results: ResultsEntry | None = None

    def check_imports(self, allow: str | Iterable[str]) -> None:
        """Check that all algorithms are below packages that are allowed, without importing them.

        Raises:
            StreamConfigurationError: otherwise; with all problems.
        """
        self._for_each_import(Allowed.of(allow).check)

    def load_algorithms(self, allow: str | Iterable[str]) -> list[Any]:
        """Import all algorithms; see :func:`load_pipeline`.

        Raises:
            StreamConfigurationError: some of them cannot be imported, or are not allowed.
        """
        allowed = Allowed.of(allow)
        # First all checks, so that nothing is imported for a file that is refused.
        self._for_each_import(allowed.check)
        return self._for_each_import(allowed.load)

    def make_pipeline(self, allow: str | Iterable[str] = ()) -> Pipeline:
        """The pipeline, with its algorithms imported; see :func:`load_pipeline`.

        Raises:
            StreamConfigurationError: something cannot be imported, recorded or written.
        """
        functions = self.load_algorithms(allow)
        problems = Problems(self.file)
        pipeline = Pipeline(list(self.sources), mode=self.mode, errors=self.errors, buffer=self.buffer)
        for entry, function in zip(self.algorithms, functions, strict=True):
            _note(problems, entry.place, functools.partial(_add, pipeline, entry, function))
        for record in self.record:
            _note(problems, record.place, functools.partial(_record, pipeline, record))
        problems.check()
        if self.results is not None:
            sink = _note(problems, self.results.place, self.results.make_sink)
            problems.check()
            pipeline.on_result(sink)
        # Last: it begins the file anew.
        if self.log is not None:
            _note(problems, Place(0, "log"), functools.partial(pipeline.log, self.log))
        problems.check()
        return pipeline

    def _for_each_import(self, function: Callable[[ImportPath], Any]) -> list[Any]:
        problems = Problems(self.file)
        found = [
            _note(problems, entry.import_place, functools.partial(function, entry.path)) for entry in self.algorithms
        ]
        problems.check()
        return found


class ConfiguredAlgorithm:
    """An algorithm whose class is constructed with arguments, in its worker.

    Args:
        made_of: the class.
        arguments: of its constructor.
    """

    def __init__(self, made_of: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self._class = made_of
        self._arguments = dict(arguments)
        self._made: Any = None

    def setup(self) -> None:
        """Construct it, and call its own ``setup``."""
        self._made = set_up(self._class(**self._arguments))

    def __call__(self, frames: Any) -> Any:
        return self._made(frames)

    def close(self) -> None:
        """Call its own ``close``."""
        tear_down(self._made)


def load_pipeline(path: str | os.PathLike[str], *, allow: str | Iterable[str] = ()) -> Pipeline:
    """Make a pipeline of a YAML file.

    Args:
        path: the file. Paths in it are relative to its folder.
        allow: the packages and modules from which algorithms may be imported: ``"mypackage"`` allows ``mypackage`` and everything
            below it. Importing runs code, so the file itself cannot extend this. An imported object must be defined there, too.

    Returns:
        The pipeline, not started.

    Raises:
        StreamConfigurationError: the file is not allowed; the message has a line for each problem, with line and key.
        MissingExtraError: PyYAML is not installed.

    Example:
        >>> path = getfixture("tmp_path") / "pipeline.yaml"
        >>> _ = path.write_text("sources: {name: cam, uri: 'lavfi:testsrc2=rate=25', fps: 5}")
        >>> from ndframes.stream import load_pipeline
        >>> load_pipeline(path)
        <Pipeline offline, idle: 1 source>
    """
    return read_configuration(path).make_pipeline(allow)


def read_configuration(path: str | os.PathLike[str]) -> Configuration:
    """Read and check a YAML file, without opening or importing anything that it names.

    Raises:
        StreamConfigurationError: the file is not allowed; the message has a line for each problem, with line and key.
        MissingExtraError: PyYAML is not installed.
    """
    file = os.fsdecode(path)
    problems = Problems(file)
    root = parse_nodes(_read_text(file, problems), problems)
    found = INVALID if root.value is UNREADABLE else _CONFIGURATION(root, problems)
    if isinstance(root.value, dict):
        _check_references(root.value, problems)
    problems.check()
    located: Configuration = _locate(replace(found, file=file))
    return located


def _read_text(file: str, problems: Problems) -> str:
    try:
        # A pipe or a device would be waited for, or never end.
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise problems.fail(Place(0), "it is not a regular file")
        with open(file, "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise problems.fail(Place(0), f"it cannot be read: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise problems.fail(Place(0), f"it has more than {MOST_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise problems.fail(Place(line), f"it is not UTF-8: {error.reason}; save it as UTF-8") from error


def _note(problems: Problems, place: Place, function: Callable[[], Any]) -> Any:
    """What a function returns; its error is a problem."""
    try:
        return function()
    except (NdframesError, ValueError) as error:
        problems.add(place, str(error))
        return None


def _add(pipeline: Pipeline, entry: AlgorithmEntry, function: Any) -> None:
    if entry.arguments:
        is_class = inspect.isclass(function)
        function = (ConfiguredAlgorithm if is_class else _bind)(function, entry.arguments)
    pipeline.add(
        entry.name,
        function,
        entry.window,
        source=entry.source,
        batch=entry.batch,
        worker=entry.worker,
        with_info=entry.with_info,
        timeout=entry.timeout,
    )


def _bind(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    return functools.partial(function, **arguments)


def _record(pipeline: Pipeline, entry: RecordEntry) -> None:
    pipeline.record(entry.path, annotated=entry.annotated, source=entry.source, fps=entry.fps)


def _check_references(root: Mapping[str, Node], problems: Problems) -> None:
    """Check the names by which parts of the file refer to each other, also if other parts have problems."""
    algorithms = _items(root.get("algorithms"))
    seen: set[str] = set()
    for name in _find(algorithms, "name"):
        if name.text in seen:
            problems.add(name.place, f"two algorithms have the name {shorten(name.text)}")
        seen.add(name.text)
    # Their own problems have been noted already.
    sources = listed(_SOURCE)(root["sources"], Problems("")) if "sources" in root else INVALID
    if sources is INVALID:
        return
    names = _note(problems, root["sources"].place, functools.partial(_name_sources, sources)) or []
    for used in _find([*algorithms, *_items(root.get("record"))], "source"):
        for each in _items(used):
            if names and each.value is not None and each.text not in names:
                problems.add(each.place, f"there is no source {shorten(each.text)}; allowed: {', '.join(names)}")
    for record in _items(root.get("record")):
        if len(names) > 1 and isinstance(record.value, dict) and "source" not in record.value:
            problems.add(record.place, f"the key 'source' is missing; allowed: {', '.join(names)}")


def _name_sources(sources: Iterable[Source]) -> list[str]:
    """The names of sources; their schemes are checked, too."""
    named = name_sources(list(sources))
    for source in named:
        find_address(source.uri, source.options)
    return [str(source.name) for source in named]


def _items(node: Node | None) -> list[Node]:
    """The items of a list, or the only one."""
    if node is None:
        return []
    return node.value if isinstance(node.value, list) else [node]


def _find(nodes: Iterable[Node], key: str) -> list[Node]:
    """The values of a key, in those mappings that have it."""
    return [node.value[key] for node in nodes if isinstance(node.value, dict) and key in node.value]


def _locate(found: Configuration) -> Configuration:
    """The configuration with absolute paths."""
    folder = os.path.dirname(os.path.abspath(found.file))
    results = found.results
    sources = [replace(source, uri=_locate_uri(source.uri, folder)) for source in name_sources(list(found.sources))]
    return replace(
        found,
        sources=tuple(sources),
        record=tuple(replace(entry, path=_locate_path(entry.path, folder)) for entry in found.record),
        log=found.log and _locate_path(found.log, folder),
        results=results and replace(results, path=_locate_path(results.path, folder)),
    )


def _locate_path(path: str, folder: str) -> str:
    return os.path.join(folder, os.path.expanduser(path))


def _locate_uri(uri: Any, folder: str) -> Any:
    is_path = isinstance(uri, str) and "://" not in uri and not uri.startswith("lavfi:") and not uri.isdigit()
    if not is_path:
        return uri
    # Characters of a pattern in the name of the folder stand for themselves.
    return _locate_path(uri, glob.escape(folder) if glob.has_magic(uri) else folder)


def _make_configuration(**values: Any) -> Configuration:
    return Configuration(file="", **values)


def _make_algorithm(**values: Any) -> AlgorithmEntry:
    path, import_place = values.pop("import")
    return AlgorithmEntry(path=path, import_place=import_place, **values)


def _read_import(node: Node, problems: Problems) -> Any:
    """An import path, and its place."""
    path = parsed(ImportPath.parse)(node, problems)
    return path if path is INVALID else (path, node.place)


_SINKS: dict[str, Callable[[str], Any]] = {
    ".jsonl": functools.partial(JsonLines, append=False),
    ".parquet": ParquetFile,
}
_SECONDS = number()
_WINDOW = mapping(
    Window,
    {
        "count": whole(1),
        "step": whole(1),
        "every": optional(whole(1)),
        "interval": optional(number(fraction_is_allowed=True)),
    },
)
_BACKOFF = mapping(
    Backoff,
    {
        "first": number(zero_is_allowed=True),
        "most": number(zero_is_allowed=True),
        "attempts": optional(whole(0)),
    },
)
_SOURCE = mapping(
    Source,
    {
        "name": text,
        "uri": text_or_whole,
        "fps": optional(number(fraction_is_allowed=True)),
        "shape": optional(shape),
        "pixel_format": choice(PixelFormat),
        "start": number(zero_is_allowed=True),
        "live": optional(flag),
        "open_timeout": _SECONDS,
        "stall_timeout": _SECONDS,
        "reconnect": optional(_BACKOFF),
        "options": optional(text_mapping),
    },
    required=("uri",),
)
_ALGORITHM = mapping(
    _make_algorithm,
    {
        "name": text,
        "import": _read_import,
        "arguments": plain_mapping,
        "window": _WINDOW,
        "source": optional(listed(text)),
        "batch": whole(1),
        "worker": choice(WorkerKind),
        "with_info": flag,
        "timeout": optional(_SECONDS),
    },
    required=("name", "import"),
    takes_place=True,
)
_RECORD = mapping(
    RecordEntry,
    {"path": text, "annotated": flag, "source": optional(text), "fps": optional(number(fraction_is_allowed=True))},
    required=("path",),
    takes_place=True,
)
_RESULTS = mapping(ResultsEntry, {"path": text}, required=("path",), takes_place=True)
_CONFIGURATION: Reader = mapping(
    _make_configuration,
    {
        "mode": choice(Mode),
        "errors": choice(ErrorMode),
        "buffer": whole(1),
        "sources": listed(_SOURCE),
        "algorithms": listed(_ALGORITHM),
        "record": listed(_RECORD),
        "log": optional(text),
        "results": optional(_RESULTS),
    },
    required=("sources",),
)
