"""Tier: copies of what was read from an object store, on this machine's disk, shared by its processes."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from ...errors import CacheEntryError
from ...system.files import LocalFile
from .commit import Commit
from .layout import parse_data
from .tier_budget import TierBudget
from .tier_copy import NO_DESCRIPTORS, EntryCopy
from .tier_folder import TierFolder
from .tier_whole import Completions, WholeFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ...system.files import OpenFile
    from ..keys import EntryKey
    from .tier_folder import TierNames

__all__ = ["Tier"]
# An entry that was removed from the store is used for no longer than this.
_RECHECK_SECONDS = 3600.0
_COMPLETIONS = Completions()


class Tier:
    """The local tier of a cache in an object store.

    Whether a tile is there is told by its checksum, so the tier has no list of its tiles that could be wrong: after ``kill -9``
    there is nothing to repair, and any number of processes may use it at once.

    Args:
        local_tier: the user's folder.
        max_bytes: the limit of what it takes on the disk; ``None``: no limit.
        recheck_seconds: for how long a commit is used before the store is asked whether it exists.
    """

    def __init__(self, local_tier: Path, max_bytes: int | None, *, recheck_seconds: float = _RECHECK_SECONDS) -> None:
        self.folder = TierFolder(local_tier)
        self.budget = TierBudget(self.folder, max_bytes)
        self._recheck_seconds = recheck_seconds

    # -- commits ----------------------------------------------------------------------------------------------------

    def load_commit(self, address: str, key: EntryKey) -> tuple[Commit, bool] | None:
        """The commit of an entry, and whether it is recent; ``None`` if the tier does not have it, or has it damaged.

        Args:
            address: the entry.
            key: its key.
        """
        path = self._names_of(address).commit
        try:
            with LocalFile(path) as file:
                age_seconds = time.time() - file.status.mtime
                commit = Commit.decode(file.read_at(0, file.status.size_bytes), key, path)
        except (OSError, CacheEntryError):
            return None
        return commit, 0 <= age_seconds < self._recheck_seconds

    def confirm(self, address: str, old: Commit | None, new: Commit) -> None:
        """Note that the store has the commit ``new`` now, where the tier has ``old``, or has a file without a commit."""
        if old is not None and old.data_key != new.data_key:
            self.forget(address)
        names = self._names_of(address, new)
        # The first tile that is kept brings the commit, so that entries of which nothing was read take no room.
        if self.folder.is_paused or not os.path.exists(names.data):
            return
        try:
            self.folder.write_commit(names, new.encode())
        except OSError as error:
            self.folder.pause(error)

    def forget(self, address: str) -> None:
        """Remove an entry from the tier."""
        for path in self.folder.list_paths(self._names_of(address)):
            self.folder.remove(path)

    # -- files ------------------------------------------------------------------------------------------------------

    def open_whole(self, address: str, commit: Commit) -> WholeFile | None:
        """The file of an entry, if it has no holes."""
        try:
            return WholeFile(self._names_of(address, commit).data, commit)
        except ValueError:
            return None
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:
                raise
            return None

    def copy_of(self, address: str, commit: Commit, open_file: Callable[[], OpenFile] | None) -> EntryCopy:
        """The segments of an entry that were read before.

        Args:
            address: the entry.
            commit: its commit.
            open_file: opens the entry, to complete its file; ``None``: it is not completed.
        """
        names = self._names_of(address, commit)
        complete = None if open_file is None else partial(_COMPLETIONS.submit, address, open_file, names.data)
        return EntryCopy(self.folder, self.budget, commit, names, complete)

    def clear(self) -> int:
        """Remove all entries, those of other caches too; returns the bytes that they took on the disk.

        Nothing is removed from a folder without the mark of a tier, or with that of another layout.
        """
        entries = self.folder.list_entries() if self.folder.is_known() else []
        for entry in entries:
            for path in entry.paths:
                self.folder.remove(path)
        return sum(entry.disk_bytes for entry in entries)

    def count_bytes(self) -> int:
        """What all entries take on the disk."""
        return sum(entry.disk_bytes for entry in self.folder.list_entries())

    def _names_of(self, address: str, commit: Commit | None = None) -> TierNames:
        data_name = None if commit is None else parse_data(commit.data_key)
        return self.folder.names_of(address, "" if data_name is None else data_name.uuid)
