"""Opener: from a channel's file to a reader, by way of the cache.

To open a file, find its entry, or make it, and open the entry. An entry that is damaged, or of another state of the
source, is moved away and made again. If it fails again, the source is read directly.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..cache.keys import EntryKey, Keyer, backend_id_of
from ..cache.trailer import open_trailer
from ..errors import (
    CacheEntryDamagedError,
    CacheEntryError,
    CacheEntryGoneError,
    CacheError,
    SourceChangedError,
    SourceMissingError,
)
from ..formats.frame import FrameReader
from ..formats.upright import UprightReader
from ..spec.kinds import is_whole_video, whole_file_of
from ..system.memory import ClockCache
from ..system.objects.access import SourceAccess
from ..system.objects.addresses import is_url
from ..system.objects.rules import check_driver_path, check_object_driver
from ..system.process import IMPORTING, core_count
from ..system.sources import real_path
from ..system.stamp import SourceStamp
from ..system.waiting import check_may_open
from .conversion import Conversion
from .jobs import CONVERTING, run_job
from .local_copy import needs_copy
from .opened import OpenedChannel
from .reader import EntryReader
from .source import SourceOpener

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..cache.store import EntryPath
    from ..cache.trailer import Trailer
    from ..formats.tiled.tile_cache import TileCache
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.handles import HandlePool
    from ..system.workers import Limits
    from .bytes import VerifyMode
    from .jobs import Job

__all__ = ["BoundOpener", "ChannelOpener", "Survey", "WhenSourceMissing"]
#: What to do if the source of a read is gone: raise an error, or use the newest cache entry.
WhenSourceMissing = Literal["raise", "use"]

_log = logging.getLogger("ndframes")
_TRIES = 4
_MOST_REBUILDS = 1
# A read that takes longer than this to convert its file says so.
_SLOW_SECONDS = 2.0
# Beyond every count of failures.
_GIVEN_UP = 1 << 30
_VIDEO_BYTES = 64 * 2**20
# Before a survey, the objects are looked at all together.
_SURVEY_SECONDS = 60.0


class Survey(NamedTuple):
    """The entry of a channel, and the job that makes it.

    Attributes:
        key: the entry, or the index of a video's frames; ``None`` where the source is read directly.
        job: makes the entry; ``None`` where it exists.
    """

    key: EntryKey | None = None
    job: Job | None = None


class _Slowness:
    """Says once in the log that a read waits for a conversion."""

    def __init__(self) -> None:
        self._has_told = False

    def watch(self, conversion: Conversion) -> Callable[[float], None]:
        """A callback for the progress of a conversion that starts now."""
        started = time.monotonic()

        def report(fraction: float) -> None:
            if self._has_told or time.monotonic() - started < _SLOW_SECONDS:
                return
            self._has_told = True
            _log.warning(
                "%s: this read waits while the file is converted into the cache, %.0f %% after %.0f s; later reads find the "
                "entry, and prepare() makes entries ahead",
                conversion.info.path,
                100 * fraction,
                time.monotonic() - started,
            )

        return report


@dataclass
class ChannelOpener:
    """Opens channels for one ``Frames``, and remembers which entries failed.

    Attributes:
        cache: holds the entries.
        keyer: makes their keys.
        pool: lends open handles.
        verify: how much of an entry is checked while it is read.
        when_source_missing: whether the newest entry replaces a source that is gone.
        tile_bytes: the memory for decoded tiles and frames.
        limits: the limits of child processes that convert; ``None`` converts in this process.
        access: reads the sources.
    """

    cache: Cache
    keyer: Keyer
    pool: HandlePool
    verify: VerifyMode
    when_source_missing: WhenSourceMissing
    tile_bytes: int = 0
    limits: Limits | None = None
    access: SourceAccess = field(default_factory=SourceAccess)
    _tiles: TileCache | None = None
    _videos: ClockCache[tuple[ChannelInfo, Backend | None, bool], OpenedChannel] = field(
        default_factory=lambda: ClockCache(_VIDEO_BYTES, _memory_bytes_of)
    )
    _rebuilds: dict[EntryKey, int] = field(default_factory=dict)
    _slowness: _Slowness = field(default_factory=_Slowness)
    _told: set[str] = field(default_factory=set)

    def plan(self, info: ChannelInfo, backend: Backend | None) -> Conversion | None:
        """The conversion that makes the entry of ``info``; ``None`` if the source is read directly.

        Raises:
            SourceError: the source does not exist.
            HashidError: the source cannot be keyed.
        """
        return None if backend is None else self._plan(whole_file_of(info), backend, self._stamp_of(info))

    def survey(self, info: ChannelInfo, backend: Backend | None) -> Survey:
        """Check that the entry exists, is whole, and is of the present state of the source; move a bad one away.

        Raises:
            SourceError: the source does not exist.
            HashidError: the source cannot be keyed.
        """
        info = whole_file_of(info)
        if backend is None:
            return self._survey_index(info) if is_whole_video(info) else Survey()
        try:
            stamp = self._stamp_of(info, seconds=_SURVEY_SECONDS)
        except SourceMissingError:
            lost = self._find_lost(info, backend)
            if lost is None:
                raise
            return Survey(lost[1])
        conversion = self._plan(info, backend, stamp)
        exists = self.cache.recall(conversion.key, stamp if conversion.fields["mode"] == "PATH" else None)
        if exists is None:
            exists = self._open_good_trailer(conversion) is not None
        return Survey(conversion.key, None if exists else conversion)

    def _survey_index(self, video: ChannelInfo) -> Survey:
        # Imported here, because most programs read no videos.
        with IMPORTING:
            from .frame_index import Indexing

        stamp = self.access.stamp(video.path)
        if is_url(video.path):
            raise needs_copy(video)
        indexing = Indexing.plan(video, stamp, self.cache)
        return Survey(indexing.key, None if indexing.find(self.pool) is not None else indexing)

    def open(self, info: ChannelInfo, backend: Backend | None, *, converts: bool = True) -> OpenedChannel:
        """Open the entry of ``info``, or the source itself where there is no entry.

        Args:
            info: the file.
            backend: the form of the entry; ``None`` opens the source.
            converts: whether a missing entry is made.

        Raises:
            SourceError: the source cannot be read.
            CacheError: the cache cannot be written.
        """
        check_may_open()
        if whole_file_of(info) is not info:
            return self._open_frame(info, backend, converts=converts)
        opened = self._open_file(info, backend) if converts else self._open_unconverted(info, backend)
        return self._to_upright(info, opened, backend)

    def _to_upright(self, info: ChannelInfo, opened: OpenedChannel, backend: Backend | None) -> OpenedChannel:
        """Turn an image as its file's orientation says, if that is asked for; entries and sources hold it as it is stored."""
        if info.orientation != "upright" or opened.reader.frame_count is not None:
            return opened
        reader = opened.reader
        if not reader.facts.orientation:
            # The entry of an older version does not tell.
            source = self._open_source(info, opened.stamp, backend).reader
            reader.facts = replace(reader.facts, orientation=source.facts.orientation)
        return opened if reader.facts.orientation == 1 else replace(opened, reader=UprightReader(reader))

    def reopen(
        self, info: ChannelInfo, backend: Backend | None, opened: OpenedChannel, error: Exception, *, directly: bool
    ) -> OpenedChannel:
        """Open a channel again after a read of it failed. A damaged entry is moved away first.

        Args:
            info: the file.
            backend: the form of its entry.
            opened: the channel that failed.
            error: the error of the read.
            directly: whether to open the source instead of an entry.
        """
        check_may_open()
        # What failed may be kept under either key.
        for converts in (True, False):
            self._videos.discard((whole_file_of(info), backend, converts))
        if isinstance(error, CacheEntryDamagedError) and opened.entry is not None:
            self._quarantine(opened.entry.key, error, opened.entry.stamp)
        if directly:
            return self._to_upright(info, self._open_source(info, self._stamp_of(info), backend), backend)
        return self.open(info, backend)

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """Whether opening now would give the same file.

        A source that changed less than two seconds before it was opened is always opened again, because its stamp would
        not show another change.
        """
        if opened.stamp is None and not opened.is_lost:
            return True
        try:
            stamp = self.access.recheck(info.path)
        except SourceMissingError as error:
            if self.when_source_missing == "use" and opened.is_cached:
                return True
            if opened.is_cached:
                _add_hint(error)
            raise
        return opened.is_settled and stamp == opened.stamp

    # -- opening --------------------------------------------------------------------------------------------------

    def _plan(self, info: ChannelInfo, backend: Backend, stamp: SourceStamp | None) -> Conversion:
        fields = self.keyer.fields(info, backend, stamp)
        return Conversion(
            self.cache, info, backend, EntryKey.from_fields(fields), fields, stamp, self.limits, self.access
        )

    def _open_file(self, info: ChannelInfo, backend: Backend | None) -> OpenedChannel:
        changed: SourceChangedError | None = None
        # Each further try begins with a new stamp, because the source may change while it is converted.
        for number in range(_TRIES):
            found = self._find_stamp(info, backend, is_recheck=not number)
            if isinstance(found, OpenedChannel):
                return found
            stamp = found
            if backend is None:
                return self._open_source(info, stamp, backend)
            conversion = self._plan(info, backend, stamp)
            opened = None if self._is_given_up(conversion.key) else self._open_entry(conversion)
            if opened is not None:
                return opened
            # Asked again, because _open_entry may have given the key up just now.
            if self._is_given_up(conversion.key):
                return self._open_source(info, stamp, backend)
            try:
                with CONVERTING:
                    run_job(conversion, threads=core_count(), progress=self._slowness.watch(conversion))
                changed = None
            except SourceChangedError as error:
                changed = error
            except CacheEntryError as error:
                self._note_failure(conversion.key, error)
        if changed is not None:
            raise changed
        _log.warning("%s: its cache entry disappears whenever it is made; the source is read directly", info.path)
        return self._open_source(info, stamp, backend)

    def _find_stamp(
        self, info: ChannelInfo, backend: Backend | None, *, is_recheck: bool = True
    ) -> SourceStamp | OpenedChannel | None:
        """The stamp of the source; where that is gone, the entry that replaces it.

        Raises:
            SourceMissingError: no entry does.
        """
        try:
            return self._stamp_of(info, seconds=None if is_recheck else 0.0)
        except SourceMissingError as error:
            lost = None if backend is None else self._open_lost(info, backend)
            if lost is None:
                raise self._with_hint(error, info, backend) from error.__cause__
            return lost

    def _open_unconverted(self, info: ChannelInfo, backend: Backend | None) -> OpenedChannel:
        """The entry if it exists, otherwise the source."""
        stamp = self._find_stamp(info, backend)
        if isinstance(stamp, OpenedChannel):
            return stamp
        if backend is None:
            return self._open_source(info, stamp, backend)
        conversion = self._plan(info, backend, stamp)
        opened = None if self._is_given_up(conversion.key) else self._open_entry(conversion)
        # With the path of the entry, by which _has_entry_now sees that it was made since.
        return opened or replace(self._open_source(info, stamp, backend), entry_path=self.cache.path(conversion.key))

    def _open_source(self, info: ChannelInfo, stamp: SourceStamp | None, backend: Backend | None) -> OpenedChannel:
        opener = SourceOpener(self.cache, self.pool, self.tile_bytes, self._find_tiles(), self._told)
        if stamp is not None and is_url(info.path):
            with IMPORTING:
                from .distant import open_object

            return open_object(info, stamp, backend, opener, self.cache, self.access)
        return OpenedChannel(opener.open(info, stamp), stamp, is_settled=_is_settled(stamp))

    def _stamp_of(self, info: ChannelInfo, *, seconds: float | None = 0.0) -> SourceStamp | None:
        """The source's state; ``None`` for a source that only its named driver can find, such as a ``/vsi`` path.

        Raises:
            SourceError: the source does not exist, is not a file, or may not be read.
        """
        if info.driver is not None and is_url(info.path):
            check_object_driver(info.path, info.driver)
        elif info.driver is not None and not os.path.exists(info.path):
            check_driver_path(info.path)
            return None
        return self.access.recheck(info.path, seconds=seconds)

    def _open_frame(self, info: ChannelInfo, backend: Backend | None, *, converts: bool) -> OpenedChannel:
        """One frame of a video; the video is opened once for all of its frames."""
        whole = whole_file_of(info)
        key = (whole, backend, converts)
        opened = self._videos.get(key)
        if opened is None or not self.is_current(whole, opened) or self._has_entry_now(opened):
            opened = self.open(whole, backend, converts=converts)
            self._videos.put(key, opened)
        return replace(opened, reader=FrameReader(opened.reader, info.page or 0, path=info.path))

    def _has_entry_now(self, opened: OpenedChannel) -> bool:
        """Whether the entry was made since the source was opened."""
        if opened.is_cached or opened.entry_path is None:
            return False
        return self.cache.files.status(str(opened.entry_path)) is not None

    # -- entries --------------------------------------------------------------------------------------------------

    def _open_entry(self, conversion: Conversion) -> OpenedChannel | None:
        """The entry if it exists, is whole and is of this state of the source."""
        path, key = self.cache.path(conversion.key), conversion.key
        try:
            reader = self._read_entry(path, key)
        except CacheEntryGoneError:
            return None
        except CacheEntryDamagedError as error:
            self._quarantine(key, error)
            return None
        except CacheEntryError as error:
            # A newer version wrote it, and would not find its entry again if this one replaced it.
            self._note_failure(key, error, is_final=True)
            return None
        if not self._is_of_source(conversion, reader.trailer):
            self._drop_stale(conversion, reader.stamp)
            return None
        self.cache.note_use(path, reader.stamp.mtime_ns)
        # With given ids, the caller answers for the content, and stamps do not matter.
        is_settled = conversion.fields["mode"] == "GIVEN" or _is_settled(conversion.stamp)
        return OpenedChannel(reader, conversion.stamp, entry=reader, entry_path=path, is_settled=is_settled)

    def _read_entry(self, path: EntryPath, key: EntryKey) -> EntryReader:
        # A .npy has no tiles to decode.
        tiles = None if key.suffix == ".npy" else self._find_tiles()
        return EntryReader(path, key, self.cache.files, self.pool, verify=self.verify, tiles=tiles)

    def _find_tiles(self) -> TileCache:
        """The cache of decoded tiles and images, of all entries and sources."""
        if self._tiles is None:
            with IMPORTING:
                from ..formats.tiled.tile_cache import TileCache

            self._tiles = TileCache(self.tile_bytes)
        return self._tiles

    def _open_good_trailer(self, conversion: Conversion) -> Trailer | None:
        """As :meth:`_open_entry`, but read the trailer only."""
        path = self.cache.path(conversion.key)
        try:
            trailer, stamp = self.pool.open(lambda: open_trailer(str(path), conversion.key, self.cache.files))
        except CacheEntryGoneError:
            return None
        except CacheEntryDamagedError as error:
            self._quarantine(conversion.key, error)
            return None
        if not self._is_of_source(conversion, trailer):
            self._drop_stale(conversion, stamp)
            return None
        return trailer

    def _is_of_source(self, conversion: Conversion, trailer: Trailer) -> bool:
        """Whether the entry was made from the source's present content.

        A key by path contains the size and the time of change. They do not prove that the content is the same, so inode and
        ctime decide: if they are as at the conversion, and were settled then, nothing changed. Otherwise the content is
        compared.
        """
        recorded, stamp = trailer.meta["source"], conversion.stamp
        if conversion.fields["mode"] != "PATH" or stamp is None:
            return True
        if recorded is None:
            return False
        then = SourceStamp(*recorded["stamp"])
        # Without the number of the file system: it changes with every mount.
        if recorded["is_settled"] and then[1:] == stamp[1:]:
            return True
        path = real_path(conversion.info.path)
        is_equal: bool = self.keyer.contents.digest(path, "sha256", stamp) == recorded["sha256"]
        return is_equal

    def _drop_stale(self, conversion: Conversion, stamp: SourceStamp) -> None:
        _log.info(
            "%s: its content changed, its size and time did not; its cache entry is made again", conversion.info.path
        )
        # An entry that cannot be removed would be found stale at each try.
        if not self.cache.discard(self.cache.path(conversion.key), stamp):
            self._give_up(conversion.key)

    def _quarantine(self, key: EntryKey, error: CacheError, stamp: SourceStamp | None = None) -> None:
        """Move a damaged entry away; give the key up if that fails, or if entries of it keep failing.

        Args:
            key: of the entry.
            error: what failed.
            stamp: of the entry that failed. A file with another one is opened first: it has replaced the entry, or the entry was
                damaged by a program that wrote to it, and fails again then.
        """
        found = None if stamp is None else self.cache.files.status(str(self.cache.path(key)))
        if stamp is not None and found is not None and not stamp.is_same_file(found.stamp):
            _log.warning("%s", error)
            return
        is_away = self.cache.quarantine(self.cache.path(key), stamp)
        self._note_failure(key, error, is_final=not is_away)

    def _note_failure(self, key: EntryKey, error: CacheError, *, is_final: bool = False) -> None:
        _log.warning("%s", error)
        # Two threads may lose a count, which only allows one more rebuild.
        self._rebuilds[key] = self._rebuilds.get(key, 0) + 1
        if is_final or self._rebuilds[key] > _MOST_REBUILDS:
            self._give_up(key)

    def _give_up(self, key: EntryKey) -> None:
        _log.warning("%s keeps failing; from now on the source is read directly", self.cache.path(key))
        self._rebuilds[key] = _GIVEN_UP

    def _is_given_up(self, key: EntryKey) -> bool:
        return self._rebuilds.get(key, 0) >= _GIVEN_UP

    # -- sources that are gone ------------------------------------------------------------------------------------

    def _with_hint(self, error: SourceMissingError, info: ChannelInfo, backend: Backend | None) -> SourceMissingError:
        """The error, which names the entry that could replace the source."""
        if backend is not None and self.when_source_missing == "raise" and self._find_entry(info, backend) is not None:
            _add_hint(error)
        return error

    def _find_lost(self, info: ChannelInfo, backend: Backend) -> tuple[EntryPath, EntryKey] | None:
        """The newest whole entry of a source that is gone; ``None`` if there is none, or none may replace it."""
        return self._find_entry(info, backend) if self.when_source_missing == "use" else None

    def _find_entry(self, info: ChannelInfo, backend: Backend) -> tuple[EntryPath, EntryKey] | None:
        """The newest whole entry of a source, of any of its states; ``None`` if there is none."""
        source_id = self.keyer.lost_source_id(info)
        if source_id is None:
            return None
        # The newest may be damaged, and then an older state is all that is left.
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
        if info.path not in self._told:
            self._told.add(info.path)
            _log.warning("%s does not exist; its cache entry is read in its place", info.path)
        reader = self._read_entry(*found)
        return OpenedChannel(reader, None, entry=reader, entry_path=found[0], is_lost=True)


