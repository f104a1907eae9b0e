"""Frames as arrays of dask and xarray: lazy, in blocks of whole tiles, named by a digest of the state of their sources."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..errors import (
    MissingExtraError,
    RegionError,
    SourceChangedError,
    SourceMissingError,
    naming_image,
    shorten,
)
from ..geometry.regions import resolve_region
from ..spec.pathinfo import SequenceInfo
from ..system.objects.addresses import is_url
from .placing import find_place

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .._typing import Array
    from ..formats.images.georeference import Georeference
    from ..geometry.regions import Region
    from ..items.item import LazyImage
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo, PathInfo
    from ..system.stamp import SourceStamp

__all__ = ["ImageCatalog", "LazyArray", "find_chunk", "to_dask", "to_xarray", "tokenize_state"]
_CHUNK_BYTES = 32 * 2**20
_GRID_MAPPING = "spatial_ref"


class ImageCatalog(Protocol):
    """The images of a :class:`~ndframes.Frames`, their files and the forms of their cache entries."""

    def image(self, image_id: Hashable) -> LazyImage:
        """An image, opened lazily."""

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """The description of an image: its files and how they line up."""

    def pick_backend(self, image_id: Hashable, info: ChannelInfo) -> Backend | None:
        """The form of the cache entry of a file; ``None`` where the file is read directly."""

    def look_at(self, path: str) -> SourceStamp:
        """The state of a source."""

    def hash_source(self, path: str) -> str:
        """The SHA-256 digest of a source's bytes."""


class LazyArray(Protocol):
    """An image as an array whose pixels are read when it is indexed; :class:`~ndframes.LazyFrame` is one."""

    image_id: Hashable

    @property
    def frames(self) -> ImageCatalog:
        """The catalog of the image."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes along the last axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes ``(y, x, channel)``, with time in front of a sequence."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    @property
    def nodata(self) -> str:
        """How reads treat pixels without data."""

    @property
    def interpolation(self) -> object:
        """How reads resample."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of the blocks that are decoded as a whole."""

    def __getitem__(self, index: Any) -> Array: ...


def to_dask(frame: LazyArray, chunks: Any) -> Any:
    """A frame as a dask array; see :meth:`ndframes.LazyFrame.to_dask`."""
    try:
        import dask.array
        from dask.base import tokenize
    except ImportError as error:
        raise MissingExtraError('to_dask needs dask: pip install "ndframes[dask]"', name="dask") from error
    with naming_image(frame.image_id):
        blocks = _resolve_chunks(frame, chunks)
        # Recorded before the array is named: a change in between then raises an error instead of passing under the old name.
        snapshot = _Snapshot(frame, _record_files(frame))
        return dask.array.from_array(
            snapshot,
            chunks=blocks,
            # A name by content: dask then computes equal arrays once, and never takes an old result for a changed file.
            name=f"ndframes-{tokenize(frame, blocks)}",
            meta=(np.ma if frame.nodata == "mask" else np).empty((0,) * frame.ndim, frame.dtype),
            # Blocks are numpy arrays already. Regions are basic slices, so dask must apply lists of integers itself.
            asarray=False,
            fancy=False,
        )


def to_xarray(frame: LazyArray, chunks: Any) -> Any:
    """A frame as an xarray DataArray; see :meth:`ndframes.LazyFrame.to_xarray`."""
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError('to_xarray needs xarray: pip install "ndframes[xarray]"', name="xarray") from error
    if frame.nodata == "mask":
        raise RegionError("xarray has no masked arrays; nodata='nan' marks missing pixels by nan")
    with naming_image(frame.image_id):
        image = frame.frames.image(frame.image_id)
        place = find_place(image, frame.channels)
        *times, height, width, _ = frame.shape
        dims = (*("t" for _ in times), "y", "x", "channel")
        coords: dict[str, Any] = _time_coords(image, times[0]) if times else {}
        coords |= _pixel_coords(place, height, width)
    coords["channel"] = list(frame.channels)
    array = xarray.DataArray(
        to_dask(frame, chunks), coords, dims, name=frame.image_id, attrs={"image_id": frame.image_id}
    )
    if place is not None:
        # By this, rioxarray and CF readers find the coordinate that holds the CRS.
        array.encoding["grid_mapping"] = _GRID_MAPPING
    return array


