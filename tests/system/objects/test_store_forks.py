"""Stores in forked children of a process that uses obstore, and in processes of other kinds."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time

import numpy as np
import pytest
from kit.forking import in_fork
from kit.scripts import run_script
from kit.waiting import wait_until

from ndframes.errors import ObjectGoneError, StoreAccessError, StoreError
from ndframes.system.objects import connection, helper
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.obstore_requests import ObstoreRequests
from ndframes.system.objects.store import Place

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

_DATA = np.random.default_rng(3).bytes(300_000)


@pytest.fixture
def store(bucket):
    """A store that this process has used."""
    store = connect_store(bucket)
    store.create("data", _DATA)
    assert store.load("data").data == _DATA
    assert isinstance(store.requests, ObstoreRequests)
    return store


def places(seed, count=9):
    return [Place(int(offset), 2900) for offset in np.random.default_rng(seed).integers(0, len(_DATA) - 2900, count)]


def reads_well(store, seed=0, count=9):
    chosen = places(seed, count)
    fetched = [bytes(wait()) for wait in store.begin_fetch("data", chosen)]
    return fetched == [_DATA[place.offset : place.offset + place.length] for place in chosen]


def helper_pid():
    return connection._CONNECTOR._helper._running._child.pid


def test_a_child_does_everything_by_its_helper(store, tmp_path):
    big = os.urandom(20 << 20)
    (tmp_path / "big").write_bytes(big)

    def check():
        assert isinstance(store.requests, helper.HelperRequests)
        assert reads_well(store)
        etag = store.create("new", b"1")
        assert store.create("new", b"2") is None
        assert store.replace("new", b"3", etag) != etag
        assert store.load("new").data == b"3"
        assert store.load("missing") is None
        os.chdir(tmp_path)
        assert store.upload("big", "big").size_bytes == len(big)
        store.download("big", "copy")
        assert (tmp_path / "copy").read_bytes() == big
        assert [status.key for status in store.scan("")] == ["big", "data", "new"]
        assert store.status(["missing", "data"])[1].size_bytes == len(_DATA)
        store.delete(["new", "big"])
        with pytest.raises(ObjectGoneError, match="missing"):
            store.begin_fetch("missing", [Place(0, 1)])[0]()
        with pytest.raises(StoreAccessError, match="no-such-bucket"):
            connect_store("s3://no-such-bucket").load("a")
        return True

    in_fork(check, 60)
    assert [status.key for status in store.scan("")] == ["data"]


def test_bytes_that_the_parent_was_fetching_are_fetched_again(store):
    fetches = store.begin_fetch("data", places(1))
    in_fork(lambda: b"".join(wait() for wait in fetches) == b"".join(wait() for wait in fetches))
    assert all(len(wait()) == 2900 for wait in fetches)


def test_the_child_of_a_child_has_a_helper_of_its_own(store):
    def check():
        assert reads_well(store)
        mine = helper_pid()

        def check_grandchild():
            assert reads_well(store)
            return helper_pid() != mine

        in_fork(check_grandchild)
        return reads_well(store)

    in_fork(check, 60)


def test_all_threads_of_a_child_share_one_helper(store):
    def check():
        found = []
        threads = [
            threading.Thread(target=lambda seed=seed: found.append(reads_well(store, seed))) for seed in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found == [True] * 20

    in_fork(check, 60)


def test_a_helper_that_was_killed_is_replaced(store):
    def check():
        assert reads_well(store)
        first = helper_pid()
        os.kill(first, signal.SIGKILL)
        assert reads_well(store)
        assert helper_pid() != first
        fetches = store.begin_fetch("data", places(2))
        os.kill(helper_pid(), signal.SIGKILL)
        return all(len(wait()) == 2900 for wait in fetches)

    in_fork(check, 60)


@pytest.mark.parametrize(
    "end", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(0), lambda: sys.exit(0)]
)
def test_a_helper_ends_with_its_child(store, end):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            reads_well(store)
            os.write(writing, str(helper_pid()).encode())
            end()
        finally:
            os._exit(3)
    pid = int(os.read(reading, 20))
    os.waitpid(child, 0)
    wait_until(lambda: not is_running(pid))
    os.close(reading)
    os.close(writing)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_helper_ends_with_its_child_though_a_grandchild_lives(store):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            reads_well(store)
            grandchild = os.fork()
            if not grandchild:
                time.sleep(30)
            os.write(writing, f"{helper_pid()} {grandchild}".encode())
        finally:
            os._exit(0)
    pid, grandchild = map(int, os.read(reading, 40).split())
    os.waitpid(child, 0)
    wait_until(lambda: not is_running(pid))
    os.kill(grandchild, signal.SIGKILL)
    os.close(reading)
    os.close(writing)


def test_a_child_of_a_process_without_obstore_uses_it_itself(bucket):
    run_script(f"""
        import os, sys
        from ndframes.system.objects.connection import connect_store
        from ndframes.system.objects.obstore_requests import ObstoreRequests
        assert "obstore" not in sys.modules
        child = os.fork()
        if not child:
            store = connect_store({bucket!r})
            assert isinstance(store.requests, ObstoreRequests)
            store.create("a", b"1")
            os._exit(0 if store.load("a").data == b"1" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert connect_store({bucket!r}).load("a").data == b"1"
    """)


def test_obstore_in_other_hands_counts_as_well(bucket):
    run_script(f"""
        import os, warnings
        import obstore
        from obstore.store import S3Store
        warnings.simplefilter("ignore")  # from Python 3.12 on, os.fork() warns of threads
        from ndframes.system.objects.connection import connect_store
        from ndframes.system.objects.helper import HelperRequests
        own = S3Store({bucket.split("/")[2]!r}, client_options={{"allow_http": True}})
        obstore.put(own, {bucket.split("/")[3]!r} + "/a", b"1")
        child = os.fork()
        if not child:
            store = connect_store({bucket!r})
            assert isinstance(store.requests, HelperRequests)
            os._exit(0 if store.load("a").data == b"1" else 1)
        assert os.waitpid(child, 0)[1] == 0
    """)


def test_a_store_in_memory_belongs_to_one_process():
    store = connect_store("memory://one")
    store.create("a", b"1")

    def check():
        with pytest.raises(StoreError, match="belongs to one process"):
            store.load("a")
        return True

    in_fork(check)
    assert store.load("a").data == b"1"


def fork_while_reading(store, count):
    """Fork children that read while threads of this process read."""
    is_done = threading.Event()
    wrong = []

    def read():
        seed = 0
        while not is_done.is_set():
            seed += 1
            if not reads_well(store, seed):
                wrong.append(seed)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(count):
            in_fork(lambda number=number: reads_well(store, number, 3), 60)
    finally:
        is_done.set()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_children_are_forked_while_the_parent_reads(store):
    fork_while_reading(store, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_400_children_are_forked_while_the_parent_reads(store):
    fork_while_reading(store, 400)


def read_in_worker(connection, data):
    store = pickle.loads(data)
    connection.send(reads_well(store))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_each_start_method_read(store, method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    worker = context.Process(target=read_in_worker, args=(theirs, pickle.dumps(store)))
    worker.start()
    assert ours.poll(60)
    assert ours.recv() is True
    worker.join(60)
    assert worker.exitcode == 0
    assert reads_well(store)
