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
    """What is wrong with a file, told as what is wrong with an entry.

    A class, since the error of a generator would refer to itself by way of its traceback, and keep all that its frames
    hold until the next garbage collection: no entry being there yet is nothing out of the ordinary.
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
    """Raise what ``error`` means for an entry; nothing, where it says that itself."""
    if isinstance(error, (CacheError, UnreadableImageError)):
        return
    if isinstance(error, (SourceChangedError, SourceMissingError, FileNotFoundError, NotADirectoryError)):
        raise CacheEntryGoneError(f"{path} was removed or replaced by another process") from error
    if error.errno == errno.ESTALE:  # what NFS says of a file that another machine removed
        raise CacheEntryGoneError(f"{path} was removed or replaced on another machine") from error
    raise CacheError(f"{path} cannot be read: {error}") from error
