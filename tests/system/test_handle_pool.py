"""HandlePool: one borrower at a time, a limit on idle handles, and finalizers that discard them."""

from __future__ import annotations

import gc
import resource
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.handles import Handle, HandleFactory

from ndframes.system.handles import HandlePool


@pytest.fixture
def factory():
    return HandleFactory()


def test_a_handle_comes_back_and_is_lent_again(factory):
    pool = HandlePool()
    for _ in range(5):
        with pool.borrow("a", factory.opener("a")) as handle:
            assert handle is factory.made[0]
    assert len(factory.made) == 1
    assert not factory.made[0].closed


def test_each_key_has_its_own(factory):
    pool = HandlePool()
    for key in ("a", "b", "a", ("a", 1), "b"):
        with pool.borrow(key, factory.opener(key)) as handle:
            assert handle.key == key
    assert [handle.key for handle in factory.made] == ["a", "b", ("a", 1)]


def test_a_borrowed_handle_is_exclusive(factory):
    pool = HandlePool()
    with pool.borrow("a", factory.opener("a")) as first, pool.borrow("a", factory.opener("a")) as second:
        assert first is not second
    with pool.borrow("a", factory.opener("a")) as first, pool.borrow("a", factory.opener("a")) as second:
        assert {id(first), id(second)} == {id(handle) for handle in factory.made}


