"""Digests of files' contents, taken once as long as a file is sure to be the same."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..system.sources import hash_file
from ..system.stamp import stat_source

if TYPE_CHECKING:
    from ..system.sources import Algorithm
    from ..system.stamp import SourceStamp

__all__ = ["ContentHashes"]
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
