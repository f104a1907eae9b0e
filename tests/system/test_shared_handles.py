"""HandlePool.share: one handle for all threads; who was used gets a second chance; what is let go of is opened again."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.forking import in_fork

from ndframes.system.handles import HandlePool, SharedHandle


class Handle(SharedHandle):
    """A handle of one descriptor or two; the shelf sees when nobody has it any more."""

    def __init__(self, key: object, descriptor_count: int = 1) -> None:
        self.key = key
        self.descriptor_count = descriptor_count


class Shelf:
    """Opens handles, and knows those that somebody has."""

    def __init__(self, seconds: float = 0) -> None:
        self.made: list[object] = []
        self.alive: weakref.WeakSet[Handle] = weakref.WeakSet()
        self.seconds = seconds

    def opener(self, key: object, descriptor_count: int = 1):
        def open_handle() -> Handle:
            time.sleep(self.seconds)
            handle = Handle(key, descriptor_count)
            self.made.append(key)
            self.alive.add(handle)
            return handle

        return open_handle

    @property
    def keys(self) -> list[object]:
        return sorted(handle.key for handle in self.alive)


@pytest.fixture
def shelf():
    return Shelf()


def assert_books_in_order(pool: HandlePool) -> None:
    """What the pool keeps is what it says; no key has two."""
    assert pool._idle_descriptors == sum(handle.descriptor_count for _, handle in pool._idle.values()) <= pool.max_idle
    assert sorted(ticket for tickets in pool._by_key.values() for ticket in tickets) == sorted(pool._idle)
    assert all(len(tickets) == 1 for tickets in pool._by_key.values())
    assert all(pool._idle[ticket][0] == key for key, tickets in pool._by_key.items() for ticket in tickets)


def test_it_is_opened_once_and_stays(shelf):
    pool = HandlePool(max_idle=4)
    first = pool.share("a", shelf.opener("a"))
    for _ in range(5):
        assert pool.share("a", shelf.opener("a")) is first
    assert pool.share("b", shelf.opener("b")).key == "b"
    assert shelf.made == ["a", "b"]
    assert_books_in_order(pool)


def test_threads_that_come_at_once_get_the_same():
    """Each of them may have opened one; all but one are let go of."""
    shelf, pool, barrier, got = Shelf(seconds=0.02), HandlePool(max_idle=8), threading.Barrier(8), []

    def work():
        barrier.wait()
        got.append(pool.share("a", shelf.opener("a")))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert shelf.keys == ["a"]
    assert_books_in_order(pool)


def test_the_oldest_goes_but_not_one_that_was_used(shelf):
    pool = HandlePool(max_idle=3)
    for key in "abc":
        pool.share(key, shelf.opener(key))
    pool.share("a", shelf.opener("a")).is_used = True
    pool.share("d", shelf.opener("d"))
    assert shelf.keys == ["a", "c", "d"]
    pool.share("e", shelf.opener("e"))  # a was passed over once, which put it behind c
    assert shelf.keys == ["a", "d", "e"]
    pool.share("f", shelf.opener("f"))
    assert shelf.keys == ["d", "e", "f"], "a second chance, not a third"
    assert_books_in_order(pool)


def test_where_all_were_used_the_oldest_goes(shelf):
    pool = HandlePool(max_idle=3)
    for number, key in enumerate("abcdefgh"):
        pool.share(key, shelf.opener(key))
        for _, handle in pool._idle.values():
            handle.is_used = True
        handle = None
        assert shelf.keys == list("abcdefgh"[max(0, number - 2) : number + 1])
        assert_books_in_order(pool)


def test_one_that_takes_two_descriptors_counts_as_two(shelf):
    pool = HandlePool(max_idle=4)
    for key in "abc":
        pool.share(key, shelf.opener(key, 2))
    assert shelf.keys == ["b", "c"]
    pool.share("d", shelf.opener("d"))
    assert shelf.keys == ["c", "d"]
    assert_books_in_order(pool)


@pytest.mark.parametrize("max_idle", [0, 1])
def test_a_pool_without_room_lends_all_the_same(shelf, max_idle):
    pool = HandlePool(max_idle=max_idle)
    handle = pool.share("a", shelf.opener("a", 2))
    assert (handle.key, shelf.keys) == ("a", ["a"])
    assert_books_in_order(pool)
    del handle
    assert shelf.keys == []


@pytest.mark.parametrize(
    "let_go", [lambda pool: pool.close(), lambda pool: pool.discard("a")], ids=["close", "discard"]
)
def test_what_is_let_go_of_lives_as_long_as_its_users_and_is_opened_again(shelf, let_go):
    pool = HandlePool(max_idle=4)
    first = pool.share("a", shelf.opener("a"))
    let_go(pool)
    assert shelf.keys == ["a"], "somebody reads by it"
    second = pool.share("a", shelf.opener("a"))
    assert second is not first
    assert shelf.made == ["a", "a"]
    del first
    assert list(shelf.alive) == [second]
    let_go(pool)
    del second
    assert shelf.keys == []
    assert_books_in_order(pool)


def test_one_that_does_not_open_leaves_nothing_behind(shelf):
    pool = HandlePool(max_idle=4)

    def fail():
        raise FileNotFoundError("a")

    with pytest.raises(FileNotFoundError):
        pool.share("a", fail)
    assert pool._idle == {}
    assert pool.share("a", shelf.opener("a")).key == "a"


def test_where_descriptors_run_out_the_others_make_room(shelf):
    pool = HandlePool(max_idle=16)
    for key in "abc":
        pool.share(key, shelf.opener(key))
    tries = []

    def open_handle():
        tries.append(shelf.keys)
        if len(tries) == 1:
            raise OSError(24, "Too many open files")
        return shelf.opener("d")()

    assert pool.share("d", open_handle).key == "d"
    assert tries == [["a", "b", "c"], []]
    assert_books_in_order(pool)


operations = st.lists(
    st.tuples(st.sampled_from(["share", "share", "use", "discard", "close", "forget"]), st.integers(0, 5)), max_size=50
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 7), operations)
def test_any_order_of_operations_keeps_the_books(max_idle, steps):
    shelf, pool, mine = Shelf(), HandlePool(max_idle=max_idle), {}
    for name, key in steps:
        if name == "share":
            handle = pool.share(key, shelf.opener(key, 1 + key % 2))
            assert handle.key == key
            mine[key] = handle
        elif name == "use" and key in mine:
            mine[key].is_used = True
        elif name == "discard":
            pool.discard(key)
            assert key not in pool._by_key
        elif name == "close":
            pool.close()
            assert not pool._idle
        elif name == "forget":
            mine.pop(key, None)
        assert_books_in_order(pool)
    kept = {id(handle) for _, handle in pool._idle.values()} | {id(handle) for handle in mine.values()}
    handle = None
    gc.collect(0)
    assert {id(item) for item in shelf.alive} == kept, "somebody keeps what nobody needs"


def test_eight_threads_hammer_it():
    shelf, pool, stop, errors = Shelf(), HandlePool(max_idle=5), time.monotonic() + 1, []

    def hammer(seed):
        dice = random.Random(seed)
        try:
            while time.monotonic() < stop:
                key = dice.randrange(12)
                handle = pool.share(key, shelf.opener(key))
                assert handle.key == key
                handle.is_used = True
                if dice.random() < 0.05:
                    pool.discard(key)
                if dice.random() < 0.01:
                    pool.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)
    assert len(shelf.made) > 50
    assert len(shelf.alive) == len(pool._idle)
    assert_books_in_order(pool)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_opens_its_own_and_lets_go_of_none_of_its_parent_s(shelf):
    pool = HandlePool(max_idle=4)
    mine = pool.share("a", shelf.opener("a"))
    pool.share("b", shelf.opener("b"))

    def check() -> bool:
        first = pool.share("a", shelf.opener("a"))
        pool.close()
        gc.collect()
        return first is not mine and shelf.made == ["a", "b", "a"] and shelf.keys == ["a", "a", "b"]

    in_fork(check)
    assert pool.share("a", shelf.opener("a")) is mine
    assert shelf.made == ["a", "b"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_is_at_work_there_goes_on(shelf):
    pool = HandlePool(max_idle=4)
    pool.share("a", shelf.opener("a"))
    held, release = threading.Event(), threading.Event()

    def hold():
        with pool._lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        in_fork(lambda: pool.share("a", shelf.opener("a")).key == "a" and shelf.made == ["a", "a"])
    finally:
        release.set()
        holder.join()


class Careless:
    """A key whose hash, taken inside the pool, discards another: as a finalizer may that runs there."""

    def __init__(self) -> None:
        self.pool: HandlePool | None = None

    def __hash__(self) -> int:
        if self.pool is not None:
            self.pool.discard("b")
        return 7


@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_discarded_while_another_is_shared_goes_at_once(shelf, is_there):
    pool, key = HandlePool(max_idle=4), Careless()
    pool.share("b", shelf.opener("b"))
    if is_there:
        pool.share(key, shelf.opener("a"))
    key.pool = pool
    assert pool.share(key, shelf.opener("a")).key == "a"
    assert shelf.keys == ["a"]
