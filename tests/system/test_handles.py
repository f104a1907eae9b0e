"""HandlePool: one borrower a handle, a cap on idle ones, finalizers, threads and forks; and never another file."""

from __future__ import annotations

import errno
import gc
import io
import os
import random
import resource
import sys
import threading
import time
import weakref
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.forking import in_fork
from kit.limits import run_limited
from kit.synthetic import picture
from PIL import Image

import ndframes as nf
from ndframes.errors import (
    SourceChangedError,
    SourceError,
    SourceKindError,
    SourceMissingError,
    UnreadableImageError,
)
from ndframes.formats.images import raster
from ndframes.formats.images.arrays import NpyReader
from ndframes.formats.images.raster import RasterReader
from ndframes.formats.images.sniff import open_image
from ndframes.system.handles import FileHandle, HandlePool, is_out_of_descriptors
from ndframes.system.stamp import stat_source


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


def test_a_handle_of_several_descriptors_counts_as_several(shelf):
    class Wide(Handle):
        descriptor_count = 4

    pool = HandlePool(max_idle=6)
    wide = [Wide(), Wide()]
    with pool.borrow("a", shelf.opener("a")), pool.borrow("b", lambda: wide[0]):
        pass
    assert (pool._idle_descriptors, wide[0].closed) == (5, 0)
    with pool.borrow("c", shelf.opener("c")):
        pass
    assert (pool._idle_descriptors, wide[0].closed) == (6, 0)
    with pool.borrow("d", lambda: wide[1]):
        pass
    assert (pool._idle_descriptors, wide[0].closed, wide[1].closed) == (6, 1, 0)
    pool.discard("d")
    assert pool._idle_descriptors == 2
    pool.close()
    assert pool._idle_descriptors == 0
    assert not shelf.open


