"""ClockCache: a budget, an order, threads and forks."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.forking import in_fork
from kit.racing import run_in_threads

from ndframes.system.memory import ClockCache, _Item


def test_it_keeps_what_was_used_last():
    lru = ClockCache(10, len)
    for text in ("aaaa", "bbbb"):
        lru.put(text[0], text)
    assert lru.get("a") == "aaaa"
    lru.put("c", "cccc")
    assert (lru.get("a"), lru.get("b"), lru.get("c")) == ("aaaa", None, "cccc")
    assert "b" not in lru
    assert "a" in lru
    assert (len(lru), lru.used_bytes) == (2, 8)


def test_a_value_of_the_whole_budget_is_kept_alone():
    lru = ClockCache(10, len)
    lru.put("a", "aaaa")
    lru.put("b", "b" * 10)
    assert (lru.get("a"), lru.get("b"), lru.used_bytes) == (None, "b" * 10, 10)


def test_too_dear_a_value_is_not_kept_and_costs_the_others_nothing():
    lru = ClockCache(10, len)
    lru.put("a", "aaaa")
    lru.put("b", "b" * 11)
    assert (lru.get("a"), lru.get("b"), lru.used_bytes) == ("aaaa", None, 4)
    lru.put("a", "a" * 11)
    assert (lru.get("a"), len(lru), lru.used_bytes) == (None, 0, 0)


def test_putting_again_counts_the_new_cost_only():
    lru = ClockCache(10, len)
    for length in (4, 7, 1):
        lru.put("a", "a" * length)
        assert (lru.used_bytes, len(lru)) == (length, 1)


def test_discarding_is_idempotent():
    lru = ClockCache(10, len)
    lru.put("a", "aaaa")
    lru.discard("a")
    lru.discard("a")
    lru.discard("never there")
    assert (lru.get("a"), lru.used_bytes) == (None, 0)


def test_a_cost_that_fails_changes_nothing():
    lru = ClockCache(10, len)
    lru.put("a", "aaaa")
    with pytest.raises(TypeError):
        lru.put("a", 5)
    assert (lru.get("a"), lru.used_bytes) == ("aaaa", 4)


operations = st.lists(
    st.tuples(st.sampled_from(["put", "get", "discard"]), st.integers(0, 5), st.integers(0, 9)), max_size=40
)


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 20), operations)
def test_it_does_what_its_plainest_model_does(max_bytes, steps):
    lru = ClockCache(max_bytes, lambda value: value)
    model: OrderedDict[int, int] = OrderedDict()
    used = set()
    for name, key, cost in steps:
        if name == "get":
            assert lru.get(key) == model.get(key)
            used |= {key} & set(model)
            continue
        model.pop(key, None)
        used.discard(key)
        if name == "discard":
            lru.discard(key)
            continue
        lru.put(key, cost)
        if cost <= max_bytes:
            while sum(model.values()) > max_bytes - cost:
                oldest = next(iter(model))
                if oldest in used:
                    used.remove(oldest)
                    model.move_to_end(oldest)
                else:
                    model.pop(oldest)
            model[key] = cost
        assert [key in lru for key in range(6)] == [key in model for key in range(6)]
        assert (len(lru), lru.used_bytes) == (len(model), sum(model.values()))


def test_values_are_let_go_outside_the_lock():
    """The finalizer of a value may call the cache that drops the value."""
    lru = ClockCache(1, lambda value: 1)
    seen = []

    class Value:
        def __del__(self):
            seen.append(lru.get("b"))
            lru.discard("c")

    for operation in (lambda: lru.put("b", "new"), lambda: lru.put("a", "again"), lambda: lru.discard("a")):
        lru.put("a", Value())
        worker = threading.Thread(target=operation, daemon=True)
        worker.start()
        worker.join(10)
        assert not worker.is_alive(), "a finalizer waits for the lock that its own thread holds"
        lru.discard("b")
    gc.collect()
    assert len(seen) == 3


def test_eight_threads_hammer_it():
    lru = ClockCache(1000, lambda value: value[1])
    stop = time.monotonic() + 1.5

    def hammer(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < stop:
            key, cost = dice.randrange(40), dice.randrange(1, 300)
            choice = dice.random()
            if choice < 0.5:
                lru.put(key, (key, cost))
            elif choice < 0.9:
                got = lru.get(key)
                assert got is None or got[0] == key
            else:
                lru.discard(key)
            with lru._lock:
                assert lru.used_bytes == sum(item.cost for item in lru._items.values()) <= lru.max_bytes

    assert run_in_threads(hammer, 8) == [None] * 8
    assert len(lru) > 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_holds_the_lock_goes_on():
    lru = ClockCache(10, len)
    lru.put("a", "aaaa")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lru._lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def check() -> bool:
        lru.put("b", "bbbb")
        lru.put("c", "cccc")
        return (lru.get("a"), lru.get("c"), lru.used_bytes) == (None, "cccc", 8)

    try:
        in_fork(check)
    finally:
        release.set()
        holder.join()
    assert (lru.get("a"), lru.get("c")) == ("aaaa", None)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_put_has_its_books_in_order():
    lru = ClockCache(10, len)
    for text in ("aaaa", "bbbb"):
        lru.put(text[0], text)
    lru._items["c"] = _Item("cccc", 4)  # as far as put comes between two of its lines
    in_fork(lambda: (len(lru), lru.used_bytes, lru.get("a")) == (2, 8, None))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_beside_busy_threads():
    lru = ClockCache(50, len)
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            for key in range(20):
                lru.put(key, "x" * key)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()

    def check() -> bool:
        if lru.used_bytes != sum(item.cost for item in lru._items.values()) or lru.used_bytes > 50:
            return False
        lru.put("own", "yyyy")
        return lru.get("own") == "yyyy"

    try:
        for _ in range(20):
            in_fork(check)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# -- reading without a lock ---------------------------------------------------------------------------------------


def test_a_get_waits_for_nobody():
    """Every crop calls it."""
    lru = ClockCache(10, len)
    lru.put("a", "aaaa")
    got = []
    with lru._lock:
        reader = threading.Thread(target=lambda: got.append((lru.get("a"), lru.get("b"), "a" in lru)), daemon=True)
        reader.start()
        reader.join(10)
    assert got == [("aaaa", None, True)]


def test_what_was_used_is_passed_over_once_and_to_look_is_no_use():
    lru = ClockCache(12, len)
    for key in "abc":
        lru.put(key, key * 4)
    assert lru.get("a") == "aaaa"
    assert "b" in lru
    kept = []
    for key in "defg":
        lru.put(key, key * 4)
        kept.append("".join(sorted(lru._items)))
    assert kept == ["acd", "ade", "def", "efg"]


def test_where_all_were_used_room_is_made_all_the_same():
    lru = ClockCache(40, len)
    for number in range(50):
        lru.put(number, "xxxx")
        for other in range(50):
            lru.get(other)
        assert lru.used_bytes <= 40
        assert number in lru
    assert len(lru) == 10


def test_a_large_value_drives_out_as_many_as_it_needs():
    lru = ClockCache(20, len)
    for key in "abcde":
        lru.put(key, key * 4)
    lru.get("a")
    lru.put("f", "f" * 13)
    assert sorted(lru._items) == ["a", "f"]
    assert lru.used_bytes == 17
