"""Conversion: the description of one conversion from a source to a cache entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..cache.cache import Cache
    from ..cache.keys import EntryKey
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.stamp import SourceStamp
    from ..system.workers import Limits

__all__ = ["Conversion", "Converted"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to be converted: everything a worker in another process must know.

    Attributes:
        cache: where the entry goes.
        info: the source.
        backend: the entry's form.
        key: the entry's name.
        fields: what the name is a digest of.
        stamp: the source's state for which the key was made; ``None`` for a source that is no local file.
        limits: what a child process that does it may use; ``None`` does it in the process that asks.
    """

    cache: Cache
    info: ChannelInfo
    backend: Backend
    key: EntryKey
    fields: Mapping[str, Any]
    stamp: SourceStamp | None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a conversion.

    Attributes:
        path: the entry.
        is_new: whether this conversion wrote it; else another had done so first.
        bytes_written: its length, if it is new.
    """

    path: Path
    is_new: bool
    bytes_written: int
