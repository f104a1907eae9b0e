"""Scaled regions: they use the right overview, and do not depend on the crop."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.synthetic import picture

import ndframes as nf
from ndframes.formats.tiled.halve import halve
from ndframes.pixels.warp import warp

SHAPE = (900, 1300)


@pytest.fixture(scope="module")
def pixels():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = [np.sin(y / (9 + band) + x / 31) * 90 + 120 + picture((*SHAPE, 1))[:, :, 0] % 16 for band in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.fixture(scope="module", params=["cog", "npy", None], ids=str)
def frames(request, tmp_path_factory, pixels):
    folder = tmp_path_factory.mktemp("scale")
    np.save(folder / "a.npy", pixels)
    return nf.SimpleFrames({"a": folder / "a.npy"}, workdir=folder / "work", backend=request.param)


def test_a_power_of_two_is_an_overview(tmp_path, pixels):
    np.save(tmp_path / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")
    wanted = pixels
    for level in (1, 2, 3):
        wanted = halve(wanted)
        got = frames.load_region("a", scale=0.5**level)
        height, width, _ = got.shape
        np.testing.assert_array_equal(got, wanted[:height, :width])
        assert abs(height - wanted.shape[0]) <= 1
        crop = frames.load_region("a", np.s_[64:640, 128:1024], scale=0.5**level)
        size = 2**level
        np.testing.assert_array_equal(crop, wanted[64 // size : 640 // size, 128 // size : 1024 // size])


def test_pixels_are_close_to_the_means_of_the_pixels_they_cover(frames, pixels):
    """For any backend: blocks of 3 x 5 pixels, against their means in floats."""
    means = pixels[:, :, :].reshape(300, 3, 260, 5, 3).mean(axis=(1, 3))
    got = frames.load_region("a", scale=(1 / 3, 1 / 5)).astype(float)
    assert got.shape == means.shape
    assert np.abs(got - means)[2:-2, 2:-2].mean() < 3
    assert abs((got - means).mean()) < 0.6


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_crop_of_the_scaled_whole_is_the_scaled_crop(frames, data):
    """If the region begins on a border between pixels of the result."""
    factor = data.draw(st.sampled_from([2, 3, 4, 5, 8, 10, 16]))
    whole = frames.load_region("a", scale=1 / factor)
    top, left = (data.draw(st.integers(0, extent // factor - 2)) for extent in SHAPE)
    height = data.draw(st.integers(1, SHAPE[0] // factor - top - 1))
    width = data.draw(st.integers(1, SHAPE[1] // factor - left - 1))
    region = (
        slice(top * factor, (top + height) * factor),
        slice(left * factor, (left + width) * factor),
    )
    crop = frames.load_region("a", region, scale=1 / factor)
    np.testing.assert_array_equal(crop, whole[top : top + height, left : left + width])
    np.testing.assert_array_equal(frames.load_region("a", region, shape=(height, width)), crop)


@pytest.mark.parametrize("scale", [1, 1.0, (1, 1)])
def test_scale_one_is_the_image(frames, pixels, scale):
    np.testing.assert_array_equal(frames.load_region("a", np.s_[10:50, 20:90], scale=scale), pixels[10:50, 20:90])


def test_enlarging(frames, pixels):
    twice = frames.load_region("a", np.s_[10:50, 20:90], "g", scale=2)
    assert twice.shape == (80, 140, 1)
    np.testing.assert_array_equal(twice[1::2, 1::2].astype(int), np.rint(weigh(pixels))[10:50, 20:90])
    nearest = frames.load_region("a", np.s_[10:50, 20:90], "g", scale=2, interpolation="nearest")
    np.testing.assert_array_equal(nearest[::2, ::2], pixels[10:50, 20:90, 1:2])
    np.testing.assert_array_equal(nearest[1::2, 1::2], pixels[10:50, 20:90, 1:2])


def weigh(pixels: np.ndarray) -> np.ndarray:
    """The second band, moved by a quarter of a pixel in y and x, by the formula of bilinear interpolation."""
    band = pixels[:, :, 1:2].astype(float)
    down = 0.75 * band + 0.25 * np.roll(band, -1, axis=0)
    return 0.75 * down + 0.25 * np.roll(down, -1, axis=1)


def test_nearest_creates_no_new_values(frames, pixels):
    for scale in (0.3, 0.25, 1 / 7, 3.7):
        got = frames.load_region("a", scale=scale, interpolation="nearest")
        rows = np.floor((np.arange(got.shape[0]) + 0.5) / scale + 1e-9).astype(int).clip(0, SHAPE[0] - 1)
        cols = np.floor((np.arange(got.shape[1]) + 0.5) / scale + 1e-9).astype(int).clip(0, SHAPE[1] - 1)
        np.testing.assert_array_equal(got, pixels[np.ix_(rows, cols)])


def test_without_antialias_only_the_nearest_pixels_count(frames, pixels):
    got = frames.load_region("a", scale=1 / 3, antialias=False)
    np.testing.assert_array_equal(got, pixels[1::3, 1::3][:300, :433])


def test_channels_of_several_files(tmp_path):
    left, right = picture((300, 400, 3)), picture((300, 400, 1), "uint16")
    np.save(tmp_path / "a.npy", left)
    np.save(tmp_path / "b.npy", right)

    class Scenes(nf.Frames):
        image_ids = property(lambda self: ["s"])

        def build_pathinfo(self, image_id):
            channels = (
                nf.ChannelInfo(tmp_path / "a.npy", channels="r|g|b"),
                nf.ChannelInfo(tmp_path / "b.npy", channels="nir"),
            )
            return nf.PathInfo(image_id, channels)

    frames = Scenes(workdir=tmp_path / "work")
    got = frames.load_region("s", np.s_[:200, 100:300], "nir|b|r", scale=0.5)
    assert (got.shape, got.dtype) == ((100, 100, 3), np.uint16)
    np.testing.assert_array_equal(got[:, :, 0], halve(right)[:100, 50:150, 0])
    np.testing.assert_array_equal(got[:, :, 1:], halve(left)[:100, 50:150, [2, 0]])


def test_batches_equal_single_reads(frames):
    requests = [("a", np.s_[y : y + 100, 5:300]) for y in (0, 50, 700)]
    for options in (
        {"scale": 0.3},
        {"shape": (20, 30), "interpolation": "nearest"},
        {"scale": 0.5, "antialias": False},
    ):
        batch = frames.load_regions(requests, "b|g", workers=2, **options)
        for got, request in zip(batch, requests, strict=True):
            np.testing.assert_array_equal(got, frames.load_region(*request, "b|g", **options))


def test_a_thumbnail_reads_few_tiles(tmp_path, pixels):
    np.save(tmp_path / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")
    frames.prepare()
    found = frames.explain("a", scale=1 / 8)
    assert (found.shape, found.files[0].level, found.files[0].tiles) == ((113, 163, 3), 3, 2)
    assert "reads overview 3, 8 times as coarse" in str(found)
    assert found.to_dict()["files"][0]["level"] == 3
    assert frames.explain("a", scale=0.3).files[0].level == 1
    assert frames.explain("a", scale=2).files[0].level == 0


def test_empty_and_tiny_regions(frames):
    assert frames.load_region("a", np.s_[5:5, 3:9], scale=0.5).shape == (0, 3, 3)
    assert frames.load_region("a", np.s_[5:8, 3:9], scale=0.01).shape == (1, 1, 3)
    assert frames.load_region("a", np.s_[5:8, 3:9, 2:2], scale=0.5).shape == (2, 3, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0},
        {"scale": -1},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"scale": True},
        {"scale": "2"},
        {"scale": (1, 2, 3)},
        {"scale": 1j},
        {"shape": (0, 5)},
        {"shape": 7},
        {"shape": (2.5, 3)},
        {"shape": (5, 5), "scale": 2},
        {"region": np.s_[::2, :], "scale": 0.5},
        {"region": 5, "scale": 0.5},
        {"region": np.s_[..., 0], "scale": 0.5},
        {"region": np.s_[:, :, 0], "shape": (5, 5)},
        {"region": np.s_[5:5, :], "shape": (2, 2)},
    ],
    ids=str,
)
def test_invalid_scales_are_refused(frames, options):
    with pytest.raises(nf.RegionError, match="image 'a'"):
        frames.load_region("a", **options)


def test_an_unknown_interpolation_and_too_large_a_result_are_refused(frames):
    with pytest.raises(ValueError, match="'nearest', 'linear'"):
        frames.load_region("a", scale=0.5, interpolation="sinc")
    with pytest.raises(nf.RegionTooLargeError):
        frames.load_region("a", scale=1e6)


def test_a_large_window_is_read_in_strips(frames, monkeypatch):
    """The pixels are the same."""
    wanted = {scale: frames.load_region("a", scale=scale, antialias=antialias) for scale, antialias in CASES}
    monkeypatch.setattr("ndframes.items.fuse.warp", partial(warp, max_window_bytes=10_000))
    for scale, antialias in CASES:
        np.testing.assert_array_equal(frames.load_region("a", scale=scale, antialias=antialias), wanted[scale])


CASES = [(0.3, True), (1 / 16, True), (1 / 15, False), (1.7, True)]
