"""The tile reader: every codec and dtype as other libraries read them; tiles in memory; mapped files; handles; threads."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import threading
import time
import warnings
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.forking import in_fork
from kit.limits import run_limited
from kit.synthetic import DTYPES, FLOATS, INTEGERS, picture
from kit.tilework import (
    cog,
    entry_path,
    flip_bit_of_tile,
    forge_tile,
    frames_over,
    segments_of,
    tiles_under,
    watch_decodes,
)
from rasterio.errors import NotGeoreferencedWarning

import ndframes as nf
from ndframes.entries.reader import EntryReader
from ndframes.formats.tiled import cog_writer as cog_module
from ndframes.formats.tiled import directories as tiffwrite
from ndframes.formats.tiled.tile_cache import TileCache
from ndframes.formats.tiled.tile_reader import TileReader
from ndframes.system.handles import HandlePool

BANDS = (1, 2, 3, 4, 7)
BLOCKSIZES = (16, 48, 128)
SHAPES = ((101, 131), (97, 50), (48, 144), (1, 150), (140, 1), (129, 128))
LERC_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


@dataclass(frozen=True)
class Form:
    """A codec with its options, and what it is able to hold."""

    compress: str
    config: dict[str, Any]
    predictor: str = "NO"
    dtypes: tuple[str, ...] = DTYPES
    bands: tuple[int, ...] = BANDS
    is_lossless: bool = True


FORMS = {
    "none": Form("NONE", {}),
    "lerc": Form("LERC", {}, dtypes=LERC_DTYPES),
    "jpeg": Form("JPEG", {"quality": 85}, dtypes=("uint8",), bands=(1, 3), is_lossless=False),
    "webp": Form("WEBP", {"quality": 80}, dtypes=("uint8",), bands=(3, 4), is_lossless=False),
    "lossless webp": Form("WEBP", {"quality": 100}, dtypes=("uint8",), bands=(3, 4)),
}
for _name in ("ZSTD", "DEFLATE", "LZW"):
    FORMS[f"{_name.lower()}"] = Form(_name, {"predictor": "NO"})
    FORMS[f"{_name.lower()} differences"] = Form(_name, {"predictor": "YES"}, "STANDARD", INTEGERS)
    FORMS[f"{_name.lower()} of floats"] = Form(_name, {"predictor": "YES"}, "FLOATING_POINT", FLOATS)


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_open():
    """Frames refer to themselves, so that their files close with a garbage collection; other tests count open files."""
    yield
    gc.collect()


def few_of(form: Form) -> list[tuple[str, int, int]]:
    """Every dtype, band count and block size at least once, if not all of them together."""
    count = max(len(form.dtypes), 3 * len(form.bands), 5)
    return [
        (form.dtypes[number % len(form.dtypes)], form.bands[number % len(form.bands)], BLOCKSIZES[number % 3])
        for number in range(count)
    ]


def all_of(form: Form) -> list[tuple[str, int, int]]:
    return list(product(form.dtypes, form.bands, BLOCKSIZES))


def levels_of(reader) -> list[np.ndarray]:
    return [reader.read_all(level=level) for level in range(1 + len(reader.overview_shapes))]


def by_rasterio(path, level: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as dataset:
            return dataset.read().transpose(1, 2, 0)


def assert_equal_bits(got: np.ndarray, wanted: np.ndarray) -> None:
    """Also NaNs, and the signs of zeros."""
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(wanted).tobytes()


def assert_as_others_read_it(path, levels: list[np.ndarray], compress: str) -> None:
    """Every level, bit for bit."""
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == len(levels)
        for page, level in zip(file.pages, levels, strict=True):
            assert page.compression.name.replace("ADOBE_", "") == compress
            assert_equal_bits(level, page.asarray().reshape(level.shape))
    for number, level in enumerate(levels):
        other = by_rasterio(path, number)
        if compress == "JPEG":  # its wheel carries another libjpeg
            differences = np.abs(other.astype(int) - level)
            assert differences.max() <= 1
            assert np.count_nonzero(differences) <= level.size / 10_000
        elif level.dtype in ("bool", "float16"):  # for which GDAL has no name
            np.testing.assert_array_equal(other.astype(level.dtype), level)
        else:
            assert_equal_bits(level, other)


@pytest.mark.parametrize("choose", [few_of, pytest.param(all_of, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("name", FORMS)
def test_every_codec_reads_as_other_libraries_read_it(tmp_path, name, choose):
    form = FORMS[name]
    arrays = {
        (dtype, bands, blocksize): picture((*SHAPES[number % len(SHAPES)], bands), dtype)
        for number, (dtype, bands, blocksize) in enumerate(choose(form))
    }
    frames = frames_over(tmp_path, arrays, lambda image_id, _: cog(form.compress, image_id[2], **form.config))
    assert frames.prepare().prepared == len(arrays)
    for image_id, array in arrays.items():
        reader = frames.image(image_id).opened(0).reader
        layout = reader.trailer.meta["layout"]
        assert type(reader._inner) is TileReader
        assert (layout["compress"], layout["predictor"]) == (form.compress, form.predictor)
        assert {level["tile_extent"] for level in layout["levels"]} == {image_id[2]}
        levels = levels_of(reader)
        assert (len(levels) > 1) == (max(array.shape) > image_id[2] and array.shape[1] > 1)
        if form.is_lossless:
            assert_equal_bits(levels[0], array)
        assert_equal_bits(frames.load_region(image_id), levels[0])
        assert_as_others_read_it(entry_path(frames, image_id), levels, form.compress)


def test_few_are_enough_to_meet_each():
    """Of the choice that is always run."""
    for form in FORMS.values():
        for values, chosen in zip((form.dtypes, form.bands, BLOCKSIZES), zip(*few_of(form), strict=True), strict=True):
            assert set(values) == set(chosen)


@pytest.mark.parametrize("compress", ["NONE", "ZSTD", "JPEG"])
def test_bigtiff(tmp_path, monkeypatch, compress):
    monkeypatch.setattr(tiffwrite, "_CLASSIC_LIMIT_BYTES", 1000)
    pixels = picture((150, 201, 3))
    frames = frames_over(tmp_path, {"a": pixels}, cog(compress))
    levels = levels_of(frames.image("a").opened(0).reader)
    path = entry_path(frames)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    assert len(levels) == 4
    assert_as_others_read_it(path, levels, compress)
    if compress != "JPEG":
        assert_equal_bits(levels[0], pixels)


@pytest.mark.parametrize("quality", [100, 70])
def test_webp_without_transparency(tmp_path, quality):
    """Its encoder leaves out what is opaque throughout, of one tile and not of the next."""
    pixels = picture((100, 100, 4))
    pixels[:, 32:, 3] = 255
    pixels[:32, :32, 3] = 0
    frames = frames_over(tmp_path, {"a": pixels}, cog("WEBP", quality=quality))
    levels = levels_of(frames.image("a").opened(0).reader)
    assert_as_others_read_it(entry_path(frames), levels, "WEBP")
    np.testing.assert_array_equal(levels[0][:, 32:, 3], 255)
    if quality == 100:
        assert_equal_bits(levels[0], pixels)


# -- crops --------------------------------------------------------------------------------------------------------

PIXELS = picture((90, 110, 4), "int16")
OPEN_FORMS = {
    "mapped": cog("NONE"),
    "not mapped": cog("NONE"),
    "zstd": cog("ZSTD"),
    "zstd, nothing kept": cog("ZSTD", 48),
    "deflate": cog("DEFLATE", 16, predictor="YES"),
    "lzw": cog("LZW", 48, predictor="YES"),
    "lerc": cog("LERC", 64),
    "one tile": cog("ZSTD", 128),
}


def is_mapped(path) -> bool:
    with open("/proc/self/maps") as file:
        return str(path) in file.read()


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Frames of every form over one source, which rests when they are opened, so that they stay open."""
    folder = tmp_path_factory.mktemp("opened")
    np.save(folder / "a.npy", PIXELS)
    time.sleep(2.05)
    frames = {}
    for number, (name, backend) in enumerate(OPEN_FORMS.items()):
        options = {"tile_bytes": 0} if "nothing" in name else {}
        frames[name] = nf.SimpleFrames(
            {"a": folder / "a.npy"}, workdir=folder / str(number), backend=backend, **options
        )
        with pytest.MonkeyPatch.context() as patch:
            if name == "not mapped":
                patch.setattr("ndframes.system.files.is_remote", lambda path: True)
            frames[name].load_region("a")
    return frames


