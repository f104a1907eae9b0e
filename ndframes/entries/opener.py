"""Opener: from a channel's file to something that can be read, by way of the cache.

One way down: find the entry, or make it, and open it. What is found wrong on the way (an entry that is damaged, or of
another state of the source) is taken out of the way and made again; what keeps going wrong is read from the source.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from ..cache.keys import EntryKey, backend_id_of
from ..cache.trailer import open_trailer
from ..errors import (
    CacheEntryDamagedError,
    CacheEntryError,
    CacheEntryGoneError,
    SourceChangedError,
    SourceMissingError,
    UnreadableImageError,
)
from ..formats.frame import FrameReader
from ..spec.kinds import is_whole_video, whole_of
from ..system.memory import ClockCache
from ..system.process import IMPORTING, core_count
from ..system.stamp import SourceStamp, stat_source
from ..system.workers import WorkerPool
from .conversion import Conversion, Converted
from .convert import convert
from .opened import OpenedChannel
from .reader import EntryReader
from .source import SourceOpener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..cache.keys import Keyer
    from ..cache.store import Cache
    from ..cache.trailer import Trailer
    from ..errors import CacheError
    from ..formats.tiled.tile_cache import TileCache
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.handles import HandlePool
    from ..system.workers import Limits
    from .bytes import VerifyMode
    from .frame_index import Indexing

__all__ = ["BoundOpener", "ChannelOpener", "Survey", "WhenSourceMissing", "carry_out"]
#: What becomes of an image whose source is gone: an error, or what the cache has of it.
WhenSourceMissing = Literal["raise", "use"]
_log = logging.getLogger("ndframes")
_TRIES = 4
_MOST_REBUILDS = 1
_GIVEN_UP = 1 << 30
_VIDEO_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Survey:
    """What a channel needs in order to have its entry.

    Attributes:
        key: the entry, or the index of a video's frames; ``None`` where the source is read directly.
        conversion: what would make it; ``None`` where it is there.
    """

    key: EntryKey | None = None
    conversion: Conversion | Indexing | None = None


@dataclass
class ChannelOpener:
    """Opens channels for one ``Frames``, and remembers which entries went wrong.

    Attributes:
        cache: where entries are.
        keyer: makes their keys.
        pool: of open handles.
        verify: how much of an entry is checked while it is read.
        when_source_missing: whether the newest entry may stand for a source that is gone.
        tile_bytes: how much of the tiles decoded last is kept in memory.
        limits: what a child process that converts may use; ``None`` converts in this process.
    """

    cache: Cache
    keyer: Keyer
    pool: HandlePool
    verify: VerifyMode
    when_source_missing: WhenSourceMissing
    tile_bytes: int = 0
    limits: Limits | None = None
    _tiles: TileCache | None = None
    _videos: ClockCache[tuple[ChannelInfo, Backend | None, bool], OpenedChannel] = field(
        default_factory=lambda: ClockCache(_VIDEO_BYTES, _cost_of)
    )
    _rebuilds: dict[EntryKey, int] = field(default_factory=dict)

    def plan(self, info: ChannelInfo, backend: Backend | None) -> Conversion | None:
        """The conversion that gives ``info`` its entry in this form; ``None`` where the source is read directly.

        Raises:
            SourceError: there is no such source.
            HashidError: it cannot be keyed.
        """
        if backend is None:
            return None
        info, stamp = whole_of(info), _stamp(info)
        fields = self.keyer.fields(info, backend, stamp)
        return Conversion(self.cache, info, backend, EntryKey.from_fields(fields), fields, stamp, self.limits)

    def survey(self, info: ChannelInfo, backend: Backend | None) -> Survey:
        """Find out whether the entry is there, whole and of the source's present state; what is not, is put away."""
        try:
            conversion = self.plan(info, backend)
        except SourceMissingError:
            lost = None if backend is None else self._find_lost(info, backend)
            if lost is None:
                raise
            return Survey(lost[1])
        if conversion is None:
            return self._survey_index(whole_of(info)) if is_whole_video(whole_of(info)) else Survey()
        is_there = self._open_good_trailer(conversion) is not None
        return Survey(conversion.key, None if is_there else conversion)

    def _survey_index(self, video: ChannelInfo) -> Survey:
        with IMPORTING:
            from .frame_index import Indexing

        indexing = Indexing.plan(video, stat_source(video.path), self.cache)
        return Survey(indexing.key, None if indexing.find(self.pool) is not None else indexing)

    def open(self, info: ChannelInfo, backend: Backend | None) -> OpenedChannel:
        """Open the entry of ``info``, made before if need be; where that cannot be had whole, the source itself.

        Raises:
            SourceError: the source cannot be read.
            CacheError: the cache cannot be written.
        """
        if whole_of(info) is not info:
            return self._open_frame(info, backend, converts=True)
        return self._open_file(info, backend)

    def _open_file(self, info: ChannelInfo, backend: Backend | None) -> OpenedChannel:
        changed: SourceChangedError | None = None
        for _ in range(_TRIES):
            try:
                conversion = self.plan(info, backend)
            except SourceMissingError:
                lost = None if backend is None else self._open_lost(info, backend)
                if lost is None:
                    raise
                return lost
            if conversion is None:
                return self.open_source(info)
            opened = None if self._is_given_up(conversion.key) else self._open_entry(conversion)
            if opened is not None:
                return opened
            if self._is_given_up(conversion.key):
                return self.open_source(info)
            try:
                carry_out(conversion, threads=core_count())
                changed = None
            except SourceChangedError as error:
                changed = error
            except CacheEntryError as error:
                self._note_failure(conversion.key, error)
        if changed is not None:
            raise changed
        _log.warning("%s: its cache entry is gone each time that it is made; the source is read directly", info.path)
        return self.open_source(info)

    def open_as_is(self, info: ChannelInfo, backend: Backend | None) -> OpenedChannel:
        """Open the entry of ``info`` if it is there, else the source; convert nothing."""
        if whole_of(info) is not info:
            return self._open_frame(info, backend, converts=False)
        conversion = self.plan(info, backend)
        if conversion is None:
            return self.open_source(info)
        opened = None if self._is_given_up(conversion.key) else self._open_entry(conversion)
        return opened or replace(self.open_source(info), entry_path=self.cache.path(conversion.key))

    def open_source(self, info: ChannelInfo) -> OpenedChannel:
        """Open the source itself."""
        stamp = _stamp(info)
        reader = SourceOpener(self.cache, self.pool, self.tile_bytes).open(info, stamp)
        return OpenedChannel(reader, stamp, is_settled=_is_settled(stamp))

    def reopen(
        self, info: ChannelInfo, backend: Backend | None, opened: OpenedChannel, error: Exception, *, directly: bool
    ) -> OpenedChannel:
        """Open again what failed while it was read: the entry, put away first where it is damaged, or the source."""
        for converts in (True, False):
            self._videos.discard((whole_of(info), backend, converts))
        reader = opened.reader.video if isinstance(opened.reader, FrameReader) else opened.reader
        if isinstance(error, CacheEntryDamagedError) and isinstance(reader, EntryReader):
            self._put_away(reader.key, error, reader.stamp)
        return self.open_source(info) if directly else self.open(info, backend)

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """Whether what was opened is still what would be opened now.

        A source that was changed within the two seconds before it was opened is always opened again: its stamp would
        not show another change.
        """
        if opened.stamp is None and not opened.is_lost:
            return True
        try:
            stamp = stat_source(info.path)
        except SourceMissingError:
            if self.when_source_missing == "use" and opened.is_cached:
                return True
            raise
        return opened.is_settled and stamp == opened.stamp

    def _open_frame(self, info: ChannelInfo, backend: Backend | None, *, converts: bool) -> OpenedChannel:
        """One frame of a video, which is opened once for all that are read of it."""
        whole = whole_of(info)
        opened = self._videos.get((whole, backend, converts))
        if opened is None or not self.is_current(whole, opened) or _has_entry_now(opened):
            opened = (self._open_file if converts else self.open_as_is)(whole, backend)
            self._videos.put((whole, backend, converts), opened)
        return replace(opened, reader=FrameReader(opened.reader, info.page or 0, path=info.path))

    # -- entries --------------------------------------------------------------------------------------------------

    def _open_entry(self, conversion: Conversion) -> OpenedChannel | None:
        """The entry, if it is there, whole and of this state of the source."""
        path, key = self.cache.path(conversion.key), conversion.key
        try:
            reader = self._read_entry(path, key)
        except CacheEntryGoneError:
            return None
        except CacheEntryDamagedError as error:
            self._put_away(key, error)
            return None
        except CacheEntryError as error:
            self._note_failure(key, error, is_final=True)
            return None
        if not self._is_of_source(conversion, reader.trailer):
            self._drop_stale(conversion, reader.stamp)
            return None
        self.cache.note_use(path, reader.stamp.mtime_ns)
        is_settled = conversion.fields["mode"] == "GIVEN" or _is_settled(conversion.stamp)
        return OpenedChannel(reader, conversion.stamp, path, is_cached=True, is_settled=is_settled)

    def _read_entry(self, path: Path, key: EntryKey) -> EntryReader:
        if self._tiles is None and key.suffix != ".npy":
            with IMPORTING:
                from ..formats.tiled.tile_cache import TileCache

            self._tiles = TileCache(self.tile_bytes)
        return EntryReader(path, key, self.cache.files, self.pool, verify=self.verify, tiles=self._tiles)

    def _open_good_trailer(self, conversion: Conversion) -> Trailer | None:
        """As :meth:`_open_entry`, without the pixels."""
        path = self.cache.path(conversion.key)
        try:
            trailer, stamp = self.pool.open(lambda: open_trailer(str(path), conversion.key, self.cache.files))
        except CacheEntryGoneError:
            return None
        except CacheEntryDamagedError as error:
            self._put_away(conversion.key, error)
            return None
        if not self._is_of_source(conversion, trailer):
            self._drop_stale(conversion, stamp)
            return None
        return trailer

    def _is_of_source(self, conversion: Conversion, trailer: Trailer) -> bool:
        """Whether the entry was made of what the source is now.

        A key by path says size and time of change. The rest decides here: where inode and ctime are those of the
        conversion too, and were sure to change with the file, nothing changed; else the content is compared.
        """
        seen, stamp = trailer.meta["source"], conversion.stamp
        if conversion.fields["mode"] != "PATH" or stamp is None:
            return True
        if seen is None:
            return False
        then = SourceStamp(*seen["stamp"])
        # The file system's number is left out: it is another one after the next mount.
        if seen["is_settled"] and then[1:] == stamp[1:]:
            return True
        path = os.path.realpath(conversion.info.path)
        is_equal: bool = self.keyer.contents.digest(path, "sha256", stamp) == seen["sha256"]
        return is_equal

    def _drop_stale(self, conversion: Conversion, stamp: SourceStamp) -> None:
        _log.info(
            "%s: its content changed though its size and time did not; its entry is made anew", conversion.info.path
        )
        if not self.cache.discard(self.cache.path(conversion.key), stamp):
            self._give_up(conversion.key)

    def _put_away(self, key: EntryKey, error: CacheError, stamp: SourceStamp | None = None) -> None:
        """A damaged entry goes to quarantine, once; if it cannot, or comes back damaged, the source is read from now on."""
        is_away = self.cache.quarantine(self.cache.path(key), stamp)
        self._note_failure(key, error, is_final=not is_away)

    def _note_failure(self, key: EntryKey, error: CacheError, *, is_final: bool = False) -> None:
        _log.warning("%s", error)
        self._rebuilds[key] = self._rebuilds.get(key, 0) + 1
        if is_final or self._rebuilds[key] > _MOST_REBUILDS:
            self._give_up(key)

    def _give_up(self, key: EntryKey) -> None:
        _log.warning("%s cannot be had whole; from now on the source is read directly", self.cache.path(key))
        self._rebuilds[key] = _GIVEN_UP

    def _is_given_up(self, key: EntryKey) -> bool:
        return self._rebuilds.get(key, 0) >= _GIVEN_UP

    # -- sources that are gone ------------------------------------------------------------------------------------

    def _find_lost(self, info: ChannelInfo, backend: Backend) -> tuple[Path, EntryKey] | None:
        """The newest whole entry of a source that is gone, if it may stand for it."""
        source_id = self.keyer.lost_source_id(info) if self.when_source_missing == "use" else None
        if source_id is None:
            return None
        for entry in self.cache.ls_source(backend_id_of(backend), source_id):
            try:
                open_trailer(str(entry.path), entry.key, self.cache.files)
            except CacheEntryError as error:
                _log.warning("%s", error)
                continue
            return entry.path, entry.key
        return None

    def _open_lost(self, info: ChannelInfo, backend: Backend) -> OpenedChannel | None:
        found = self._find_lost(info, backend)
        if found is None:
            return None
        _log.warning("%s does not exist; its cache entry is read in its place", info.path)
        reader = self._read_entry(*found)
        return OpenedChannel(reader, None, found[0], is_cached=True, is_lost=True)


@dataclass(frozen=True, slots=True)
class BoundOpener:
    """The opener of one image: it knows which backend each of its channels wants.

    Attributes:
        opener: opens any channel.
        pick: the backend of a channel.
        converts: whether what is missing in the cache is made, or its source read.
    """

    opener: ChannelOpener
    pick: Callable[[ChannelInfo], Backend | None]
    converts: bool = True

    def open(self, info: ChannelInfo) -> OpenedChannel:
        """As :meth:`ChannelOpener.open`."""
        open_channel = self.opener.open if self.converts else self.opener.open_as_is
        return self._with_files_to_spare(partial(open_channel, info, self.pick(info)))

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        """As :meth:`ChannelOpener.reopen`."""
        reopen = partial(self.opener.reopen, info, self.pick(info), opened, error, directly=directly)
        return self._with_files_to_spare(reopen)

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """As :meth:`ChannelOpener.is_current`."""
        return self.opener.is_current(info, opened)

    def _with_files_to_spare(self, open_channel: Callable[[], OpenedChannel]) -> OpenedChannel:
        """Where too many files are open, the idle ones make room for what opening takes: keys, conversions and imports too."""
        return self.opener.pool.open(open_channel)


def carry_out(
    conversion: Conversion | Indexing, *, threads: int = 1, progress: Callable[[float], None] | None = None
) -> Converted:
    """Do a conversion, here or, where it has limits, in a child process of its own.

    Raises:
        WorkerCrashError: the child died, of a limit or of the file.
        UnreadableImageError: the file took more memory than the limit allows; or whatever :func:`convert` raises.
    """
    if not isinstance(conversion, Conversion):
        written = conversion.carry_out()
        return Converted(conversion.cache.path(conversion.key), bool(written), written)
    if conversion.limits is None:
        return convert(conversion, threads=threads, progress=progress)
    pool = WorkerPool(1, limits=conversion.limits)
    try:
        done: Converted = pool.submit(convert, conversion, threads=threads).result()
    except MemoryError as error:
        pool.shutdown()
        raise UnreadableImageError(
            f"{conversion.info.path} took more than {conversion.limits.memory_bytes:,} bytes to convert; "
            "allow more by isolate=Limits(memory_bytes=...) if the file is to be trusted"
        ) from error
    except BaseException:
        pool.terminate()
        raise
    pool.shutdown()
    return done


def _stamp(info: ChannelInfo) -> SourceStamp | None:
    """The source's state; ``None`` for what only a named driver can find, such as a ``/vsi`` path."""
    if info.driver is not None and not os.path.exists(info.path):
        return None
    return stat_source(info.path)


def _has_entry_now(opened: OpenedChannel) -> bool:
    """Whether the entry was made since the source was opened in its place."""
    return not opened.is_cached and opened.entry_path is not None and opened.entry_path.exists()


def _cost_of(opened: OpenedChannel) -> int:
    return opened.reader.memory_bytes


def _is_settled(stamp: SourceStamp | None) -> bool:
    return stamp is None or stamp.is_settled(time.time_ns())
