"""Fixtures of the adapters: the packages that they stand for, and datasets of theirs, made on the spot."""

from __future__ import annotations

from functools import cache

import pytest


@pytest.fixture(scope="session", autouse=True)
def demo_data_of_its_own(tmp_path_factory):
    """No demo dataset is written to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg")))
        yield


@pytest.fixture(scope="session")
def demo():
    """kwcoco's demo datasets, by kind; small."""
    import kwcoco

    @cache
    def make(kind: str):
        options = {"num_frames": 3} if kind.startswith("vid") else {}
        return kwcoco.CocoDataset.demo(kind, image_size=(180, 132), verbose=0, **options)

    return make
