"""The annotations of a patch, compared with masks of the whole image by a slow definition."""

from __future__ import annotations

import gc
import itertools
import json
import os
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ndframes as nf
from ndframes.errors import PatchError, UnsupportedError
from ndframes.feed import AnnotationTable, Patch, annotations
from ndframes.feed import table as table_module
from tests.kit.coco_bundles import coco
from tests.kit.scenes import annot, categories, dataset, encode, image, random_scene

HEIGHT, WIDTH = 100, 120
IMAGE = (HEIGHT, WIDTH)


def patch_at(top, left, height=40, width=50, image_id=1, **more):
    return Patch(image_id, (slice(top, top + height), slice(left, left + width)), **more)


def one(bbox, **more):
    """A table of one annotation in one image."""
    return AnnotationTable(dataset([image(1)], [annot(1, 1, bbox, **more)]))


# -- against masks of the whole image ------------------------------------------------------------------------------


def expect(record, shape, patch, *, tighten=True):
    """What a patch shows of one annotation: visibility, whether it is cut, its box; by the mask of the whole image."""
    x0, y0, w, h = record["bbox"]
    whole = np.array([x0, y0, x0 + w, y0 + h]).clip(0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    top, left = max(patch.rows.start, 0), max(patch.cols.start, 0)
    bottom, right = min(patch.rows.stop, HEIGHT), min(patch.cols.stop, WIDTH)
    box = whole.clip((left, top, left, top), (right, bottom, right, bottom))
    area = (box[2] - box[0]) * (box[3] - box[1])
    if area <= 0:
        return None
    if np.array_equal(box, whole):
        return 1.0, False, whole
    if shape is not None and tighten:
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        mask = shape(x, y)
        shown = np.zeros_like(mask)
        shown[top:bottom, left:right] = mask[top:bottom, left:right]
        if mask.any():
            if not shown.any():
                return None
            rows, cols = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
            tight = np.array(
                [*np.maximum(box[:2], (cols[0], rows[0])), *np.minimum(box[2:], (cols[-1] + 1, rows[-1] + 1))]
            )
            box = tight if (tight[:2] < tight[2:]).all() else box
            return shown.sum() / mask.sum(), shown.sum() < mask.sum(), box
    return area / ((whole[2] - whole[0]) * (whole[3] - whole[1])), True, box


def mask_of(record, shape, patch):
    """The pixels of a patch whose centres lie in an annotation, inside the image."""
    height, width = patch.shape
    y = (np.arange(height) + 0.5) * (patch.rows.stop - patch.rows.start) / height + patch.rows.start
    x = (np.arange(width) + 0.5) * (patch.cols.stop - patch.cols.start) / width + patch.cols.start
    y, x = np.meshgrid(y, x, indexing="ij")
    inside = (y >= 0) & (x >= 0) & (y < HEIGHT) & (x < WIDTH)
    if shape is not None:
        return shape(x, y) & inside, inside
    x0, y0, w, h = record["bbox"]
    return (x >= x0) & (x < x0 + w) & (y >= y0) & (y < y0 + h) & inside, inside


def random_patches(seed, count):
    random = np.random.default_rng(seed)
    for _ in range(count):
        height, width = random.integers(5, 80, 2)
        top, left = random.integers((-20, -20), IMAGE)
        factor = random.choice([0.5, 1, 1, 1, 2.5])
        shape = (max(1, round(height * factor)), max(1, round(width * factor)))
        patch = patch_at(int(top), int(left), int(height), int(width), int(random.integers(1, 4)))
        yield (
            patch
            if factor == 1
            else patch_at(
                int(top), int(left), int(height), int(width), int(patch.image_id), scale=factor, result_shape=shape
            )
        )


@pytest.mark.parametrize("tighten", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_and_visibility_equal_those_of_the_whole_mask(seed, tighten):
    data, shapes = random_scene(seed)
    table = AnnotationTable(data)
    compared = 0
    for patch in random_patches(seed, 60):
        scale_y = patch.shape[0] / (patch.rows.stop - patch.rows.start)
        scale_x = patch.shape[1] / (patch.cols.stop - patch.cols.start)
        expected = []
        for record in data["annotations"]:
            found = (
                expect(record, shapes[record["id"]], patch, tighten=tighten)
                if record["image_id"] == patch.image_id
                else None
            )
            if found is None:
                continue
            visibility, is_cut, box = found
            box = (box - np.tile((patch.cols.start, patch.rows.start), 2)) * np.tile((scale_x, scale_y), 2)
            is_large = min(box[2] - box[0], box[3] - box[1]) >= 1
            if record["iscrowd"] or (visibility >= 0.25 and is_large):
                expected.append((record, visibility, is_cut, box))
        target = annotations(table, patch, tighten=tighten)
        assert target["annot_ids"].tolist() == [record["id"] for record, *_ in expected]
        assert target["labels"].tolist() == [record["category_id"] // 10 for record, *_ in expected]
        assert target["iscrowd"].tolist() == [bool(record["iscrowd"]) for record, *_ in expected]
        assert target["cut"].tolist() == [bool(is_cut) for _, _, is_cut, _ in expected]
        np.testing.assert_allclose(target["visibility"], [v for _, v, _, _ in expected], rtol=1e-6)
        np.testing.assert_allclose(
            target["boxes"], np.reshape([b for *_, b in expected], (-1, 4)), rtol=1e-6, atol=1e-4
        )
        areas = [record["bbox"][2] * record["bbox"][3] * v * scale_x * scale_y for record, v, _, _ in expected]
        np.testing.assert_allclose(target["area"], areas, rtol=1e-5)
        compared += len(expected)
    assert compared > 100


@pytest.mark.parametrize("seed", range(3))
def test_masks_equal_the_definition_at_every_pixel(seed):
    data, shapes = random_scene(seed + 10)
    table, records = AnnotationTable(data), {record["id"]: record for record in data["annotations"]}
    pixels = 0
    for patch in random_patches(seed, 40):
        target = annotations(table, patch, masks="instance")
        masks = [mask_of(records[number], shapes[number], patch)[0] for number in target["annot_ids"].tolist()]
        assert target["masks"].dtype == bool
        assert np.array_equal(target["masks"], np.reshape(masks, (-1, *patch.shape)))
        pixels += int(target["masks"].sum())
        semantic = annotations(table, patch, masks="semantic")["masks"]
        expected = np.where(mask_of({"bbox": (0, 0, 0, 0)}, None, patch)[1], 0, 255).astype(np.uint8)
        here = [record for record in data["annotations"] if record["image_id"] == patch.image_id]
        for record in sorted(here, key=lambda record: record["iscrowd"]):
            shown = mask_of(record, shapes[record["id"]], patch)[0]
            expected[shown] = 255 if record["iscrowd"] else record["category_id"] // 10
        assert semantic.dtype == np.uint8
        assert np.array_equal(semantic, expected)
    assert pixels > 10_000


def test_masks_of_many_classes_are_int32_with_minus_one():
    names = [f"c{number}" for number in range(255)]
    data = {
        "images": [image(1)],
        "annotations": [annot(1, 1, (0, 0, 10, 10), 2550), annot(2, 1, (20, 0, 5, 5), 10, iscrowd=1)],
        "categories": categories(names),
    }
    table = AnnotationTable(data)
    mask = annotations(table, patch_at(-1, 0), masks="semantic")["masks"]
    assert table.ignore_index == -1
    assert mask.dtype == np.int32
    assert (mask[0] == -1).all()
    assert (mask[1:11, :10] == 255).all()
    assert (mask[1:6, 20:25] == -1).all()
    assert mask[12, 0] == 0
    data["categories"].pop()
    data["annotations"].pop(0)
    assert annotations(AnnotationTable(data), patch_at(0, 0), masks="semantic")["masks"].dtype == np.uint8


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_whole_image_in_tiles_shows_each_pixel_of_a_mask_once(draw):
    data, _ = random_scene(draw.draw(st.integers(0, 50)), image_count=1, count=6)
    table = AnnotationTable(data)
    rows = sorted({0, HEIGHT, *draw.draw(st.lists(st.integers(1, HEIGHT - 1), max_size=3))})
    cols = sorted({0, WIDTH, *draw.draw(st.lists(st.integers(1, WIDTH - 1), max_size=3))})
    options = {"min_visibility": 0, "min_size": 0, "masks": "instance"}
    whole = annotations(table, patch_at(0, 0, *IMAGE), **options)
    counts, shares = dict.fromkeys(whole["annot_ids"].tolist(), 0), dict.fromkeys(whole["annot_ids"].tolist(), 0.0)
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(cols):
            part = annotations(table, patch_at(top, left, bottom - top, right - left), **options)
            for number, mask, share, box in zip(
                part["annot_ids"].tolist(), part["masks"], part["visibility"], part["boxes"], strict=False
            ):
                counts[number] += int(mask.sum())
                shares[number] += float(share)
                assert (box >= -1e-4).all()
                assert (box <= np.tile((right - left, bottom - top), 2) + 1e-4).all()
    for number, mask in zip(whole["annot_ids"].tolist(), whole["masks"], strict=False):
        assert counts[number] == mask.sum()
        assert shares[number] == pytest.approx(1, abs=1e-5)


# -- parts beyond the box ------------------------------------------------------------------------------------------


def large_mask(kind):
    """A mask at rows 20 to 30, columns 10 to 90, whose box ends at column 30."""
    mask = np.zeros(IMAGE, bool)
    mask[20:30, 10:90] = True
    forms = {
        "polygon": [[10, 20, 90, 20, 90, 30, 10, 30]],
        "several": [[10, 20, 50, 20, 50, 30, 10, 30], [50, 20, 90, 20, 90, 30, 50, 30]],
        "code": {"size": list(IMAGE), "counts": encode(mask)},
    }
    return forms[kind]


@pytest.mark.parametrize("kind", ["polygon", "several", "code"])
@pytest.mark.parametrize("iscrowd", [0, 1])
def test_a_mask_that_is_larger_than_its_box_is_found(kind, iscrowd):
    table = one((10, 20, 20, 10), segmentation=large_mask(kind), iscrowd=iscrowd)
    target = annotations(table, patch_at(15, 40), masks="instance", min_visibility=0.6)
    assert target["boxes"].tolist() == [[0, 5, 50, 15]]
    assert target["visibility"].tolist() == pytest.approx([50 / 80])
    assert target["cut"].tolist() == [True]
    expected = np.zeros((40, 50), np.uint8)
    expected[5:15] = 1
    assert np.array_equal(target["masks"], expected[None] == 1)
    semantic = annotations(table, patch_at(15, 40), masks="semantic", tighten=False)
    assert semantic["boxes"].shape == (0, 4)  # measured by its box, nothing is visible
    assert np.array_equal(semantic["masks"], expected * (255 if iscrowd else 1))
    assert len(annotations(table, patch_at(15, 40), min_visibility=0.63)["labels"]) == iscrowd
    assert len(annotations(table, patch_at(31, 40), min_visibility=0, min_size=0)["labels"]) == 0
    # The box is shown, and ends where the mask does: as before.
    whole = annotations(table, patch_at(15, 5))
    assert whole["boxes"].tolist() == [[5, 5, 25, 15]]
    assert whole["visibility"].tolist() == [1]


def test_keypoints_beyond_the_box_are_found():
    points = [20, 30, 2, 80.5, 90, 2, 110, 95, 0]
    table = AnnotationTable(
        dataset([image(1)], [annot(n, 1, (10, 10, 40, 40), keypoints=points, iscrowd=n - 1) for n in (1, 2)])
    )
    patch = patch_at(60, 60)
    options = {"min_visibility": 0, "min_size": 0}
    found = annotations(table, patch, keypoints=True, **options)
    assert found["annot_ids"].tolist() == [1, 2]
    assert found["keypoints"].tolist() == [[[0, 0, 0], [20.5, 30, 2], [0, 0, 0]]] * 2
    assert found["visibility"].tolist() == [0, 0]
    assert found["boxes"].tolist() == [[0, 0, 0, 0]] * 2
    for more in ({}, {"keypoints": True}, options, {"keypoints": True, "min_size": 0}):
        assert len(annotations(table, patch, **more)["labels"]) == 0
    # The last keypoint is not labelled, and lies alone in this patch.
    assert len(annotations(table, patch_at(92, 100), keypoints=True, **options)["labels"]) == 0


def test_bounds_are_those_of_every_mask():
    data, shapes = random_scene(4)
    for number, record in enumerate(data["annotations"]):
        if number % 2:
            record["bbox"] = [number, number, 3, 2]
    table = AnnotationTable(data)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ids = table.columns.annot_ids.take(np.arange(len(table))).tolist()
    records = {record["id"]: record for record in data["annotations"]}
    for number, name in enumerate(ids):
        mask = mask_of(records[name], None, patch_at(0, 0, *IMAGE))[0]
        if shapes[name] is not None:
            mask |= shapes[name](x, y)
        x0, y0, x1, y1 = table.bounds[:, number].tolist()
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        # Up to a pixel wider, where a polygon ends before the centre of a pixel.
        assert x0 <= cols[0] <= x0 + 2
        assert x1 - 2 <= cols[-1] + 1 <= x1
        assert y0 <= rows[0] <= y0 + 2
        assert y1 - 2 <= rows[-1] + 1 <= y1


def test_a_table_whose_annotations_stay_in_their_boxes_has_no_bounds_of_its_own():
    table = AnnotationTable(random_scene(4)[0])
    assert table.bounds is table.columns.boxes
    copy = pickle.loads(pickle.dumps(table))
    assert copy.bounds is copy.columns.boxes


# -- options -------------------------------------------------------------------------------------------------------


def test_a_threshold_is_inclusive():
    table = one((0, 0, 40, 10))
    patch = patch_at(0, 30)
    assert annotations(table, patch, min_visibility=0.25)["visibility"].tolist() == [0.25]
    assert annotations(table, patch, min_visibility=0.26)["boxes"].shape == (0, 4)
    assert len(annotations(table, patch, min_visibility=0, min_size=10)["labels"]) == 1
    assert len(annotations(table, patch, min_visibility=0, min_size=10.5)["labels"]) == 0


def test_a_share_at_the_bound_stays_whatever_its_rounding():
    """Boxes of 2.7 x 7 px that the border of a patch cuts at each tenth of a pixel."""
    dropped = 0
    for tenths in range(1, 70):
        boxes = [(place * 0.9, (400 - tenths) / 10, 2.7, 7) for place in range(20)]
        table = AnnotationTable(dataset([image(1)], [annot(n + 1, 1, box) for n, box in enumerate(boxes)]))
        kept = annotations(table, patch_at(0, 0), min_visibility=tenths / 70, min_size=min(tenths / 10, 2.7))
        dropped += len(boxes) - len(kept["labels"])
        assert not len(annotations(table, patch_at(0, 0), min_visibility=tenths / 70 + 1e-6)["labels"])
    assert dropped == 0


def test_clip_false_keeps_the_whole_box():
    target = annotations(one((0, 0, 40, 10)), patch_at(0, 30, scale=2, result_shape=(80, 100)), clip=False)
    assert target["boxes"].tolist() == [[-60, 0, 20, 20]]


@pytest.mark.parametrize(("crowd", "ids"), [("flag", [1, 2]), ("drop", [1]), ("ignore", [1])])
def test_crowds(crowd, ids):
    data = dataset([image(1)], [annot(1, 1, (5, 5, 10, 10)), annot(2, 1, (0, 0, 120, 100), iscrowd=1)])
    target = annotations(data, patch_at(0, 0, 10, 20), crowd=crowd, min_visibility=0.3)
    assert target["annot_ids"].tolist() == ids
    assert target["iscrowd"].tolist() == [False, True][: len(ids)]
    assert ("ignore_boxes" in target) == (crowd == "ignore")
    if crowd == "ignore":
        assert target["ignore_boxes"].tolist() == [[0, 0, 20, 10]]


def test_nothing_visible():
    target = annotations(one((100, 80, 10, 10)), patch_at(0, 0), masks="instance", keypoints=True)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["labels"].dtype == np.int64
    assert target["masks"].shape == (0, 40, 50)
    assert target["keypoints"].shape == (0, 0, 3)
    assert (
        annotations(one((100, 80, 10, 10)), patch_at(200, 0), masks="semantic")["masks"].tolist() == [[255] * 50] * 40
    )


@pytest.mark.parametrize("is_listed", [False, True])
def test_keypoints_with_names_have_the_places_of_their_names(is_listed):
    """The names are those of the class, or of the dataset's own list."""
    first = [{"xy": [12, 13], "keypoint_category": "b"}]
    second = [{"xy": [14, 15], "keypoint_category": "d"}, {"xy": [16, 17], "keypoint_category": "a"}]
    data = dataset([image(1)], [annot(n, 1, (5, 5, 40, 40), keypoints=k) for n, k in ((1, first), (2, second))])
    data["categories"][0]["keypoints"] = ["a", "b", "d"]
    if is_listed:
        data["keypoint_categories"] = [{"id": 7 + n, "name": name} for n, name in enumerate("abd")]
    found = annotations(AnnotationTable(data), patch_at(0, 0), keypoints=True)
    assert found["keypoints"].tolist() == [
        [[0, 0, 0], [12, 13, 2], [0, 0, 0]],
        [[16, 17, 2], [0, 0, 0], [14, 15, 2]],
    ]


def test_keypoints_move_and_vanish_outside():
    data = dataset([image(1)], [annot(1, 1, (10, 10, 40, 40), keypoints=[20, 30, 2, 49, 49, 1, 0, 0, 0, 40, 30, 1])])
    patch = patch_at(10, 0, 40, 40, scale=0.5, result_shape=(20, 20))
    found = annotations(data, patch, keypoints=True)["keypoints"]
    # The last one lies on the border, in a pixel that the patch does not show.
    assert found.tolist() == [[[10, 10, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]]]


def test_keypoints_of_kwcoco():
    data = dataset(
        [image(1)],
        [
            annot(1, 1, (0, 0, 40, 40), keypoints=[{"xy": [5, 6], "keypoint_category_id": 9}]),
            annot(2, 1, (0, 0, 40, 40)),
        ],
        keypoint_categories=[{"id": 4, "name": "left"}, {"id": 9, "name": "right"}],
    )
    found = annotations(data, patch_at(0, 0), keypoints=True)["keypoints"]
    assert found.tolist() == [[[0, 0, 0], [5, 6, 2]], [[0, 0, 0], [0, 0, 0]]]


def test_wrong_options():
    with pytest.raises(ValueError, match="'flag', 'drop', 'ignore'"):
        annotations(one((0, 0, 1, 1)), patch_at(0, 0), crowd="hide")
    with pytest.raises(ValueError, match="'instance', 'semantic'"):
        annotations(one((0, 0, 1, 1)), patch_at(0, 0), masks="panoptic")
    with pytest.raises(PatchError, match="image 'b': the dataset has no such image"):
        annotations(one((0, 0, 1, 1)), patch_at(0, 0, image_id="b"))
    with pytest.raises(PatchError, match="image 1: the patch .* is empty"):
        annotations(one((0, 0, 1, 1)), patch_at(0, 0, 0, 5))


# -- datasets ------------------------------------------------------------------------------------------------------


def test_each_form_of_a_dataset(tmp_path):
    data, _ = random_scene(1)
    path = tmp_path / "data.kwcoco.json"
    path.write_text(json.dumps(data))
    patch = patch_at(10, 10, 60, 60)
    expected = annotations(AnnotationTable(data), patch, masks="instance")
    assert len(expected["labels"]) > 3
    for form in (data, path, str(path), coco(data), nf.CocoFrames(data), nf.CocoFrames(coco(data))):
        target = annotations(form, patch, masks="instance")
        assert target.keys() == expected.keys()
        assert all(np.array_equal(target[name], expected[name]) for name in expected)


def test_the_table_of_an_object_is_made_once_and_follows_additions(monkeypatch):
    frames = nf.CocoFrames(dataset([image(1)], [annot(1, 1, (0, 0, 9, 9))]))
    made, source = [], table_module.Source
    monkeypatch.setattr(table_module, "Source", lambda frames: made.append(1) or source(frames))
    for _ in range(3):
        assert len(annotations(frames, patch_at(0, 0))["labels"]) == 1
    assert len(made) == 1
    frames.dataset["annotations"].append(annot(2, 1, (0, 0, 9, 9)))
    assert len(annotations(frames, patch_at(0, 0))["labels"]) == 2
    assert len(made) == 2
    alive = weakref.ref(frames)
    assert frames in table_module._TABLES
    del frames
    gc.collect()
    assert alive() is None


def test_labels_names_and_ids():
    data = dataset([image(1)], [annot("a", 1, (0, 0, 9, 9), 30), annot("b", 1, (0, 0, 9, 9), 7)])
    data["categories"].insert(1, {"id": 7, "name": "background"})
    table = AnnotationTable(data)
    assert table.names == ("background", "cat", "dog", "owl")
    assert table.category_ids == (7, 10, 20, 30)
    target = annotations(table, patch_at(0, 0))
    assert target["labels"].tolist() == [3, 0]
    assert target["annot_ids"].tolist() == ["a", "b"]


def test_frames_of_videos():
    images = [image(1, frame_index=4, video_id=8), image(2, frame_index=1, video_id=8), image(3)]
    data = dataset(images, [annot(n, n, (n, 0, 9, 9)) for n in (1, 2, 3)], videos=[{"id": 8, "name": "clip"}])
    table = AnnotationTable(data)
    for video in (("video", 8), "clip"):
        for time, expected in ((0, 2), (1, 1), (-1, 1)):
            patch = Patch(video, (time, slice(0, 40), slice(0, 40)))
            assert annotations(table, patch)["annot_ids"].tolist() == [expected]
        with pytest.raises(PatchError, match="has no frame 2; its 2 images are its frames"):
            annotations(table, Patch(video, (2, slice(0, 40), slice(0, 40))))
        with pytest.raises(UnsupportedError, match="ask for those of each frame"):
            annotations(table, Patch(video, (slice(0, 2), slice(0, 40), slice(0, 40))))
    images[1]["warp_img_to_vid"] = {"type": "affine", "scale": 2}
    images[0]["warp_img_to_vid"] = {"type": "affine"}
    table = AnnotationTable(data)
    assert annotations(table, Patch("clip", (1, slice(0, 40), slice(0, 40))))["annot_ids"].tolist() == [1]
    with pytest.raises(UnsupportedError, match="image 'clip': its warp_img_to_vid"):
        annotations(table, Patch("clip", (0, slice(0, 40), slice(0, 40))))
    with pytest.raises(UnsupportedError, match="image 2: its warp_img_to_vid"):
        annotations(nf.CocoFrames(data, space="video"), patch_at(0, 0, image_id=2))
    assert annotations(nf.CocoFrames(data), patch_at(0, 0, image_id=2))["annot_ids"].tolist() == [2]


def test_sizes_come_from_files_where_they_are_not_described(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30, 40), np.uint8))
    data = dataset([{"id": 1, "file_name": str(tmp_path / "a.npy")}], [annot(1, 1, (20, 20, 90, 90))])
    target = annotations(data, patch_at(0, 0, 30, 40))
    assert target["boxes"].tolist() == [[20, 20, 40, 30]]
    assert target["cut"].tolist() == [False]


def test_boxes_over_the_border_are_cut_off_there():
    target = annotations(one((-10, 90, 30, 30)), patch_at(80, -10, 40, 50))
    assert target["boxes"].tolist() == [[10, 10, 30, 20]]
    assert target["visibility"].tolist() == [1]
    assert target["cut"].tolist() == [False]


def test_an_annotation_without_a_box_gets_that_of_its_segmentation():
    mask = np.zeros(IMAGE, bool)
    mask[3:9, 5:20] = True
    records = [annot(1, 1, ()), annot(2, 1, ())]
    records[0]["segmentation"] = [[1, 2, 30.5, 2, 30.5, 20]]
    records[1]["segmentation"] = {"size": list(IMAGE), "counts": encode(mask)}
    for record in records:
        del record["bbox"]
    assert annotations(dataset([image(1)], records), patch_at(0, 0))["boxes"].tolist() == [
        [1, 2, 30.5, 20],
        [5, 3, 20, 9],
    ]


BAD = {
    "nan": ({"bbox": [1, float("nan"), 5, 5]}, "image 7: annotation 3 of the dataset: its bbox .* which is not finite"),
    "inverted": ({"bbox": [10, 10, -5, 5]}, r"annotation 3 .* \[10, 10, -5, 5\], which is inverted; give \[x, y, width, height\]"),
    "outside": ({"bbox": [500, 10, 5, 5]}, r"outside of its image of 100 x 120 px .* remove the annotation"),
    "left": ({"bbox": [-9, 10, 9, 5]}, "outside of its image"),
    "three": ({"bbox": [1, 2, 3]}, r"its bbox is \[1, 2, 3\]; give four numbers"),
    "text": ({"bbox": "here"}, "its bbox is 'here'; give four numbers"),
    "none": ({"bbox": None}, "neither a bbox nor a segmentation"),
    "category": ({"category_id": 4}, r"its category_id is 4; the categories of the dataset are \[10, 20, 30\]"),
    "no category": ({"category_id": None}, "its category_id is None"),
    "image": ({"image_id": 8}, "annotation 3 has the image 8, which does not exist"),
    "id": ({"id": None}, "annotation None has the id None"),
    "odd": ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "image 7: annotation 3 .* 7 coordinates, which is not an even number"),
    "nan ring": ({"segmentation": [[1, 2, 3, 4, 5, float("inf")]]}, "a coordinate of its segmentation is not finite"),
    "words": ({"segmentation": "polygon"}, "its segmentation is not valid"),
    "code size": ({"segmentation": {"size": [5, 5], "counts": [25]}}, r"size \[5, 5\], its image \[100, 120\]"),
    "code sum": ({"segmentation": {"size": [100, 120], "counts": [5]}}, "describes 5 pixels of an image of 100 x 120"),
    "code text": ({"segmentation": {"size": [100, 120], "counts": "~~"}}, "not a run-length code"),
    "keypoints": ({"keypoints": [1, 2]}, "its keypoints are not valid"),
    "nan keypoints": ({"keypoints": [1, float("nan"), 2]}, "its keypoints are not valid.*not finite"),
    "area": ({"area": -1}, "its area is -1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_annotation_is_named(case):
    change, message = BAD[case]
    good = annot(2, 7, (1, 1, 5, 5))
    data = dataset([image(7)], [good, {**annot(3, 7, (1, 1, 5, 5)), **change}])
    with pytest.raises(PatchError, match=message) as caught:
        AnnotationTable(data)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_bad_annotation_of_a_file_names_the_file_and_counts_the_others(tmp_path):
    data = dataset([image(7)], [annot(n, 7, (1, 1, -n, 5)) for n in (1, 2, 3)])
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(PatchError, match=r"annotation 1 of the dataset .*bad\.json.*\(2 other annotations"):
        AnnotationTable(path)
    with pytest.raises(PatchError, match=r"annotation 1 of the dataset .*bad\.json"):
        AnnotationTable(nf.CocoFrames(path))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 0}, "image 1: the dataset: its height and width are 0 and 120; give numbers of pixels above 0"),
        ({"height": "tall"}, "its height and width are 'tall' and 120"),
        ({"height": None}, "image 1: the dataset: it has no height and width, and its file cannot be read"),
    ],
)
def test_an_image_without_a_size_is_named(size, message):
    with pytest.raises(PatchError, match=message):
        AnnotationTable(dataset([{**image(1), **size}], [annot(1, 1, (0, 0, 5, 5))]))


