"""PyAV. ``from .libav import av`` replaces ``import av``, so that an import that failed half way can be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system.imports import import_package

if TYPE_CHECKING:
    import av
else:
    av = import_package("av")

from av.video.reformatter import VideoReformatter

__all__ = ["VideoReformatter", "av", "to_builtin"]


def to_builtin(error: Exception) -> Exception:
    """An error of PyAV as one of Python's own, with its number, text and traceback; other errors as they are.

    It becomes the cause of our errors, which cross processes. PyAV's classes do not survive tools that restore causes, such as
    Dask's workers.
    """
    if not isinstance(error, av.error.FFmpegError):
        return error
    return OSError(error.errno, error.strerror).with_traceback(error.__traceback__)
