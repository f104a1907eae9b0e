"""Translation of operating system errors into cache errors."""

from __future__ import annotations

import errno

from ..errors import (
    CacheEntryGoneError,
    CacheError,
    SourceChangedError,
    SourceMissingError,
    UnreadableImageError,
)

__all__ = ["raise_as_cache_error"]


class AsCacheErrors:
    """Context that raises the system's errors about a file as errors about an entry.

    A class and not a generator: an error that is raised inside a generator refers to itself by its traceback, which
    keeps everything in its frames alive until the next garbage collection. Missing entries are too common for that.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise_as_cache_error(self._path, error)


def raise_as_cache_error(path: str, error: OSError) -> None:
    """Raise the cache error that corresponds to ``error``; return if ``error`` is an error about entries itself."""
    if isinstance(error, (CacheError, UnreadableImageError)):
        return
    # Readers of sources also read entries, and then report the loss of an entry as that of a source.
    if isinstance(error, (SourceChangedError, SourceMissingError, FileNotFoundError, NotADirectoryError)):
        raise CacheEntryGoneError(f"{path} was removed or replaced by another process") from error
    if error.errno == errno.ESTALE:  # NFS, when another machine has removed the file
        raise CacheEntryGoneError(f"{path} was removed or replaced on another machine") from error
    raise CacheError(f"{path} cannot be read: {error}") from error