@pytest.mark.parametrize("name", OPEN_FORMS)
def test_only_what_is_not_compressed_and_not_remote_is_mapped(opened, name):
    frames = opened[name]
    reader = frames.image("a").opened(0).reader
    assert_equal_bits(frames.load_region("a"), PIXELS)
    assert frames.image("a").opened(0).reader is reader, "it does not stay open"
    assert is_mapped(entry_path(frames)) == (name == "mapped")
    assert reader.count_decoded(range(90), range(110)) == (0 if name == "mapped" else len(segments_of_level(reader)))


def test_tiles_that_lie_row_after_row_without_compression(tmp_path, monkeypatch):
    """As entries had it once."""
    by_column = frames_over(tmp_path / "columns", {"a": PHOTOGRAPH}, cog("NONE"))
    by_column.prepare()
    directory = cog_module._directory
    monkeypatch.setattr(
        cog_module, "_directory", lambda *given, **named: replace(directory(*given, **named), is_by_column=False)
    )
    by_row = frames_over(tmp_path / "rows", {"a": PHOTOGRAPH}, cog("NONE"))
    by_row.prepare()
    readers = [frames.image("a").opened(0).reader for frames in (by_column, by_row)]
    assert ["tile_order" in reader.trailer.meta["layout"] for reader in readers] == [True, False]
    for pixels, again in zip(*map(levels_of, readers), strict=True):
        assert_equal_bits(again, pixels)
    np.testing.assert_array_equal(by_row.load_region("a", np.s_[30:70, 20:110]), PHOTOGRAPH[30:70, 20:110])
    assert_as_others_read_it(entry_path(by_column), levels_of(readers[0]), "NONE")