@pytest.mark.parametrize(("limit", "expected"), [(4096, 128), (512, 128), (256, 64), (64, 16), (12, 4)])
def test_by_default_a_quarter_of_the_files_that_may_be_open(limit, expected):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < limit:
        pytest.skip(f"no more than {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        pool = HandlePool()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pool.max_idle == expected


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
                assert not lending.__exit__(ValueError, ValueError("the borrower failed"), None)
        elif name == "discard":
            pool.discard(number)
        elif name == "close":
            pool.close()
        idle = [handle for _, handle in pool._idle.values()]
        assert len(idle) <= max_idle
        assert pool._idle_descriptors == len(idle)
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


# -- no descriptor left -------------------------------------------------------------------------------------------


def chained(*links: BaseException) -> BaseException:
    """The first of ``links``, caused by the second, and so on."""
    for error, cause in pairwise(links):
        error.__cause__ = cause
    return links[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EMFILE, "x"), True),
        (OSError(errno.ENFILE, "x"), True),
        (OSError(errno.ENOENT, "x"), False),
        (RuntimeError("/a/b.tif: Too many open files"), True),
        (chained(UnreadableImageError("x"), ValueError("y"), OSError(errno.EMFILE, "z")), True),
        (chained(UnreadableImageError("x"), ValueError("y")), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
def test_an_error_that_closing_handles_may_mend(error, expected):
    assert is_out_of_descriptors(error) is expected


def test_errors_that_name_each_other_as_their_cause():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert is_out_of_descriptors(first) is False


def test_the_context_of_an_error_counts_too():
    error = LookupError("y")
    error.__context__ = OSError(errno.EMFILE, "x")
    assert is_out_of_descriptors(error)


@pytest.mark.parametrize(("failures", "idle_left"), [(0, 128), (1, 64), (3, 16), (4, 16)])
def test_more_tries_with_more_room_and_an_end_of_them(shelf, failures, idle_left):
    pool = HandlePool(max_idle=128)
    with pool.borrow("a", shelf.opener("a")), pool.borrow("b", shelf.opener("b")):
        pass
    tries = []

    def fail() -> Handle:
        tries.append(len(shelf.open))
        if len(tries) <= failures:  # as where other threads take what was set free
            raise OSError(errno.EMFILE, "once more")
        return shelf.opener("c")()

    if failures == 4:
        with pytest.raises(OSError, match="once more"), pool.borrow("c", fail):
            pass
    else:
        with pool.borrow("c", fail) as handle:
            assert not handle.closed
    assert tries == [2, 0, 0, 0][: failures + 1]
    assert pool.max_idle == idle_left


def test_any_other_error_costs_no_idle_handle(shelf):
    pool = HandlePool()
    with pool.borrow("a", shelf.opener("a")):
        pass
    with pytest.raises(SourceMissingError), pool.borrow("b", lambda: FileHandle("/no/such/file")):
        pass
    assert len(shelf.open) == 1


EXHAUSTED = """
import os, sys
import numpy as np
import tifffile, rasterio.drivers
from ndframes import ChannelInfo
from ndframes.errors import SourceError
from ndframes.formats.images import raster
from ndframes.formats.images.arrays import NpyReader
from ndframes.system.handles import FileHandle, HandlePool
from ndframes.formats.images.raster import RasterReader
from ndframes.formats.images.sniff import open_image
from ndframes.formats.images.tiff import TiffReader

folder = sys.argv[1]
OPENERS = {
    "npy": lambda pool: NpyReader(folder + "/a.npy", pool, is_mapped=True),
    "pread": lambda pool: NpyReader(folder + "/a.npy", pool, is_mapped=False),
    "png": lambda pool: RasterReader(folder + "/a.png", "PNG", pool),
    "bytes": lambda pool: RasterReader(os.fsdecode(folder.encode() + b"/\\xff.png"), "PNG", pool),
    "gdal": lambda pool: open_image(ChannelInfo(folder + "/a.tif"), pool),
    "page": lambda pool: open_image(ChannelInfo(folder + "/a.tif", page=0), pool),
}
wanted = np.load(folder + "/a.npy")
for name, open_reader in OPENERS.items():
    pool = HandlePool(max_idle=16)
    assert np.array_equal(open_reader(pool).read_all(), wanted), name  # whatever is imported for it is imported
    early = open_reader(pool)
    assert np.array_equal(early.read_all(), wanted), name
    pool.close()
    for action in ("open", "read"):
        for number in range(8):
            with pool.borrow(number, lambda: FileHandle(folder + "/a.npy")):
                pass
        greedy = []
        try:
            while True:
                greedy.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        reader = open_reader(pool) if action == "open" else early
        assert np.array_equal(reader.read_all(), wanted), (name, action)
        pool.close()
        reader = None
        try:
            while True:
                greedy.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        try:
            open_reader(pool) if action == "open" else early.read_all()
        except SourceError as error:
            assert error.errno == 24 or "Too many open files" in str(error), (name, action, error)
        else:
            raise AssertionError("there was a descriptor after all")
        for descriptor in greedy:
            os.close(descriptor)
    print(name)
"""


def test_where_no_descriptor_is_left_the_idle_ones_make_room(tmp_path):
    pixels = picture((40, 50, 3))
    np.save(tmp_path / "a.npy", pixels)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None)
    for name in (b"a.png", b"\xff.png"):
        Image.fromarray(pixels).save(os.fsencode(tmp_path) + b"/" + name, "PNG")
    assert run_limited(EXHAUSTED, 64, str(tmp_path)).split() == ["npy", "pread", "png", "bytes", "gdal", "page"]


