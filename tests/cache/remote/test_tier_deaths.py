"""Processes that are killed while they write to a local tier, and those that share it: the pixels are right, and nothing is repaired."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid

import numpy as np
import pytest
from kit.forking import in_fork
from kit.tiers import DictStore, data_files, is_whole, photograph, wait_whole

import ndframes as nf

SHAPE = (320, 448)
RAW = {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}}
# Of which some change the tier in more than one step.
OPERATIONS = ("open", "pwrite", "write", "ftruncate", "link", "replace", "unlink", "fsync", "fchmod", "utime")


@pytest.fixture(scope="module")
def array():
    return photograph(*SHAPE)


@pytest.fixture(scope="module")
def image(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("source") / "a.npy"
    np.save(path, array)
    return path


@pytest.fixture(scope="module")
def store(image):
    frames = nf.SimpleFrames({"a": image}, workdir=f"memory://{uuid.uuid4().hex}", backend=RAW)
    frames.prepare()
    return DictStore(frames.cache.store)


@pytest.fixture
def make(image, store, tmp_path, at_rest, monkeypatch):
    """Frames as another process would have them, over the objects in memory."""
    monkeypatch.setattr("ndframes.cache.remote.cache.connect_store", lambda url: store)

    def make(**options):
        workdir = store.url.removesuffix("/ndframes-cache")
        options = {"tile_bytes": 0, "backend": RAW, "local_tier": tmp_path / "tier", **options}
        return nf.SimpleFrames({"a": image}, workdir=workdir, **options)

    return make


def read_crops(frames, array, rng, count):
    for _ in range(count):
        top, left = rng.randrange(SHAPE[0]), rng.randrange(SHAPE[1])
        region = np.s_[top : top + 100, left : left + 100]
        np.testing.assert_array_equal(frames.load_region("a", region), array[region])


def read_all(frames):
    frames.load_image("a")
    for scale in (0.5, 0.25, 0.125):
        frames.load_region("a", np.s_[:], scale=scale)


def die_at(number):
    """End this process by SIGKILL in the middle of an operation on files, the one with this number."""
    left = iter(range(number, -1, -1))

    def watch(name, real):
        def run(*args, **options):
            if next(left) == 0:
                if name in ("pwrite", "write"):
                    data = memoryview(args[1])
                    real(args[0], data[: len(data) // 2], *args[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return run

    for name in OPERATIONS:
        setattr(os, name, watch(name, getattr(os, name)))


def run_child(work):
    """Fork, run ``work`` in the child, and return the signal that ended it, or 0."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_in_each_operation(make, array, tmp_path, step):
    def work(number):
        frames = make(local_tier=tmp_path / f"{number}", tier_bytes="1GB")
        die_at(number)
        read_all(frames)
        wait_whole(tmp_path / f"{number}")

    number = 0
    while run_child(lambda at=number: work(at)):
        np.testing.assert_array_equal(make(local_tier=tmp_path / f"{number}").load_image("a"), array)
        number += step
    print(f"{number // step} kills, one in every operation number {step}")
    assert number > 50
    assert [is_whole(path) for path in data_files(tmp_path / f"{number}")] == [True]


@pytest.mark.parametrize("count", [25, pytest.param(600, marks=pytest.mark.slow)])
def test_kills_at_any_moment(make, array, tmp_path, count):
    rng = random.Random(5)

    def work():
        own = random.Random(os.getpid())
        while True:
            read_crops(make(tier_bytes=own.choice([200_000, 500_000, "1GB"])), array, own, 3)

    for _ in range(count):
        children = []
        for _ in range(2):
            child = os.fork()
            if not child:
                try:
                    work()
                finally:
                    os._exit(1)  # only by an error
            children.append(child)
        time.sleep(rng.uniform(0.0, 0.06))
        for child in children:
            os.kill(child, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        read_crops(make(), array, rng, 4)
    print(f"{2 * count} processes killed, {4 * count} crops compared")
    np.testing.assert_array_equal(make().load_image("a"), array)
    for path in data_files(tmp_path / "tier"):
        assert path.stat().st_size in {len(item.data) for item in make().cache.files._store._objects.values()}


def test_forked_readers_share_the_tier(make, array, store):
    """A child goes on with the files of its parent, and what one of them fetches the others read."""
    frames = make()
    frames.load_region("a", np.s_[:100])
    before = store.fetched

    def check(region):
        np.testing.assert_array_equal(frames.load_region("a", region), array[region])
        return True

    in_fork(lambda: check(np.s_[:100]) and store.fetched == before)
    in_fork(lambda: check(np.s_[:]))
    np.testing.assert_array_equal(frames.load_region("a", np.s_[64:200]), array[64:200])
    assert store.fetched == before


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_forks_while_other_threads_read(make, array, count):
    frames = make(tier_bytes=300_000)
    is_over = threading.Event()
    failures = []

    def work(seed):
        rng = random.Random(seed)
        while not is_over.is_set():
            try:
                read_crops(make(tier_bytes=300_000) if rng.random() < 0.2 else frames, array, rng, 2)
            except AssertionError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for seed in range(count):

            def check(seed=seed):
                read_crops(frames, array, random.Random(seed), 5)
                read_all(make())
                return True

            in_fork(check)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.mark.parametrize("count", [8])
def test_processes_that_read_the_same_crops_at_once(make, array, store, count):
    """They take no lock, so a tile may be fetched by several that miss it at the same moment, but not by each again and again."""
    ready, go = os.pipe(), os.pipe()
    results = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if not child:
            code = 1
            try:
                frames = make()
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                before = store.fetched
                for _ in range(3):
                    read_crops(frames, array, random.Random(1), 30)
                os.write(results[1], f"{store.fetched - before:6}".encode())
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for _ in range(count):
        assert os.read(ready[0], 1) == b"x"
    os.write(go[1], b"x" * count)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * count
    fetched = sum(int(os.read(results[0], 6)) for _ in range(count))
    tiles = 5 * 7
    print(f"{count} processes fetched {fetched} tiles of {tiles}")
    assert fetched <= count * tiles
    for pipe in (ready, go, results):
        for end in pipe:
            os.close(end)