def test_a_dataset_without_images():
    with pytest.raises(PatchError, match="the dataset has no images; give"):
        AnnotationTable(dataset([], []))
    assert len(AnnotationTable(dataset([image(1)], []))) == 0


# -- memory --------------------------------------------------------------------------------------------------------


def large(count):
    """A table of many annotations with polygons."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (count, 6)).round(1).tolist()
    boxes = random.uniform(1, 50, (count, 4)).round(1).tolist()
    records = [
        annot(n, n % 500 + 1, box, segmentation=[ring], keypoints=[1, 2, 2] if n % 50 == 0 else [])
        for n, (box, ring) in enumerate(zip(boxes, corners, strict=False))
    ]
    return AnnotationTable(dataset([image(n) for n in range(1, 501)], records))


def test_a_table_pickles_as_arrays():
    table = large(5000)
    data = pickle.dumps(table, 5)
    # 4 coordinates of a box, 6 of a polygon, and eight other integers.
    assert len(data) / 5000 < 8 * 24
    copy, patch = pickle.loads(data), patch_at(0, 0, image_id=77)
    before, after = (annotations(each, patch, masks="instance") for each in (table, copy))
    assert len(before["labels"])
    assert all(np.array_equal(before[name], after[name]) for name in before)


def private_bytes():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private_"))


def test_forked_workers_share_the_table():
    table = large(40_000)
    gc.collect()
    pipes = []
    for _ in range(2):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            code = 1
            try:
                gc.disable()  # it would write to the objects of all tests before this one
                annotations(table, patch_at(0, 0), masks="semantic", keypoints=True)
                before = private_bytes()
                seen = sum(
                    len(annotations(table, patch_at(0, 0, image_id=n), masks="semantic", keypoints=True)["annot_ids"])
                    for n in range(1, 501)
                )
                os.write(writer, f"{private_bytes() - before} {seen}".encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        pipes.append((reader, child))
    for reader, child in pipes:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        grown, seen = map(int, os.read(reader, 100).split())
        os.close(reader)
        assert seen > 5000
        # Objects would be copied page by page: 40 MB and more. Up to 10 MB are those of all tests before this one.
        assert grown < 20_000_000
