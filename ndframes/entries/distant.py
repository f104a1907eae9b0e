"""Distant sources: objects that are read by ranges, without a copy on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..formats.images.sniff import sniff
from ..spec.kinds import is_video_path
from ..system.objects.object_file import ObjectStream
from ..system.process import IMPORTING
from .opened import OpenedChannel

if TYPE_CHECKING:
    from ..formats.tiled.tile_cache import TileCache
    from ..spec.pathinfo import ChannelInfo
    from ..system.objects.access import SourceAccess
    from ..system.stamp import SourceStamp

__all__ = ["open_distant"]
_HEAD_BYTES = 64


def open_distant(
    info: ChannelInfo, stamp: SourceStamp, access: SourceAccess, tiles: TileCache | None
) -> OpenedChannel | None:
    """Open an object that can be read by ranges: a TIFF. ``None`` if it is of another format.

    Args:
        info: the object, and which of its images.
        stamp: its state.
        access: reads it.
        tiles: stores decoded blocks.

    Raises:
        SourceError: it cannot be read, or is in another state.
    """
    if info.driver is not None or is_video_path(info.path):
        return None
    file = access.open(info.path, stamp)
    # Directories are read through the same stream, which has the first blocks then.
    stream = ObjectStream(file)
    if sniff(stream.read_at(0, _HEAD_BYTES)) != "tiff":
        return None
    with IMPORTING:
        from ..formats.images.tiff.reader import TiffReader

    reader = TiffReader(info.path, page=info.page, series=info.series, stamp=stamp, tiles=tiles, stream=stream)
    return OpenedChannel(reader, stamp, is_settled=stamp.is_settled(time.time_ns()), object=file)
