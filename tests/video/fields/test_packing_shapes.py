"""Packed fields of shapes whose sums are taken in different ways: rows and columns of one number up to wide ones."""

from __future__ import annotations

import numpy as np
import pytest

from ndframes.errors import MovieError
from ndframes.video.fields.packing import pack, unpack

_SHAPES = [(1, 1), (1, 600), (600, 1), (5, 511), (5, 512), (2, 513), (130, 700), (700, 130)]


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "u4", "i8", "f2", "f4", "f8"])
def test_fields_come_back(shape, dtype):
    random = np.random.default_rng(5)
    rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])
    for field in (
        np.zeros(shape),
        np.full(shape, 3),
        rows + cols,  # differences are taken once
        np.sin(rows / 40) * np.cos(cols / 30) * 100,  # twice
        random.normal(size=shape) * 50,  # not at all
    ):
        given = field.astype(dtype)
        again = unpack(pack(given), shape, given.dtype)
        assert again.dtype == given.dtype
        assert again.tobytes() == given.tobytes()


def test_planes_of_another_length_are_damage():
    packed = pack(np.arange(600, dtype=np.uint32).reshape(20, 30))
    for shape in ((20, 31), (19, 30)):
        with pytest.raises(MovieError, match="damaged"):
            unpack(packed, shape, np.dtype("u4"))
    with pytest.raises(MovieError, match="damaged"):
        unpack(packed, (20, 30), np.dtype("u8"))