MANY = """
import os, sys, threading
import numpy as np
from ndframes import ChannelInfo
from ndframes.formats.images import raster
from ndframes.formats.images.arrays import NpyReader
from ndframes.system.handles import HandlePool
from ndframes.formats.images.sniff import open_image

folder, kinds = sys.argv[1], ("npy", "tif", "png", "jpg")
base = np.load(folder + "/0.npy")
pool = HandlePool()
assert pool.max_idle == 16
readers = []
for number in range(300):
    kind = kinds[number % len(kinds)]
    path = f"{folder}/{number}.{kind}"
    if kind == "npy":
        readers.append(NpyReader(path, pool, is_mapped=True))
    else:
        info = ChannelInfo(path, page=0) if kind == "tif" and number % 3 else ChannelInfo(path)
        readers.append(open_image(info, pool))
opened = len(os.listdir("/proc/self/fd"))
most, right, errors = [opened], [], []

def work(seed):
    dice = np.random.default_rng(seed)
    try:
        for _ in range(1000):
            number = int(dice.integers(300))
            top, left = (int(value) for value in dice.integers(0, 20, 2))
            out = np.empty((20, 30, 3), np.uint8)
            readers[number].read(range(top, top + 20), range(left, left + 30), range(3), out)
            if kinds[number % len(kinds)] == "jpg":
                assert np.abs(out.astype(int).mean() - number % 251) < 4
            else:
                assert np.array_equal(out, base[top : top + 20, left : left + 30] + np.uint8(number % 251)), number
            right.append(1)
            most.append(len(os.listdir("/proc/self/fd")))
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if errors:
    raise errors[0]
pool.close()
print(len(right), opened, max(most), len(os.listdir("/proc/self/fd")))
"""


def test_hundreds_of_images_in_few_descriptors(tmp_path):
    """64 files may be open, four threads read 300 images: every crop is right, and the count of descriptors is flat."""
    base = picture((40, 50, 3))
    for number in range(300):
        pixels = base + np.uint8(number % 251)
        kind = ("npy", "tif", "png", "jpg")[number % 4]
        path = tmp_path / f"{number}.{kind}"
        if kind == "npy":
            np.save(path, pixels)
        elif kind == "tif":
            tifffile.imwrite(path, pixels, metadata=None)
        elif kind == "png":
            Image.fromarray(pixels).save(path, "PNG", compress_level=1)
        else:
            Image.new("RGB", (300, 260), (number % 251,) * 3).save(path, "JPEG", quality=95)
    right, opened, most, left = map(int, run_limited(MANY, 64, str(tmp_path)).split())
    own = 8  # of Python, of its libraries, and of whoever lists them
    assert right == 4000
    assert left <= own
    assert opened <= own + 16
    assert most <= own + 16 + 4 + 4, "the idle, and a file and a listing for each thread"


def test_a_jpeg_counts_for_each_of_its_halvings(tmp_path):
    """GDAL opens it once more for each, as soon as it is asked for one."""
    Image.fromarray(picture((1100, 1200, 3))).save(tmp_path / "a.jpg")
    pool = HandlePool(max_idle=64)
    before = len(os.listdir("/proc/self/fd"))
    reader = RasterReader(str(tmp_path / "a.jpg"), "JPEG", pool)
    reader.read_all()
    assert len(reader.overview_shapes) == 3
    for level in range(4):
        reader.read_all(level=level)
    assert len(os.listdir("/proc/self/fd")) - before == pool._idle_descriptors == 16
    pool.close()
    assert len(os.listdir("/proc/self/fd")) == before


# -- files --------------------------------------------------------------------------------------------------------


def test_a_file_is_read_by_position(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    file = FileHandle(str(path))
    assert file.stamp == stat_source(str(path))
    buffer = bytearray(4)
    for offset in (6, 0, 3):
        file.read_into(memoryview(buffer), offset)
        assert buffer == b"0123456789"[offset : offset + 4]
    for offset in (7, 10, 99):
        with pytest.raises(EOFError, match=f"expected 4 bytes at {offset}, but the file ends before"):
            file.read_into(memoryview(buffer), offset)
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read_into(memoryview(buffer), 0)


def test_a_forgotten_file_is_closed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    file = FileHandle(__file__)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del file
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_the_file_of_the_stamp_opens(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    stamp = stat_source(str(path))
    FileHandle(str(path), stamp).close()
    (tmp_path / "link").hardlink_to(path)
    FileHandle(str(tmp_path / "link"), stamp).close()
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "new").write_bytes(b"9876543210")
    (tmp_path / "new").replace(path)
    for change in (lambda: None, path.unlink, lambda: os.mkfifo(path), lambda: (path.unlink(), path.mkdir())):
        change()
        with pytest.raises(SourceChangedError, match="a.bin was replaced or removed since it was opened"):
            FileHandle(str(path), stamp)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_file_does_not_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, error in (
        ("no", SourceMissingError),
        ("", SourceKindError),
        ("fifo", SourceKindError),
        ("a\0", SourceError),
    ):
        with pytest.raises(error):
            FileHandle(f"{tmp_path}/{name}")


# -- another file under the same name -----------------------------------------------------------------------------

KINDS = {
    "mapped npy": (np.save, {}),
    "png": (lambda path, pixels: Image.fromarray(pixels).save(path, "PNG"), {}),
    "tif by gdal": (lambda path, pixels: tifffile.imwrite(path, pixels, metadata=None), {}),
    "tif by tifffile": (
        lambda path, pixels: tifffile.imwrite(path, pixels, compression="zlib", metadata=None),
        {"page": 0},
    ),
    "jp2": (lambda path, pixels: Image.fromarray(pixels).save(path, "JPEG2000", tile_size=(64, 64)), {}),
    "bmp": (lambda path, pixels: Image.fromarray(pixels).save(path, "BMP"), {}),
}


def write(folder: str, name: bytes, kind: str, pixels: np.ndarray) -> str:
    """Write a new file and put it in the place of the old one."""
    path = os.path.join(folder, os.fsdecode(name))
    encoded = io.BytesIO()
    KINDS[kind][0](encoded, pixels)
    with open(path + ".new", "wb") as file:
        file.write(encoded.getvalue())
    os.replace(path + ".new", path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [b"a", b"\xff\xfe"], ids=["plain name", "stray bytes"])
def test_a_reader_never_reads_another_file(tmp_path, kind, name):
    pixels = picture((300, 400, 3))
    path = write(tmp_path, name, kind, pixels)
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)

    def read() -> np.ndarray:
        out = np.empty(reader.shape, reader.dtype)
        reader.read(range(reader.shape[0]), range(reader.shape[1]), range(3), out)
        return out

    np.testing.assert_array_equal(read(), pixels)
    os.unlink(path)
    np.testing.assert_array_equal(read(), pixels, "its handle is open, and the data is there until that is closed")
    write(tmp_path, name, kind, 255 - pixels)
    np.testing.assert_array_equal(read(), pixels)
    pool.close()
    for change in (lambda: None, lambda: os.unlink(path), lambda: os.mkdir(path)):
        change()
        with pytest.raises(SourceChangedError, match="was replaced or removed since it was opened"):
            read()
    pool.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("png", "tif by gdal", "jp2", "bmp")])
def test_where_descriptors_have_no_names(tmp_path, monkeypatch, kind):
    """As on a Mac: the path is looked at before and after, and at each read of what GDAL may open again."""
    monkeypatch.setattr(raster, "_HAS_DESCRIPTOR_NAMES", False)
    pixels = picture((300, 400, 3))
    path = write(tmp_path, b"a", kind, pixels)
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(path), pool)
    out = np.empty(reader.shape, reader.dtype)
    os.unlink(path)
    reader.read(range(300), range(400), range(3), out)
    np.testing.assert_array_equal(out, pixels)
    write(tmp_path, b"a", kind, 255 - pixels)
    if kind == "jp2":
        with pytest.raises(SourceChangedError):
            reader.read(range(300), range(400), range(3), out)
    else:
        reader.read(range(300), range(400), range(3), out)
        np.testing.assert_array_equal(out, pixels)
    pool.close()
    with pytest.raises(SourceChangedError):
        reader.read(range(300), range(400), range(3), out)


