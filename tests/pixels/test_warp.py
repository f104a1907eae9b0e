"""Resampling: against closed formulas, against Pillow in floats, and crops against the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.synthetic import DTYPES, picture
from PIL import Image

import ndframes as nf
from ndframes.geometry.grid import Grid, Sampling
from ndframes.pixels.stencils import resample
from ndframes.pixels.warp import WindowedArray, warp


def over(extent: int, count: int) -> Sampling:
    """``count`` pixels over a whole axis of ``extent``."""
    return Sampling(0.0, extent / count, count)


def centres(sampling: Sampling) -> np.ndarray:
    return sampling.start + (np.arange(sampling.count) + 0.5) * sampling.step


samplings = st.builds(
    Sampling, st.floats(-20, 60), st.floats(0.05, 9) | st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.integers(1, 40)
)


@settings(max_examples=150, deadline=None)
@given(samplings, samplings, st.booleans())
def test_a_constant_stays_what_it_is(rows, cols, antialias):
    """Also at the border, because points outside use the nearest pixel."""
    for value, dtype in ((201, np.uint8), (-5, np.int16), (0.1, np.float64), (True, bool)):
        pixels = np.full((50, 40, 2), value, dtype)
        got = resample(pixels, rows, cols, "linear", antialias=antialias)
        assert got.shape == (rows.count, cols.count, 2)
        np.testing.assert_allclose(got, value, rtol=1e-12)


@settings(max_examples=150, deadline=None)
@given(st.floats(20, 50), st.floats(0.1, 4), st.integers(1, 10), st.booleans())
def test_a_plane_is_sampled_exactly(start, step, count, antialias):
    """Away from the border, the symmetric weighted mean around a point is the value of the plane there.

    A triangle whose radius is no whole number of pixels is not quite even, in every library that works by it.
    """
    step = max(1.0, round(step)) if antialias and step > 1 else step
    y, x = np.mgrid[:120, :110] + 0.5
    plane = (3 * y - 7 * x + 11)[:, :, None]
    rows, cols = Sampling(start, step, count), Sampling(start + 0.37, step, count)
    got = resample(plane, rows, cols, "linear", antialias=antialias)[:, :, 0]
    np.testing.assert_allclose(got, 3 * centres(rows)[:, None] - 7 * centres(cols) + 11, atol=1e-8)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (30, 41), (60, 82), (61, 200), (1, 1)])
def test_shrinking_and_growing_as_pillow_does(height, width):
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(60, 82, 1)).astype(np.float32)
    wanted = np.asarray(Image.fromarray(pixels[:, :, 0], "F").resize((width, height), Image.Resampling.BILINEAR))
    rows, cols = over(60, height), over(82, width)
    got = resample(pixels.astype(np.float64), rows, cols, "linear", antialias=True)[:, :, 0]
    # at its border Pillow takes the mean of what is there; here the border's pixels go on outside
    inner = np.ix_(
        *(
            (c > max(1, s.step)) & (c < n - max(1, s.step))
            for c, s, n in ((centres(rows), rows, 60), (centres(cols), cols, 82))
        )
    )
    np.testing.assert_allclose(got[inner], wanted[inner], atol=2e-6)
    assert got[inner].size or (height, width) in ((1, 1), (5, 7))


@settings(max_examples=150, deadline=None)
@given(samplings, samplings, st.sampled_from(["nearest", "linear"]), st.booleans())
def test_only_the_footprint_is_looked_at(rows, cols, interpolation, antialias):
    pixels = picture((50, 40, 3), "uint16")
    whole = resample(pixels, rows, cols, interpolation, antialias=antialias)
    window_rows = rows.footprint(50, interpolation, antialias=antialias)
    window_cols = cols.footprint(40, interpolation, antialias=antialias)
    window = pixels[window_rows.start : window_rows.stop, window_cols.start : window_cols.stop]
    got = resample(
        window,
        rows.rescaled(1, window_rows.start),
        cols.rescaled(1, window_cols.start),
        interpolation,
        antialias=antialias,
    )
    np.testing.assert_array_equal(got, whole)


@settings(max_examples=100, deadline=None)
@given(samplings, samplings)
def test_nearest_takes_the_pixel_that_holds_the_centre(rows, cols):
    pixels = picture((50, 40, 2), "int32")
    y = np.floor(centres(rows)).clip(0, 49).astype(int)
    x = np.floor(centres(cols)).clip(0, 39).astype(int)
    sure = np.ix_(*(np.abs(c - np.round(c)) > 1e-6 for c in (centres(rows), centres(cols))))
    got = resample(pixels, rows, cols, "nearest", antialias=True)
    np.testing.assert_array_equal(got[sure], pixels[np.ix_(y, x)][sure])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_whole_shifts_change_no_bit(dtype, interpolation):
    pixels = picture((20, 30, 2), dtype)
    got = resample(pixels, Sampling(3, 1, 9), Sampling(5.0, 1.0, 20), interpolation, antialias=True)
    assert got.dtype == pixels.dtype
    np.testing.assert_array_equal(got, pixels[3:12, 5:25])
    got[...] = 0  # a copy
    assert pixels[3:12, 5:25].any()


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint32", "int8"])
def test_the_ends_of_the_integers_survive(dtype):
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max):
        pixels = np.full((8, 8, 1), value, dtype)
        got = resample(pixels, over(8, 3), over(8, 5), "linear", antialias=True)
        assert (got == value).all() or abs(int(got[0, 0, 0]) - value) <= 1 << 11  # float64 has 53 bits
        assert (got >= 0).all() == (value >= 0)


def test_integers_round_to_the_nearest_halves_to_even():
    pixels = np.array([[0, 1], [1, 2], [-1, -2], [3, 2], [7, 9]], np.int16).reshape(5, 2, 1)
    got = resample(pixels, over(5, 5), over(2, 1), "linear", antialias=True)
    assert got[:, 0, 0].tolist() == [0, 2, -2, 2, 8]


def test_not_a_number_stays_where_it_is():
    pixels = np.ones((9, 9, 1), np.float32)
    pixels[4, 4] = np.nan
    got = resample(pixels, over(9, 9), Sampling(0.25, 1, 8), "linear", antialias=True)[:, :, 0]
    assert np.argwhere(np.isnan(got)).tolist() == [[4, 3], [4, 4]]


@pytest.mark.parametrize("factor", [1e5, 1e9, 1e12])
def test_a_sheared_pixel_that_covers_far_more_than_the_array_is_refused(factor):
    """Its kernel would take time and memory in proportion to the factor."""
    src = WindowedArray.of(picture((40, 60, 1), "uint8"))
    for grid in (Grid((factor, -factor, 0, 0, 1, 0), (64, 64)), Grid((1, 0, 0, factor, -factor, 0), (64, 64))):
        with pytest.raises(nf.RegionError, match=r"covers .* pixels \(y, x\) of an array of 40 x 60"):
            list(warp(src, grid, "linear", antialias=True))
        # Without a kernel that grows, it costs no more than others.
        assert list(warp(src, grid, "linear", antialias=False))


def test_a_pixel_that_covers_a_small_array_many_times_is_read():
    src = WindowedArray.of(np.full((2, 3, 1), 7, np.uint8))
    (block,) = warp(src, Grid((2000, 0, -999, 0, 3000, -1499), (1, 1)), "linear", antialias=True)
    assert block.pixels.tolist() == [[[7]]]
