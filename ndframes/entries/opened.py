"""OpenedChannel: a channel's file, ready to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ..formats.reader import Reader
    from ..system.stamp import SourceStamp

__all__ = ["OpenedChannel"]


@dataclass(frozen=True, slots=True)
class OpenedChannel:
    """A channel's file, ready to read.

    Attributes:
        reader: of the cache entry, or of the source itself.
        stamp: the source's state when it was opened; ``None`` for a source that is no local file.
        entry_path: where its cache entry is, or would be; ``None`` where none is asked for.
        is_cached: whether it is that entry that is read.
        is_settled: whether a change of the source is sure to show in its stamp.
        is_lost: whether the source was gone, and the entry stands for it.
    """

    reader: Reader
    stamp: SourceStamp | None
    entry_path: Path | None = None
    is_cached: bool = False
    is_settled: bool = True
    is_lost: bool = False