def test_a_handle_that_does_not_open_leaves_nothing_behind(factory):
    pool = HandlePool()

    def fail():
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"), pool.borrow("a", fail):
        pass
    assert (len(pool._idle), pool._by_key) == (0, {})
    with pool.borrow("a", factory.opener("a")) as handle:
        assert handle is factory.made[0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_a_handle_whose_borrower_failed_is_closed(factory, error):
    pool = HandlePool()
    with pytest.raises(error), pool.borrow("a", factory.opener("a")):
        raise error
    assert factory.made[0].closed == 1
    with pool.borrow("a", factory.opener("a")) as handle:
        assert handle is factory.made[1]
    assert len(pool._idle) == 1


def test_a_failure_closes_only_its_own_handle(factory):
    pool = HandlePool()
    with pool.borrow("a", factory.opener("a")) as outer:
        with pytest.raises(RuntimeError), pool.borrow("a", factory.opener("a")):
            raise RuntimeError
        assert [handle.closed for handle in factory.made] == [0, 1]
    with pool.borrow("a", factory.opener("a")) as again:
        assert again is outer


def test_idle_handles_are_limited_and_the_oldest_are_closed_first(factory):
    pool = HandlePool(max_idle=3)
    for key in "abcde":
        with pool.borrow(key, factory.opener(key)):
            pass
    assert [handle.key for handle in factory.open] == ["c", "d", "e"]
    with pool.borrow("c", factory.opener("c")):
        pass
    with pool.borrow("f", factory.opener("f")):
        pass
    assert [handle.key for handle in factory.open] == ["c", "e", "f"]
    assert set(pool._by_key) == set("cef")


def test_a_handle_of_several_descriptors_counts_as_several(factory):
    class Wide(Handle):
        descriptor_count = 4

    pool = HandlePool(max_idle=6)
    wide = [Wide(), Wide()]
    with pool.borrow("a", factory.opener("a")), pool.borrow("b", lambda: wide[0]):
        pass
    assert (pool._idle_descriptors, wide[0].closed) == (5, 0)
    with pool.borrow("c", factory.opener("c")):
        pass
    assert (pool._idle_descriptors, wide[0].closed) == (6, 0)
    with pool.borrow("d", lambda: wide[1]):
        pass
    assert (pool._idle_descriptors, wide[0].closed, wide[1].closed) == (6, 1, 0)
    pool.discard("d")
    assert pool._idle_descriptors == 2
    pool.close()
    assert pool._idle_descriptors == 0
    assert not factory.open


@pytest.mark.parametrize(("limit", "expected"), [(4096, 128), (512, 128), (256, 64), (64, 16), (12, 4)])
def test_the_default_limit_is_a_quarter_of_the_file_limit(limit, expected):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < limit:
        pytest.skip(f"no more than {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        pool = HandlePool()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pool.max_idle == expected


def test_borrowed_handles_do_not_count_as_idle(factory):
    pool = HandlePool(max_idle=1)
    with (
        pool.borrow("a", factory.opener("a")),
        pool.borrow("b", factory.opener("b")),
        pool.borrow("c", factory.opener("c")),
    ):
        assert len(factory.open) == 3
    assert [handle.key for handle in factory.open] == ["a"]


def test_a_pool_that_keeps_nothing(factory):
    pool = HandlePool(max_idle=0)
    for _ in range(3):
        with pool.borrow("a", factory.opener("a")):
            pass
    assert [handle.closed for handle in factory.made] == [1, 1, 1]
    assert (len(pool._idle), pool._by_key) == (0, {})


def test_close_closes_every_idle_handle_once(factory):
    pool = HandlePool()
    with (
        pool.borrow("a", factory.opener("a")),
        pool.borrow("a", factory.opener("a")),
        pool.borrow("b", factory.opener("b")),
    ):
        pool.close()
        assert not any(handle.closed for handle in factory.made)
    pool.close()
    pool.close()
    assert [handle.closed for handle in factory.made] == [1, 1, 1]
    with pool.borrow("a", factory.opener("a")) as handle:
        assert not handle.closed


def test_discard_closes_the_idle_handles_of_one_key(factory):
    pool = HandlePool()
    with (
        pool.borrow("a", factory.opener("a")),
        pool.borrow("a", factory.opener("a")),
        pool.borrow("b", factory.opener("b")),
    ):
        pass
    pool.discard("a")
    pool.discard("a")
    pool.discard("never there")
    assert [handle.key for handle in factory.open] == ["b"]
    assert set(pool._by_key) == {"b"}


def borrow_one_more(pool, factory):
    pool.max_idle = 0
    with pool.borrow("b", factory.opener("b")):
        pass


@pytest.mark.parametrize(
    "close_some",
    [lambda pool, _: pool.close(), lambda pool, _: pool.discard("a"), borrow_one_more],
    ids=["close", "discard", "surplus"],
)
def test_one_handle_that_fails_to_close_does_not_keep_the_others_open(factory, close_some):
    class Stubborn(Handle):
        def close(self) -> None:
            super().close()
            raise OSError("will not close")

    pool = HandlePool(max_idle=4)
    stubborn = Stubborn("a")
    with (
        pool.borrow("a", lambda: stubborn),
        pool.borrow("a", factory.opener("a")),
        pool.borrow("a", factory.opener("a")),
    ):
        pass
    with pytest.raises(OSError, match="will not close"):
        close_some(pool, factory)
    assert stubborn.closed == 1
    assert factory.open == []


steps = st.lists(
    st.tuples(st.sampled_from(["take", "give", "fail", "discard", "close"]), st.integers(0, 3)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), steps)
def test_any_order_of_borrowing_keeps_the_pool_consistent(max_idle, operations):
    pool, factory, lent = HandlePool(max_idle), HandleFactory(), []
    for name, number in operations:
        if name == "take":
            context = pool.borrow(number, factory.opener(number))
            handle = context.__enter__()
            assert handle.key == number
            assert not handle.closed
            assert handle not in [other for _, other in lent]
            lent.append((context, handle))
        elif name in ("give", "fail") and lent:
            context, handle = lent.pop(number % len(lent))
            if name == "give":
                context.__exit__(None, None, None)
            else:
                assert not context.__exit__(ValueError, ValueError("the borrower failed"), None)
        elif name == "discard":
            pool.discard(number)
        elif name == "close":
            pool.close()
        idle = [handle for _, handle in pool._idle.values()]
        assert len(idle) <= max_idle
        assert pool._idle_descriptors == len(idle)
        assert sorted(number for numbers in pool._by_key.values() for number in numbers) == sorted(pool._idle)
        assert all(pool._idle[number][0] == key for key, numbers in pool._by_key.items() for number in numbers)
        assert {id(handle) for handle in factory.open} == {
            id(handle) for handle in [*idle, *(item[1] for item in lent)]
        }
        assert all(handle.closed <= 1 for handle in factory.made)


class CollectingKey:
    """A key whose hash runs a garbage collection inside of the pool, as any allocation may."""

    armed = False

    def __hash__(self) -> int:
        if CollectingKey.armed:
            gc.collect()
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize("max_idle", [1, 8])
def test_a_finalizer_may_discard_at_any_moment(factory, max_idle):
    """A garbage collection may finalize a reader inside of the pool's methods, also with its lock held."""
    pool = HandlePool(max_idle)
    key = CollectingKey()

    class Reader:
        def __init__(self, name: str) -> None:
            self.itself = self  # a cycle, which only a collection finds
            with pool.borrow(name, factory.opener(name)):
                pass
            weakref.finalize(self, pool.discard, name)

    def work() -> None:
        CollectingKey.armed = True
        for name in "abc":
            Reader(name)
            with pool.borrow(key, factory.opener("collecting")):
                Reader(name * 2)

    gc.disable()
    try:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(60)
        assert not worker.is_alive(), "a finalizer waits for the lock that its own thread holds"
    finally:
        CollectingKey.armed = False
        gc.enable()
    gc.collect()
    assert {handle.key for handle in factory.open} <= {"collecting"}
    assert all(handle.closed <= 1 for handle in factory.made)


def test_a_key_discarded_under_the_lock_is_closed_afterwards(factory):
    pool = HandlePool()
    with pool.borrow("a", factory.opener("a")):
        pass
    with pool._lock:
        pool.discard("a")
        assert not factory.made[0].closed
    with pool.borrow("b", factory.opener("b")):
        pass
    assert factory.made[0].closed == 1
    assert [handle.key for handle in factory.open] == ["b"]
