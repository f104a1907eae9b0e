"""``load_regions`` gives what single reads give, to the bit, and decodes each tile once."""

from __future__ import annotations

import multiprocessing
import os
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.batches import FORMS, IMAGES, assert_same, count_wrong, random_arrays, random_windows
from kit.synthetic import picture
from kit.tilework import cog, frames_over, tiles_under, watch_decodes

import ndframes as nf
from ndframes.system.threads import resolve_thread_count

CHANNELS = {
    None: tuple(IMAGES),
    "<all>": tuple(IMAGES),
    "g": ("colour", "twin", "alpha", "dot"),
    "b|r": ("colour", "twin", "alpha", "dot"),
    "a|r|g": ("alpha",),
    "band.5|band.0|band.5": ("many",),
}

# -- equal to single reads --------------------------------------------------------------------------------------------


@cache
def regions_of(shape):
    """Numpy's basic indices, and slices that reach far outside or have negative steps."""
    bound = st.none() | st.integers(-2 * max(shape), 2 * max(shape))
    wild = st.tuples(*(st.builds(slice, bound, bound, st.none() | st.integers(-9, 9).filter(bool)) for _ in shape))
    windows = st.tuples(*(st.builds(slice, bound, bound) for _ in shape[:2]))
    return hnp.basic_indices(shape, allow_newaxis=False) | wild | windows


@st.composite
def batches(draw):
    channels = draw(st.sampled_from(list(CHANNELS)))
    requests = []
    for image_id in draw(st.lists(st.sampled_from(CHANNELS[channels]), max_size=8)):
        bands = IMAGES[image_id].shape[2] if channels in (None, "<all>") else channels.count("|") + 1
        requests.append((image_id, draw(regions_of((*IMAGES[image_id].shape[:2], bands)))))
    repeats = draw(st.lists(st.sampled_from(requests), max_size=3)) if requests else []
    return channels, requests + repeats


@settings(max_examples=25, deadline=None)
@given(batches(), st.sampled_from([1, 4]), st.booleans())
def test_a_batch_equals_single_reads(scene, batch, workers, read_ahead):
    frames, single = scene
    channels, requests = batch
    results = frames.load_regions(requests, channels, workers=workers, read_ahead=read_ahead)
    wanted = [single.load_region(image_id, region, channels) for image_id, region in requests]
    if not requests:
        assert results == []
        return
    assert_same(results, wanted)
    for item, (image_id, region) in zip(wanted, requests, strict=True):  # and those equal numpy
        is_lossless = "JPEG" not in str(single.backend) or IMAGES[image_id].dtype != "uint8"
        if is_lossless and channels in (None, "<all>"):
            np.testing.assert_array_equal(item, IMAGES[image_id][region])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-200, 200), st.integers(0, 60)] * 2), max_size=5),
    st.sampled_from(["constant", "edge", "reflect"]),
    st.sampled_from([1, 3]),
)
def test_a_padded_batch_equals_single_reads(scene, corners, pad, workers):
    frames, single = scene
    requests = [
        (image_id, np.s_[y : y + height, x : x + width])
        for image_id, (y, height, x, width) in zip(("twin", "colour", "dot", "colour", "twin"), corners, strict=False)
    ]
    results = frames.load_regions(requests, pad=pad, fill=7, workers=workers)
    if not requests:
        assert results == []
        return
    assert_same(results, [single.load_region(*request, pad=pad, fill=7) for request in requests])


def test_requests_can_be_any_iterable(scene):
    frames, single = scene
    listed = [["colour", np.s_[:40, :40]], ("twin", np.s_[10:50, 20:60])]
    wanted = [single.load_region(*request) for request in listed]
    for requests in (listed, tuple(listed), iter(listed), (request for request in listed)):
        assert_same(frames.load_regions(requests), wanted)


@pytest.mark.parametrize("options", [{}, {"pad": "edge"}, {"read_ahead": True}, {"workers": 4}, {"out": []}])
@pytest.mark.parametrize("requests", [[], (), iter(())])
def test_an_empty_batch(scene, options, requests):
    assert scene[0].load_regions(requests, **options) == []


def test_regions_of_integers_give_scalars(scene):
    """Results are written into an array, of which each item would be a copy of a scalar."""
    frames, single = scene
    for image_id in ("colour", "deep", "many"):
        requests = [(image_id, (y, x, 0)) for y, x in ((0, 0), (3, 4), (-1, -1), (19, 60))]
        results = frames.load_regions(requests)
        assert results.shape == (4,)
        assert_same(results, [single.load_region(*request) for request in requests])
        out = np.zeros(8, results.dtype)
        frames.load_regions(requests, out=out[::2])
        np.testing.assert_array_equal(out[::2], results)


