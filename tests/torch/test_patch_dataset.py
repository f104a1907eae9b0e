"""Samples are the pixels of direct reads, whoever asks for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import ndframes as nf
from ndframes.feed import GridPatches, RandomPatches
from ndframes.torch import PatchDataset, Sampler, collate

LENGTH = 50


@pytest.fixture
def patches(photographs):
    return RandomPatches(photographs, (40, 56), LENGTH, seed=3)


def add_noise(sample, rng):
    sample["noise"] = rng.integers(1 << 40)
    sample["image"] = sample["image"] ^ int(rng.integers(256))
    return sample


def assert_batch_is_right(frames, batch):
    assert batch.images.shape[0] == len(batch.patches) == len(batch)
    for image, patch in zip(batch.images, batch.patches, strict=True):
        wanted = frames.load_region(*patch.request, **patch.read_options)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), wanted)


# -- items ------------------------------------------------------------------------------------------------------------


def test_an_item_is_a_direct_read(photographs, patches):
    dataset = PatchDataset(photographs, patches)
    for index in (0, 7, LENGTH - 1):
        sample = dataset[index]
        assert sample["patch"] == patches[index]
        np.testing.assert_array_equal(
            sample["image"].permute(1, 2, 0).numpy(), photographs.load_region(*patches[index].request)
        )


def test_a_batch_of_items_equals_single_ones(photographs, patches):
    dataset = PatchDataset(photographs, patches, transform=add_noise)
    indices = [3, 49, 3, 55, 0]
    for one, other in zip(dataset.__getitems__(indices), (dataset[index] for index in indices), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert (one["patch"], one["noise"]) == (other["patch"], other["noise"])


def test_an_index_contains_the_epoch(photographs, patches):
    dataset = PatchDataset(photographs, patches, transform=add_noise)
    assert dataset[LENGTH + 4]["patch"] == patches.at(4, epoch=1) != patches[4]
    grid = PatchDataset(photographs, GridPatches(photographs, 64), transform=add_noise)
    first, later = grid[5], grid[5 + 3 * len(grid)]
    assert first["patch"] == later["patch"]
    assert first["noise"] != later["noise"]
    with pytest.raises(IndexError, match="index -1"):
        dataset[-1]


def test_augmentations_depend_on_patches_epoch_and_item_alone(photographs):
    def noise_of(**options):
        patches = RandomPatches(photographs, 32, 20, **options)
        return [PatchDataset(photographs, patches, transform=add_noise)[index]["noise"] for index in range(25)]

    assert noise_of(seed=1) == noise_of(seed=1)
    assert len({*noise_of(seed=1), *noise_of(seed=2)}) == 50


def test_patches_beyond_the_edge_and_scaled_ones_are_read_in_one_batch(photographs):
    patches = GridPatches(photographs, 200, edge="pad", scale=0.5)
    samples = PatchDataset(photographs, patches).__getitems__(range(len(patches)))
    assert any(not patch.is_inside for patch in patches)
    assert_batch_is_right(photographs, collate(samples))


def test_the_dtype_is_cast_and_channels_are_picked(photographs, patches):
    sample = PatchDataset(photographs, patches, channels="g|r", dtype="float32")[2]
    wanted = photographs.load_region(*patches[2].request, "g|r").astype(np.float32)
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), wanted)
    with pytest.raises(nf.PatchError, match="dtype='floaty'"):
        PatchDataset(photographs, patches, dtype="floaty")


def test_sixteen_bits_stay(tmp_path):
    array = np.arange(64 * 64 * 2, dtype=np.uint16).reshape(64, 64, 2) * 7
    np.save(tmp_path / "a.npy", array)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, backend=None)
    (image,) = (sample["image"] for sample in PatchDataset(frames, GridPatches(frames, 64)))
    assert image.dtype == torch.uint16
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), array)


# -- the stock DataLoader ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 0},
        {"num_workers": 1, "multiprocessing_context": "fork"},
        {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True},
        pytest.param({"num_workers": 4, "multiprocessing_context": "spawn"}, marks=pytest.mark.slow),
        pytest.param(
            {"num_workers": 1, "multiprocessing_context": "forkserver", "persistent_workers": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_stock_loader_delivers_each_item_once_an_epoch(photographs, patches, options):
    dataset = PatchDataset(photographs, patches)
    loader = DataLoader(dataset, 8, sampler=Sampler(dataset, seed=5), collate_fn=collate, **options)
    assert len(loader) == 7
    for epoch in range(3):
        seen = []
        for batch in loader:
            assert_batch_is_right(photographs, batch)
            seen += batch.patches
        # Workers that live on for several epochs know the epoch, too.
        assert sorted(seen, key=lambda patch: patch.index) == [patches.at(item, epoch=epoch) for item in range(LENGTH)]


def test_torchs_own_collation_works_without_patches(photographs, patches):
    dataset = PatchDataset(photographs, patches, with_patch=False)
    images = torch.cat([batch["image"] for batch in DataLoader(dataset, 16)])
    assert torch.equal(images, torch.stack([dataset[index]["image"] for index in range(LENGTH)]))


def test_other_values_of_a_transform_are_collated(photographs, patches):
    dataset = PatchDataset(photographs, patches, transform=add_noise)
    batch = next(iter(DataLoader(dataset, 4, collate_fn=collate)))
    assert batch.more["noise"].tolist() == [dataset[index]["noise"] for index in range(4)]
    moved = batch.to("cpu")
    assert torch.equal(moved.images, batch.images)
    assert moved.patches == batch.patches


# -- collation --------------------------------------------------------------------------------------------------------


def test_ragged_targets_are_packed_and_come_back():
    image = torch.zeros(3, 8, 8)
    targets = [
        {"boxes": torch.rand(count, 4), "labels": torch.arange(count), "image_id": torch.tensor(count)}
        for count in (3, 0, 1)
    ]
    batch = collate([(image, target) for target in targets])
    assert len(batch.packed) == 3
    images, unpacked = batch
    assert images.shape == (3, 3, 8, 8)
    for found, wanted in zip(unpacked, targets, strict=True):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert unpacked[1]["boxes"].shape == (0, 4)


def test_images_of_different_shapes_stay_a_list():
    batch = collate([{"image": torch.zeros(3, 8, 8)}, {"image": torch.zeros(3, 8, 9)}])
    assert [tuple(image.shape) for image in batch.images] == [(3, 8, 8), (3, 8, 9)]


def test_a_sample_of_another_form_is_an_error():
    with pytest.raises(TypeError, match="pair"):
        collate([torch.zeros(3, 8, 8)])


# -- the sampler ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uneven", ["pad", "drop", "keep"])
def test_ranks_share_an_epoch(uneven):
    for ranks in (1, 2, 3):
        shares = [list(Sampler(range(20), rank=rank, world_size=ranks, uneven=uneven)) for rank in range(ranks)]
        drawn = [item for share in shares for item in share]
        if uneven == "drop":
            assert len(drawn) == len(set(drawn)) == 20 // ranks * ranks
        else:
            assert set(drawn) == set(range(20))
            assert len(drawn) == (20 if uneven == "keep" else -(-20 // ranks) * ranks)


def test_a_sampler_of_nothing_or_of_another_dataset_is_an_error():
    with pytest.raises(nf.PatchError, match=r"the dataset \[\] is empty; give one"):
        Sampler([])
    with pytest.raises(nf.PatchError, match="rank 2 of 2"):
        Sampler(range(5), rank=2, world_size=2)
    state = Sampler(range(5)).state_dict()
    for other in (Sampler(range(6)), Sampler(range(5), seed=1), Sampler(range(5), shuffle=False)):
        with pytest.raises(nf.PatchError, match="the state has"):
            other.load_state_dict(state)
    with pytest.raises(nf.PatchError, match="not a state"):
        Sampler(range(5)).load_state_dict({"epoch": 1})
