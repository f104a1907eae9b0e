"""Samples are the pixels of direct reads, whoever asks for them."""

from __future__ import annotations

import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import ndframes as nf
from ndframes.feed import GridPatches, RandomPatches
from ndframes.torch import PatchDataset, PatchLoader, Sampler, collate

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


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # on a machine of two cores
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


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: Sampler(range(6)), "a dataset of 5 items, this one 6"),
        (lambda: Sampler(range(5), seed=1), "order with the seed 0, this is a shuffled order with the seed 1"),
        (lambda: Sampler(range(5), shuffle=False), "with the seed 0, this is an order that is not shuffled"),
    ],
)
def test_a_state_of_another_order_is_an_error(other, message):
    with pytest.raises(nf.PatchError, match=message):
        other().load_state_dict(Sampler(range(5)).state_dict())


@pytest.mark.parametrize(
    "change", [{"epoch": None}, {"epoch": 1.5}, {"delivered": -1}, {"delivered": 6}, {"epoch": -1}, {"length": "5"}]
)
def test_a_state_that_is_none_is_an_error(change):
    state = {**Sampler(range(5)).state_dict(), **change}
    with pytest.raises(nf.PatchError, match="not a state|the state counts"):
        Sampler(range(5)).load_state_dict(state)
    with pytest.raises(nf.PatchError, match="not a state"):
        Sampler(range(5)).load_state_dict({"epoch": 1})


@pytest.mark.parametrize("delivered", [-1, 1.5])
def test_a_number_of_delivered_items_is_checked(delivered):
    with pytest.raises(nf.PatchError, match="delivered="):
        Sampler(range(5)).state_dict(delivered=delivered)


@pytest.mark.parametrize(
    "change", [{"seed": 10}, {"shape": 33}, {"image_ids": ["coffee", "chelsea"]}], ids=["seed", "shape", "images"]
)
def test_the_state_of_other_patches_is_an_error(photographs, change):
    def make(shape=32, seed=9, **options):
        patches = RandomPatches(photographs, shape, 20, seed=seed, **options)
        return Sampler(PatchDataset(photographs, patches), seed=3)

    state = json.loads(json.dumps(make().state_dict(delivered=7)))
    make().load_state_dict(state)
    with pytest.raises(
        nf.PatchError,
        match="another dataset of as many items: its patches or clips have other images, regions, shapes or seeds",
    ):
        make(**change).load_state_dict(state)
    # A dataset of one's own that has patches is known by them, too.
    owner = type("Owner", (list,), {"patches": RandomPatches(photographs, 32, 20, seed=9)})(range(20))
    Sampler(owner, seed=3).load_state_dict(state)


@pytest.mark.parametrize(("uneven", "delivered"), [("pad", 3), ("keep", 3), ("drop", 2)])
def test_a_state_of_the_end_of_an_epoch_leads_to_the_next_one(uneven, delivered):
    for rank in range(2):
        sampler = Sampler(range(5), seed=1, rank=rank, world_size=2, uneven=uneven)
        sampler.set_epoch(4)
        state = sampler.state_dict(delivered=delivered)
        wanted = list(zip(range(2), (list(sampler) for _ in range(2)), strict=True))[1][1]
        other = Sampler(range(5), seed=1, rank=rank, world_size=2, uneven=uneven)
        other.load_state_dict(state)
        assert len(other) == len(wanted)
        assert list(other) == wanted
        assert other.epoch == 5


# -- datasets that know of no epoch -----------------------------------------------------------------------------------


class Forwarding:
    """A dataset of some items of another one, with all its attributes."""

    def __init__(self, source, items):
        self.source, self.items = source, items

    def __getattr__(self, name):
        if name.startswith("__") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, item):
        return self.source[self.items[item]]


def foreign_datasets(dataset):
    items = [{"image": torch.full((3, 4, 4), number), "id": number} for number in range(5)]
    return {
        "list": (items, list(range(5)), "id"),
        "subset": (Subset(dataset, range(20, 30)), list(range(20, 30)), "patch"),
        "concat": (dataset + dataset, list(range(LENGTH)) * 2, "patch"),
        "wrapper": (Forwarding(dataset, range(7, 16)), list(range(7, 16)), "patch"),
    }


