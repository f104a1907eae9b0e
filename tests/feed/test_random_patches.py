"""Random windows are functions of seed, epoch and index, and every possible window is as likely."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.sized import sized

import ndframes as nf
from ndframes.feed import RandomPatches
from ndframes.feed.reading import load_patches


def chi_square(counts, expected):
    return sum((counts[key] - number) ** 2 / number for key, number in expected.items())


def bound(degrees):
    """What chi-square exceeds in about one of 10,000 cases (Wilson and Hilferty, 1931)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.72 * (2 / (9 * degrees)) ** 0.5) ** 3


def test_every_window_of_all_images_is_as_likely():
    """Images of 1, 2, 12 and 64 places: by area, the small ones would come far too seldom, and the last place never."""
    frames = sized((8, 8), (8, 9), (10, 11), (15, 15))
    patches = RandomPatches(frames, 8, 79_000, seed=4)
    counts = Counter((patch.image_id, patch.rows.start, patch.cols.start) for patch in patches)
    places = {(0, 0, 0), (1, 0, 0), (1, 0, 1)}
    places |= {(2, y, x) for y in range(3) for x in range(4)} | {(3, y, x) for y in range(8) for x in range(8)}
    assert set(counts) == places
    assert chi_square(counts, dict.fromkeys(places, 1000)) < bound(78)


def test_batches_of_neighbours_are_not_related():
    positions = np.array([patch.cols.start for patch in RandomPatches(sized((8, 10_000)), 8, 20_000, seed=9)], float)
    centred = positions - positions.mean()
    for lag in (1, 2, 7, 64):
        correlation = (centred[lag:] * centred[:-lag]).sum() / (centred**2).sum()
        assert abs(correlation) < 4 / 20_000**0.5


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(0, 99))
def test_a_patch_is_a_function_of_seed_epoch_and_index(seed, epoch, index):
    frames = sized((50, 60), (70, 20))
    patches = RandomPatches(frames, 16, 100, seed=seed)
    patches.set_epoch(epoch)
    wanted = patches[index]
    other = pickle.loads(pickle.dumps(RandomPatches(frames, 16, 1000, seed=seed)))
    assert other[index] == other[index - 1000]
    other.set_epoch(epoch)
    assert other[index] == wanted
    assert wanted.is_inside
    assert (wanted.kind, wanted.index, wanted.shape) == ("random", index, (16, 16))


def test_epochs_and_seeds_differ():
    frames = sized((500, 500))
    patches = RandomPatches(frames, 16, 50)
    runs = [list(patches), list(RandomPatches(frames, 16, 50, seed=1))]
    patches.set_epoch(1)
    runs.append(list(patches))
    # Nor is item 0 of seed 1 item 1 of seed 0.
    places = [{(patch.rows.start, patch.cols.start) for patch in run} for run in runs]
    assert sum(map(len, places)) - len(set.union(*places)) <= 2


def test_weights_by_image():
    frames = sized((8, 8), (100, 100), (400, 400), (9, 9))
    shares = {
        "images": [0.25] * 4,
        "mapping": [0.5, 0, 0.5, 0],
        "list": [0.1, 0.2, 0.3, 0.4],
    }
    weights = {"images": "images", "mapping": {0: 3, 2: 3}, "list": [1, 2, 3, 4]}
    for name, wanted in shares.items():
        counts = Counter(patch.image_id for patch in RandomPatches(frames, 8, 20_000, weights=weights[name]))
        expected = {number: share * 20_000 for number, share in enumerate(wanted) if share}
        assert set(counts) == set(expected)
        assert chi_square(counts, expected) < bound(3)


def test_places_within_an_area_are_as_likely():
    """The centre of a window lies in the area; rows of the area have different lengths."""
    frames = sized((20, 20), (20, 20), (20, 20))
    within = {0: np.array([(6, 6), (16, 6), (6, 16)]), 2: [(0, 0, 5, 5), (10, 10, 12, 11)]}
    patches = RandomPatches(frames, (4, 6), 60_000, within=within, seed=2)
    counts = Counter((patch.image_id, patch.rows.start, patch.cols.start) for patch in patches)
    centres = {(0, y, x) for y in range(6, 16) for x in range(6, 16) if x + 0.5 - 6 + y + 0.5 - 6 < 10}
    centres |= {(2, y, x) for y in range(5) for x in range(5)} | {(2, 10, 10), (2, 10, 11)}
    places = {(n, y - 2, x - 3) for n, y, x in centres if 0 <= y - 2 <= 16 and 0 <= x - 3 <= 14}
    assert set(counts) <= places | {(0, y - 2, x - 3) for y in range(6, 16) for x in range(6, 16) if x + y == 21}
    expected = dict.fromkeys(set(counts), 60_000 / len(counts))
    assert len(counts) >= len(places)
    assert chi_square(counts, expected) < bound(len(counts) - 1)


def test_an_image_smaller_than_the_window_has_one_place_within_an_area():
    frames = sized((20, 20), (3, 20), (20, 3), (3, 3))
    within = {1: (0, 0, 20, 3), 2: (0, 0, 3, 20), 3: (0, 0, 1, 1)}
    patches = RandomPatches(frames, 8, 5000, within=within)
    places = {(patch.image_id, patch.rows.start, patch.cols.start) for patch in patches}
    assert places == {(1, 0, x) for x in range(13)} | {(2, y, 0) for y in range(13)} | {(3, 0, 0)}


