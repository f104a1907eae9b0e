"""The tests of TIFF files hold for the same files at addresses: read by ranges, and through entries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[1] / "formats" / "images"
ALL = ["test_tiff_tables.py", "test_tiff_meaning.py", "test_meaning_of_samples.py"]


@pytest.mark.parametrize("chosen", [ALL[:1], pytest.param(ALL, marks=pytest.mark.slow)])
def test_the_kinds_of_tiff_are_read_at_addresses(chosen, tmp_path):
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
        [*command, *(str(IMAGES / name) for name in chosen)],
        env={**os.environ, "NDFRAMES_TEST_ADDRESSES": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
