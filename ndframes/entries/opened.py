"""OpenedChannel: a channel's file, ready to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..cache.store import EntryPath
    from ..formats.reader import Reader
    from ..system.objects.object_file import ObjectFile
    from ..system.stamp import SourceStamp
    from .reader import EntryReader

__all__ = ["OpenedChannel"]


@dataclass(frozen=True, slots=True)
class OpenedChannel:
    """A channel's file, ready to read.

    Attributes:
        reader: reads the cache entry, or the source itself.
        stamp: the source's state when it was opened; ``None`` for a source that is not a local file.
        entry: the cache entry that is read; ``None`` where the source is read directly.
        entry_path: the path of the cache entry, whether it exists or not; ``None`` without a backend.
        is_settled: whether every later change of the source is sure to show in its stamp.
        is_lost: whether the source is gone, so that only the entry is left.
        object: the object that is read by ranges; ``None`` if it is a file that is read.
    """

    reader: Reader
    stamp: SourceStamp | None
    entry: EntryReader | None = None
    entry_path: EntryPath | None = None
    is_settled: bool = True
    is_lost: bool = False
    object: ObjectFile | None = None

    @property
    def is_cached(self) -> bool:
        """Whether a cache entry is read."""
        return self.entry is not None