def segments_of_level(reader, level: int = 0) -> range:
    """The numbers of a level's tiles."""
    item = reader.trailer.meta["layout"]["levels"][level]
    down, across = (-(-extent // item["tile_extent"]) for extent in item["shape"])
    return range(item["first_segment"], item["first_segment"] + down * across)


axis_bounds = st.none() | st.integers(-250, 250)
axis_slices = st.builds(slice, axis_bounds, axis_bounds, st.none() | st.integers(-40, 40).filter(bool))


@pytest.mark.parametrize("name", OPEN_FORMS)
@settings(max_examples=80, deadline=None)
@given(axis_slices, axis_slices, st.lists(st.sampled_from("rgba"), min_size=1, max_size=5), st.data())
def test_any_crop_is_what_numpy_cuts(opened, name, rows, cols, codes, data):
    bands = ["rgba".index(code) for code in codes]
    wanted = PIXELS[rows, cols][:, :, bands]
    assert_equal_bits(opened[name].load_region("a", (rows, cols), codes), wanted)
    picked = data.draw(axis_slices)
    assert_equal_bits(opened[name].load_region("a", (rows, cols, picked), codes), wanted[:, :, picked])


@pytest.mark.parametrize("name", OPEN_FORMS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_crop_of_any_level_goes_to_any_place(opened, name, data):
    """By the reader itself: any order of bands, into arrays of any strides, and nothing is written beside them."""
    reader = opened[name].image("a").opened(0).reader
    reader._inner._group_tiles = data.draw(st.sampled_from([1, 5, 1000]))  # tiles
    level = data.draw(st.integers(0, len(reader.overview_shapes)))
    whole = reader.read_all(level=level)
    rows, cols = (range(extent)[data.draw(axis_slices)] for extent in whole.shape[:2])
    bands = data.draw(st.sampled_from([range(4), range(1, 3), [3, 1], [2], [0, 1, 2, 3], [1, 1, 0]]))
    wanted = whole[np.ix_(rows, cols, bands)]
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, -1, -3])] * 3))
    sizes = [abs(step) * extent + 2 for step, extent in zip(steps, wanted.shape, strict=True)]
    room = np.full(sizes, 12_321, np.int16)
    place = tuple(
        slice(1, 1 + step * extent, step) if step > 0 else slice(size - 2, size - 2 + step * extent, step)
        for step, extent, size in zip(steps, wanted.shape, sizes, strict=True)
    )
    out = room[place]
    assert out.shape == wanted.shape
    reader.read(rows, cols, bands, out, level=level)
    assert_equal_bits(out, wanted)
    out[...] = 12_321
    assert (room == 12_321).all()


