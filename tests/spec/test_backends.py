"""Backends: every option and value that is allowed, the ones that are not, and codecs that hold what they are given."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ndframes as nf
from ndframes.errors import BackendError
from ndframes.formats.tiled.codecs import encode_tile
from ndframes.spec.backends import Backend, TileCodec, coerce_backend

COMPRESSIONS = ("AUTO", "NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP")
DTYPES = [
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
    "complex64", "complex128",
]  # fmt: skip
BAND_COUNTS = (1, 2, 3, 4, 5, 13)


def cog(**config):
    return coerce_backend({"type": "cog", "config": config})


# -- what is allowed ----------------------------------------------------------------------------------------------


def test_none_stays_none():
    assert coerce_backend(None) is None
    assert coerce_backend({"type": None}) is None
    assert coerce_backend({"type": None, "config": {}}) is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("auto", Backend(type="cog")),
        ("cog", Backend(type="cog")),
        ("npy", Backend(type="npy")),
        ({"type": "auto"}, Backend(type="cog")),
        ({"type": "npy", "config": None}, Backend(type="npy")),
        ({"type": "npy", "config": {}}, Backend(type="npy")),
        ({"type": "cog", "config": {}}, Backend(type="cog")),
        ({"type": "auto", "config": {"blocksize": 512}}, Backend(type="cog", blocksize=512)),
    ],
)
def test_names_and_dicts(spec, expected):
    assert coerce_backend(spec) == expected


def test_a_backend_stays_itself():
    backend = Backend(type="cog", compress="LZW")
    assert coerce_backend(backend) is backend


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("spelling", [str.upper, str.lower, str.capitalize])
def test_every_compression_in_any_case(compress, spelling):
    assert cog(compress=spelling(compress)) == Backend(type="cog", compress=compress)


@pytest.mark.parametrize(
    ("predictor", "meant"),
    [
        (None, "AUTO"), ("AUTO", "AUTO"), ("auto", "AUTO"), ("NO", "NO"), ("none", "NO"), (False, "NO"), (1, "NO"),
        ("1", "NO"), ("YES", "STANDARD"), (True, "STANDARD"), ("standard", "STANDARD"), (2, "STANDARD"),
        ("2", "STANDARD"), ("FLOATING_POINT", "FLOATING_POINT"), (3, "FLOATING_POINT"), ("3", "FLOATING_POINT"),
    ],
)  # fmt: skip
def test_every_predictor(predictor, meant):
    assert cog(predictor=predictor).predictor == meant


@pytest.mark.parametrize("blocksize", [16, 48, 256, 512, 4096, np.int64(128)])
def test_every_sixteenth_blocksize(blocksize):
    got = cog(blocksize=blocksize).blocksize
    assert got == blocksize
    assert type(got) is int


@pytest.mark.parametrize("compress", ["JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [1, 75, 100, np.uint8(50)])
def test_every_quality(compress, quality):
    backend = cog(compress=compress, quality=quality)
    assert backend.codec_for(np.dtype("uint8"), 3).quality == quality


@pytest.mark.parametrize(("compress", "level"), [("ZSTD", 1), ("ZSTD", 22), ("DEFLATE", 1), ("DEFLATE", 12)])
def test_every_level(compress, level):
    assert cog(compress=compress, level=level).codec_for(np.dtype("uint16"), 3).level == level


@pytest.mark.parametrize("overviews", [True, False])
def test_overviews_or_none(overviews):
    assert cog(overviews=overviews).overviews is overviews


# -- what is not --------------------------------------------------------------------------------------------------

WRONG = [
    ("", r"backend type ''; allowed: None, 'auto', 'cog', 'npy'"),
    ("COG", r"backend type 'COG'; allowed: None, 'auto', 'cog', 'npy'"),
    ("zarr", r"backend type 'zarr'; allowed: None, 'auto', 'cog', 'npy'"),
    (5, r"backend 5; allowed: None, 'auto', 'cog', 'npy', 'intra', a dict"),
    (True, r"backend True; allowed: None, 'auto', 'cog', 'npy', 'intra', a dict"),
    (b"cog", r"allowed: None, 'auto', 'cog', 'npy', 'intra', a dict"),
    (["cog"], r"allowed: None, 'auto', 'cog', 'npy', 'intra', a dict"),
    ({}, r"allowed keys: 'type' \(required\) and 'config'"),
    ({"config": {}}, r"allowed keys: 'type' \(required\) and 'config'"),
    ({"type": "cog", "compress": "ZSTD"}, r"allowed keys: 'type' \(required\) and 'config'"),
    ({"type": "cog", 5: 5}, r"allowed keys: 'type' \(required\) and 'config'"),
    ({"type": 5}, r"backend type 5; allowed: None, 'auto', 'cog', 'npy'"),
    ({"type": ["cog"]}, r"backend type \['cog'\]; allowed"),
    ({"type": np.array(["cog", "npy"])}, r"backend type array.*; allowed"),
    ({"type": None, "config": {"level": 3}}, r"allowed: None \(with no config\), 'auto', 'cog', 'npy'"),
    ({"type": "cog", "config": 0}, r"backend config must be a dict or None, got 0"),
    ({"type": "cog", "config": []}, r"backend config must be a dict or None, got \[\]"),
    ({"type": "cog", "config": ""}, r"backend config must be a dict or None, got ''"),
    ({"type": "cog", "config": "ZSTD"}, r"backend config must be a dict or None, got 'ZSTD'"),
    ({"type": "npy", "config": {"compress": "NONE"}}, r"'npy' has no option compress; allowed: none"),
    (
        {"type": "cog", "config": {"compression": "ZSTD", "BLOCKSIZE": 256, 7: 7}},
        r"'cog' has no option 7, BLOCKSIZE, compression; allowed: compress, blocksize, blockframes, predictor, quality, level, overviews",
    ),
    ({"type": "cog", "config": {"blockframes": 0}}, r"blockframes=0; allowed: whole numbers from 1 to 256"),
    ({"type": "intra", "config": {"quality": 0}}, r"quality=0; allowed: whole numbers from 1 to 51"),
    ({"type": "intra", "config": {"compress": "JPEG"}}, r"'intra' has no option compress; allowed: quality"),
    ({"type": "auto", "config": {"type": "cog"}}, r"'auto' has no option type; allowed: compress, "),
    ({"type": "auto", "config": {"compress": "JPEG"}}, r"'auto' is lossless, but compress='JPEG' is not"),
    (
        {"type": "auto", "config": {"compress": "WEBP", "quality": 99}},
        r"'auto' is lossless, but compress='WEBP' is not",
    ),
]
BAD_VALUES = [
    *[("compress", value, ", ".join(COMPRESSIONS)) for value in ("GZIP", "", 5, True, ["ZSTD"], b"ZSTD", 10**5000, "LZMA")],
    *[("compress", np.array(["ZSTD", "LZW"]), ", ".join(COMPRESSIONS))],
    *[("blocksize", value, "whole numbers from 16 to 4096") for value in (0, 15, -256, 4097, 256.0, "256", True, (256, 256), 10**5000)],
    *[("blocksize", value, "multiples of 16 from 16 to 4096") for value in (17, 100, 4095)],
    *[
        ("predictor", value, "AUTO, NO, YES, STANDARD, FLOATING_POINT, 1, 2, 3")
        for value in ("", "4", 4, 0, -1, 2.0, ["YES"], "LZW", b"2", 10**5000)
    ],
    *[("overviews", value, "True, False") for value in (None, 0, 1, "yes", "AUTO", np.True_)],
]  # fmt: skip


@pytest.mark.parametrize(("spec", "says"), WRONG, ids=lambda value: repr(value)[:40])
def test_a_wrong_spec_names_what_is_allowed(spec, says):
    with pytest.raises(BackendError, match=says):
        coerce_backend(spec)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    BAD_VALUES,
    ids=[f"{name}-{type(value).__name__}-{at}" for at, (name, value, _) in enumerate(BAD_VALUES)],
)
def test_a_wrong_value_names_the_option_and_what_is_allowed(name, value, allowed):
    for make in (lambda: cog(**{name: value}), lambda: Backend(type="cog", **{name: value})):
        with pytest.raises(BackendError) as caught:
            make()
        assert str(caught.value).startswith(f"backend option {name}=")
        assert str(caught.value).endswith(f"; allowed: {allowed}")
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("compress", ["JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [0, 101, -1, 90.0, "90", True])
def test_a_wrong_quality(compress, quality):
    with pytest.raises(BackendError, match="quality=.*; allowed: whole numbers from 1 to 100"):
        cog(compress=compress, quality=quality)


@pytest.mark.parametrize(("compress", "most"), [("ZSTD", 22), ("DEFLATE", 12)])
@pytest.mark.parametrize("level", [0, -1, 23, 3.0, "3", True])
def test_a_wrong_level(compress, most, level):
    with pytest.raises(BackendError, match=f"level=.*; allowed: whole numbers from 1 to {most}"):
        cog(compress=compress, level=level)


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize(("name", "users"), [("quality", ("JPEG", "WEBP")), ("level", ("ZSTD", "DEFLATE"))])
def test_an_option_that_this_codec_does_not_have(compress, name, users):
    if compress in users:
        assert getattr(cog(compress=compress, **{name: 5}), name) == 5
        return
    with pytest.raises(BackendError, match=f"{name} is for {users[0]} and {users[1]}, not for compress='{compress}'"):
        cog(compress=compress, **{name: 5})


@pytest.mark.parametrize("type_name", ["auto", "zarr", None, 5, ["cog"]], ids=repr)
def test_a_backend_is_a_cog_or_an_npy(type_name):
    with pytest.raises(BackendError, match="allowed: 'cog', 'npy'"):
        Backend(type=type_name)


def test_an_npy_backend_has_no_options():
    for option in ({"compress": "ZSTD"}, {"blocksize": 256}, {"overviews": False}, {"predictor": 2}):
        with pytest.raises(BackendError, match="backend 'npy' has no option"):
            Backend(type="npy", **option)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 30), st.floats(), st.sampled_from([*COMPRESSIONS, "256", "zstd"]), st.text(max_size=3),
    st.lists(st.integers(), max_size=2), st.sampled_from([16, 256, 512, 90]),
)  # fmt: skip
options = st.sampled_from(["compress", "blocksize", "predictor", "quality", "level", "overviews", "tiling", "type"])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["auto", "cog", "npy", None, "zarr"]), st.dictionaries(options, values, max_size=3))
def test_any_config_is_a_backend_or_a_backend_error(type_name, config):
    try:
        backend = coerce_backend({"type": type_name, "config": config})
    except BackendError:
        return
    if backend is None:
        return
    again = Backend(**backend.to_dict())
    assert again == backend
    if type_name == "auto":
        assert all(backend.is_lossless_for(np.dtype(dtype), bands) for dtype in DTYPES for bands in BAND_COUNTS)


# -- codecs -------------------------------------------------------------------------------------------------------


def can_hold(compress: str, dtype: np.dtype, band_count: int) -> bool:
    """By the definition of each codec, independent of the package."""
    return {
        "JPEG": dtype == "u1" and band_count in (1, 3),  # YCbCr or gray, 8 bits
        "WEBP": dtype == "u1" and band_count in (3, 4),  # RGB or RGBA, 8 bits
        # integers up to 32 bits; no floats, whose nan it keeps in a mask for all bands at once
        "LERC": dtype.kind in "iu" and dtype.itemsize <= 4,
    }.get(compress, True)


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_codec_is_picked_that_cannot_hold_the_pixels(compress, dtype):
    for predictor in ("AUTO", "NO", "STANDARD", "FLOATING_POINT"):
        backend = Backend(type="cog", compress=compress, predictor=predictor)
        for order in "<>":
            for band_count in BAND_COUNTS:
                stored = np.dtype(dtype).newbyteorder(order)
                codec = backend.codec_for(stored, band_count)
                expected = "ZSTD" if compress == "AUTO" or not can_hold(compress, stored, band_count) else compress
                assert codec.compress == expected
                assert codec.predictor in _possible_predictors(codec.compress, stored)
                if predictor in ("AUTO", "NO"):
                    assert codec.predictor == "NO"
                assert backend.is_lossless_for(stored, band_count) == (codec.compress not in ("JPEG", "WEBP"))


def _possible_predictors(compress: str, dtype: np.dtype) -> set[str]:
    if compress not in ("ZSTD", "DEFLATE", "LZW") or dtype.kind in "bc":
        return {"NO"}
    return {"NO", "FLOATING_POINT"} if dtype.kind == "f" else {"NO", "STANDARD"}


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("predictor", ["NO", "STANDARD", "FLOATING_POINT"])
def test_every_codec_that_is_picked_does_encode(compress, dtype, predictor):
    for band_count in (1, 3, 4):
        codec = Backend(type="cog", compress=compress, predictor=predictor).codec_for(np.dtype(dtype), band_count)
        tile = np.arange(32 * 32 * band_count).reshape(32, 32, band_count).astype(dtype)
        assert len(encode_tile(tile, codec)) > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("band_count", [1, 2, 3])
def test_who_asks_for_lerc_gets_every_nan_back(tmp_path, dtype, band_count):
    """LERC cannot store them: its mask is about pixels, not samples, and not every reader applies it."""
    pixels = np.random.default_rng(0).random((70, 80, band_count)).astype(dtype)
    pixels[7, 3, 0] = pixels[33, :, -1] = pixels[32:64, 32:64] = np.nan
    pixels[1, 1:5, 0] = (np.inf, -np.inf, -0.0, np.finfo(dtype).min)
    np.save(tmp_path / "a.npy", pixels)
    backend = {"type": "cog", "config": {"compress": "LERC", "blocksize": 32}}
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=backend)
    got = frames.load_region("a")
    assert got.dtype == pixels.dtype
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize("spec", ["auto", "cog", "npy", {"type": "auto"}, {"type": "auto", "config": {"predictor": 2}}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_auto_is_lossless_always(spec, dtype):
    assert all(coerce_backend(spec).is_lossless_for(np.dtype(dtype), band_count) for band_count in BAND_COUNTS)


@pytest.mark.parametrize("quality", [1, 90, 99, 100])
def test_a_webp_of_100_is_the_only_lossless_one(quality):
    assert cog(compress="WEBP", quality=quality).is_lossless_for(np.dtype("uint8"), 3) == (quality == 100)
    assert not cog(compress="JPEG", quality=quality).is_lossless_for(np.dtype("uint8"), 3)
    fallen_back = cog(compress="JPEG", quality=quality).codec_for(np.dtype("uint16"), 3)
    assert fallen_back == TileCodec(compress="ZSTD", predictor="NO", quality=0, level=-1)
    assert fallen_back.is_lossless


@pytest.mark.parametrize(
    ("dtype", "band_count", "expected"),
    [
        ("uint8", 3, 128),
        ("float64", 8, 128),
        ("float64", 9, 64),
        ("float64", 33, 32),
        ("complex128", 200, 32),
        ("float64", 5000, 32),
    ],
)
def test_tiles_of_fat_pixels_are_smaller(dtype, band_count, expected):
    assert cog().tile_extent_for(np.dtype(dtype), band_count) == expected
    assert cog(blocksize=512).tile_extent_for(np.dtype(dtype), band_count) == 512


# -- values -------------------------------------------------------------------------------------------------------


def test_suffixes():
    assert coerce_backend("npy").suffix == ".npy"
    assert coerce_backend("cog").suffix == ".tif"


@pytest.mark.parametrize(
    "again", [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy, dataclasses.replace]
)
def test_a_backend_is_a_value(again):
    backend = cog(compress="DEFLATE", level=9, blocksize=64, predictor="YES", overviews=False)
    other = again(backend)
    assert other == backend
    assert hash(other) == hash(backend)
    assert len({backend, other, cog()}) == 2
    assert backend.to_dict() == {
        "type": "cog", "compress": "DEFLATE", "blocksize": 64, "predictor": "STANDARD", "quality": None, "level": 9, "blockframes": None,
        "overviews": False,
    }  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        backend.level = 3
