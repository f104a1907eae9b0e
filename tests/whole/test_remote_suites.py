"""The tests of images, aligned channels and videos hold over a cache in an object store as over one on a disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOME = ["items/test_align.py", "items/test_video.py", "frames/test_batch.py", "frames/test_lazyframe.py"]
ALL = ["items", "frames", "feed", "torch", "movie"]


@pytest.mark.parametrize("chosen", [SOME, pytest.param(ALL, marks=pytest.mark.slow)])
def test_the_suites_hold_over_an_object_store(chosen, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        f"--basetemp={tmp_path / 'tests'}",
    ]
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in chosen)],
        env={**os.environ, "NDFRAMES_TEST_STORE": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "deselected" in done.stdout
