"""Digests of files' contents, remembered as long as a file is certain not to have changed."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..system.objects.access import SourceAccess

if TYPE_CHECKING:
    from ..system.sources import Algorithm
    from ..system.stamp import SourceStamp

__all__ = ["ContentHashes"]
_MOST_DIGESTS = 65536


class ContentHashes:
    """Remembers digests by path, algorithm and stamp.

    A digest is remembered only if the file was last changed more than two seconds before it was read. A later change
    within one tick of the file system's clock would leave the stamp as it was.

    Args:
        access: reads sources; ``None``: only files.
        most_digests: how many digests are remembered; the oldest is dropped first.

    Example:
        >>> len(ContentHashes().digest(__file__, "sha256", SourceAccess().stamp(__file__)))
        64
    """

    def __init__(self, access: SourceAccess | None = None, most_digests: int = _MOST_DIGESTS) -> None:
        self._access = access or SourceAccess()
        self._most_digests = most_digests
        self._digests: OrderedDict[tuple[str, Algorithm, SourceStamp], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._digests)

    def digest(self, path: str, algorithm: Algorithm, stamp: SourceStamp) -> str:
        """The digest of the file or object at ``path`` in hexadecimal. It is read unless its digest is remembered.

        Args:
            path: the file.
            algorithm: the hash function.
            stamp: the file's present stamp.

        Raises:
            SourceError: the file cannot be read.
        """
        remembered = self._digests.get((path, algorithm, stamp))
        if remembered is not None:
            return remembered
        # The time before the read: a change during the read is then too recent to be settled.
        started_ns = time.time_ns()
        digest = self._access.hash(path, algorithm, stamp)
        if stamp.is_settled(started_ns) and self._access.stamp(path) == stamp:
            self._digests[path, algorithm, stamp] = digest
            if len(self._digests) > self._most_digests:
                self._digests.popitem(last=False)
        return digest
