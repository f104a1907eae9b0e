"""TileReader: any crop of any level, from mapped, read and decoded tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.synthetic import picture
from kit.tilework import (
    PHOTOGRAPH,
    assert_equal_bits,
    assert_others_read_the_same,
    cog,
    entry_path,
    frames_over,
    is_mapped,
    levels_of,
    segments_of_level,
)

import ndframes as nf
from ndframes.formats.tiled import cog_writer as cog_module

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


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Frames of every form over one source, which counts as settled, so that they stay open."""
    folder = tmp_path_factory.mktemp("opened")
    np.save(folder / "a.npy", PIXELS)
    frames = {}
    with pytest.MonkeyPatch.context() as settled:
        settled.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)
        for number, (name, backend) in enumerate(OPEN_FORMS.items()):
            options = {"tile_bytes": 0} if "nothing" in name else {}
            frames[name] = nf.SimpleFrames(
                {"a": folder / "a.npy"}, workdir=folder / str(number), backend=backend, **options
            )
            with pytest.MonkeyPatch.context() as patch:
                if name == "not mapped":
                    patch.setattr("ndframes.system.files.is_remote", lambda path: True)
                frames[name].load_region("a")
        yield frames


@pytest.mark.parametrize("name", OPEN_FORMS)
def test_only_what_is_not_compressed_and_not_remote_is_mapped(opened, name):
    frames = opened[name]
    reader = frames.image("a").opened(0).reader
    assert_equal_bits(frames.load_region("a"), PIXELS)
    assert frames.image("a").opened(0).reader is reader, "it does not stay open"
    assert is_mapped(entry_path(frames)) == (name == "mapped")
    assert reader.count_decoded(range(90), range(110)) == (0 if name == "mapped" else len(segments_of_level(reader)))


def test_tiles_that_lie_row_after_row_without_compression(tmp_path, monkeypatch):
    """Older entries store them so."""
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
    assert_others_read_the_same(entry_path(by_column), levels_of(readers[0]), "NONE")


axis_bounds = st.none() | st.integers(-250, 250)


axis_slices = st.builds(slice, axis_bounds, axis_bounds, st.none() | st.integers(-40, 40).filter(bool))


@pytest.mark.parametrize("name", OPEN_FORMS)
@settings(max_examples=40, deadline=None)
@given(axis_slices, axis_slices, st.lists(st.sampled_from("rgba"), min_size=1, max_size=5), st.data())
def test_any_crop_is_what_numpy_cuts(opened, name, rows, cols, codes, data):
    bands = ["rgba".index(code) for code in codes]
    wanted = PIXELS[rows, cols][:, :, bands]
    assert_equal_bits(opened[name].load_region("a", (rows, cols), codes), wanted)
    picked = data.draw(axis_slices)
    assert_equal_bits(opened[name].load_region("a", (rows, cols, picked), codes), wanted[:, :, picked])


@pytest.mark.parametrize("name", OPEN_FORMS)
@settings(max_examples=30, deadline=None)
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
