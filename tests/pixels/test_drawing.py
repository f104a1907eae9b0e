"""Marks and legends: each at its pixels, and none over another."""

from __future__ import annotations

import numpy as np
import pytest

from ndframes.pixels import drawing
from ndframes.pixels.drawing import (
    Legend,
    LegendEntry,
    Mark,
    draw_legend,
    draw_marks,
    scale_bar_length,
)

RED = (255, 0, 0)


@pytest.fixture
def gray():
    return np.full((120, 160, 3), 90, np.uint8)


def where(picture, colour=RED):
    """The bounding box of all pixels of a colour: top, left, bottom, right."""
    rows, cols = np.nonzero((picture == colour).all(axis=2))
    return rows.min(), cols.min(), rows.max() + 1, cols.max() + 1


def test_a_box_lies_along_its_edges(gray):
    drawn = draw_marks(gray, [Mark(RED, box=(30, 20, 100, 90))])
    assert where(drawn) == (19, 29, 91, 101)
    assert (drawn[19:21, 31:99] == RED).all()
    assert (drawn[23:87, 33:97] == 90).all()
    assert (drawn[:16] == 90).all()
    assert (gray == 90).all()


def test_a_polygon_is_tinted_inside_and_not_in_its_holes(gray):
    outer = ((20, 20), (100, 20), (100, 100), (20, 100))
    hole = ((50, 50), (70, 50), (70, 70), (50, 70))
    drawn = draw_marks(gray, [Mark(RED, polygons=((outer, hole),))])
    inside = np.array([90 + (255 - 90) * 56 / 255, 90 * (1 - 56 / 255), 90 * (1 - 56 / 255)])
    np.testing.assert_allclose(drawn[35, 35], inside, atol=2)
    assert (drawn[55:65, 55:65] == 90).all()
    assert (drawn[110:, 110:] == 90).all()


def test_a_point(gray):
    drawn = draw_marks(gray, [Mark(RED, points=((80, 60),))])
    top, left, bottom, right = where(drawn)
    assert (top + bottom, left + right) == pytest.approx((120, 160), abs=1)
    assert 7 <= bottom - top <= 9


def test_marks_outside_are_cut_off(gray):
    marks = [
        Mark(RED, box=(-1e9, -1e9, 1e9, 1e9), label="all"),
        Mark(RED, polygons=((((-500, -500), (-400, -500), (-400, -400)),),), label="away"),
        Mark(RED, polygons=((((-50, 60), (50, -50), (50, 170)),),)),
    ]
    assert [mark.bounds((120, 160)) is None for mark in marks] == [False, True, False]
    drawn = draw_marks(gray, marks)
    assert drawn.shape == gray.shape
    assert (drawn[40:80, 100:] == 90).all()


def test_nothing_marked_changes_nothing(gray):
    drawn = draw_marks(gray, [])
    assert drawn is not gray
    np.testing.assert_array_equal(drawn, gray)


def test_no_label_covers_another():
    places = []
    taken = np.zeros((300, 300), int)
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, top = rng.uniform(-20, 280, 2)
        reach = max(0, left), max(0, top), min(300, left + 60), min(300, top + 60)
        place = next(
            (
                box
                for box in drawing._places(reach, (50, 19), (300, 300))
                if not any(drawing._meet(box, p) for p in places)
            ),
            None,
        )
        if place is not None:
            places.append(place)
            taken[place[1] : place[3], place[0] : place[2]] += 1
            assert 0 <= place[0] < place[2] <= 300
            assert 0 <= place[1] < place[3] <= 300
    assert taken.max() == 1
    assert len(places) > 20


def test_a_label_stands_on_its_box(gray):
    bare = draw_marks(gray, [Mark(RED, box=(30, 60, 130, 100))])
    drawn = draw_marks(gray, [Mark(RED, box=(30, 60, 130, 100), label="coffee")])
    rows, cols = np.nonzero((bare != drawn).any(axis=2))
    assert (rows.min(), rows.max() + 1, cols.min()) == (41, 59, 30)  # the last row is the line's own
    assert (drawn[41:58] == 255).all(axis=2).any()  # white letters


@pytest.mark.parametrize("width", [1, 5, 20, 400, 1000])
def test_a_legend_leaves_the_picture_as_it_is(width):
    picture = np.random.default_rng(0).integers(0, 256, (40, width, 3), np.uint8)
    channels = [LegendEntry("some channel: 0 to 12", RED, is_ramp=True), LegendEntry("no data", None)]
    legend = Legend("a title " * 30, channels, [LegendEntry("x" * 300, RED)] * 9, ["many words " * 20], (50.0, "5 px"))
    sheet = draw_legend(picture, legend)
    np.testing.assert_array_equal(sheet[:40, :width], picture)
    assert sheet.shape[1] == max(width, 360)
    strip = sheet[40:]
    for edge in (strip[:8], strip[-4:], strip[:, :9], strip[:, -4:]):
        assert (edge == 255).all()
    assert (strip == RED).all(axis=2).any()


def test_letters_that_the_font_has_not_are_no_boxes():
    legend = [Legend(title, [LegendEntry("a", RED)]) for title in ("Löffel 匙", "Loffel ?")]
    one, other = (draw_legend(np.zeros((9, 9, 3), np.uint8), each) for each in legend)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("longest", [0.013, 1, 1.99, 4.999, 5, 73, 1e6, 123456789])
def test_a_round_length_is_no_longer_and_not_much_shorter(longest):
    found = scale_bar_length(longest)
    assert longest / 2.5 < found <= longest
    assert f"{found:e}"[0] in "125"
