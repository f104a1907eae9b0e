"""Packing of fields: bit for bit, any dtype, any bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from ndframes.errors import MovieError
from ndframes.video.fields.packing import pack, unpack

DTYPES = ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
FLOATS = ("f4", "f8")


def check(field: np.ndarray) -> bytes:
    packed = pack(field)
    again = unpack(packed, field.shape, field.dtype)
    assert again.dtype == field.dtype
    assert again.shape == field.shape
    assert again.tobytes() == field.tobytes()
    return packed


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_array_is_the_same_afterwards(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(stn.array_shapes(min_dims=2, max_dims=2, max_side=9))
    check(data.draw(stn.arrays(dtype, shape)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (47, 131)])
def test_random_bits_are_the_same_afterwards(dtype, shape):
    random = np.random.default_rng(5)
    item = np.dtype(dtype).itemsize
    field = random.integers(0, 2 if dtype == "bool" else 256, (*shape, item), dtype=np.uint8).view(dtype)[..., 0]
    check(np.ascontiguousarray(field))


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_floats_among_usual_ones(dtype):
    random = np.random.default_rng(3)
    limits = np.finfo(dtype)
    special = [0.0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, np.inf, -np.inf, np.nan]  # fmt: skip
    usual = random.standard_normal((40, 50)).astype(dtype)
    for value in special:
        field = usual.copy()
        field[random.random(field.shape) < 0.05] = value
        check(field)
        check(np.full((5, 7), value, dtype))
        alone = usual.copy()
        alone[7, 9] = value
        check(alone)


@pytest.mark.parametrize("dtype", FLOATS)
def test_payloads_of_nan_are_kept(dtype):
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    bits = np.array([[np.nan, -np.nan, 1.5]], dtype).view(unsigned)
    field = (bits | unsigned.type(0x1235)).view(dtype)
    check(field)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [-300, -125, -96, -95, -40, 0, 40, 100, 126, 300])
def test_every_order_of_magnitude(dtype, scale):
    random = np.random.default_rng(scale & 0xFF)
    wide = random.standard_normal((30, 40)) * 2.0 ** random.integers(-30, 1, (30, 40))
    with np.errstate(over="ignore", under="ignore"):
        check((wide * 2.0**scale).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_smooth_fields_take_less_room_than_by_shuffled_bytes(dtype):
    import zstandard

    y, x = np.mgrid[0:256, 0:256] / 9
    for field in (np.sin(x) * np.cos(1.1 * y), 5 + np.sin(x + np.sqrt(2) * y), np.exp(-np.hypot(x - 14, y - 13))):
        values = field.astype(dtype)
        planes = values.view(np.uint8).reshape(-1, values.itemsize).T
        shuffled = sum(len(zstandard.compress(plane.tobytes(), 5)) for plane in planes)
        assert len(check(values)) < 0.85 * shuffled


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_each_damaged_bit_is_an_error(data):
    field = np.random.default_rng(1).standard_normal((8, 9)).astype("f4")
    packed = bytearray(pack(field))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MovieError, match="damaged"):
        unpack(bytes(packed), field.shape, field.dtype)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 11, 12, 40, 100])
def test_what_is_cut_off_is_an_error(length):
    field = np.random.default_rng(1).standard_normal((8, 9)).astype("f4")
    packed = pack(field)
    assert length < len(packed)
    with pytest.raises(MovieError, match="damaged"):
        unpack(packed[:length], field.shape, field.dtype)
