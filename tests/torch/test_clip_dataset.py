"""Clips have the frames that decoding shows, and say which of them the video has."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import ndframes as nf
from ndframes.torch import ClipDataset, PatchLoader, Sampler, collate

COUNT = 12


@pytest.fixture(scope="module")
def pixels(walk):
    return walk.load_image("walk")


@pytest.mark.parametrize(("at", "first"), [("start", 0), ("middle", -4), ("end", -6)])
@pytest.mark.parametrize("frame", [0, 5, 11])
def test_frames_around_an_anchor(walk, pixels, at, first, frame):
    clip = ClipDataset(walk, [("walk", frame)], num_frames=4, every=2, at=at)[0]
    numbers = frame + first + 2 * np.arange(4)
    nearest = numbers.clip(0, COUNT - 1)
    np.testing.assert_array_equal(clip["frames"].permute(0, 2, 3, 1).numpy(), pixels[nearest])
    assert clip["mask"].tolist() == [0 <= number < COUNT for number in numbers]
    np.testing.assert_allclose(clip["pts"], nearest / 5)
    assert clip["clip"] == ("walk", frame)


def test_frames_that_the_video_does_not_have_are_zero_with_mask(walk, pixels):
    clip = ClipDataset(walk, [("walk", 10)], num_frames=4, policy="mask")[0]
    np.testing.assert_array_equal(clip["frames"][:2].permute(0, 2, 3, 1).numpy(), pixels[10:])
    assert not clip["frames"][2:].any()
    assert clip["mask"].tolist() == [True, True, False, False]
    assert clip["pts"][2:].isnan().all()


def test_a_clip_beyond_the_end_is_an_error_on_request(walk):
    ClipDataset(walk, [("walk", 8)], num_frames=4, policy="error")
    with pytest.raises(nf.PatchError, match=r"'walk'.* frame 9 needs the frames 9 to 12 of 12"):
        ClipDataset(walk, [("walk", 9)], num_frames=4, policy="error")


def test_frames_at_times(walk, pixels):
    clips = ClipDataset(walk, [("walk", 5)], times=[-0.4, 0, 0.2, 0.3, 9], policy="mask")
    np.testing.assert_array_equal(clips[0]["frames"][:4].permute(0, 2, 3, 1).numpy(), pixels[[3, 5, 6, 6]])
    assert clips[0]["mask"].tolist() == [True, True, True, True, False]


def test_a_part_of_the_frames(walk, pixels):
    clip = ClipDataset(walk, [("walk", 2, np.s_[10:20, 30:50])], num_frames=3)[0]
    np.testing.assert_array_equal(clip["frames"].permute(0, 2, 3, 1).numpy(), pixels[2:5, 10:20, 30:50])


@pytest.mark.parametrize(
    "region",
    [np.s_[-6:20, 100:140], np.s_[90:130, -3:5], np.s_[200:210, 0:9], np.s_[-4:, :20], np.s_[:, 5:9]],
    ids=["above", "below", "outside", "open below", "open"],
)
@pytest.mark.parametrize("policy", ["repeat", "mask"])
def test_a_region_beyond_the_frames_is_padded_like_a_patch(walk, pixels, region, policy):
    clip = ClipDataset(walk, [("walk", 10, region)], num_frames=3, policy=policy)[0]
    ends = [
        (axis.start or 0, extent if axis.stop is None else axis.stop)
        for axis, extent in zip(region, pixels.shape[1:3], strict=True)
    ]
    padded = np.pad(pixels[[10, 11, 11]], [(0, 0), (200, 200), (200, 200), (0, 0)])
    (top, bottom), (left, right) = ends
    wanted = padded[:, top + 200 : bottom + 200, left + 200 : right + 200]
    if policy == "mask":
        wanted[2] = 0
    np.testing.assert_array_equal(clip["frames"].permute(0, 2, 3, 1).numpy(), wanted)


def test_regions_of_sequences_are_padded_too(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((6, 7, 1), number + 1, np.uint8))
    frames = nf.SimpleFrames({"walk": nf.Clip(tmp_path)}, backend=None)
    clip = ClipDataset(frames, [("walk", 1, np.s_[4:8, -1:2])], num_frames=2)[0]
    for image, value in zip(clip["frames"][:, 0], (2, 3), strict=True):
        assert image.tolist() == [[0, value, value], [0, value, value], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("region", [np.s_[5, 0:4], np.s_[0:4], np.s_[0:8:2, 0:4], np.s_[0:-4, 0:4], np.s_[0:4, 0:4, 0]])
def test_a_region_that_is_none_of_a_patch_is_an_error(walk, region):
    with pytest.raises((nf.RegionError, nf.PatchError), match="a (patch|clip)"):
        ClipDataset(walk, [("walk", 1, region if isinstance(region, tuple) else (region,))], num_frames=2)


def test_sequences_have_clips_too(tmp_path):
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.full((6, 7, 1), number, np.uint8))
    frames = nf.SimpleFrames({"walk": nf.Clip(tmp_path)}, backend=None)
    clip = ClipDataset(frames, [("walk", 3)], num_frames=3)[0]
    assert clip["frames"][:, 0, 0, 0].tolist() == [3, 4, 4]
    assert clip["pts"].tolist() == [3, 4, 4]


def test_clips_go_through_the_stock_loader(walk):
    def brighten(sample, rng):
        sample["gain"] = rng.random()
        return sample

    dataset = ClipDataset(walk, [("walk", n) for n in range(COUNT)], num_frames=2, transform=brighten)
    batches = list(DataLoader(dataset, 5, collate_fn=collate))
    assert torch.equal(
        torch.cat([batch.images for batch in batches]), torch.stack([clip["frames"] for clip in dataset])
    )
    assert [batch.more["clip"] for batch in batches[:2]] == [
        [("walk", number) for number in range(5)],
        [("walk", number) for number in range(5, 10)],
    ]
    images, targets = batches[0]
    assert targets == [{}] * len(images)
    assert torch.equal(batches[0].more["pts"], torch.stack([dataset[number]["pts"] for number in range(5)]))
    assert torch.equal(batches[0].more["mask"], torch.ones(5, 2, dtype=torch.bool))
    assert dataset[3]["gain"] == dataset[3]["gain"] != dataset[3 + COUNT]["gain"]


@pytest.mark.parametrize(
    ("clips", "options", "message"),
    [
        ([], {"num_frames": 2}, "there are no clips"),
        ([("walk", 12)], {"num_frames": 2}, "frame 12 of a clip is out of range"),
        ([("walk",)], {"num_frames": 2}, "a clip must be"),
        ([("walk", 1.5)], {"num_frames": 2}, "a clip must be"),
        ([("walk", 1)], {}, "either num_frames or times"),
        ([("walk", 1)], {"num_frames": 2, "times": [0]}, "either num_frames or times"),
        ([("walk", 1)], {"num_frames": 0}, "num_frames=0"),
        ([("walk", 1)], {"num_frames": 2, "every": 0}, "every=0"),
        ([("walk", 1)], {"times": []}, r"times=\[\]; give at least one finite number of seconds"),
        ([("walk", 1)], {"times": [0, np.nan]}, "times=.*; give at least one finite number of seconds"),
        ([("walk", 1)], {"times": [0, "soon"]}, "times=.*; give at least one finite number of seconds"),
        ([("walk", 1)], {"times": 0.5}, "times=0.5; give at least one finite number of seconds"),
    ],
)
def test_bad_arguments_are_errors_at_construction(walk, clips, options, message):
    with pytest.raises(nf.PatchError, match=message):
        ClipDataset(walk, clips, **options)


def test_a_seed_and_frames_are_checked_at_construction(walk):
    with pytest.raises(ValueError, match="seed=-1; give an integer from 0"):
        ClipDataset(walk, [("walk", 1)], num_frames=2, seed=-1)
    with pytest.raises(TypeError, match="frames=<Lazy.*; give Frames"):
        ClipDataset(walk["walk"], [("walk", 1)], num_frames=2)


def test_images_have_no_clips(photographs):
    with pytest.raises(nf.PatchError, match=r"'coffee'.* no time axis"):
        ClipDataset(photographs, [("coffee", 0)], num_frames=2)
    with pytest.raises(ValueError, match="policy="):
        ClipDataset(photographs, [("coffee", 0)], num_frames=2, policy="wrap")


def test_an_error_names_the_clip(walk):
    def fail(sample, rng):
        raise LookupError("odd clip")

    dataset = ClipDataset(walk, [("walk", 1), ("walk", 2)], num_frames=2, transform=fail)
    with pytest.raises(LookupError, match="odd clip") as caught:
        dataset[7]
    assert re.match(r"while transforming item 1 of epoch 3, \('walk', 2, None\), in process", caught.value.__notes__[0])
    with PatchLoader(dataset, 2, workers=0) as loader, pytest.raises(LookupError) as caught:
        list(loader)
    assert len(caught.value.__notes__) == 1
    with pytest.raises(IndexError, match="index -1"):
        dataset[-1]


@pytest.mark.parametrize(
    "change", [{"clips": [("walk", 2), ("walk", 2)]}, {"every": 2}, {"seed": 1}, {"at": "end"}, {"policy": "mask"}]
)
def test_a_state_of_other_clips_is_an_error(walk, change):
    def make(clips=(("walk", 1), ("walk", 2)), **options):
        return Sampler(ClipDataset(walk, clips, num_frames=3, **options))

    state = make().state_dict(delivered=1)
    make().load_state_dict(state)
    with pytest.raises(nf.PatchError, match="another dataset of as many items"):
        make(**change).load_state_dict(state)


def test_clips_have_epochs_in_a_patch_loader(walk):
    dataset = ClipDataset(
        walk, [("walk", n) for n in range(5)], num_frames=2, transform=lambda clip, rng: {**clip, "gain": rng.random()}
    )
    with PatchLoader(dataset, 3, workers=1, worker="thread", shuffle=True) as loader:
        for epoch in range(3):
            found = [
                (clip, gain) for b in loader for clip, gain in zip(b.more["clip"], b.more["gain"].tolist(), strict=True)
            ]
            assert sorted(found) == [(("walk", n), dataset[5 * epoch + n]["gain"]) for n in range(5)]
