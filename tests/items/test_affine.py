"""Warping by any affine map: compared with closed formulas, with a sum over all pixels, and crops with the whole."""

from __future__ import annotations

import itertools
import math
import threading
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.synthetic import DTYPES
from kit.waiting import wait_until
from kit.warping import check_close, finite_picture

from ndframes.geometry.grid import Grid
from ndframes.geometry.kernels import INTERPOLATIONS
from ndframes.pixels.warp import WindowedArray, warp

_SMOOTH = ("linear", "cubic", "lanczos")


def warp_all(pixels: np.ndarray, grid: Grid, interpolation: str, *, antialias: bool = True, missing=None):
    """The whole result in one array, and a mask of the pixels that are missing in it."""
    plane = WindowedArray.of(pixels)
    if missing is not None:
        plane = plane._replace(
            read=lambda rows, cols: (
                pixels[rows.start : rows.stop, cols.start : cols.stop],
                missing[rows.start : rows.stop, cols.start : cols.stop],
            )
        )
    out = np.full((*grid.shape, pixels.shape[2]), 77, pixels.dtype)
    gone = np.ones(out.shape, bool)
    for block in warp(plane, grid, interpolation, antialias=antialias):
        if block.pixels is None:
            continue
        out[block.rows, block.cols] = block.pixels
        gone[block.rows, block.cols] = False if block.missing is None else block.missing
        if block.inside is not True:
            gone[block.rows, block.cols][~block.inside] = True
    return out, gone


def rotation(degrees: float, scale: float, centre: tuple[float, float], shape: tuple[int, int]) -> Grid:
    """A grid rotated about a point of the array; a ``scale`` above 1 shrinks."""
    cos, sin = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    half_x, half_y = shape[1] / 2, shape[0] / 2
    return Grid(
        (cos, -sin, centre[0] - cos * half_x + sin * half_y, sin, cos, centre[1] - sin * half_x - cos * half_y), shape
    )


