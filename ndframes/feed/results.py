"""Results: where stitched rows are written, and the frame that reads them."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..entries.opened import OpenedChannel
from ..entries.opener import BoundOpener
from ..errors import ImageIdError, OutputError, PatchError, shorten
from ..formats.export import check_destination, check_export, write_atomically
from ..formats.images.arrays import ArrayReader, NpyReader
from ..frames.frames import Frames
from ..spec.backends import Backend
from ..spec.pathinfo import ChannelInfo, PathInfo
from ..system.handles import HandlePool
from ..system.output import PendingFile
from ..system.process import core_count

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .._typing import Array
    from ..frames.lazyframe import LazyFrame

__all__ = ["ArraySink", "FileSink", "Sink", "to_array_sink", "to_path"]
_SUFFIXES = (".tif", ".tiff", ".npy")


class Sink(Protocol):
    """Takes the rows of a result in any order, each once."""

    def write(self, first_row: int, pixels: Array) -> None:
        """Write ``(rows, width, channels)`` in the result's dtype."""

    def close(self, image_id: Hashable, nodata: float | None, *, has_overviews: bool) -> LazyFrame:
        """The frame of the result, of which all rows are written."""

    def discard(self) -> None:
        """Remove what was written, if it is not closed."""


class ArraySink:
    """An array in memory.

    Args:
        array: ``(height, width, channels)``.
    """

    def __init__(self, array: Array) -> None:
        self._array = array

    def write(self, first_row: int, pixels: Array) -> None:
        """As :meth:`Sink.write`."""
        self._array[first_row : first_row + len(pixels)] = pixels

    def close(self, image_id: Hashable, nodata: float | None, *, has_overviews: bool) -> LazyFrame:  # noqa: ARG002
        """As :meth:`Sink.close`."""
        channel_count = self._array.shape[2]
        return _ResultFrames(image_id, str(image_id), nodata, channel_count, array=self._array).load_frame(image_id)

    def discard(self) -> None:
        """As :meth:`Sink.discard`; an array stays as it is."""


