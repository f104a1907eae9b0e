"""Regions of requests: text and JSON mean what numpy's slices mean."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndframes.errors import RegionError
from ndframes.server.problems import hide_paths
from ndframes.server.regions import (
    fill_from_text,
    fill_to_text,
    item_from_text,
    item_to_json,
    order_axes,
    region_from_json,
)

numbers = st.one_of(st.none(), st.integers(-(10**17), 10**17))
slices = st.builds(slice, numbers, numbers, numbers.filter(lambda value: value != 0))
items = st.one_of(slices, st.integers(-(10**17), 10**17))


@given(items)
def test_an_item_as_text(item):
    parts = [item] if isinstance(item, int) else [item.start, item.stop, item.step]
    assert item_from_text(":".join("" if part is None else str(part) for part in parts), "y") == item


@given(st.lists(items, max_size=4))
def test_a_region_as_json(region):
    sent = json.loads(json.dumps([item_to_json(item) for item in region]))
    assert region_from_json(sent) == tuple(region)


def test_lists_of_frames():
    assert region_from_json([{"list": [3, 1, 3]}, [0, 5]]) == ([3, 1, 3], slice(0, 5))
    assert item_to_json([np.int64(3), 1]) == {"list": [3, 1]}
    with pytest.raises(RegionError, match="not a slice"):
        region_from_json([[0, 5], {"list": [3]}])
    with pytest.raises(RegionError, match="at most 10,000"):
        region_from_json([{"list": [0] * 10_001}])


@pytest.mark.parametrize(
    "item", [0.5, True, None, ..., "0:5", slice(0.5, None), [True], [0.5], np.bool_(True), 10**19, object()]
)
def test_what_has_no_form_as_json(item):
    assert item_to_json(item) is ...


@pytest.mark.parametrize("fill", [0, -7, 2.5, float("inf"), 1 - 2j, complex(0, -0.0), np.float32(0.1), np.uint8(3)])
def test_fill_values(fill):
    got = fill_from_text(json.loads(json.dumps(fill_to_text(fill))))
    assert got == fill
    assert np.isnan(fill_from_text(fill_to_text(float("nan"))))


def test_axes_in_the_order_of_the_image():
    assert order_axes({"x": slice(0, 3), "t": 1}, 4) == (1, slice(None), slice(0, 3), slice(None))
    assert order_axes(None, 3) is order_axes({}, 3) is None
    assert order_axes((1, 2), 3) == (1, 2)
    with pytest.raises(RegionError, match="axes y, x, c"):
        order_axes({"t": 1}, 3)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("no file /data/a b.tif", "no file (file) b.tif"),
        ("r|g/b", "r|g/b"),
        ("'/a'", "'(file)'"),
        (r"C:\data\a.tif is gone", "(file) is gone"),
        ("1/2 of 3 / 4", "1/2 of 3 / 4"),
    ],
)
def test_paths_are_hidden(text, hidden):
    assert hide_paths(text) == hidden
