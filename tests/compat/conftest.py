"""Fixtures of the adapters: demo datasets of the original packages."""

from __future__ import annotations

from functools import cache

import pytest


@pytest.fixture(scope="session", autouse=True)
def private_demo_data(tmp_path_factory):
    """Keep demo datasets out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg")))
        yield


@pytest.fixture(scope="session")
def demo():
    """A function that makes a small demo dataset of kwcoco, by its name."""
    import kwcoco

    @cache
    def make(kind: str):
        options = {"num_frames": 3} if kind.startswith("vid") else {}
        return kwcoco.CocoDataset.demo(kind, image_size=(180, 132), verbose=0, **options)

    return make
