"""HandlePool: threads and forked children."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref

import pytest
from kit.forking import in_fork
from kit.handles import Handle, HandleFactory
from kit.racing import run_in_threads

from ndframes.system.handles import HandlePool


@pytest.fixture
def factory():
    return HandleFactory()


def test_threads_never_share_a_handle(factory):
    pool = HandlePool(max_idle=5)
    stop = time.monotonic() + 1.5

    def hammer(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < stop:
            key = rng.randrange(4)
            try:
                with pool.borrow(key, factory.opener(key)) as handle:
                    handle.borrowers += 1
                    assert (handle.borrowers, handle.closed, handle.key) == (1, 0, key)
                    if rng.random() < 0.05:
                        handle.borrowers -= 1
                        raise LookupError
                    if rng.random() < 0.1:
                        time.sleep(0)
                    handle.borrowers -= 1
            except LookupError:
                assert handle.closed == 1
            if rng.random() < 0.02:
                pool.discard(key)

    assert run_in_threads(hammer, 8) == [None] * 8
    assert 0 < len(factory.open) == len(pool._idle) <= 5
    pool.close()
    assert all(handle.closed == 1 for handle in factory.made)


def test_every_thread_may_borrow_at_once(factory):
    pool = HandlePool(max_idle=2)
    meeting = threading.Barrier(8, timeout=60)
    seen: list[Handle] = []

    def borrow() -> None:
        with pool.borrow("a", factory.opener("a")) as handle:
            meeting.wait()  # passes only if all eight borrow at the same time
            seen.append(handle)

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(handle) for handle in seen}) == 8
    assert len(factory.open) == 2


forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
def test_a_child_drops_inherited_handles_without_closing_them(factory):
    pool = HandlePool(max_idle=4)
    with pool.borrow("a", factory.opener("a")), pool.borrow("b", factory.opener("b")):
        pass

    def check() -> bool:
        inherited = list(factory.made)
        with pool.borrow("a", factory.opener("a")) as own:
            if own in inherited:
                return False
        pool.discard("b")
        pool.close()
        return own.closed == 1 and not any(handle.closed for handle in inherited)

    in_fork(check)
    with pool.borrow("a", factory.opener("a")) as handle:
        assert handle is factory.made[0]
    assert len(factory.made) == 2


@forks
def test_a_child_that_drops_the_pool_finalizes_no_inherited_handle():
    """Their library may close them in a finalizer, which must not run in the child."""
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
def test_a_child_does_not_move_the_position_of_its_parent_s_file(tmp_path):
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
def test_a_borrower_that_forks_gives_nothing_back_in_the_child(factory, fails):
    pool = HandlePool()
    context = pool.borrow("a", factory.opener("a"))
    handle = context.__enter__()

    def check() -> bool:
        error = ValueError("in the child") if fails else None
        context.__exit__(error and ValueError, error, None)
        with pool.borrow("a", factory.opener("a")) as own:
            return own is not handle and not handle.closed

    in_fork(check)
    context.__exit__(None, None, None)
    with pool.borrow("a", factory.opener("a")) as again:
        assert again is handle


@forks
def test_a_child_forked_while_another_thread_holds_the_lock_can_borrow(factory):
    pool = HandlePool()
    with pool.borrow("a", factory.opener("a")):
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
        with pool.borrow("a", factory.opener("a")) as handle:
            if handle is factory.made[0]:
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
def test_forks_beside_busy_threads(factory):
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
            with pool.borrow(3, factory.opener(3)) as handle:
                pass
        return handle is factory.made[0] and len(factory.made) == 1

    try:
        for _ in range(20):
            in_fork(check)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
