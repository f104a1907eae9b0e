"""Indexes of frames in the cache: found once, shared by processes, an entry like any other."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..backends import Backend
from ..cache.keys import EntryKey, Keyer, digest_form
from ..cache.trailer import append_trailer
from ..entry import EntryReader
from ..errors import CacheEntryError, CacheEntryGoneError, CacheError, SourceChangedError, SourceMissingError
from ..formats.arrays import ArrayReader
from ..formats.npy import write_npy
from ..stamp import SourceStamp, stat_source
from .index import FrameForm, FrameIndex, build_index
from .reader import VideoReader

if TYPE_CHECKING:
    from ..cache.store import Cache
    from ..formats.handles import HandlePool
    from ..pathinfo import ChannelInfo

__all__ = ["find_index"]

_log = logging.getLogger("ndframes")
# Part of the key: another number where the same video would give another table.
_TABLE_VERSION = 2
_FORM = {"type": "npy", "holds": f"frame index {_TABLE_VERSION}"}
_NO_SEEK = -(1 << 62)


def find_index(info: ChannelInfo, stamp: SourceStamp | None, cache: Cache, pool: HandlePool) -> FrameIndex:
    """The index of a video: from the cache, or made and put there.

    A video that was changed within the last two seconds is indexed each time: its stamp would not show another change.

    Args:
        info: the video.
        stamp: its state; ``None`` where it is gone, so that only the cache can tell.
        cache: where indexes are.
        pool: lends handles.

    Raises:
        SourceError: it is no video that decodes, or it changed meanwhile.
        CacheError: the cache cannot be written.
    """
    info = replace(
        info, pixel_format=None, frame_errors="raise"
    )  # however its frames are read, they are where they are
    if stamp is None:
        return _find_lost(info, cache, pool)
    if not stamp.is_settled(time.time_ns()):
        return build_index(info.path, stream=info.series)
    fields = {**Keyer("PATH").fields(info, Backend(type="npy"), stamp), "backend": _FORM}
    key = EntryKey.from_fields(fields)
    found = _read(cache, key, stamp, pool)
    if found is not None:
        return found
    index = build_index(info.path, stream=info.series)
    index = replace(index, form=VideoReader(info.path, index, pool).form)
    if stat_source(info.path) != stamp:
        raise SourceChangedError(f"{info.path} changed while its frames were being found; try again when it rests")
    _publish(cache, key, fields, stamp, index, info.path)
    return index


def _find_lost(info: ChannelInfo, cache: Cache, pool: HandlePool) -> FrameIndex:
    """The newest index of a video that is gone."""
    source_id = Keyer("PATH").lost_source_id(info)
    if source_id is not None:
        for entry in cache.ls_source(digest_form(_FORM), source_id):
            found = _read(cache, entry.key, None, pool)
            if found is not None:
                return found
    raise SourceMissingError(f"{info.path} does not exist, and the cache has no index of its frames; check the path")


def _read(cache: Cache, key: EntryKey, stamp: SourceStamp | None, pool: HandlePool) -> FrameIndex | None:
    """The index that the cache has, if it is whole and of this state of the video; else it is put away."""
    path = cache.path(key)
    try:
        reader = EntryReader(path, key, cache.files, pool, verify="first-touch")
        meta = reader.trailer.meta
        if stamp is None or SourceStamp(*meta["source"]["stamp"])[1:] == stamp[1:]:
            index = _from_table(reader.read_all()[:, :, 0], meta["video"])
            cache.note_use(path, reader.stamp.mtime_ns)
            return index
        cache.discard(path, reader.stamp)
    except CacheEntryGoneError:
        pass
    except CacheEntryError as error:
        _log.warning("%s", error)
        cache.quarantine(path, None)
    return None


def _publish(
    cache: Cache, key: EntryKey, fields: Mapping[str, Any], stamp: SourceStamp, index: FrameIndex, path: str
) -> None:
    table = _to_table(index)

    def write(file: IO[bytes]) -> None:
        payload = write_npy(file, ArrayReader(path, table, format="frame index"))
        meta = {
            "key": dict(fields),
            "source": {"path": os.path.realpath(path), "stamp": list(stamp), "sha256": None, "is_settled": True},
            "shape": [*table.shape, 1],
            "dtype": table.dtype.str,
            "nodata": None,
            "layout": dict(payload.layout),
            "video": _describe(index),
            "created_ns": time.time_ns(),
        }
        append_trailer(file, payload.segments, meta)

    try:
        cache.publish(key, write, estimated_bytes=table.nbytes + 4096)
    except CacheError as error:  # it is known now, and can be found again
        _log.warning("the index of %s is not kept: %s", path, error)


def _to_table(index: FrameIndex) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A row a frame: its time, and what to seek to if it is a key frame."""
    table = np.full((len(index), 2), _NO_SEEK, np.int64)
    table[:, 0] = index.times
    table[index.keys, 1] = index.seeks
    return table


def _from_table(table: np.ndarray[Any, np.dtype[np.int64]], described: Mapping[str, Any]) -> FrameIndex:
    keys = np.flatnonzero(table[:, 1] != _NO_SEEK)
    return FrameIndex(
        times=np.ascontiguousarray(table[:, 0]),
        has_exact_times=described["has_exact_times"],
        keys=keys.astype(np.int64),
        seeks=table[keys, 1],
        how=described["how"],
        time_base=Fraction(*described["time_base"]),
        stream=described["stream"],
        rate=None if described["rate"] is None else Fraction(*described["rate"]),
        is_gray=described["is_gray"],
        opens_unprobed=described["opens_unprobed"],
        form=FrameForm(tuple(described["shape"]), np.dtype(described["dtype"])),
    )


def _describe(index: FrameIndex) -> dict[str, Any]:
    """What is not said of single frames, as plain data."""
    assert index.form is not None  # noqa: S101
    return {
        "has_exact_times": index.has_exact_times,
        "how": index.how,
        "time_base": index.time_base.as_integer_ratio(),
        "stream": index.stream,
        "rate": None if index.rate is None else index.rate.as_integer_ratio(),
        "is_gray": index.is_gray,
        "opens_unprobed": index.opens_unprobed,
        "shape": list(index.form.shape),
        "dtype": index.form.dtype.str,
    }