@pytest.mark.parametrize("kind", ["list", "subset", "concat", "wrapper"])
@pytest.mark.parametrize("loads", ["patch loader", "stock loader"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_foreign_dataset_gets_plain_items_in_every_epoch(photographs, patches, kind, loads, shuffle):
    dataset = PatchDataset(photographs, patches)
    foreign, wanted, key = foreign_datasets(dataset)[kind]
    loader = (
        PatchLoader(foreign, 4, workers=0, shuffle=shuffle, seed=2)
        if loads == "patch loader"
        else DataLoader(foreign, 4, sampler=Sampler(foreign, shuffle=shuffle, seed=2), collate_fn=collate)
    )
    orders = []
    for _ in range(3):
        batches = list(loader)
        if key == "id":
            orders.append([number for batch in batches for number in batch.more["id"].tolist()])
            assert all((batch.images == batch.more["id"].view(-1, 1, 1, 1)).all() for batch in batches)
        else:
            orders.append([patch.index for batch in batches for patch in batch.patches])
            for batch in batches:
                # Those of epoch 0.
                assert batch.patches == [patches[patch.index] for patch in batch.patches]
                assert_batch_is_right(photographs, batch)
    if shuffle:
        assert orders[0] != orders[1] != orders[2]
        assert all(sorted(order) == sorted(wanted) for order in orders)
    else:
        assert orders == [wanted] * 3


def test_a_dataset_of_ones_own_may_decode_epochs():
    class Numbered(list):
        decodes_epochs = True

    sampler = Sampler(Numbered("abc"), shuffle=False)
    assert [list(sampler) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


# -- errors name the item ---------------------------------------------------------------------------------------------


def fail_at_17(sample, rng):
    if sample["patch"].index == 17:
        raise ValueError("odd sample")
    return sample


def notes_of(error):
    return "; ".join(getattr(error, "__notes__", ()))


def test_an_error_of_a_transform_names_item_epoch_patch_and_process(photographs, patches):
    dataset = PatchDataset(photographs, patches, transform=fail_at_17)
    for read in (lambda: dataset[2 * LENGTH + 17], lambda: dataset.__getitems__([3, 2 * LENGTH + 17])):
        with pytest.raises(ValueError, match="odd sample") as caught:
            read()
        patch = patches.at(17, epoch=2)
        wanted = (
            rf"while transforming item 17 of epoch 2, Patch\(image_id='{patch.image_id}'.* in process {os.getpid()}"
        )
        assert re.search(wanted, notes_of(caught.value))
        assert len(caught.value.__notes__) == 1


def test_an_error_of_a_stock_loaders_worker_names_the_item(photographs, patches):
    dataset = PatchDataset(photographs, patches, transform=fail_at_17)
    loader = DataLoader(
        dataset, 10, sampler=range(LENGTH), collate_fn=collate, num_workers=1, multiprocessing_context="fork"
    )
    # Before Python 3.11, a traceback that is text shows no notes.
    wanted = "odd sample" if sys.version_info < (3, 11) else "odd sample\n.*while transforming item 17 of epoch 0"
    with pytest.raises(ValueError, match=wanted):
        list(loader)


class Unreadable(nf.SimpleFrames):
    """Frames of which some places cannot be read."""

    names_the_image = True

    def load_regions(self, requests, *args, **options):
        for image_id, region in requests:
            if (image_id, region[0].start) == ("b", 16):
                error = nf.SourceError("odd bytes")
                error.image_id = image_id if self.names_the_image else None
                raise error
        return super().load_regions(requests, *args, **options)


@pytest.mark.parametrize("names_the_image", [True, False])
def test_an_error_of_a_read_names_the_item_that_cannot_be_read(tmp_path, names_the_image):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.full((32, 32, 3), ord(name), np.uint8))
    frames = Unreadable({name: tmp_path / f"{name}.npy" for name in "abc"}, backend=None)
    frames.names_the_image = names_the_image
    dataset = PatchDataset(frames, GridPatches(frames, 16))
    for indices in ([9, 12 + 6, 1, 8], [5, 12 + 6, 1]):
        with pytest.raises(nf.SourceError, match="odd bytes") as caught:
            dataset.__getitems__(indices)
        assert "while reading item 6 of epoch 1, Patch(image_id='b'" in notes_of(caught.value)
        assert len(caught.value.__notes__) == 1
