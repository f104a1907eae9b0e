"""Local copies: the file of a source on this machine, for programs that read files only."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..cache.layout import NO_STATE_ID
from ..cache.remote.scratch import Scratch
from ..errors import BackendError, NdframesError
from ..spec.kinds import is_video_path
from ..system.objects.addresses import is_url
from ..system.stamp import stat_source
from .source import follow_links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..cache.cache import Cache
    from ..spec.pathinfo import ChannelInfo
    from ..system.objects.access import SourceAccess
    from ..system.stamp import SourceStamp

__all__ = ["LocalCopy", "local_copy", "needs_copy"]
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


class LocalCopy(NamedTuple):
    """A file on this machine with the bytes of a source.

    Attributes:
        path: the file.
        stamp: its state; ``None`` for a source that only its GDAL driver can find.
        is_copy: whether it is a copy, and not the source itself.
    """

    path: str
    stamp: SourceStamp | None
    is_copy: bool


@contextmanager
def local_copy(
    path: str,
    stamp: SourceStamp | None,
    cache: Cache,
    access: SourceAccess,
    *,
    state_id: str = NO_STATE_ID,
    progress: Callable[[float], None] | None = None,
) -> Iterator[LocalCopy]:
    """Within it, a source is a file on this machine: itself, or a copy of an object, which is removed at the end.

    Copies that processes left which were killed are removed by the next one that makes a copy.

    Args:
        path: the path or the address.
        stamp: the state that is wanted.
        cache: tells where there is room on this machine.
        access: reads objects.
        state_id: of the entry that the copy is for.
        progress: called from time to time while an object arrives.

    Raises:
        SourceChangedError: the object is in another state.
        SourceError: it cannot be read.
        CacheFullError: the disk has no room for the copy.
    """
    if stamp is None or not is_url(path):
        yield LocalCopy(path if stamp is None else follow_links(path), stamp, False)
        return

    def fill(target: str) -> None:
        access.download(path, stamp, target, progress=None if progress is None else lambda _: progress(0.0))

    scratch = Scratch(cache.find_scratch_folder())
    with scratch.filled(state_id, _suffix_of(path), stamp.size_bytes, fill) as target, _naming(target, path):
        yield LocalCopy(target, stat_source(target), True)


def needs_copy(info: ChannelInfo) -> BackendError:
    """The error for an object that cannot be read by ranges, and of which nobody asked for an entry."""
    if is_video_path(info.path):
        return BackendError(
            f"{info.path} is a video, which cannot be read at its address; use backend='intra' (key frames), 'npy' or 'cog', which "
            "download and convert it once"
        )
    return BackendError(
        f"{info.path} cannot be read in parts at its address, as only TIFF files can; use backend='auto', 'cog' or 'npy', which "
        "download and convert it once"
    )


def _suffix_of(url: str) -> str:
    suffix = os.path.splitext(url)[1]
    return suffix if _SUFFIX.fullmatch(suffix) else ""


@contextmanager
def _naming(path: str, url: str) -> Iterator[None]:
    """Have errors name the address in place of the copy."""
    try:
        yield
    except NdframesError as error:
        error.args = tuple(item.replace(path, url) if isinstance(item, str) else item for item in error.args)
        raise
