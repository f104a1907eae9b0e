"""Image requests of IIIF 3.0: the rules of its text."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndframes.errors import IiifError
from ndframes.server.iiif_request import IiifLimits, parse_request

SHAPE = (200, 300)  # the image of the figures of the text is 300 x 200
WIDE = IiifLimits(10_000, 10_000, 100_000_000)
SMALL = IiifLimits(150, 400, 20_000)


def ask(region="full", size="max", rotation="0", last="default.jpg", shape=SHAPE, limits=WIDE):
    return parse_request(f"{region}/{size}/{rotation}/{last}", shape, limits)


def box(picture) -> tuple[int, int, int, int]:
    y, x = picture.region
    return x.start, y.start, x.stop - x.start, y.stop - y.start


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("full", (0, 0, 300, 200)),
        ("square", (50, 0, 200, 200)),
        ("125,15,120,140", (125, 15, 120, 140)),
        ("pct:41.6,7.5,40,70", (125, 15, 120, 140)),
        ("125,15,200,200", (125, 15, 175, 185)),
        ("pct:41.6,7.5,66.6,100", (125, 15, 175, 185)),
        ("pct:.5,0,50,50", (2, 0, 150, 100)),
        ("0,0,999999,1", (0, 0, 300, 1)),
    ],
)
def test_regions(text, expected):
    assert box(ask(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max", (200, 300)),
        ("150,", (100, 150)),
        (",150", (150, 225)),
        ("pct:50", (100, 150)),
        ("225,100", (100, 225)),
        ("!225,100", (100, 150)),
        ("!1000,100", (100, 150)),
        # As large as possible, but no larger than the region.
        ("!2000,3000", (200, 300)),
        ("^360,", (240, 360)),
        ("^,240", (240, 360)),
        ("^pct:120", (240, 360)),
        ("^360,360", (360, 360)),
        ("^!360,360", (240, 360)),
        ("^150,", (100, 150)),
        ("1,", (1, 1)),
        ("pct:33.3", (67, 100)),
    ],
)
def test_sizes(text, expected):
    assert ask(size=text).shape == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max", (100, 150)),
        ("^max", (100, 150)),
        ("!300,300", (100, 150)),
        ("^!1000,90", (90, 135)),
        ("150,", (100, 150)),
        ("100,133", (133, 100)),
    ],
)
def test_limits_of_the_server(text, expected):
    assert ask(size=text, limits=SMALL).shape == expected


def test_the_largest_size_grows_to_the_limits():
    assert ask(size="^max", limits=IiifLimits(900, 900, 10**6)).shape == (600, 900)
    assert ask(size="^max", limits=IiifLimits(9000, 9000, 240_000)).shape == (400, 600)


@pytest.mark.parametrize(
    "request_text",
    [
        "300,0,1,1/max/0/default.jpg",
        "0,0,0,5/max/0/default.jpg",
        "pct:100,0,1,1/max/0/default.jpg",
        "-1,0,5,5/max/0/default.jpg",
        "1.5,0,5,5/max/0/default.jpg",
        "1,2,3/max/0/default.jpg",
        "pct:1e1,0,5,5/max/0/default.jpg",
        "٣,0,5,5/max/0/default.jpg",
        "/max/0/default.jpg",
        "full/full/0/default.jpg",
        "full/,/0/default.jpg",
        "full/!100,/0/default.jpg",
        "full/0,/0/default.jpg",
        "full/,0/0/default.jpg",
        "full/pct:0/0/default.jpg",
        "full/pct:0.1/0/default.jpg",
        "full/301,/0/default.jpg",
        "full/pct:101/0/default.jpg",
        "full/300,201/0/default.jpg",
        "full/^99999,/0/default.jpg",
        "full/^9999999999999,/0/default.jpg",
        "full/max/361/default.jpg",
        "full/max/-90/default.jpg",
        "full/max/90!/default.jpg",
        "full/max/nan/default.jpg",
        "full/max/0/native.jpg",
        "full/max/0/default",
        "full/max/0/default.gif",
        "full/max/0/default.JPG",
        "full/max/0/default.jpg/x",
        "full/max/0",
        "",
    ],
)
def test_what_is_not_allowed(request_text):
    with pytest.raises(IiifError) as caught:
        parse_request(request_text, SHAPE, WIDE)
    assert caught.value.status == 400
    assert pickle.loads(pickle.dumps(caught.value)).status == 400


def test_what_is_not_offered():
    with pytest.raises(IiifError, match="0, 90, 180 and 270 are offered") as caught:
        ask(rotation="22.5")
    assert caught.value.status == 501


@pytest.mark.parametrize(("text", "expected"), [("0", (False, 0)), ("!90.0", (True, 90)), ("360", (False, 0))])
def test_rotations(text, expected):
    picture = ask(rotation=text)
    assert (picture.is_mirrored, picture.degrees) == expected


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("0,0,300,200/300,/0/default.jpg", "full/max/0/default.jpg"),
        ("square/100,/!360/gray.png", "50,0,200,200/100,100/!0/gray.png"),
        ("pct:0,0,50,50/^pct:200/90/color.webp", "0,0,150,100/^300,200/90/color.webp"),
        ("full/^150,/0/bitonal.tif", "full/150,100/0/bitonal.tif"),
    ],
)
def test_the_canonical_form(request_text, expected):
    assert parse_request(request_text, SHAPE, WIDE).canonical == expected


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from(["max", "^max", "!{},{}", "^!{},{}", "{},", "^,{}"]),
    st.integers(1, 6000),
    st.integers(1, 6000),
    st.integers(1, 3000),
)
def test_sizes_keep_their_promises(height, width, form, first, second, most):
    limits = IiifLimits(most, most, most * most // 2 + 1)
    text = form.format(first, second)
    try:
        picture = ask(size=text, shape=(height, width), limits=limits)
    except IiifError:
        # The largest fitting size always exists; an exact one may be too large.
        assert "{}" in form
        assert "!" not in form
        return
    out_height, out_width = picture.shape
    assert limits.allow(out_width, out_height)
    assert min(picture.shape) >= 1
    if "^" not in form:
        assert out_height <= height
        assert out_width <= width
    if "!" in form:
        assert out_width <= first
        assert out_height <= second
    # The aspect ratio is that of the region, up to the rounding of both edges and of the limit.
    if min(picture.shape) > 1:
        assert abs(out_height * width - out_width * height) <= 3 * max(height, width)
    # The canonical form asks for the same.
    again = parse_request(picture.canonical, (height, width), WIDE)
    assert (again.region, again.shape) == (picture.region, picture.shape)
