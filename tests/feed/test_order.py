"""Random numbers and permutations are functions of integers, and are spread evenly."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndframes.feed.order import Draws, Permutation, check_seed, mix


@settings(max_examples=50)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_has_each_number_once(length, seed):
    order = Permutation(length, seed)
    assert sorted(order[place] for place in range(length)) == list(range(length))


@pytest.mark.parametrize("expected", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_order_of_four_is_as_likely(expected):
    counts = Counter(tuple(Permutation(4, 0, seed)[place] for place in range(4)) for seed in range(24 * expected))
    assert set(counts) == set(itertools.permutations(range(4)))
    # Chi-square with 23 degrees of freedom exceeds 49.7 in one of 1,000 cases.
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 49.7


def test_neighbours_in_a_long_order_are_not_related():
    length = 1 << 20
    order = Permutation(length, 3)
    steps = [(order[place + 1] - order[place]) % length for place in range(20_000)]
    counts = Counter(step * 20 // length for step in steps)
    # 19 degrees of freedom.
    assert sum((counts[part] - 1000) ** 2 / 1000 for part in range(20)) < 43.8


def test_orders_differ_by_each_word():
    orders = [tuple(Permutation(50, *words)[place] for place in range(50)) for words in ((0, 0), (0, 1), (1, 0))]
    assert len(set(orders)) == 3


def test_numbers_are_spread_evenly():
    counts = Counter(Draws(5, 0, index).below(10) for index in range(20_000))
    assert sum((counts[number] - 2000) ** 2 / 2000 for number in range(10)) < 27.9
    units = [Draws(6, 0, index).unit() for index in range(20_000)]
    assert 0 <= min(units) < 0.001
    assert 0.999 < max(units) < 1
    assert abs(sum(units) / len(units) - 0.5) < 0.01


def test_seed_zero_item_one_is_not_seed_one_item_zero():
    assert mix(0, 0, 1) != mix(1, 0, 0) != mix(0, 1, 0)


def test_numbers_stay_the_same_in_all_versions():
    """A run that is resumed with another version must see the same samples."""
    assert mix(1, 2, 3) == 15020427595393229491
    assert [Permutation(10, 1)[place] for place in range(10)] == [2, 6, 4, 7, 3, 8, 0, 9, 5, 1]


@pytest.mark.parametrize("seed", [-1, 1 << 64, "a", 1.5, None])
def test_a_seed_that_is_not_an_integer_is_an_error(seed):
    with pytest.raises(ValueError, match="seed="):
        check_seed(seed)


@pytest.mark.parametrize("place", [-1, 5])
def test_a_place_outside_is_an_index_error(place):
    with pytest.raises(IndexError, match="of 5"):
        Permutation(5, 0)[place]
