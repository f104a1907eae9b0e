"""Leases: what a running job holds stays as long as the job runs, and no longer."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import time
import uuid

import pytest
from kit.entries import key_of, publish, start_python
from kit.forking import in_fork

from ndframes.cache.cache import Cache
from ndframes.cache.leases import Lease, leased_elsewhere, leases_elsewhere
from ndframes.system.files import FileSystem

HOLD = """
cache = Cache({workdir!r})
cache.hold([key_of(number) for number in {numbers!r}])
say("held", cache._lease.name)
sys.stdin.readline()
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "work")
    publish(cache, 1)
    return cache


def held_elsewhere(cache):
    return leased_elsewhere(cache.files, cache.root, cache.lease_names)


def hold_in_child(cache, *numbers):
    """A process that holds entries until it reads a line; and the name of its lease."""
    process = start_python(HOLD.format(workdir=str(cache.workdir), numbers=numbers))
    word, name = process.stdout.readline().split()
    assert word == "held"
    return process, name


def lease_files(cache):
    return sorted(os.listdir(cache.root / "leases"))


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_another_process_holds_while_it_runs(cache):
    with hold_in_child(cache, 1, 2)[0] as process:
        assert held_elsewhere(cache) == {key_of(1).relative_path, key_of(2).relative_path}
        (lease,) = leases_elsewhere(cache.files, cache.root)
        assert (lease.owner.host, lease.owner.pid) == (socket.gethostname(), process.pid)
        process.communicate("\n", timeout=30)
    assert held_elsewhere(cache) == set()
    assert lease_files(cache) == []


def test_a_killed_process_holds_nothing(cache):
    with hold_in_child(cache, 1)[0] as process:
        assert held_elsewhere(cache) == {key_of(1).relative_path}
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert len(lease_files(cache)) == 1
    assert held_elsewhere(cache) == set()


def test_a_stopped_process_holds(cache):
    process, name = hold_in_child(cache, 1)
    with process:
        process.send_signal(signal.SIGSTOP)
        age(cache.root / "leases" / name, 10**6)
        assert held_elsewhere(cache) == {key_of(1).relative_path}
        process.kill()


def test_a_job_is_not_bound_by_its_own_leases(cache):
    cache.hold([key_of(1)])
    other = Cache(cache.workdir)
    other.hold([key_of(2)])
    assert held_elsewhere(cache) == set()
    process, name = hold_in_child(cache, 3)
    with process:
        assert leased_elsewhere(cache.files, cache.root, {name}) == set()
        process.kill()


def test_a_process_that_was_sent_the_cache_is_not_bound_by_the_sender(cache):
    cache.hold([key_of(1)])
    code = """
import pickle
for cache in pickle.loads(bytes.fromhex({sent!r})), Cache({workdir!r}):
    say(len(leased_elsewhere(cache.files, cache.root, cache.lease_names)))
"""
    code = "from ndframes.cache.leases import leased_elsewhere\n" + code.format(
        sent=pickle.dumps(cache).hex(), workdir=str(cache.workdir)
    )
    with start_python(code) as process:
        assert process.communicate(timeout=30)[0].split() == ["0", "1"]


def test_it_is_a_file_of_paths_each_once(cache):
    lease = Lease(cache.files, cache.root)
    assert lease_files(cache) == []
    lease.add([])
    assert lease_files(cache) == []
    lease.add([key_of(1), key_of(2), key_of(1)])
    lease.add([key_of(2), key_of(3)])
    assert lease_files(cache) == [lease.name]
    lines = [line for line in (cache.root / "leases" / lease.name).read_text().split("\n") if line]
    assert lines == [key_of(number).relative_path for number in (1, 2, 3)]


def test_it_ends_with_its_object(cache):
    lease = Lease(cache.files, cache.root)
    lease.add([key_of(1)])
    descriptor = lease._file.fileno()
    assert os.fstat(descriptor).st_size > 0
    del lease
    gc.collect()
    assert lease_files(cache) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_forked_child_neither_ends_it_nor_is_bound_by_it(cache):
    cache.hold([key_of(1)])

    def check():
        is_free = held_elsewhere(cache) == set()
        cache.hold([key_of(2)])
        cache._lease = None
        gc.collect()
        return is_free

    in_fork(check)
    assert lease_files(cache) == [cache._lease.name]
    text = (cache.root / "leases" / cache._lease.name).read_text()
    assert [line for line in text.split("\n") if line] == [key_of(1).relative_path, key_of(2).relative_path]


