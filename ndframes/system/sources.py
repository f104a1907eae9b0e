"""Reading of source files, which belong to the user: digests, links, sidecars."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Literal

from .objects.addresses import is_url
from .stamp import source_error, stat_source

if TYPE_CHECKING:
    import threading

__all__ = ["Algorithm", "current_folder", "hash_file", "is_writable", "link_target", "read_sidecar", "real_path"]
Algorithm = Literal["sha256", "blake2b", "md5"]
_READ_BYTES = 2**20


def hash_file(path: str, algorithm: Algorithm, stop: threading.Event | None = None) -> str:
    """The digest of a file's bytes in hexadecimal.

    Args:
        path: the file.
        algorithm: the hash function.
        stop: ends the reading early once it is set; the digest is then of the first part of the file.

    Raises:
        SourceError: the file cannot be read.
    """
    # Python in FIPS mode refuses md5 unless it is declared as no protection.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        # Whole pieces are read, which a buffer would only copy once more.
        with open(path, "rb", buffering=0) as file:
            while (stop is None or not stop.is_set()) and (data := file.read(_READ_BYTES)):
                digest.update(data)
    except OSError as error:
        raise source_error(path, error) from error
    return digest.hexdigest()


def current_folder() -> str:
    """The current folder, absolute; ``"."`` if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return os.curdir


def real_path(path: str) -> str:
    """The absolute path with all links followed; an address as it is.

    Example:
        >>> real_path("s3://imagery/a/../b.tif")
        's3://imagery/a/../b.tif'
    """
    return path if is_url(path) else os.path.realpath(path)


def link_target(path: str) -> str | None:
    """The absolute path to which a symbolic link leads; ``None`` if ``path`` is not a link."""
    return os.path.realpath(path) if os.path.islink(path) else None


def is_writable(path: str) -> bool:
    """Whether the file's mode lets anybody write.

    The mode is asked instead of ``os.access``, because root may write every file.

    Raises:
        SourceError: the file cannot be found.
    """
    try:
        return bool(os.stat(path).st_mode & 0o222)
    except OSError as error:
        raise source_error(path, error) from error


def read_sidecar(path: str, most_bytes: int) -> str:
    """The first characters of a small text file beside a source.

    Raises:
        OSError, UnicodeDecodeError: it is not a text file that can be read.
    """
    stat_source(path)  # opening a FIFO of that name would block
    with open(path, encoding="utf-8") as file:
        return file.read(most_bytes)
