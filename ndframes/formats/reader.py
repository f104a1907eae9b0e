"""Reader: one opened image file, from which any crop can be read into an array."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._typing import Array
from ..geometry.tiling import bounding_range, count_touched, tile_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["WORTH_SHARING_SECONDS", "Array", "Crop", "Reader", "ReaderFacts", "log_orientation", "row_bands"]
_log = logging.getLogger("ndframes")
#: Less than this of decoding is done about as soon as a second thread has begun.
WORTH_SHARING_SECONDS = 1.5e-3
_STRIP_ROWS = 256
_EPSILON = 1e-9


class Crop(NamedTuple):
    """What one call of :meth:`Reader.read` is asked for."""

    rows: range
    cols: range
    bands: Sequence[int]
    out: Array
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFacts:
    """What is known of an opened file before any pixel is read.

    Attributes:
        format: the file's format in one word, for people.
        shape: ``(height, width, bands)``; the frames of a video lie one below the other.
        dtype: of the pixels, in native byte order.
        tile_shape: ``(height, width)`` of the blocks in which pixels are stored; that of the image where there are none.
        nodata: the value that means "no data"; ``None`` if the file names none.
        frame_count: the number of frames of a video; ``None`` for an image.
        tile_frames: the number of frames that a block spans.
        memory_bytes: the memory that the open file costs.
        is_shareable: whether :meth:`Reader.split` cuts a single crop into pieces.
    """

    format: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    tile_shape: tuple[int, int]
    nodata: float | None = None
    frame_count: int | None = None
    tile_frames: int = 1
    memory_bytes: int = 4096
    is_shareable: bool = False


class Reader(ABC):
    """One image or video file, opened for crops.

    Threads may share a reader, and it survives a fork. It does not pickle: open the file again where it is needed.

    Args:
        path: the file.
        facts: what is known of it. Each is an attribute of the reader as well, since a crop looks at several of them.

    Attributes:
        path: the file.
        facts: what is known of it.
        all_bands: the numbers of all bands, in order.
    """

    _overview_shapes: tuple[tuple[int, int], ...] | None = None

    def __init__(self, path: str, facts: ReaderFacts) -> None:
        self.path = path
        self.facts = facts
        self.format = facts.format
        self.shape = facts.shape
        self.dtype = facts.dtype
        self.tile_shape = facts.tile_shape
        self.nodata = facts.nodata
        self.frame_count = facts.frame_count
        self.tile_frames = facts.tile_frames
        self.memory_bytes = facts.memory_bytes
        self.is_shareable = facts.is_shareable
        self.all_bands = range(facts.shape[2])

    @property
    def overview_shapes(self) -> tuple[tuple[int, int], ...]:
        """``(height, width)`` of the smaller copies that the file carries, largest first."""
        if self._overview_shapes is None:
            self._overview_shapes = tuple(self._find_overview_shapes())
        return self._overview_shapes

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """``(height, width, bands)`` of one frame; of an image, its own."""
        return self.shape[0] // (self.frame_count or 1), *self.shape[1:]

    @property
    def nbytes(self) -> int:
        """The size of the decoded image in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """``(height, width, bands)`` of the image (level 0) or of one of its overviews."""
        if level == 0:  # by far the most common; what overviews there are is found out by a look at the file
            return self.shape
        height, width = self.overview_shapes[level - 1]
        return height, width, self.shape[2]

    def level_factors(self, level: int) -> tuple[float, float]:
        """How many of the image's pixels one pixel of a level covers, in y and in x."""
        height, width, _ = self.level_shape(level)
        return self.shape[0] / height, self.shape[1] / width

    def find_level(self, step_y: float, step_x: float) -> int:
        """The coarsest level of which a pixel covers no more than so many of the image's, in y and in x."""
        chosen = 0
        if step_y >= 2 - _EPSILON and step_x >= 2 - _EPSILON:  # else nobody has to look what overviews there are
            for level in range(1, len(self.overview_shapes) + 1):
                factor_y, factor_x = self.level_factors(level)
                if factor_y <= step_y + _EPSILON and factor_x <= step_x + _EPSILON:
                    chosen = level
        return chosen

    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array, *, level: int = 0) -> None:
        """Fill ``out`` with the pixels at ``rows`` x ``cols`` of ``bands``.

        Args:
            rows: y coordinates inside the level, in the order wanted; any step.
            cols: x coordinates, likewise.
            bands: band numbers from 0, in the order wanted.
            out: ``(len(rows), len(cols), len(bands))`` in this reader's dtype; any strides.
            level: 0 for the image, 1 for its first overview, and so on.

        Raises:
            UnreadableImageError: the file's bytes do not decode.
        """
        if not out.size:
            return
        if rows.step == 1 and cols.step == 1:
            self.read_window(rows, cols, bands, out, level)
        elif rows.step < 0 or cols.step < 0:
            flip = np.s_[:: -1 if rows.step < 0 else 1, :: -1 if cols.step < 0 else 1]
            self.read(_ascending(rows), _ascending(cols), bands, out[flip], level=level)
        else:
            self.read_strided(rows, cols, bands, out, level)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """Fill ``out`` with the pixels at ``rows`` x ``cols`` of ``bands`` of some frames.

        Args:
            times: their numbers, in the order wanted.
            rows: y coordinates inside a frame, as in :meth:`read`, and so are those that follow.
            cols: likewise.
            bands: likewise.
            out: ``(len(times), len(rows), len(cols), len(bands))``.

        Raises:
            UnreadableImageError: the file's bytes do not decode.
        """
        height = self.frame_shape[0]
        for place, time in enumerate(times):
            top = time * height
            self.read(range(rows.start + top, rows.stop + top, rows.step), cols, bands, out[place])

    def read_all(self, *, level: int = 0) -> Array:
        """The whole level as a new array."""
        shape = self.level_shape(level)
        out = np.empty(shape, self.dtype)
        self.read(range(shape[0]), range(shape[1]), range(shape[2]), out, level=level)
        return out

    def count_decoded(self, rows: range, cols: range) -> int:
        """How many of the file's blocks a read of ``rows`` x ``cols`` decodes."""
        return count_touched(rows, cols, self.tile_shape)

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """The same for a read of ``rows`` x ``cols`` of some frames of a video."""
        height = self.frame_shape[0]
        return sum(
            self.count_decoded(range(rows.start + time * height, rows.stop + time * height, rows.step), cols)
            for time in times
        )

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """Cut the reading of many crops into pieces of work that any threads may do in any order.

        A block that several crops share is decoded by one of them for all.
        """
        for crop in crops:
            yield partial(self.read, *crop[:4], level=crop.level)

    def estimate_seconds(self, crop: Crop) -> float:  # noqa: ARG002
        """About how long one thread will take to decode what a crop needs; 0 where it is not cut into pieces."""
        return 0.0

    @property
    def is_worth_sharing(self) -> bool:
        """Whether several threads do the pieces of :meth:`split` sooner than one."""
        return True

    def read_ahead(self, crops: Sequence[Crop]) -> None:  # noqa: B027 - most readers cannot say
        """Tell the system which bytes of the file these crops will need, so that a disk can fetch them side by side."""

    @abstractmethod
    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`read`, for ranges of step 1 that hold at least one pixel."""

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`read`, for ranges of positive steps that hold at least one pixel.

        The covering window is read in strips, so that a coarse step over a huge image stays small in memory.
        """
        strip_extent = self.tile_shape[0] if 64 <= self.tile_shape[0] <= 1024 else _STRIP_ROWS
        window_cols = bounding_range(cols)
        done = 0
        for _, strip in tile_ranges(rows, strip_extent):
            window_rows = bounding_range(strip)
            window = np.empty((len(window_rows), len(window_cols), len(bands)), self.dtype)
            self.read_window(window_rows, window_cols, bands, window, level)
            out[done : done + len(strip)] = window[:: strip.step, :: cols.step]
            done += len(strip)

    def _find_overview_shapes(self) -> Sequence[tuple[int, int]]:
        return ()


def row_bands(source: Reader, width: int, most_bytes: int, *, multiple: int = 1) -> Iterator[range]:
    """The rows of a source from top to bottom, in pieces of about ``most_bytes`` over ``width`` columns.

    Each but the last is a multiple of ``multiple``, and where that can be one of the source's blocks, so that none is
    decoded twice; of a video, whole frames.
    """
    height, _, band_count = source.shape
    if source.frame_count is not None:  # none is decoded twice
        multiple = source.frame_shape[0]
    most_rows = max(1, most_bytes // (width * band_count * source.dtype.itemsize))
    step = math.lcm(multiple, min(source.tile_shape[0], height))
    if step > 2 * most_rows:
        step = multiple
    step = max(step, most_rows // step * step)
    for top in range(0, height, step):
        yield range(top, min(top + step, height))


def log_orientation(path: str, orientation: object) -> None:
    """Say that a camera's rotation flag was seen and left alone."""
    _log.warning(
        "%s has orientation %s in its EXIF or TIFF tags; it is not applied: regions are in stored pixels",
        path,
        orientation,
    )


def _ascending(axis: range) -> range:
    return axis[::-1] if axis.step < 0 else axis
