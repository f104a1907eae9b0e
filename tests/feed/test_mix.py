"""Mix: shares of sources, and a walk through each without repetition."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import numpy as np
import pytest

import ndframes as nf
from ndframes.errors import PatchError
from ndframes.feed import GridPatches, Mix, RandomPatches
from tests.kit.scenes import chi_square


@pytest.fixture
def frames(write_npy):
    return nf.SimpleFrames({"a": write_npy("a", np.zeros((60, 90), np.uint8))}, backend=None)


def grid(frames, stride):
    return GridPatches(frames, 10, stride=stride)


def test_shares_are_exact_to_within_an_item_a_source(frames):
    one, two, three = grid(frames, 10), grid(frames, 5), RandomPatches(frames, 12, 40)
    mixed = Mix([(one, 1), (two, 2.5), (three, 0.5)], 2000, seed=4)
    for count in (64, 640, 2000 - 2000 % 64):
        sources = Counter("three" if patch.kind == "random" else "two" for patch in mixed[:count])
        assert abs(sources["three"] - count / 8) <= 1.5
    kinds = [patch.kind == "random" for patch in mixed]
    pairs = Counter(zip(kinds[::2], kinds[1::2], strict=False))
    found, bound = chi_square([pairs[a, b] for a in (0, 1) for b in (0, 1)], [0.875**2, 0.875 / 8, 0.875 / 8, 1 / 64])
    assert found < bound


@pytest.mark.parametrize("length", [17, 100, 300])
def test_no_item_comes_twice_before_all_came_over_epochs(frames, length):
    one, two = grid(frames, 10), RandomPatches(frames, 12, 7)
    mixed = Mix({one: 2, two: 1}, length, seed=1)
    walks = {"grid": [], "random": []}
    numbers = {corner(patch): n for n, patch in enumerate(one)}
    for epoch in range(4):
        mixed.set_epoch(epoch)
        assert two.epoch == epoch
        randoms = {corner(patch): n for n, patch in enumerate(two)}
        for index, patch in enumerate(mixed):
            assert patch.index == index
            known = numbers if patch.kind == "grid" else randoms
            walks[patch.kind].append(known[corner(patch)])
    assert len(walks["grid"]) + len(walks["random"]) == 4 * length
    for walk, count in ((walks["grid"], len(one)), (walks["random"], len(two))):
        rounds = [walk[first : first + count] for first in range(0, len(walk), count)]
        assert all(len(set(each)) == len(each) for each in rounds)
        full = [tuple(each) for each in rounds if len(each) == count]
        assert all(sorted(each) == list(range(count)) for each in full)
        assert len(set(full)) == len(full)


def corner(patch):
    return patch.rows.start, patch.cols.start


def test_an_item_is_a_function_of_seed_epoch_and_index(frames):
    def make(seed=0, weight=1):
        return Mix({grid(frames, 10): weight, RandomPatches(frames, 12, 40): 2}, 300, seed=seed)

    mixed, again = make(), pickle.loads(pickle.dumps(make()))
    first = list(mixed)
    assert [again[n] for n in reversed(range(300))] == first[::-1]
    assert list(make(seed=1)) != first
    assert mixed.fingerprint == again.fingerprint
    assert len({each.fingerprint for each in (mixed, make(seed=1), make(weight=3))}) == 3
    mixed.set_epoch(2)
    assert list(mixed) != first
    mixed.set_epoch(0)
    assert list(mixed) == first


def test_a_state_resumes(frames):
    mixed = Mix({grid(frames, 10): 1, RandomPatches(frames, 12, 40): 2}, 100)
    mixed.set_epoch(3)
    expected = list(mixed)
    run = iter(mixed)
    for _ in range(37):
        next(run)
    other = Mix({grid(frames, 10): 1, RandomPatches(frames, 12, 40): 2}, 100)
    other.load_state_dict(mixed.state_dict())
    assert list(other) == expected[37:]


def test_counts_never_fall(frames):
    """By the method of apportionment, whatever the weights."""
    random = np.random.default_rng(0)
    for number in range(20):
        weights = random.choice([1, 2, 3, 0, 1e-6, 0.37, 10], 1 + number % 5).tolist()
        if not any(weights):
            continue
        mixed = Mix([(grid(frames, 10), weight) for weight in weights], 10)
        before = mixed._count(0)
        for total in range(1, 400):
            counts = mixed._count(total)
            assert sum(counts) == total
            assert all(low <= high for low, high in zip(before, counts, strict=False))
            assert all(count == 0 for count, weight in zip(counts, weights, strict=False) if not weight)
            before = counts


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0, 0], r"the weights of \[<GridPatches: 54 .*\] sum to zero"),
        ([], "there are no sources; give patches with a weight above 0"),
        ([1, -1], "give finite numbers from 0"),
        ([1, math.nan], "give finite numbers from 0"),
        ([1, "much"], "give finite numbers from 0"),
    ],
)
def test_bad_weights(frames, weights, message):
    with pytest.raises(PatchError, match=message):
        Mix([(grid(frames, 10), weight) for weight in weights], 10)


def test_bad_sources(frames):
    with pytest.raises(PatchError, match="is not a source; give pairs of patches and their weights"):
        Mix({"a": 1}, 10)
    with pytest.raises(PatchError, match="is not a source"):
        Mix([grid(frames, 10)], 10)
    with pytest.raises(PatchError, match="length=0"):
        Mix({grid(frames, 10): 1}, 0)
