"""Words and pictures: what is said of a map is so, and pixels come out as the formula says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndframes.geometry.affine import decompose_affine, describe_affine
from ndframes.pixels.pictures import (
    BLUE,
    GREEN,
    MAGENTA,
    RED,
    WHITE,
    Band,
    checkerboard,
    compose_bands,
    find_stretch_limits,
)

parts = st.floats(-3, 3).filter(lambda value: abs(value) > 0.05)


@given(scale_y=parts, scale_x=parts, shear=st.floats(-2, 2), degrees=st.floats(-179, 179), y=parts, x=parts)
def test_the_parts_of_a_map_make_it_up(scale_y, scale_x, shear, degrees, y, x):
    angle = np.radians(-degrees)  # y points down
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([abs(scale_x), scale_y])
    matrix[:2, 2] = x, y
    found = decompose_affine(matrix)
    np.testing.assert_allclose(found["scale"], (scale_y, abs(scale_x)))
    np.testing.assert_allclose([found["shear"], found["rotate_degrees"]], [shear, degrees], atol=1e-9)
    assert found["offset"] == (y, x)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "as it is"),
        ([[4, 0, 0], [0, 2, 0], [0, 0, 1]], "times 2, 4"),
        ([[1, 0, 0], [0, -1, 30], [0, 0, 1]], "mirrored, moved by 30, 0"),
        ([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], "turned by 90 degrees"),
        ([[0.5, 0.25, 0], [0, 0.5, 0], [0, 0, 1]], "times 0.5, sheared by 0.5"),
    ],
)
def test_a_map_in_words(matrix, words):
    assert describe_affine(np.array(matrix)) == words


def test_limits_are_percentiles_of_what_is_there():
    values = np.arange(1000, dtype=np.int16).reshape(10, 100)
    missing = values >= 500
    assert find_stretch_limits(values, missing, (10, 90)) == tuple(np.percentile(np.arange(500), (10, 90)))
    assert find_stretch_limits(values, np.ones_like(missing)) == (0, 1)
    assert find_stretch_limits(np.array([np.nan, np.inf, 3, 4]), percentiles=(0, 100)) == (3, 4)


def test_bands_add_up_in_their_colours():
    pixels = np.array([[[0, 10], [5, 10], [10, 0], [20, 20]]], np.uint8)
    picture = compose_bands(pixels, np.zeros(pixels.shape, bool), [Band("a", MAGENTA, 0, 10), Band("b", GREEN, 0, 10)])
    assert picture[0].tolist() == [[0, 255, 0], [128, 255, 128], [255, 0, 255], [255, 255, 255]]


def test_bytes_come_out_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    bands = [Band(code, colour, 0, 255) for code, colour in zip("rgb", (RED, GREEN, BLUE), strict=True)]
    np.testing.assert_array_equal(compose_bands(pixels, np.zeros(pixels.shape, bool), bands), pixels, strict=True)


def test_where_one_channel_is_missing_the_others_are_shown_and_where_all_are_a_checkerboard():
    pixels = np.full((20, 20, 2), 10, np.float32)
    missing = np.zeros(pixels.shape, bool)
    missing[:5, :, 0] = True
    missing[:10, :, 1] = True
    pixels[-1, -1] = np.nan
    picture = compose_bands(pixels, missing, [Band("a", MAGENTA, 0, 10), Band("b", GREEN, 0, 10)])
    np.testing.assert_array_equal(picture[:5], checkerboard(20, 20)[:5])
    assert (picture[5:10] == MAGENTA).all()
    assert (picture[10:19] == WHITE).all()
    np.testing.assert_array_equal(picture[-1, -1], checkerboard(20, 20)[-1, -1])


def test_infinities_are_the_ends():
    pixels = np.array([[[-np.inf], [np.inf]]])
    assert compose_bands(pixels, np.zeros(pixels.shape, bool), [Band("a", WHITE, 0, 1)])[0, :, 0].tolist() == [0, 255]
