"""Tiles of every codec and dtype are what other libraries read from them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import tifffile
from kit.synthetic import DTYPES, FLOATS, INTEGERS, picture
from kit.tilework import (
    assert_equal_bits,
    assert_others_read_the_same,
    cog,
    entry_path,
    frames_over,
    levels_of,
)

from ndframes.formats.tiled import directories as tiffwrite
from ndframes.formats.tiled.tile_reader import TileReader

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


def few_of(form: Form) -> list[tuple[str, int, int]]:
    """Every dtype, band count and block size at least once, if not all of them together."""
    count = max(len(form.dtypes), 3 * len(form.bands), 5)
    return [
        (form.dtypes[number % len(form.dtypes)], form.bands[number % len(form.bands)], BLOCKSIZES[number % 3])
        for number in range(count)
    ]


def all_of(form: Form) -> list[tuple[str, int, int]]:
    return list(product(form.dtypes, form.bands, BLOCKSIZES))


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
        assert_others_read_the_same(entry_path(frames, image_id), levels, form.compress)


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
    assert_others_read_the_same(path, levels, compress)
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
    assert_others_read_the_same(entry_path(frames), levels, "WEBP")
    np.testing.assert_array_equal(levels[0][:, 32:, 3], 255)
    if quality == 100:
        assert_equal_bits(levels[0], pixels)
