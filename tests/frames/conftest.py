"""Fixtures of the tests of frames: scenes in every form of entry, and a kwcoco bundle."""

from __future__ import annotations

import gc

import pytest
from kit.batches import FORMS, IMAGES
from kit.coco_bundles import make_bundle
from kit.tilework import frames_over

import ndframes as nf


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, module_at_rest):
    """By form, two frames over the same images: one for batches, one for single reads."""
    folder = tmp_path_factory.mktemp("scenes")
    paths = frames_over(folder, IMAGES, None)._sources
    yield {
        form: [nf.SimpleFrames(paths, workdir=folder / form, backend=backend) for _ in range(2)]
        for form, backend in FORMS.items()
    }
    gc.collect()  # frames are in reference cycles, and other tests count open files


@pytest.fixture(scope="module", params=FORMS)
def scene(request, scenes):
    return scenes[request.param]


@pytest.fixture
def bundle(tmp_path):
    """A dataset and its folder."""
    return make_bundle(tmp_path / "bundle")