def test_small_images_are_padded(tmp_path):
    np.save(tmp_path / "small.npy", np.full((5, 7, 1), 9, np.uint8))
    np.save(tmp_path / "large.npy", np.full((8, 8, 1), 3, np.uint8))
    frames = nf.SimpleFrames({"small": tmp_path / "small.npy", "large": tmp_path / "large.npy"}, backend=None)
    seen = {}
    for patch in RandomPatches(frames, 8, 50):
        seen[patch.image_id] = frames.load_region(*patch.request, **patch.read_options)
    wanted = np.zeros((8, 8, 1), np.uint8)
    wanted[:5, :7] = 9
    np.testing.assert_array_equal(seen["small"], wanted)
    np.testing.assert_array_equal(seen["large"], np.full((8, 8, 1), 3))


def test_several_scales_come_equally_often():
    patches = RandomPatches(sized((100, 100)), 10, 9000, scales=(1, 0.5, 2))
    counts = Counter(patch.scale for patch in patches)
    assert set(counts) == {None, 0.5, 2}
    assert chi_square(counts, dict.fromkeys(counts, 3000)) < bound(2)
    for patch in patches[:300]:
        window = patch.rows.stop - patch.rows.start
        assert (patch.shape, window) == ((10, 10), {None: 10, 0.5: 20, 2: 5}[patch.scale])


def test_the_last_place_of_a_huge_image_is_drawn():
    """Of 70,000 px, more than 16 bits hold."""
    columns = [patch.cols.start for patch in RandomPatches(sized((8, 70_000)), 8, 30_000)]
    assert max(columns) > 69_900
    assert min(columns) < 100
    assert {patch.cols.start for patch in RandomPatches(sized((256, 260)), 256, 200)} == {0, 1, 2, 3, 4}


def test_windows_in_time(tmp_path):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full((8, 9, 1), number, np.uint8))
    frames = nf.SimpleFrames({"walk": nf.Clip(tmp_path)}, backend=None)
    windows = RandomPatches(frames, 8, 4000, times=2, every=3)
    counts = Counter((patch.region[0].start, patch.cols.start) for patch in windows)
    assert set(counts) == {(t, x) for t in range(3) for x in range(2)}
    assert chi_square(counts, dict.fromkeys(counts, 4000 / 6)) < bound(5)
    assert frames.load_region(*windows[0].request)[:, 0, 0, 0].tolist() == [
        windows[0].region[0].start,
        windows[0].region[0].start + 3,
    ]
    singles = Counter(patch.region[0] for patch in RandomPatches(frames, 8, 6000))
    assert set(singles) == set(range(6))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"length": 2.5}, "length=2.5"),
        (
            {"shape": 1000},
            "no image of the SizedFrames holds a patch of 1,000 x 1,000 px; .* or edge='pad' to pad all images",
        ),
        ({"image_ids": [1, 0, 1, 0]}, r"image_ids names \[1, 0\] more than once; give each id once"),
        ({"weights": "area"}, "weights='area'"),
        ({"weights": [1, 2, 3]}, r"\(3,\) numbers for 2 images"),
        ({"weights": [0, 0]}, "sum to zero"),
        ({"weights": {0: 0}}, "sum to zero"),
        ({"weights": {7: 1}}, "7"),
        ({"weights": [1, -1]}, "the weight of image 1 is -1"),
        ({"weights": [1, np.nan]}, "the weight of image 1 is nan"),
        ({"scales": []}, "scales is empty"),
        ({"scales": [1, -2]}, "scale=-2"),
        ({"within": {}}, "no window has its centre"),
        ({"within": {0: (0, 0, 1, 1)}}, "no window has its centre"),
        ({"times": 3}, "no time axis"),
    ],
)
def test_bad_arguments_are_errors_at_construction(keywords, message):
    with pytest.raises(nf.PatchError, match=message):
        RandomPatches(sized((60, 80), (60, 80)), **{"shape": 16, "length": 10, **keywords})


def test_a_patch_larger_than_all_images_is_padded_on_request(tmp_path):
    image = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3) + 1
    np.save(tmp_path / "a.npy", image)
    frames = nf.SimpleFrames({"ab": tmp_path / "a.npy"}, backend=None)
    patches = RandomPatches(frames, (8, 10), 5, edge="pad", image_ids="ab")
    pixels = load_patches(frames, patches[:])
    assert pixels.shape == (5, 8, 10, 3)
    assert (pixels[:, :6, :7] == image).all()
    assert not pixels[:, 6:].any()
    assert not pixels[:, :, 7:].any()
    with pytest.raises(ValueError, match="edge='drop'"):
        RandomPatches(frames, 4, 5, edge="drop")


def test_a_negative_epoch_is_an_error_at_once():
    patches = RandomPatches(sized((60, 80)), 16, 10)
    for view in (patches, patches.shuffled(1), patches.shard(0, 2)):
        with pytest.raises(ValueError, match="epoch=-1; epochs are counted from 0"):
            view.at(1, epoch=-1)


def test_a_video_that_is_too_short_is_named(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.zeros((8, 9, 1), np.uint8))
    frames = nf.SimpleFrames({"walk": nf.Clip(tmp_path)}, backend=None)
    with pytest.raises(nf.PatchError, match=r"'walk'.* it has 3 frames, but times=3 with every=2 needs 5"):
        RandomPatches(frames, 8, 10, times=3, every=2)
