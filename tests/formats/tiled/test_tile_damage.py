"""Damaged tiles: an error or the right pixels, never others."""

from __future__ import annotations

import numpy as np
import pytest
from kit.tilework import (
    PHOTOGRAPH,
    cog,
    count_quarantined,
    entry_path,
    flip_bit_of_tile,
    forge_tile,
    frames_over,
    is_mapped,
    levels_of,
    segments_of,
    tile_number,
)

import ndframes as nf
from ndframes.entries.reader import EntryReader
from ndframes.system.handles import HandlePool

CODECS = ("ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP")


@pytest.mark.parametrize("verify", ["open", "first-touch", "always"])
@pytest.mark.parametrize("compress", CODECS)
def test_a_tile_that_does_not_decode_though_its_checksum_holds(tmp_path, compress, verify):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress, 48), verify=verify)
    frames.prepare()
    path = entry_path(frames)
    forge_tile(path, 2, {"LZW": b"\x80\x0b\x60\x50"}.get(compress, b"no tile at all"))
    good, bad = np.s_[:40, :40], np.s_[30:40, 40:60]
    for _ in range(2):
        for read in (lambda: frames.load_region("a", bad), lambda: frames.load_regions([("a", bad)] * 2)):
            with pytest.raises(nf.UnreadableImageError, match="image 'a': .*tile 2 does not decode"):
                read()
        np.testing.assert_array_equal(frames.load_region("a", good), frames.load_regions([("a", good)])[0])
    assert count_quarantined(frames) == 0


@pytest.mark.parametrize("flips", [40, pytest.param(5_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("compress", ["NONE", *CODECS])
def test_flipped_bits_of_tiles_without_checks(tmp_path, compress, flips):
    """Some codecs find damage themselves. The others decode other pixels or raise: no crash, no hang, no open file."""
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.prepare()
    path = entry_path(frames)
    key = frames.image("a").opened(0).reader.key
    whole = frames.load_region("a")
    good, rng, wrong, refused = path.read_bytes(), np.random.default_rng(0), 0, 0
    for _ in range(flips):
        number = int(rng.integers(1, len(segments_of(path))))
        flip_bit_of_tile(path, number, rng.random())
        pool = HandlePool()
        reader = EntryReader(path, key, frames.cache.files, pool, verify="open")
        try:
            for level, pixels in enumerate(levels_of(reader)):
                assert pixels.shape == reader.level_shape(level)
                wrong += level == 0 and not np.array_equal(pixels, whole)
        except nf.CacheEntryDamagedError:
            refused += 1
        pool.close()
        with path.open("r+b") as file:
            file.write(good)
    print(f"{compress}: {flips:,} flips, {refused:,} refused, {wrong:,} gave wrong pixels")
    if compress in ("DEFLATE", "LERC"):  # which carry a checksum of their own
        assert wrong == 0
    if compress == "NONE":
        assert refused == 0
    assert wrong + refused > 0


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("verify", ["first-touch", "always"])
def test_a_flipped_bit_in_a_mapped_file_is_found(tmp_path, at_rest, monkeypatch, verify, is_remote):
    monkeypatch.setattr("ndframes.system.files.is_remote", lambda path: is_remote)
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog("NONE"), verify=verify, tile_bytes=0)
    frames.prepare()
    path = entry_path(frames)
    reader = frames.image("a").opened(0).reader
    out = np.empty((20, 20, 3), np.uint8)

    def read(top, left):
        reader.read(range(top, top + 20), range(left, left + 20), range(3), out)
        np.testing.assert_array_equal(out, PHOTOGRAPH[top : top + 20, left : left + 20])

    read(0, 0)
    assert is_mapped(path) != is_remote
    number = tile_number("NONE", 0, 1)
    flip_bit_of_tile(path, number)
    read(0, 0)
    with pytest.raises(nf.CacheEntryDamagedError, match=f"segment {number} "):
        read(0, 40)
    with pytest.raises(nf.CacheEntryDamagedError, match=f"segment {number} "):  # not once only
        read(5, 25)
    flip_bit_of_tile(path, number)
    read(0, 40)
    flip_bit_of_tile(path, number)
    if verify == "always":
        with pytest.raises(nf.CacheEntryDamagedError, match=f"segment {number} "):
            read(0, 40)
    np.testing.assert_array_equal(frames.load_regions([("a", np.s_[64:90, :30])])[0], PHOTOGRAPH[64:90, :30])
    assert count_quarantined(frames) == 0
    if verify == "always":  # and where Frames reads, it is mended
        np.testing.assert_array_equal(frames.load_region("a"), PHOTOGRAPH)
        assert count_quarantined(frames) == 1
