"""Outputs: the functions, videos and logs that a pipeline feeds."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import StreamError, shorten
from .log import RunLogWriter
from .recorder import Recorder

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from .reading import SourceEvent
    from .source import Source
    from .values import Frame, Result

__all__ = ["Outputs"]


class Outputs(ABC):
    """The part of a pipeline that passes on what it does."""

    sources: list[Source]

    def __init__(self) -> None:
        self._on_frame: list[tuple[Callable[..., Any], bool]] = []  # each with whether it takes results
        self._on_result: list[Callable[[Result], Any]] = []
        self._on_event: list[Callable[[str, SourceEvent], Any]] = []
        self._recorders: list[Recorder] = []
        self._logs: list[RunLogWriter] = []

    @abstractmethod
    def _check_idle(self, what: str) -> None:
        """Check that the pipeline has not been started."""

    def on_frame(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function with each frame, when its results are there.

        It takes a copy of the frame, and if it has a second positional parameter, the newest results of its source by algorithm. It draws
        into the image in place, or returns another one, which is recorded and shown. Algorithms see frames as they were.
        It can be used as a decorator.
        """
        self._check_idle("add a function")
        _check_callable("on_frame", function)
        # Looked at once, not for each frame.
        self._on_frame.append((function, _takes_two(function)))
        return function

    def on_result(self, function: Callable[[Result], Any]) -> Callable[[Result], Any]:
        """Call a function with each result, in order; an error in it ends the pipeline. It can be used as a decorator.

        A sink is a callable with a method ``close``, which is called at the end, and ``stats``, which are in
        :attr:`Pipeline.stats`: see :class:`JsonLines` and :class:`PostResults`.
        """
        self._check_idle("add a function")
        _check_callable("on_result", function)
        self._on_result.append(function)
        return function

    def on_event(self, function: Callable[[str, SourceEvent], Any]) -> Callable[[str, SourceEvent], Any]:
        """Call a function with the name of a source and each change of its state. It can be used as a decorator."""
        self._check_idle("add a function")
        _check_callable("on_event", function)
        self._on_event.append(function)
        return function

    def record(
        self,
        path: str | os.PathLike[str],
        *,
        annotated: bool = True,
        source: str | None = None,
        fps: float | None = None,
    ) -> Self:
        """Record a source as a video.

        Args:
            path: the video; see :class:`~ndframes.VideoWriter`.
            annotated: whether frames are recorded as the functions of :meth:`on_frame` leave them.
            source: the name of the source; needed if there are several.
            fps: frames per second of the video; ``None``: those of the source.
        """
        self._check_idle("record")
        names = [str(each.name) for each in self.sources]
        chosen = names[0] if source is None and len(names) == 1 else source
        if chosen not in names:
            raise StreamError(f"record(source={source!r}); give one of {', '.join(names)}")
        is_bgr = self.sources[names.index(chosen)].pixel_format == "bgr24"
        self._recorders.append(Recorder(path, chosen, annotated=annotated, fps=fps, is_bgr=is_bgr))
        return self

    def log(self, path: str | os.PathLike[str]) -> Self:
        """Write what the run does to a file.

        It has a line of JSON for each step: the windows that an algorithm takes, a window that is dropped and why, a change of
        a source. :meth:`replay` runs the windows again. A line is written before its step, so that the log of a process that
        dies names the windows that it died of.

        Args:
            path: the file; one that exists is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        self._check_idle("log")
        self._logs.append(RunLogWriter(path))
        return self

    def _pass_on(self, frame: Frame, latest: dict[str, Result]) -> Any:
        """Call the functions with a frame, and record it; returns the image as they leave it."""
        image = frame.image
        if self._on_frame:
            image = frame.image.copy()
            for function, takes_results in self._on_frame:
                shown = replace(frame, image=image)
                drawn = function(shown, latest) if takes_results else function(shown)
                image = image if drawn is None else drawn
        for recorder in self._recorders:
            if recorder.source == frame.source:
                recorder.write(image if recorder.annotated else frame.image, frame)
        return image

    def _sink_stats(self) -> dict[str, Any]:
        """The ``stats`` of the sinks that have some, by their ``name``; a name that is taken gets a number."""
        found: dict[str, Any] = {}
        for sink in self._on_result:
            stats = getattr(sink, "stats", None)
            if isinstance(stats, dict):
                name = str(getattr(sink, "name", type(sink).__name__))
                taken = sum(1 for each in found if each == name or each.startswith(f"{name} ("))
                found[f"{name} ({taken + 1})" if taken else name] = stats
        return found

    def _discard_outputs(self) -> None:
        """Close the files that were opened for a run that does not begin."""
        for recorder in self._recorders:
            recorder.discard()
        for log in self._logs:
            log.discard()

    def _close_outputs(self) -> list[BaseException]:
        """Close videos and sinks; returns their errors."""
        closes: list[Callable[[], Any]] = [recorder.close for recorder in self._recorders]
        closes += [close for sink in self._on_result if callable(close := getattr(sink, "close", None))]
        errors: list[BaseException] = []
        for close in closes:
            try:
                close()
            except BaseException as error:  # noqa: BLE001 - raised again where the pipeline is waited for
                errors.append(error)
        return errors


def _check_callable(what: str, function: Any) -> None:
    if not callable(function):
        raise StreamError(f"{what}({shorten(function)}); give a function, or another callable")


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function takes two values without their names."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False  # some functions written in C do not tell
    kinds = [each.kind for each in parameters]
    positional = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    return positional >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds
