"""Cache: a store with byte limits and maintenance."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .._lazy import load_name
from ..errors import CacheError, shorten
from ..system.objects.addresses import hint_at_slash, is_url
from .budget import Budget, check_limit
from .remover import search_errors
from .store import LOCK_AGE_SECONDS, Store, check_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ..system.files import FileSystem
    from ..system.stamp import SourceStamp
    from .keys import EntryKey
    from .remover import GcReport
    from .store import CacheEntry, EntryPath
    from .upkeep import CacheStat
    from .verify import VerifyReport

__all__ = ["Cache"]


class Cache(Store):
    """The entries under a workdir, in a folder of their own: ``<workdir>/ndframes-cache``.

    Nothing is created before the first entry is written. Reading takes no lock and writes nothing. An entry is an
    immutable, read-only ``.tif`` or ``.npy`` file that any other tool can read.

    Args:
        workdir: the user's folder; it is created when the first entry is written. Or an address in an object store, such as
            ``s3://bucket/prefix``; see :doc:`/cloud`.
        max_bytes: the limit of all entries together. When a new entry exceeds it, the entries used longest ago are
            removed, down to 85 % of the limit. ``None``: no limit, and nothing is removed unasked.
        min_free_bytes: how much must stay free on the disk. Entries are removed before a new one is written; if that
            is not enough, nothing is written. ``None``: only the new entry must fit.
        files: the file operations; tests replace them to make them fail.
        lock_age_seconds: how long a writer of another process may be silent before this one stops waiting for it and
            does the same work itself.
        local_tier: for an object store: a folder on this machine's disk that keeps what is read, for all processes.
        tier_bytes: for an object store: how much that may take on the disk, a number of bytes or a text such as ``"500GB"``.

    Raises:
        CacheError: ``workdir`` is not the path of a folder, or a limit is not a number of bytes.
        ValueError: ``lock_age_seconds`` is not a number of seconds.

    Attributes:
        workdir: the user's folder, absolute.
        root: the cache's own folder.
        budget: applies the limits.

    Example:
        >>> import tempfile
        >>> cache = Cache(tempfile.mkdtemp())
        >>> list(cache.ls())
        []
    """

    def __new__(cls, workdir: str | os.PathLike[str], **options: Any) -> Cache:  # noqa: ARG004 - those of __init__
        """A cache on a disk, or in an object store if ``workdir`` is an address."""
        if cls is Cache and is_url(workdir):
            found: type[Cache] = load_name("ndframes.cache.remote.cache", "RemoteCache")
            return object.__new__(found)
        return object.__new__(cls)

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        files: FileSystem | None = None,
        lock_age_seconds: float = LOCK_AGE_SECONDS,
        local_tier: str | os.PathLike[str] | None = None,
        tier_bytes: int | str | None = None,
    ) -> None:
        if local_tier is not None or tier_bytes is not None:
            raise CacheError(
                f"workdir={shorten(workdir)} is on a disk; local_tier= and tier_bytes= are for a workdir in an object store"
            )
        if isinstance(workdir, (str, os.PathLike)) and (hint := hint_at_slash(os.fsdecode(workdir))):
            raise CacheError(f"workdir={shorten(os.fsdecode(workdir))}: {hint}")
        super().__init__(workdir, files=files, lock_age_seconds=lock_age_seconds)
        self.budget = Budget(max_bytes, min_free_bytes)

    def __repr__(self) -> str:
        limits = {"max_bytes": self.max_bytes, "min_free_bytes": self.min_free_bytes}
        options = "".join(f", {name}={value}" for name, value in limits.items() if value is not None)
        return f"Cache({str(self.workdir)!r}{options})"

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "max_bytes": self.max_bytes, "min_free_bytes": self.min_free_bytes}

    @property
    def max_bytes(self) -> int | None:
        """The limit of all entries together, if there is one."""
        return self.budget.max_bytes

    @property
    def min_free_bytes(self) -> int | None:
        """How much must stay free on the disk, if that is limited."""
        return self.budget.min_free_bytes

    # -- what the store calls -------------------------------------------------------------------------------------

    def note_use(self, path: EntryPath, mtime_ns: int) -> None:
        """Record that an entry is used now, if a limit decides by that which entries are removed first.

        Args:
            path: the entry.
            mtime_ns: its modification time, which stays.
        """
        # Without a limit, reads write nothing to the disk.
        if self.budget.is_limited:
            super().note_use(path, mtime_ns)

    def make_room(self, needed_bytes: int) -> None:
        """Called before an entry is written: remove entries until this many bytes are free beside ``min_free_bytes``.

        Raises:
            CacheFullError: that is not possible.
        """
        check_room(self.root, self.budget.make_room(self, needed_bytes), needed_bytes, self.min_free_bytes or 0)

    def entry_published(self, path: Path) -> None:
        """Called after an entry was written: remove the entries used longest ago if ``max_bytes`` is exceeded."""
        self.budget.entry_published(self, path)

    @property
    def is_distant(self) -> bool:
        """Whether reads wait for a network."""
        return False

    def has_marks(self) -> bool:
        """Whether there is a cache in the workdir.

        Raises:
            CacheError: it cannot be searched.
        """
        with search_errors(self):
            return self.files.status(str(self.root), follows_links=True) is not None

    # -- what prepare calls ---------------------------------------------------------------------------------------

    def surveying(self) -> AbstractContextManager[None]:
        """Within it, :meth:`recall` may answer. Does nothing here, where looking for a file costs microseconds."""
        return nullcontext()

    def recall(self, key: EntryKey, stamp: SourceStamp | None) -> bool | None:  # noqa: ARG002
        """Whether an entry exists, without a look at it.

        Args:
            key: the entry.
            stamp: the state of its source; ``None`` if the key alone identifies the content.

        Returns:
            ``None``: the entry must be looked at.
        """
        return None

    # -- maintenance ----------------------------------------------------------------------------------------------

    def stat(self) -> CacheStat:
        """Count the entries, their bytes, leftover files and the free space."""
        # Here and below imported when called: reads and writes need no maintenance.
        from .upkeep import stat_cache

        return stat_cache(self, max_bytes=self.max_bytes, min_free_bytes=self.min_free_bytes)

    def verify(
        self, read_data: bool = False, repair: bool = False, *, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """Check of every entry its length, its trailer, and that its name is that of its content.

        Args:
            read_data: whether to read every byte too, and compare it with its checksum.
            repair: whether to move damaged entries to the quarantine folder; they are made again when needed.
            progress: called with the bytes checked so far, and the bytes of all entries.

        Raises:
            CacheError: the folder cannot be searched; or ``repair``, and it does not bear the marks of a cache.
        """
        from .verify import verify_cache

        return verify_cache(self, read_data=read_data, repair=repair, progress=progress)

    def gc(self, max_bytes: int | None = None, dry_run: bool = False) -> GcReport:
        """Remove what is no longer useful: files of dead writers, damaged entries, entries of former source states.

        Entries that a running job of another process holds stay. Only the cache's own files are removed.

        Args:
            max_bytes: also remove entries, those used longest ago first, until the others fit in this many bytes.
                ``None``: the cache's own limit, if it has one.
            dry_run: whether to remove nothing and only report what would be removed.

        Raises:
            CacheError: the folder does not bear the marks of a cache, or those of a newer version.
        """
        from .upkeep import collect_garbage

        check_limit("max_bytes", max_bytes)
        limit_bytes = self.max_bytes if max_bytes is None else max_bytes
        return collect_garbage(self, limit_bytes, dry_run=dry_run)

    def source_of(self, entry: CacheEntry) -> str | None:
        """The path of the file from which an entry was made, with links resolved; ``None`` if the entry does not tell.

        It is read from the entry. Sources that were no local files have no path, and those of damaged entries are unknown.
        With keys by content, it is the first of several equal files.
        """
        from .upkeep import find_source

        return find_source(self, entry)

    def sources_of(self, entries: Iterable[CacheEntry]) -> list[str | None]:
        """As :meth:`source_of` for each entry, which in an object store takes much less time."""
        return [self.source_of(entry) for entry in entries]

    def clear(self, dry_run: bool = False, *, source: str | os.PathLike[str] | None = None) -> GcReport:
        """Remove every entry that no running job of another process holds, and everything that :meth:`gc` removes.

        Args:
            dry_run: whether to remove nothing and only report what would be removed.
            source: remove only the entries of this file, or of the files in this folder, which need not exist any more; see
                :meth:`source_of`.

        Raises:
            CacheError: the folder does not bear the marks of a cache, or those of a newer version.
        """
        from .upkeep import clear_cache

        return clear_cache(self, dry_run=dry_run, source=None if source is None else os.fspath(source))
