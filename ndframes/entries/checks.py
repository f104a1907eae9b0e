"""Check a conversion: the source did not change meanwhile, and the entry has its pixels."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..cache.keys import Keyer
from ..errors import CacheEntryError, SourceChangedError
from ..formats.reader import Reader
from ..geometry.regions import to_slice
from ..system.objects.access import SourceAccess
from ..system.sources import hash_file, real_path
from .source import follow_links

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._typing import Array
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.stamp import SourceStamp

__all__ = ["SourceWatch"]


# Few enough to cost nothing, and spread over all frames, rows and columns: mistakes in a layout show in most of them.
_SAMPLES = 16
_SAMPLE_PX = 512
# GDAL takes up to a millisecond for each band of a file of thousands.
_SAMPLE_BANDS = 64


class SourceWatch:
    """Checks that a conversion reads one state of its source: the state for which its key was computed.

    The stamp of a file shows every change, unless the file was changed within the last two seconds. Such a file is hashed
    before and after. If the key is computed from the path, the file is hashed in any case: the trailer stores the hash, which
    later tells a file that was only touched or copied from one that was rewritten.

    Args:
        info: the source.
        backend: the form of the entry.
        fields: of the entry's key.
        stamp: the state for which the key was computed; ``None`` for a source that is not a file.
        access: reads the source; ``None``: only files.
        copy: the path of a copy of an object, from which the conversion reads; nothing else changes it.

    Attributes:
        path: the file from which the conversion reads.
    """

    def __init__(
        self,
        info: ChannelInfo,
        backend: Backend,
        fields: Mapping[str, Any],
        stamp: SourceStamp | None,
        *,
        access: SourceAccess | None = None,
        copy: str | None = None,
    ) -> None:
        self._info, self._backend, self._fields, self._stamp = info, backend, fields, stamp
        self._access = access or SourceAccess()
        self._source = info.path if stamp is None else follow_links(info.path)
        self.path = self._source if copy is None else copy
        self._is_by_path = fields["mode"] == "PATH"
        self._stop = threading.Event()
        self._hashing: Future[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._was_settled = True

    def __enter__(self) -> SourceWatch:
        try:
            self._start()
        except BaseException:  # such as Ctrl-C right after the start of the thread, which nothing else would stop
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        if self._stamp is None:
            return
        self._check_stamp()
        self._was_settled = self._stamp.is_settled(time.time_ns())
        if self._is_by_path:
            # hashlib releases the GIL, so a settled file is hashed while it is converted.
            self._pool = ThreadPoolExecutor(1)
            self._hashing = self._pool.submit(hash_file, self.path, "sha256", self._stop)
            # Before the conversion reads: a hash that is made later could be that of the changed file.
            if not self._was_settled:
                self._hashing.result()

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # hashing a large file would go on long after an error
        if self._pool is not None:
            self._pool.shutdown()

    def finish(self) -> dict[str, Any] | None:
        """Check the source once more, and describe it for the trailer.

        Returns:
            Path, stamp and hash; ``None`` if the source is not a local file.

        Raises:
            SourceChangedError: the source changed.
        """
        stamp = self._stamp
        if stamp is None:
            return None
        digest = None if self._hashing is None else self._hashing.result()
        # Before the stamp is checked: a later time could count a change in between as settled.
        looked_ns = time.time_ns()
        if not self._was_settled:
            self._check_content(digest)
        self._check_stamp()
        return {
            "path": real_path(self._source),
            "stamp": list(stamp),
            "sha256": digest,
            "is_settled": stamp.is_settled(looked_ns),
        }

    def _check_content(self, digest: str | None) -> None:
        if self._is_by_path:
            is_same = self._access.hash(self._source, "sha256", self._stamp, self._stop) == digest
        else:
            fields = Keyer(self._fields["mode"], self._access).fields(self._info, self._backend, self._stamp)
            is_same = fields == self._fields
        if not is_same:
            raise self._changed()

    def _check_stamp(self) -> None:
        if self._access.stamp(self._source) != self._stamp:
            raise self._changed()

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            f"{self._info.path} changed while it was being converted; try again when nothing writes to it"
        )


class SamplingReader(Reader):
    """A source that remembers a few lines of what was read from it, to compare them with what was written.

    Args:
        source: the image or video that is read.
        is_lossless: whether what was written must have the same pixels.

    Attributes:
        source: the image or video that is read.
    """

    def __init__(self, source: Reader, *, is_lossless: bool) -> None:
        super().__init__(source.path, source.facts)
        self.source = source
        self._is_lossless = is_lossless
        last_time, last_row = (source.frame_count or 1) - 1, source.shape[0] - 1
        lines = (
            (last_time * number // (_SAMPLES - 1), last_row * number // (_SAMPLES - 1)) for number in range(_SAMPLES)
        )
        self._lines = list(dict.fromkeys(lines))
        self._samples: list[_Sample] = []

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        self.source.read(rows, cols, bands, out, level=level)
        self._sample([0], rows, cols, out[None])

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        self.source.read_frames(times, rows, cols, bands, out)
        self._sample(times, rows, cols, out)

    def _sample(self, times: Sequence[int], rows: range, cols: range, pixels: Array) -> None:
        """Copy a part of each line that is to be remembered, of all that were read now."""
        for number, (frame, row) in enumerate(self._lines):
            if frame in times and row in rows:
                # Each line at another place, so that the samples together cover the width.
                first = (len(cols) - _SAMPLE_PX) * number // _SAMPLES if len(cols) > _SAMPLE_PX else 0
                part = cols[first : first + _SAMPLE_PX]
                # Other bands for each line, so that the samples together cover them, too.
                step = -(-self.shape[2] // _SAMPLE_BANDS)
                bands = self.all_bands[number % step :: step]
                line = pixels[times.index(frame), row - rows.start, first : first + len(part), to_slice(bands)]
                self._samples.append(_Sample(frame, row, part, bands, line.copy()))

    def check(self, entry: Reader) -> None:
        """Compare ``entry`` with what was read: number of frames, shape, dtype and, if it is lossless, the samples.

        Raises:
            CacheEntryError: they differ.
        """
        made, wanted = ((item.frame_count, item.shape, item.dtype) for item in (entry, self))
        if made != wanted:
            raise CacheEntryError(f"entry for {self.path} came out as {_describe(entry)}, not {_describe(self)}")
        for sample in self._samples:
            rows = range(sample.row, sample.row + 1)
            pixels = np.empty((1, 1, *sample.pixels.shape), self.dtype)
            if self.frame_count is None:
                entry.read(rows, sample.cols, sample.bands, pixels[0])
            else:
                entry.read_frames([sample.frame], rows, sample.cols, sample.bands, pixels)
            with np.errstate(invalid="ignore"):  # signalling NaNs compare as any other NaN
                is_equal = np.array_equal(pixels[0, 0], sample.pixels, equal_nan=self.dtype.kind in "fc")
            if self._is_lossless and not is_equal:
                where = "" if self.frame_count is None else f"frame {sample.frame}, "
                raise CacheEntryError(
                    f"entry for {self.path} differs from it in {where}row {sample.row}, columns {sample.cols}; not published"
                )


class _Sample(NamedTuple):
    """A part of a line that was read from a source; ``frame`` is 0 in an image."""

    frame: int
    row: int
    cols: range
    bands: range
    pixels: Array


def _describe(reader: Reader) -> str:
    shape = reader.shape if reader.frame_count is None else (reader.frame_count, *reader.shape)
    return f"{shape} {reader.dtype}"
