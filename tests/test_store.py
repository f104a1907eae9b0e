"""Cache: an entry appears whole or not at all, whatever happens to its writer."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import socket
import stat
import threading
import time
import uuid
from pathlib import Path

import pytest

import ndframes as nf
from ndframes.cache import fs
from ndframes.cache.keys import EntryKey
from ndframes.cache.store import Cache


def key_of(number: int, suffix: str = ".npy") -> EntryKey:
    return EntryKey("b" * 12, f"{number:032x}", "a" * 32, suffix)


def everything_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def leftovers(cache: Cache) -> list[Path]:
    return everything_under(cache.root / "tmp")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


def write_hello(file):
    file.write(b"hello")


def test_making_a_cache_and_looking_into_it_writes_nothing(cache, tmp_path):
    assert cache.find(key_of(1)) is None
    assert list(cache.ls()) == []
    assert list(tmp_path.iterdir()) == []


def test_an_entry_is_published_once(cache):
    path, is_new = cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert is_new
    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert cache.find(key_of(1)) == path

    def must_not_run(file):
        raise AssertionError("the entry is there")

    assert cache.publish(key_of(1), must_not_run, estimated_bytes=5) == (path, False)
    assert leftovers(cache) == []


def test_the_folder_says_what_it_is(cache):
    cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert (cache.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert json.loads((cache.root / "ndframes.json").read_text()) == {"layout": 1}


def test_ls_lists_entries_and_nothing_else(cache):
    for number in range(3):
        cache.publish(key_of(number, ".tif"), write_hello, estimated_bytes=5)
    folder = next(cache.ls()).path.parent
    (folder / "notes.txt").write_text("mine")
    (folder / f"{'0' * 32}.{'1' * 32}.tif").symlink_to(folder / "notes.txt")
    entries = sorted(cache.ls(), key=lambda entry: entry.key.source_id)
    assert [entry.key for entry in entries] == [key_of(number, ".tif") for number in range(3)]
    assert {entry.size_bytes for entry in entries} == {5}
    assert json.loads(json.dumps(entries[0].to_dict()))["key"]["suffix"] == ".tif"


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.EIO, "disk"), SystemExit(1)], ids=repr
)
def test_a_writer_that_fails_leaves_nothing(cache, error):
    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        cache.publish(key_of(1), write, estimated_bytes=5)
    assert list(cache.ls()) == leftovers(cache) == []
    assert cache.publish(key_of(1), write_hello, estimated_bytes=5)[1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told(cache, code):
    def write(file):
        raise OSError(code, os.strerror(code))

    with pytest.raises(nf.CacheFullError, match="ran out of space") as caught:
        cache.publish(key_of(1), write, estimated_bytes=5)
    assert caught.value.errno == code
    assert leftovers(cache) == []


def test_too_little_space_is_told_before_anything_is_written(cache):
    with pytest.raises(nf.CacheFullError, match=r"may need 1,000,000,000,000,000,000"):
        cache.publish(key_of(1), write_hello, estimated_bytes=10**18)
    assert list(cache.ls()) == leftovers(cache) == []


@pytest.mark.parametrize(
    "operation", ["create_exclusive", "sync_file", "link_or_replace", "sync_folder", "make_folders"]
)
def test_every_file_operation_may_fail(cache, monkeypatch, operation):
    def fail(*_):
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(fs, operation, fail)
        with pytest.raises(nf.CacheError, match="input/output error"):
            cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert leftovers(cache) == []
    path, _ = cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert path.read_bytes() == b"hello"


def test_a_workdir_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(nf.CacheError, match="cannot be written.*another workdir"):
        Cache(tmp_path / "file").publish(key_of(1), write_hello, estimated_bytes=5)


def test_without_hard_links_an_entry_is_renamed_into_place(cache, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    path, _ = cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert path.read_bytes() == b"hello"
    assert leftovers(cache) == []


def test_what_a_dead_writer_left_is_swept_and_what_a_living_one_writes_is_not(cache):
    cache.publish(key_of(1), write_hello, estimated_bytes=5)
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    host = socket.gethostname()
    dead = cache.root / "tmp" / f"{host}-{process.pid}-{uuid.uuid4().hex}.part"
    alive = cache.root / "tmp" / f"{host}-{os.getpid()}-{uuid.uuid4().hex}.part"
    elsewhere = cache.root / "tmp" / f"other-host-{process.pid}-{uuid.uuid4().hex}.part"
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"half")
    Cache(cache.workdir).publish(key_of(2), write_hello, estimated_bytes=5)
    assert leftovers(cache) == sorted([alive, elsewhere])


def test_threads_do_the_work_once(cache):
    calls = []

    def write(file):
        calls.append(1)
        time.sleep(0.05)
        write_hello(file)

    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(cache.publish(key_of(1), write, estimated_bytes=5)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert sorted(is_new for _, is_new in outcomes) == [False] * 15 + [True]
    assert {path.read_bytes() for path, _ in outcomes} == {b"hello"}


def publish_many(workdir, count, queue):
    cache = Cache(workdir)

    def write(file):
        time.sleep(0.002)
        file.write(b"hello" * 1000)

    queue.put(sum(cache.publish(key_of(number), write, estimated_bytes=5000)[1] for number in range(count)))


@pytest.mark.parametrize("locks_work", [True, False])
def test_processes_do_the_work_once_and_without_locks_still_right(cache, monkeypatch, locks_work):
    if not locks_work:
        monkeypatch.setattr("ndframes.cache.store.FileLock", LockThatLies)
    context = multiprocessing.get_context("fork" if not locks_work else "spawn")
    queue = context.Queue()
    processes = [context.Process(target=publish_many, args=(cache.workdir, 40, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    total = sum(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert total == 40 if locks_work else total >= 40
    assert {entry.path.read_bytes() for entry in cache.ls()} == {b"hello" * 1000}
    assert len(list(cache.ls())) == 40
    assert leftovers(cache) == []


class LockThatLies:
    """What flock does on some network file systems: it succeeds for everyone."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("error", [NotImplementedError, OSError(errno.ENOLCK, "no locks"), PermissionError(13, "no")])
