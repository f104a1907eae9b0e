"""A grid covers every pixel, exactly as its edge rule says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.sized import SizedFrames, sized

import ndframes as nf
from ndframes.feed import GridPatches

extents = st.integers(1, 40)


def starts_of(patches):
    return [(patch.image_id, patch.rows.start, patch.cols.start) for patch in patches]


def count_cover(patches, shape):
    cover = np.zeros(shape, int)
    for patch in patches:
        cover[max(0, patch.rows.start) : patch.rows.stop, max(0, patch.cols.start) : patch.cols.stop] += 1
    return cover


@given(extents, extents, st.integers(1, 12), st.integers(1, 12), st.sampled_from(["shift", "pad", "keep"]), st.data())
def test_every_pixel_is_covered(height, width, tall, wide, edge, data):
    overlap = data.draw(st.integers(0, tall - 1)), data.draw(st.integers(0, wide - 1))
    frames = sized((height, width), (12, 12))
    patches = GridPatches(frames, (tall, wide), overlap=overlap, edge=edge)
    assert [patch.index for patch in patches] == list(range(len(patches)))
    assert len(set(starts_of(patches))) == len(patches), "a window comes twice"
    first = [patch for patch in patches if patch.image_id == 0]
    assert (count_cover(first, (height, width)) > 0).all()
    for patch in first:
        fits = height >= tall and width >= wide
        if edge == "shift" and fits:
            assert patch.is_inside
        if edge == "keep":
            assert patch.is_inside
            assert patch.shape <= (tall, wide)
        else:
            assert patch.shape == (tall, wide)


@given(extents, st.integers(1, 12), st.data())
def test_neighbours_overlap_as_requested_but_for_the_last(extent, length, data):
    stride = data.draw(st.integers(1, length))
    patches = GridPatches(sized((extent, 12), (12, 12)), (length, 12), stride=(stride, 12), edge="shift")
    starts = sorted({patch.rows.start for patch in patches if patch.image_id == 0})
    steps = np.diff(starts)
    assert (steps[:-1] == stride).all()
    assert (steps[-1:] <= stride).all()


def test_the_edge_rules_differ_at_the_end_only():
    frames = sized((100, 230))
    starts = {
        edge: sorted({patch.cols.start for patch in GridPatches(frames, 100, edge=edge)})
        for edge in ("shift", "pad", "keep", "drop")
    }
    assert starts == {"shift": [0, 100, 130], "pad": [0, 100, 200], "keep": [0, 100, 200], "drop": [0, 100]}
    last = GridPatches(frames, 100, edge="keep")[-1]
    assert (last.cols, last.shape) == (slice(200, 230), (100, 30))


def test_windows_that_do_not_touch_leave_no_short_one_out_and_add_none():
    frames = sized((10, 100))
    assert [patch.cols.start for patch in GridPatches(frames, (10, 10), stride=(10, 30))] == [0, 30, 60, 90]
    assert [patch.cols.start for patch in GridPatches(frames, (10, 10), stride=(10, 45))] == [0, 45, 90]
    assert [patch.cols.start for patch in GridPatches(frames, (10, 10), stride=(10, 95))] == [0, 90]


def test_an_image_that_is_smaller_is_padded_and_not_left_out(tmp_path):
    arrays = {"small": np.full((5, 7, 1), 9, np.uint8), "large": np.full((20, 20, 1), 3, np.uint8)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    frames = nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in arrays}, backend=None)
    patches = GridPatches(frames, 10)
    small = [patch for patch in patches if patch.image_id == "small"]
    assert len(small) == 1
    pixels = frames.load_region(*small[0].request, **small[0].read_options)
    assert pixels.shape == (10, 10, 1)
    assert (pixels[:5, :7] == 9).all()
    assert pixels.sum() == 5 * 7 * 9


def test_a_scaled_window_reads_the_pixels_that_it_says(tmp_path):
    array = np.repeat(np.repeat(np.arange(32 * 32, dtype=np.float32).reshape(32, 32, 1), 4, 0), 4, 1)
    np.save(tmp_path / "a.npy", array)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, backend=None)
    patches = GridPatches(frames, (8, 8), scale=0.25)
    assert len(patches) == 16
    for patch in patches:
        assert (patch.rows.stop - patch.rows.start, patch.shape) == (32, (8, 8))
        pixels = frames.load_region(*patch.request, **patch.read_options)
        wanted = array[::4, ::4][patch.rows.start // 4 :, patch.cols.start // 4 :][:8, :8]
        # At its border a window averages pixels beyond it, too.
        np.testing.assert_allclose(pixels[1:-1, 1:-1], wanted[1:-1, 1:-1])


@given(st.sampled_from([3, 7, 100, 255, 256]), st.floats(0.1, 5))
def test_the_result_of_a_scaled_window_has_the_shape(extent, scale):
    patch = GridPatches(sized((20_000, 20_000)), (extent, 50), scale=scale)[0]
    assert patch.shape == (extent, 50)


def test_windows_within_areas_are_those_with_enough_pixels_in_them():
    frames = sized((60, 80), (60, 80))
    mask = np.zeros((60, 80), bool)
    mask[10:33, 15:47] = True
    whole = GridPatches(frames, (16, 20), overlap=(4, 5), image_ids=[1])
    for share in (0, 0.2, 0.5, 1):
        chosen = GridPatches(frames, (16, 20), overlap=(4, 5), within={1: (15, 10, 47, 33)}, min_covered=share)
        wanted = [p for p in whole if mask[p.rows, p.cols].sum() >= max(1, share * 320)]
        assert starts_of(chosen) == starts_of(wanted)


def test_a_huge_image_is_covered_to_its_last_pixel():
    patches = GridPatches(sized((70_001, 70_003)), 256)
    last = patches[-1]
    assert (last.rows, last.cols) == (slice(69_745, 70_001), slice(69_747, 70_003))
    assert len(patches) == 274 * 274
    assert len(pickle.dumps(patches)) < 2000


def test_frames_of_a_sequence_are_images_or_windows_in_time(tmp_path):
    for number in range(7):
        np.save(tmp_path / f"{number}.npy", np.full((8, 12, 1), number, np.uint8))
    frames = nf.SimpleFrames({"walk": nf.Clip(tmp_path)}, backend=None)
    singles = GridPatches(frames, (8, 6))
    assert [patch.region[0] for patch in singles] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert [int(frames.load_region(*patch.request).mean()) for patch in singles] == [n // 2 for n in range(14)]
    windows = GridPatches(frames, (8, 12), times=3, every=2)
    assert [patch.region[0] for patch in windows] == [slice(0, 5, 2), slice(2, 7, 2)]
    read = frames.load_region(*windows[1].request)
    assert read.shape == (3, 8, 12, 1)
    assert read[:, 0, 0, 0].tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"shape": 0}, "shape=0"),
        ({"shape": (3, 2.5)}, "shape="),
        ({"shape": "ab"}, "shape="),
        (
            {"shape": (1000, 5)},
            "no image of the SizedFrames holds a patch of 1,000 x 5 px; the largest is 0 with 60 x 80 px",
        ),
        ({"overlap": 16}, "overlap=16"),
        ({"overlap": -1}, "overlap=-1"),
        ({"overlap": 1.5}, "overlap=1.5"),
        ({"overlap": np.nan}, "overlap=nan"),
        ({"overlap": 3, "stride": 3}, "exclude each other"),
        ({"stride": 0}, "stride=0"),
        ({"scale": 0}, "scale=0"),
        ({"scale": np.nan}, "scale=nan"),
        ({"times": 2}, "no time axis"),
        ({"every": 0}, "every=0"),
        ({"image_ids": []}, "no images"),
        ({"within": {0: (70, 50, 70, 50)}}, "no window lies"),
        ({"within": {0: (0, 0, 9, 9)}, "min_covered": 2}, "min_covered=2"),
    ],
)
def test_bad_arguments_are_errors_at_construction(keywords, message):
    with pytest.raises(nf.PatchError, match=message):
        GridPatches(sized((60, 80)), **{"shape": 16, **keywords})


def test_an_unknown_edge_and_an_unknown_image_are_errors():
    with pytest.raises(ValueError, match="edge="):
        GridPatches(sized((60, 80)), 16, edge="wrap")
    with pytest.raises(nf.ImageIdError, match="typo"):
        GridPatches(nf.SimpleFrames({"a": "a.png"}), 16, image_ids=["typo"])


def test_a_patch_larger_than_all_images_is_padded_if_requested():
    (patch,) = GridPatches(sized((60, 80)), 100, edge="pad")
    assert (patch.region, patch.is_inside) == ((slice(0, 100), slice(0, 100)), False)


def test_images_without_a_described_size_are_opened_but_not_converted(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30, 40, 3), np.uint8))
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend="cog")
    assert len(GridPatches(frames, 10)) == 12
    assert not list(frames.cache.ls())


def test_the_ids_may_be_anything_hashable():
    frames = SizedFrames({("a", 1): (10, 10), 2.5: (10, 20)})
    assert [patch.image_id for patch in GridPatches(frames, 10)] == [("a", 1), 2.5, 2.5]
