"""HandlePool: one borrower a handle, a cap on idle ones, finalizers, threads and forks."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import weakref

import pytest
from forking import in_fork
from hypothesis import given, settings
from hypothesis import strategies as st

from ndframes.formats.handles import HandlePool


class Handle:
    """A handle that knows who has it and whether it was closed."""

    def __init__(self, key: object = None) -> None:
        self.key = key
        self.borrowers = 0
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Shelf:
    """Opens handles and remembers all of them."""

    def __init__(self) -> None:
        self.made: list[Handle] = []

    def opener(self, key: object):
        def open_handle() -> Handle:
            handle = Handle(key)
            self.made.append(handle)
            return handle

        return open_handle

    @property
    def open(self) -> list[Handle]:
        return [handle for handle in self.made if not handle.closed]


@pytest.fixture
def shelf():
    return Shelf()


# -- borrowing ----------------------------------------------------------------------------------------------------


def test_a_handle_comes_back_and_is_lent_again(shelf):
    pool = HandlePool()
    for _ in range(5):
        with pool.borrow("a", shelf.opener("a")) as handle:
            assert handle is shelf.made[0]
    assert len(shelf.made) == 1
    assert not shelf.made[0].closed


def test_each_key_has_its_own(shelf):
    pool = HandlePool()
    for key in ("a", "b", "a", ("a", 1), "b"):
        with pool.borrow(key, shelf.opener(key)) as handle:
            assert handle.key == key
    assert [handle.key for handle in shelf.made] == ["a", "b", ("a", 1)]


def test_a_borrowed_handle_is_nobody_else_s(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")) as first, pool.borrow("a", shelf.opener("a")) as second:
        assert first is not second
    with pool.borrow("a", shelf.opener("a")) as first, pool.borrow("a", shelf.opener("a")) as second:
        assert {id(first), id(second)} == {id(handle) for handle in shelf.made}


def test_a_handle_that_does_not_open_leaves_nothing_behind(shelf):
    pool = HandlePool()

    def fail():
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"), pool.borrow("a", fail):
        pass
    assert (len(pool._idle), pool._by_key) == (0, {})
    with pool.borrow("a", shelf.opener("a")) as handle:
        assert handle is shelf.made[0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_a_handle_whose_borrower_failed_is_closed(shelf, error):
    pool = HandlePool()
    with pytest.raises(error), pool.borrow("a", shelf.opener("a")):
        raise error
    assert shelf.made[0].closed == 1
    with pool.borrow("a", shelf.opener("a")) as handle:
        assert handle is shelf.made[1]
    assert len(pool._idle) == 1


def test_a_failure_costs_only_the_handle_that_failed(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")) as outer:
        with pytest.raises(RuntimeError), pool.borrow("a", shelf.opener("a")):
            raise RuntimeError
        assert [handle.closed for handle in shelf.made] == [0, 1]
    with pool.borrow("a", shelf.opener("a")) as again:
        assert again is outer


# -- what stays open ----------------------------------------------------------------------------------------------


def test_the_idle_ones_are_capped_and_the_oldest_go_first(shelf):
    pool = HandlePool(max_idle=3)
    for key in "abcde":
        with pool.borrow(key, shelf.opener(key)):
            pass
    assert [handle.key for handle in shelf.open] == ["c", "d", "e"]
    with pool.borrow("c", shelf.opener("c")):
        pass
    with pool.borrow("f", shelf.opener("f")):
        pass
    assert [handle.key for handle in shelf.open] == ["c", "e", "f"]
    assert set(pool._by_key) == set("cef")


def test_borrowed_ones_do_not_count_as_idle(shelf):
    pool = HandlePool(max_idle=1)
    with pool.borrow("a", shelf.opener("a")), pool.borrow("b", shelf.opener("b")), pool.borrow("c", shelf.opener("c")):
        assert len(shelf.open) == 3
    assert [handle.key for handle in shelf.open] == ["a"]


def test_a_pool_that_keeps_nothing(shelf):
    pool = HandlePool(max_idle=0)
    for _ in range(3):
        with pool.borrow("a", shelf.opener("a")):
            pass
    assert [handle.closed for handle in shelf.made] == [1, 1, 1]
    assert (len(pool._idle), pool._by_key) == (0, {})


def test_closing_closes_every_idle_one_once(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")), pool.borrow("a", shelf.opener("a")), pool.borrow("b", shelf.opener("b")):
        pool.close()
        assert not any(handle.closed for handle in shelf.made)
    pool.close()
    pool.close()
    assert [handle.closed for handle in shelf.made] == [1, 1, 1]
    with pool.borrow("a", shelf.opener("a")) as handle:
        assert not handle.closed


def test_discarding_closes_the_idle_ones_of_one_key(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")), pool.borrow("a", shelf.opener("a")), pool.borrow("b", shelf.opener("b")):
        pass
    pool.discard("a")
    pool.discard("a")
    pool.discard("never there")
    assert [handle.key for handle in shelf.open] == ["b"]
    assert set(pool._by_key) == {"b"}


def borrow_one_more(pool, shelf):
    pool.max_idle = 0
    with pool.borrow("b", shelf.opener("b")):
        pass


@pytest.mark.parametrize(
    "let_go",
    [lambda pool, _: pool.close(), lambda pool, _: pool.discard("a"), borrow_one_more],
    ids=["close", "discard", "surplus"],
)
def test_one_handle_that_fails_to_close_does_not_keep_the_others_open(shelf, let_go):
    class Stubborn(Handle):
        def close(self) -> None:
            super().close()
            raise OSError("will not close")

    pool = HandlePool(max_idle=4)
    stubborn = Stubborn("a")
    with pool.borrow("a", lambda: stubborn), pool.borrow("a", shelf.opener("a")), pool.borrow("a", shelf.opener("a")):
        pass
    with pytest.raises(OSError, match="will not close"):
        let_go(pool, shelf)
    assert stubborn.closed == 1
    assert shelf.open == []


steps = st.lists(
    st.tuples(st.sampled_from(["take", "give", "fail", "discard", "close"]), st.integers(0, 3)), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 4), steps)
def test_any_order_of_borrowing_keeps_the_books(max_idle, operations):
    pool, shelf, lent = HandlePool(max_idle), Shelf(), []
    for name, number in operations:
        if name == "take":
            lending = pool.borrow(number, shelf.opener(number))
            handle = lending.__enter__()
            assert handle.key == number
            assert not handle.closed
            assert handle not in [other for _, other in lent]
            lent.append((lending, handle))
        elif name in ("give", "fail") and lent:
            lending, handle = lent.pop(number % len(lent))
            if name == "give":
                lending.__exit__(None, None, None)
            else:
                assert lending.__exit__(ValueError, ValueError("the borrower failed"), None) is False
        elif name == "discard":
            pool.discard(number)
        elif name == "close":
            pool.close()
        idle = [handle for _, handle in pool._idle.values()]
        assert len(idle) <= max_idle
        assert sorted(ticket for tickets in pool._by_key.values() for ticket in tickets) == sorted(pool._idle)
        assert all(pool._idle[ticket][0] == key for key, tickets in pool._by_key.items() for ticket in tickets)
        assert {id(handle) for handle in shelf.open} == {id(handle) for handle in [*idle, *(item[1] for item in lent)]}
        assert all(handle.closed <= 1 for handle in shelf.made)


# -- finalizers ---------------------------------------------------------------------------------------------------


class Tripwire:
    """A key whose hash, taken inside the pool, runs a garbage collection there, as any allocation may."""

    armed = False

    def __hash__(self) -> int:
        if Tripwire.armed:
            gc.collect()
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize("max_idle", [1, 8])
def test_a_finalizer_may_discard_in_the_middle_of_anything(shelf, max_idle):
    """Readers are finalized wherever the garbage collector runs: in this pool's own methods, with its lock held, too."""
    pool = HandlePool(max_idle)
    key = Tripwire()

    class Reader:
        def __init__(self, name: str) -> None:
            self.itself = self  # only a collection finds that it is gone
            with pool.borrow(name, shelf.opener(name)):
                pass
            weakref.finalize(self, pool.discard, name)

    def work() -> None:
        Tripwire.armed = True
        for name in "abc":
            Reader(name)
            with pool.borrow(key, shelf.opener("tripwire")):
                Reader(name * 2)

    gc.disable()
    try:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(10)
        assert not worker.is_alive(), "a finalizer waits for the lock that its own thread holds"
    finally:
        Tripwire.armed = False
        gc.enable()
    gc.collect()
    assert {handle.key for handle in shelf.open} <= {"tripwire"}
    assert all(handle.closed <= 1 for handle in shelf.made)


