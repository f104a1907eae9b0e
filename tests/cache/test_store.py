"""Store: an entry appears whole or not at all, whatever happens to its writer."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import stat
import threading
import time
import uuid
from contextlib import nullcontext
from pathlib import Path

import pytest
from kit.entries import key_of, publish

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.system.files import FileSystem
from ndframes.system.stamp import stat_source

STATE = "a" * 32


def everything_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def leftovers(cache: Cache) -> list[Path]:
    return everything_under(cache.root / "tmp")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


def write_hello(file):
    file.write(b"hello")


def test_creating_and_searching_a_cache_writes_nothing(cache, tmp_path):
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


def test_the_folder_has_the_marks_of_a_cache(cache):
    cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert (cache.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert json.loads((cache.root / "ndframes.json").read_text()) == {"layout": 1}


def test_ls_lists_entries_and_nothing_else(cache):
    for number in range(3):
        cache.publish(key_of(number, form="cog"), write_hello, estimated_bytes=5)
    folder = next(cache.ls()).path.parent
    (folder / "notes.txt").write_text("mine")
    (folder / f"{folder.name}{'0' * 30}.{'1' * 32}.tif").symlink_to(folder / "notes.txt")
    entries = list(cache.ls())
    assert len(entries) == 3
    assert {entry.key for entry in entries} == {key_of(number, form="cog") for number in range(3)}
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
def test_a_full_disk_is_an_error(cache, code):
    def write(file):
        raise OSError(code, os.strerror(code))

    with pytest.raises(nf.CacheFullError, match="ran out of space") as caught:
        cache.publish(key_of(1), write, estimated_bytes=5)
    assert caught.value.errno == code
    assert leftovers(cache) == []


def test_too_little_space_is_an_error_before_anything_is_written(cache):
    with pytest.raises(nf.CacheFullError, match=r"may need 1,000,000,000,000,000,000"):
        cache.publish(key_of(1), write_hello, estimated_bytes=10**18)
    assert list(cache.ls()) == leftovers(cache) == []


class Failing(FileSystem):
    """One of the operations fails."""

    def __init__(self, operation, error):
        self.operation, self.error = operation, error

    def __getattribute__(self, name):
        if name != "operation" and name == self.operation:
            return self.fail
        return super().__getattribute__(name)

    def fail(self, *_, **__):
        raise self.error


@pytest.mark.parametrize(
    "operation", ["create", "make_read_only", "sync_file", "link_or_replace", "sync_folder", "make_folders"]
)
def test_every_file_operation_may_fail(cache, operation):
    files = Failing(operation, OSError(errno.EIO, "input/output error"))
    with pytest.raises(nf.CacheError, match="input/output error"):
        Cache(cache.workdir, files=files).publish(key_of(1), write_hello, estimated_bytes=5)
    assert leftovers(cache) == []
    path, _ = cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert path.read_bytes() == b"hello"


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), OSError(errno.ENOSYS, "no such call")])
def test_writing_works_without_file_locks(cache, error):
    files = Failing("try_lock", error)
    assert Cache(cache.workdir, files=files).publish(key_of(1), write_hello, estimated_bytes=5)[1]


def test_a_workdir_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(nf.CacheError, match="cannot be written.*another workdir"):
        Cache(tmp_path / "file").publish(key_of(1), write_hello, estimated_bytes=5)


def test_without_hard_links_an_entry_is_renamed_into_place(cache, monkeypatch):
    def no_links(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    path, _ = cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert path.read_bytes() == b"hello"
    assert leftovers(cache) == []


def test_files_of_dead_writers_are_removed_and_those_of_living_ones_stay(cache):
    cache.publish(key_of(1), write_hello, estimated_bytes=5)
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    host = socket.gethostname()
    dead = cache.root / "tmp" / f"{STATE}-{host}-{process.pid}-{uuid.uuid4().hex}.part"
    alive = cache.root / "tmp" / f"{STATE}-{host}-{os.getpid()}-{uuid.uuid4().hex}.part"
    elsewhere = cache.root / "tmp" / f"{STATE}-other-host-{process.pid}-{uuid.uuid4().hex}.part"
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


@pytest.mark.parametrize(("failures", "is_error"), [(1, False), (2, False), (3, True)])
def test_publishing_is_repeated_if_the_folders_were_deleted(cache, failures, is_error):
    class Vanishing(FileSystem):
        left = failures

        def link_or_replace(self, temporary, final):
            if "v1" in final and self.left:
                self.left -= 1
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", temporary, None, final)
            return super().link_or_replace(temporary, final)

    cache.files = Vanishing()
    if is_error:
        with pytest.raises(nf.CacheError, match="deleted all the time"):
            cache.publish(key_of(1), write_hello, estimated_bytes=5)
    else:
        assert cache.publish(key_of(1), write_hello, estimated_bytes=5)[1]
    assert leftovers(cache) == []


def publish_many(cache, count, queue):
    def write(file):
        time.sleep(0.002)
        file.write(b"hello" * 1000)

    queue.put(sum(cache.publish(key_of(number), write, estimated_bytes=5000)[1] for number in range(count)))


@pytest.mark.parametrize("locks_work", [True, False])
def test_processes_do_the_work_once_and_without_locks_still_right(cache, locks_work):
    cache.files = FileSystem() if locks_work else LyingLocks()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=publish_many, args=(cache, 40, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    total = sum(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert total == 40 if locks_work else total >= 40
    assert {entry.path.read_bytes() for entry in cache.ls()} == {b"hello" * 1000}
    assert len(list(cache.ls())) == 40
    assert leftovers(cache) == []


class LyingLocks(FileSystem):
    """Locks that are granted to everybody at once, as on some network file systems."""

    def lock(self, path, *, seconds, poll_seconds=0.05):
        return nullcontext()


@pytest.mark.parametrize("error", [NotImplementedError, OSError(errno.ENOLCK, "no locks"), PermissionError(13, "no")])
def test_publishing_works_without_locks(cache, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
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
    deadline = time.monotonic() + 120
    while not leftovers(cache) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(leftovers(cache)) == 1
    assert list(cache.ls()) == []
    successor = Cache(cache.workdir, lock_age_seconds=3600)  # it would wait for a lock that is still held
    path, is_new = successor.publish(key_of(1), write_hello, estimated_bytes=5)
    assert is_new
    assert path.read_bytes() == b"hello"
    assert leftovers(cache) == []


def test_it_pickles_as_its_arguments_and_the_leases_of_its_job(tmp_path):
    cache = Cache(tmp_path / "work", max_bytes=10**9, min_free_bytes=7)
    publish(cache, 1)
    cache.hold([key_of(1)])
    twin = pickle.loads(pickle.dumps(cache))
    assert (twin.workdir, twin.max_bytes, twin.min_free_bytes) == (cache.workdir, 10**9, 7)
    assert twin.lease_names == cache.lease_names == set(os.listdir(cache.root / "leases"))
    assert pickle.loads(pickle.dumps(twin)).lease_names == cache.lease_names
    assert repr(twin) == f"Cache({str(cache.workdir)!r}, max_bytes=1000000000, min_free_bytes=7)"
    assert repr(Cache("work")) == f"Cache({str(Path('work').absolute())!r})"


@pytest.mark.parametrize("name", ["max_bytes", "min_free_bytes"])
@pytest.mark.parametrize("value", [-1, 1.5, "1GB", True])
def test_a_limit_that_is_no_number_of_bytes_is_refused(tmp_path, name, value):
    with pytest.raises(nf.CacheError, match=f"{name}=.*allowed: a number of bytes"):
        Cache(tmp_path, **{name: value})


def test_the_states_of_a_source_are_listed_the_last_one_first(cache):
    states = [publish(cache, 1, state=number, used=1000 + number) for number in (2, 0, 1)]
    publish(cache, 2)
    publish(cache, 1, form="cog")
    key = states[0].key
    found = cache.ls_source(key.backend_id, key.source_id)
    assert [entry.key for entry in found] == [states[0].key, states[2].key, states[1].key]
    assert cache.ls_source("0" * 12, key.source_id) == []
    forms = cache.ls_forms(key.source_id)
    assert sorted(entry.path for entry in forms) == sorted(
        entry.path for entry in cache.ls() if entry.key.source_id == key.source_id
    )
    assert len(forms) == 4
    assert cache.ls_forms("0" * 32) == []


@pytest.mark.parametrize("act", ["quarantine", "discard"])
def test_a_damaged_entry_is_taken_away_once_and_its_successor_is_not(cache, act):
    take_away = getattr(cache, act)
    old = publish(cache, 1)
    seen = stat_source(str(old.path))
    data = old.path.read_bytes()
    assert take_away(old.path, seen)
    assert not old.path.exists()
    assert [path.read_bytes() for path in everything_under(cache.root / "quarantine")] == [data] * (act == "quarantine")
    assert take_away(old.path, seen), "it is out of the way already"
    new = publish(cache, 1)
    os.utime(new.path, (5, 5))
    assert take_away(new.path, seen)
    assert new.path.exists()
    assert take_away(new.path)
    assert not new.path.exists()


@pytest.mark.parametrize(("act", "operation"), [("quarantine", "move"), ("discard", "remove")])
def test_an_entry_that_cannot_be_taken_away_gives_false(cache, act, operation):
    entry = publish(cache, 1)
    files = Failing(operation, PermissionError(errno.EPERM, "Operation not permitted"))
    assert not getattr(Cache(cache.workdir, files=files), act)(entry.path)
    assert entry.path.exists()


def test_ls_does_not_look_behind_links(cache, tmp_path):
    entry = publish(cache, 1)
    shard, backend = entry.path.parent, entry.path.parent.parent
    shutil.move(shard, tmp_path / "shard")
    shard.symlink_to(tmp_path / "shard")
    assert list(cache.ls()) == []
    shard.unlink()
    shutil.move(tmp_path / "shard", shard)
    assert [item.key for item in cache.ls()] == [entry.key]
    shutil.move(backend, tmp_path / "backend")
    backend.symlink_to(tmp_path / "backend")
    assert list(cache.ls()) == []


def test_scratch_is_a_file_without_a_name(cache):
    publish(cache, 1)
    with cache.scratch(100_000) as file:
        assert os.fstat(file.fileno()).st_size == 100_000
        assert leftovers(cache) == []


def test_a_writer_is_locked_even_if_another_checks_its_lock_at_that_moment(cache):
    class Busy(FileSystem):
        refusals = 3

        def try_lock(self, file):
            self.refusals -= 1
            return self.refusals < 0 and super().try_lock(file)

    def write(file):
        (path,) = leftovers(cache)
        assert cache.files.is_locked(str(path))
        file.write(b"hello")

    assert Cache(cache.workdir, files=Busy()).publish(key_of(1), write, estimated_bytes=5)[1]


def test_a_cache_deleted_in_use_is_created_again(cache):
    cache.publish(key_of(1), write_hello, estimated_bytes=5)
    shutil.rmtree(cache.root)
    assert cache.publish(key_of(1), write_hello, estimated_bytes=5)[1]
    assert (cache.root / "CACHEDIR.TAG").exists()


class Deleting(FileSystem):
    """Somebody deletes what a writer has just put into ``tmp``, again and again, and makes the folders anew."""

    def link_or_replace(self, source, target):
        os.unlink(source)
        return super().link_or_replace(source, target)


def test_a_cache_whose_marks_are_deleted_all_the_time_is_gone_and_not_unwritable(tmp_path):
    """Readers then read the source; a workdir that cannot be written would be an error."""
    cache = Cache(tmp_path, files=Deleting())
    with pytest.raises(nf.CacheEntryGoneError, match="deleted all the time"):
        cache.publish(key_of(1), write_hello, estimated_bytes=5)


def test_a_workdir_that_cannot_exist_is_an_error_of_its_own():
    cache = Cache("/proc/no/such/folder")
    with pytest.raises(nf.CacheError, match="cannot be written") as caught:
        cache.publish(key_of(1), write_hello, estimated_bytes=5)
    assert not isinstance(caught.value, nf.CacheEntryGoneError)
