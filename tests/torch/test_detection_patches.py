"""Targets are the annotations of the patch, and images its pixels, whoever asks for them."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from kit.scenes import annot, dataset, random_scene
from kit.scenes import image as record_of
from torch.utils.data import DataLoader

import ndframes as nf
from ndframes.feed import AnnotationTable, BoxPatches, GridPatches, annotations
from ndframes.torch import DetectionPatches, PatchLoader, Sampler, collate

LENGTH = 24
SMALL, BARE = 40, 50
KEYS = {"boxes", "labels", "area", "iscrowd", "image_id"}
DTYPES = {
    "boxes": torch.float32,
    "labels": torch.int64,
    "area": torch.float32,
    "iscrowd": torch.bool,
    "image_id": torch.int64,
    "masks": torch.uint8,
    "keypoints": torch.float32,
}
ALL = {"masks": "instance", "keypoints": True}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Images with polygons, codes, crowds and keypoints; one smaller than a patch, and one without annotations."""
    data, _ = random_scene(4)
    random = np.random.default_rng(4)
    data["annotations"] += [
        annot(101, SMALL, [2, 3, 20, 25], 30, keypoints=[3, 4, 2, 20, 27, 1, 0, 0, 0]),
        annot(102, 1, [70, 10, 30, 40], 20, keypoints=[75, 15, 2, 95, 45, 2, 99, 12, 1]),
        annot(103, 2, [10, 20, 60, 50], 10, iscrowd=1),
    ]
    # Neither the ids nor the order of images are their places.
    data["images"] = [record_of(BARE), record_of(SMALL, 30, 35), *data["images"][::-1]]
    folder = tmp_path_factory.mktemp("scene")
    for record in data["images"]:
        record["file_name"] = str(folder / f"{record['id']}.npy")
        np.save(record["file_name"], random.integers(0, 255, (record["height"], record["width"], 3), np.uint8))
    return nf.CocoFrames(data, workdir=folder / "work", backend=None)


@pytest.fixture(scope="module")
def grid(scene):
    """Patches that overlap, and reach beyond the edge."""
    return GridPatches(scene, 48, overlap=8, edge="pad")


@pytest.fixture(scope="module")
def patches(scene):
    """Random ones around boxes and away from them, some of them scaled."""
    return BoxPatches(scene, (40, 48), LENGTH, seed=2, positives=0.7, scale_jitter=(0.5, 1.5))


def flip(sample, rng):
    """Mirror a sample or not, and note what was drawn."""
    image, target = sample
    draw = int(rng.integers(1 << 40))
    target = {**target, "draw": torch.tensor(draw)}
    if draw % 2:
        width = image.shape[-1]
        boxes = target["boxes"].clone()
        boxes[:, [2, 0]] = width - target["boxes"][:, [0, 2]]
        image, target["boxes"], target["masks"] = image.flip(-1), boxes, target["masks"].flip(-1)
    return image, target


@pytest.fixture(scope="module")
def flipped(scene, patches):
    return DetectionPatches(scene, patches, transform=flip, **ALL)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
        assert torch.equal(found[key], value), key


def assert_batches_are(dataset, batches, epoch):
    """Batches have the samples of ``dataset[index]``; returns the numbers of the items."""
    seen = []
    for batch in batches:
        assert len(batch.images) == len(batch.targets) == len(batch.patches)
        for image, target, patch in zip(batch.images, batch.targets, batch.patches, strict=True):
            sample = dataset[epoch * len(dataset) + patch.index]
            assert sample.patch == patch
            assert torch.equal(image, sample[0])
            assert_same(target, sample[1])
            seen.append(patch.index)
    return seen


# -- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, ALL, {"masks": "semantic"}, {"min_visibility": 0.8, "keypoints": True}],
    ids=["boxes", "instance", "semantic", "min_visibility"],
)
@pytest.mark.parametrize("kind", ["grid", "patches"])
def test_an_item_is_the_patch_and_its_annotations(scene, options, kind, request):
    patches = request.getfixturevalue(kind)
    table, found = AnnotationTable(scene), DetectionPatches(scene, patches, **options)
    keys = KEYS | {key for key in ("masks", "keypoints") if options.get(key)}
    kinds = {"empty": 0, "crowd": 0, "several": 0}
    for (image, target), patch in zip(found, patches, strict=True):
        pixels = scene.load_region(*patch.request, **patch.read_options)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pixels)
        wanted = annotations(table, patch, **options)
        assert target.keys() == keys
        assert {key: value.dtype for key, value in target.items()} == {key: DTYPES[key] for key in keys}
        assert (target["image_id"].shape, target["image_id"].item()) == ((), patch.image_id)
        count = len(wanted["labels"])
        assert target["boxes"].shape == (count, 4)
        for key in keys - {"image_id"}:
            assert target[key].shape == wanted[key].shape
            np.testing.assert_array_equal(target[key].numpy(), wanted[key])
        kinds = {
            "empty": kinds["empty"] + (not count),
            "crowd": kinds["crowd"] + any(wanted["iscrowd"]),
            "several": kinds["several"] + (count > 1),
        }
    assert all(kinds.values()), kinds