class FileSink:
    """A ``.npy`` file, or a cloud optimized GeoTIFF.

    Rows are complete in any order, but tiles of a TIFF are compressed row by row of tiles, and its overviews with them. So rows
    are written to an array in an unnamed file of the same folder first. The result appears whole or not at all.

    Args:
        path: the file to write; its ending chooses the format.
        shape: ``(height, width, channels)``.
        dtype: of the pixels.

    Raises:
        OutputError: the path cannot be written, or its format cannot store such pixels.
    """

    def __init__(self, path: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        check_export(path, dtype, shape)
        self._path = path
        self._channel_count = shape[2]
        head = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": shape})
        self._head_bytes = len(head.getvalue())
        self._row_bytes = shape[1] * shape[2] * dtype.itemsize
        self._is_array = path.lower().endswith(".npy")
        try:
            # It goes with this object: a stitcher that is dropped, as after an error of the model, leaves no file.
            self._pending = PendingFile(path)
            if not self._is_array:
                self._pending.hide()
        except OSError as error:
            raise _write_error(path, error) from error
        self._put(0, head.getvalue())

    def write(self, first_row: int, pixels: Array) -> None:
        """As :meth:`Sink.write`."""
        self._put(self._head_bytes + first_row * self._row_bytes, np.ascontiguousarray(pixels).data)

    def close(self, image_id: Hashable, nodata: float | None, *, has_overviews: bool) -> LazyFrame:
        """As :meth:`Sink.close`."""
        try:
            if self._is_array:
                self._pending.publish()
            else:
                self._pending.file.flush()
                self._write_cog(nodata, has_overviews=has_overviews)
        except OutputError:
            raise
        except OSError as error:
            raise _write_error(self._path, error) from error
        # Not after an error, which may be that of a full disk: the rows are still there for another attempt.
        self.discard()
        return _ResultFrames(image_id, self._path, nodata, self._channel_count).load_frame(image_id)

    def discard(self) -> None:
        """As :meth:`Sink.discard`."""
        self._pending.discard()

    def _put(self, position: int, data: Any) -> None:
        try:
            self._pending.file.seek(position)
            self._pending.file.write(data)
        except OSError as error:
            raise _write_error(self._path, error) from error

    def _write_cog(self, nodata: float | None, *, has_overviews: bool) -> None:
        # Here, since it loads the codecs, which other results do not need.
        from ..formats.tiled.cog_writer import write_cog
        from ..formats.tiled.directories import nodata_tags

        backend = Backend(type="cog", compress="DEFLATE", overviews=has_overviews)
        pool = HandlePool()
        try:
            # Not mapped: the pages of a map would count as memory of this process.
            reader = NpyReader(self._pending.path, pool, is_mapped=False)
            write_atomically(
                self._path,
                lambda file: write_cog(
                    file, reader, backend, threads=core_count(), tags=nodata_tags(nodata), has_colours=False
                ),
            )
        finally:
            pool.close()


def to_path(out: Any) -> str | None:
    """The path in ``out``; ``None`` if it is an array, or ``None``.

    Raises:
        OutputError: its ending is not that of a result, its folder is missing, or it is not a regular file.
        PatchError: it is neither a path nor an array.
    """
    if out is None:
        return None
    if not isinstance(out, (str, os.PathLike)):
        # Numpy copies a list, so that its owner would never see the result.
        if not np.may_share_memory(np.asarray(out), np.asarray(out)):
            raise PatchError(f"out={shorten(out)}; give a path that ends in {', '.join(_SUFFIXES)}, or an array")
        return None
    path = os.fsdecode(out)
    if not path.lower().endswith(_SUFFIXES):
        raise OutputError(f"{path}: a stitched image is written as {', '.join(_SUFFIXES)}; use one of these endings")
    check_destination(path)
    return path


class _ResultFrames(Frames):
    """One stitched image: a file, or an array in memory. It pickles with the array.

    Args:
        image_id: its id.
        path: the file, or a name of the array for messages.
        nodata: the value of uncovered pixels; ``None``: there are none.
        channel_count: of the image.
        array: ``(height, width, channels)``; ``None``: the file.
    """

    def __init__(
        self, image_id: Hashable, path: str, nodata: float | None, channel_count: int, *, array: Array | None = None
    ) -> None:
        self._image_id = image_id
        # A model's values are no colours, which the default names of three or four channels say.
        self._channels = tuple(f"band.{number}" for number in range(channel_count))
        self._path = path
        self._nodata = nodata
        self._array = array
        super().__init__(backend=None)

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The id of the image."""
        return [self._image_id]

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe the image."""
        if image_id != self._image_id:
            raise ImageIdError(f"no image {shorten(image_id)}; the stitched image is {shorten(self._image_id)}")
        return PathInfo(image_id, (ChannelInfo(self._path, channels=self._channels, nodata=self._nodata),))

    def _opener_of(self, image_id: Hashable, *, converts: bool = True) -> BoundOpener:
        bound = super()._opener_of(image_id, converts=converts)
        return bound if self._array is None else _ArrayOpener(bound.opener, bound.pick_backend, array=self._array)


@dataclass(frozen=True, slots=True)
class _ArrayOpener(BoundOpener):
    """Opens an array in memory, whatever the file.

    Attributes:
        array: ``(height, width, channels)``.
    """

    array: Any = None

    def open(self, info: ChannelInfo) -> OpenedChannel:
        """The array, ready to read."""
        return OpenedChannel(ArrayReader(info.path, self.array, format="array"), None)

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:  # noqa: ARG002
        """``True``: an array is never replaced."""
        return True


def to_array_sink(out: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> ArraySink:
    """The sink that writes to an array of the caller.

    Args:
        out: ``(height, width)`` for one channel, or ``(height, width, channels)``; anything that shares its memory with numpy.
        shape: ``(height, width, channels)`` of the result.
        dtype: of the result.

    Raises:
        PatchError: it has another shape or dtype, or cannot be written to.
    """
    array = np.asarray(out)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape != shape or array.dtype.newbyteorder("=") != dtype or not array.flags.writeable:
        raise PatchError(
            f"out is {np.shape(out)} {array.dtype}{'' if array.flags.writeable else ', read-only'}; the result is {shape} {dtype}"
        )
    return ArraySink(array)


def _write_error(path: str, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}")
