"""What tests of tiles share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_open():
    """Frames refer to themselves, so that their files close with a garbage collection; other tests count open files."""
    yield
    gc.collect()
