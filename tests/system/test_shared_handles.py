"""HandlePool.share: one handle for all threads, evicted by the clock algorithm, and opened again after that."""

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
    """A handle of one or two descriptors; the factory notices when it is collected."""

    def __init__(self, key: object, descriptor_count: int = 1) -> None:
        self.key = key
        self.descriptor_count = descriptor_count


class HandleFactory:
    """Opens handles, and knows those that are still referenced."""

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
def factory():
    return HandleFactory()


def assert_books_in_order(pool: HandlePool) -> None:
    """The counts and indices of the pool agree, and no key has two handles."""
    assert pool._idle_descriptors == sum(handle.descriptor_count for _, handle in pool._idle.values()) <= pool.max_idle
    assert sorted(number for numbers in pool._by_key.values() for number in numbers) == sorted(pool._idle)
    assert all(len(numbers) == 1 for numbers in pool._by_key.values())
    assert all(pool._idle[number][0] == key for key, numbers in pool._by_key.items() for number in numbers)


def test_it_is_opened_once_and_stays(factory):
    pool = HandlePool(max_idle=4)
    first = pool.share("a", factory.opener("a"))
    for _ in range(5):
        assert pool.share("a", factory.opener("a")) is first
    assert pool.share("b", factory.opener("b")).key == "b"
    assert factory.made == ["a", "b"]
    assert_books_in_order(pool)


def test_threads_that_come_at_once_get_the_same():
    """Each thread may open one; all but one are closed."""
    factory, pool, barrier, got = HandleFactory(seconds=0.02), HandlePool(max_idle=8), threading.Barrier(8), []

    def work():
        barrier.wait()
        got.append(pool.share("a", factory.opener("a")))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert factory.keys == ["a"]
    assert_books_in_order(pool)


def test_the_oldest_goes_but_not_one_that_was_used(factory):
    pool = HandlePool(max_idle=3)
    for key in "abc":
        pool.share(key, factory.opener(key))
    pool.share("a", factory.opener("a")).is_used = True
    pool.share("d", factory.opener("d"))
    assert factory.keys == ["a", "c", "d"]
    pool.share("e", factory.opener("e"))  # a was passed over once, which put it behind c
    assert factory.keys == ["a", "d", "e"]
    pool.share("f", factory.opener("f"))
    assert factory.keys == ["d", "e", "f"], "a second chance, not a third"
    assert_books_in_order(pool)


def test_where_all_were_used_the_oldest_goes(factory):
    pool = HandlePool(max_idle=3)
    for number, key in enumerate("abcdefgh"):
        pool.share(key, factory.opener(key))
        for _, handle in pool._idle.values():
            handle.is_used = True
        handle = None
        assert factory.keys == list("abcdefgh"[max(0, number - 2) : number + 1])
        assert_books_in_order(pool)


def test_one_that_takes_two_descriptors_counts_as_two(factory):
    pool = HandlePool(max_idle=4)
    for key in "abc":
        pool.share(key, factory.opener(key, 2))
    assert factory.keys == ["b", "c"]
    pool.share("d", factory.opener("d"))
    assert factory.keys == ["c", "d"]
    assert_books_in_order(pool)


@pytest.mark.parametrize("max_idle", [0, 1])
def test_a_pool_without_room_lends_all_the_same(factory, max_idle):
    pool = HandlePool(max_idle=max_idle)
    handle = pool.share("a", factory.opener("a", 2))
    assert (handle.key, factory.keys) == ("a", ["a"])
    assert_books_in_order(pool)
    del handle
    assert factory.keys == []


@pytest.mark.parametrize(
    "let_go", [lambda pool: pool.close(), lambda pool: pool.discard("a")], ids=["close", "discard"]
)
def test_what_is_let_go_of_lives_as_long_as_its_users_and_is_opened_again(factory, let_go):
    pool = HandlePool(max_idle=4)
    first = pool.share("a", factory.opener("a"))
    let_go(pool)
    assert factory.keys == ["a"], "somebody reads by it"
    second = pool.share("a", factory.opener("a"))
    assert second is not first
    assert factory.made == ["a", "a"]
    del first
    assert list(factory.alive) == [second]
    let_go(pool)
    del second
    assert factory.keys == []
    assert_books_in_order(pool)


