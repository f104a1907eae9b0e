"""Orders, shares and states: whatever the number of ranks, each patch is delivered once, also after a resume."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.sized import sized

import ndframes as nf
from ndframes.feed import GridPatches, Patch, RandomPatches


def grid(count, *, seed=None):
    patches = GridPatches(sized((8, 8 * count)), 8)
    return patches if seed is None else patches.shuffled(seed)


def indices(patches):
    return [patch.index for patch in patches]


def take(patches, count):
    iterator = iter(patches)
    return [next(iterator).index for _ in range(count)]


# -- a sequence -------------------------------------------------------------------------------------------------------


def test_patches_are_a_sequence():
    patches = grid(7)
    assert indices(patches) == list(range(7))
    assert patches[-1].index == 6
    assert indices(patches[2:5]) == [2, 3, 4]
    assert patches[3] in patches
    assert patches.index(patches[3]) == 3
    for index in (7, -8):
        with pytest.raises(IndexError, match="of 7"):
            patches[index]


def test_equal_patches_are_one_key():
    one, other = grid(3)[1], grid(3)[1]
    assert {one: "values"}[other] == "values"
    assert pickle.loads(pickle.dumps(one)) == one
    assert len({*grid(3)}) == 3


def test_a_region_that_is_not_one_is_an_error():
    for region in ((slice(0, 8),), slice(0, 8), (slice(0, 8), slice(None)), (slice(0, 8, 2), slice(0, 8)), (3, 4)):
        with pytest.raises(nf.RegionError, match="a patch needs"):
            Patch("a", region)


@given(st.integers(1, 40), st.integers(0, 2**64 - 1))
def test_a_shuffled_order_has_each_patch_once_in_each_epoch(count, seed):
    patches = grid(count, seed=seed)
    orders = []
    for epoch in range(3):
        patches.set_epoch(epoch)
        orders.append(indices(patches))
        assert sorted(orders[-1]) == list(range(count))
    if count > 20:
        assert len(set(map(tuple, orders))) == 3


def test_the_locality_changes_no_order():
    assert indices(grid(30, seed=3)) == indices(grid(30).shuffled(3, locality=8))
    with pytest.raises(ValueError, match="locality=0"):
        grid(3).shuffled(locality=0)


# -- shares -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 6), st.sampled_from(["pad", "drop", "keep"]))
def test_shares_are_disjoint_and_complete_but_for_what_is_marked(count, ranks, uneven):
    if uneven != "pad" and count < ranks:
        with pytest.raises(nf.PatchError, match="use fewer ranks"):
            grid(count, seed=1).shard(ranks - 1, ranks, uneven=uneven)
        return
    shares = [list(grid(count, seed=1).shard(rank, ranks, uneven=uneven)) for rank in range(ranks)]
    once = [patch.index for share in shares for patch in share if not patch.is_repeat]
    assert len(once) == len(set(once))
    if uneven != "keep":
        assert len({len(share) for share in shares}) == 1
    assert len(once) == (count // ranks * ranks if uneven == "drop" else count)
    assert sum(len(share) for share in shares) - len(once) == (-count % ranks if uneven == "pad" else 0)


@pytest.mark.parametrize(("rank", "ranks"), [(3, 3), (-1, 3), (0, 0)])
def test_a_rank_out_of_range_is_an_error(rank, ranks):
    with pytest.raises(nf.PatchError, match=f"rank {rank} of {ranks}"):
        grid(10).shard(rank, ranks)


# -- resuming ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.data())
def test_a_run_goes_on_with_any_other_number_of_ranks(count, data):
    patches = RandomPatches(sized((50, 60), (30, 30)), 8, count, seed=7).shuffled(2)
    epoch = data.draw(st.integers(0, 3))
    ranks, others = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    shares = [pickle.loads(pickle.dumps(patches)).shard(rank, ranks) for rank in range(ranks)]
    for share in shares:
        share.set_epoch(epoch)
    steps = data.draw(st.integers(0, len(shares[0])))
    seen = [patch for share in shares for patch in zip(range(steps), share, strict=False)]
    states = [share.state_dict() for share in shares]
    assert all(state == states[0] for state in states)
    resumed = [pickle.loads(pickle.dumps(patches)).shard(rank, others) for rank in range(others)]
    rest = []
    for share in resumed:
        share.load_state_dict(json.loads(json.dumps(states[-1])))
        assert share.epoch == epoch
        rest += [patch for patch in share if not patch.is_repeat]
    delivered = [patch for _, patch in seen if not patch.is_repeat] + rest
    assert sorted(patch.index for patch in delivered) == list(range(count))
    patches.set_epoch(epoch)
    by_index = {patch.index: patch for patch in patches}
    assert all(patch == by_index[patch.index] for patch in delivered)


def test_an_iteration_goes_on_from_a_state_once():
    patches = grid(10, seed=3)
    order = indices(patches)
    assert take(patches, 4) == order[:4]
    state = patches.state_dict()
    other = grid(10, seed=3)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert indices(other) == order[4:]
    assert indices(other) == order
    other.load_state_dict({**state, "delivered": 10})
    assert indices(other) == []


def test_the_state_is_small_and_plain():
    state = grid(10, seed=3).state_dict()
    assert json.loads(json.dumps(state)) == state
    assert set(state) == {"fingerprint", "epoch", "delivered"}


def test_the_state_of_other_patches_is_an_error():
    state = grid(10, seed=3).state_dict()
    for other in (grid(11, seed=3), grid(10, seed=4), grid(10), RandomPatches(sized((8, 80)), 8, 10)):
        with pytest.raises(nf.PatchError, match="another dataset, patch shape or seed"):
            other.load_state_dict(state)
    for bad in (None, {}, {**state, "epoch": "x"}, 3):
        with pytest.raises(nf.PatchError, match="not a state of patches"):
            grid(10, seed=3).load_state_dict(bad)
    with pytest.raises(nf.PatchError, match="11 of 10 patches"):
        grid(10, seed=3).load_state_dict({**state, "delivered": 11})


def test_the_fingerprint_is_the_same_in_every_process_and_epoch():
    patches = RandomPatches(sized((50, 60), (30, 30)), 8, 20, seed=7)
    before = patches.fingerprint
    patches.set_epoch(5)
    assert pickle.loads(pickle.dumps(patches)).fingerprint == before == "b7d70f5231186110861dac1b"


def test_a_negative_epoch_is_an_error():
    with pytest.raises(ValueError, match="epoch=-1"):
        grid(3).set_epoch(-1)
