"""Facts about cache entries, for ``ndframes info`` and ``ndframes demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...cache.store import EntryPath
    from ...frames.frames import Frames

__all__ = ["count_entry_bytes"]


def count_entry_bytes(frames: Frames, path: EntryPath | None) -> int:
    """The length of the file of an entry, which is on a disk or in an object store; 0 if it was removed meanwhile."""
    status = frames.cache.files.status(str(path))
    return 0 if status is None else status.size_bytes