def points(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The y and x of the centre of each pixel, by definition."""
    a, b, c, d, e, f = grid.src_from_out
    x, y = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    return d * x + e * y + f, a * x + b * y + c


def kernel(name: str, distance: np.ndarray) -> np.ndarray:
    distance = np.abs(distance)
    if name == "linear":
        return np.maximum(0, 1 - distance)
    if name == "lanczos":
        return np.where(distance < 4, np.sinc(distance) * np.sinc(distance / 4), 0)
    a = -0.5
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def sum_over_all(pixels: np.ndarray, grid: Grid, interpolation: str) -> np.ndarray:
    """The sum over all pixels of a padded array, weighted for every point: slow, and without windows."""
    margin = 60
    padded = np.pad(pixels[:, :, 0].astype(np.float64), margin, mode="edge")
    y, x = (centres.clip(-40, 100) for centres in points(grid))  # farther out, all pixels are equal
    out = np.empty(grid.shape)
    centres_y, centres_x = (np.arange(extent) - margin + 0.5 for extent in padded.shape)
    for index in np.ndindex(*grid.shape):
        down, across = kernel(interpolation, centres_y - y[index]), kernel(interpolation, centres_x - x[index])
        out[index] = down @ padded @ across / (down.sum() * across.sum())
    return out


grids = st.builds(
    lambda degrees, scale, x, y, height, width, stretch, shear: _sheared(
        rotation(degrees, scale, (x, y), (height, width)), stretch, shear
    ),
    st.floats(-180, 180) | st.sampled_from([0.0, 90.0, 180.0]),
    st.floats(0.1, 4),
    st.floats(10, 50),
    st.floats(10, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.5, 2),
    st.floats(-0.5, 0.5),
)


def _sheared(grid: Grid, stretch: float, shear: float) -> Grid:
    a, b, c, d, e, f = grid.src_from_out
    return Grid((a * stretch, b + shear * a, c, d * stretch, e + shear * d, f), grid.shape)


@settings(max_examples=30, deadline=None)
@given(grids, st.sampled_from(_SMOOTH), st.sampled_from(["uint8", "float32", "float64", "int32"]))
def test_every_point_is_a_sum_weighted_by_the_kernel(grid, interpolation, dtype):
    pixels = finite_picture((50, 60, 1), dtype)
    got, gone = warp_all(pixels, grid, interpolation, antialias=False)
    wanted = sum_over_all(pixels, grid, interpolation)
    sure = ~gone[:, :, 0]
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if pixels.dtype.kind in "ui" else (-np.inf, np.inf)
    slack = {"uint8": 0.501, "int32": 0.51, "float32": 1e-4, "float64": 1e-9}[dtype] * (
        1 if pixels.dtype.kind in "ui" else max(1.0, float(np.abs(pixels).max()))
    )
    assert np.abs(got[:, :, 0].astype(np.float64) - wanted.clip(low, high))[sure].max(initial=0) <= slack


@settings(max_examples=30, deadline=None)
@given(grids)
def test_a_pixel_is_inside_if_its_centre_is(grid):
    y, x = points(grid)
    sure = np.minimum.reduce([np.abs(y), np.abs(x), np.abs(y - 50), np.abs(x - 60)]) > 1e-6
    wanted = (y > 0) & (y < 50) & (x > 0) & (x < 60)
    inside = np.broadcast_to(grid.centres_inside(50, 60), grid.shape)
    np.testing.assert_array_equal(inside[sure], wanted[sure])


@pytest.mark.parametrize("interpolation", _SMOOTH)
@pytest.mark.parametrize("degrees", [0, 30, -100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_plane_stays_a_plane(interpolation, degrees, dtype):
    """Exactly, for kernels of second order and above. Lanczos has no order: it deviates by up to 1 % of the slope."""
    y, x = np.mgrid[:80, :90] + 0.5
    grid = rotation(degrees, 0.37, (45.2, 40.7), (60, 70))
    got, gone = warp_all((3 * y - 7 * x + 11)[..., None].astype(dtype), grid, interpolation)
    assert not gone.any()
    y, x = points(grid)
    slack = {"float32": 3e-4, "float64": 1e-9}[dtype] + (0.15 if interpolation == "lanczos" else 0)
    np.testing.assert_allclose(got[:, :, 0], 3 * y - 7 * x + 11, atol=slack)


@pytest.mark.parametrize("degrees", [0, 30])
def test_cubic_keeps_parabolas(degrees):
    y, x = np.mgrid[:80, :90] + 0.5
    parabola = 0.3 * y**2 - 0.2 * x * y + 0.1 * x**2 - 5 * y
    grid = rotation(degrees, 0.41, (45.2, 40.7), (60, 70))
    got, _ = warp_all(parabola[..., None], grid, "cubic")
    y, x = points(grid)
    np.testing.assert_allclose(got[:, :, 0], 0.3 * y**2 - 0.2 * x * y + 0.1 * x**2 - 5 * y, atol=1e-9)


@pytest.mark.parametrize(("interpolation", "order"), [("nearest", 1), ("linear", 2), ("cubic", 3)])
def test_the_error_falls_with_the_order(interpolation, order):
    """With twice as many pixels per wave, the error is at least about 2, 4 or 8 times smaller."""
    errors = []
    for period in (16, 32, 64):
        y, x = np.mgrid[:200, :200] + 0.5
        wave = np.sin(2 * np.pi * (x + 0.5 * y) / period)
        grid = rotation(20, 0.313, (100.1, 99.7), (120, 120))
        got, _ = warp_all(wave[..., None], grid, interpolation)
        y, x = points(grid)
        errors.append(np.abs(got[:, :, 0] - np.sin(2 * np.pi * (x + 0.5 * y) / period)).max())
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine > 2**order * 0.9


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("scale", [0.13, 0.5, 1.7, 5])
@pytest.mark.parametrize("degrees", [0, 33])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "bool"])
def test_a_constant_is_constant_up_to_the_border(interpolation, scale, degrees, dtype):
    pixels = np.full((40, 50, 2), 1 if dtype == "bool" else 100, dtype)
    got, gone = warp_all(pixels, rotation(degrees, scale, (25, 20), (70, 80)), interpolation)
    np.testing.assert_allclose(got[~gone].astype(np.float64), float(pixels[0, 0, 0]), rtol=1e-6)
    assert (~gone).any()


crops = given(
    grids,
    st.data(),
    st.sampled_from(INTERPOLATIONS),
    st.booleans(),
    st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64", "bool", "int8", "float16"]),
    st.sampled_from([1, 2, 3, 5]),
)


@settings(max_examples=150, deadline=None)
@crops
def test_a_crop_of_the_warped_image_equals_the_warped_crop(grid, data, interpolation, antialias, dtype, bands):
    check_crop(grid, data, interpolation, antialias, dtype, bands)


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None, derandomize=False)
@crops
def test_thousands_of_crops(grid, data, interpolation, antialias, dtype, bands):
    check_crop(grid, data, interpolation, antialias, dtype, bands)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("linear", [(0.7, 0, 0, 1.4), (1 / 3, 0.2, -0.1, 2 / 3), (1.1, 0.5, -0.5, 1.1)])
def test_halves_are_rounded_alike_in_every_crop(dtype, interpolation, linear, antialias):
    """Each pixel alone is the one in the whole, where points lie on borders and means end in .5."""
    pixels = finite_picture((50, 60, 3), dtype)
    if dtype == "int64":
        pixels >>= 32  # so that 64-bit floats hold fractions of their sums
    a, b, d, e = linear
    for shift in (0, 0.5, 0.37):
        grid = Grid((a, b, 20.5 + shift - 7 * a - 3 * b, d, e, 20.5 + shift - 7 * d - 3 * e), (6, 14))
        whole, _ = warp_all(pixels, grid, interpolation, antialias=antialias)
        for top, left in itertools.product(range(6), range(14)):
            crop = grid.crop(range(top, top + 1), range(left, left + 1))
            alone, _ = warp_all(pixels, crop, interpolation, antialias=antialias)
            np.testing.assert_array_equal(alone[0, 0], whole[top, left], err_msg=f"{shift}, {top}, {left}")


@pytest.mark.parametrize(("dtype", "interpolation"), [("float16", "linear"), *(("float32", each) for each in _SMOOTH)])
def test_narrow_floats_are_equal_in_every_crop(dtype, interpolation):
    """To the bit, where a file is stretched to an extent that is no whole multiple of its own."""
    pixels = finite_picture((50, 60, 1), dtype)
    for height, width in ((173, 131), (97, 199), (141, 111)):
        grid = Grid((60 / width, 0, 0, 0, 50 / height, 0), (height, width))
        whole, _ = warp_all(pixels, grid, interpolation)
        for top, left in itertools.product(range(0, height, 17), range(0, width, 23)):
            rows, cols = range(top, min(top + 40, height)), range(left, min(left + 30, width))
            crop, _ = warp_all(pixels, grid.crop(rows, cols), interpolation)
            same = whole[rows.start : rows.stop, cols.start : cols.stop]
            np.testing.assert_array_equal(crop, same, err_msg=f"{height} x {width}: {top}, {left}")


def check_crop(grid, data, interpolation, antialias, dtype, bands):
    pixels = finite_picture((50, 60, bands), dtype)
    whole, whole_gone = warp_all(pixels, grid, interpolation, antialias=antialias)
    top = data.draw(st.integers(0, grid.shape[0] - 1))
    left = data.draw(st.integers(0, grid.shape[1] - 1))
    bottom = data.draw(st.integers(top + 1, grid.shape[0]))
    right = data.draw(st.integers(left + 1, grid.shape[1]))
    crop, gone = warp_all(pixels, grid.crop(range(top, bottom), range(left, right)), interpolation, antialias=antialias)
    same = whole[top:bottom, left:right]
    both = ~(gone | whole_gone[top:bottom, left:right])
    assert (gone != whole_gone[top:bottom, left:right]).mean() <= 0.002
    check_close(crop[both], same[both], interpolation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_only_move_pixels(dtype, interpolation, turns):
    pixels = finite_picture((20, 20, 2), dtype)
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    grid = Grid((cos, -sin, 10 - 10 * cos + 10 * sin, sin, cos, 10 - 10 * sin - 10 * cos), (20, 20))
    got, gone = warp_all(pixels, grid, interpolation)
    assert not gone.any()
    wanted = np.rot90(pixels, turns)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("interpolation", _SMOOTH)
@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("scale", [0.3, 2.6])
def test_missing_pixels_have_no_weight(interpolation, degrees, scale):
    """Data that is constant stays constant next to holes with a very different nodata value."""
    rng = np.random.default_rng(0)
    missing = np.zeros((60, 70, 1), bool)
    missing[20:30, 15:40] = True
    missing |= rng.random(missing.shape) < 0.02
    for dtype, hole in (("int16", -9999), ("float32", np.nan), ("float64", -1e30)):
        pixels = np.where(missing, hole, 50).astype(dtype)
        shape = (60, 60) if scale < 1 else (20, 20)
        got, gone = warp_all(pixels, rotation(degrees, scale, (35, 30), shape), interpolation, missing=missing)
        assert 0 < gone.mean() < 0.7
        np.testing.assert_allclose(got[~gone].astype(np.float64), 50, rtol=1e-5)


def test_nan_spreads_by_half_a_pixel_at_most():
    pixels = np.ones((9, 9, 1), np.float32)
    pixels[4, 4] = np.nan
    got, _ = warp_all(pixels, Grid((0.25, 0, 0, 0, 0.25, 0), (36, 36)), "linear")
    gone = np.argwhere(np.isnan(got[:, :, 0]))
    assert gone.min() >= 14
    assert gone.max() <= 21
    assert 4 <= len(gone) <= 16
    assert (got[~np.isnan(got)] == 1).all()


def test_blocks_are_small_where_the_window_is_large():
    pixels = finite_picture((300, 400, 3), "uint8")
    grid = rotation(40, 2.5, (200, 150), (100, 120))
    reads = []

    def read(rows, cols):
        reads.append(len(rows) * len(cols) * 3)
        return pixels[rows.start : rows.stop, cols.start : cols.stop], None

    plane = WindowedArray.of(pixels)._replace(read=read)
    out = np.zeros((100, 120, 3), np.uint8)
    for block in warp(plane, grid, "linear", antialias=True, max_window_bytes=20_000):
        if block.pixels is not None:
            out[block.rows, block.cols] = block.pixels
    assert len(reads) > 4
    assert max(reads) < 4 * 20_000
    whole, gone = warp_all(pixels, grid, "linear")
    check_close(out[~gone], whole[~gone], "linear")


def test_no_thread_is_started():
    pixels = finite_picture((1500, 1500, 3), "float32")
    before = _count_threads()
    counts = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            counts.append(_count_threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for degrees in (0, 30):
            # Until the watcher has counted during a warp, however seldom it runs on a busy machine.
            grid = rotation(degrees, 0.9, (750, 750), (1200, 1200))
            wait_until(partial(_warp_while_counting, pixels, grid, counts))
    finally:
        stop.set()
        watcher.join()
    assert max(counts) <= before + 1


def _warp_while_counting(pixels: np.ndarray, grid: Grid, counts: list[int]) -> bool:
    """Warp once; whether threads were counted meanwhile."""
    counted = len(counts)
    warp_all(pixels, grid, "linear")
    return len(counts) > counted


def _count_threads() -> int:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("Threads")).split()[1])
