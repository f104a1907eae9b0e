"""Batches have what the samples have: nothing is left out, cast or transposed."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch

import ndframes as nf
from ndframes.feed import Patch
from ndframes.torch import Batch, Sample, collate

IMAGE = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(3, 8, 8)


def test_ragged_targets_are_packed_and_come_back():
    targets = [
        {"boxes": torch.rand(count, 4), "labels": torch.arange(count), "image_id": torch.tensor(count)}
        for count in (3, 0, 1)
    ]
    batch = collate([(IMAGE, target) for target in targets])
    assert len(batch._columns) == 3
    images, unpacked = batch
    assert torch.equal(images, torch.stack([IMAGE] * 3))
    for found, wanted in zip(unpacked, targets, strict=True):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        assert all(found[key].shape == wanted[key].shape for key in wanted)
    assert unpacked[1]["boxes"].shape == (0, 4)


def test_targets_with_and_without_axes_come_back():
    values = [torch.tensor(5.0), torch.tensor([1.0, 2]), torch.zeros(0), torch.arange(6.0).view(2, 3)]
    batch = collate([(IMAGE, {"value": value, 7: number}) for number, value in enumerate(values)])
    for number, (target, value) in enumerate(zip(batch.targets, values, strict=True)):
        assert target["value"].shape == value.shape
        assert torch.equal(target["value"], value)
        assert target[7].item() == number


def test_a_batch_shows_no_internal_names():
    batch = collate([(IMAGE, {"image_id": torch.tensor(3), "boxes": torch.zeros(2, 4)})] * 2)
    public = {field.name for field in dataclasses.fields(Batch) if not field.name.startswith("_")}
    assert public == {"images", "patches", "more"}
    assert list(batch.targets[0]) == ["image_id", "boxes"]
    assert repr(batch) == "<Batch: (2, 3, 8, 8), targets with ['image_id', 'boxes']>"
    assert "\0" not in repr(dataclasses.asdict(batch))
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.targets[1]["boxes"], torch.zeros(2, 4))


def test_images_of_different_shapes_stay_a_list():
    batch = collate([{"image": torch.zeros(3, 8, 8)}, {"image": torch.zeros(3, 8, 9)}])
    assert [tuple(image.shape) for image in batch.images] == [(3, 8, 8), (3, 8, 9)]


def test_other_values_are_tensors_or_lists():
    samples = [
        {
            "image": IMAGE,
            "gain": number / 2,
            "count": np.int64(number),
            "flag": bool(number),
            "array": np.full((2, 3), number, np.float32),
            "ragged": torch.arange(number + 1),
            "clip": ("walk", number),
            "name": "a" * number,
            "pair": [number, number],
            "nothing": None,
        }
        for number in range(3)
    ]
    more = collate(samples).more
    assert (more["gain"].dtype, more["gain"].tolist()) == (torch.float64, [0, 0.5, 1])
    assert (more["count"].dtype, more["count"].tolist()) == (torch.int64, [0, 1, 2])
    assert (more["flag"].dtype, more["flag"].tolist()) == (torch.bool, [False, True, True])
    assert torch.equal(more["array"], torch.arange(3.0).view(3, 1, 1).expand(3, 2, 3))
    assert [value.tolist() for value in more["ragged"]] == [[0], [0, 1], [0, 1, 2]]
    for key in ("clip", "name", "pair", "nothing"):
        assert more[key] == [sample[key] for sample in samples]


@pytest.mark.parametrize(
    "labels", [[3, 5], [0.5, 1.5], [True, False], [torch.tensor(2), torch.tensor(4)], [np.int32(1), np.int32(2)]]
)
def test_a_label_may_stand_for_a_target(labels):
    patch = Patch("a", np.s_[0:8, 0:8])
    for samples in ([(IMAGE, label) for label in labels], [Sample(IMAGE, label, patch) for label in labels]):
        batch = collate(samples)
        assert batch.more["label"].tolist() == [float(label) for label in labels]
        assert batch.targets == [{}, {}]
    assert batch.patches == [patch, patch]


def test_patches_are_there_if_all_samples_have_one():
    patch = Patch("a", np.s_[0:8, 0:8])
    assert collate([Sample(IMAGE, {}, patch), (IMAGE, {})]).patches == []


# -- samples that do not fit together ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "there are no samples"),
        (
            [(IMAGE, {}), (IMAGE, {"boxes": torch.ones(1, 4)})],
            "sample 1 has the key 'boxes' in its target, .* sample 0 has",
        ),
        ([(IMAGE, {"y": 1}), (IMAGE, {"y": 1}), (IMAGE, {})], "sample 0 has the key 'y' .* sample 2 has not"),
        ([{"image": IMAGE}, {"image": IMAGE, "y": 1}], "sample 1 has the key 'y', which sample 0 has not"),
        ([{"image": IMAGE, "y": 1}, {"image": IMAGE}], "sample 0 has the key 'y', which sample 1 has not"),
        ([{"image": IMAGE}, {"frames": IMAGE}], "sample 1 has the key 'frames', which sample 0 has not"),
        (
            [(IMAGE, {"y": torch.zeros(2, dtype=torch.int64)}), (IMAGE, {"y": torch.zeros(0)})],
            "'y' of the target is float32 in sample 1, but int64 in sample 0",
        ),
        ([{"image": IMAGE, "y": 1}, {"image": IMAGE, "y": 1.5}], "'y' is float64 in sample 1, but int64 in sample 0"),
        ([{"image": IMAGE, "y": "a"}, {"image": IMAGE, "y": None}], "'y' is NoneType in sample 1, but str in sample 0"),
        ([{"image": IMAGE, "y": 1}, {"image": IMAGE, "y": "a"}], "'y' is str in sample 1, but int64"),
        ([(IMAGE, 1), (IMAGE, 2.5)], "'label' is float64 in sample 1, but int64 in sample 0"),
        ([(IMAGE, {}), {"image": IMAGE}], r"sample 1 is a dict, but sample 0 a pair \(image, target\)"),
        ([(IMAGE, {}), (IMAGE, 3)], r"sample 1 is a pair \(image, label\), but sample 0 a pair \(image, target\)"),
    ],
)
def test_samples_that_differ_are_an_error(samples, message):
    with pytest.raises(nf.PatchError, match=message):
        collate(samples)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (IMAGE, "sample 1 is a Tensor; return a dict with the key 'image', or a pair"),
        (None, "sample 1 is None; return a dict"),
        ({"picture": IMAGE}, r"sample 1 is a dict with the keys \['picture'\]; return"),
        ((IMAGE, None), "sample 1 is a pair whose second part is None; return"),
        ((IMAGE, "cat"), "sample 1 is a pair whose second part is a str; return .* number or a tensor"),
        ((IMAGE, {}, 3), "sample 1 is a tuple; return"),
        ((IMAGE.permute(1, 2, 0).numpy(), {}), "image of sample 1 is a numpy.ndarray; use torch.from_numpy"),
        (({}, {}), "image of sample 1 is a builtins.dict; give a torch.Tensor"),
    ],
)
def test_a_sample_of_another_form_is_an_error(sample, message):
    with pytest.raises(TypeError, match=message):
        collate([(IMAGE, {}), sample])


def test_a_text_in_a_target_is_an_error():
    with pytest.raises(TypeError, match="'name' of the target of sample 1 is a str; targets have tensors and numbers"):
        collate([(IMAGE, {"name": 1}), (IMAGE, {"name": "cat"})])