def _time_coords(image: LazyImage, count: int) -> dict[str, Any]:
    """``t``, the time of each frame of a video in seconds, otherwise its position; and ``frame``, the frame's id."""
    # The handle of a video has its times; other sequences have none.
    seconds = getattr(image, "seconds", None)
    ids = np.empty(count, object)
    ids[:] = list(image.frame_ids)
    # Numbers as numbers: xarray selects among objects slowly.
    frame_ids = ids.astype(np.int64) if all(isinstance(item, int) for item in ids) else ids
    return {"t": np.arange(count) if seconds is None else seconds, "frame": ("t", frame_ids)}


def _pixel_coords(place: Georeference | None, height: int, width: int) -> dict[str, Any]:
    """``y`` and ``x`` of pixel centres, and ``spatial_ref``, the georeference as rioxarray expects it."""
    # As everywhere in the package, the centre of the first pixel is at 0.5.
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    if place is None:
        return {"y": y, "x": x}
    a, b, c, d, e, f = place.world_from_src
    if not b and not d:  # a rotated grid has no coordinates along its axes
        y, x = f + e * y, c + a * x
    # GDAL's order of the six numbers.
    transform = " ".join(repr(float(number)) for number in (c, a, b, f, d, e))
    attrs = {"crs_wkt": place.crs_wkt, "spatial_ref": place.crs_wkt, "GeoTransform": transform}
    return {"y": y, "x": x, _GRID_MAPPING: ((), 0, {name: text for name, text in attrs.items() if text})}


def tokenize_state(frame: LazyArray) -> object:
    """Plain values that identify a frame and its current pixels.

    A file is identified by its path, inode, size and times. A file that changed so recently that its times would not show
    another change is identified by its content as well.
    """
    files = []
    for info in (info for infos in _files_by_time(frame) for info in infos):
        stamp = _stamp_of(info, frame.frames)
        backend = frame.frames.pick_backend(frame.image_id, info)
        files.append(
            (
                *astuple(info),
                # A relative path is another file in another working directory.
                info.path if is_url(info.path) else os.path.abspath(info.path),
                None if backend is None else backend.to_dict(),
                None if stamp is None else _identify(info, stamp, frame.frames),
            )
        )
    is_native = frame.frames.pathinfo(frame.image_id).is_native
    kernels = frame.interpolation
    options = frame.nodata, sorted(kernels.items()) if isinstance(kernels, Mapping) else kernels
    return frame.image_id, frame.channels, frame.shape, frame.dtype.str, is_native, options, files


def find_chunk(
    shape: Sequence[int], tile_shape: Sequence[int], itemsize: int, most_bytes: int = _CHUNK_BYTES
) -> tuple[int, ...]:
    """The shape of a block of whole tiles that takes at most ``most_bytes``, or of one tile if a tile takes more.

    A tile is doubled in y and x, to a shape close to a square, and then in time, until the array ends.

    Args:
        shape: the array's shape: ``(y, x, channel)``, or ``(t, y, x, channel)``.
        tile_shape: the shape of a tile, with the same axes.
        itemsize: the bytes of a value.
        most_bytes: the limit.

    Example:
        >>> find_chunk((20_000, 30_000, 3), (128, 128, 3), 1)
        (4096, 2048, 3)
        >>> find_chunk((500, 480, 640, 3), (1, 128, 128, 3), 1)
        (32, 480, 640, 3)
    """
    # Multiples of tiles only: a border through a tile would make two blocks decode it.
    chunk = [min(tile, extent) for tile, extent in zip(tile_shape, shape, strict=True)]
    while True:
        for axis in _growth_order(chunk):
            wider = [*chunk[:axis], min(2 * chunk[axis], shape[axis]), *chunk[axis + 1 :]]
            if wider != chunk and math.prod(wider) * itemsize <= most_bytes:
                chunk = wider
                break
        else:
            return tuple(chunk)


def _growth_order(chunk: Sequence[int]) -> list[int]:
    """The axes in the order in which to enlarge them: the shorter of y and x, the longer, then time."""
    y, x = len(chunk) - 3, len(chunk) - 2
    return [*sorted((y, x), key=lambda axis: chunk[axis]), *range(y)]


