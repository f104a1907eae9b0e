"""Open the payload of an entry: its bytes before the trailer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.reader import ReaderFacts
from ..spec.nodata import pack_nodata, unpack_nodata
from ..system.process import IMPORTING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._typing import Array
    from ..formats.reader import Reader
    from ..formats.tiled.tile_cache import TileCache
    from ..formats.tiled.tile_reader import SegmentFile
    from ..system.handles import HandlePool
    from ..system.stamp import SourceStamp

__all__ = ["WrittenFile", "describe_pixels", "open_frames", "open_payload", "parse_pixels"]
_TILE_BYTES = 64 * 2**20


def describe_pixels(facts: ReaderFacts) -> dict[str, Any]:
    """Describe pixels for the trailer of their entry.

    A trailer counts the rows of all frames of a video, as of one tall image. That is how entries are written since the
    first version; nothing else counts rows like this.
    """
    height, width, bands = facts.shape
    return {
        "shape": [height if facts.frame_count is None else facts.frame_count * height, width, bands],
        "dtype": facts.dtype.str,
        "nodata": pack_nodata(facts.nodata),
        "frames": facts.frame_count,
        **({} if facts.channels is None else {"channels": list(facts.channels)}),
        # The pixels are stored as in the source: a read turns them, so that one entry serves both orientations.
        "orientation": facts.orientation,
    }


def parse_pixels(meta: Mapping[str, Any]) -> ReaderFacts:
    """Read back what :func:`describe_pixels` wrote. The blocks are not in it: the payload's reader finds them."""
    (rows, width, bands), frame_count = meta["shape"], meta.get("frames")  # an index of frames has no "frames"
    height = rows if frame_count is None else rows // frame_count
    return ReaderFacts(
        format="entry",
        shape=(height, width, bands),
        dtype=np.dtype(meta["dtype"]),
        tile_shape=(height, width),
        nodata=unpack_nodata(meta.get("nodata")),
        frame_count=frame_count,
        channels=tuple(meta["channels"]) if "channels" in meta else None,
        # Older entries do not tell; 0 is no orientation.
        orientation=meta.get("orientation", 0),
    )


def open_payload(
    path: str, suffix: str, pool: HandlePool, *, stamp: SourceStamp | None = None, has_frames: bool = False
) -> Reader:
    """Open a payload like a file of any other program: a COG by its directories, a ``.npy`` by its header, no trailer.

    Args:
        path: the file.
        suffix: the ending of its name.
        pool: keeps the open handles.
        stamp: the file that ``path`` must be whenever it is opened; ``None`` accepts any.
        has_frames: whether a ``.npy`` is a video.
    """
    if suffix == ".npy":
        with IMPORTING:
            from ..formats.images.arrays import NpyReader

        return NpyReader(path, pool, stamp=stamp, has_frames=has_frames)
    with IMPORTING:
        from ..formats.images.tiff.reader import TiffReader

    return TiffReader(path, pool=pool, stamp=stamp)


def open_frames(
    path: str,
    layout: Mapping[str, Any],
    facts: ReaderFacts,
    file: SegmentFile,
    tiles: TileCache | None,
    pool: HandlePool,
) -> Reader:
    """Open the payload of a video: tiles in space and time, or key frames.

    Args:
        path: the file, for messages.
        layout: which pixels each segment holds; see :class:`~ndframes.system.segments.Manifest`.
        facts: shape, dtype and number of frames of the video.
        file: the segments.
        tiles: stores decoded tiles and frames; ``None`` creates a small cache.
        pool: keeps the decoders.
    """
    with IMPORTING:
        from ..formats.tiled.tile_cache import TileCache

    # Without a cache, a tile of many frames would be decoded once for each of them.
    cache = TileCache(_TILE_BYTES) if tiles is None else tiles
    if "volume" in layout:
        with IMPORTING:
            from ..formats.tiled.volume_reader import VolumeReader

        return VolumeReader(path, layout, facts.dtype, facts.shape[2], file, cache)
    with IMPORTING:
        from ..video.intra import IntraReader

    return IntraReader(path, layout, facts, file, cache, pool)


class WrittenFile:
    """The segments of a file that was written, but has no trailer yet.

    Args:
        path: the file.
        segments: array of :data:`~ndframes.system.segments.SEGMENT_DTYPE`.
    """

    def __init__(self, path: str, segments: Array) -> None:
        self._path = path
        self._segments = segments

    @property
    def is_distant(self) -> bool:
        """``False``: the file is on a disk."""
        return False

    def read_ahead(self, indices: Sequence[int], *, is_batch: bool = False) -> bool:  # noqa: ARG002
        """Do nothing: the file has just been written, and is in memory."""
        return False

    def read(self, index: int) -> bytes:
        """The bytes of one segment."""
        offset, length, _ = self._segments[index].tolist()
        with open(self._path, "rb") as file:
            file.seek(offset)
            return file.read(length)
