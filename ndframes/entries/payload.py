"""Payloads: the bytes of an entry before its trailer, opened for crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..system.process import IMPORTING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from .._typing import Array
    from ..formats.reader import Reader
    from ..formats.tiled.tile_cache import TileCache
    from ..system.handles import HandlePool
    from ..system.stamp import SourceStamp

__all__ = ["PayloadFile", "open_frames", "open_payload"]
_TILE_BYTES = 64 * 2**20


def open_payload(
    path: str, suffix: str, pool: HandlePool, *, stamp: SourceStamp | None = None, has_frames: bool = False
) -> Reader:
    """Open the COG or ``.npy`` of an entry by what reads any such file, as its name says; its trailer is not looked at.

    Args:
        path: the file.
        suffix: of its name.
        pool: lends the handles.
        stamp: which file it is.
        has_frames: whether the ``.npy`` is a video.
    """
    if suffix == ".npy":
        with IMPORTING:
            from ..formats.images.arrays import NpyReader

        return NpyReader(path, pool, stamp=stamp, has_frames=has_frames)
    with IMPORTING:
        from ..formats.images.raster import RasterReader

    return RasterReader(path, "GTiff", pool, stamp=stamp)


def open_frames(
    path: str,
    layout: Mapping[str, Any],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    frame_count: int,
    source: Any,
    tiles: TileCache | None,
    pool: HandlePool,
) -> Reader:
    """Open a video's tiles in space and time, or its key frames.

    Args:
        path: the file, for messages.
        layout: what its writer says of it; see :class:`~ndframes.system.segments.Manifest`.
        shape: ``(frames * height, width, channels)``.
        dtype: of the pixels.
        frame_count: how many frames there are.
        source: where the bytes of segments come from.
        tiles: keeps what is decoded; ``None``: a little of it.
        pool: lends decoders.
    """
    with IMPORTING:
        from ..formats.tiled.tile_cache import TileCache

    cache = TileCache(_TILE_BYTES) if tiles is None else tiles
    if "volume" in layout:
        with IMPORTING:
            from ..formats.tiled.volume_reader import VolumeReader

        return VolumeReader(path, layout, dtype, shape[2], source, cache)
    with IMPORTING:
        from ..video.intra import IntraReader

    return IntraReader(path, layout, shape, dtype, frame_count, source, cache, pool)


class PayloadFile:
    """The segments of a file that has no trailer yet.

    Args:
        path: the file.
        segments: see :class:`~ndframes.system.segments.Manifest`.
    """

    def __init__(self, path: str, segments: Array) -> None:
        self._path = path
        self._segments = segments

    def read(self, index: int) -> bytes:
        """The bytes of one segment."""
        offset, length, _ = self._segments[index].tolist()
        with open(self._path, "rb") as file:
            file.seek(offset)
            return file.read(length)
