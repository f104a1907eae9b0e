"""BoxPatches: shares, places and balance, compared with counts of all possible windows."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import numpy as np
import pytest

import ndframes as nf
from ndframes.errors import PatchError
from ndframes.feed import AnnotationTable, BoxPatches, GridPatches, Patch
from ndframes.feed.balance import repeat_factors
from ndframes.feed.negatives import FreeWindows
from ndframes.feed.order import Draws
from ndframes.feed.thinning import _Windows, thin_boxes
from tests.kit.coco_bundles import coco
from tests.kit.scenes import annot, chi_square, dataset, image

BOX = (100, 120, 20, 10)


def scene(boxes, image_count=2, side=400, names=("cat", "dog", "owl"), **more):
    """A dataset of ``(image_id, box, category_id)``."""
    records = [annot(n, image_id, box, category) for n, (image_id, box, category) in enumerate(boxes, 1)]
    return dataset([image(n, side, side, **more) for n in range(1, image_count + 1)], records, names)


def corners(patch):
    return patch.cols.start, patch.rows.start, patch.cols.stop, patch.rows.stop


def gap(patch, record):
    """The distance in x or y between a patch and a box; below 0 where they overlap."""
    x, y, w, h = record["bbox"]
    left, top, right, bottom = corners(patch)
    return max(x - right, left - (x + w), y - bottom, top - (y + h))


def random_boxes(seed, count, image_count=2, side=400, most=40):
    random = np.random.default_rng(seed)
    return [
        (
            int(random.integers(1, image_count + 1)),
            (*random.uniform(0, side - most, 2).round(1).tolist(), *random.uniform(4, most, 2).round(1).tolist()),
            int(random.choice([10, 20, 30])),
        )
        for _ in range(count)
    ]


# -- the sequence --------------------------------------------------------------------------------------------------


def test_an_item_is_a_function_of_seed_epoch_and_index():
    data = scene(random_boxes(0, 30))
    options = {
        "seed": 3,
        "scale_jitter": (0.5, 2),
        "hard": [((1, (slice(0, 64), slice(0, 64))), 1)],
        "balance": "class",
    }
    patches = BoxPatches(data, 64, 200, **options)
    again = pickle.loads(pickle.dumps(BoxPatches(AnnotationTable(data), (64, 64), 200, **options)))
    first = list(patches)
    assert [again[n] for n in reversed(range(200))] == first[::-1]
    assert [patch.index for patch in first] == list(range(200))
    assert again.fingerprint == patches.fingerprint
    for each in (patches, again):
        each.set_epoch(5)
    assert list(patches) == list(again)
    assert sum(one == other for one, other in zip(first, patches, strict=False)) < 20
    patches.set_epoch(0)
    assert list(patches) == first
    other = BoxPatches(data, 64, 200, **{**options, "seed": 4})
    assert other.fingerprint != patches.fingerprint
    assert sum(one == other for one, other in zip(first, other, strict=False)) < 20


@pytest.mark.parametrize(
    "change",
    [
        {"positives": 0.4}, {"balance": "class"}, {"jitter": 0.1}, {"scale_jitter": (1, 2)}, {"away": 3}, {"allow_cut": 0.1},
        {"hard": [((1, (slice(0, 64), slice(0, 64))), 1)]}, {"thin": True}, {"image_ids": [1]},
    ],
)  # fmt: skip
def test_every_option_changes_the_fingerprint(change):
    data = scene(random_boxes(0, 30))
    assert BoxPatches(data, 64, 200, **change).fingerprint != BoxPatches(data, 64, 200).fingerprint


def test_each_form_of_a_dataset_gives_the_same_patches():
    data = scene(random_boxes(0, 30))
    expected = list(BoxPatches(data, 64, 50))
    for form in (coco(data), nf.CocoFrames(data), nf.CocoFrames(coco(data)), AnnotationTable(data)):
        assert list(BoxPatches(form, 64, 50)) == expected


def test_patches_of_the_images_of_a_video_have_no_time_axis():
    data = scene([(1, BOX, 10), (2, BOX, 20)])
    data["videos"] = [{"id": 8, "name": "clip"}]
    for number, record in enumerate(data["images"]):
        record.update(video_id=8, frame_index=number)
    patches = BoxPatches(data, 64, 40)
    assert {patch.image_id for patch in patches} == {1, 2}
    assert all(len(patch.region) == 2 for patch in patches)


def test_a_pickle_is_small():
    patches = BoxPatches(scene(random_boxes(0, 3000)), 64, 50, positives=1)
    assert len(pickle.dumps(patches, 5)) / 3000 < 8 * 16


@pytest.mark.parametrize("positives", [0, 0.3, 1])
def test_shares_are_exact_in_every_epoch_and_in_any_rank(positives):
    hard = [((1, (slice(0, 64), slice(0, 64))), 1)]
    patches = BoxPatches(scene([(1, BOX, 10)]), 64, 1000, positives=positives, hard=hard, hard_share=0.2)
    for epoch in range(3):
        patches.set_epoch(epoch)
        kinds = Counter(patch.kind for patch in patches)
        positive_count = round(1000 * positives)
        hard_count = round((1000 - positive_count) * 0.2)
        assert (kinds["positive"], kinds["hard"]) == (positive_count, hard_count)
        assert kinds["negative"] == 1000 - positive_count - hard_count
    # No pattern in the order: neighbours are independent.
    kinds = [patch.kind == "positive" for patch in patches]
    if positives == 0.3:
        pairs = Counter(zip(kinds[::2], kinds[1::2], strict=False))
        found, bound = chi_square([pairs[a, b] for a in (0, 1) for b in (0, 1)], [0.49, 0.21, 0.21, 0.09])
        assert found < bound


# -- positives -----------------------------------------------------------------------------------------------------


def test_positives_are_spread_evenly_around_a_box():
    patches = BoxPatches(scene([(1, BOX, 10)]), (64, 80), 3000, positives=1, jitter=0.25, allow_cut=1)
    tops, lefts = Counter(), Counter()
    for patch in patches:
        assert (patch.annot_id, patch.kind, patch.image_shape, patch.shape) == (1, "positive", (400, 400), (64, 80))
        tops[patch.rows.start] += 1
        lefts[patch.cols.start] += 1
    # The centre of the box is at y 125, x 110; a window moves by up to 16 and 20 pixels.
    for counts, first, last in ((tops, 125 - 32 - 16, 125 - 32 + 16), (lefts, 110 - 40 - 20, 110 - 40 + 20)):
        assert (min(counts), max(counts)) == (first, last)
        found, bound = chi_square([counts[n] for n in range(first, last + 1)], np.ones(last - first + 1))
        assert found < bound


def test_a_box_that_fits_stays_inside_and_windows_stay_in_the_image():
    data = scene(random_boxes(1, 60))
    boxes = {record["id"]: record["bbox"] for record in data["annotations"]}
    for patch in BoxPatches(data, 48, 1000, positives=1, jitter=0.9):
        x, y, w, h = boxes[patch.annot_id]
        left, top, right, bottom = corners(patch)
        assert left <= x
        assert x + w <= right
        assert top <= y
        assert y + h <= bottom
        assert patch.is_inside


def test_the_centre_of_a_window_stays_in_a_box_that_does_not_fit():
    data = scene([(1, (50, 60, 200, 10), 10)])
    lefts = set()
    for patch in BoxPatches(data, 32, 500, positives=1, jitter=5):
        left, top, _right, bottom = corners(patch)
        lefts.add(left)
        assert 50 <= left + 16 <= 250
        assert top <= 60
        assert bottom >= 70
    assert max(lefts) - min(lefts) > 180


def test_a_window_larger_than_an_image_starts_with_it():
    data = dataset([image(1, 50, 300), image(2, 200, 300)], [annot(1, 1, (200, 10, 20, 20))])
    for patch in BoxPatches(data, 100, 50, positives=1):
        assert patch.rows == slice(0, 100)
        assert patch.cols.start <= 200
        assert patch.cols.stop <= 300


def test_windows_that_cut_neighbours_are_avoided():
    """The neighbour at the right lies inside or outside of the window, never on its border, where that is possible."""
    data = scene([(1, (100, 100, 20, 20), 10), (1, (140, 100, 20, 20), 20)])
    cut = 0
    for allow_cut, most in ((0.1, 8), (1, 1000)):
        cut = 0
        for patch in BoxPatches(data, 64, 1000, positives=1, balance=[("class", {"cat": 1})], allow_cut=allow_cut):
            shown = min(160, patch.cols.stop) - max(140, patch.cols.start)
            cut += 0 < shown < 18
        assert cut <= most
    assert cut > 100


def test_scale_jitter_is_log_uniform():
    patches = BoxPatches(scene([(1, BOX, 10)]), (50, 100), 2000, positives=0.9, scale_jitter=(0.5, 2))
    factors = []
    for patch in patches:
        height, width = patch.rows.stop - patch.rows.start, patch.cols.stop - patch.cols.start
        assert patch.shape == (50, 100)
        assert patch.scale is None or patch.scale == 50 / height
        assert abs(width - 2 * height) <= 1
        if patch.kind == "positive":
            factors.append(math.log2(width / 100))
    found, bound = chi_square(np.histogram(factors, bins=8, range=(-1, 1))[0], np.ones(8))
    assert found < bound + 8  # windows have whole pixels, so borders of bins shift by half of one
    assert min(factors) >= -1
    assert max(factors) <= 1


# -- balance -------------------------------------------------------------------------------------------------------

MANY = [(1 + n % 2, (3 * n, 200, 8, 8), 10) for n in range(80)] + [(2, (300, 20, 9, 9), 20), (2, (330, 20, 9, 9), 20)]


def drawn(data, length=2000, **options):
    return Counter(patch.annot_id for patch in BoxPatches(data, 64, length, positives=1, **options))


def test_without_balance_all_boxes_are_alike():
    counts = drawn(scene(MANY))
    found, bound = chi_square([counts[n] for n in range(1, 83)], np.ones(82))
    assert found < bound


def test_balance_by_class():
    counts = drawn(scene(MANY, names=("cat", "dog")), balance="class")
    found, bound = chi_square([counts[n] for n in range(1, 83)], [1 / 80] * 80 + [1 / 2] * 2)
    assert found < bound


def test_balance_by_repeat_factor():
    boxes = [(n, BOX, 10) for n in range(1, 101)] + [(7, (200, 200, 9, 9), 20), (8, (1, 1, 9, 9), 30)]
    data = scene(boxes, image_count=100)
    counts = drawn(data, 3000, balance=("repeat", 0.25))
    weights = np.ones(102)
    # The rare classes are in one of a hundred images: sqrt(0.25 / 0.01) = 5, shared by the two boxes of the image.
    weights[[6, 100, 7, 101]] = 2.5
    found, bound = chi_square([counts[n] for n in range(1, 103)], weights)
    assert found < bound
    assert drawn(data, 500, balance="repeat") == drawn(data, 500, balance=("repeat", 0.001))


def test_repeat_factors_by_their_formula():
    labels, images = np.array([1, 1, 1, 2, 3]), np.array([0, 0, 1, 2, 0])
    expected = [1, 1, math.sqrt(0.3 / 0.1), math.sqrt(0.3 / 0.1)]
    assert repeat_factors(labels, images, 10, 0.3).tolist() == pytest.approx([1, math.sqrt(1.5), *expected[2:]])


def test_balance_by_levels():
    data = scene(MANY, image_count=3)
    data["videos"] = [{"id": 1, "name": "v", "season": "dry"}, {"id": 2, "name": "w", "season": "wet"}]
    for record, video, region in zip(data["images"], (1, 2, 1), ("north", "south", "east"), strict=False):
        record.update(video_id=video, region=region)
    data["annotations"][0]["region"] = "own"  # an attribute of the annotation comes before that of the image
    levels = [("region", {"north": 3, "south": 1, "own": 0}), ("class", {"cat": 1, "dog": 4})]
    counts = drawn(data, 3000, balance=levels)
    north = list(range(3, 81, 2))
    south, rare = list(range(2, 81, 2)), [81, 82]
    assert counts[1] == 0
    weights = [3 / len(north)] * len(north) + [1 / 5 / len(south)] * len(south) + [4 / 5 / 2] * 2
    found, bound = chi_square([counts[n] for n in north + south + rare], weights)
    assert found < bound
    counts = drawn(data, 1000, balance=[("season", None)])
    found, bound = chi_square(
        [sum(counts[n] for n in range(1, 83, 2) if n < 81), sum(counts[n] for n in south + rare)], [1, 1]
    )
    assert found < bound


def test_levels_leave_out_branches_without_weight():
    """A region whose classes all have the weight 0 takes no part, and the others share what it had."""
    data = scene([(1, BOX, 10), (2, BOX, 20), (3, BOX, 30)], image_count=3)
    counts = drawn(data, 900, balance=[("image_id", None), ("class", {"cat": 1, "dog": 1})])
    assert counts[3] == 0
    found, bound = chi_square([counts[1], counts[2]], [1, 1])
    assert found < bound


def test_crowds_and_background_are_no_positives():
    data = scene([(1, BOX, 10), (1, (200, 200, 50, 50), 20), (2, (5, 5, 9, 9), 30), (2, (50, 50, 0, 9), 10)])
    data["annotations"][1]["iscrowd"] = 1
    data["categories"][2]["name"] = "background"
    assert drawn(data, 50) == {1: 50}


# -- negatives -----------------------------------------------------------------------------------------------------


def free_places(data, shape, away):
    """All places ``(image_id, top, left)`` of a window, by looking at each."""
    height, width = shape
    found = []
    for record in data["images"]:
        here = [each for each in data["annotations"] if each["image_id"] == record["id"]]
        for top in range(max(0, record["height"] - height) + 1):
            for left in range(max(0, record["width"] - width) + 1):
                patch = Patch(record["id"], (slice(top, top + height), slice(left, left + width)))
                if all(gap(patch, each) >= away for each in here):
                    found.append((record["id"], top, left))
    return found


@pytest.mark.parametrize("count", [0, 2, 5, 12])
def test_all_free_windows_are_equally_likely(count):
    """Over images with much free space, where windows are tried, and with little, where they are counted."""
    data = scene(random_boxes(count, count, image_count=2, side=20, most=6), image_count=3, side=20)
    data["images"].append(image(4, 5, 20))  # smaller than the window in y
    expected = free_places(data, (9, 7), 1.5)
    patches = BoxPatches(data, (9, 7), 4000, positives=0, away=1.5)
    counts = Counter((patch.image_id, patch.rows.start, patch.cols.start) for patch in patches)
    assert set(counts) <= set(expected)
    found, bound = chi_square([counts[place] for place in expected], np.ones(len(expected)))
    assert found < bound
    assert {patch.kind for patch in patches} == {"negative"}


@pytest.mark.parametrize("spans", [1 << 16, 5])
@pytest.mark.parametrize("seed", range(8))
def test_counted_windows_are_those_that_are_free(seed, spans, monkeypatch):
    monkeypatch.setattr("ndframes.feed.negatives._MOST_SPANS", spans)
    data = scene(random_boxes(seed, 3 + 4 * seed, 1, 40, 12), image_count=1, side=40)
    away = seed / 2
    expected = free_places(data, (6, 8), away)
    windows = FreeWindows.of(AnnotationTable(data).columns, np.array([0]), (6, 8), away)
    ((rows, stops),) = windows._count(np.array([0]))
    assert stops[-1] == len(expected)
    found = sorted((1, *windows._pick(0, (rows, stops), number)) for number in range(len(expected)))
    assert found == expected


def test_an_image_with_a_single_free_place_is_found_at_once():
    data = scene([(1, (0, 0, 400, 300), 10), (1, (0, 300, 300, 100), 10)], image_count=1)
    patches = BoxPatches(data, 84, 20, positives=0, away=16)
    assert {corners(patch) for patch in patches} == {(316, 316, 400, 400)}
    with pytest.raises(
        PatchError, match=r"no window of 85 x 85 px in the 1 image \[1\] of the dataset is 16 px away from all boxes"
    ):
        BoxPatches(data, 85, 20, positives=0)
    assert len(BoxPatches(data, 85, 20, positives=1)) == 20


def test_if_all_tries_fail_the_windows_are_counted(monkeypatch):
    monkeypatch.setattr("ndframes.feed.negatives._TRIES", 1)
    data = scene([(1, (0, 0, 20, 20), 10)], image_count=1, side=60)
    windows = FreeWindows.of(AnnotationTable(data).columns, np.array([0]), (10, 10), 2)
    assert not windows.strips
    expected = {place[1:] for place in free_places(data, (10, 10), 2)}
    assert {windows.draw(Draws(n))[1:] for n in range(3000)} <= expected


def test_negatives_shun_crowds_and_jitter_in_scale():
    data = scene([(1, (100, 0, 300, 400), 10)], image_count=1)
    data["annotations"][0]["iscrowd"] = 1
    patches = BoxPatches(data, 40, 500, positives=0, away=10, scale_jitter=(0.5, 2))
    sizes = Counter()
    for patch in patches:
        assert patch.cols.stop <= 90
        assert patch.shape == (40, 40)
        sizes[patch.rows.stop - patch.rows.start] += 1
    assert len(sizes) == 8
    found, bound = chi_square(list(sizes.values()), np.ones(8))
    assert found < bound


# -- hard negatives ------------------------------------------------------------------------------------------------


def test_hard_negatives_by_score():
    data = scene([(1, BOX, 10)])
    hard = [
        (Patch(2, (slice(0, 64), slice(0, 64))), 1),
        (Patch(2, (slice(10, 42), slice(10, 42)), scale=2), 3),
        ((1, (slice(300, 310), slice(390, 400))), 6),
        ((2, (slice(-20, 44), slice(0, 64))), 0),
    ]
    patches = BoxPatches(data, 64, 3000, positives=0, hard=hard, hard_share=1)
    counts = Counter((patch.image_id, corners(patch)) for patch in patches)
    places = [(2, (0, 0, 64, 64)), (2, (10, 10, 42, 42)), (1, (336, 273, 400, 337))]
    assert set(counts) == set(places)
    found, bound = chi_square([counts[place] for place in places], [1, 3, 6])
    assert found < bound
    for patch in patches:
        assert (patch.kind, patch.shape, patch.annot_id) == ("hard", (64, 64), None)
        assert patch.scale == (2 if patch.rows.stop == 42 else None)


def test_hard_negatives_in_each_form_are_the_same():
    data = scene([(1, BOX, 10)])
    frames = nf.CocoFrames(data, backend=None)
    grid = GridPatches(frames, 100, image_ids=[2])
    scores = [float(1 + n % 3) for n in range(len(grid))]
    expected = list(BoxPatches(data, 100, 60, hard=list(zip(grid, scores, strict=True))))
    assert {patch.kind for patch in expected} == {"positive", "negative", "hard"}
    for form in ((grid, scores), dict(zip(grid, scores, strict=True)), zip(grid[:], scores, strict=True)):
        assert list(BoxPatches(data, 100, 60, hard=form)) == expected


GOOD = ((1, (slice(0, 4), slice(0, 4))), 1)
BAD_HARD = [
    ([GOOD, ((9, (slice(0, 4), slice(0, 4))), 1)], r"image 9: hard\[1\]: the dataset has no such image"),
    ([((1, (slice(0, 4), slice(0, 4))), 0)], "hard: the scores sum to zero; give one of them a score above 0"),
    ([GOOD, (GOOD[0], math.nan)], r"image 1: hard\[1\]: its score is nan; give a finite number from 0"),
    ([(GOOD[0], math.inf)], r"image 1: hard\[0\]: its score is inf"),
    ([GOOD, GOOD, (GOOD[0], -1)], r"image 1: hard\[2\]: its score is -1"),
    ([(GOOD[0], "high")], r"hard\[0\]: .* is not a pair of a patch"),
    (
        [((2, (slice(0, 64), slice(400, 464))), 1)],
        r"image 2: hard\[0\]: the region .* shows no pixel of the image, which has 400 x 400",
    ),
    ([GOOD, (Patch(1, (slice(-64, 0), slice(0, 64))), 1)], r"image 1: hard\[1\]: the region .* shows no pixel"),
    ([((1, (slice(-9, -3), slice(0, 4))), 1)], r"image 1: hard\[0\]: the region .* shows no pixel"),
    (5, "hard=5; give pairs of a patch and its score"),
    ([5], r"hard\[0\]: 5 is not a pair of a patch"),
    ([Patch(1, (slice(0, 4), slice(0, 4)))], r"hard\[0\]: Patch\(image_id=1.* is not a pair of a patch"),
    ([((1, (slice(None), slice(0, 4))), 1)], r"hard\[0\]: .*slices with integer start and stop"),
    ([((1, (0, slice(0, 4), slice(0, 4))), 1)], r"image 1: hard\[0\]: the region .* has a time axis"),
]


@pytest.mark.parametrize(("hard", "message"), BAD_HARD)
def test_bad_hard_negatives(hard, message):
    with pytest.raises(PatchError, match=message):
        BoxPatches(scene([(1, BOX, 10)]), 64, 30, hard=hard)


def test_hard_patches_need_a_score_each():
    data = scene([(1, BOX, 10)])
    grid = GridPatches(nf.CocoFrames(data, backend=None), 200)
    with pytest.raises(PatchError, match="hard: there are 8 patches and 2 scores; give a score for each"):
        BoxPatches(data, 64, 30, hard=(grid, [1, 2]))


def test_a_round_without_failures_has_no_hard_negatives():
    data = scene([(1, BOX, 10)])
    expected = BoxPatches(data, 64, 40, hard=None)
    for hard in ([], {}, iter(())):
        patches = BoxPatches(data, 64, 40, hard=hard)
        assert list(patches) == list(expected)
        assert patches.fingerprint == expected.fingerprint


# -- thinning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_thinned_boxes_cover_all_others(seed):
    data = scene(random_boxes(seed, 150))
    columns = AnnotationTable(data).columns
    numbers = np.arange(len(columns))
    groups = columns.labels if seed % 2 else np.zeros(len(columns), np.int64)
    kept = thin_boxes(columns, numbers, groups, (64, 64))
    assert 0 < kept.sum() < 0.9 * len(kept)
    x0, y0, x1, y1 = columns.boxes
    tops, lefts = np.rint((y0 + y1) / 2 - 32).clip(0, 336), np.rint((x0 + x1) / 2 - 32).clip(0, 336)
    covers = (lefts[:, None] <= x0) & (lefts[:, None] + 64 >= x1) & (tops[:, None] <= y0) & (tops[:, None] + 64 >= y1)
    images = columns.image_numbers
    covers &= (images[:, None] == images) & (groups[:, None] == groups)
    assert covers[kept].any(axis=0)[~kept].all()
    # No kept box lies in the window of one that was taken before it.
    counts = covers.sum(axis=1)
    for one in np.flatnonzero(kept):
        for other in np.flatnonzero(kept & (counts > counts[one])):
            assert not covers[other, one]


@pytest.mark.parametrize("pairs", [1 << 18, 7])
def test_thinning_equals_taking_boxes_one_by_one(pairs, monkeypatch):
    """Boxes of all sizes, some larger than the window, in crowded rows and at the borders of images."""
    monkeypatch.setattr("ndframes.feed.thinning._MOST_PAIRS", pairs)
    row = [(1, (4 * n, 50, 9, 9), 10) for n in range(90)]
    data = scene([*random_boxes(7, 120, 3, 400, 90), *random_boxes(8, 80, 3, 400, 10), *row], image_count=4)
    columns = AnnotationTable(data).columns
    numbers, groups = np.arange(len(columns)), columns.labels
    kept = thin_boxes(columns, numbers, groups, (50, 80))
    x0, y0, x1, y1 = columns.boxes
    tops, lefts = np.rint((y0 + y1 - 50) / 2).clip(0, 350), np.rint((x0 + x1 - 80) / 2).clip(0, 320)
    covers = (lefts[:, None] <= x0) & (lefts[:, None] + 80 >= x1) & (tops[:, None] <= y0) & (tops[:, None] + 50 >= y1)
    covers &= (columns.image_numbers[:, None] == columns.image_numbers) & (groups[:, None] == groups)
    windows = _Windows.of(columns, numbers, groups, (50, 80))
    order = windows.order[np.argsort(windows.ranks())]
    assert (np.diff(covers.sum(axis=1)[order]) <= 0).all()
    expected, is_open = np.zeros(len(columns), bool), np.ones(len(columns), bool)
    for number in order.tolist():
        if is_open[number]:
            expected[number] = True
            is_open[covers[number]] = False
    assert np.array_equal(kept, expected)
    assert 20 < kept.sum() < len(columns) - 20


def test_thinned_patches():
    row = [(1, (10 * n, 100, 8, 8), 10) for n in range(6)] + [(1, (20, 110, 8, 8), 20)]
    data = scene(row, names=("cat", "dog"))
    assert len(drawn(data, 200, thin=True)) == 1
    assert set(drawn(data, 200, thin=True, balance="class")) == {
        7,
        *drawn(data, 200, thin=True, balance=[("class", {"cat": 1})]),
    }
    assert len(drawn(data, 200)) == 7


# -- bad input -----------------------------------------------------------------------------------------------------

BAD = {
    "positives": ({"positives": 1.5}, "positives=1.5; give a share from 0 to 1"),
    "no share": ({"positives": math.nan}, "positives=nan"),
    "jitter": ({"jitter": -1}, "jitter=-1; give a number from 0"),
    "cut": ({"allow_cut": 2}, "allow_cut=2; give a share from 0 to 1"),
    "away": ({"away": "far"}, "away='far'"),
    "hard share": ({"hard_share": -0.5}, "hard_share=-0.5"),
    "factors": ({"scale_jitter": (2, 1)}, r"scale_jitter=\(2, 1\); give the least and the largest factor, above 0"),
    "factor": ({"scale_jitter": 2}, "scale_jitter=2"),
    "large": (
        {"shape": (401, 20)},
        "no image of the dataset holds a patch of 401 x 20 px; the largest is 1 with 400 x 400 px; use a smaller",
    ),
    "edge": ({"edge": "keep"}, "edge='keep'"),
    "jittered": ({"shape": 300, "scale_jitter": (1.5, 2)}, "no image of the dataset holds a patch of 450 x 450 px"),
    "class": (
        {"balance": "class"},
        r"no boxes of 1 of its 3 classes in these images: \['owl'\]; remove these categories",
    ),
    "word": ({"balance": "region"}, "balance='region'; give None, 'class', 'repeat' or a list of pairs"),
    "weights": (
        {"balance": [("class", {"cat": 0, "dog": 0})]},
        r"the weights of class in the dataset sum to zero; give one of \['cat', 'dog'\] a weight",
    ),
    "negative": ({"balance": [("class", {"cat": -1})]}, "give finite numbers from 0"),
    "unknown": (
        {"balance": [("class", {"cow": 1})]},
        r"no box of the dataset has class \['cow'\]; the values are \['cat', 'dog'\]",
    ),
    "attribute": ({"balance": [("sky", None)]}, "no annotation, image or video of these boxes has the attribute 'sky'"),
    "never both": (
        {"balance": [("image_id", {1: 1}), ("class", {"dog": 1})]},
        "the weights that balance gives the boxes of the dataset sum to zero",
    ),
    "repeat": ({"balance": ("repeat", -1)}, "give a share of the images above 0"),
    "image": ({"image_ids": [1, 77]}, r"image_ids names \[77\], which the dataset does not have"),
    "no images": ({"image_ids": []}, "image_ids is empty"),
    "twice": ({"image_ids": [2, 1, 2]}, r"image_ids names \[2\] more than once; give each id once"),
    "no annotations": (
        {"image_ids": [3]},
        r"the dataset has no annotations in the 1 image \[3\]; give annotated images",
    ),
    "length": ({"length": 0}, "length=0"),
}


def test_a_window_larger_than_all_images_is_padded_on_request():
    data = scene([(1, BOX, 10)])
    with pytest.raises(PatchError, match="or edge='pad' to pad all images"):
        BoxPatches(data, 500, 20)
    patches = BoxPatches(data, 500, 20, edge="pad")
    assert {patch.kind for patch in patches} == {"positive", "negative"}
    assert {corners(patch) for patch in patches} == {(0, 0, 500, 500)}
    assert {patch.image_id for patch in patches if patch.kind == "negative"} == {2}
    # Where a window fits, it is placed as without.
    small = BoxPatches(data, 64, 20, edge="pad")
    assert list(small) == list(BoxPatches(data, 64, 20))
    assert small.fingerprint == BoxPatches(data, 64, 20).fingerprint


def test_a_text_is_the_id_of_one_image():
    data = scene([(1, BOX, 10)])
    data["images"][0]["id"] = data["annotations"][0]["image_id"] = "ab"
    assert {patch.image_id for patch in BoxPatches(data, 64, 20, image_ids="ab")} == {"ab"}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_at_construction(case):
    change, message = BAD[case]
    data = scene([(1, BOX, 10), (2, BOX, 20)], image_count=3)
    with pytest.raises(ValueError if case == "edge" else PatchError, match=message):
        BoxPatches(data, **{"shape": 64, "length": 10, **change})


def test_a_dataset_without_positive_windows():
    data = scene([(1, BOX, 10)])
    data["annotations"][0]["iscrowd"] = 1
    with pytest.raises(
        PatchError, match=r"the dataset has no positive window: the 1 annotations of the 2 images \[1, 2\] are crowds"
    ):
        BoxPatches(data, 64, 10)
    assert {patch.kind for patch in BoxPatches(data, 64, 10, positives=0)} == {"negative"}
    with pytest.raises(PatchError, match="the dataset has no annotations"):
        BoxPatches(dataset([image(1)], []), 64, 10)
    with pytest.raises(PatchError, match="the dataset has no images"):
        BoxPatches(dataset([], []), 64, 10)
    with pytest.raises(PatchError, match="a table has no attribute 'region'"):
        BoxPatches(AnnotationTable(scene([(1, BOX, 10)])), 64, 10, balance=[("region", None)])
    with pytest.raises(ValueError, match="seed=-1"):
        BoxPatches(data, 64, 10, seed=-1)
