"""Areas hold exactly the pixels whose centres lie in one of the polygons."""

from __future__ import annotations

import kwimage
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

import ndframes as nf
from ndframes.feed.areas import Area, parse_areas

HEIGHT, WIDTH = 12, 17
corner = st.integers(-12, 80).map(lambda quarter: quarter / 4 + 0.125)


def mask_of(area):
    mask = np.zeros((HEIGHT, WIDTH), int)
    for row, start, stop in zip(area.rows, area.starts, area.stops, strict=True):
        mask[row, start:stop] += 1
    assert mask.max(initial=0) <= 1, "runs overlap"
    return mask.astype(bool)


def centres_in(shape):
    return np.array(
        [[shape.contains(shapely.Point(x + 0.5, y + 0.5)) for x in range(WIDTH)] for y in range(HEIGHT)], bool
    )


@given(st.lists(st.lists(st.tuples(corner, corner), min_size=3, max_size=3), min_size=1, max_size=4))
def test_triangles_hold_the_centres_that_shapely_says(triangles):
    polygons = [shapely.Polygon(triangle) for triangle in triangles]
    area = Area.of([np.array(triangle) for triangle in triangles], HEIGHT, WIDTH)
    found, wanted = mask_of(area), np.any([centres_in(polygon) for polygon in polygons], axis=0)
    for y, x in np.argwhere(found != wanted):
        # A centre on an edge may be in or out.
        assert min(polygon.exterior.distance(shapely.Point(x + 0.5, y + 0.5)) for polygon in polygons) < 1e-9
    assert area.pixel_count == found.sum()


def test_holes_are_left_out():
    ring = shapely.Polygon([(1, 1), (15, 1), (15, 11), (1, 11)], [[(4, 4), (10, 4), (10, 8), (4, 8)]])
    np.testing.assert_array_equal(mask_of(Area.of(ring, HEIGHT, WIDTH)), centres_in(ring))
    np.testing.assert_array_equal(mask_of(Area.of(kwimage.Polygon.from_shapely(ring), HEIGHT, WIDTH)), centres_in(ring))


@pytest.mark.parametrize(
    "box",
    [
        (2, 3, 7, 5),
        np.array([[2.0, 3.0, 7.0, 5.0]]),
        np.s_[3:5, 2:7],
        shapely.box(2, 3, 7, 5),
        kwimage.Boxes([[2, 3, 5, 2]], "xywh"),
        [(2, 3, 4, 5), (4, 3, 7, 5)],
        [[(2, 3), (7, 3), (7, 5), (2, 5)]],
        [shapely.MultiPolygon([shapely.box(2, 3, 4, 5), shapely.box(4, 3, 7, 5)])],
    ],
    ids=lambda box: type(box).__name__,
)
def test_a_box_is_given_in_many_ways(box):
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[3:5, 2:7] = True
    np.testing.assert_array_equal(mask_of(Area.of(box, HEIGHT, WIDTH)), wanted)


def test_what_lies_outside_is_cut_off():
    area = Area.of((-100, -100, 1e9, 2), HEIGHT, WIDTH)
    assert mask_of(area).sum() == 2 * WIDTH
    assert Area.of((50, 50, 60, 60), HEIGHT, WIDTH).pixel_count == 0
    assert Area.of([], HEIGHT, WIDTH).pixel_count == 0


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=6), st.data())
def test_counts_in_columns_are_those_of_the_mask(boxes, data):
    area = Area.of([box for box in boxes if box[0] < box[2] and box[1] < box[3]], HEIGHT, WIDTH)
    mask = mask_of(area)
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, HEIGHT)] * 2)))
    lefts = np.arange(0, WIDTH - 4)
    counts = area.count_in_columns(top, bottom, lefts, lefts + 4)
    assert counts.tolist() == [mask[top:bottom, left : left + 4].sum() for left in lefts]
    clipped = area.clipped(top, bottom, 3, 9)
    window = np.zeros_like(mask)
    window[top:bottom, 3:9] = mask[top:bottom, 3:9]
    np.testing.assert_array_equal(mask_of(clipped), window)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("POLYGON", "not a polygon or a box"),
        (7, "not a polygon or a box"),
        ({"a": 1}, "not a polygon or a box"),
        ((0, 0, np.nan, 3), "finite"),
        ([(0, 0, 3, 3), (9, 2, 4, 5)], r"the box \[9.0, 2.0, 4.0, 5.0\] is inverted"),
        ((2, 9, 5, 4), "inverted"),
        (np.s_[5:2, 0:3], "inverted"),
        (np.array([(0, 0), (np.inf, 3), (1, 1)]), "finite"),
        (shapely.Point(1, 1), "Point covers no pixels"),
        ([1, 2, 3], "not a polygon or a box"),
    ],
)
def test_other_shapes_are_errors_that_name_the_image(shapes, message):
    with pytest.raises(nf.PatchError, match=message) as caught:
        parse_areas({"scene": shapes}, {"scene": (HEIGHT, WIDTH)})
    assert "scene" in str(caught.value)


def test_an_unknown_image_is_an_error():
    with pytest.raises(nf.PatchError, match="'typo'"):
        parse_areas({"typo": (0, 0, 1, 1)}, {"scene": (HEIGHT, WIDTH)})
    with pytest.raises(nf.PatchError, match="mapping"):
        parse_areas([(0, 0, 1, 1)], {"scene": (HEIGHT, WIDTH)})
