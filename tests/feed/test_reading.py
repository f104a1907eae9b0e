"""``load_patches``: each patch of a batch equals a read of its own."""

from __future__ import annotations

import numpy as np
import pytest
from kit.ahead import make_arrays, make_frames

import ndframes as nf
from ndframes.errors import RegionError
from ndframes.feed import GridPatches, Patch, RandomPatches, prefetch
from ndframes.feed.reading import load_frames, load_patches

ARRAYS = make_arrays()
SHAPE = (90, 110)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return make_frames(tmp_path_factory.mktemp("images"))


def inside(image_id, y, x, **options) -> Patch:
    return Patch(image_id, np.s_[y : y + 24, x : x + 20], image_shape=SHAPE, **options)


def assert_like_single_reads(frames, patches, batch, channels=None, **options):
    assert len(batch) == len(patches)
    for patch, crop in zip(patches, batch, strict=True):
        assert np.array_equal(crop, frames.load_region(*patch.request, channels, **{**options, **patch.read_options}))


def test_patches_inside_come_from_one_batch(frames, monkeypatch):
    calls = []
    real = type(frames).load_regions
    monkeypatch.setattr(type(frames), "load_regions", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))
    patches = [inside(2, 3, 5), inside(0, 0, 0), inside(2, 3, 5), inside(1, 66, 90)]
    batch = load_patches(frames, patches)
    assert (batch.shape, batch.dtype, len(calls)) == ((4, 24, 20, 3), np.uint8, 1)
    for patch, crop in zip(patches, batch, strict=True):
        assert np.array_equal(crop, ARRAYS[patch.image_id][patch.region])


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_all_kinds_together(frames, workers):
    patches = [
        inside(0, 1, 2),
        Patch(1, np.s_[-5:19, 100:120], image_shape=SHAPE),
        Patch(2, np.s_[10:58, 10:50], scale=0.5, image_shape=SHAPE),
        Patch(3, np.s_[80:128, -20:20], scale=0.5, image_shape=SHAPE),
        Patch(0, np.s_[5:29, 5:25]),
        Patch(0, np.s_[5:17, 5:15], image_shape=SHAPE, scale=2),
    ]
    batch = load_patches(frames, patches, fill=9, workers=workers)
    assert batch.shape == (6, 24, 20, 3)
    assert_like_single_reads(frames, patches, batch, fill=9)
    out = np.empty_like(batch)
    assert load_patches(frames, patches, fill=9, out=out) is out
    assert np.array_equal(out, batch)
    targets = [np.empty_like(item) for item in batch]
    assert load_patches(frames, patches, fill=9, out=targets) is targets
    assert all(np.array_equal(target, item) for target, item in zip(targets, batch, strict=True))


def test_several_shapes_are_a_list(frames):
    patches = [inside(0, 1, 2), Patch(1, np.s_[-5:5, 0:7], image_shape=SHAPE), inside(3, 2, 2, result_shape=(12, 10))]
    batch = load_patches(frames, patches)
    assert isinstance(batch, list)
    assert [item.shape for item in batch] == [(24, 20, 3), (10, 7, 3), (24, 20, 3)]
    assert_like_single_reads(frames, patches, batch)


def test_options_for_all_patches(frames):
    code = frames.load_frame(0).channels[1]
    patches = [inside(0, 1, 2), Patch(1, np.s_[-5:19, 100:120], image_shape=SHAPE)]
    batch = load_patches(frames, patches, [code], pad="reflect")
    assert batch.shape == (2, 24, 20, 1)
    assert np.array_equal(batch[1], frames.load_region(*patches[1].request, [code], pad="reflect"))
    scaled = [*patches, Patch(2, np.s_[0:96, 0:80], scale=0.25, image_shape=SHAPE)]
    batch = load_patches(frames, scaled, scale=0.5, interpolation="nearest")
    assert [item.shape for item in batch] == [(12, 10, 3), (12, 10, 3), (24, 20, 3)]
    masked = load_patches(frames, patches, nodata="mask")
    assert isinstance(masked, np.ma.MaskedArray)
    assert masked.mask[1, :5].all()
    assert not masked.mask[0].any()


def test_whole_sequences_of_patches(frames):
    for patches in (
        GridPatches(frames, (64, 64), edge="pad"),
        GridPatches(frames, (64, 64), edge="keep"),
        RandomPatches(frames, (40, 40), 20, scales=(0.5, 1)),
    ):
        assert_like_single_reads(frames, patches[:], load_patches(frames, patches[:]))


def test_none_and_too_few_places(frames):
    assert load_patches(frames, []) == []
    with pytest.raises(RegionError, match="out holds 1 results"):
        load_patches(frames, [inside(0, 1, 2)] * 2, out=np.empty((1, 24, 20, 3), np.uint8))


# -- frames of a sequence ------------------------------------------------------------------------------------------


def make_walk(folder, shapes):
    arrays = [np.random.default_rng(n).integers(0, 255, (*shape, 3), np.uint8) for n, shape in enumerate(shapes)]
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)
    return nf.SimpleFrames({"walk": nf.Clip(folder)}, backend=None), arrays


def count_reads(frames, monkeypatch):
    """The number of requests of each call of ``load_regions``."""
    counts = []
    real = type(frames).load_regions

    def load_regions(self, requests, *args, **kwargs):
        counts.append(len(requests))
        return real(self, requests, *args, **kwargs)

    monkeypatch.setattr(type(frames), "load_regions", load_regions)
    return counts


def test_a_frame_of_a_sequence_that_comes_twice_is_read_once(tmp_path, monkeypatch):
    frames, arrays = make_walk(tmp_path, [(20, 30)] * 5)
    counts = count_reads(frames, monkeypatch)
    numbers = [3, 1, -2, 1, 3, 3, 0]
    batch = load_frames(frames, "walk", numbers, plane=np.s_[2:12, 5:25])
    assert np.array_equal(batch, np.stack([arrays[n] for n in numbers])[:, 2:12, 5:25])
    assert counts == [3]
    assert batch.flags.owndata
    batch[0] = 0
    assert np.array_equal(batch[4], arrays[3][2:12, 5:25])
    masked = load_frames(frames, "walk", [1, 1], nodata="mask")
    assert isinstance(masked, np.ma.MaskedArray)
    assert np.array_equal(masked, np.stack([arrays[1]] * 2))


def test_frames_of_several_dtypes_do_not_share_memory(tmp_path):
    frames, arrays = make_walk(tmp_path, [(20, 30)] * 2)
    np.save(tmp_path / "1.npy", arrays[1].astype(np.uint16))
    batch = load_frames(frames, "walk", [1, 0, 1])
    assert [item.dtype for item in batch] == [np.uint16, np.uint8, np.uint16]
    batch[0][:] = 0
    assert np.array_equal(batch[2], arrays[1])


def test_prefetch_reads_each_frame_of_a_chunk_once(tmp_path, monkeypatch):
    frames, arrays = make_walk(tmp_path, [(20, 30)] * 5)
    counts = count_reads(frames, monkeypatch)
    numbers = [4, 4, 0, 4, 2, 2, 2]
    with prefetch(frames, numbers, chunk_size=4, worker="thread") as chunks:
        batches = [(requests, array.copy()) for requests, array in chunks]
    assert [requests for requests, _ in batches] == [[4, 4, 0, 4], [2, 2, 2]]
    assert np.array_equal(np.concatenate([array for _, array in batches]), np.stack([arrays[n] for n in numbers]))
    assert counts == [2, 1]
