"""Frames and datasets of the tests of torch."""

from __future__ import annotations

import numpy as np
import pytest

import ndframes as nf


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Frames over three photographs of different sizes, prepared."""
    frames = nf.SimpleFrames(
        {name: nf.demo_paths()[name] for name in ("astronaut", "coffee", "chelsea")},
        workdir=tmp_path_factory.mktemp("work"),
    )
    frames.prepare()
    return frames


@pytest.fixture(scope="session")
def walk(tmp_path_factory):
    """Frames over a video whose frames differ."""
    path = tmp_path_factory.mktemp("walk") / "walk.mp4"
    photo = nf.SimpleFrames.demo(backend=None).load_image("astronaut")
    nf.write_video(path, (np.ascontiguousarray(photo[3 * n : 3 * n + 96, :128]) for n in range(12)), fps=5)
    return nf.SimpleFrames({"walk": path}, workdir=path.parent / "work")