def test_the_values_of_a_target(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((60, 80, 3), np.uint8))
    records = [
        annot(1, 7, [10, 5, 20, 30], 30, keypoints=[12, 7, 2, 29, 34, 1]),
        annot(2, 7, [30, 10, 40, 20], 10, iscrowd=1),
        annot(3, 7, [38, 0, 40, 10], 20),  # a twentieth is visible
    ]
    frames = nf.CocoFrames(dataset([record_of(7, 60, 80, file_name=str(tmp_path / "a.npy"))], records), backend=None)
    instances = DetectionPatches(frames, GridPatches(frames, 40), **ALL)
    assert instances.names == ("background", "cat", "dog", "owl")
    (_, target), wanted = instances[0], torch.zeros(2, 40, 40, dtype=torch.uint8)
    wanted[0, 5:35, 10:30], wanted[1, 10:30, 30:] = 1, 1
    assert_same(
        target,
        {
            "boxes": torch.tensor([[10.0, 5, 30, 35], [30, 10, 40, 30]]),
            "labels": torch.tensor([3, 1]),
            "area": torch.tensor([600.0, 200]),
            "iscrowd": torch.tensor([False, True]),
            "image_id": torch.tensor(7),
            "masks": wanted,
            "keypoints": torch.tensor([[[12.0, 7, 2], [29, 34, 1]], [[0, 0, 0], [0, 0, 0]]]),
        },
    )
    assert instances[0].patch.region == np.s_[0:40, 0:40]
    semantic = DetectionPatches(frames, GridPatches(frames, 100, edge="pad"), masks="semantic")[0][1]["masks"]
    wanted = torch.full((100, 100), 255, dtype=torch.uint8)
    wanted[:60, :80] = 0
    wanted[5:35, 10:30], wanted[0:10, 38:78], wanted[10:30, 30:70] = 3, 2, 255
    assert torch.equal(semantic, wanted)


def test_an_image_without_annotations_and_one_smaller_than_the_patch(scene):
    grid = GridPatches(scene, 64, edge="pad", image_ids=[BARE, SMALL])
    found = {}
    for number in (0, len(grid) - 1):
        image, target = DetectionPatches(scene, grid, **ALL)[number]
        assert image.shape == (3, 64, 64)
        found[target["image_id"].item()] = image, target
    empty = found[BARE][1]
    assert_same(
        empty,
        {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "area": torch.zeros(0),
            "iscrowd": torch.zeros(0, dtype=torch.bool),
            "image_id": torch.tensor(BARE),
            "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
            "keypoints": torch.zeros(0, 3, 3),
        },
    )
    image, target = found[SMALL]
    np.testing.assert_array_equal(image[:, :30, :35].permute(1, 2, 0).numpy(), scene.load_image(SMALL))
    assert not image[:, 30:].any()
    assert not image[:, :, 35:].any()
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[2, 3, 22, 28]], [3])
    batch = collate([DetectionPatches(scene, grid, **ALL)[0]] * 2)
    assert_same(batch.targets[1], empty)


def test_more_classes_than_a_byte_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 10, 3), np.uint8))
    records = [annot(1, 1, [0, 0, 5, 5], 3000), annot(2, 1, [5, 5, 5, 5], 10, iscrowd=1)]
    names = [str(number) for number in range(300)]
    data = dataset([record_of(1, 10, 10, file_name=str(tmp_path / "a.npy"))], records, names)
    frames = nf.CocoFrames(data, backend=None)
    masks = DetectionPatches(frames, GridPatches(frames, 10), masks="semantic")[0][1]["masks"]
    wanted = torch.zeros(10, 10, dtype=torch.int32)
    wanted[:5, :5], wanted[5:, 5:] = 300, -1
    assert masks.dtype == wanted.dtype
    assert torch.equal(masks, wanted)


def test_ids_that_are_no_integers_become_places(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros((10, 10, 3), np.uint8))
    images = [record_of(name, 10, 10, file_name=str(tmp_path / f"{name}.npy")) for name in "ab"]
    frames = nf.CocoFrames(dataset(images, [annot(1, "b", [0, 0, 5, 5])]), backend=None)
    samples = DetectionPatches(frames, GridPatches(frames, 10))
    assert [(target["image_id"].item(), len(target["boxes"])) for _, target in samples] == [(0, 0), (1, 1)]


def test_a_patch_of_another_dataset_is_an_error(scene, grid):
    other = nf.CocoFrames(dataset([record_of(1)], []), backend=None)
    with pytest.raises(nf.PatchError, match="has no image"):
        DetectionPatches(other, grid)


# -- transforms -------------------------------------------------------------------------------------------------------


def test_a_batch_of_items_equals_single_ones(flipped):
    indices = [3, LENGTH - 1, 3, LENGTH + 5, 0, 3 + 4 * LENGTH]
    samples = flipped.__getitems__(indices)
    for sample, index in zip(samples, indices, strict=True):
        single = flipped[index]
        assert sample.patch == single.patch
        assert torch.equal(sample[0], single[0])
        assert_same(sample[1], single[1])
    draws = [target["draw"].item() for _, target in samples]
    assert draws[0] == draws[2]
    # Each item and each epoch have draws of their own.
    assert len(set(draws)) == 5


