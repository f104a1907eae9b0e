"""PatchLoader delivers every item once an epoch, and goes on where it stopped with any number of workers and ranks."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import signal

import numpy as np
import pytest
import torch

import ndframes as nf
from ndframes.feed import RandomPatches
from ndframes.torch import PatchDataset, PatchLoader, Sample

LENGTH = 60


def add_noise(sample, rng):
    sample["noise"] = int(rng.integers(1 << 40))
    return sample


@pytest.fixture(scope="module")
def dataset(photographs):
    return PatchDataset(photographs, RandomPatches(photographs, (24, 32), LENGTH, seed=3), transform=add_noise)


def run(loader, *, most=None):
    """What an epoch delivers: ``(index, noise)`` of each sample that is not a repeat."""
    delivered = []
    for number, batch in enumerate(loader):
        assert len(batch.images) == len(batch.patches) == len(batch.more["noise"])
        delivered += zip([patch.index for patch in batch.patches], np.ravel(batch.more["noise"]).tolist(), strict=True)
        if number + 1 == most:
            break
    return delivered


def expected(dataset, epoch):
    return {(item, dataset[epoch * LENGTH + item]["noise"]) for item in range(LENGTH)}


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 2, "worker": "thread"},
        {"workers": 2, "start_method": "fork"},
        {"workers": 1},  # each process imports torch, which takes two seconds
        pytest.param({"workers": 2}, marks=pytest.mark.slow),
    ],
    ids=["here", "threads", "forks", "process", "processes"],
)
def test_each_item_is_delivered_once_an_epoch_with_its_pixels(photographs, dataset, options):
    with PatchLoader(dataset, 7, shuffle=True, seed=9, **options) as loader:
        for epoch in range(2):
            assert len(loader) == 9
            batches = list(loader)  # kept, so that slots run out
            assert loader.epoch == epoch
            assert len(batches) == 9
            for batch in batches:
                for image, patch in zip(batch.images, batch.patches, strict=True):
                    wanted = photographs.load_region(*patch.request)
                    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), wanted)
            found = {(p.index, int(n)) for b in batches for p, n in zip(b.patches, b.more["noise"], strict=True)}
            assert found == expected(dataset, epoch)


def test_the_order_does_not_depend_on_the_workers(dataset):
    orders = []
    for options in ({"workers": 0}, {"workers": 3, "worker": "thread"}, {"workers": 2, "start_method": "fork"}):
        with PatchLoader(dataset, 8, shuffle=True, seed=4, **options) as loader:
            orders.append(run(loader) + run(loader))
    assert orders[0] == orders[1] == orders[2]


def test_the_last_batch_is_left_out_on_request(dataset):
    loader = PatchLoader(dataset, 8, workers=0, drop_last=True)
    assert [len(batch) for batch in loader] == [8] * 7
    assert len(loader) == 7


def check_a_resume(dataset, rng):
    """Stop somewhere, go on with other numbers of everything: nothing comes twice, nothing is lost, noise is the same."""
    ranks, others, size, other_size = (rng.randint(1, high) for high in (3, 3, 9, 9))
    seed, epoch = rng.randint(0, 99), rng.randint(0, 2)
    first = [
        PatchLoader(dataset, size, workers=0, shuffle=True, seed=seed, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    steps = rng.randint(0, len(first[0]))
    delivered = []
    for loader in first:
        loader.set_epoch(epoch)
        if steps:
            delivered += run(loader, most=steps)
    states = [json.loads(json.dumps(loader.state_dict())) for loader in first]
    # Ranks run in step, so that any of them has the state of all.
    assert all(state == states[0] for state in states)
    workers = {"workers": rng.choice([0, 1, 2]), "worker": "thread"}
    rest = []
    for rank in range(others):
        with PatchLoader(
            dataset, other_size, shuffle=True, seed=seed, rank=rank, world_size=others, **workers
        ) as loader:
            loader.load_state_dict(states[-1])
            rest += run(loader)
            assert loader.epoch == epoch + (states[-1]["delivered"] == LENGTH)
    if states[-1]["delivered"] == LENGTH:
        assert set(delivered) == expected(dataset, epoch)
        assert set(rest) == expected(dataset, epoch + 1)
        return
    # The last share of several ranks is filled up by repeats.
    assert set(delivered) | set(rest) == expected(dataset, epoch)
    assert len(delivered) + len(rest) < LENGTH + ranks + others
    if steps * size * ranks < LENGTH:
        # No repeats were needed before, and those after are of the first items.
        assert len(delivered) == len(set(delivered)) == steps * size * ranks
        assert len(set(rest)) >= LENGTH - len(delivered)


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_other_numbers_of_workers_ranks_and_samples(dataset, count):
    rng = random.Random(count)
    for _ in range(count):
        check_a_resume(dataset, rng)


def test_after_a_resume_the_next_epoch_is_whole(dataset):
    loader = PatchLoader(dataset, 10, workers=0, shuffle=True)
    run(loader, most=2)
    state = loader.state_dict()
    other = PatchLoader(dataset, 10, workers=0, shuffle=True)
    other.load_state_dict(state)
    assert len(other) == 4
    assert len(run(other)) == 40
    assert len(other) == 6
    assert set(run(other)) == expected(dataset, 1)


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"uneven": "drop"}, {"uneven": "keep"}])
def test_a_state_of_the_end_of_an_epoch_leads_to_the_next_one(dataset, options):
    options = {"workers": 0, "shuffle": True, "world_size": 2, **options}
    for rank in range(2):
        loader = PatchLoader(dataset, 8, rank=rank, **options)
        run(loader)
        state = loader.state_dict()
        other = PatchLoader(dataset, 8, rank=rank, **options)
        other.load_state_dict(state)
        assert len(other) == len(loader)
        assert run(other) == run(loader)
        assert other.epoch == loader.epoch == 1


def test_a_state_of_other_patches_is_an_error(photographs, dataset):
    loader = PatchLoader(dataset, 8, workers=0)
    run(loader, most=2)
    others = PatchDataset(photographs, RandomPatches(photographs, (24, 32), LENGTH, seed=4))
    with pytest.raises(nf.PatchError, match="another dataset of as many items"):
        PatchLoader(others, 8, workers=0).load_state_dict(loader.state_dict())


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "worker": "thread"}], ids=["here", "threads"])
@pytest.mark.parametrize("kind", ["dicts", "pairs"])
def test_patches_that_fill_up_a_share_are_marked(photographs, kind, options):
    def to_pair(sample, rng):
        return Sample(sample["image"], 1, sample["patch"])

    for count in (5, 7):
        patches = RandomPatches(photographs, 24, count)
        samples = PatchDataset(photographs, patches, transform=to_pair if kind == "pairs" else None)
        for rank in range(3):
            with PatchLoader(samples, 2, rank=rank, world_size=3, **options) as loader:
                found = [patch for batch in loader for patch in batch.patches]
            wanted = list(patches.shard(rank, 3))
            assert found == wanted
            assert [patch.is_repeat for patch in found] == [patch.is_repeat for patch in wanted]


def test_batches_outlive_the_loader(photographs, dataset):
    with PatchLoader(dataset, 10, workers=1, start_method="fork") as loader:
        batches = list(loader)
    del loader
    gc.collect()
    for batch in batches:
        for image, patch in zip(batch.images, batch.patches, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), photographs.load_region(*patch.request))


def children():
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}


def test_a_killed_worker_is_an_error_and_leaves_nothing(dataset):
    before = children()
    loader = PatchLoader(dataset, 2, workers=2, start_method="fork")
    iterator = iter(loader)
    next(iterator)
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(nf.WorkerDied, match="SIGKILL|signal 9"):
        list(iterator)
    assert children() == before
    # Another iteration starts other workers.
    assert len(run(loader)) == LENGTH
    loader.close()
    assert children() == before


def test_an_early_exit_and_a_forgotten_loader_leave_no_process(dataset):
    before = children()
    loader = PatchLoader(dataset, 2, workers=2, start_method="fork")
    for _ in loader:
        break
    gc.collect()
    assert children() == before
    run(loader)
    assert children() != before
    del loader
    gc.collect()
    assert children() == before


@pytest.mark.parametrize(
    "options",
    [{"workers": 0}, {"workers": 1, "worker": "thread"}, {"workers": 2, "start_method": "fork"}],
    ids=["here", "thread", "forks"],
)
def test_closing_ends_iterations_that_are_held(dataset, options):
    before = children()
    with PatchLoader(dataset, 2, **options) as loader:
        iterators = [iter(loader), iter(loader)]
        batches = [next(iterator) for iterator in iterators]
        unstarted = iter(loader)
    assert children() == before
    for iterator in (*iterators, unstarted):
        assert list(iterator) == []
        with pytest.raises(StopIteration):
            next(iterator)
    assert torch.equal(batches[0].images[0], dataset[0]["image"])
    # Another iteration starts other workers.
    assert len(run(loader)) == LENGTH
    loader.close()
    assert children() == before


def fail_at_17(sample, rng):
    if sample["patch"].index == 17:
        raise RuntimeError("odd sample")
    return sample


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"workers": 1, "start_method": "fork"}, {"workers": 1, "worker": "thread"}]
)
def test_an_error_of_a_transform_reaches_the_loop(photographs, dataset, options):
    failing = PatchDataset(photographs, dataset.patches, transform=fail_at_17)
    with PatchLoader(failing, 5, **options) as loader:
        loader.set_epoch(3)
        with pytest.raises(RuntimeError, match="odd sample") as caught:
            list(loader)
    (note,) = caught.value.__notes__
    patch = dataset.patches.at(17, epoch=3)
    found = re.fullmatch(r"while transforming item 17 of epoch 3, (.*), in process (\d+)", note)
    assert found[1].startswith(f"Patch(image_id='{patch.image_id}', region=(slice({patch.rows.start}")
    assert (int(found[2]) == os.getpid()) is ("start_method" not in options)


class Failing(list):
    """A dataset of one's own with an item that fails."""

    def __getitem__(self, item):
        if item == 3:
            raise KeyError("no such file")
        return super().__getitem__(item)

    def read(self, path):
        """As a dataset may have; ours has a method of this name, too."""
        raise AssertionError(path)


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "start_method": "fork"}])
def test_errors_of_a_foreign_dataset_and_of_collation_name_the_items(options):
    image = torch.zeros(3, 4, 4)
    with PatchLoader(Failing([(image, 1)] * 5), 2, **options) as loader:
        loader.set_epoch(1)
        with pytest.raises(KeyError, match="no such file") as caught:
            list(loader)
    assert caught.value.__notes__[0].startswith("while reading item 3 in process ")
    loader = PatchLoader([(image, 1), (image, 1), (image, 1), (image, 2.5)], 2, **options)
    with pytest.raises(nf.PatchError, match="'label' is float64 in sample 1") as caught:
        list(loader)
    assert caught.value.__notes__[0].startswith("while collating the items 2, 3 in process ")