@pytest.mark.parametrize("size", [(300, 400), (3, 4)])
def test_overviews_are_of_the_same_file(tmp_path, size):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture((600, 800, 3))).save(path, "JPEG")
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(str(path)), pool)
    Image.fromarray(picture((*size, 3))).save(tmp_path / "new", "JPEG")
    (tmp_path / "new").replace(path)
    with pytest.raises(SourceChangedError):
        reader.overview_shapes  # noqa: B018
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_another_file_is_told_whatever_it_is(tmp_path, kind):
    """Not that it is no image, though it is none."""
    path = write(tmp_path, b"a", kind, picture((30, 40, 3)))
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)
    pool.close()
    (tmp_path / "new").write_bytes(b"garbage")
    (tmp_path / "new").replace(path)
    with pytest.raises(SourceChangedError):
        reader.read_all()
    with pytest.raises(UnreadableImageError):
        open_image(nf.ChannelInfo(path), pool)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_swapped_all_the_time(tmp_path, kind):
    """Whenever it is swapped, before, between or after GDAL's own looks at it: right pixels or the error, no others."""
    sides = []
    for name, pixels in ((b"0", picture((64, 64, 3))), (b"1", 255 - picture((64, 64, 3)))):
        path = write(tmp_path, name, kind, pixels)
        sides.append((path, stat_source(path), pixels))
    path = str(tmp_path / "a")
    stop = threading.Event()

    def swap() -> None:
        number = 1
        while not stop.is_set():
            os.link(sides[number % 2][0], path + ".new")
            os.replace(path + ".new", path)
            number += 1
            time.sleep(random.random() / 2000)

    os.link(sides[0][0], path)
    swapper = threading.Thread(target=swap)
    swapper.start()
    counts = {"right": 0, "refused": 0}
    started = time.monotonic()
    try:
        while (elapsed := time.monotonic() - started) < 0.6 or (min(counts.values()) == 0 and elapsed < 30):
            pool = HandlePool()
            try:
                reader = open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)
                stamp = reader._stamp
                wanted = next(pixels for _, side, pixels in sides if side.is_same_file(stamp))
                pool.close()
                np.testing.assert_array_equal(reader.read_all(), wanted)
                counts["right"] += 1
            except SourceChangedError:
                counts["refused"] += 1
            pool.close()
    finally:
        stop.set()
        swapper.join()
    assert min(counts.values()) > 0, counts


@pytest.mark.parametrize(("kind", "cut"), [("png", 30), ("tif by gdal", 20), ("jp2", 90), ("png", 5000), ("bmp", 5000)])
def test_messages_name_the_path(tmp_path, kind, cut):
    """Not the number under which GDAL opened it."""
    path = write(tmp_path, b"a", kind, np.random.default_rng(0).integers(0, 255, (60, 70, 3), np.uint8))
    with open(path, "r+b") as file:
        file.truncate(cut)
    pool = HandlePool()
    with pytest.raises(UnreadableImageError) as caught:
        open_image(nf.ChannelInfo(path), pool).read_all()
    assert str(caught.value).startswith(path)
    assert "/proc" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_that_are_kept_keep_no_descriptor(tmp_path, kind):
    path = write(tmp_path, b"a", kind, picture((60, 70, 3)))
    with open(path, "r+b") as file:
        file.truncate(25)
    before = len(os.listdir("/proc/self/fd"))
    pool, errors = HandlePool(), []
    for _ in range(5):
        try:
            open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)
        except UnreadableImageError as error:
            errors.append(error)
    pool.close()
    assert len(errors) == 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_stamp_what_is_there_is_read(tmp_path):
    path = write(tmp_path, b"a", "png", picture((30, 40, 3)))
    pool = HandlePool()
    reader = RasterReader(path, "PNG", pool)
    pool.close()
    write(tmp_path, b"a", "png", 255 - picture((30, 40, 3)))
    np.testing.assert_array_equal(reader.read_all(), 255 - picture((30, 40, 3)))
    pool.close()


def test_the_stamp_of_another_file_is_refused_at_once(tmp_path):
    path = write(tmp_path, b"a", "png", picture((30, 40, 3)))
    stamp = stat_source(path)
    pool = HandlePool()
    RasterReader(path, "PNG", pool, stamp=stamp)
    write(tmp_path, b"a", "png", picture((30, 40, 3)))
    with pytest.raises(SourceChangedError):
        RasterReader(path, "PNG", pool, stamp=stamp)
    with pytest.raises(SourceChangedError):
        NpyReader(path, pool, stamp=stamp)
    pool.close()
