"""Sources: what ``SimpleFrames`` reads, as one mapping from ids to files, from the forms in which people have them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import PathInfoError, shorten
from ..spec.pathinfo import ChannelInfo, PathInfo, complete_info, to_absolute, to_path
from ..system.sources import current_folder
from .clip import Clip, list_sources

__all__ = ["Source", "to_sources"]
#: A path, which may be a folder, a glob or a pattern; a file with its options; or a whole description.
Source = str | Clip | ChannelInfo | PathInfo


def to_sources(sources: Any) -> dict[Hashable, Source]:
    """The sources by their ids, with absolute paths.

    Args:
        sources: a mapping from ids to sources, pairs of them, several sources, or the path of a folder or a glob. Without
            ids, the id of a file is its name without ending where these differ, and otherwise its path as given.

    Raises:
        PathInfoError: it is none of these, or two sources are the same.
        SourceError: the folder or the files of the glob do not exist.

    Example:
        >>> list(to_sources(["a/1.png", "a/2.tif"])), list(to_sources(["a/1.png", "b/1.png"]))
        (['1', '2'], ['a/1.png', 'b/1.png'])
    """
    if isinstance(sources, Mapping):
        return _absolute(dict(sources))
    listed: Any = sources
    if isinstance(sources, (str, bytes, os.PathLike)):
        listed = list_sources(os.path.expanduser(os.fsdecode(sources)))
    elif isinstance(sources, (Clip, ChannelInfo, PathInfo)):
        listed = [sources]
    if not isinstance(listed, Iterable):
        raise PathInfoError(
            f"files={shorten(sources)}; SimpleFrames takes a mapping from ids to paths, a list of paths, a folder or a glob"
        )
    items = list(listed)
    # zip() of ids and paths. A text of two characters is no such pair.
    if items and all(isinstance(item, tuple) and len(item) == 2 for item in items):
        return _absolute(dict(items))
    return _absolute(_name(items))


def _name(items: list[Any]) -> dict[Hashable, Any]:
    for item in items:
        _check(item, "a list of sources holds")
    names = [item.image_id if isinstance(item, PathInfo) else _stem(_path_of(item)) for item in items]
    if len({*names}) < len(names):
        names = [item.image_id if isinstance(item, PathInfo) else _path_of(item) for item in items]
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise PathInfoError(f"{shorten(repeated[0])} comes more than once; give a mapping from ids to sources")
    return dict(zip(names, items, strict=True))


def _absolute(sources: Mapping[Hashable, Any]) -> dict[Hashable, Source]:
    """The sources with absolute paths, so that a later chdir does not change which files they are."""
    found: dict[Hashable, Source] = {}
    folder = current_folder()
    for image_id, source in sources.items():
        _check(source, f"the source of {shorten(image_id)} is")
        if isinstance(source, PathInfo):
            found[image_id] = complete_info(replace(source, image_id=image_id), folder, "stored")
        elif isinstance(source, ChannelInfo):
            found[image_id] = replace(source, path=to_absolute(source.path, folder, source.driver))
        elif isinstance(source, Clip):
            found[image_id] = replace(source, path=to_absolute(source.path, folder))
        else:
            found[image_id] = to_absolute(to_path(source), folder)
    return found


def _check(source: object, what: str) -> None:
    if not isinstance(source, (str, bytes, os.PathLike, Clip, ChannelInfo, PathInfo)):
        raise PathInfoError(f"{what} {shorten(source)}; give a path, a Clip, a ChannelInfo or a PathInfo")


def _path_of(source: Any) -> str:
    return source.path if isinstance(source, (Clip, ChannelInfo)) else os.fsdecode(source)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path.rstrip(os.sep)))[0]
