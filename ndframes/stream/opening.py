"""Open a source: from its description to the reading of its frames."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import StreamError
from ..video.addresses import hide_secrets
from .reading import SourceEvent
from .reading_open import open_reading
from .source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .reading import Reading
    from .values import Frame

__all__ = ["name_sources", "open_frames", "open_source"]


def open_source(source: Source) -> Reading:
    """The reading of a source, not begun."""
    return open_reading(source, str(source.name))


def open_frames(frames: Any) -> Iterator[Frame]:
    """The frames of a source, or of what a :class:`Source` takes."""
    (source,) = name_sources([frames])
    return (item for item in open_source(source) if not isinstance(item, SourceEvent))


def name_sources(given: Any) -> list[Source]:
    """Sources from one, a list, or a mapping of names to them; each gets a name of its own.

    Raises:
        StreamError: two have one name.
    """
    if isinstance(given, dict):
        pairs = [(str(name), each) for name, each in given.items()]
    else:
        pairs = [("", each) for each in (given if isinstance(given, (list, tuple)) else [given])]
    named = []
    for number, (name, each) in enumerate(pairs):
        source = each if isinstance(each, Source) else Source(each)
        named.append(replace(source, name=name or source.name or _default_name(source.uri, number, len(pairs))))
    names = [source.name for source in named]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StreamError(f"two sources have the name {twice!r}; give each a name: Source(..., name=...)")
    return named


def _default_name(uri: Any, number: int, count: int) -> str:
    if isinstance(uri, str) and "://" not in uri and ":" not in uri:
        return os.path.basename(uri.rstrip("/")) or uri
    # Names are in messages, in logs and on the page.
    return hide_secrets(uri) if isinstance(uri, str) else ("source" if count == 1 else f"source {number}")
