"""ChunkReader: crops of an array that is stored in chunks of bytes, and that cannot be mapped into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UnreadableImageError
from ...geometry.regions import to_slice
from ...geometry.tiling import bounding_range
from ..reader import CopyingReader, ReaderFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..._typing import Array
    from .tile_reader import SegmentFile

__all__ = ["ChunkReader"]
# Rows are read in groups of about this many bytes.
_GROUP_BYTES = 16 << 20


class ChunkReader(CopyingReader):
    """Crops of the ``.npy`` of an entry, which fetches the chunks under a crop.

    Args:
        path: the file, for messages.
        layout: where the pixels begin, and the length of the chunks; see :class:`~ndframes.system.segments.Manifest`.
        facts: shape, dtype and number of frames.
        file: the chunks: segment 0 is the head of the file, and the pixels follow without regard to rows.

    Raises:
        UnreadableImageError: a chunk is shorter than it must be, when reading.
    """

    def __init__(self, path: str, layout: Mapping[str, Any], facts: ReaderFacts, file: SegmentFile) -> None:
        super().__init__(path, facts)
        self._chunk_bytes = int(layout["chunk_bytes"])
        self._file = file
        self._pixel_bytes = facts.shape[2] * facts.dtype.itemsize
        self._row_bytes = facts.shape[1] * self._pixel_bytes

    def read_ahead(self, crops: Sequence[Any]) -> None:
        """As :meth:`Reader.read_ahead`."""
        chunks: dict[int, None] = {}
        for crop in crops:
            window = bounding_range(crop.rows), bounding_range(crop.cols)
            for start, stop in self._list_runs(0, *window):
                chunks.update(dict.fromkeys(self._chunks_of(start, stop)))
        self._file.read_ahead(list(chunks), is_batch=True)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        self.read_strided(rows, cols, bands, out, level)

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_strided`."""
        if out.size:
            self._read_image(0, rows, cols, bands, out)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""
        if out.size:
            for place, time in enumerate(times):
                self._read_image(time * self.shape[0] * self._row_bytes, rows, cols, bands, out[place])

    def _read_image(self, origin: int, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """Read a crop of the image whose pixels begin at ``origin``, some rows at a time."""
        bounds = bounding_range(cols)
        inside = slice(cols.start - bounds.start, None, cols.step)
        picks = None if bands == self.all_bands else list(bands)
        step = max(1, _GROUP_BYTES // self._row_bytes)
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            pixels = self._load_rows(origin, bounding_range(some), bounds)[:: some.step, inside]
            out[first : first + len(some)] = pixels if picks is None else pixels[:, :, picks]

    def _load_rows(self, origin: int, rows: range, cols: range) -> Array:
        """The pixels of a window, all rows and columns of it."""
        runs = list(self._list_runs(origin, rows, cols))
        chunks = dict.fromkeys(chunk for run in runs for chunk in self._chunks_of(*run))
        self._file.read_ahead(list(chunks))
        loaded = {chunk: self._file.read(chunk) for chunk in chunks}
        data = b"".join(self._cut(loaded, *run) for run in runs)
        width = len(cols) if len(runs) > 1 or self._is_by_row else self.shape[1]
        pixels = np.frombuffer(data, self.dtype.newbyteorder("<")).reshape(len(rows), width, self.shape[2])
        return pixels if width == len(cols) else pixels[:, to_slice(cols)]

    @property
    def _is_by_row(self) -> bool:
        """Whether a chunk may lie between the parts of two rows, which then needs no fetching."""
        return self._row_bytes > self._chunk_bytes

    def _list_runs(self, origin: int, rows: range, cols: range) -> Iterator[tuple[int, int]]:
        """The first byte and the end of each run of bytes with the pixels of a window: all its rows, or row by row."""
        if not self._is_by_row:
            yield origin + rows.start * self._row_bytes, origin + rows.stop * self._row_bytes
            return
        for row in rows:
            start = origin + row * self._row_bytes
            yield start + cols.start * self._pixel_bytes, start + cols.stop * self._pixel_bytes

    def _chunks_of(self, start: int, stop: int) -> range:
        """The segments of a run of bytes. Segment 0 is the head of the file."""
        return range(start // self._chunk_bytes + 1, (stop - 1) // self._chunk_bytes + 2)

    def _cut(self, loaded: Mapping[int, Any], start: int, stop: int) -> bytes:
        """A run of bytes from the chunks that hold it."""
        chunks = self._chunks_of(start, stop)
        data = b"".join(loaded[chunk] for chunk in chunks)
        origin = (chunks.start - 1) * self._chunk_bytes
        if len(data) < stop - origin:
            raise UnreadableImageError(f"{self.path}: its chunks end before its pixels do")
        return data[start - origin : stop - origin]