# -- what does not decode, and what is damaged --------------------------------------------------------------------

CODECS = ("ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP")
PHOTOGRAPH = nf.SimpleFrames.demo(backend=None).load_region("coffee", np.s_[100:200, 200:330])


def number_of(compress: str, row: int, col: int) -> int:
    """The number in its file of a tile of the photograph, which has four rows of five tiles."""
    return 1 + (col * 4 + row if compress == "NONE" else row * 5 + col)


def quarantined(frames) -> int:
    folder = frames.cache.root / "quarantine"
    return len(list(folder.iterdir())) if folder.exists() else 0


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
    assert quarantined(frames) == 0


@pytest.mark.parametrize("flips", [40, pytest.param(5_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("compress", ["NONE", *CODECS])
def test_flipped_bits_of_tiles_that_nobody_checks(tmp_path, compress, flips):
    """Some codecs tell of damage themselves. The others give some pixels or an error: no crash, no hang, no loose end."""
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
def test_a_flipped_bit_is_found_where_it_lies_mapped(tmp_path, at_rest, monkeypatch, verify, is_remote):
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
    number = number_of("NONE", 0, 1)
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
    assert quarantined(frames) == 0
    if verify == "always":  # and where Frames reads, it is mended
        np.testing.assert_array_equal(frames.load_region("a"), PHOTOGRAPH)
        assert quarantined(frames) == 1


# -- tiles in memory ----------------------------------------------------------------------------------------------


def memory_of(frames):
    return frames._opener._tiles


@pytest.mark.parametrize("compress", ["ZSTD", "JPEG", "LZW"])
def test_what_crops_share_is_decoded_once(tmp_path, at_rest, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    whole = nf.SimpleFrames(frames._id_to_path, workdir=tmp_path / "work", backend=cog(compress)).load_region("a")
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
        memory = memory_of(frames)
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
    assert len(memory_of(frames)) == 4
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
    assert len(memory_of(frames)) == 4


@pytest.mark.parametrize("name", ["mapped", "not mapped", "zstd", "deflate", "lerc", "one tile"])
def test_what_is_done_to_a_result_is_done_to_nothing_else(opened, name):
    frames = opened[name]
    regions = [np.s_[:, :], np.s_[:32, :32], np.s_[32:64, 32:64], np.s_[:64:2, 5], np.s_[0, 0, 0], np.s_[::-1, ::-1]]
    for region in regions:
        crops = [frames.load_region("a", region), *frames.load_regions([("a", region)] * 2)]
        for crop in crops:
            assert_equal_bits(np.asarray(crop), PIXELS[region])
            np.asarray(crop)[...] = 77
        assert_equal_bits(frames.load_region("a", region), PIXELS[region])
    for crop in frames.load_regions([("a", region) for region in regions]):
        crop[...] = 78
    assert_equal_bits(frames.load_region("a"), PIXELS)


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
    assert len(memory_of(frames)) > 20


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
    assert memory_of(frames).used_bytes > PHOTOGRAPH.nbytes / 2
    data = pickle.dumps(frames)
    assert len(data) < 5000
    twin = pickle.loads(data)
    assert memory_of(twin) is None
    np.testing.assert_array_equal(twin.load_region("a"), PHOTOGRAPH)
    assert memory_of(twin) is not memory_of(frames)


@pytest.mark.parametrize("compress", ["ZSTD", "NONE"])
@pytest.mark.parametrize("is_remote", [False, True])
def test_the_system_is_told_of_exactly_the_tiles_that_are_read(tmp_path, at_rest, monkeypatch, compress, is_remote):
    """In the order of the file, each once; none that lies in memory."""
    monkeypatch.setattr("ndframes.system.files.is_remote", lambda path: is_remote)
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.prepare()
    told: list[tuple[int, int]] = []

    def note(descriptor, offset, length, advice):
        if advice == os.POSIX_FADV_WILLNEED and (offset, length) not in told:
            told.append((offset, length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    rows = segments_of(entry_path(frames))
    requests = [("a", np.s_[40:90, 10:50]), ("a", np.s_[0:10, 0:10]), ("a", np.s_[35:45, 30:40])]
    is_plain = compress == "NONE" and not is_remote
    twin = pickle.loads(pickle.dumps(frames))
    for _ in range(2):
        twin.load_regions(requests, read_ahead=True)
        wanted = sorted(number_of(compress, *place) for place in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1)))
        assert told == [(int(rows[number]["offset"]), int(rows[number]["length"])) for number in wanted]
        if not is_plain:
            twin.load_regions([*requests, ("a", np.s_[96:, 128:])], read_ahead=True)
            assert told[5:] == [(int(rows[20]["offset"]), int(rows[20]["length"]))]
            break
        told.clear()


# -- handles ------------------------------------------------------------------------------------------------------

MANY = """
import os, sys, threading
import numpy as np
import ndframes as nf
folder = sys.argv[1]
base = np.load(folder + "/base.npy")
def backend(image_id, info):
    return {"type": "cog", "config": {"compress": "NONE" if image_id % 2 else "ZSTD", "blocksize": 16, "overviews": False}}
frames = nf.SimpleFrames({n: f"{folder}/{n}.npy" for n in range(300)}, workdir=folder + "/work", backend=backend, tile_bytes=20_000)
assert frames._opener.pool.max_idle == 16
frames.prepare()
most, right, errors = [], [], []
def work(seed):
    dice = np.random.default_rng(seed)
    try:
        for _ in range(400):
            number = int(dice.integers(300))
            top, left = (int(value) for value in dice.integers(0, 20, 2))
            crop = frames.load_region(number, np.s_[top : top + 20, left : left + 30])
            assert np.array_equal(crop, base[top : top + 20, left : left + 30] + np.uint8(number % 251)), number
            right.append(1)
            most.append(len(os.listdir("/proc/self/fd")))
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if errors:
    raise errors[0]
batch = frames.load_regions([(number, np.s_[5:25, 5:25]) for number in range(300)], workers=4)
assert all(np.array_equal(crop, base[5:25, 5:25] + np.uint8(number % 251)) for number, crop in enumerate(batch))
frames._opener.pool.close()
print(len(right), max(most), len(os.listdir("/proc/self/fd")))
"""


def test_hundreds_of_entries_in_few_descriptors(tmp_path):
    """64 files may be open, four threads read 300 entries in any order, half of them mapped."""
    base = picture((40, 50, 3))
    np.save(tmp_path / "base.npy", base)
    for number in range(300):
        np.save(tmp_path / f"{number}.npy", base + np.uint8(number % 251))
    right, most, left = map(int, run_limited(MANY, 64, str(tmp_path)).split())
    own = 8  # of Python, of its libraries, and of whoever lists them
    assert right == 1600
    assert left <= own + 4
    assert most <= own + 16 + 4 * 4, "the idle, and for each thread what it opens, maps and lists"


def read_crops(frames, arrays, seed: int, count: int) -> int:
    """How many random crops differ from numpy's."""
    rng, wrong = np.random.default_rng(seed), 0
    for _ in range(count):
        number, (top, left) = int(rng.integers(len(arrays))), rng.integers(0, 60, 2).tolist()
        region = np.s_[top : top + 40, left : left + 50]
        wrong += not np.array_equal(frames.load_region(number, region), arrays[number][region])
    return wrong


def in_threads(work, count: int) -> list:
    """What ``work(seed)`` gave in each of so many threads, or the errors that it raised."""
    outcomes = []

    def run(seed):
        try:
            outcomes.append(work(seed))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
@pytest.mark.parametrize("forks", [12, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_forks_while_threads_read(tmp_path, at_rest, compress, forks):
    arrays = {number: np.roll(PHOTOGRAPH, number) for number in range(4)}
    frames = frames_over(tmp_path, arrays, cog(compress), tile_bytes=30_000)
    frames.prepare()
    read_crops(frames, arrays, 0, 10)
    stop = threading.Event()

    def work(seed):
        if seed:
            wrong = 0
            while not stop.is_set():
                wrong += read_crops(frames, arrays, seed, 10)
            return wrong
        try:
            for number in range(forks):
                in_fork(lambda number=number: read_crops(frames, arrays, 100 + number, 15) == 0)
        finally:
            stop.set()
        return 0

    assert in_threads(work, 5) == [0] * 5


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_an_entry_that_is_removed_while_it_is_open_is_read_on(tmp_path, at_rest, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress), tile_bytes=0)
    frames.load_region("a", np.s_[:10, :10])
    path = entry_path(frames)
    path.unlink()
    np.testing.assert_array_equal(frames.load_region("a"), PHOTOGRAPH)
    np.testing.assert_array_equal(frames.load_regions([("a", np.s_[:])])[0], PHOTOGRAPH)
    assert not path.exists()
    twin = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(twin.load_region("a"), PHOTOGRAPH)
    assert path.exists()
    frames._opener.pool.close()
    np.testing.assert_array_equal(frames.load_region("a"), PHOTOGRAPH)


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_a_reader_that_nobody_needs_leaves_nothing_open(tmp_path, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.load_region("a")
    path = str(entry_path(frames))

    def count_open() -> int:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return sum(os.path.islink(link) and os.readlink(link) == path for link in links)

    assert count_open() == (2 if compress == "NONE" else 1)
    del frames
    gc.collect()
    assert count_open() == 0
    assert not is_mapped(path)


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_a_file_is_closed_when_nobody_can_have_it_any_more(tmp_path, at_rest, monkeypatch, compress):
    """While a finalizer runs, weak references still give its object out: to threads that would read by what is closed."""
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress), tile_bytes=0)
    frames.load_region("a")
    segments = frames.image("a").opened(0).reader._bytes
    descriptor, given_out, close = segments._file().opened._descriptor, [], os.close

    def watched(number):
        if number == descriptor:
            given_out.append(segments._file())
        close(number)

    monkeypatch.setattr(os, "close", watched)
    frames._opener.pool.close()
    assert given_out == [None]


# -- threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["NONE", "ZSTD", "LZW"])
@pytest.mark.parametrize("crops", [60, pytest.param(6_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_threads_that_drive_out_each_other_s_tiles(tmp_path, at_rest, compress, crops):
    """Room for seven tiles in memory, and for one file beside those in use."""
    arrays = {number: np.roll(PHOTOGRAPH, number) for number in range(5)}
    frames = frames_over(tmp_path, arrays, cog(compress), tile_bytes=7 * 32 * 32 * 3)
    frames.prepare()
    frames._opener.pool.max_idle = 2
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        outcomes = in_threads(lambda seed: read_crops(frames, arrays, seed, crops), 8)
    finally:
        sys.setswitchinterval(interval)
    assert outcomes == [0] * 8
    memory = memory_of(frames)
    assert memory.used_bytes <= memory.max_bytes
    assert len(memory) == (7 if compress != "NONE" else 0)
    print(f"{compress}: 8 threads, {8 * crops:,} crops: 0 wrong")


@pytest.mark.parametrize("compress", ["ZSTD", "NONE"])
def test_a_first_crop_has_all_its_tiles_fetched_side_by_side(tmp_path, at_rest, monkeypatch, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.prepare()
    told: list[int] = []

    def note(descriptor, offset, length, advice):
        if advice == os.POSIX_FADV_WILLNEED:
            told.append(offset)

    monkeypatch.setattr(os, "posix_fadvise", note)
    rows = segments_of(entry_path(frames))
    for _ in range(2):
        frames.load_region("a", np.s_[40:90, 10:50])
        touched = sorted(number_of(compress, row, col) for row in (1, 2) for col in (0, 1))
        assert told == [int(rows[number]["offset"]) for number in touched]
