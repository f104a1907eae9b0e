"""Regions against numpy: what a slice picks, what it refuses, and how axes are cut into tiles."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.waiting import within

from ndframes.errors import RegionError, RegionIndexError, RegionTooLargeError
from ndframes.geometry.regions import (
    Selection,
    parse_region,
    resolve_region,
    resolve_unclipped,
    to_index,
)
from ndframes.geometry.tiling import (
    bounding_range,
    count_tiles,
    overview_shapes,
    tile_ranges,
    tile_spans,
)

HUGE = (10**30, -(10**30), 2**63, -(2**63), 2**63 - 1)
UNPRINTABLE = (10**5000, -(10**5000))  # str() of these raises ValueError


def bits(number: int | None) -> str:
    return f"{number and number.bit_length()} bits"


small = st.integers(-12, 12)
numbers = st.one_of(small, small.map(np.int64), small.map(np.int16), st.sampled_from(HUGE))
parts = st.one_of(st.none(), numbers)
steps = parts.filter(lambda step: step is None or step != 0)
slices = st.builds(slice, parts, parts, steps)
items = st.one_of(slices, slices, st.integers(-9, 9), st.integers(-9, 9).map(np.int8), st.just(Ellipsis))
shapes = st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple)
regions = st.one_of(items, st.lists(items, max_size=5).map(tuple))


def pick(array: np.ndarray, selection: Selection) -> np.ndarray:
    """The pixels of a selection, read one coordinate at a time, without slices."""
    indices = [np.fromiter(axis, np.intp, len(axis)) for axis in selection.ranges]
    return array[np.ix_(*indices)].reshape(selection.shape)


@settings(max_examples=500, deadline=None)
@given(shapes, regions)
@example((5,), slice(None, None, -(10**30)))
@example((3, 0, 2), (Ellipsis, -1))
@example((3, 4), (0, Ellipsis, 1, 1))
@example((3, 4), (Ellipsis, 0, Ellipsis))
@example((4,), np.array(2))
def test_a_region_picks_what_numpy_picks(shape, region):
    array = np.arange(int(np.prod(shape))).reshape(shape)
    try:
        expected = array[region]
    except IndexError:
        with pytest.raises(RegionIndexError):
            resolve_region(region, shape)
        return
    selection = resolve_region(region, shape)
    got = pick(array, selection)
    assert selection.shape == expected.shape
    assert got.tolist() == expected.tolist()
    assert selection.full_shape == tuple(len(axis) for axis in selection.ranges)
    assert all(0 <= index < extent for axis, extent in zip(selection.ranges, shape, strict=True) for index in axis)


def test_a_slice_of_unprintable_numbers_is_clipped_as_any_other():
    far = UNPRINTABLE[0]
    assert resolve_region((slice(-far, far), slice(None, None, -far)), (4, 2)).ranges == (range(4), range(1, 0, -1))


def test_none_is_everything():
    selection = resolve_region(None, (4, 5, 3))
    assert selection.ranges == (range(4), range(5), range(3))
    assert selection.dropped == (False, False, False)
    assert resolve_region((), (4, 5, 3)) == selection == resolve_region(Ellipsis, (4, 5, 3))


def test_a_selection_is_a_value():
    selection = resolve_region((slice(1, 3), 2), (4, 5, 3))
    for again in (copy.deepcopy(selection), pickle.loads(pickle.dumps(selection))):
        assert again == selection
        assert hash(again) == hash(selection)
    with pytest.raises(AttributeError):
        selection.ranges = ()


NO_ITEMS = [
    1.0, np.float32(2), float("nan"), float("inf"), True, np.True_, np.array(True), None, [0, 1], [], [True, False],
    np.array([0, 1]), np.array([1]), np.zeros(3, bool), np.zeros((2, 2), int), "0:5", b"0", 1j, range(3), {1}, {0: 1},
    object(), int, slice, (0, 1), list(range(10**6)), "x" * 10**6,
]  # fmt: skip


@pytest.mark.parametrize("item", NO_ITEMS, ids=lambda item: str(type(item).__name__))
def test_what_is_no_index_is_refused_by_name_and_at_once(item):
    with (
        within(1),
        pytest.raises(RegionError, match=r"axis 1: .* not a region; give slices of whole numbers") as caught,
    ):
        resolve_region((0, item), (4, 5, 3))
    assert len(str(caught.value)) < 500
    if not isinstance(item, tuple) and item is not None:
        with pytest.raises(RegionError, match="axis 0"):
            resolve_region(item, (4, 5, 3))


@pytest.mark.parametrize("part", [1.0, 2.5, float("nan"), "1", [1], (1,), np.array([1]), np.float64(1), np.True_, 1j])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("resolve", [resolve_region, resolve_unclipped])
def test_a_slice_of_anything_but_whole_numbers_is_refused(resolve, part, place):
    arguments = [None, None, None]
    arguments[place] = part
    with pytest.raises(RegionError, match="axis 1"):
        resolve((slice(0, 2), slice(*arguments)), (4, 5, 3))


@pytest.mark.parametrize("start", [None, 0, 10**5000, -1], ids=bits)
def test_a_step_of_zero_is_refused(start):
    with pytest.raises(RegionError, match="its step not 0"):
        resolve_region(slice(start, None, 0), (4, 5))
    with pytest.raises(RegionError, match="step >= 1"):
        resolve_unclipped(slice(0, None, 0), (4, 5))


@pytest.mark.parametrize("index", HUGE + UNPRINTABLE, ids=bits)
def test_a_huge_index_is_out_of_bounds_and_quickly(index):
    with within(1):
        with pytest.raises(RegionIndexError, match="out of bounds for axis 0, which has 4"):
            resolve_region(index, (4, 5))
        with pytest.raises(IndexError):
            resolve_region((slice(None), index), (4, 5))


def test_too_many_axes_say_how_many():
    with pytest.raises(RegionIndexError, match="the region has 4 axes, but the image has 3"):
        resolve_region((0, 0, 0, 0), (4, 5, 3))


@pytest.mark.parametrize(("index", "expected"), [(3, 3), (np.uint8(200), 200), (np.array(-4), -4), (10**30, 10**30)])
def test_to_index_takes_whole_numbers(index, expected):
    got = to_index(index, 0)
    assert got == expected
    assert type(got) is int


# -- the unbounded plane ----------------------------------------------------------------------------------------


@st.composite
def planes(draw):
    start = draw(st.integers(-15, 20))
    return slice(start, start + draw(st.integers(0, 20)), draw(st.one_of(st.none(), st.integers(1, 6))))


@settings(max_examples=125, deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), planes(), planes(), slices)
def test_a_region_outside_is_the_slice_of_a_padded_image(shape, rows, cols, bands):
    image = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3)
    margin = 50
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=-1)
    expected = padded[
        slice(rows.start + margin, rows.stop + margin, rows.step),
        slice(cols.start + margin, cols.stop + margin, cols.step),
        bands,
    ]
    ranges = resolve_unclipped((rows, cols, bands), (*shape, 3))
    assert tuple(len(axis) for axis in ranges) == expected.shape
    got = [
        [[image[y, x, c] if 0 <= y < shape[0] and 0 <= x < shape[1] else -1 for c in ranges[2]] for x in ranges[1]]
        for y in ranges[0]
    ]
    assert np.array(got, int).reshape(expected.shape).tolist() == expected.tolist()


def test_missing_parts_of_an_outside_region_are_the_image_s_own():
    assert resolve_unclipped(None, (4, 5, 3)) == (range(4), range(5), range(3))
    assert resolve_unclipped((slice(-3, None),), (4, 5)) == (range(-3, 4), range(5))
    assert resolve_unclipped((slice(None, 9, 2), ..., slice(None, None, -1)), (4, 5, 3)) == (
        range(0, 9, 2), range(5), range(2, -1, -1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (slice(4, 2), "runs backwards"),
        (slice(None, -1), "runs backwards"),
        (slice(9, None), "runs backwards"),
        (slice(0, 4, -1), "runs backwards"),
        (slice(True, 4), "axis 0"),
        (3, "consist of slices"),
        ((slice(None), 2), "axis 1: a padded region must consist of slices"),
        ((slice(None), slice(None), 0), "must keep its channel axis"),
        ((slice(None), None), "consist of slices"),
    ],
)
def test_what_an_outside_region_refuses(region, says):
    with pytest.raises(RegionError, match=says):
        resolve_unclipped(region, (4, 5, 3))


@pytest.mark.parametrize("far", [2**62, 10**30, 10**5000], ids=bits)
def test_an_outside_region_can_be_neither_endless_nor_endlessly_far(far):
    with pytest.raises(RegionTooLargeError):
        resolve_unclipped(slice(0, far), (4, 5))
    with pytest.raises(RegionTooLargeError):
        resolve_unclipped((slice(None), slice(-far, 5)), (4, 5))
    for near in (slice(far, far + 5), slice(-far - 5, -far)):
        with pytest.raises(RegionError, match="too far outside") as caught:
            resolve_unclipped(near, (4, 5))
        assert not isinstance(caught.value, RegionTooLargeError)
    with pytest.raises(RegionError):
        resolve_unclipped(slice(far, 0), (4, 5))


@pytest.mark.parametrize("step", [6, 100, 2**63, 10**30])
def test_a_long_step_outside_takes_the_first_only(step):
    rows, _ = resolve_unclipped(slice(-2, 4, step), (4, 5))
    assert list(rows) == [-2]


def test_the_farthest_region_still_has_a_length():
    rows, _ = resolve_unclipped(slice(-(2**61), 2**61), (4, 5))
    assert len(rows) == 2**62


# -- tiles, bounds, overviews -----------------------------------------------------------------------------------

axes = st.builds(range, st.integers(-40, 60), st.integers(-40, 60), st.integers(-9, 9).filter(bool))


@settings(max_examples=200, deadline=None)
@given(axes, st.integers(1, 17))
@example(range(5, -1, -1), 4)
@example(range(0, 5, 10**30), 4)
@example(range(4, -1, -(10**30)), 4)
def test_tile_ranges_cut_an_axis_where_tiles_meet(axis, tile_extent):
    pieces = tile_ranges(axis, tile_extent)
    assert [index for _, piece in pieces for index in piece] == list(axis)
    assert all(piece for _, piece in pieces)
    assert all({index // tile_extent for index in piece} == {tile} for tile, piece in pieces)
    tiles = [tile for tile, _ in pieces]
    assert tiles == sorted(set(tiles), reverse=axis.step < 0)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 130))
@example(0, 1, 1)
@example(16, 16, 16)
@example(15, 2, 16)
def test_tile_spans_say_the_same_in_slices(start, extent, tile_extent):
    axis = range(start, start + extent)
    spans = tile_spans(axis, tile_extent)
    assert [(index, axis[place]) for index, _, place in spans] == tile_ranges(axis, tile_extent)
    for index, inside, place in spans:
        assert range(tile_extent * index, tile_extent * (index + 1))[inside] == axis[place]


@pytest.mark.parametrize("start", [0, 3, 4, 7])
def test_tile_spans_of_nothing_hold_nothing(start):
    assert not any(axis[inside] for axis in [range(4)] for _, inside, _ in tile_spans(range(start, start), 4))


def test_tile_spans_of_a_huge_axis_need_no_walk_along_it():
    spans = tile_spans(range(5, 10**15), 10**12)
    assert len(spans) == 1000
    assert spans[0] == (0, slice(5, 10**12), slice(0, 10**12 - 5))
    assert spans[-1] == (999, slice(0, 10**12), slice(999 * 10**12 - 5, 10**15 - 5))


def test_tile_ranges_of_a_huge_axis_need_no_walk_along_it():
    pieces = tile_ranges(range(0, 10**15, 1), 10**12)
    assert len(pieces) == 1000
    assert pieces[-1] == (999, range(999 * 10**12, 10**15))


@settings(max_examples=125, deadline=None)
@given(axes)
def test_a_bounding_range_is_the_tightest(axis):
    bounds = bounding_range(axis)
    assert bounds.step == 1
    if axis:
        assert (bounds[0], bounds[-1]) == (min(axis), max(axis))
    else:
        assert len(bounds) == 0


@settings(max_examples=150, deadline=None)
@given(st.tuples(st.integers(1, 500), st.integers(1, 500)), st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_tiles_cover_an_image_and_none_is_idle(shape, tile_shape):
    counts = count_tiles(shape, tile_shape)
    assert counts == tuple(len(tile_ranges(range(e), t)) for e, t in zip(shape, tile_shape, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)), st.sampled_from([16, 64, 256, 512]))
@example((256, 256), 256)
@example((257, 1), 256)
def test_overviews_halve_until_one_tile_holds_them(shape, extent):
    levels = [shape, *overview_shapes(shape, extent)]
    for (height, width), smaller in pairwise(levels):
        assert smaller == ((height + 1) // 2, (width + 1) // 2)
        assert max(height, width) > extent
    assert max(levels[-1]) <= extent


# -- typed text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:10,5:20", np.s_[0:10, 5:20]),
        (" 0 : 10 ,\t5:20\n", np.s_[0:10, 5:20]),
        (":", (slice(None),)),
        ("::,:", np.s_[::, :]),
        (":,:,0:1", np.s_[:, :, 0:1]),
        ("-5:,:-3", np.s_[-5:, :-3]),
        ("0:100:2,9:1:-1", np.s_[0:100:2, 9:1:-1]),
        ("+1:+2,5:5", np.s_[1:2, 5:5]),
        ("10:-10,-10:10", np.s_[10:-10, -10:10]),
        ("-10:-2,0:007", np.s_[-10:-2, 0:7]),
        ("-1:-5:-1,:", np.s_[-1:-5:-1, :]),
        ("0:999999999999999999,:", np.s_[0:999999999999999999, :]),
    ],
)
def test_a_typed_region_is_what_python_would_read(text, expected):
    assert parse_region(text) == expected


numbers_typed = st.one_of(st.none(), st.integers(-30, 30))


@settings(max_examples=125, deadline=None)
@given(st.lists(st.builds(slice, numbers_typed, numbers_typed, numbers_typed), min_size=1, max_size=3))
def test_a_typed_region_goes_round(region):
    text = ",".join(
        ":".join("" if part is None else str(part) for part in (item.start, item.stop, item.step)) for item in region
    )
    try:
        assert parse_region(text) == tuple(region)
    except RegionError:
        array = np.arange(40)
        assert any(item.step == 0 or all(len(array[:extent][item]) == 0 for extent in range(41)) for item in region)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ",", "0:10,", ",0:10", "5", "0:10,5", "0:1:2:3", "a:b", "0:1.5", "0x1:4", "1_0:20", "0:1 0", "٣:٤",
        "0-10,5-20", "0:10;5:20", "[0:10]", "--1:5", "1e3:2e3", "0:10\0", "slice(0,1)", "0:10,:,...", "nan:1",
        "10:0", "0:10,20:5", "-1:-5", "10:0:1", "0:10:-1", "0:10:0", "::0",
        "9" * 5000 + ":", "0:" + "9" * 10**6, "0:1000000000000000000", ":" * 10**5, "x" * 10**6,
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_anything_else_typed_is_refused_at_once_and_quoted(text):
    with within(1), pytest.raises(RegionError, match=r"^region ") as caught:
        parse_region(text)
    assert len(str(caught.value)) < 500


@settings(max_examples=125, deadline=None)
@given(st.text(alphabet="0123456789:,+-. _xé٣\n", max_size=20))
def test_any_text_is_a_region_or_a_region_error(text):
    try:
        region = parse_region(text)
    except RegionError:
        return
    assert len(region) == text.count(",") + 1
    assert all(isinstance(item, slice) for item in region)
