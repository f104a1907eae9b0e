"""Pictures of every shape are encoded: FFmpeg refuses some numbers of slices for some shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import ndframes as nf

_HEIGHTS, _WIDTHS = (1, 2, 3, 288, 289, 600), (1, 2, 3, 352, 353, 600)
_LONG = ((1, 100_000), (100_000, 1), (100_000, 2))


@pytest.mark.parametrize("shape", [*itertools.product(_HEIGHTS, _WIDTHS), *_LONG], ids=str)
def test_fields_of_every_shape_come_back(tmp_path, shape):
    rng = np.random.default_rng(1)
    for bands in (1, 2, 5):
        field = rng.integers(0, 2**16, (*shape, bands)).astype(np.uint16)
        with nf.MovieStorage(tmp_path / "a.mkv", mode="w") as movie:
            movie.append(field)
        with nf.MovieStorage(tmp_path / "a.mkv", mode="a") as movie:
            movie.append(field[::-1])
        movie = nf.MovieStorage(tmp_path / "a.mkv")
        np.testing.assert_array_equal(movie[...], [field, field[::-1]])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6000, 5000), (9000, 9000)], ids=str)
def test_large_fields_come_back(tmp_path, shape):
    field = (np.arange(shape[0])[:, None] * 3 + np.arange(shape[1])).astype(np.uint16)
    with nf.MovieStorage(tmp_path / "a.mkv", mode="w") as movie:
        movie.append(field)
    np.testing.assert_array_equal(nf.MovieStorage(tmp_path / "a.mkv")[0], field)
