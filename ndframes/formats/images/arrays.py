"""Readers of arrays: a ``.npy`` file, mapped or read piece by piece, or an array in memory."""

from __future__ import annotations

import io
import math
import mmap
import os
import weakref
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UnreadableImageError
from ...geometry.regions import to_slice
from ...geometry.tiling import bounding_range
from ...system.handles import FileHandle, SharedHandle, close_on_error
from ...system.mounts import is_remote
from ...system.stamp import changed_error, source_error
from ..reader import CopyingReader, ReaderFacts, to_ascending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._typing import Array
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp

__all__ = ["ArrayReader", "NpyReader", "RawLayout", "RawReader", "copy_crop"]
# More than the longest header that numpy accepts.
_HEAD_BYTES = 1 << 14
_MOST_PARSES = 100
# Pixels are in memory twice while they are read: as they are stored, and as the caller gets them. So they are read in pieces.
_PIECE_BYTES = 1 << 22
_MOST_ITEM_BYTES = {"b": 1, "i": 8, "u": 8, "f": 8, "c": 16}


class ArrayReader(CopyingReader):
    """Crops of an array in memory: an image ``(h, w)`` or ``(h, w, c)``, or a video ``(t, h, w, c)``.

    Args:
        path: the file that it came from, for messages.
        array: the pixels; not copied.
        format: that of the file.
        memory_bytes: the memory that it costs.
        has_frames: whether it is a video.

    Raises:
        UnreadableImageError: the array has another number of axes, is empty, or does not hold numbers.

    Example:
        >>> ArrayReader("noise", np.zeros((3, 4), ">u2"), format="array").shape
        (3, 4, 1)
    """

    def __init__(
        self,
        path: str,
        array: Array,
        *,
        format: str,  # noqa: A002 - the field's word
        memory_bytes: int = 4096,
        has_frames: bool = False,
    ) -> None:
        frame_count, shape = _split_shape(path, array.shape, array.dtype, has_frames=has_frames)
        self._array = array if array.ndim > 2 else array[:, :, np.newaxis]
        facts = ReaderFacts(
            format=format,
            shape=shape,
            # Callers allocate arrays of this dtype: native, so the copy into them swaps the bytes.
            dtype=array.dtype.newbyteorder("="),
            tile_shape=shape[:2],
            frame_count=frame_count,
            memory_bytes=memory_bytes,
        )
        super().__init__(path, facts)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        self.read_strided(rows, cols, bands, out, level)

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_strided`."""
        copy_crop(self._array, rows, cols, bands, out)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""
        if out.size:
            _copy_frames(self._array, times, rows, cols, bands, out)


class RawReader(CopyingReader):
    """Crops of a file that holds an array without compression, behind a header.

    Python keeps a file descriptor open with every map, so maps come from ``pool`` as other handles do.

    Args:
        path: the file.
        pool: keeps the open handles.
        read_layout: reads the header of the opened file.
        format: the file's format in one word, for people.
        stamp: the file that ``path`` must be whenever it is opened; ``None`` accepts any with the same header.
        is_mapped: whether the file is mapped into memory, or read piece by piece. A map is quicker; but if another program
            shortens the file, touching the map is a bus error, which ends the process, while a read raises. ``None``
            maps unless the file system is remote.

    Attributes:
        data_offset: the position of the first pixel in the file, in bytes.
        is_fortran_order: whether the first axis varies fastest.
        is_mapped: whether the file is mapped into memory.

    Raises:
        UnreadableImageError: the header is damaged, or the file is shorter than its array.
        SourceChangedError: the file of ``stamp`` was replaced or removed; when reading, too.
        SourceError: the system does not open the file.
    """

    def __init__(
        self,
        path: str,
        pool: HandlePool,
        read_layout: Callable[[str, FileHandle], RawLayout],
        *,
        format: str,  # noqa: A002 - the field's word
        stamp: SourceStamp | None = None,
        is_mapped: bool | None = None,
    ) -> None:
        file = pool.open(lambda: FileHandle(path, stamp))
        with close_on_error(file):
            self._layout = layout = read_layout(path, file)
            # Before a map is touched: beyond the end of the file that is a bus error.
            if file.stamp.size_bytes < layout.end_offset:
                raise UnreadableImageError(
                    f"{path} has {file.stamp.size_bytes:,} bytes, but by its header it has {layout.end_offset:,}; it is truncated "
                    "or damaged"
                )
        self._read_layout = read_layout
        self._pool = pool
        self._stamp = stamp
        self._token = object()
        self.data_offset = layout.data_offset
        self.is_fortran_order = layout.is_fortran_order
        self.is_mapped = not is_remote(path) if is_mapped is None else is_mapped
        facts = ReaderFacts(
            format=format,
            shape=layout.shape,
            dtype=layout.dtype.newbyteorder("="),
            tile_shape=layout.shape[:2],
            frame_count=layout.frame_count,
        )
        super().__init__(path, facts)
        # The pool knows the token only: a reference to this reader would keep it alive for ever.
        weakref.finalize(self, pool.discard, self._token)
        # A weak reference, so that the pool can close the file. It also spares the pool's lock at each read.
        self._pixels: Callable[[], _Pixels | None] = weakref.ref(pool.share(self._token, lambda: self._wrap(file)))

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_window`."""
        pixels = self._pixels() or self._share_pixels()
        # Without a lock: after a race the pool may close the file too early, and the next read opens it again.
        pixels.is_used = True
        pixels.read(rows, cols, bands, out)

    read_strided = read_window

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""
        if out.size:
            pixels = self._pixels() or self._share_pixels()
            pixels.is_used = True
            pixels.read_frames(times, rows, cols, bands, out)

    def _share_pixels(self) -> _Pixels:
        pixels = self._pool.share(self._token, self._open)
        self._pixels = weakref.ref(pixels)
        return pixels

    def _open(self) -> _Pixels:
        file = FileHandle(self.path, self._stamp)
        with close_on_error(file):
            # Without a stamp, another header is the only sign that the file was replaced.
            if self._stamp is None and self._read_layout(self.path, file) != self._layout:
                raise changed_error(self.path)
        return self._wrap(file)

    def _wrap(self, file: FileHandle) -> _Pixels:
        return (_MappedPixels if self.is_mapped else _StoredPixels)(self.path, file, self._layout)


class NpyReader(RawReader):
    """Crops of a ``.npy`` file: an image ``(h, w)`` or ``(h, w, c)``, or a video ``(t, h, w, c)``. Never unpickles.

    Args:
        path: the file.
        pool: keeps the open handles.
        stamp: as for :class:`RawReader`.
        is_mapped: as for :class:`RawReader`.
        has_frames: whether it is a video.

    Raises:
        UnreadableImageError: the header is damaged, the file is shorter than its array, or the array is not an image.
        SourceChangedError: the file of ``stamp`` was replaced or removed; when reading, too.
        SourceError: the system does not open the file.

    Example:
        >>> import tempfile
        >>> from ndframes.system.handles import HandlePool
        >>> pool = HandlePool()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(folder + "/a.npy", np.arange(12).reshape(3, 4))
        ...     reader = NpyReader(folder + "/a.npy", pool)
        ...     reader.data_offset, reader.read_all()[1, :, 0].tolist()
        (128, [4, 5, 6, 7])
        >>> pool.close()
    """

    def __init__(
        self,
        path: str,
        pool: HandlePool,
        *,
        stamp: SourceStamp | None = None,
        is_mapped: bool | None = None,
        has_frames: bool = False,
    ) -> None:
        read_layout = partial(_read_layout, has_frames=has_frames)
        super().__init__(path, pool, read_layout, format="npy", stamp=stamp, is_mapped=is_mapped)


@dataclass(frozen=True, slots=True)
class RawLayout:
    """How a file stores its pixels.

    Attributes:
        shape: ``(height, width, bands)`` of the image, or of each frame.
        frame_count: the number of frames; ``None`` for an image.
        dtype: of the samples, in the byte order of the file.
        is_fortran_order: whether the first axis varies fastest.
        data_offset: the position of the first pixel in the file, in bytes.
    """

    shape: tuple[int, int, int]
    frame_count: int | None
    dtype: np.dtype[Any]
    is_fortran_order: bool
    data_offset: int

    @property
    def array_shape(self) -> tuple[int, ...]:
        """The shape of the image, or of the whole video."""
        return self.shape if self.frame_count is None else (self.frame_count, *self.shape)

    @property
    def end_offset(self) -> int:
        """The position behind the last pixel in the file, in bytes."""
        return self.data_offset + math.prod(self.array_shape, start=self.dtype.itemsize)


class _Pixels(SharedHandle):
    """A handle: an open file's pixels."""

    @abstractmethod
    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read`, for positive steps."""

    @abstractmethod
    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""


class _MappedPixels(_Pixels):
    """The file mapped into memory."""

    def __init__(self, path: str, file: FileHandle, layout: RawLayout) -> None:
        try:
            data = mmap.mmap(file.descriptor, layout.end_offset, access=mmap.ACCESS_READ)
        # ValueError: the file was cut after its length was checked.
        except (OSError, ValueError) as error:
            raise source_error(path, error) from error
        # The map has a duplicate of the descriptor.
        file.close()
        order: Any = "F" if layout.is_fortran_order else "C"
        self._array = np.ndarray(layout.array_shape, layout.dtype, data, layout.data_offset, order=order)

    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        copy_crop(self._array, rows, cols, bands, out)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        _copy_frames(self._array, times, rows, cols, bands, out)


class _StoredPixels(_Pixels):
    """The open file; each read asks for the bytes that it needs."""

    def __init__(self, path: str, file: FileHandle, layout: RawLayout) -> None:
        self._path, self._file, self._layout = path, file, layout

    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        self._read([0], rows, cols, bands, out[None])

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        rows, cols, out = to_ascending(rows, cols, out)
        self._read(times, rows, cols, bands, out)

    def _read(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        try:
            for place, time in enumerate(times):
                if self._layout.is_fortran_order:
                    self._read_columns(rows, cols, bands, out[place])
                else:
                    self._read_rows(time * self._layout.shape[0], rows, cols, bands, out[place])
        except EOFError as error:
            raise UnreadableImageError(f"{self._path} was truncated since it was opened: {error}") from error
        except OSError as error:
            raise source_error(self._path, error) from error

    def _read_rows(self, first: int, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        _, width, band_count = self._layout.shape
        window = bounding_range(cols)
        items = range(window.start * band_count, window.stop * band_count)
        for place, lines in self._read_lines(first, rows, items, width * band_count):
            pixels = lines.reshape(len(lines), -1, band_count)
            copy_crop(pixels, range(len(lines)), range(0, len(window), cols.step), bands, out[place])

    def _read_columns(self, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        # In Fortran order, y varies fastest: a line of the file is a column of one band.
        height, width, _ = self._layout.shape
        for index, band in enumerate(bands):
            for place, lines in self._read_lines(band * width, cols, bounding_range(rows), height):
                out[:, place, index] = lines[:, :: rows.step].T

    def _read_lines(self, first: int, lines: range, items: range, line_items: int) -> Iterator[tuple[slice, Array]]:
        """Read some samples of some lines, a few lines at a time.

        Args:
            first: the number in the file of line 0.
            lines: the numbers of the lines.
            items: the samples of each line; step 1.
            line_items: the number of samples in a line.

        Yields:
            The places of these lines in ``lines``, and their samples ``(lines, items)``.
        """
        dtype = self._layout.dtype
        lines_per_piece = max(1, _PIECE_BYTES // (len(items) * dtype.itemsize))
        # Whole adjacent lines take one read. Other lines take a read each, which fetches nothing beyond the crop.
        is_run = lines.step == 1 and len(items) == line_items
        for start in range(0, len(lines), lines_per_piece):
            piece = lines[start : start + lines_per_piece]
            samples = np.empty((len(piece), len(items)), dtype)
            raw = samples.reshape(-1).view(np.uint8).data
            target_bytes = len(raw) if is_run else len(raw) // len(piece)
            offset = self._layout.data_offset + ((first + piece.start) * line_items + items.start) * dtype.itemsize
            for target in range(0, len(raw), target_bytes):
                self._file.read_into(raw[target : target + target_bytes], offset)
                offset += piece.step * line_items * dtype.itemsize
            yield slice(start, start + len(piece)), samples


def _read_layout(path: str, file: FileHandle, *, has_frames: bool) -> RawLayout:
    try:
        head = io.BytesIO(os.pread(file.descriptor, _HEAD_BYTES, 0))
    except OSError as error:
        raise source_error(path, error) from error
    try:
        shape, is_fortran_order, dtype = _parse_header(head)
    except Exception as error:  # the header is parsed as Python source: a damaged one raises anything
        raise UnreadableImageError(f"{path} is not a valid .npy file: {error}") from error
    has_frames = has_frames and not is_fortran_order  # a video of ours is always in C order
    frame_count, frame_shape = _split_shape(path, shape, dtype, has_frames=has_frames)
    return RawLayout(frame_shape, frame_count, dtype, is_fortran_order, head.tell())


def _parse_header(head: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse shape, order and dtype of an array, by numpy.

    numpy calls Python's parser. In Python 3.11 that counts the depth of recursion for all threads together, and raises
    SystemError if another thread parses at the same time. So it is tried again.
    """
    for _ in range(_MOST_PARSES - 1):
        try:
            return _parse_header_once(head)
        except SystemError:
            head.seek(0)
    return _parse_header_once(head)


def _parse_header_once(head: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(head)
    if version in ((2, 0), (3, 0)):  # they differ in the names of fields alone, which no image has
        return np.lib.format.read_array_header_2_0(head)
    raise ValueError(f"version {version} of the format is unknown")


def _split_shape(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, has_frames: bool
) -> tuple[int | None, tuple[int, int, int]]:
    """The number of frames of an array, ``None`` for an image, and ``(height, width, bands)``."""
    frame_count, frame_shape = (shape[0], shape[1:]) if has_frames and len(shape) == 4 else (None, shape)
    if len(frame_shape) not in (2, 3) or min(shape) < 1:
        raise UnreadableImageError(f"{path} holds an array of shape {shape}; an image is (h, w) or (h, w, c)")
    if dtype.kind not in "biufc":
        raise UnreadableImageError(f"{path} holds {dtype}; an image's pixels are numbers or booleans")
    # Their size and format depend on the processor, so no entry can store them.
    if dtype.itemsize > _MOST_ITEM_BYTES[dtype.kind]:
        raise UnreadableImageError(
            f"{path} holds {dtype.newbyteorder('=')}, floats of more than 64 bits; save them as float64 or complex128"
        )
    height, width, bands = (*frame_shape, 1)[:3]
    return frame_count, (height, width, bands)


def _copy_frames(
    array: Array, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array
) -> None:
    """Copy a part of some frames of ``array``, ``(t, h, w, c)``, into ``out``."""
    picks = None if bands == range(array.shape[3]) else list(bands)
    inside = to_slice(rows), to_slice(cols)
    if isinstance(times, range):  # one copy by slices, whatever the number of frames
        window = array[to_slice(times)][:, inside[0], inside[1]]
        out[...] = window if picks is None else window[..., picks]
        return
    for place, time in enumerate(times):
        window = array[time][inside]
        out[place] = window if picks is None else window[:, :, picks]


def copy_crop(array: Array, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
    """Copy the pixels at ``rows`` x ``cols`` of ``bands``, whose steps are positive, into ``out``."""
    window = array[rows.start : rows.stop : rows.step, cols.start : cols.stop : cols.step]
    if bands == range(array.shape[2]):
        out[...] = window
        return
    # Band by band: an index by a list would copy the window first.
    for index, band in enumerate(bands):
        out[:, :, index] = window[:, :, band]