def test_a_forked_child_keeps_it_when_its_parent_is_killed(cache):
    code = f"""
cache = Cache({str(cache.workdir)!r})
cache.hold([key_of(1)])
if os.fork():
    say("held")
    time.sleep(60)
else:
    sys.stdin.readline()
"""
    with start_python(code) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait(30)
        assert held_elsewhere(cache) == {key_of(1).relative_path}
        process.stdin.close()  # which the child waits for
        deadline = time.monotonic() + 30
        while held_elsewhere(cache) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert held_elsewhere(cache) == set()


def test_it_survives_that_the_cache_is_deleted_in_use(cache):
    import shutil

    lease = Lease(cache.files, cache.root)
    lease.add([key_of(1)])
    shutil.rmtree(cache.root)
    lease.add([key_of(2)])
    lines = (cache.root / "leases" / lease.name).read_text().split()
    assert sorted(lines) == sorted([key_of(1).relative_path, key_of(2).relative_path])
    assert (cache.root / "CACHEDIR.TAG").exists()


class ReadOnly(FileSystem):
    """A cache folder that may not be written."""

    def __init__(self):
        self.calls = 0

    def create(self, path):
        self.calls += 1
        raise PermissionError(13, "Permission denied", path)


def test_a_read_only_folder_is_logged_once_and_fails_nothing(cache, caplog):
    files = ReadOnly()
    caplog.set_level("INFO", "ndframes")
    lease = Lease(files, cache.root)
    for number in range(5):
        lease.add([key_of(number)])
    assert files.calls == 1
    assert lease_files(cache) == []
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "Permission denied" in record.getMessage()


class WithoutLocks(FileSystem):
    def try_lock(self, file):
        raise OSError(37, "No locks available")


def test_without_locks_no_lease_is_left(cache):
    lease = Lease(WithoutLocks(), cache.root)
    lease.add([key_of(1)])
    assert lease_files(cache) == []


def test_a_lease_is_locked_even_if_another_checks_its_lock_at_that_moment(cache):
    class Busy(FileSystem):
        refusals = 3

        def try_lock(self, file):
            self.refusals -= 1
            return self.refusals < 0 and super().try_lock(file)

    lease = Lease(Busy(), cache.root)
    lease.add([key_of(1)])
    assert cache.files.is_locked(str(cache.root / "leases" / lease.name))


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("{0}\n{1}\n", {0, 1}),
        ("{0}\n{1}", {0}),
        ("{0}\n" + "x" * 5000 + "\n\x00\xff\n../../{1}\n/{1}\nv1/\n{1}/\n", {0}),
        ("\n\n\n", set()),
        ("", set()),
    ],
)
def test_half_lines_and_odd_lines_are_ignored(cache, text, held):
    paths = [key_of(0).relative_path, key_of(1).relative_path]
    name = f"elsewhere-1-{uuid.uuid4().hex}.lease"
    (cache.root / "leases" / name).write_bytes(text.format(*paths).encode("latin-1"))
    assert held_elsewhere(cache) == {paths[index] for index in held}


def test_a_lease_from_elsewhere_is_given_a_minute_to_be_locked(cache):
    path = cache.root / "leases" / f"elsewhere-1-{uuid.uuid4().hex}.lease"
    path.write_text(key_of(1).relative_path + "\n")
    assert held_elsewhere(cache) == {key_of(1).relative_path}
    age(path, 61)
    assert held_elsewhere(cache) == set()


def test_links_folders_and_odd_names_are_not_leases(cache, tmp_path):
    real = tmp_path / "mine"
    real.write_text(key_of(1).relative_path + "\n")
    folder = cache.root / "leases"
    (folder / f"elsewhere-1-{uuid.uuid4().hex}.lease").symlink_to(real)
    (folder / f"elsewhere-2-{uuid.uuid4().hex}.lease").mkdir()
    os.mkfifo(folder / f"elsewhere-3-{uuid.uuid4().hex}.lease")
    (folder / "elsewhere-4-0123.lease").write_text(key_of(1).relative_path + "\n")
    assert held_elsewhere(cache) == set()


def test_a_process_number_out_of_range_is_not_running(cache):
    path = cache.root / "leases" / f"{socket.gethostname()}-{10**30}-{uuid.uuid4().hex}.lease"
    path.write_text(key_of(1).relative_path + "\n")
    assert held_elsewhere(cache) == set()
