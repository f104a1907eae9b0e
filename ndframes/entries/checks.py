"""Checks of a conversion: the source did not change, and the entry holds its pixels."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache.keys import Keyer
from ..errors import CacheEntryError, SourceChangedError
from ..formats.reader import Reader
from ..system.sources import hash_file
from ..system.stamp import stat_source
from .source import follow_links

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from .conversion import Conversion

__all__ = ["SourceWatch"]


_SAMPLES = 16
_SAMPLE_PX = 512


class SourceWatch:
    """Sees to it that a conversion read one state of its source, the one for which its key was made.

    A file that rests shows every change in its stamp. One that was changed within the last two seconds does not, so
    its content is digested before and after. What a key made of a path does not say, the content, is digested in any
    case: a file that was only touched or copied is told by it from one that was rewritten.
    """

    def __init__(self, conversion: Conversion) -> None:
        self._conversion = conversion
        self.path = conversion.info.path if conversion.stamp is None else follow_links(conversion.info.path)
        self._is_by_path = conversion.fields["mode"] == "PATH"
        self._stop = threading.Event()
        self._hashing: Future[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._was_settled = True

    def __enter__(self) -> SourceWatch:
        try:
            self._start()
        except BaseException:  # Ctrl-C, say, when the thread has just started: nobody else would tell it to end
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        if self._conversion.stamp is None:
            return
        self._check_stamp()
        self._was_settled = self._conversion.stamp.is_settled(time.time_ns())
        if self._is_by_path:
            self._pool = ThreadPoolExecutor(1)
            self._hashing = self._pool.submit(hash_file, self.path, "sha256", self._stop)
            if not self._was_settled:
                self._hashing.result()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown()

    def finish(self) -> dict[str, Any] | None:
        """Look again, and tell what the source was all the time.

        Raises:
            SourceChangedError: it changed.
        """
        stamp = self._conversion.stamp
        if stamp is None:
            return None
        digest = None if self._hashing is None else self._hashing.result()
        looked_ns = time.time_ns()
        if not self._was_settled:
            self._check_content(digest)
        self._check_stamp()
        return {
            "path": os.path.realpath(self.path),
            "stamp": list(stamp),
            "sha256": digest,
            "is_settled": stamp.is_settled(looked_ns),
        }

    def _check_content(self, digest: str | None) -> None:
        if self._is_by_path:
            is_same = hash_file(self.path, "sha256", self._stop) == digest
        else:
            fields = Keyer(self._conversion.fields["mode"]).fields(
                self._conversion.info, self._conversion.backend, self._conversion.stamp
            )
            is_same = fields == self._conversion.fields
        if not is_same:
            raise self._changed()

    def _check_stamp(self) -> None:
        if stat_source(self.path) != self._conversion.stamp:
            raise self._changed()

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            f"{self._conversion.info.path} changed while it was being converted; try again when it rests"
        )


class Witness(Reader):
    """A source that remembers a few lines of what was read from it, so that what was written can be held against them."""

    def __init__(self, source: Reader, *, is_lossless: bool) -> None:
        super().__init__(
            source.path,
            format=source.format,
            shape=source.shape,
            dtype=source.dtype,
            tile_shape=source.tile_shape,
        )
        self.nodata = source.nodata
        self.frame_count = source.frame_count
        self.is_lossless = is_lossless
        self.source = source
        last = source.shape[0] - 1
        self._lines = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
        self._seen: list[tuple[int, range, Array]] = []

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        self.source.read(rows, cols, bands, out, level=level)
        self._look(rows, cols, out)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        self.source.read_frames(times, rows, cols, bands, out)
        height = self.frame_shape[0]
        for place, number in enumerate(times):
            top = number * height
            self._look(range(rows.start + top, rows.stop + top), cols, out[place])

    def _look(self, rows: range, cols: range, out: Array) -> None:
        for number, line in enumerate(self._lines):
            if line in rows:
                first = (len(cols) - _SAMPLE_PX) * number // _SAMPLES if len(cols) > _SAMPLE_PX else 0
                part = cols[first : first + _SAMPLE_PX]
                self._seen.append((line, part, out[line - rows.start, first : first + len(part)].copy()))

    def check(self, entry: Reader) -> None:
        """Hold ``entry`` against what passed: shape, dtype and, where lossless, every line that was kept."""
        if (entry.shape, entry.dtype) != (self.shape, self.dtype):
            raise CacheEntryError(
                f"entry for {self.path} came out as {entry.shape} {entry.dtype}, not {self.shape} {self.dtype}"
            )
        for line, cols, wanted in self._seen:
            got = np.empty((1, *wanted.shape), self.dtype)
            entry.read(range(line, line + 1), cols, range(self.shape[2]), got)
            with np.errstate(invalid="ignore"):  # signalling NaNs compare as any other NaN
                is_equal = np.array_equal(got[0], wanted, equal_nan=wanted.dtype.kind in "fc")
            if self.is_lossless and not is_equal:
                raise CacheEntryError(
                    f"entry for {self.path} differs from it in row {line}, columns {cols}; not published"
                )