@dataclass(frozen=True, slots=True)
class BoundOpener:
    """The opener of one image: it knows the backend of each of its channels.

    Attributes:
        opener: opens any channel.
        pick_backend: the backend of a channel.
        converts: whether a missing entry is made; otherwise the source is read.
    """

    opener: ChannelOpener
    pick_backend: Callable[[ChannelInfo], Backend | None]
    converts: bool = True

    @property
    def pool(self) -> HandlePool:
        """Lends open handles."""
        return self.opener.pool

    def open(self, info: ChannelInfo) -> OpenedChannel:
        """As :meth:`ChannelOpener.open`."""
        return self._with_spare_files(partial(self.opener.open, info, self.pick_backend(info), converts=self.converts))

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        """As :meth:`ChannelOpener.reopen`."""
        return self._with_spare_files(
            partial(self.opener.reopen, info, self.pick_backend(info), opened, error, directly=directly)
        )

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """As :meth:`ChannelOpener.is_current`."""
        return self.opener.is_current(info, opened)

    def _with_spare_files(self, open_channel: Callable[[], OpenedChannel]) -> OpenedChannel:
        """Close idle files if the process runs out of descriptors: keys, conversions and imports need some, too."""
        return self.opener.pool.open(open_channel)


def _add_hint(error: SourceMissingError) -> None:
    """Say in the error that the cache holds a copy of the source."""
    error.args = (f"{error.args[0]}; when_source_missing='use' reads the copy in the cache instead",)


def _memory_bytes_of(opened: OpenedChannel) -> int:
    return opened.reader.memory_bytes


def _is_settled(stamp: SourceStamp | None) -> bool:
    return stamp is None or stamp.is_settled(time.time_ns())
