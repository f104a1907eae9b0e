"""What users need to put their own :class:`~ndframes.Frames`, and their own disks, to the test.

:mod:`.faults` fails or dies at any chosen file operation of the cache; :mod:`.harness` does so at all of them, and counts
what the cache survives; ``python -m ndframes.testing.verify_filesystem DIR`` says whether a file system keeps what the
cache relies on.
"""

from .faults import FaultyFileSystem, WatchedFileSystem, cut, flip_bit, zero

__all__ = ["FaultyFileSystem", "WatchedFileSystem", "cut", "flip_bit", "zero"]