class Stopping(list):
    """A dataset of one's own with a mistake that would end a loop."""

    def __getitem__(self, item):
        raise StopIteration


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 1, "start_method": "fork"}])
def test_stop_iteration_in_a_dataset_is_an_error(options):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(PatchLoader(Stopping([1, 2]), 2, **options))


def forget_to_return(sample, rng):
    sample["image"] += 1


def test_a_transform_that_returns_nothing_is_an_error_that_says_so(photographs, dataset):
    loader = PatchLoader(PatchDataset(photographs, dataset.patches, transform=forget_to_return), 5, workers=0)
    with pytest.raises(TypeError, match="sample 0 is None; return a dict") as caught:
        next(iter(loader))
    assert "while collating the items 0, 1, 2, 3, 4 of epoch 0 in process" in caught.value.__notes__[0]


def to_label(sample, rng):
    return sample["image"], int(sample["patch"].index)


def test_labels_and_images_without_channels_cross_processes(photographs, dataset):
    labelled = PatchDataset(photographs, dataset.patches, transform=to_label)
    with PatchLoader(labelled, 8, workers=1, start_method="fork") as loader:
        for batch in loader:
            assert batch.more["label"].tolist() == [patch.index for patch in batch.patches]
    flat = [(torch.full((4, 5 + number), number), number) for number in range(4)]
    with PatchLoader(flat, 4, workers=1, start_method="fork") as loader:
        (batch,) = loader
    assert all(torch.equal(image, sample[0]) for image, sample in zip(batch.images, flat, strict=True))


def test_batches_are_moved_and_changed(dataset):
    loader = PatchLoader(dataset, 6, workers=0, device="meta", transform_device=lambda batch: (batch, "changed"))
    batch, mark = next(iter(loader))
    assert (batch.images.device.type, mark) == ("meta", "changed")


def test_any_map_style_dataset_works():
    items = [(torch.full((3, 4, 5), number), {"labels": torch.arange(number)}) for number in range(6)]
    with PatchLoader(items, 4, workers=1, worker="thread") as loader:
        batches = list(loader)
    assert [len(target["labels"]) for batch in batches for target in batch.targets] == list(range(6))
    assert torch.equal(batches[1].images[0], items[4][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"workers": -1}, "workers=-1"),
        ({"depth": 0}, "depth=0"),
        ({"rank": 3, "world_size": 2}, "rank 3 of 2"),
    ],
)
def test_bad_arguments_are_errors_at_construction(dataset, options, message):
    with pytest.raises(nf.PatchError, match=message):
        PatchLoader(dataset, **{"batch_size": 4, **options})