def test_a_file_system_without_locks_is_no_obstacle(cache, monkeypatch, error):
    class NoLock(LockThatLies):
        def __enter__(self):
            raise error

    monkeypatch.setattr("ndframes.cache.store.FileLock", NoLock)
    assert cache.publish(key_of(1), write_hello, estimated_bytes=5)[0].read_bytes() == b"hello"


def publish_slowly(workdir):
    def write(file):
        for _ in range(1000):
            file.write(b"x" * 1000)
            file.flush()
            time.sleep(0.001)

    Cache(workdir).publish(key_of(1), write, estimated_bytes=5)


def test_a_killed_writer_leaves_no_entry_and_no_lock(cache):
    process = multiprocessing.get_context("spawn").Process(target=publish_slowly, args=(cache.workdir,))
    process.start()
    deadline = time.monotonic() + 30
    while not leftovers(cache) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(leftovers(cache)) == 1
    assert list(cache.ls()) == []
    started = time.monotonic()
    path, is_new = Cache(cache.workdir).publish(key_of(1), write_hello, estimated_bytes=5)
    assert is_new
    assert path.read_bytes() == b"hello"
    assert time.monotonic() - started < 2
    assert leftovers(cache) == []


def test_it_pickles_as_its_workdir(cache):
    twin = pickle.loads(pickle.dumps(cache))
    assert twin.workdir == cache.workdir
    assert repr(twin) == f"Cache({str(cache.workdir)!r})"


def test_a_cache_deleted_in_use_is_made_again(cache):
    import shutil

    cache.publish(key_of(1), write_hello, estimated_bytes=5)
    shutil.rmtree(cache.root)
    assert cache.publish(key_of(1), write_hello, estimated_bytes=5)[1]
    assert (cache.root / "CACHEDIR.TAG").exists()
