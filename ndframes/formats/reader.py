"""Reader: an opened image or video file, from which crops are read into arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._typing import Array
from ..geometry.tiling import bounding_range, count_touched_tiles, tile_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..spec.nodata import Nodata

__all__ = [
    "WORTH_SHARING_SECONDS",
    "Array",
    "CopyingReader",
    "Crop",
    "Reader",
    "ReaderFacts",
    "frame_runs",
    "row_bands",
    "to_ascending",
]
#: A second thread takes about this long to start: less decoding than that is not worth sharing.
WORTH_SHARING_SECONDS = 1.5e-3
_STRIP_ROWS = 256
# Steps come from divisions: 2 may arrive as 1.9999999999.
_EPSILON = 1e-9


class Crop(NamedTuple):
    """The arguments of one call of :meth:`Reader.read`."""

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
        shape: ``(height, width, bands)`` of the image, or of each frame of a video.
        dtype: of the pixels, in native byte order.
        tile_shape: ``(height, width)`` of the blocks in which pixels are stored; the whole shape if there are no blocks.
        nodata: what marks missing pixels; ``None`` if the file names nothing.
        frame_count: the number of frames of a video; ``None`` for an image.
        tile_frames: the number of frames that a block spans.
        memory_bytes: the memory that the open file costs.
        is_shareable: whether :meth:`Reader.split` cuts a single crop into pieces.
        channels: the names of the bands; ``None``: those that their number suggests. Further bands are no channels: they
            only mark missing pixels.
        is_distant: whether reads wait for a network, so that a batch must announce all its crops by :meth:`Reader.read_ahead`.
        orientation: the tag of EXIF or TIFF, 1 to 8: how the pixels must be turned to be upright, which no reader does but
            :class:`~ndframes.formats.upright.UprightReader`; 1 if they are, or the file does not tell.
    """

    format: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    tile_shape: tuple[int, int]
    nodata: Nodata | None = None
    frame_count: int | None = None
    tile_frames: int = 1
    memory_bytes: int = 4096
    is_shareable: bool = False
    channels: tuple[str, ...] | None = None
    is_distant: bool = False
    orientation: int = 1

    @property
    def channel_count(self) -> int:
        """The number of channels: of the bands that do not only mark missing pixels."""
        return self.shape[2] if self.channels is None else len(self.channels)