def test_what_is_discarded_while_the_pool_is_at_work_is_closed_when_it_is_done(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")):
        pass
    with pool._lock:
        pool.discard("a")
        assert not shelf.made[0].closed
    with pool.borrow("b", shelf.opener("b")):
        pass
    assert shelf.made[0].closed == 1
    assert [handle.key for handle in shelf.open] == ["b"]


# -- threads ------------------------------------------------------------------------------------------------------


def test_threads_never_share_a_handle_and_never_wait_for_one_another(shelf):
    pool = HandlePool(max_idle=5)
    stop = time.monotonic() + 1.5
    errors: list[BaseException] = []

    def hammer(seed: int) -> None:
        dice = random.Random(seed)
        try:
            while time.monotonic() < stop:
                key = dice.randrange(4)
                try:
                    with pool.borrow(key, shelf.opener(key)) as handle:
                        handle.borrowers += 1
                        assert (handle.borrowers, handle.closed, handle.key) == (1, 0, key)
                        if dice.random() < 0.05:
                            handle.borrowers -= 1
                            raise LookupError
                        if dice.random() < 0.1:
                            time.sleep(0)
                        handle.borrowers -= 1
                except LookupError:
                    assert handle.closed == 1
                if dice.random() < 0.02:
                    pool.discard(key)
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    assert 0 < len(shelf.open) == len(pool._idle) <= 5
    pool.close()
    assert all(handle.closed == 1 for handle in shelf.made)


def test_as_many_borrowers_at_once_as_there_are_threads(shelf):
    pool = HandlePool(max_idle=2)
    meeting = threading.Barrier(8, timeout=10)
    seen: list[Handle] = []

    def borrow() -> None:
        with pool.borrow("a", shelf.opener("a")) as handle:
            meeting.wait()  # passes only if all eight hold one at once
            seen.append(handle)

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(handle) for handle in seen}) == 8
    assert len(shelf.open) == 2


