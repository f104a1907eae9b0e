"""The state of a pipeline as JSON, as its page shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import shorten
from .ledger import Ledger
from .page_rates import Rates
from .reading import SourceCounts

if TYPE_CHECKING:
    from .algorithm import Algorithm
    from .page_pictures import Pictures
    from .results import Results
    from .source import Source
    from .values import Frame, Result
    from .window import Window

__all__ = ["Observed", "StateReport", "describe_value"]
_NEWEST = 5  # results
_MOST_CHARACTERS = 200
_FEW = 8  # values of an array
_IDLE = dict.fromkeys(SourceCounts.__slots__, 0)


class Observed(Protocol):
    """What is shown of a pipeline."""

    sources: list[Source]
    mode: Any  # "offline" or "realtime"

    @property
    def state(self) -> str:
        """What it is doing."""

    @property
    def stats(self) -> dict[str, Any]:
        """Counts by source and by algorithm."""

    @property
    def results(self) -> Results:
        """All results so far."""

    @property
    def error(self) -> BaseException | None:
        """What ended it."""

    @property
    def seconds(self) -> float:
        """Since its start, up to its end."""


class StateReport:
    """Makes the state of a pipeline into what JSON can say.

    Args:
        pipeline: that is shown.
        algorithms: of the pipeline, in order; it may grow until the pipeline starts.
        pictures: of its sources.
    """

    def __init__(self, pipeline: Observed, algorithms: Sequence[Algorithm], pictures: Pictures) -> None:
        self._pipeline = pipeline
        self._algorithms = algorithms
        self._pictures = pictures
        self._rates = Rates()

    def make(self) -> dict[str, Any]:
        """The state now."""
        pipeline = self._pipeline
        # The state first: if it says that the pipeline has ended, the counts are final.
        state, stats, seconds = pipeline.state, pipeline.stats, pipeline.seconds
        counts: dict[Any, int] = {("source", name): each["captured"] for name, each in stats["sources"].items()}
        counts |= {("algorithm", name): each["processed"] for name, each in stats["algorithms"].items()}
        rates = self._rates.update(seconds, counts, is_over=state in ("stopped", "failed"))
        return {
            "mode": pipeline.mode,
            "state": state,
            "error": None if pipeline.error is None else shorten_text(describe_failure(pipeline.error)),
            "seconds": round(seconds, 3),
            "sources": [
                self._source(str(source.name), stats["sources"], rates.get(("source", str(source.name))))
                for source in pipeline.sources
            ],
            "algorithms": [
                self._algorithm(each, stats["algorithms"], rates.get(("algorithm", each.name)))
                for each in list(self._algorithms)
            ],
        }

    def _source(self, name: str, stats: dict[str, Any], rate: float | None) -> dict[str, Any]:
        counts = stats.get(name, {**_IDLE, "state": "idle"})
        return {"name": name, **counts, "rate": _to_number(rate), "frame": _describe_frame(self._pictures.last(name))}

    def _algorithm(self, algorithm: Algorithm, stats: dict[str, Any], rate: float | None) -> dict[str, Any]:
        counts = stats.get(algorithm.name) or Ledger().to_dict()
        results = self._pipeline.results
        newest = results[algorithm.name][-_NEWEST:] if algorithm.name in results else []
        return {
            "name": algorithm.name,
            "worker": algorithm.worker,
            "window": describe_window(algorithm.window),
            **counts,
            "latency_ms": {name: _to_number(value) for name, value in counts["latency_ms"].items()},
            "rate": _to_number(rate),
            "results": [_describe_result(each) for each in reversed(newest)],
        }


def describe_failure(error: BaseException) -> str:
    """What ended a pipeline, for people."""
    return f"{type(error).__name__}: {error}"


def describe_window(window: Window) -> str:
    """A window in words.

    Example:
        >>> from ndframes.stream import Window
        >>> describe_window(Window()), describe_window(Window(count=2, step=5, interval=0.5))
        ('each frame', '2 frames, 5 apart, every 0.5 s')
    """
    parts = [] if window.count == 1 else [f"{window.count} frames", f"{window.step} apart"]
    if window.interval is not None:
        parts.append(f"every {float(window.interval):g} s")
    elif window.every is not None:
        parts.append(f"every {window.every} frames")
    return ", ".join(parts) or "each frame"


def describe_value(value: Any) -> str:
    """Any value as a short line of text.

    Example:
        >>> describe_value(0.1 + 0.2), describe_value(np.zeros((2, 50))), describe_value(["a", {"b": 1}])
        ('0.3', 'array (2, 50) of float64: 0, 0, 0, 0, 0, 0, 0, 0, ...', "['a', {'b': 1}]")
    """
    try:
        return shorten_text(_describe(value))
    except Exception as error:  # noqa: BLE001 - the representation of a user's object may raise anything
        return f"<{type(value).__name__}, whose representation raises {type(error).__name__}>"


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.6g}"
    if isinstance(value, np.ndarray) and value.ndim:
        values = ", ".join(_describe(each) for each in value.reshape(-1)[:_FEW].tolist())
        return f"array {value.shape} of {value.dtype}: {values}{', ...' if value.size > _FEW else ''}"
    return shorten(value)


def shorten_text(text: str) -> str:
    """One line of a limited length."""
    line = " ".join(text[: 2 * _MOST_CHARACTERS].split())
    return (
        line if len(line) <= _MOST_CHARACTERS and len(text) <= 2 * _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."
    )


def _describe_frame(frame: Frame | None) -> dict[str, Any] | None:
    if frame is None:
        return None
    return {
        "index": frame.index,
        "time": _to_number(frame.time),
        "shape": list(frame.image.shape),
        "dtype": str(frame.image.dtype),
        "captured": _to_number(frame.captured),
        "clock": frame.clock,
    }


def _describe_result(result: Result) -> dict[str, Any]:
    return {
        "source": result.source,
        "index": result.index,
        "time": _to_number(result.time),
        "latency_ms": _to_number(1000 * result.latency),
        "value": None if result.error is not None else describe_value(result.value),
        "error": None if result.error is None else shorten_text(result.error),
    }


def _to_number(value: float | None) -> float | None:
    """JSON has no nan."""
    return None if value is None or not math.isfinite(value) else round(float(value), 3)
