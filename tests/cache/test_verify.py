"""Verify: every damaged entry is found, and no good one is reported."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import threading
import time

import pytest
from kit.entries import ReadHook, entry_bytes, key_of, publish, start_python, tree_of

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.cache.trailer import TAIL_BYTES
from ndframes.system.files import FileSystem
from ndframes.system.segments import checksum

SMALL = 2600  # bytes of pixels, in an entry of three kilobytes


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


def overwrite(path, data):
    """Change a file in place, as a failing disk does: same file, same times."""
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path, offset, bit=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    overwrite(path, data)


def plant(cache, number, data):
    """Put such an entry into the cache, past :meth:`Cache.publish`, which would sync thousands of them."""
    path = cache.path(key_of(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def test_a_missing_cache_is_ok(cache, tmp_path):
    report = cache.verify(read_data=True, repair=True)
    assert (report.ok, report.checked, report.bad) == (True, 0, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_data", [False, True])
def test_good_entries_are_ok(cache, read_data):
    entries = [publish(cache, number, payload_bytes=10**number) for number in range(3, 8)]
    entries.append(publish(cache, 1, state=1, form="cog"))
    before = tree_of(cache.root)
    report = cache.verify(read_data)
    assert (report.ok, report.checked, report.bad, report.repaired) == (True, 6, (), 0)
    assert report.checked_bytes == sum(entry.size_bytes for entry in entries)
    assert report.read_data is read_data
    assert report.seconds > 0
    assert tree_of(cache.root) == before


# -- every damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload_bytes", [256, pytest.param(SMALL, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_found(cache, payload_bytes):
    """Of thousands of entries, each with another bit flipped, none passes."""
    bits = 8 * len(entry_bytes(0, payload_bytes=payload_bytes))
    planted = {plant(cache, bits, entry_bytes(bits, payload_bytes=payload_bytes)): False}
    for number in range(bits):
        data = bytearray(entry_bytes(number, payload_bytes=payload_bytes))
        assert 8 * len(data) == bits
        data[number // 8] ^= 1 << number % 8
        planted[plant(cache, number, data)] = True
    everything = cache.verify(read_data=True)
    assert everything.checked == bits + 1
    assert {item.path for item in everything.bad} == {path for path, is_bad in planted.items() if is_bad}
    described = cache.verify()
    assert {item.path for item in described.bad} == set(list(planted)[1 + 8 * payload_bytes :])


def test_every_prefix_is_refused(cache):
    whole = len(entry_bytes(0, payload_bytes=SMALL))
    for number in range(whole):
        plant(cache, number, entry_bytes(number, payload_bytes=SMALL)[:number])
    report = cache.verify()
    assert len(report.bad) == report.checked == whole
    assert all("did not" not in item.problem and item.path in item.problem for item in report.bad)


@pytest.mark.parametrize("extra", [1, 64, 5000])
def test_bytes_behind_the_end_are_refused(cache, extra):
    entry = publish(cache)
    overwrite(entry.path, entry.path.read_bytes() + bytes(extra))
    assert not cache.verify().ok


def test_blocks_of_zeros_are_found(cache):
    entry = publish(cache, payload_bytes=64_000)
    good = entry.path.read_bytes()
    for start in range(0, len(good), 4096):
        overwrite(entry.path, good[:start] + bytes(len(good[start : start + 4096])) + good[start + 4096 :])
        assert not cache.verify(read_data=True).ok
    overwrite(entry.path, good)
    assert cache.verify(read_data=True).ok


@pytest.mark.parametrize("read_data", [False, True])
def test_swapped_entries_are_refused(cache, read_data):
    sources = [publish(cache, number) for number in range(20)]
    states = [publish(cache, 100, state=number) for number in range(2)]
    forms = [publish(cache, 200, form="npy"), publish(cache, 200, form="cog")]
    assert cache.verify(read_data).ok
    for one, other in [*zip(sources[::2], sources[1::2], strict=True), states, forms]:
        aside = one.path.with_suffix(".aside")
        one.path.rename(aside)
        other.path.rename(one.path)
        aside.rename(other.path)
    report = cache.verify(read_data)
    assert len(report.bad) == report.checked == 24
    assert all("holds the entry of another key" in item.problem for item in report.bad)


@pytest.mark.parametrize("meta", [{}, {"key": None}, {"key": {}}, {"key": {"backend": "npy"}}, {"key": [1]}])
def test_an_entry_without_a_valid_key_is_refused(cache, meta):
    plant(cache, 0, entry_bytes(0, meta=meta))
    (bad,) = cache.verify().bad
    assert "its description has no valid key" in bad.problem


def test_files_that_are_not_entries_are_refused(cache):
    plant(cache, 0, b"")
    plant(cache, 1, b"an ordinary file")
    plant(cache, 2, bytes(10_000))
    assert len(cache.verify().bad) == 3


# -- not damaged -------------------------------------------------------------------------------------------------------


def test_a_newer_version_is_counted_apart(cache):
    publish(cache, 1)
    data = bytearray(entry_bytes(0))
    data[-TAIL_BYTES + 8] += 1
    data[-4:] = checksum(data[-TAIL_BYTES:-4]).to_bytes(4, "little")
    path = plant(cache, 0, data)
    report = cache.verify(read_data=True, repair=True)
    assert (report.ok, report.checked, report.newer, report.repaired) == (True, 1, 1, 0)
    assert os.path.exists(path)
    assert "1 of a newer version" in str(report)


class InterferingFiles(FileSystem):
    """Calls a function just before or after one file is opened."""

    def __init__(self, path, *, before=None, after=None):
        self.path, self.before, self.after = str(path), before, after

    def open_to_read(self, path):
        is_it = path == self.path
        if is_it and self.before:
            self.before(path)
        file = super().open_to_read(path)
        if is_it and self.after:
            self.after(path)
        return file


def replace_by_another(path):
    os.rename(path, path + ".gone")
    with open(path, "wb") as file:
        file.write(b"made anew")


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_entry_removed_meanwhile_is_not_bad(cache, moment, repair):
    entry = publish(cache, 0)
    publish(cache, 1)
    flip(entry.path, 10)
    files = InterferingFiles(entry.path, **{moment: os.unlink})
    report = Cache(cache.workdir, files=files).verify(read_data=True, repair=repair)
    assert (report.ok, report.checked, report.repaired) == (True, 1, 0)


def test_an_entry_replaced_meanwhile_is_not_bad(cache):
    entry = publish(cache)
    flip(entry.path, 10)
    files = InterferingFiles(entry.path, after=replace_by_another)
    assert Cache(cache.workdir, files=files).verify(read_data=True, repair=True).ok
    assert entry.path.read_bytes() == b"made anew"


def test_an_entry_removed_by_another_machine_is_not_bad(cache):
    def fail(offset, length):
        raise OSError(errno.ESTALE, "Stale file handle")

    publish(cache)
    report = Cache(cache.workdir, files=ReadHook(fail)).verify()
    assert (report.ok, report.checked) == (True, 0)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_an_unreadable_entry_is_bad(cache, code):
    class Failing(FileSystem):
        def open_to_read(self, path):
            raise OSError(code, os.strerror(code), path)

    entry = publish(cache)
    (bad,) = Cache(cache.workdir, files=Failing()).verify().bad
    assert bad.path == str(entry.path)
    assert os.strerror(code) in bad.problem


def test_links_and_other_files_are_not_checked(cache, tmp_path):
    entry = publish(cache)
    folder = entry.path.parent
    (folder / "notes.txt").write_text("mine")
    (folder / f"{folder.name}{'0' * 30}.{'1' * 32}.npy").symlink_to(entry.path)
    assert cache.verify(read_data=True, repair=True).checked == 1
    assert len(list(folder.iterdir())) == 3


def test_a_check_is_not_a_use(cache):
    entry = publish(cache, used=1_000_000_000.0)
    cache.verify(read_data=True)
    assert entry.path.stat().st_atime == 1_000_000_000.0


# -- repair -----------------------------------------------------------------------------------------------------------


def test_repair_moves_the_bad_entries_and_nothing_else(cache):
    entries = [publish(cache, number) for number in range(5)]
    for entry in entries[1:3]:
        flip(entry.path, 500)
    damaged = sorted(entry.path.read_bytes() for entry in entries[1:3])
    assert cache.verify(repair=True).ok, "which did not read the pixels"
    report = cache.verify(read_data=True, repair=True)
    assert (report.ok, report.checked, report.repaired) == (False, 5, 2)
    assert [item.path for item in report.bad] == sorted(str(entry.path) for entry in entries[1:3])
    kept = sorted(path.read_bytes() for path in (cache.root / "quarantine").iterdir())
    assert kept == damaged
    assert {entry.key for entry in cache.ls()} == {entry.key for entry in entries[:1] + entries[3:]}
    assert cache.verify(read_data=True).ok
    assert publish(cache, 1).path.exists()
    assert cache.gc().leftovers == 2


def test_without_repair_nothing_is_moved(cache):
    entry = publish(cache)
    flip(entry.path, -1)
    before = tree_of(cache.root)
    assert cache.verify().repaired == 0
    assert tree_of(cache.root) == before


def test_what_cannot_be_moved_is_not_repaired(cache):
    class Fixed(FileSystem):
        def move(self, path, target):
            raise PermissionError(1, "Operation not permitted", path)

    flip(publish(cache).path, -1)
    report = Cache(cache.workdir, files=Fixed()).verify(repair=True)
    assert (len(report.bad), report.repaired) == (1, 0)


# -- the report, the progress, an end before the end ------------------------------------------------------------------


def test_reports_are_values(cache):
    flip(publish(cache).path, -1)
    report = cache.verify()
    assert pickle.loads(pickle.dumps(report)) == report
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is False
    assert data["bad"] == [{"path": report.bad[0].path, "problem": report.bad[0].problem}]
    assert str(report).startswith("1 checked (")
    assert report.bad[0].problem in str(report)


def test_a_long_list_is_cut(cache):
    for number in range(25):
        plant(cache, number, b"")
    lines = str(cache.verify()).split("\n")
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more"


@pytest.mark.parametrize("read_data", [False, True])
def test_progress_counts_every_byte_once(cache, read_data):
    total = sum(publish(cache, number, payload_bytes=3_000_000).size_bytes for number in range(3))
    flip(publish(cache, 9, payload_bytes=3_000_000).path, 5)
    total += cache.path(key_of(9)).stat().st_size
    steps = []
    cache.verify(read_data, progress=lambda done, of: steps.append((done, of)))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {of for _, of in steps} == {total}
    assert steps[-1] == (total, total)
    assert len(steps) > (9 if read_data else 3)


def test_an_error_of_the_progress_ends_it(cache):
    for number in range(200):
        plant(cache, number, entry_bytes(number))
    others = set(threading.enumerate())
    calls = []

    def fail(done, total):
        if calls:
            time.sleep(0.02)  # so that the thread that waits for the results has time to see the error
        calls.append(done)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.verify(True, progress=fail)
    assert len(calls) < 100
    deadline = time.monotonic() + 30
    while not set(threading.enumerate()) <= others and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= others


def test_ctrl_c_ends_it_soon(cache):
    publish(cache, payload_bytes=1000)
    code = f"""
from ndframes.system.interrupts import lost_interrupts_repeated
def slow(offset, length):
    say("reading")
    time.sleep(0.02)
cache = Cache({str(cache.workdir)!r}, files=ReadHook(slow))
for number in range(500):
    path = cache.path(key_of(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(entry_bytes(number))
try:
    with lost_interrupts_repeated():
        cache.verify(True)
except KeyboardInterrupt:
    say("interrupted")
"""
    with start_python(code) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        lines = process.communicate(timeout=60)[0].splitlines()
    assert "interrupted" in lines
    assert lines.count("reading") < 1000, "there are four reads for each of 500 entries"


def test_a_workdir_that_cannot_be_searched_is_an_error(cache):
    class Closed(FileSystem):
        def scan(self, folder):
            raise PermissionError(13, "Permission denied", folder)

    with pytest.raises(nf.CacheError, match="cannot be searched.*Permission denied"):
        Cache(cache.workdir, files=Closed()).verify()
