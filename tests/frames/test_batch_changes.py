"""Entries that are damaged or removed, and sources that change, between batches and during one."""

from __future__ import annotations

import os

import numpy as np
import pytest
from kit.batches import FORMS, count_wrong, random_arrays, random_windows
from kit.synthetic import picture
from kit.tilework import entry_path, flip_bit_of_tile, frames_over

import ndframes as nf
from ndframes.system.threads import run_tasks


def count_quarantined(frames) -> int:
    folder = frames.cache.root / "quarantine"
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("form", ["zstd", "raw", "npy"])
def test_a_damaged_entry_is_replaced_during_a_batch(tmp_path, at_rest, form, workers):
    arrays = random_arrays(4)
    frames = frames_over(tmp_path, arrays, FORMS[form])
    frames.prepare()
    for image_id in arrays:  # opened, but nothing is read yet
        frames.image(image_id).opened(0)
    for number in (1,) if form == "npy" else (1, 5):
        flip_bit_of_tile(entry_path(frames, 2), number)
    requests = [*random_windows(np.random.default_rng(0), list(arrays), 80), (2, np.s_[:])]
    for _ in range(2):
        assert count_wrong(frames.load_regions(requests, workers=workers), requests, arrays) == 0
        assert count_quarantined(frames) == 1
    assert len(list(frames.cache.ls())) == 4


@pytest.mark.parametrize("options", [{}, {"read_ahead": True}, {"pad": "edge"}])
@pytest.mark.parametrize("form", ["zstd", "raw", "npy"])
def test_entries_removed_between_batches_are_made_again(tmp_path, at_rest, form, options):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form], tile_bytes=0)
    requests = random_windows(np.random.default_rng(0), list(arrays), 30)
    for image_ids in ([], [1], [0, 1, 2]):
        for image_id in image_ids:
            entry_path(frames, image_id).unlink()
        frames._opener.pool.close()  # as after reading many other files
        assert count_wrong(frames.load_regions(requests, **options), requests, arrays) == 0
        assert len(list(frames.cache.ls())) == 3


@pytest.mark.parametrize("form", ["zstd", "raw", "npy"])
def test_an_entry_removed_during_a_batch(tmp_path, at_rest, form, monkeypatch):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form], tile_bytes=0)
    requests = random_windows(np.random.default_rng(0), list(arrays), 30)
    frames.load_regions(requests)
    run = run_tasks

    def remove_first(tasks, *, threads):
        entry_path(frames, 1).unlink()
        frames._opener.pool.close()
        run(tasks, threads=threads)

    monkeypatch.setattr("ndframes.frames.batch.run_tasks", remove_first)
    assert count_wrong(frames.load_regions(requests), requests, arrays) == 0
    assert len(list(frames.cache.ls())) == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_source_changed_between_batches_is_read_again(tmp_path, form):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form])
    requests = [(number, np.s_[10:60, 20:80]) for number in (0, 1, 2, 1)]
    before = frames.load_regions(requests)
    np.save(tmp_path / "1.npy", 255 - arrays[1])
    after = frames.load_regions(requests)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    if form != "jpeg":
        np.testing.assert_array_equal(after[1], 255 - arrays[1][10:60, 20:80])
    np.testing.assert_array_equal(after[1], frames.load_region(*requests[1]))
    np.testing.assert_array_equal(after[1], after[3])
    assert not np.array_equal(after[1], before[1])


@pytest.mark.parametrize("other", [random_arrays(1, (100, 90, 1))[0], picture((100, 90, 3), "uint16")])
def test_a_source_replaced_during_a_batch(tmp_path, at_rest, monkeypatch, other):
    """By one with another shape or dtype, which must not be written into the planned result."""
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, None)
    requests = [(number, np.s_[10:60, 20:80]) for number in (0, 1, 2, 1)]
    frames.load_regions(requests)
    run = run_tasks

    def replace_first(tasks, *, threads):
        monkeypatch.setattr("ndframes.frames.batch.run_tasks", run)
        np.save(tmp_path / "new.npy", other)
        os.replace(tmp_path / "new.npy", tmp_path / "1.npy")
        frames._opener.pool.close()
        run(tasks, threads=threads)

    arrays[1] = other
    monkeypatch.setattr("ndframes.frames.batch.run_tasks", replace_first)
    results = frames.load_regions(requests)
    assert isinstance(results, list)
    assert count_wrong(results, requests, arrays) == 0
    np.save(tmp_path / "1.npy", random_arrays(2)[1])
    frames.load_regions(requests)
    monkeypatch.setattr("ndframes.frames.batch.run_tasks", replace_first)
    with pytest.raises(nf.RegionError, match=r"out\[1\] is \(50, 60, 3\) uint8"):
        frames.load_regions(requests, out=np.zeros((4, 50, 60, 3), np.uint8))
