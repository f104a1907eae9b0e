"""Fault injection for the cache, on your own :class:`~ndframes.Frames` and your own disks.

:mod:`.faults` makes a chosen file operation of the cache fail or kill the process. :mod:`.experiments.harness` does so at
every operation and counts violations of what the cache guarantees. ``python -m ndframes.testing.verify_filesystem DIR``
checks that a file system meets the requirements of the cache.
"""
