"""Bad input is a typed error at construction, which names the dataset, the image and the remedy.

Others hold the rest: single arguments ``test_grid``, ``test_random_patches``, ``test_box_patches`` and ``test_mix``; every fault of an
annotation ``test_annotations``; options and requests of ``prefetch`` ``test_prefetch``; clips and videos ``tests/torch``.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import ndframes as nf
from ndframes.errors import NdframesError, PatchError, UnsupportedError
from ndframes.feed import (
    AnnotationTable,
    BoxPatches,
    GridPatches,
    Mix,
    RandomPatches,
    Stitcher,
    annotations,
    detect,
    prefetch,
    stitch,
)
from ndframes.torch import DetectionPatches, PatchDataset, PatchLoader, Sampler
from tests.kit.scenes import annot, dataset, image

NAME = "scene.kwcoco.json"
BOX = (10, 10, 20, 20)


def good():
    """Three images; the last one has no annotations."""
    records = [annot(5, 1, BOX, 10), annot(6, 1, BOX, 20), annot(7, 2, BOX, 30)]
    return dataset([image(1, 100, 120), image(2, 90, 80), image(3, 100, 120)], records)


def changed(**change):
    """With one annotation that is changed."""
    data = good()
    data["annotations"][2].update(change)
    return data


def without_annotations():
    return {**good(), "annotations": []}


def crowds_only():
    data = good()
    for record in data["annotations"]:
        record["iscrowd"] = 1
    return data


def with_names(*names):
    return {**good(), "categories": [{"id": 10 * n, "name": name} for n, name in enumerate(names, 1)]}


def empty():
    return dataset([], [])


def grid(frames, shape=32, **options):
    return GridPatches(frames, shape, **options)


def other_grid(**options):
    """Patches of images that no other dataset of this file has."""
    return GridPatches(nf.CocoFrames(dataset([image("far", 100, 120)], []), backend=None), 32, **options)


def numbered_grid():
    return GridPatches(nf.CocoFrames(good(), backend=None), 32)


# Each with the dataset, what is made from frames over it, and the words that the message must have besides its name.
FAULTS = {
    "inverted": (changed(bbox=[10, 10, -5, 5]), ["image 2", "annotation 7", "[10, 10, -5, 5]", "give [x, y, width"]),
    "outside": (changed(bbox=[500, 10, 5, 5]), ["image 2", "annotation 7", "90 x 80 px", "correct the bbox"]),
    "nan": (changed(bbox=[1, float("nan"), 5, 5]), ["image 2", "annotation 7", "not finite", "give [x, y, width"]),
    "no box": (changed(bbox=None), ["image 2", "annotation 7", "give it a bbox, or remove it"]),
    "no category": (changed(category_id=99), ["image 2", "annotation 7", "99", "add the category, or correct"]),
}
READERS = {
    "AnnotationTable": AnnotationTable,
    "BoxPatches": lambda frames: BoxPatches(frames, 32, 10),
    "BoxPatches of negatives": lambda frames: BoxPatches(frames, 32, 10, positives=0),
    "DetectionPatches": lambda frames: DetectionPatches(frames, grid(frames)),
    "annotations": lambda frames: annotations(frames, grid(frames)[0]),
}
CASES = {
    "no annotations": (
        without_annotations(), lambda frames: BoxPatches(frames, 32, 10),
        ["has no annotations", "3 images [1, 2, 3]", "give annotated images, or positives=0"],
    ),
    "no annotations of an image": (
        good(), lambda frames: BoxPatches(frames, 32, 10, image_ids=[3]),
        ["has no annotations", "image [3]", "give annotated images, or positives=0"],
    ),
    "no positive window": (
        crowds_only(), lambda frames: BoxPatches(frames, 32, 10),
        ["no positive window", "images [1, 2, 3]", "give images with other boxes, or positives=0"],
    ),
    "no negative window": (
        good(), lambda frames: BoxPatches(frames, 32, 10, away=200, image_ids=[2]),
        ["no window of 32 x 32 px", "image [2]", "use a smaller away"],
    ),
    "a class without boxes": (
        with_names("cat", "dog", "owl", "emu"), lambda frames: BoxPatches(frames, 32, 10, balance="class"),
        ["1 of its 4 classes", "['emu']", "remove these categories"],
    ),
    "a class without boxes in some images": (
        good(), lambda frames: BoxPatches(frames, 32, 10, balance="class", image_ids=[1]),
        ["1 of its 3 classes", "['owl']", "remove these categories"],
    ),
    **{
        f"too large: {name}": (
            good(), make,
            ["holds a patch of 101 x 121 px", "the largest is 1 with 100 x 120 px", "use a smaller shape"],
        )
        for name, make in {
            "shift": lambda frames: grid(frames, (101, 121)),
            "keep": lambda frames: grid(frames, (101, 121), edge="keep"),
            "drop": lambda frames: grid(frames, (101, 121), edge="drop"),
            "random": lambda frames: RandomPatches(frames, (101, 121), 10),
            "boxes": lambda frames: BoxPatches(frames, (101, 121), 10),
            "negatives": lambda frames: BoxPatches(frames, (101, 121), 10, positives=0),
        }.items()
    },
    "weights of images": (
        good(), lambda frames: RandomPatches(frames, 32, 10, weights=[0, 0, 0]),
        ["images [1, 2, 3]", "sum to zero", "give one of them a weight above 0"],
    ),
    "weights of classes": (
        good(), lambda frames: BoxPatches(frames, 32, 10, balance=[("class", {"cat": 0})]),
        ["weights of class", "sum to zero", "['cat', 'dog', 'owl'] a weight above 0"],
    ),
    "weights of levels": (
        good(), lambda frames: BoxPatches(frames, 32, 10, balance=[("class", {"owl": 1}), ("image_id", {1: 1})]),
        ["sum to zero", "give one of them a weight above 0"],
    ),
    "unknown image: boxes": (
        good(), lambda frames: BoxPatches(frames, 32, 10, image_ids=[1, 8]), ["[8]", "give ids of images"]
    ),
    **{
        f"empty: {name}": (empty(), make, ["has no images", "give"])
        for name, make in {
            "grid": grid,
            "random": lambda frames: RandomPatches(frames, 32, 10),
            "boxes": lambda frames: BoxPatches(frames, 32, 10),
            "negatives": lambda frames: BoxPatches(frames, 32, 10, positives=0),
            "table": AnnotationTable,
            "DetectionPatches": lambda frames: DetectionPatches(frames, other_grid()),
        }.items()
    },
    "patches of another dataset: PatchDataset": (
        good(), lambda frames: PatchDataset(frames, other_grid()),
        ["no image 'far'", "give the frames that the patches were made from"],
    ),
    "patches of another dataset: DetectionPatches": (
        good(), lambda frames: DetectionPatches(frames, other_grid()),
        ["no image 'far'", "give the frames that the patches were made from"],
    ),
    "patches of an empty dataset: PatchDataset": (
        empty(), lambda frames: PatchDataset(frames, numbered_grid()), ["no image 1", "give the frames"]
    ),
}  # fmt: skip


@pytest.fixture
def open_dataset(tmp_path):
    def open_dataset(data):
        path = tmp_path / NAME
        path.write_text(json.dumps(data))
        return nf.CocoFrames(path, backend=None)

    return open_dataset


def check(make, names, error=PatchError):
    with pytest.raises(error) as caught:
        make()
    assert isinstance(caught.value, NdframesError)
    assert isinstance(caught.value, ValueError)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_bad_datasets(open_dataset, case):
    data, make, names = CASES[case]
    frames = open_dataset(data)
    check(lambda: make(frames), [NAME, *names])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_bad_annotations(open_dataset, fault, reader):
    data, names = FAULTS[fault]
    frames = open_dataset(data)
    check(lambda: READERS[reader](frames), [NAME, *names])


@pytest.mark.parametrize("rank", [-1, 2, 7])
def test_a_rank_out_of_range(open_dataset, rank):
    frames = open_dataset(good())
    patches = grid(frames)
    samples = PatchDataset(frames, patches)
    for make in (
        lambda: patches.shard(rank, 2),
        lambda: Mix({patches: 1}, 10).shard(rank, 2),
        lambda: Sampler(samples, rank=rank, world_size=2),
        lambda: PatchLoader(samples, 4, rank=rank, world_size=2),
    ):
        check(make, [f"rank {rank} of 2", "give a rank from 0 to"])


def test_a_state_of_another_dataset(open_dataset):
    """The numbers of samples are equal; only what they show differs."""
    frames = open_dataset(good())
    patches, others = RandomPatches(frames, 32, 40), RandomPatches(frames, 32, 40, image_ids=[1])
    for one, other in (
        (patches, others),
        (patches.shuffled(), others.shuffled()),
        (patches.shard(0, 2), others.shard(0, 2)),
        (Mix({patches: 1}, 40), Mix({others: 1}, 40)),
        (BoxPatches(frames, 32, 40), BoxPatches(frames, 32, 40, image_ids=[1])),
    ):
        check(lambda a=one, b=other: a.load_state_dict(b.state_dict()), ["another dataset", "make the patches as in"])
    samples, other_samples = PatchDataset(frames, patches), PatchDataset(frames, others)
    for make in (Sampler, lambda samples: PatchLoader(samples, 4, workers=0)):
        one, other = make(samples), make(other_samples)
        one.load_state_dict(make(samples).state_dict())
        check(lambda a=one, b=other: a.load_state_dict(b.state_dict()), ["another dataset", "make the dataset"])


def test_nothing_to_sample(open_dataset):
    for make in (lambda: Sampler([]), lambda: PatchLoader([], 4)):
        check(make, ["the dataset [] is empty", "give one with at least one item"])
    check(lambda: Mix([], 10), ["there are no sources", "give patches with a weight above 0"])
    patches = grid(open_dataset(good()))
    check(lambda: Mix([(patches, 0)], 10), [repr(patches), "sum to zero", "a weight above 0"])
    frames = open_dataset(good())
    check(lambda: grid(frames, image_ids=[]), ["no images in image_ids", "give at least one"])
    check(lambda: RandomPatches(frames, 32, 10, image_ids=[]), ["no images in image_ids", "give at least one"])


def test_what_is_not_frames_is_an_error(open_dataset):
    frames = open_dataset(good())
    patches = grid(frames)
    for wrong in ("scans", None, [frames]):
        for make in (
            lambda wrong=wrong: GridPatches(wrong, 32),
            lambda wrong=wrong: RandomPatches(wrong, 32, 10),
            lambda wrong=wrong: PatchDataset(wrong, patches),
            lambda wrong=wrong: stitch(wrong, patches, len),
            lambda wrong=wrong: detect(wrong, patches, len),
        ):
            with pytest.raises(TypeError, match="frames=.*; give Frames, such as"):
                make()
    check(lambda: PatchDataset(frames, [patches[0]]), ["patches=[Patch(", "give GridPatches"])


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, "half", "0.5", True, 1j, [0.5, None]])
def test_factors_are_numbers_above_0(open_dataset, value):
    frames = open_dataset(good())
    shown = [f"={value!r}", "above 0"]
    check(lambda: grid(frames, scale=value), shown)
    check(lambda: Stitcher((9, 9), scale=value), shown)
    check(lambda: RandomPatches(frames, 32, 10, scales=[1, value]), shown)
    if not isinstance(value, list):
        check(lambda: RandomPatches(frames, 32, 10, scales=value), shown)
        check(lambda: detect(frames, grid(frames), len, whole=value), [f"whole={value!r}"])


def test_factors_of_numpy_are_numbers(open_dataset):
    frames = open_dataset(good())
    for scale in (np.float32(0.5), np.int64(2)):
        for patches in (grid(frames, scale=scale), RandomPatches(frames, 32, 10, scales=scale)):
            assert (patches[0].scale, type(patches[0].scale)) == (float(scale), float)
    factors = np.array([0.5, 1.0])
    assert {patch.scale for patch in RandomPatches(frames, 32, 50, scales=factors)} == {0.5, None}


def test_a_share_is_checked_without_areas_too(open_dataset):
    check(lambda: grid(open_dataset(good()), min_covered=2), ["min_covered=2; give a share from 0 to 1"])


def test_unknown_images_are_named(open_dataset):
    frames = open_dataset(good())
    for make in (lambda: grid(frames, image_ids=[8]), lambda: RandomPatches(frames, 32, 10, image_ids=[8])):
        with pytest.raises(nf.ImageIdError, match="8"):
            make()


def test_patches_of_several_frames_have_no_single_target(open_dataset, tmp_path):
    data = good()
    data["videos"] = [{"id": 4, "name": "clip"}]
    for number, record in enumerate(data["images"]):
        np.save(tmp_path / f"{number}.npy", np.zeros((100, 120), np.uint8))
        record.update(video_id=4, frame_index=number, height=100, width=120, file_name=f"{number}.npy")
    frames = open_dataset(data)
    patches = grid(frames, image_ids=["clip"], times=2)
    with pytest.raises(UnsupportedError, match="image 'clip': .*ask for those of each frame"):
        DetectionPatches(frames, patches)
    assert len(DetectionPatches(frames, grid(frames, image_ids=["clip"]))) > 0


def test_prefetch_of_an_empty_dataset_ends_at_once(open_dataset):
    assert list(prefetch(open_dataset(empty()))) == []
