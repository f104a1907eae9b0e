"""Frames over an object store with a local tier: what is in it is read without the store, by all processes of a machine."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from kit.tiers import data_files, is_whole, photograph, tier_frames, wait_whole
from kit.waiting import wait_until
from kit.writing import pan

import ndframes as nf

SHAPE = (400, 520)
TINY = {"type": "cog", "config": {"compress": "NONE", "blocksize": 16}}


@pytest.fixture
def tier(tmp_path):
    return tmp_path / "tier"


def crops_of(seed, count=20):
    rng = np.random.default_rng(seed)
    return [np.s_[top : top + 100, left : left + 100] for top, left in rng.integers(0, 300, (count, 2)).tolist()]


def read_elsewhere(frames, seed):
    """In another process: the sums of some crops."""
    return [int(frames.load_region("a", crop).sum()) for crop in crops_of(seed)]


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_share_a_tier(bucket, tmp_path, tier, method):
    array = photograph(*SHAPE)
    np.save(tmp_path / "a.npy", array)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=bucket, local_tier=tier, tier_bytes="1GB")
    frames.prepare()
    np.testing.assert_array_equal(frames.load_region("a", np.s_[:200]), array[:200])
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        for seed, sums in enumerate(pool.map(read_elsewhere, [frames] * 4, range(4))):
            assert sums == [int(array[crop].sum()) for crop in crops_of(seed)]
    fresh, requests = tier_frames({"a": tmp_path / "a.npy"}, bucket, tier)
    for seed in range(4):
        assert read_elsewhere(fresh, seed) == [int(array[crop].sum()) for crop in crops_of(seed)]
    assert requests.count == 0


def test_long_tables_are_kept(bucket, tmp_path, tier, at_rest):
    """The table of an image with many tiles is not in its commit; its tiles are too short to be remembered as checked."""
    array = photograph(1100, 1100)
    np.save(tmp_path / "a.npy", array)
    sources, options = {"a": tmp_path / "a.npy"}, {"backend": TINY}
    nf.SimpleFrames(sources, workdir=bucket, **options).prepare()
    frames, requests = tier_frames(sources, bucket, tier, **options)
    (region, more) = np.s_[500:700, 10:1000], np.s_[0:300, 0:300]
    np.testing.assert_array_equal(frames.load_region("a", region), array[region])
    fresh, requests = tier_frames(sources, bucket, tier, **options)
    np.testing.assert_array_equal(fresh.load_region("a", region), array[region])
    assert requests.count == 0
    np.testing.assert_array_equal(fresh.load_region("a", more), array[more])
    for scale in (1, 0.5, 0.25, 0.125, 0.0625):
        fresh.load_region("a", np.s_[:], scale=scale)
    wait_whole(tier)
    fresh, requests = tier_frames(sources, bucket, tier, **options)
    np.testing.assert_array_equal(fresh.load_image("a"), array)
    assert requests.count == 0


@pytest.mark.parametrize("backend", ["intra", "npy"])
def test_videos(bucket, tmp_path, tier, backend, at_rest):
    path = tmp_path / "a.mkv"
    nf.write_video(path, pan(12, (64, 96)), fps=5, codec="ffv1")
    plain = nf.SimpleFrames({"a": path}, workdir=tmp_path / "work", backend=backend)
    wanted = plain.load_region("a", np.s_[:])
    nf.SimpleFrames({"a": path}, workdir=bucket, backend=backend).prepare()
    frames, _ = tier_frames({"a": path}, bucket, tier, backend=backend)
    for region in (np.s_[3:9, 10:40, 5:60], np.s_[::-4]):
        np.testing.assert_array_equal(frames.load_region("a", region), wanted[region])
    fresh, _ = tier_frames({"a": path}, bucket, tier, backend=backend)
    for region in (np.s_[3:9, 10:40, 5:60], np.s_[::-4], np.s_[:]):
        np.testing.assert_array_equal(fresh.load_region("a", region), wanted[region])

    def count_requests():
        again, requests = tier_frames({"a": path}, bucket, tier, backend=backend)
        np.testing.assert_array_equal(again.load_region("a", np.s_[:]), wanted)
        return requests.count

    # A thread fetches what was not read.
    wait_until(lambda: count_requests() == 0)


def test_small_images_become_whole(bucket, tmp_path, tier, at_rest):
    arrays = {str(number): photograph(90 + number, 120, seed=number) for number in range(6)}
    sources = {}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        sources[name] = tmp_path / f"{name}.npy"
    nf.SimpleFrames(sources, workdir=bucket).prepare()
    frames, _ = tier_frames(sources, bucket, tier)
    for name, array in arrays.items():
        np.testing.assert_array_equal(frames.load_image(name), array)
    wait_whole(tier, len(arrays))
    fresh, requests = tier_frames(sources, bucket, tier)
    for got, array in zip(
        fresh.load_regions([(name, np.s_[5:80, ::2]) for name in arrays]), arrays.values(), strict=True
    ):
        np.testing.assert_array_equal(got, array[5:80, ::2])
    assert requests.count == 0
    assert all(map(is_whole, data_files(tier)))
