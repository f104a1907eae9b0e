"""merge_detections: each object once, whatever tiles it was seen in."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.detections import count_errors, detect_boxes, scatter, tiles_of

from ndframes.errors import PatchError
from ndframes.feed import Patch, merge_detections
from ndframes.feed.pairs import overlapping_pairs

SCENE = (4096, 4096)
TILES = tiles_of(SCENE, 512, 128)
#: Number of objects, their extents, the largest IoU of two of them, and their distance.
SCENES = {
    "apart": (1500, (10, 120), 0, 2),
    "crowded": (4000, (10, 60), 0.5, 0),
    "large": (150, (100, 300), 0, 2),
}


def part(boxes, scores=None, labels=None, **extra):
    count = len(boxes)
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "scores": np.linspace(0.9, 0.5, count) if scores is None else scores,
        "labels": ["a"] * count if labels is None else labels,
        **extra,
    }


def side_by_side(overlap=16, *, extent=64):
    """Two patches, and the image that they cover."""
    return tiles_of((extent, 2 * extent - overlap), extent, overlap)


# -- scenes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES)
def test_the_seam_rule_misses_and_adds_nothing(scene):
    count, extents, most_iou, margin = SCENES[scene]
    boxes = scatter(count, SCENE, extents, seed=0, most_iou=most_iou, margin=margin)
    parts = detect_boxes(boxes, TILES)
    assert sum(len(item["boxes"]) for item in parts) > 1.5 * count
    merged = merge_detections(parts, TILES)
    assert count_errors(boxes, merged["boxes"]) == (0, 0)
    # The extra column belongs to the box: each object has one result, at its place.
    assert np.array_equal(np.sort(merged["objects"]), np.arange(count))
    assert np.allclose(merged["boxes"], boxes[merged["objects"]], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_the_seam_rule_over_many_scenes(scene):
    count, extents, most_iou, margin = SCENES[scene]
    for seed in range(10, 20):
        boxes = scatter(count, SCENE, extents, seed=seed, most_iou=most_iou, margin=margin)
        for overlap in (96, 128):
            if extents[1] < 3 * overlap:
                tiles = tiles_of(SCENE, 512, overlap)
                merged = merge_detections(detect_boxes(boxes, tiles, seed=seed), tiles)
                assert count_errors(boxes, merged["boxes"]) == (0, 0), (seed, overlap)


def test_objects_larger_than_a_patch_are_joined_over_several():
    boxes = scatter(10, SCENE, (550, 900), seed=3, most_iou=0, margin=5)
    merged = merge_detections(detect_boxes(boxes, TILES), TILES)
    assert count_errors(boxes, merged["boxes"]) == (0, 0)


def test_patches_that_only_touch_are_joined_at_their_edges():
    tiles = tiles_of((2048, 2048), 256, 0)
    boxes = scatter(60, (2048, 2048), (40, 200), seed=4, most_iou=0, margin=5)
    parts = detect_boxes(boxes, tiles)
    assert count_errors(boxes, merge_detections(parts, tiles)["boxes"]) == (0, 0)
    # A detector that stops short of the edge leaves a gap.
    for item in parts:
        item["boxes"] = item["boxes"] + np.array([1.5, 1.5, -1.5, -1.5])
    assert count_errors(boxes, merge_detections(parts, tiles)["boxes"], iou=0.7)[1] > 0
    assert count_errors(boxes, merge_detections(parts, tiles, max_gap=3)["boxes"], iou=0.7) == (0, 0)


def test_a_pass_over_the_whole_image_replaces_the_pieces_of_large_objects():
    boxes = np.concatenate(
        [
            scatter(5, SCENE, (700, 1100), seed=5, most_iou=0, margin=40),
            scatter(300, SCENE, (10, 60), seed=6, most_iou=0, margin=2),
        ]
    )
    whole = Patch("scene", (slice(0, 4096), slice(0, 4096)), scale=0.25, image_shape=SCENE)
    patches = [*TILES, whole]
    merged = merge_detections(detect_boxes(boxes, patches, seed=7), patches)
    assert count_errors(boxes, merged["boxes"]) == (0, 0)


def test_boxes_of_a_scaled_patch_are_mapped_back():
    patch = Patch("a", (slice(100, 356), slice(-64, 192)), scale=0.25, image_shape=(999, 999))
    merged = merge_detections([part([[16, 0, 24, 8]])], [patch])
    assert merged["boxes"].tolist() == [[0, 100, 32, 132]]


# -- single rules ------------------------------------------------------------------------------------------------------


def test_boxes_of_one_patch_are_never_joined():
    boxes = [[0, 0, 40, 40], [1, 1, 40, 40], [2, 2, 9, 9]]
    merged = merge_detections([part(boxes), part([])], side_by_side())
    assert merged["boxes"].tolist() == boxes


def test_the_uncut_box_with_the_highest_score_remains():
    left, right = side_by_side(40)
    third = Patch("scene", (slice(0, 64), slice(12, 76)), image_shape=(64, 88))
    parts = [
        part([[40, 8, 64, 24]], [0.99], name=["cut"]),
        part([[16, 8, 46, 24]], [0.7], name=["whole"]),
        part([[29, 9, 57, 24]], [0.8], name=["better"]),
    ]
    merged = merge_detections(parts, [left, right, third])
    assert merged["name"].tolist() == ["better"]
    assert merged["boxes"].tolist() == [[41, 9, 69, 24]]
    assert merged["scores"].tolist() == [0.8]


def test_labels_keep_boxes_apart_unless_they_do_not_matter():
    parts = [part([[30, 8, 60, 24]], [0.5], ["cat"]), part([[6, 8, 36, 24]], [0.9], ["dog"])]
    patches = side_by_side(40)
    assert sorted(merge_detections(parts, patches)["labels"]) == ["cat", "dog"]
    assert merge_detections(parts, patches, class_agnostic=True)["labels"].tolist() == ["dog"]


def test_an_edge_of_the_image_cuts_nothing():
    """A box at an outer edge is whole, so a small box inside it stays."""
    patches = [Patch("scene", (slice(0, 64), slice(0, 64)), image_shape=(64, 64))] * 2
    parts = [part([[0, 0, 64, 64]]), part([[10, 10, 30, 30]])]
    assert len(merge_detections(parts, patches)["boxes"]) == 2
    inner = [Patch("scene", (slice(0, 64), slice(0, 64)), image_shape=(200, 200))] * 2
    assert len(merge_detections(parts, inner)["boxes"]) == 1


def test_nms_suppresses_within_a_patch_as_well():
    parts = [part([[0, 0, 40, 40], [1, 1, 40, 40], [50, 0, 60, 9]]), part([])]
    assert merge_detections(parts, side_by_side(), rule="nms")["boxes"].tolist() == [[0, 0, 40, 40], [50, 0, 60, 9]]


def test_core_keeps_the_box_of_the_patch_that_holds_its_centre_deepest():
    tiles = tiles_of((900, 900), 300, 100)
    boxes = scatter(200, (900, 900), (5, 40), seed=0, most_iou=0, margin=1)
    merged = merge_detections(detect_boxes(boxes, tiles), tiles, rule="core")
    assert count_errors(boxes, merged["boxes"]) == (0, 0)


def test_a_rule_of_the_caller():
    patches = side_by_side()
    parts = [part([[40, 8, 64, 24], [3, 3, 9, 9]]), part([[0, 8, 28, 24]])]

    def rule(found):
        assert found["boxes"].tolist() == [[40, 8, 64, 24], [3, 3, 9, 9], [48, 8, 76, 24]]
        assert found["patch"].tolist() == [0, 0, 1]
        assert found["cut"].tolist() == [[False, False, True, False], [False] * 4, [True, False, False, False]]
        return ~found["cut"].any(axis=1)

    assert merge_detections(parts, patches, rule=rule)["boxes"].tolist() == [[3, 3, 9, 9]]
    assert merge_detections(parts, patches, rule=lambda _: [2])["boxes"].tolist() == [[48, 8, 76, 24]]
    with pytest.raises(PatchError, match=r"the rule returned \[3\]; return the numbers"):
        merge_detections(parts, patches, rule=lambda _: [3])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_disjoint_boxes_come_out_as_they_went_in(data):
    """Boxes farther apart than an edge may cut, each found in the patch that holds it, or in all of them."""
    extent, overlap = data.draw(st.integers(40, 90)), data.draw(st.integers(20, 39))
    shape = (data.draw(st.integers(extent, 200)), data.draw(st.integers(extent, 200)))
    tiles = tiles_of(shape, extent, overlap)
    # One box in each cell of a grid.
    cells = [(y, x) for y in range(0, shape[0] - 18, 20) for x in range(0, shape[1] - 18, 20)]
    chosen = data.draw(st.lists(st.sampled_from(cells), unique=True, max_size=12))
    numbers = st.floats(0, 8, allow_subnormal=False)
    boxes = np.array(
        [
            (x + data.draw(numbers), y + data.draw(numbers), x + 9 + data.draw(numbers), y + 9 + data.draw(numbers))
            for y, x in chosen
        ]
    ).reshape(-1, 4)
    parts = detect_boxes(boxes, tiles, least_px=0.5)
    merged = merge_detections(parts, tiles)
    order = np.argsort(merged["objects"])
    assert merged["objects"][order].tolist() == list(range(len(boxes)))
    assert np.allclose(merged["boxes"][order], boxes, atol=1e-9)
    # Found once each: not even the order changes.
    seen = np.zeros(len(boxes), bool)
    for item in parts:
        sides = boxes[item["objects"]][:, 2:] - boxes[item["objects"]][:, :2]
        whole = np.isclose(item["boxes"][:, 2:] - item["boxes"][:, :2], sides).all(axis=1) & ~seen[item["objects"]]
        seen[item["objects"][whole]] = True
        for name, column in item.items():
            item[name] = column[whole]
    once = merge_detections(parts, tiles)
    assert once["objects"].tolist() == [number for item in parts for number in item["objects"].tolist()]
    assert once["scores"].tolist() == [score for item in parts for score in item["scores"].tolist()]
    assert np.allclose(once["boxes"], boxes[once["objects"]], atol=1e-9)


# -- columns and errors ------------------------------------------------------------------------------------------------


def test_columns_are_carried_along_and_nothing_is_a_result():
    patches = side_by_side()
    polygons = [[[0, 0], [1, 1]], [[0, 0], [1, 1], [2, 0]]]
    merged = merge_detections(
        [part([[1, 1, 5, 5], [9, 9, 19, 19]], masks=polygons, ids=[[4, 5], [6, 7]]), part([])], patches
    )
    assert merged["masks"].tolist() == polygons
    assert merged["ids"].tolist() == [[4, 5], [6, 7]]
    nothing = merge_detections([{"boxes": [], "scores": [], "labels": []}] * 2, patches)
    assert nothing["boxes"].shape == (0, 4)
    assert set(nothing) == {"boxes", "scores", "labels"}
    assert merge_detections([], [])["boxes"].shape == (0, 4)


def test_tensors_are_taken():
    torch = pytest.importorskip("torch")
    tensors = {
        "boxes": torch.tensor([[1.0, 1, 5, 5]], requires_grad=True),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([3]),
    }
    merged = merge_detections([tensors], side_by_side()[:1])
    assert (merged["boxes"].tolist(), merged["labels"].tolist()) == ([[1, 1, 5, 5]], [3])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"boxes": [[0, 0, 1]]},
            r"part 1 \(patch 1, rows 0:64, columns 48:112\): boxes must be numbers \(n, 4\), got \(1, 3\)",
        ),
        ({"boxes": [[0, 0, np.nan, 1]]}, r"part 1 .*: box 0 is \[0.0, 0.0, nan, 1.0\]; give finite"),
        ({"boxes": [[5, 0, 1, 1]]}, r"part 1 .*: box 0 is \[5.0, 0.0, 1.0, 1.0\]"),
        ({"boxes": [[0, 0, 1, np.inf]]}, "part 1 .*: box 0"),
        ({"boxes": [["a", "b", "c", "d"]]}, "part 1 .*: boxes must be numbers"),
        ({"boxes": np.zeros((2, 4))}, r"part 1 .* has 2 boxes, but scores has the shape \(1,\)"),
        ({"scores": [np.nan]}, "part 1 .*: scores must be numbers"),
        ({"scores": [[0.5]]}, "part 1 .*: scores must be numbers"),
        ({"labels": [["x"]]}, "part 1 .*: labels must have the shape"),
        ({"ids": [1, 2]}, "part 1 .* has 1 boxes, but ids"),
        ({"ids": [1]}, r"part 1 has \['boxes', 'ids', 'labels', 'scores'\], part 0 \['boxes', 'labels', 'scores'\]"),
    ],
)
def test_a_wrong_part_is_named(wrong, text):
    patches = side_by_side()
    with pytest.raises(PatchError, match=text):
        merge_detections([part([[0, 0, 1, 1]]), {**part([[0, 0, 1, 1]]), **wrong}], patches)


def test_wrong_arguments():
    patches = side_by_side()
    parts = [part([]), part([])]
    for options, text in (
        ({"rule": "sahi"}, "rule='sahi'; allowed: 'seam', 'nms', 'core', or a callable"),
        ({"iou": 2}, "iou=2; give a share from 0 to 1"),
        ({"iou": "0.5"}, "iou='0.5'; give a share from 0 to 1"),
        ({"ios": np.nan}, "ios=nan"),
        ({"max_gap": -1}, "max_gap=-1; give a number from 0"),
    ):
        with pytest.raises(PatchError, match=text):
            merge_detections(parts, patches, **options)
    with pytest.raises(PatchError, match="1 parts for 2 patches"):
        merge_detections(parts[:1], patches)
    with pytest.raises(PatchError, match="part 1 .* give a mapping with boxes, scores and labels"):
        merge_detections([part([]), [1]], patches)
    with pytest.raises(PatchError, match="several images"):
        merge_detections(parts, [patches[0], Patch("other", patches[1].region)])
    with pytest.raises(PatchError, match=r"\(0, 0, 9, 9\) is not a Patch"):
        merge_detections(parts, [patches[0], (0, 0, 9, 9)])
    with pytest.raises(PatchError, match="image 'clip': patch 0 spans frames 0 to 2"):
        merge_detections(parts[:1], [Patch("clip", np.s_[0:2, 0:9, 0:9])])


# -- pairs ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-30, 30)] * 2, *[st.integers(0, 40)] * 2), max_size=25),
    st.sampled_from([0, 1, 2.5]),
    st.sampled_from([1, 7, 1 << 20]),
)
def test_pairs_are_those_of_a_double_loop(boxes, gap, most_pairs):
    array = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes], float).reshape(-1, 4)
    found = [
        (int(i), int(j))
        for first, second in overlapping_pairs(array, gap=gap, most_pairs=most_pairs)
        for i, j in zip(first, second, strict=True)
    ]
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(len(array)), 2)
        if (np.maximum(array[i, :2], array[j, :2]) <= np.minimum(array[i, 2:], array[j, 2:]) + gap).all()
    ]
    assert sorted(found) == expected


@pytest.mark.parametrize("is_traced", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_hundred_thousand_boxes_take_memory_by_their_neighbours(is_traced):
    """All pairs would be 10 billion."""
    tiles = tiles_of((16384, 16384), 512, 128)
    random = np.random.default_rng(0)
    corners = random.uniform(0, 16300, (50_000, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 60, (50_000, 2))], axis=1)
    # Some boxes are as high as the image: strips must not multiply them beyond reason.
    boxes[:5] = [[x, 0, x + 3, 16384] for x in range(0, 50, 10)]
    parts = detect_boxes(boxes, tiles)
    assert sum(len(item["boxes"]) for item in parts) > 100_000
    if is_traced:
        tracemalloc.start()
    try:
        merged = merge_detections(parts, tiles)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(np.unique(merged["objects"])) == len(merged["objects"]) == 50_000
    assert peak < 250e6
