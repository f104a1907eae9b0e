"""Translation of operating system errors into cache errors."""

from __future__ import annotations

import errno

from ..errors import (
    CacheEntryGoneError,
    CacheError,
    NdframesError,
    SourceChangedError,
    SourceMissingError,
    StoreError,
    UnreadableImageError,
)

__all__ = ["raise_as_cache_error"]
_OTHER_REMEDY = "choose another workdir, or backend=None to read sources directly"
_TOO_MANY_FILES = "close some files, or raise their number (ulimit -n)"
_REMEDIES = {
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.ENOMEM: "free memory, or allow the process more (ulimit -v)",
    errno.EACCES: f"check the permissions of its folders, {_OTHER_REMEDY}",
}


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
    if isinstance(error, (CacheError, UnreadableImageError, StoreError)):
        return
    # Readers of sources also read entries, and then report the loss of an entry as that of a source.
    if isinstance(error, (SourceChangedError, SourceMissingError, FileNotFoundError, NotADirectoryError)):
        raise CacheEntryGoneError(f"{path} was removed or replaced by another process") from error
    if error.errno == errno.ESTALE:  # NFS, when another machine has removed the file
        raise CacheEntryGoneError(f"{path} was removed or replaced on another machine") from error
    found = CacheError(f"{path} cannot be read: {_describe(error)}; {_REMEDIES.get(error.errno or 0, _OTHER_REMEDY)}")
    # OSError sets errno itself only from two or more arguments.
    found.errno = error.errno
    raise found from error


def _describe(error: OSError) -> str:
    """The system's words, without the path, which the errors in between have added already."""
    link: BaseException | None = error
    while isinstance(link, NdframesError) and link.__cause__ is not None:
        link = link.__cause__
    return str(getattr(link, "strerror", None) or link or error)
