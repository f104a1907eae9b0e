"""Sinks that write results to files; see :meth:`ndframes.stream.Pipeline.on_result`."""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, SinkError
from ..system.output import check_output_path
from .results import Results
from .texts import describe_result, to_line

if TYPE_CHECKING:
    from .values import Result

__all__ = ["JsonLines", "ParquetFile"]


class JsonLines:
    """Appends each result to a file as a line of JSON, in one write, so that a crash keeps all earlier lines.

    Several threads may call it. Values must be JSON, or arrays, which become lists.

    Args:
        path: the file.
        append: whether lines that are in the file already are kept. If the last one is incomplete, it is ended first.

    Raises:
        OutputError: the folder does not exist, or the path is not a regular file.

    Example:
        >>> import numpy as np
        >>> from ndframes.stream import JsonLines, Pipeline
        >>> path = getfixture("tmp_path") / "results.jsonl"
        >>> pipeline = Pipeline(np.zeros((3, 8, 8), np.uint8)).add("mean", lambda frames: float(frames[0].mean()))
        >>> _ = pipeline.on_result(JsonLines(path))
        >>> _ = pipeline.run()
        >>> path.read_text().count('"value": 0.0'), pipeline.stats["sinks"]
        (3, {'results.jsonl': {'written': 3}})
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = True) -> None:
        self.path = os.fsdecode(path)
        self.name = os.path.basename(self.path)
        self.written = 0
        self._append = append
        self._descriptor: int | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        check_output_path(self.path)

    @property
    def stats(self) -> dict[str, int]:
        """``written``: how many results were written."""
        return {"written": self.written}

    def __call__(self, result: Result) -> None:
        """Append a result.

        Raises:
            SinkError: the system refuses, or it was closed.
            StreamError: the value is not JSON.
        """
        line = to_line(result).encode()
        with self._lock:
            if self._is_closed:
                raise SinkError(f"{self.path}: it was closed before {describe_result(result)}")
            try:
                _write_all(self._open(), line)
            except OSError as error:
                raise SinkError(
                    f"{self.path}: {describe_result(result)} cannot be written: {error.strerror or error}"
                ) from error
            self.written += 1

    def close(self) -> None:
        """Close the file; without a result it is empty."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                os.close(self._open())
            except OSError as error:
                raise SinkError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def _open(self) -> int:
        # When it is first needed: what is in the file is kept until then.
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (0 if self._append else os.O_TRUNC)
            self._descriptor = os.open(self.path, flags, 0o666)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                _write_all(self._descriptor, b"\n")
        return self._descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, in one write unless the system takes only a part of them, as it does if the disk is full."""
    while data:
        data = data[os.write(descriptor, data) :]


class ParquetFile:
    """Writes all results to a Parquet file when it is closed.

    Args:
        path: the file.

    Raises:
        OutputError: the folder does not exist, or the path is not a regular file.
        MissingExtraError: pandas or pyarrow is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self.name = os.path.basename(self.path)
        check_output_path(self.path)
        # Now, and not when all results are there and would be lost.
        for package in ("pandas", "pyarrow"):
            if find_spec(package) is None:
                raise MissingExtraError(f"{self.path}: Parquet needs {package}: pip install {package}", name=package)
        self._results: list[Result] = []

    @property
    def stats(self) -> dict[str, Any]:
        """``gathered``: how many results are there."""
        return {"gathered": len(self._results)}

    def __call__(self, result: Result) -> None:
        """Take a result."""
        self._results.append(result)

    def close(self) -> None:
        """Write the file.

        Raises:
            StreamError: a value is not JSON.
        """
        results = Results(dict.fromkeys(result.name for result in self._results))
        for result in self._results:
            results.add(result)
        results.to_parquet(self.path)
