"""Digests of files' contents, taken once as long as a file is sure to be the same."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from ..system.stamp import source_error, stat_source

if TYPE_CHECKING:
    import threading

    from ..system.stamp import SourceStamp

__all__ = ["Algorithm", "ContentHashes", "hash_file"]
Algorithm = Literal["sha256", "blake2b", "md5"]
_READ_BYTES = 2**20
_MAX_KNOWN = 65536


class ContentHashes:
    """A memory of digests, by path, algorithm and stamp.

    A digest is remembered only of a file that was last changed more than two seconds before it was read: a change within
    one step of the file system's clock would leave the stamp as it was.

    Example:
        >>> len(ContentHashes().digest(__file__, "sha256", stat_source(__file__)))
        64
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Algorithm, SourceStamp], str] = OrderedDict()

    def digest(self, path: str, algorithm: Algorithm, stamp: SourceStamp) -> str:
        """The digest of the file at ``path`` in hexadecimal, read only if that must be.

        Raises:
            SourceError: it cannot be read.
        """
        known = self._known.get((path, algorithm, stamp))
        if known is not None:
            return known
        started_ns = time.time_ns()
        digest = hash_file(path, algorithm)
        if stamp.is_settled(started_ns) and stat_source(path) == stamp:
            self._known[path, algorithm, stamp] = digest
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return digest


def hash_file(path: str, algorithm: Algorithm, stop: threading.Event | None = None) -> str:
    """The digest of a file's bytes in hexadecimal; of the first part of them where ``stop`` is set meanwhile.

    Raises:
        SourceError: it cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open(path, "rb", buffering=0) as file:
            while (stop is None or not stop.is_set()) and (data := file.read(_READ_BYTES)):
                digest.update(data)
    except OSError as error:
        raise source_error(path, error) from error
    return digest.hexdigest()
