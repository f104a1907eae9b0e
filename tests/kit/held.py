"""Sources that cannot be read for now, so that a process is still at work when a signal reaches it, however busy the machine is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import ndframes as nf

from .waiting import wait_until

if TYPE_CHECKING:
    import pytest

#: A child imports it at its start. The time limit ends children that a failed test has left running.
_SITE = """
import os, time
import ndframes.formats.images.arrays as arrays
class Held(arrays.NpyReader):
    def __init__(self, path, *rest, **options):
        ends = time.monotonic() + 300
        folder, name = os.path.split(path)
        if "held" in name:
            with open(os.path.join(folder, "holder"), "w") as file:
                file.write(str(os.getpid()))
        while "held" in name and not os.path.exists(os.path.join(folder, "released")) and time.monotonic() < ends:
            time.sleep(0.01)
        super().__init__(path, *rest, **options)
arrays.NpyReader = Held
"""


def hold_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on wait where they read an ``.npy`` of ``folder`` whose name contains ``held``."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{Path(nf.__file__).parents[1]}")


def wait_for_holder(folder: Path) -> int:
    """Wait until a process waits for a source of ``folder``; returns its pid."""
    path = folder / "holder"
    wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def release_sources(folder: Path) -> None:
    """Let the sources of ``folder`` be read from now on."""
    (folder / "released").touch()
