"""Streams: algorithms over the frames of cameras, network streams and files, each at its own rate, every frame accounted for."""

# Without "from __future__ import annotations", which would define the name of the function annotations.

from typing import TYPE_CHECKING

from .._lazy import load_lazily

if TYPE_CHECKING:
    from .configuration import Configuration, load_pipeline, read_configuration
    from .pipeline import Pipeline
    from .posting import PostResults
    from .reading import SourceCounts, SourceEvent
    from .results import Results
    from .retry import Retry
    from .sinks import JsonLines, ParquetFile
    from .source import Backoff, Source
    from .values import Frame, Result
    from .window import Window

__all__ = [
    "Backoff",
    "Configuration",
    "Frame",
    "JsonLines",
    "ParquetFile",
    "Pipeline",
    "PostResults",
    "Result",
    "Results",
    "Retry",
    "Source",
    "SourceCounts",
    "SourceEvent",
    "Window",
    "load_pipeline",
    "read_configuration",
]

# Where each name lives.
_HOMES = {
    "Backoff": "source",
    "Configuration": "configuration",
    "Frame": "values",
    "JsonLines": "sinks",
    "ParquetFile": "sinks",
    "Pipeline": "pipeline",
    "PostResults": "posting",
    "Result": "values",
    "Results": "results",
    "Retry": "retry",
    "Source": "source",
    "SourceCounts": "reading",
    "SourceEvent": "reading",
    "Window": "window",
    "load_pipeline": "configuration",
    "read_configuration": "configuration",
}
__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES)
