"""Damage to a file that keeps its name, length and times: the file stays the one that is open."""

from __future__ import annotations

import os
from pathlib import Path


def damage(path: str | Path, place: int) -> None:
    """Flip a bit of the byte at a place."""
    path = Path(path)
    times = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
