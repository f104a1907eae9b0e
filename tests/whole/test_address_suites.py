"""The tests of TIFF files hold for the same files at addresses: read by ranges, and through entries."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.suites import run_suites

IMAGES = Path(__file__).parents[1] / "formats" / "images"
ALL = ["test_tiff_tables.py", "test_tiff_meaning.py", "test_meaning_of_samples.py"]


@pytest.mark.parametrize("chosen", [ALL[:1], pytest.param(ALL, marks=pytest.mark.slow)])
def test_the_kinds_of_tiff_are_read_at_addresses(chosen, tmp_path):
    run_suites((IMAGES / name for name in chosen), "NDFRAMES_TEST_ADDRESSES", tmp_path / "tests")