def _resolve_chunks(frame: LazyArray, chunks: Any) -> tuple[tuple[int, ...], ...]:
    from dask.array.core import normalize_chunks
    from dask.utils import parse_bytes

    shape, itemsize = frame.shape, frame.dtype.itemsize
    try:
        if chunks is None or (isinstance(chunks, str) and chunks != "auto"):
            most_bytes = _CHUNK_BYTES if chunks is None else int(parse_bytes(chunks))
            chunks = find_chunk(shape, _tile_shape(frame), itemsize, most_bytes)
        blocks: tuple[tuple[int, ...], ...] = normalize_chunks(chunks, shape, dtype=frame.dtype)
    except (TypeError, ValueError) as error:
        raise RegionError(
            f"chunks={shorten(chunks)} does not divide an array of shape {shape}: {error}; give None, a size such as '64 MB', "
            "or a value that dask accepts, such as (512, 512, 3)"
        ) from error
    return blocks


def _tile_shape(frame: LazyArray) -> tuple[int, ...]:
    """The shape of the smallest block that costs no extra decoding: of one row where pixels are stored row by row."""
    image = frame.frames.image(frame.image_id)
    reader = image.opened(image.bands_by_part(frame.channels)[0][0]).reader
    *times, height, width, bands = frame.chunks
    is_stored_by_row = not reader.count_decoded(range(1), range(1))
    return (*times, 1 if is_stored_by_row else height, width, bands)


class _FileState(NamedTuple):
    """The state of a file, in values that are the same on every machine that mounts its file system."""

    path: str
    size_bytes: int
    mtime_ns: int
    version: int

    @classmethod
    def of(cls, path: str, stamp: SourceStamp) -> _FileState:
        """The state with this stamp. The number of a file differs between machines; that of an object stands for its ETag."""
        return cls(path, stamp.size_bytes, stamp.mtime_ns, stamp.inode if is_url(path) else 0)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A frame that raises an error when its sources have changed; dask reads its blocks from it.

    Attributes:
        frame: the frame.
        files: the states of the image's files, or of the files of each image of a sequence.
    """

    frame: LazyArray
    files: tuple[tuple[_FileState, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the frame."""
        return self.frame.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the frame."""
        return self.frame.dtype

    @property
    def ndim(self) -> int:
        """As of the frame."""
        return self.frame.ndim

    def __getitem__(self, region: Region) -> Array:
        pixels: Array = self.frame[region]
        # The check follows the read: a file that is unchanged now was unchanged while it was read.
        # A video has one file for all times.
        is_sequence = self.ndim == 4 and len(self.files) > 1
        times = resolve_region(region, self.shape).ranges[0] if is_sequence else range(1)
        with naming_image(self.frame.image_id):
            for time in times:
                for file in self.files[time]:
                    _check_unchanged(file, self.frame.frames)
        return pixels


def _check_unchanged(file: _FileState, frames: ImageCatalog) -> None:
    try:
        stamp = frames.look_at(file.path)
    except SourceMissingError:  # the read has succeeded, so when_source_missing="use" allowed its cache entry
        return
    if _FileState.of(file.path, stamp) != file:
        raise SourceChangedError(
            f"{file.path} was changed since this array was made; make a new array with to_dask() or to_xarray()"
        )


def _record_files(frame: LazyArray) -> tuple[tuple[_FileState, ...], ...]:
    states = []
    for infos in _files_by_time(frame):
        stamps = [(info.path, _stamp_of(info, frame.frames)) for info in infos]
        states.append(tuple(_FileState.of(path, stamp) for path, stamp in stamps if stamp is not None))
    return tuple(states)


def _files_by_time(frame: LazyArray) -> list[list[ChannelInfo]]:
    """The files with a frame's channels: those of the image, or of each image of a sequence."""
    info = frame.frames.pathinfo(frame.image_id)
    images = info.images if isinstance(info, SequenceInfo) else (info,)
    codes = {*frame.channels}
    return [
        [channel for channel in image.channels if channel.channels is None or codes.intersection(channel.channels)]
        for image in images
    ]


def _stamp_of(info: ChannelInfo, frames: ImageCatalog) -> SourceStamp | None:
    """The state of a file; ``None`` if there is no file at its path."""
    try:
        return frames.look_at(info.path)
    except SourceMissingError:
        return None


def _identify(info: ChannelInfo, stamp: SourceStamp, frames: ImageCatalog) -> tuple[int | str, ...]:
    # Without the number of the file system: it changes with every mount.
    is_settled = stamp.is_settled(time.time_ns())
    return stamp[1:] if is_settled else (*stamp[1:], frames.hash_source(info.path))
