"""Frames as dask and xarray know arrays: lazy, in blocks of whole tiles, named after what their sources are."""

from __future__ import annotations

import math
import os
import time
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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
from ..system.sources import hash_file
from ..system.stamp import stat_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..geometry.regions import Region
    from ..spec.pathinfo import ChannelInfo
    from ..system.stamp import SourceStamp
    from .lazyframe import LazyFrame

__all__ = ["find_chunk", "to_dask", "to_xarray", "tokenize_state"]
_CHUNK_BYTES = 32 * 2**20


def to_dask(frame: LazyFrame, chunks: Any) -> Any:
    """A frame as a dask array; see :meth:`ndframes.LazyFrame.to_dask`."""
    try:
        import dask.array
        from dask.base import tokenize
    except ImportError as error:
        raise MissingExtraError('to_dask needs dask: pip install "ndframes[dask]"', name="dask") from error
    with naming_image(frame.image_id):
        blocks = _resolve_chunks(frame, chunks)
        snapshot = _Snapshot(frame, _watch(frame))
        return dask.array.from_array(
            snapshot,
            chunks=blocks,
            name=f"ndframes-{tokenize(frame, blocks)}",
            meta=np.empty((0,) * frame.ndim, frame.dtype),
            asarray=False,
            fancy=False,
        )


def to_xarray(frame: LazyFrame, chunks: Any) -> Any:
    """A frame as an xarray DataArray; see :meth:`ndframes.LazyFrame.to_xarray`."""
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError('to_xarray needs xarray: pip install "ndframes[xarray]"', name="xarray") from error
    *times, height, width, _ = frame.shape
    coords: dict[str, Any] = {"t": np.arange(times[0])} if times else {}
    coords |= {"y": np.arange(height) + 0.5, "x": np.arange(width) + 0.5, "channel": list(frame.channels)}
    return xarray.DataArray(to_dask(frame, chunks), coords, tuple(coords), attrs={"image_id": frame.image_id})


def tokenize_state(frame: LazyFrame) -> object:
    """What tells a frame and the pixels that it has now from any other, in plain values.

    A file counts as the same while its path, inode, size and times are; one that was changed so lately that its times would not
    show another change, while its content is.
    """
    files = []
    for info in (info for some in _files_by_time(frame) for info in some):
        stamp = _stamp_of(info)
        backend = frame.frames.pick_backend(frame.image_id, info)
        files.append(
            (
                *astuple(info),
                os.path.abspath(info.path),
                None if backend is None else backend.to_dict(),
                None if stamp is None else _state_of(info, stamp),
            )
        )
    is_native = frame.frames.pathinfo(frame.image_id).is_native
    return frame.image_id, frame.channels, frame.shape, frame.dtype.str, is_native, files


def find_chunk(
    shape: Sequence[int], tile_shape: Sequence[int], itemsize: int, most_bytes: int = _CHUNK_BYTES
) -> tuple[int, ...]:
    """The shape of a block of whole tiles that takes at most ``most_bytes``, or of one tile if that takes more.

    It doubles in y and x, about a square, and then in time, as far as the array goes.

    Args:
        shape: of the array: ``(y, x, channel)``, with time in front if there are four.
        tile_shape: of a tile, in the same axes.
        itemsize: the bytes of a value.
        most_bytes: the limit.

    Example:
        >>> find_chunk((20_000, 30_000, 3), (128, 128, 3), 1)
        (4096, 2048, 3)
        >>> find_chunk((500, 480, 640, 3), (1, 128, 128, 3), 1)
        (32, 480, 640, 3)
    """
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
    """Which axis should grow first: the shorter one of y and x, the other, then time."""
    y, x = len(chunk) - 3, len(chunk) - 2
    return [*sorted((y, x), key=lambda axis: chunk[axis]), *range(y)]


def _resolve_chunks(frame: LazyFrame, chunks: Any) -> tuple[tuple[int, ...], ...]:
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
            f"chunks={shorten(chunks)} do not cut an array of {shape}: {error}; give None, a size such as '64 MB', or "
            "what dask takes, such as (512, 512, 3)"
        ) from error
    return blocks


def _tile_shape(frame: LazyFrame) -> tuple[int, ...]:
    """The shape of the smallest block that is worth a read: a row where pixels lie ready, row after row."""
    image = frame.frames.image(frame.image_id)
    reader = image.opened(image.bands_by_part(frame.channels)[0][0]).reader
    *times, height, width, bands = frame.chunks
    is_ready = not reader.count_decoded(range(1), range(1))
    return (*times, 1 if is_ready else height, width, bands)


class _Seen(NamedTuple):
    """What a file was, in what is the same wherever the file is seen from."""

    path: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A frame whose sources must stay what they are: what dask takes its blocks from.

    Attributes:
        frame: the frame.
        seen: the files of the image, or of each image of a sequence.
    """

    frame: LazyFrame
    seen: tuple[tuple[_Seen, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frame."""
        return self.frame.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frame."""
        return self.frame.dtype

    @property
    def ndim(self) -> int:
        """Of the frame."""
        return self.frame.ndim

    def __getitem__(self, region: Region) -> Array:
        pixels: Array = self.frame[region]
        # Looked at afterwards: a file that is then as it was has not been another one meanwhile.
        times = resolve_region(region, self.shape).ranges[0] if self.ndim == 4 else range(1)
        with naming_image(self.frame.image_id):
            for time in times:
                for seen in self.seen[time]:
                    _check_seen(seen)
        return pixels


def _check_seen(seen: _Seen) -> None:
    try:
        stamp = stat_source(seen.path)
    except SourceMissingError:  # where that may be, what was cached of it has been read
        return
    if (stamp.size_bytes, stamp.mtime_ns) != seen[1:]:
        raise SourceChangedError(
            f"{seen.path} was changed since an array was made of it; make it anew, by to_dask() or to_xarray()"
        )


def _watch(frame: LazyFrame) -> tuple[tuple[_Seen, ...], ...]:
    found = []
    for some in _files_by_time(frame):
        stamps = [(info.path, _stamp_of(info)) for info in some]
        found.append(
            tuple(_Seen(path, stamp.size_bytes, stamp.mtime_ns) for path, stamp in stamps if stamp is not None)
        )
    return tuple(found)


def _files_by_time(frame: LazyFrame) -> list[list[ChannelInfo]]:
    """The files that hold a frame's channels: of the image, or of each image of a sequence."""
    info = frame.frames.pathinfo(frame.image_id)
    images = info.images if isinstance(info, SequenceInfo) else (info,)
    wanted = {*frame.channels}
    return [
        [channel for channel in image.channels if channel.channels is None or wanted.intersection(channel.channels)]
        for image in images
    ]


def _stamp_of(info: ChannelInfo) -> SourceStamp | None:
    """The state of a file; ``None`` for what is no local file, or is gone."""
    try:
        return stat_source(info.path)
    except SourceMissingError:
        return None


def _state_of(info: ChannelInfo, stamp: SourceStamp) -> tuple[int | str, ...]:
    # The file system's number is left out: it is another one after the next mount.
    is_settled = stamp.is_settled(time.time_ns())
    return stamp[1:] if is_settled else (*stamp[1:], hash_file(info.path, "sha256"))
