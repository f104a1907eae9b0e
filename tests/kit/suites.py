"""Other test files run once more in a process of their own, under a variable that ``conftest.py`` knows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def run_suites(paths: Iterable[Path], variable: str, basetemp: Path) -> str:
    """What pytest prints; the tests must pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", f"--basetemp={basetemp}"]
    done = subprocess.run(
        [*command, *map(str, paths)],
        env={**os.environ, variable: "1"},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
