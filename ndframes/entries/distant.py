"""Distant sources: objects that are read without an entry, by ranges if their format allows it."""

from __future__ import annotations

import time
import weakref
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from ..formats.images.sniff import sniff
from ..spec.kinds import is_video_path
from ..system.objects.object_file import ObjectStream
from ..system.process import IMPORTING
from .local_copy import local_copy, needs_copy
from .opened import OpenedChannel

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..formats.reader import Reader
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.objects.access import SourceAccess
    from ..system.stamp import SourceStamp
    from .source import SourceOpener

__all__ = ["open_object"]
_HEAD_BYTES = 64


def open_object(
    info: ChannelInfo,
    stamp: SourceStamp,
    backend: Backend | None,
    opener: SourceOpener,
    cache: Cache,
    access: SourceAccess,
) -> OpenedChannel:
    """Open an object itself: a TIFF by ranges; a file of another format by a copy, if its entry is missing or fails.

    Args:
        info: the object, and which of its images.
        stamp: its state.
        backend: the form of its entry; ``None``: there is none, and then nothing is copied unasked.
        opener: opens files.
        cache: tells where there is room for a copy.
        access: reads objects.

    Raises:
        BackendError: the object cannot be read by ranges, and there is no backend.
        SourceError: it cannot be read, or is in another state.
    """
    is_settled = stamp.is_settled(time.time_ns())
    stream = (
        None if info.driver is not None or is_video_path(info.path) else ObjectStream(access.open(info.path, stamp))
    )
    if stream is not None and sniff(stream.read_at(0, _HEAD_BYTES)) == "tiff":
        with IMPORTING:
            from ..formats.images.tiff.reader import TiffReader

        # Directories are read through the same stream, which has the first blocks now.
        chosen = {"page": info.page, "series": info.series}
        reader: Reader = TiffReader(info.path, **chosen, stamp=stamp, tiles=opener.tiles, stream=stream)  # type: ignore[arg-type]
        opener.tell_of_orientation(info, reader)
        return OpenedChannel(reader, stamp, is_settled=is_settled, object=stream.file)
    if backend is None:
        raise needs_copy(info)
    return OpenedChannel(_open_copy(info, stamp, opener, cache, access), stamp, is_settled=is_settled)


def _open_copy(
    info: ChannelInfo, stamp: SourceStamp, opener: SourceOpener, cache: Cache, access: SourceAccess
) -> Reader:
    """A reader of a copy of an object, which is removed when the reader is not needed any more."""
    with ExitStack() as stack:
        copy = stack.enter_context(local_copy(info.path, stamp, cache, access))
        reader = replace(opener, cache=None).open(info, copy.stamp, path=copy.path)
        weakref.finalize(reader, stack.pop_all().close)
    return reader
