"""RunLog: what a run did, a line of JSON for each step: the windows that algorithms took, the others with the reason, events.

The file begins with a line about the pipeline. A line is written before the step that it tells of, so that a process that dies
of a window has named it. The newest line of a run that was killed may be incomplete; it is left out when the log is read.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError, StreamError, describe_error, shorten
from .window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .algorithm import Algorithm
    from .ledger import DropReason
    from .plan import Due
    from .reading import SourceEvent
    from .source import Source
    from .values import Frame

__all__ = ["FrameStamp", "LoggedAlgorithm", "LoggedBatch", "LoggedWindow", "RunLog", "RunLogWriter"]
_FORMAT = "ndframes stream log"
_VERSION = 1


class _VersionError(Exception):
    """A log of a later version."""


@dataclass(frozen=True, slots=True)
class FrameStamp:
    """A frame without its image; see :class:`~ndframes.stream.Frame`."""

    index: int
    epoch: int
    time: float
    captured: float | None
    clock: Any

    def __post_init__(self) -> None:
        if (
            not isinstance(self.index, int)
            or not isinstance(self.epoch, int)
            or not isinstance(self.time, (int, float))
        ):
            raise TypeError(f"a frame {self.index!r} of the epoch {self.epoch!r} at {self.time!r}")


@dataclass(frozen=True, slots=True)
class LoggedWindow:
    """A window that an algorithm took: its source, and its frames, oldest first."""

    source: str
    frames: tuple[FrameStamp, ...]


@dataclass(frozen=True, slots=True)
class LoggedBatch:
    """The windows that an algorithm took at once."""

    algorithm: str
    windows: tuple[LoggedWindow, ...]


@dataclass(frozen=True, slots=True)
class LoggedAlgorithm:
    """How an algorithm was added."""

    window: Window
    batch: int


@dataclass(slots=True)
class RunLog:
    """A log that has been read.

    Attributes:
        path: the file.
        algorithms: by name.
        sources: names.
        recordings: the paths of the videos that the run recorded, with the name of the source and whether
            functions of the user drew into it.
        batches: in the order in which they were taken.
        missed: for each source, the indices of the frames whose images this process did not get, and which no video has.
    """

    path: str
    algorithms: dict[str, LoggedAlgorithm]
    sources: tuple[str, ...]
    recordings: dict[str, tuple[str, bool]]
    batches: list[LoggedBatch] = field(default_factory=list)
    missed: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> RunLog:
        """Read a log.

        Raises:
            StreamError: it cannot be read, or is no log.
        """
        path = os.fsdecode(path)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise StreamError(f"{path}: the log cannot be read: {error}") from error
        lines = text.split("\n")[:-1]  # what follows the last line end is incomplete
        try:
            log = cls._begin(path, json.loads(lines[0]))
        except _VersionError as error:
            raise StreamError(str(error)) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise StreamError(f"{path} is not a log of a pipeline, which Pipeline.log() writes") from error
        for number, line in enumerate(lines[1:], 2):
            try:
                log.add(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise StreamError(f"{path}, line {number}: the log is damaged: {describe_error(error)}") from error
        return log

    @classmethod
    def _begin(cls, path: str, head: dict[str, Any]) -> RunLog:
        if head["format"] != _FORMAT:
            raise ValueError(head["format"])
        if head["version"] > _VERSION:
            raise _VersionError(
                f"{path}: a log of version {head['version']}; this ndframes reads versions to {_VERSION}"
            )
        algorithms = {
            name: LoggedAlgorithm(_from_plain(each["window"]), each["batch"])
            for name, each in head["algorithms"].items()
        }
        recordings = {each["path"]: (each["source"], each["is_drawn"]) for each in head["recordings"]}
        return cls(path, algorithms, tuple(head["sources"]), recordings)

    def add(self, line: dict[str, Any]) -> None:
        """Take in one more line of the file."""
        if "took" in line:
            windows = tuple(
                LoggedWindow(each["source"], tuple(FrameStamp(*stamp) for stamp in each["frames"]))
                for each in line["windows"]
            )
            self._check_batch(line["took"], windows)
            self.batches.append(LoggedBatch(line["took"], windows))
        elif "missed" in line:
            self.missed.setdefault(line["missed"], set()).add(line["index"])

    def _check_batch(self, name: str, windows: Sequence[LoggedWindow]) -> None:
        if not 1 <= len(windows) <= self.algorithms[name].batch:
            raise ValueError(f"{len(windows)} windows at once")
        for window in windows:
            if window.source not in self.sources or len(window.frames) != self.algorithms[name].window.count:
                raise ValueError(f"a window of {len(window.frames)} frames of {window.source}")

    def check_algorithm(self, name: str, window: Window | None, batch: int) -> Window:
        """The window of an algorithm that is to be run again.

        Raises:
            StreamError: there is no such algorithm, or it had another window or batch.
        """
        if name not in self.algorithms:
            raise StreamError(f"{self.path} has no algorithm {name!r}; it has {', '.join(map(repr, self.algorithms))}")
        logged = self.algorithms[name]
        if window not in (None, logged.window):
            raise StreamError(f"{self.path}: algorithm {name} had {logged.window}, not {window}; leave the window out")
        if batch != logged.batch:
            raise StreamError(f"{self.path}: algorithm {name} had batch={logged.batch}, not {batch}")
        return logged.window

    def find_recordings(self, sources: Sequence[Source]) -> tuple[str, ...]:
        """The names of the sources that are videos which the run recorded.

        Raises:
            StreamError: one of them is annotated.
        """
        found = []
        for source in sources:
            path = os.path.realpath(source.uri) if isinstance(source.uri, str) else ""
            if path in self.recordings:
                if self.recordings[path][1]:
                    raise StreamError(
                        f"{source.uri} was recorded with the drawings of on_frame; record it with annotated=False"
                    )
                found.append(str(source.name))
        return tuple(found)


class RunLogWriter:
    """Writes a log while a pipeline runs. It is called under the lock of the run.

    Args:
        path: the file; one that exists is replaced.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        try:
            self._file = open(self.path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - it stays open
        except OSError as error:
            raise OutputError(f"{self.path}: the log cannot be written: {error.strerror}") from error

    def begin(
        self,
        mode: str,
        sources: Sequence[str],
        algorithms: Sequence[Algorithm],
        recordings: Sequence[tuple[str, str, bool]],
    ) -> None:
        """Write the line about the pipeline."""
        self._write(
            format=_FORMAT,
            version=_VERSION,
            mode=mode,
            sources=list(sources),
            algorithms={each.name: {"window": _to_plain(each.window), "batch": each.batch} for each in algorithms},
            recordings=[
                {"path": os.path.realpath(path), "source": source, "is_drawn": is_drawn}
                for path, source, is_drawn in recordings
            ],
        )

    def take(self, batch: Sequence[Due]) -> None:
        """An algorithm takes windows."""
        windows = [{"source": due.newest.source, "frames": [_to_stamp(each) for each in due.frames]} for due in batch]
        self._write(took=batch[0].algorithm.name, windows=windows)

    def drop(self, due: Due, reason: DropReason) -> None:
        """A window is not processed."""
        indices = [each.index for each in due.frames]
        self._write(dropped=due.algorithm.name, source=due.newest.source, frames=indices, reason=reason)

    def miss(self, frame: Frame) -> None:
        """A frame came without its image."""
        self._write(missed=frame.source, index=frame.index)

    def tell(self, source: str, event: SourceEvent) -> None:
        """The state of a source has changed."""
        self._write(event=event.state, source=source, epoch=event.epoch, why=event.why)

    def close(self, stats: dict[str, Any]) -> None:
        """Write the counts of the run, and close the file."""
        if self._file.closed:
            return
        try:
            self._write(ended=_without_nan(stats))
        finally:
            self._close_file()

    def discard(self) -> None:
        """Close the file of a run that does not begin."""
        self._close_file()

    def _close_file(self) -> None:
        try:
            self._file.close()
        except OSError as error:  # what is buffered cannot be written
            raise OutputError(f"{self.path}: the log cannot be written: {error.strerror}") from error

    def _write(self, **line: Any) -> None:
        if self._file.closed:
            return  # of a thread that was left behind
        try:
            self._file.write(json.dumps(line, default=_to_plain_value) + "\n")
        except OSError as error:
            raise OutputError(f"{self.path}: the log cannot be written: {error.strerror}") from error


def _to_plain_value(value: Any) -> Any:
    """A value in the statistics of a sink that JSON lacks."""
    return value.item() if isinstance(value, np.generic) else shorten(value)


def _to_stamp(frame: Frame) -> list[Any]:
    return [frame.index, frame.epoch, frame.time, frame.captured, frame.clock]


def _to_plain(window: Window) -> dict[str, Any]:
    interval = window.interval
    exact = interval if interval is None or isinstance(interval, (int, float)) else str(interval)
    return {"count": window.count, "step": window.step, "every": window.every, "interval": exact}


def _from_plain(plain: dict[str, Any]) -> Window:
    interval = plain["interval"]
    return Window(**{**plain, "interval": Fraction(interval) if isinstance(interval, str) else interval})


def _without_nan(value: Any) -> Any:
    """JSON has no nan; the percentiles of no latency are null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