class TwoFiles(nf.Frames):
    """One image of two files with different dtypes."""

    def __init__(self, folder, **options):
        self.arrays = picture((75, 90, 3)), picture((75, 90, 2), "int16")
        self.folder = folder
        for number, array in enumerate(self.arrays):
            np.save(folder / f"{number}.npy", array)
        super().__init__(workdir=folder / "work", **options)

    @property
    def image_ids(self):
        return ["both"]

    def build_pathinfo(self, image_id):
        infos = (
            nf.ChannelInfo(self.folder / f"{number}.npy", channels=codes) for number, codes in enumerate(["rgb", "n|m"])
        )
        return nf.PathInfo(image_id, tuple(infos))


@pytest.mark.parametrize("backend", FORMS.values(), ids=FORMS)
def test_channels_of_several_files(tmp_path, backend):
    """Interleaved channels of two files, promoted to one dtype."""
    frames = TwoFiles(tmp_path, backend=backend)
    regions = [np.s_[10:50, 20:80], np.s_[::-3, 5:70], np.s_[40, :, 1:3], np.s_[5:5], np.s_[10:50, 20:80]]
    for channels in (None, "m|r|n", "g", "n|m", "b|m|r|g|n"):
        wanted = [frames.load_region("both", region, channels) for region in regions]
        assert_same(frames.load_regions([("both", region) for region in regions], channels, workers=3), wanted)
    if backend != FORMS["jpeg"]:
        both = np.concatenate([array.astype(np.int16) for array in frames.arrays], axis=2)
        crops = frames.load_regions([("both", np.s_[3:60, 7:70])] * 2, "m|r|n")
        np.testing.assert_array_equal(crops[1], both[3:60, 7:70][:, :, [4, 0, 3]])


# -- number of threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2, 8, 100, None, np.int64(2)])
def test_any_number_of_workers_gives_the_same(scene, workers):
    frames, single = scene
    requests = random_windows(np.random.default_rng(3), ["colour", "twin"], 30)
    assert_same(frames.load_regions(requests, workers=workers), [single.load_region(*request) for request in requests])


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2", [2]])
@pytest.mark.parametrize("requests", [[], [("colour", np.s_[:40, :40])]])
def test_an_invalid_number_of_workers(scene, requests, workers):
    with pytest.raises(ValueError, match="workers="):
        scene[0].load_regions(requests, workers=workers)


def test_a_worker_process_uses_one_thread(tmp_path):
    """Workers of a data loader already share the cores."""
    assert resolve_thread_count(None) == len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(resolve_thread_count, (None,)) == 1


# -- each tile once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("compress", ["ZSTD", "JPEG", "LZW"])
def test_a_tile_that_many_crops_share_is_decoded_once(tmp_path, at_rest, compress, workers, read_ahead):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, cog(compress), tile_bytes=0)
    frames.prepare()
    requests = [
        *random_windows(np.random.default_rng(workers), list(arrays), 60),
        (1, np.s_[:, :]),
        (1, np.s_[:, 40:, 1]),
    ]
    wanted = [frames.load_region(*request) for request in requests]
    seen = watch_decodes(frames, *arrays)
    for batch in (requests, requests[:7], requests[::-1]):
        touched = {
            (image_id, *tile)
            for image_id, region in batch
            for tile in tiles_under(
                *(range(extent)[part] for extent, part in zip((100, 90), region[:2], strict=True)), 32
            )
        }
        seen.clear()
        results = frames.load_regions(batch, workers=workers, read_ahead=read_ahead)
        assert len(seen) == len(set(seen)) == len(touched)
        for got, request in zip(results, batch, strict=True):
            np.testing.assert_array_equal(got, wanted[requests.index(request)])


def test_tiles_of_the_previous_batch_are_not_decoded_again(tmp_path, at_rest):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"))
    frames.prepare()
    requests = random_windows(np.random.default_rng(0), list(arrays), 40)
    assert count_wrong(frames.load_regions(requests), requests, arrays) == 0
    seen = watch_decodes(frames, *arrays)
    assert count_wrong(frames.load_regions(requests[::-1], read_ahead=True), requests[::-1], arrays) == 0
    assert seen == []
