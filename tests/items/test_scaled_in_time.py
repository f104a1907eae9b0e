"""Scaled reads of sequences and videos: each image of them is scaled by the one definition, through every backend and in batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import scaled as reference
from kit.synthetic import picture
from kit.videos import draw

import ndframes as nf
from ndframes.spec.pathinfo import SequenceInfo

BACKENDS = {"direct": None, "npy": "npy", "tiles": {"type": "cog", "config": {"blocksize": 16}}, "cog": "cog"}
COUNT = 4
EXAMPLES = [8, pytest.param(400, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]


class Walk(nf.Frames):
    """A sequence of images, ``"x"``."""

    image_ids = ("x",)

    def __init__(self, paths, **options):
        images = [nf.PathInfo(number, (nf.ChannelInfo(path),)) for number, path in enumerate(paths)]
        self._info = SequenceInfo.of("x", images)
        super().__init__(**options)

    def build_pathinfo(self, image_id):
        return self._info


@st.composite
def reads(draw, shape):
    times = draw(st.sampled_from((np.s_[:], np.s_[1:3], np.s_[::-2], np.s_[2:2])))
    axes = []
    for extent in shape:
        start = draw(st.integers(0, extent - 1))
        axes.append(slice(start, draw(st.integers(start + 1, extent))))
    factor = st.sampled_from((1 / 2, 1 / 4, 1 / 8, 0.3)) | st.floats(0.02, 1.5)
    scale = draw(factor)
    interpolation = draw(st.sampled_from((None, None, "nearest", "linear", "cubic")))
    return times, tuple(axes), (scale, draw(st.just(scale) | factor)), interpolation


def check(made, images, read):
    """One region of several times, through each backend, alone and twice in a batch."""
    times, region, scale, interpolation = read
    options = {"scale": scale, "interpolation": interpolation}
    first = made["direct"].load_region("x", (times, *region), **options)
    wanted = images[times]
    assert len(first) == len(wanted)
    kernel = interpolation or ("nearest" if images.dtype == bool else "linear")
    for got, image in zip(first, wanted, strict=True):
        reference.check(got, image, region, scale, kernel)
    for name, frames in made.items():
        np.testing.assert_array_equal(frames.load_region("x", (times, *region), **options), first, err_msg=name)
        for again in frames.load_regions([("x", (times, *region))] * 2, **options):
            np.testing.assert_array_equal(again, first, err_msg=f"{name}, in a batch")


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """By dtype and size: the images, and the frames of each backend."""
    made = {}
    for dtype, shape in (
        ("uint8", (37, 70, 3)),
        ("uint16", (64, 33, 1)),
        ("float32", (50, 41, 2)),
        ("bool", (45, 67, 1)),
    ):
        folder = tmp_path_factory.mktemp(dtype)
        images = np.stack([picture(shape, dtype, seed=number) for number in range(COUNT)])
        if dtype == "float32":
            images = np.where(np.isfinite(images), np.clip(images, -1e6, 1e6), np.float32(7)).astype(np.float32)
        paths = [folder / f"{number}.npy" for number in range(COUNT)]
        for path, image in zip(paths, images, strict=True):
            np.save(path, image)
        made[dtype] = images, {name: Walk(paths, workdir=folder, backend=backend) for name, backend in BACKENDS.items()}
    return made


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_sequences(sequences, dtype, examples):
    images, made = sequences[dtype]

    @settings(max_examples=examples)
    @given(reads(images.shape[1:3]))
    def run(read):
        check(made, images, read)

    run()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """By name: the decoded frames, and the frames of each backend."""
    made = {}
    for name, shape, bands, dtype in (
        ("colours", (46, 70), 3, np.uint8),
        ("alpha", (48, 64), 4, np.uint8),
        ("deep", (51, 75), 1, np.uint16),
    ):
        folder = tmp_path_factory.mktemp(name)
        path = folder / "clip.mkv"
        written = [draw(number, shape, bands, dtype) for number in range(COUNT)]
        nf.write_video(path, written, 25, codec="ffv1")
        frames = nf.read_video(path)
        np.testing.assert_array_equal(frames, written)
        made[name] = (
            frames,
            {key: nf.SimpleFrames({"x": path}, workdir=folder, backend=backend) for key, backend in BACKENDS.items()},
        )
    return made


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", ["colours", "alpha", "deep"])
def test_videos(videos, name, examples):
    frames, made = videos[name]

    @settings(max_examples=examples)
    @given(reads(frames.shape[1:3]))
    def run(read):
        check(made, frames, read)

    run()