def test_one_that_does_not_open_leaves_nothing_behind(factory):
    pool = HandlePool(max_idle=4)

    def fail():
        raise FileNotFoundError("a")

    with pytest.raises(FileNotFoundError):
        pool.share("a", fail)
    assert pool._idle == {}
    assert pool.share("a", factory.opener("a")).key == "a"


def test_where_descriptors_run_out_the_others_make_room(factory):
    pool = HandlePool(max_idle=16)
    for key in "abc":
        pool.share(key, factory.opener(key))
    tries = []

    def open_handle():
        tries.append(factory.keys)
        if len(tries) == 1:
            raise OSError(24, "Too many open files")
        return factory.opener("d")()

    assert pool.share("d", open_handle).key == "d"
    assert tries == [["a", "b", "c"], []]
    assert_books_in_order(pool)


operations = st.lists(
    st.tuples(st.sampled_from(["share", "share", "use", "discard", "close", "forget"]), st.integers(0, 5)), max_size=50
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 7), operations)
def test_any_order_of_operations_keeps_the_books(max_idle, steps):
    factory, pool, mine = HandleFactory(), HandlePool(max_idle=max_idle), {}
    for name, key in steps:
        if name == "share":
            handle = pool.share(key, factory.opener(key, 1 + key % 2))
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
    assert {id(item) for item in factory.alive} == kept, "somebody keeps what nobody needs"


def test_eight_threads_hammer_it():
    factory, pool, stop, errors = HandleFactory(), HandlePool(max_idle=5), time.monotonic() + 1, []

    def hammer(seed):
        rng = random.Random(seed)
        try:
            while time.monotonic() < stop:
                key = rng.randrange(12)
                handle = pool.share(key, factory.opener(key))
                assert handle.key == key
                handle.is_used = True
                if rng.random() < 0.05:
                    pool.discard(key)
                if rng.random() < 0.01:
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
    assert len(factory.made) > 50
    assert len(factory.alive) == len(pool._idle)
    assert_books_in_order(pool)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_opens_its_own_and_lets_go_of_none_of_its_parent_s(factory):
    pool = HandlePool(max_idle=4)
    mine = pool.share("a", factory.opener("a"))
    pool.share("b", factory.opener("b"))

    def check() -> bool:
        first = pool.share("a", factory.opener("a"))
        pool.close()
        gc.collect()
        return first is not mine and factory.made == ["a", "b", "a"] and factory.keys == ["a", "a", "b"]

    in_fork(check)
    assert pool.share("a", factory.opener("a")) is mine
    assert factory.made == ["a", "b"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_is_at_work_there_goes_on(factory):
    pool = HandlePool(max_idle=4)
    pool.share("a", factory.opener("a"))
    held, release = threading.Event(), threading.Event()

    def hold():
        with pool._lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        in_fork(lambda: pool.share("a", factory.opener("a")).key == "a" and factory.made == ["a", "a"])
    finally:
        release.set()
        holder.join()


class Careless:
    """A key whose hash discards another key inside of the pool, as a finalizer may do."""

    def __init__(self) -> None:
        self.pool: HandlePool | None = None

    def __hash__(self) -> int:
        if self.pool is not None:
            self.pool.discard("b")
        return 7


@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_discarded_while_another_is_shared_goes_at_once(factory, is_there):
    pool, key = HandlePool(max_idle=4), Careless()
    pool.share("b", factory.opener("b"))
    if is_there:
        pool.share(key, factory.opener("a"))
    key.pool = pool
    assert pool.share(key, factory.opener("a")).key == "a"
    assert factory.keys == ["a"]
