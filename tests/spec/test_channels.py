"""Channel codes: the grammar, its round trips, and errors that list what there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.waiting import within

from ndframes.errors import ChannelError, shorten
from ndframes.spec.channels import default_codes, find_codes, parse_codes

plain = st.text(st.characters(codec="utf-8", exclude_characters="|:,"), min_size=1, max_size=8).map(str.strip)
codes = plain.filter(lambda code: code and code not in ("rgb", "rgba", "bgr"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("r", ("r",)),
        ("r|g|b", ("r", "g", "b")),
        (" r |\tg|b\n", ("r", "g", "b")),
        ("rgb", ("r", "g", "b")),
        ("bgr", ("b", "g", "r")),
        ("rgba|nir", ("r", "g", "b", "a", "nir")),
        ("nir|rgb", ("nir", "r", "g", "b")),
        ("r|r", ("r", "r")),
        ("RGB", ("RGB",)),
        ("hidden.0:3", ("hidden.0", "hidden.1", "hidden.2")),
        ("hidden.9:11|r", ("hidden.9", "hidden.10", "r")),
        ("a.b.007:9", ("a.b.7", "a.b.8")),
        ("hidden.3", ("hidden.3",)),
        ("hidden:3", ("hidden.0", "hidden.1", "hidden.2")),
        ("Y:2:4", ("Y.2", "Y.3")),
        ("Y:0:5:2", ("Y.0", "Y.2", "Y.4")),
        ("a.1:2:3", ("a.1",)),
        ("a.b:3", ("a.b:3",)),
        ("a.-1:2", ("a.-1:2",)),
        ("a.٠:٣", ("a.٠:٣",)),
        ("über|红", ("über", "红")),
        ("near infrared", ("near infrared",)),
        (["r", "g"], ("r", "g")),
        (("b",), ("b",)),
        (["rgb", "hidden.0:2|x"], ("r", "g", "b", "hidden.0", "hidden.1", "x")),
    ],
)
def test_the_grammar(spec, expected):
    assert parse_codes(spec) == expected


@settings(max_examples=250, deadline=None)
@given(st.lists(codes, min_size=1, max_size=6))
def test_codes_go_round(wanted):
    assert parse_codes("|".join(wanted)) == parse_codes(wanted) == parse_codes(tuple(wanted)) == tuple(wanted)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="rgbahi.:|0123 \n", max_size=15))
@example("a.0:2|rgba")
@example("a.5:5")
def test_what_was_read_once_reads_the_same_again(spec):
    try:
        first = parse_codes(spec)
    except ChannelError:
        return
    assert parse_codes("|".join(first)) == first
    assert all(code and "|" not in code and code == code.strip() for code in first)


@settings(max_examples=100, deadline=None)
@given(codes.filter(lambda code: not code.endswith(".")), st.integers(0, 10**8), st.integers(1, 300))
def test_a_range_counts_like_a_slice(stem, start, count):
    expected = tuple(f"{stem}.{index}" for index in range(start, start + count))
    assert parse_codes(f"{stem}.{start}:{start + count}") == expected


@pytest.mark.parametrize("spec", ["", " ", "|", "r|", "|r", "r||g", [], (), [""], ["r", ""], ["r|"], [" "], "r| |g"])
def test_an_empty_code_is_refused(spec):
    with pytest.raises(ChannelError, match=r"hold an empty code; write them like 'r\|g\|b'"):
        parse_codes(spec)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        3,
        1.5,
        True,
        b"rgb",
        {"r": 1},
        {"r"},
        np.array(["r"]),
        [1],
        ["r", None],
        [["r"]],
        range(3),
        iter("rg"),
        object(),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_what_is_no_spec_is_refused(spec):
    with pytest.raises(ChannelError, match=r"must be a string like 'r\|g\|b' or a list of codes"):
        parse_codes(spec)


@pytest.mark.parametrize(
    "spec", ["a.3:3", "a.3:2", "a:0", "a:0:4:0", "a.0:65536", "a.0:999999999999", "a." + "9" * 5000 + ":" + "9" * 5001, "r|a.5:1"],
    ids=lambda spec: spec[:12],
)  # fmt: skip
def test_an_empty_or_absurd_range_is_refused_at_once(spec):
    with (
        within(1),
        pytest.raises(ChannelError, match="must hold 1 to 65,535 codes; the stop is exclusive") as caught,
    ):
        parse_codes(spec)
    assert len(str(caught.value)) < 400


def test_as_many_codes_as_a_tiff_has_bands():
    assert len(parse_codes("a.0:65535")) == 65535


@pytest.mark.parametrize(
    ("band_count", "expected"),
    [
        (1, ("gray",)),
        (2, ("gray", "a")),
        (3, ("r", "g", "b")),
        (4, ("r", "g", "b", "a")),
        (6, ("band.0", "band.1", "band.2", "band.3", "band.4", "band.5")),
    ],
)
def test_default_codes(band_count, expected):
    assert default_codes(band_count) == expected


@pytest.mark.parametrize("band_count", [1, 2, 3, 4, 5, 12, 300])
def test_default_codes_are_as_many_as_bands_and_can_be_asked_for(band_count):
    available = default_codes(band_count)
    assert len(set(available)) == band_count
    assert find_codes(available, parse_codes("|".join(available))) == tuple(range(band_count))


@settings(max_examples=250, deadline=None)
@given(st.data(), st.lists(codes, min_size=1, max_size=8))
def test_found_positions_hold_the_wanted_codes(data, available):
    wanted = data.draw(st.lists(st.sampled_from(available), max_size=10))
    positions = find_codes(available, wanted)
    assert [available[position] for position in positions] == wanted
    assert all(available.index(code) == position for code, position in zip(wanted, positions, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(codes, max_size=5), st.lists(codes, min_size=1, max_size=5))
def test_a_missing_code_is_named_beside_those_there_are(available, wanted):
    missing = [code for code in wanted if code not in available]
    if not missing:
        assert len(find_codes(available, wanted)) == len(wanted)
        return
    with pytest.raises(ChannelError) as caught:
        find_codes(available, wanted)
    assert str(caught.value) == f"no channel {shorten('|'.join(missing))}; there are {shorten('|'.join(available))}"
    assert isinstance(caught.value, LookupError)


def test_a_sensor_is_no_part_of_a_channel():
    with pytest.raises(ChannelError, match="there are 'r|g'; leave out the sensor before the colon"):
        find_codes(("r", "g"), parse_codes("S2:r|g"))
    with pytest.raises(ChannelError) as caught:
        find_codes(("r", "g"), ("nir",))
    assert "sensor" not in str(caught.value)
    assert find_codes(("S2:r", "g"), ("S2:r",)) == (0,)