# -- forks --------------------------------------------------------------------------------------------------------

forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
def test_a_child_forgets_its_parent_s_handles_and_closes_none(shelf):
    pool = HandlePool(max_idle=4)
    with pool.borrow("a", shelf.opener("a")), pool.borrow("b", shelf.opener("b")):
        pass

    def check() -> bool:
        inherited = list(shelf.made)
        with pool.borrow("a", shelf.opener("a")) as own:
            if own in inherited:
                return False
        pool.discard("b")
        pool.close()
        return own.closed == 1 and not any(handle.closed for handle in inherited)

    in_fork(check)
    with pool.borrow("a", shelf.opener("a")) as handle:
        assert handle is shelf.made[0]
    assert len(shelf.made) == 2


@forks
def test_a_child_that_drops_the_pool_lets_go_of_no_inherited_handle():
    """Not even a garbage collector may close them there."""
    gone: list[int] = []
    pool = HandlePool()
    with pool.borrow("a", Handle) as handle:
        weakref.finalize(handle, gone.append, 1)
    pools = [pool]
    del handle, pool

    def check() -> bool:
        pools.clear()
        gc.collect()
        return gone == []

    in_fork(check)
    pools.clear()
    gc.collect()
    assert gone == [1], "while the parent does let go"


@forks
def test_real_files_stay_where_the_parent_left_them(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    pool = HandlePool()

    def open_it():
        return path.open("rb", buffering=0)

    with pool.borrow("a", open_it) as file:
        assert file.read(3) == b"012"

    def check() -> bool:
        with pool.borrow("a", open_it) as own:
            return own.read(5) == b"01234"

    in_fork(check)
    with pool.borrow("a", open_it) as again:
        assert again is file
        assert again.read(3) == b"345"
    pool.close()
    assert file.closed


@forks
@pytest.mark.parametrize("fails", [False, True])
def test_a_borrower_that_forks_gives_nothing_back_in_the_child(shelf, fails):
    pool = HandlePool()
    lending = pool.borrow("a", shelf.opener("a"))
    handle = lending.__enter__()

    def check() -> bool:
        error = ValueError("in the child") if fails else None
        lending.__exit__(error and ValueError, error, None)
        with pool.borrow("a", shelf.opener("a")) as own:
            return own is not handle and not handle.closed

    in_fork(check)
    lending.__exit__(None, None, None)
    with pool.borrow("a", shelf.opener("a")) as again:
        assert again is handle


@forks
def test_a_child_forked_while_another_thread_holds_the_lock_goes_on(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")):
        pass
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def check() -> bool:
        with pool.borrow("a", shelf.opener("a")) as handle:
            if handle is shelf.made[0]:
                return False
        pool.discard("a")
        pool.close()
        return handle.closed == 1

    try:
        in_fork(check)
    finally:
        release.set()
        holder.join()


@forks
def test_forks_beside_busy_threads(shelf):
    pool = HandlePool(max_idle=3)
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            for key in range(6):
                with pool.borrow(key, Handle):
                    pass
                pool.discard(key - 1)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()

    def check() -> bool:
        if pool._idle or pool._by_key:
            return False
        for _ in range(2):
            with pool.borrow(3, shelf.opener(3)) as handle:
                pass
        return handle is shelf.made[0] and len(shelf.made) == 1

    try:
        for _ in range(20):
            in_fork(check)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