def test_a_transform_sees_the_sample_and_draws_by_seed_epoch_and_item_alone(scene, patches, flipped):
    plain = DetectionPatches(scene, patches, **ALL)
    seen = []
    watched = DetectionPatches(scene, patches, transform=lambda sample, rng: seen.append(sample) or sample, **ALL)
    for index in (0, 5, LENGTH + 5):
        (image, target), (mirrored, other) = plain[index], flipped[index]
        is_flipped = bool(other["draw"].item() % 2)
        assert torch.equal(mirrored, image.flip(-1) if is_flipped else image)
        assert torch.equal(other["masks"], target["masks"].flip(-1) if is_flipped else target["masks"])
        assert watched[index] is seen[-1]
        assert_same(seen[-1][1], target)
    draws = {}
    for seed in (2, 2, 3):
        others = BoxPatches(scene, (40, 48), LENGTH, seed=seed, positives=0.7, scale_jitter=(0.5, 1.5))
        samples = DetectionPatches(scene, others, transform=flip, **ALL)
        found = [samples[index][1]["draw"].item() for index in (0, 1, LENGTH, LENGTH + 1)]
        assert draws.setdefault(seed, found) == found
    assert len({*draws[2], *draws[3]}) == 8


# -- loaders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stock_loader_delivers_each_item_once_an_epoch(flipped, workers):
    context = {"multiprocessing_context": "fork", "persistent_workers": True} if workers else {}
    sampler = Sampler(flipped, seed=5)
    loader = DataLoader(flipped, 7, sampler=sampler, collate_fn=collate, num_workers=workers, **context)
    for epoch in range(2):
        assert sorted(assert_batches_are(flipped, loader, epoch)) == list(range(LENGTH))


@pytest.mark.parametrize(
    "options", [{"workers": 2, "worker": "thread"}, {"workers": 1, "worker": "process"}], ids=["thread", "process"]
)
def test_patch_loader_delivers_each_item_once_an_epoch(flipped, options):
    with PatchLoader(flipped, 7, shuffle=True, seed=5, **options) as loader:
        for epoch in range(2):
            assert sorted(assert_batches_are(flipped, list(loader), epoch)) == list(range(LENGTH))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_an_epoch_and_a_resumed_run_draws_the_same(flipped, ranks):
    whole = [PatchLoader(flipped, 3, workers=0, shuffle=True, rank=rank, world_size=ranks) for rank in range(ranks)]
    seen = []
    for loader in whole:
        loader.set_epoch(4)
        batches = iter(loader)
        seen += assert_batches_are(flipped, [next(batches), next(batches)], 4)
    state = json.loads(json.dumps(whole[0].state_dict()))
    for loader in (
        PatchLoader(flipped, 5, workers=0, shuffle=True, rank=rank, world_size=4 - ranks) for rank in range(4 - ranks)
    ):
        loader.load_state_dict(state)
        seen += assert_batches_are(flipped, loader, 4)
    assert set(seen) == set(range(LENGTH))
    assert len(seen) < LENGTH + 4 - ranks  # the last share may be filled up


@pytest.mark.parametrize("masks", ["instance", "semantic"])
@pytest.mark.parametrize("worker", [None, "thread"])
def test_targets_of_patches_of_different_shapes(scene, masks, worker):
    samples = DetectionPatches(scene, GridPatches(scene, 48, edge="keep"), masks=masks)
    if worker is None:
        loader = DataLoader(samples, 6, collate_fn=collate)
        assert assert_batches_are(samples, loader, 0) == list(range(len(samples)))
    else:
        with PatchLoader(samples, 6, workers=1, worker=worker) as loader:
            assert assert_batches_are(samples, loader, 0) == list(range(len(samples)))
    batch = next(iter(PatchLoader(samples, 6, workers=0)))
    assert isinstance(batch.images, list)
    for target, other in zip(batch.to("cpu").targets, batch.targets, strict=True):
        assert_same(target, other)


# -- torchvision ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision_tv_tensors_are_a_typed_error(scene, grid):
    with pytest.raises(nf.MissingExtraError, match="tv_tensors=True needs torchvision") as caught:
        DetectionPatches(scene, grid, tv_tensors=True)
    assert caught.value.name == "torchvision"


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
@pytest.mark.parametrize("masks", ["instance", "semantic"])
def test_tv_tensors_have_the_same_values(scene, grid, masks):
    from torchvision import tv_tensors

    marked, plain = (DetectionPatches(scene, grid, masks=masks, tv_tensors=flag) for flag in (True, False))
    for (image, target), (other, wanted) in zip(marked, plain, strict=True):
        assert type(image) is tv_tensors.Image
        assert type(target["boxes"]) is tv_tensors.BoundingBoxes
        assert type(target["masks"]) is tv_tensors.Mask
        assert target["boxes"].canvas_size == tuple(image.shape[-2:])
        assert torch.equal(image.as_subclass(torch.Tensor), other)
        assert_same({key: value.as_subclass(torch.Tensor) for key, value in target.items()}, wanted)
