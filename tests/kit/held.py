"""Sources that cannot be read, so that a process is still at work when a signal reaches it, however busy the machine is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import ndframes as nf

if TYPE_CHECKING:
    import pytest

#: A child imports it at its start. The time limit ends children that a failed test has left running.
_SITE = """
import os, time
import ndframes.formats.images.arrays as arrays
class Held(arrays.NpyReader):
    def __init__(self, path, *rest, **options):
        ends = time.monotonic() + 300
        while "held" in os.path.basename(path) and time.monotonic() < ends:
            time.sleep(0.01)
        super().__init__(path, *rest, **options)
arrays.NpyReader = Held
"""


def hold_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes wait as soon as they read an ``.npy`` whose name contains ``held``."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{Path(nf.__file__).parents[1]}")
