"""TileCache: which tiles are decoded again, how much is stored, and that no tile outlives its source."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from kit.tilework import (
    PHOTOGRAPH,
    cog,
    frames_over,
    tile_cache_of,
    tiles_under,
    watch_decodes,
)

import ndframes as nf
from ndframes.formats.tiled.tile_cache import TileCache


@pytest.mark.parametrize("compress", ["ZSTD", "JPEG", "LZW"])
def test_what_crops_share_is_decoded_once(tmp_path, at_rest, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    whole = nf.SimpleFrames(frames._sources, workdir=tmp_path / "work", backend=cog(compress)).load_region("a")
    frames.prepare()
    seen = watch_decodes(frames, "a")
    done: set[tuple[int, int]] = set()
    for rows, cols in ((range(40), range(40)), (range(20, 60), range(30, 60)), (range(5, 9), range(5, 9)), (range(100), range(0, 130, 7)), (range(99, -1, -9), range(130))):  # fmt: skip
        crop = frames.load_region("a", (slice(rows[0], rows[-1] + rows.step if rows[-1] else None, rows.step), slice(cols.start, cols.stop, cols.step)))  # fmt: skip
        np.testing.assert_array_equal(crop, whole[np.ix_(rows, cols)])
        done |= tiles_under(*(range(min(axis), max(axis) + 1) for axis in (rows, cols)), 32)
        assert len(seen) == len(done)


@pytest.mark.parametrize("tile_bytes", [0, 1, 32 * 32 * 3, 20_000, 10**9])
def test_the_budget_is_kept(tmp_path, at_rest, tile_bytes):
    arrays = {number: np.roll(PHOTOGRAPH, number) for number in range(4)}
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=tile_bytes, memory_bytes=2 * 10**9)
    frames.prepare()
    seen, rng = watch_decodes(frames, *arrays), np.random.default_rng(0)
    for _ in range(100):
        number, (top, left) = int(rng.integers(4)), rng.integers(0, 70, 2)
        region = np.s_[top : top + 30, left : left + 40]
        np.testing.assert_array_equal(frames.load_region(number, region), arrays[number][region])
        memory = tile_cache_of(frames)
        assert memory.used_bytes <= memory.max_bytes == tile_bytes
        assert memory.used_bytes == len(memory) * 32 * 32 * 3
    assert len(memory) == min(tile_bytes // (32 * 32 * 3), 4 * 20, len(set(seen)))
    assert (len(seen) == len(set(seen))) == (tile_bytes == 10**9)


def test_where_nothing_is_kept_each_crop_decodes_anew(tmp_path, at_rest):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog("ZSTD"), tile_bytes=0)
    frames.prepare()
    seen = watch_decodes(frames, "a")
    for number in range(1, 4):
        frames.load_region("a", np.s_[:40, :40])
        assert len(seen) == 4 * number


@pytest.mark.parametrize("read", ["one", "two, in a batch"])
def test_what_is_kept_is_used_and_the_rest_decoded_together(tmp_path, at_rest, monkeypatch, read):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog("ZSTD"), verify="open")
    frames.prepare()
    inner = frames.image("a").opened(0).reader._inner
    frames.load_region("a", np.s_[:40, :40])
    assert len(tile_cache_of(frames)) == 4
    monkeypatch.setattr(TileCache, "is_admitting", False)
    decode, counts = inner._decode_several, []
    monkeypatch.setattr(inner, "_decode_several", lambda pieces: [counts.append(len(pieces)), decode(pieces)][1])
    if read == "one":
        np.testing.assert_array_equal(frames.load_region("a", np.s_[5:70, 3:90]), PHOTOGRAPH[5:70, 3:90])
        assert counts == [5]
        np.testing.assert_array_equal(frames.load_region("a", np.s_[5:60, 3:9]), PHOTOGRAPH[5:60, 3:9])
        assert counts == [5]
    else:
        regions = np.s_[5:70, 3:90], np.s_[30:40, 60:100]
        for workers in (1, 2):
            results = frames.load_regions([("a", region) for region in regions], workers=workers)
            for result, region in zip(results, regions, strict=True):
                np.testing.assert_array_equal(result, PHOTOGRAPH[region])
        assert sum(counts) == 2 * 7
    assert len(tile_cache_of(frames)) == 4


@pytest.mark.parametrize("rest", [False, True])
def test_a_source_that_changes_gets_no_tile_of_what_it_was(tmp_path, monkeypatch, rest):
    if rest:
        monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog("ZSTD"))
    for number in range(6):
        pixels = np.roll(PHOTOGRAPH, number)
        np.save(tmp_path / "new.npy", pixels)
        os.replace(tmp_path / "new.npy", tmp_path / "0.npy")
        for _ in range(2):
            np.testing.assert_array_equal(frames.load_region("a"), pixels)
            np.testing.assert_array_equal(frames.load_regions([("a", np.s_[:])])[0], pixels)
    assert len(tile_cache_of(frames)) > 20


class Named(nf.Frames):
    """An image whose owner says what its content is called, right or wrong."""

    image_ids = ("a",)

    def __init__(self, path, **options):
        self.path = path
        super().__init__(hashid_mode="GIVEN", **options)

    def build_pathinfo(self, image_id):
        return nf.PathInfo(image_id, (nf.ChannelInfo(self.path, hashid="always the same"),))


@pytest.mark.parametrize("compress", ["ZSTD", "NONE"])
def test_an_entry_that_is_made_again_gets_no_tile_of_the_one_before(tmp_path, compress):
    """Of the same key and at the same path, with other pixels."""
    np.save(tmp_path / "a.npy", PHOTOGRAPH)
    frames = Named(tmp_path / "a.npy", workdir=tmp_path / "work", backend=cog(compress))
    paths = set()
    for number in range(4):
        pixels = np.roll(PHOTOGRAPH, number)
        np.save(tmp_path / "a.npy", pixels)
        np.testing.assert_array_equal(frames.load_region("a"), pixels)
        (entry,) = frames.cache.ls()
        paths.add(entry.path)
        entry.path.unlink()
    assert len(paths) == 1


def test_a_pickled_frames_is_small_and_starts_empty(tmp_path, at_rest):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog("ZSTD"))
    frames.load_region("a")
    assert tile_cache_of(frames).used_bytes > PHOTOGRAPH.nbytes / 2
    data = pickle.dumps(frames)
    assert len(data) < 5000
    twin = pickle.loads(data)
    assert tile_cache_of(twin) is None
    np.testing.assert_array_equal(twin.load_region("a"), PHOTOGRAPH)
    assert tile_cache_of(twin) is not tile_cache_of(frames)
