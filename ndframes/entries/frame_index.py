"""Frame indexes: the index of a video's frames is made once and kept in the cache, for all processes."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..cache.keys import EntryKey, Keyer, digest_form
from ..cache.trailer import append_trailer
from ..errors import (
    CacheEntryError,
    CacheEntryGoneError,
    CacheError,
    SourceChangedError,
    SourceMissingError,
    StoreError,
)
from ..formats.images.animation import is_animation, scan_animation
from ..formats.images.arrays import ArrayReader
from ..formats.tiled.npy_writer import write_npy
from ..spec.backends import Backend
from ..spec.kinds import is_video_path
from ..system.handles import HandlePool
from ..system.stamp import SourceStamp, guard_opening, stat_source
from ..video.decoder import VideoDecoder
from ..video.index import FrameForm, FrameIndex, naming_video
from ..video.indexing import build_index
from ..video.landings import NO_MARK
from .jobs import JobResult
from .reader import EntryReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..cache.cache import Cache
    from ..spec.pathinfo import ChannelInfo

__all__ = ["Indexing", "find_index"]
_log = logging.getLogger("ndframes")
# Part of the key: it changes whenever the same video gives another table, so that old entries are not read.
_TABLE_VERSION = 6
_FORM = {"type": "npy", "holds": f"frame index {_TABLE_VERSION}"}
_POLL_SECONDS = 0.1
# Below all times and file positions.
_NO_SEEK = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Indexing:
    """A job that indexes the frames of a video. Pickles with everything that another process needs.

    Attributes:
        cache: where the index goes.
        info: the video.
        key: the name of the index.
        fields: the values of which the key is a digest.
        stamp: the video's state at the time of the key.
        limits: always ``None``: the index is made in the calling process.
    """

    cache: Cache
    info: ChannelInfo
    key: EntryKey
    fields: Mapping[str, Any]
    stamp: SourceStamp
    limits: None = None

    @classmethod
    def plan(cls, info: ChannelInfo, stamp: SourceStamp, cache: Cache) -> Indexing:
        """The job that indexes a video in this state."""
        video = _file_of(info)
        fields = {**Keyer("PATH").fields(video, Backend(type="npy"), stamp), "backend": _FORM}
        return cls(cache, video, EntryKey.from_fields(fields), fields, stamp)

    def find(self, pool: HandlePool) -> FrameIndex | None:
        """The index, or ``None`` if it is not in the cache."""
        return _read(self.cache, self.key, self.stamp, pool)

    def build(self, pool: HandlePool) -> FrameIndex:
        """Find every frame of the video, and put the index into the cache unless the file has just changed.

        Raises:
            SourceError: the file is not a video that can be decoded, or it changed meanwhile.
        """
        index = _scan(self.info, self.stamp, pool)
        # Another change so soon may leave the stamp as it is: the cached index would then be taken for that of the new file.
        if not self.stamp.is_settled(time.time_ns()):
            return index
        # The form takes a decoded frame. It is stored with the index, so that opening a video decodes nothing.
        if index.form is None:
            index = replace(index, form=VideoDecoder(self.info.path, index, pool).form)
        # Checked after both scans of the file, so that they have read the same content.
        if stat_source(self.info.path) != self.stamp:
            raise SourceChangedError(
                f"{self.info.path} changed while its frames were indexed; try again when it is no longer written"
            )
        _publish(self.cache, self.key, self.fields, self.stamp, index, self.info.path)
        return index

    def run(self, *, threads: int = 1, progress: Callable[[float], None] | None = None) -> JobResult:  # noqa: ARG002
        """Wait until the file has been unchanged for two seconds, so that its stamp identifies it; then index it.

        Args:
            threads: not used: one thread scans a container.
            progress: not called: the number of packets is known only at the end.

        Raises:
            SourceError: as :meth:`build`.
        """
        pool = HandlePool(max_idle=2)
        try:
            while not self.stamp.is_settled(time.time_ns()):
                time.sleep(_POLL_SECONDS)
            self.build(pool)
        finally:
            pool.close()
        path = self.cache.path(self.key)
        # build() only logs a warning if the cache cannot be written.
        status = self.cache.files.status(str(path))
        bytes_written = 0 if status is None else status.size_bytes
        return JobResult(path, bool(bytes_written), bytes_written)


def find_index(info: ChannelInfo, stamp: SourceStamp | None, cache: Cache | None, pool: HandlePool) -> FrameIndex:
    """The index of a video, from the cache; otherwise it is made and put there.

    A video that changed within the last two seconds is indexed each time: its stamp would not show another change.

    Args:
        info: the video.
        stamp: its state; ``None`` if the file is gone, and the newest index in the cache is to be used.
        cache: holds the indexes; ``None``: the index is made, and not kept.
        pool: lends open handles.

    Raises:
        SourceError: the file is not a video that can be decoded, or it changed meanwhile.
    """
    if cache is None:
        assert stamp is not None  # noqa: S101 - only a cache has the index of a file that is gone
        return _scan(info, stamp, pool)
    if stamp is None:
        return _find_lost(info, cache, pool)
    indexing = Indexing.plan(info, stamp, cache)
    found = indexing.find(pool) if stamp.is_settled(time.time_ns()) else None
    return found or indexing.build(pool)


def _scan(info: ChannelInfo, stamp: SourceStamp, pool: HandlePool) -> FrameIndex:
    """The index of a video or an animation, from its file."""
    # read_video() accepts videos with any suffix.
    if not is_video_path(info.path) and is_animation(info.path):
        return _index_animation(info.path, stamp, pool)
    # Proofs decode and convert frames. The file is opened several times.
    with guard_opening(info.path, stamp)(), naming_video(info.path):
        return pool.open(partial(build_index, info.path, stream=info.series))


def _index_animation(path: str, stamp: SourceStamp, pool: HandlePool) -> FrameIndex:
    """The index of an animation, whose frames can only be composed from the first one on; times in milliseconds."""
    form = scan_animation(path, pool, stamp)
    durations = np.array(form.durations_ms, np.int64)
    return FrameIndex(
        times=np.cumsum(durations) - durations,
        has_exact_times=True,
        keys=np.zeros(1, np.int64),
        seeks=np.zeros(1, np.int64),
        how="pts",
        time_base=Fraction(1, 1000),
        stream=0,
        rate=Fraction(1000 * len(durations), int(durations.sum())),
        form=FrameForm(form.shape, np.dtype(np.uint8)),
        marks=np.full(1, NO_MARK),
        drops=np.zeros(1, np.int64),
    )


def _file_of(info: ChannelInfo) -> ChannelInfo:
    """The channel without the options that change how frames are decoded, but not where they are."""
    return replace(info, page=None, pixel_format=None, frame_errors="raise")


def _find_lost(info: ChannelInfo, cache: Cache, pool: HandlePool) -> FrameIndex:
    """The newest index of a video whose file is gone."""
    source_id = Keyer("PATH").lost_source_id(_file_of(info))
    if source_id is not None:
        for entry in cache.ls_source(digest_form(_FORM), source_id):
            found = _read(cache, entry.key, None, pool)
            if found is not None:
                return found
    raise SourceMissingError(f"{info.path} does not exist, and the cache has no index of its frames; check the path")


def _read(cache: Cache, key: EntryKey, stamp: SourceStamp | None, pool: HandlePool) -> FrameIndex | None:
    """The index in the cache; a damaged one, or one of another state of the video, is removed."""
    path = cache.path(key)
    try:
        reader = EntryReader(path, key, cache.files, pool, verify="first-touch")
        meta = reader.trailer.meta
        # Without the number of the file system: it changes with every mount.
        if stamp is None or SourceStamp(*meta["source"]["stamp"])[1:] == stamp[1:]:
            index = _from_table(reader.read_all()[:, :, 0], meta["video"])
            cache.note_use(path, reader.stamp.mtime_ns)
            return index
        cache.discard(path, reader.stamp)
    # The usual case: the index was not made yet.
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
        manifest = write_npy(file, ArrayReader(path, table, format="frame index"))
        meta = {
            "key": dict(fields),
            "source": {"path": os.path.realpath(path), "stamp": list(stamp), "sha256": None, "is_settled": True},
            "shape": [*table.shape, 1],
            "dtype": table.dtype.str,
            "nodata": None,
            "layout": dict(manifest.layout),
            "video": _describe(index),
            "created_ns": time.time_ns(),
        }
        append_trailer(file, manifest.segments, meta)

    try:
        cache.publish(key, write, estimated_bytes=table.nbytes + 4096)
    except (
        CacheError,
        StoreError,
    ) as error:  # the index is complete without its entry, which only saves the next process some time
        _log.warning("%s: the index of its frames could not be cached: %s", path, error)


def _to_table(index: FrameIndex) -> np.ndarray[Any, np.dtype[np.int64]]:
    """One row per frame: its time; for an entry point where to seek, the mark of the packet there, the frames to drop.

    Further columns are digests, and the bits of the times of fields, if there are any.
    """
    columns = [] if index.digests is None else [index.digests]
    if index.field_times is not None:
        columns.append(index.field_times.view(np.int64))
    table = np.full((len(index), 4 + len(columns)), _NO_SEEK, np.int64)
    table[:, 0] = index.times
    for place, column in enumerate(columns, 4):
        table[:, place] = column
    table[index.keys, 1:4] = np.stack([index.seeks, index.marks, index.drops], axis=1)
    return table


def _from_table(table: np.ndarray[Any, np.dtype[np.int64]], described: Mapping[str, Any]) -> FrameIndex:
    keys = np.flatnonzero(table[:, 1] != _NO_SEEK)
    # Copies: a view of one column would keep the whole table in memory.
    columns = [np.ascontiguousarray(table[:, place]) for place in range(4, table.shape[1])]
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
        needs_new_decoder=described["needs_new_decoder"],
        form=FrameForm(tuple(described["shape"]), np.dtype(described["dtype"])),
        marks=table[keys, 2],
        drops=table[keys, 3],
        digests=columns[0] if described["has_digests"] else None,
        field_times=columns[-1].view(np.float64) if described["has_field_times"] else None,
    )


def _describe(index: FrameIndex) -> dict[str, Any]:
    """The fields of an index that are not per frame, as plain data."""
    assert index.form is not None  # noqa: S101
    return {
        "has_exact_times": index.has_exact_times,
        "how": index.how,
        "time_base": index.time_base.as_integer_ratio(),
        "stream": index.stream,
        "rate": None if index.rate is None else index.rate.as_integer_ratio(),
        "is_gray": index.is_gray,
        "opens_unprobed": index.opens_unprobed,
        "needs_new_decoder": index.needs_new_decoder,
        "has_digests": index.digests is not None,
        "has_field_times": index.field_times is not None,
        "shape": list(index.form.shape),
        "dtype": index.form.dtype.str,
    }
