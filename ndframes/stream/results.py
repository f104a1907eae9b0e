"""Results: everything that the algorithms of a pipeline returned, by algorithm, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, StreamError
from ..system.output import write_atomically
from .opening import open_frames
from .texts import RESULT_FIELDS, to_dict, to_json, to_line

if TYPE_CHECKING:
    import os

    from .values import Frame, Result

__all__ = ["Results"]


class Results(Mapping[str, "list[Result]"]):
    """The results of a pipeline, by the name of the algorithm, in order of source and index. They are kept after the run.

    Example:
        >>> from ndframes.stream import Pipeline
        >>> import numpy as np
        >>> pipeline = Pipeline(np.arange(4, dtype=np.uint8).reshape(4, 1, 1))
        >>> found = pipeline.add("mean", lambda frames: float(frames[0].mean())).run()
        >>> [result.value for result in found["mean"]], found.at(2)["mean"].time
        ([0.0, 1.0, 2.0, 3.0], 0.08)
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._by_name: dict[str, list[Result]] = {name: [] for name in names}
        self._by_source: dict[str, dict[int, dict[str, Result]]] = {}

    def add(self, result: Result) -> None:
        """Keep one more result."""
        self._by_name[result.name].append(result)
        found = self._by_source.setdefault(result.source, {}).setdefault(result.index, {})
        found[result.name] = result

    def __getitem__(self, name: str) -> list[Result]:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def at(self, index: int, source: str | None = None) -> dict[str, Result]:
        """The results whose newest frame has this index, by algorithm.

        Args:
            index: of the frame.
            source: its source; needed if there are several.
        """
        return dict(self._by_source.get(self._source(source), {}).get(index, {}))

    def join(self, frames: Any, source: str | None = None) -> Iterator[tuple[Frame, dict[str, Result]]]:
        """Each frame of a source together with its results.

        Args:
            frames: a :class:`~ndframes.LazyVideo`, a path, an array or a :class:`Source`, read from its begin.
            source: the source of the results; needed if there are several.
        """
        for frame in open_frames(frames):
            yield frame, self.at(frame.index, source)

    def to_dicts(self) -> list[dict[str, Any]]:
        """All results as plain dicts, by algorithm and order."""
        return [to_dict(result) for results in self.values() for result in results]

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write a line of JSON for each result; arrays become lists.

        Raises:
            StreamError: a value is not JSON.
        """
        lines = [to_line(result) for results in self.values() for result in results]
        write_atomically(str(path), lambda file: file.write("".join(lines).encode()))

    def to_pandas(self) -> Any:
        """All results as a :class:`pandas.DataFrame`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("Results.to_pandas needs pandas: pip install pandas", name="pandas") from error
        return pd.DataFrame(self.to_dicts(), columns=list(RESULT_FIELDS))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, with values as JSON text.

        Raises:
            MissingExtraError: pandas or pyarrow is not installed.
            StreamError: a value is not JSON.
        """
        table = self.to_pandas()
        table["value"] = [to_json(value, "a value") for value in table["value"]]
        try:
            table.to_parquet(path)
        except ImportError as error:
            raise MissingExtraError("Results.to_parquet needs pyarrow: pip install pyarrow", name="pyarrow") from error

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(results):,}" for name, results in self.items())
        return f"<Results: {counts or 'none'}>"

    def _source(self, source: str | None) -> str:
        # A copy in one step: the pipeline may be adding results.
        sources = list(self._by_source)
        if source is not None:
            return source
        if len(sources) > 1:
            raise StreamError(f"there are results of several sources, {', '.join(sorted(sources))}; give source=")
        return next(iter(sources), "")
