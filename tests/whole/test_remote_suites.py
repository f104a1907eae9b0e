"""The tests of images, aligned channels and videos hold over a cache in an object store as over one on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.suites import run_suites

TESTS = Path(__file__).parents[1]
SOME = ["items/test_align.py", "items/test_video.py", "frames/test_batch.py", "frames/test_lazyframe.py"]
ALL = ["items", "frames", "feed", "torch", "movie"]


@pytest.mark.parametrize("chosen", [SOME, pytest.param(ALL, marks=pytest.mark.slow)])
def test_the_suites_hold_over_an_object_store(chosen, tmp_path):
    printed = run_suites((TESTS / name for name in chosen), "NDFRAMES_TEST_STORE", tmp_path / "tests")
    assert "deselected" in printed