class Reader:
    """One image or video file, opened for crops.

    Callers :meth:`read` an image and :meth:`read_frames` of a video. A reader of images implements :meth:`read_window`, and
    :meth:`read_strided` if it can skip pixels; a reader of videos implements :meth:`read_frames`.

    Threads may share a reader, and it survives a fork. It does not pickle: open the file again where it is needed.

    Args:
        path: the file.
        facts: what is known of it. Each fact is an attribute of the reader as well, since every crop looks at several.

    Attributes:
        path: the file.
        facts: what is known of it.
        all_bands: the numbers of all bands, in order.
    """

    # Found on demand: a reader may have to open every overview, and most crops need none.
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
    def nbytes(self) -> int:
        """The size of the decoded image or video in bytes."""
        frame_count = 1 if self.frame_count is None else self.frame_count
        return math.prod(self.shape, start=frame_count * self.dtype.itemsize)

    # -- overviews ----------------------------------------------------------------------------------------------------

    @property
    def overview_shapes(self) -> tuple[tuple[int, int], ...]:
        """``(height, width)`` of the smaller copies in the file, largest first."""
        # Without a lock: two threads may both look, and find the same.
        if self._overview_shapes is None:
            self._overview_shapes = tuple(self._find_overview_shapes())
        return self._overview_shapes

    @property
    def own_levels(self) -> int:
        """How many of the first overviews are levels of the image's own pyramid; see :class:`~.pyramid.PyramidReader`."""
        return 0  # whatever other programs stored in a file may be of another kind, or out of date

    def find_stored_level(self, level: int) -> int:
        """The level that is read from the file to get ``level``; it is finer if ``level`` is computed from it."""
        return level

    @property
    def block_bytes(self) -> int:
        """The bytes of one decoded block, all bands and frames."""
        return self.tile_frames * math.prod(self.tile_shape) * self.shape[2] * self.dtype.itemsize

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """``(height, width, bands)`` of the image (level 0) or of one of its overviews."""
        if level == 0:  # by far the most common; finding the overviews may take a look at the file
            return self.shape
        height, width = self.overview_shapes[level - 1]
        return height, width, self.shape[2]

    def level_factors(self, level: int) -> tuple[float, float]:
        """The height and the width of a level's pixel, in pixels of the image."""
        height, width, _ = self.level_shape(level)
        return self.shape[0] / height, self.shape[1] / width

    def find_level(self, step_y: float, step_x: float) -> int:
        """The coarsest level whose pixels are at most ``step_y`` high and ``step_x`` wide, in pixels of the image."""
        chosen = 0
        if step_y >= 2 - _EPSILON and step_x >= 2 - _EPSILON:  # else no overview is coarse enough: do not look for any
            for level in range(1, len(self.overview_shapes) + 1):
                factor_y, factor_x = self.level_factors(level)
                if factor_y <= step_y + _EPSILON and factor_x <= step_x + _EPSILON:
                    chosen = level
        return chosen

    def _find_overview_shapes(self) -> Sequence[tuple[int, int]]:
        return ()

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array, *, level: int = 0) -> None:
        """Fill ``out`` with the pixels of an image at ``rows`` x ``cols`` of ``bands``.

        Args:
            rows: y coordinates inside the level; any step.
            cols: x coordinates inside the level; any step.
            bands: band numbers from 0, in any order.
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
            rows, cols, out = to_ascending(rows, cols, out)
            self.read(rows, cols, bands, out, level=level)
        else:
            self.read_strided(rows, cols, bands, out, level)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """Fill ``out`` with the pixels of a video at ``rows`` x ``cols`` of ``bands`` of some frames.

        Args:
            times: the numbers of the frames, in any order; a frame may come several times.
            rows: y coordinates inside a frame; any step.
            cols: x coordinates inside a frame; any step.
            bands: band numbers from 0, in any order.
            out: ``(len(times), len(rows), len(cols), len(bands))`` in this reader's dtype; any strides.

        Raises:
            UnreadableImageError: the file's bytes do not decode.
        """
        raise NotImplementedError(f"{self.path} is opened as an image, not as a video")

    def find_readable(self, numbers: Sequence[int], among: range, *, is_replaced: bool) -> dict[int, int]:  # noqa: ARG002
        """Find the frames of a video that decode.

        Args:
            numbers: the numbers of the requested frames.
            among: the numbers of the frames that may replace one.
            is_replaced: whether a frame that does not decode is replaced by the nearest one that does.

        Returns:
            For each requested frame the number of the frame to read; frames that cannot be read are left out.

        Raises:
            UnreadableImageError: no frame can replace one.
        """
        return {number: number for number in numbers}  # only a video file can be damaged: entries are checked

    def read_all(self, *, level: int = 0) -> Array:
        """Read a whole level of an image into a new array."""
        shape = self.level_shape(level)
        out = np.empty(shape, self.dtype)
        self.read(range(shape[0]), range(shape[1]), range(shape[2]), out, level=level)
        return out

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`read`, for ranges of step 1 that hold at least one pixel."""
        raise NotImplementedError(f"{self.path} is opened as a video, not as an image")

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`read`, for ranges of positive steps that hold at least one pixel.

        The window is read in strips, so that a coarse step over a huge image needs little memory.
        """
        # Strips of whole blocks decode no block twice. Very low blocks would cost a call each, very tall ones memory.
        strip_extent = self.tile_shape[0] if 64 <= self.tile_shape[0] <= 1024 else _STRIP_ROWS
        window_cols = bounding_range(cols)
        done = 0
        for _, strip in tile_ranges(rows, strip_extent):
            window_rows = bounding_range(strip)
            window = np.empty((len(window_rows), len(window_cols), len(bands)), self.dtype)
            self.read_window(window_rows, window_cols, bands, window, level)
            out[done : done + len(strip)] = window[:: strip.step, :: cols.step]
            done += len(strip)

    # -- costs, and sharing the work ----------------------------------------------------------------------------------

    def count_decoded(self, rows: range, cols: range) -> int:
        """Count the blocks that a read of ``rows`` x ``cols`` of an image decodes."""
        return count_touched_tiles(rows, cols, self.tile_shape)

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """Count the blocks that a read of ``rows`` x ``cols`` of some frames of a video decodes."""
        return len({time // self.tile_frames for time in times}) * count_touched_tiles(rows, cols, self.tile_shape)

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """Cut the reading of many crops of an image into tasks, for any threads in any order.

        A block that several crops touch is decoded once.
        """
        for crop in crops:
            yield partial(self.read, *crop[:4], level=crop.level)

    def estimate_seconds(self, crop: Crop) -> float:  # noqa: ARG002
        """Estimate how long one thread takes to decode a crop; 0 if :meth:`split` does not cut single crops."""
        return 0.0

    @property
    def is_worth_sharing(self) -> bool:
        """Whether several threads finish the tasks of :meth:`split` sooner than one."""
        return True

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """Ask the system to fetch the bytes that these crops need, so that a disk works on many requests at once."""


class CopyingReader(Reader):
    """A reader whose pixels lie as they are in the file or in memory: nothing is decoded."""

    def count_decoded(self, rows: range, cols: range) -> int:  # noqa: ARG002
        """As :meth:`Reader.count_decoded`: 0, since pixels are copied."""
        return 0

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:  # noqa: ARG002
        """As :meth:`Reader.count_decoded_of`: 0, since pixels are copied."""
        return 0

    @property
    def is_worth_sharing(self) -> bool:
        """``False``: one thread copies as fast as memory allows."""
        return False


def to_ascending(rows: range, cols: range, out: Array) -> tuple[range, range, Array]:
    """Reverse ranges of negative step, and flip ``out``, whose last axes are y, x and the band, to match.

    Example:
        >>> rows, cols, out = to_ascending(range(3, 0, -1), range(2), np.zeros((3, 2, 1)))
        >>> out[0] = 7
        >>> rows, cols, out.base[:, 0, 0].tolist()
        (range(1, 4), range(0, 2), [0.0, 0.0, 7.0])
    """
    flip = np.s_[..., :: -1 if rows.step < 0 else 1, :: -1 if cols.step < 0 else 1, :]
    return _ascending(rows), _ascending(cols), out[flip]


def _ascending(axis: range) -> range:
    return axis[::-1] if axis.step < 0 else axis


def row_bands(source: Reader, width: int, most_bytes: int, *, multiple: int = 1) -> Iterator[range]:
    """Cut the rows of an image into bands of about ``most_bytes`` over ``width`` columns, from top to bottom.

    The height of each band but the last is a multiple of ``multiple``, and of the height of the source's blocks if
    ``most_bytes`` allows it: no block is then decoded twice.
    """
    height, _, band_count = source.shape
    most_rows = max(1, most_bytes // (width * band_count * source.dtype.itemsize))
    step = math.lcm(multiple, min(source.tile_shape[0], height))
    # Blocks much taller than the limit are decoded several times instead: memory is the harder limit.
    if step > 2 * most_rows:
        step = multiple
    step = max(step, most_rows // step * step)
    for top in range(0, height, step):
        yield range(top, min(top + step, height))


def frame_runs(source: Reader, most_bytes: int) -> Iterator[range]:
    """Cut the frames of a video into runs of at most ``most_bytes``, or of one frame, in their order."""
    count = source.frame_count or 0
    step = max(1, most_bytes // math.prod(source.shape, start=source.dtype.itemsize))
    for start in range(0, count, step):
        yield range(start, min(start + step, count))
