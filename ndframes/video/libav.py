"""PyAV. ``from .libav import av`` replaces ``import av``, so that an import that failed half way can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from ..system.imports import import_package

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet
else:
    av = import_package("av")

from av.video.reformatter import VideoReformatter

__all__ = ["LENIENT", "VideoReformatter", "av", "raise_instead", "read_packets"]
#: Options with which ``av.open`` accepts tags that are not valid text; version 19 has none, and accepts them by default.
LENIENT: Mapping[str, Any] = MappingProxyType(
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def raise_instead(error: Exception, found: Exception) -> NoReturn:
    """Raise ``found`` instead of an error of PyAV, which becomes its cause as one of Python's own classes.

    Our errors cross processes, and PyAV's classes do not survive tools that restore causes, such as Dask's workers.
    """
    cause = error
    if isinstance(error, av.error.FFmpegError):
        cause = OSError(error.errno, error.strerror).with_traceback(error.__traceback__)
    try:
        raise found from cause
    finally:
        # Python set it to the error of PyAV.
        found.__context__ = None


def read_packets(container: InputContainer, *streams: Any) -> Iterator[Packet[Any]]:
    """The packets of some streams, of all if none is given, in the order of the file; empty ones at the end.

    As PyAV's ``demux``, which fails at the end of a file in which FFmpeg found more streams on the way, as where sound begins
    late: it looks for an empty packet of each, and knows only the streams of the beginning.
    """
    try:
        yield from container.demux(*streams)
    except IndexError:
        return
