"""Budget: the limits are kept, by removing the entries used longest ago and no more than needed."""

from __future__ import annotations

import os
import socket
import time

import pytest
from kit.entries import LONG_AGO, hold_in_child, key_of, keys_in, publish, publish_aged, start_python

import ndframes as nf
from ndframes.cache.budget import Budget, Usage
from ndframes.cache.cache import Cache
from ndframes.system.files import FileSystem


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


def total_of(cache):
    return sum(entry.size_bytes for entry in cache.ls())


def total_at_one_moment(cache):
    """The entries that were there before and after one moment, and so in it: a total that is never too large."""
    entries = list(cache.ls())
    return sum(entry.size_bytes for entry in entries if entry.path.exists())


# -- the budget -------------------------------------------------------------------------------------------------------


def test_without_a_budget_nothing_is_removed_unasked(cache):
    publish_aged(cache, 5)
    publish(cache, 1, state=1)
    assert len(keys_in(cache)) == 6


def test_a_budget_is_kept_with_room_to_spare(tmp_path):
    one = publish(Cache(tmp_path / "other")).size_bytes
    cache = Cache(tmp_path / "work", max_bytes=20 * one)
    for number in range(20):
        publish(cache, number, used=LONG_AGO + number)
        assert len(keys_in(cache)) == number + 1
    publish(cache, 20)
    assert keys_in(cache) == {key_of(number) for number in range(4, 21)}  # 17 of 20 are 85 %


def test_an_entry_larger_than_the_budget_stays_alone_and_is_logged_once(tmp_path, caplog):
    cache = Cache(tmp_path, max_bytes=500)
    for number in range(3):
        newest = publish(cache, number)
        assert keys_in(cache) == {newest.key}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "newest entry alone is too large" in record.getMessage()
    assert f"{newest.size_bytes - 500:,} bytes more" in record.getMessage()


def test_leases_that_break_the_budget_are_logged_once_with_their_holders(tmp_path, caplog):
    plain = Cache(tmp_path)
    one = publish_aged(plain, 3)[0].size_bytes
    cache = Cache(tmp_path)
    cache.budget = Budget(2 * one, None, recount_factor=0)
    with hold_in_child(cache, 0, 1, 2) as process:
        for number in range(10, 13):
            newest = publish(cache, number)
            assert keys_in(cache) == {key_of(0), key_of(1), key_of(2), newest.key}
        process.kill()
    (record,) = caplog.records
    message = record.getMessage()
    assert "3 entries must stay for other jobs" in message
    assert f"process {process.pid} on {socket.gethostname()}" in message
    assert f"{2 * one:,} bytes" in message
    publish(cache, 20)
    assert total_of(cache) <= 2 * one


def test_an_error_while_counting_does_not_undo_the_entry(tmp_path, caplog):
    class Unlisted(FileSystem):
        def scan(self, folder):
            if "v1" in folder:
                raise PermissionError(13, "Permission denied", folder)
            return super().scan(folder)

    cache = Cache(tmp_path, max_bytes=10, files=Unlisted())
    for number in range(3):
        assert publish(cache, number).path.exists()
    (record,) = caplog.records
    assert "Permission denied" in record.getMessage()


def test_another_process_s_use_counts(tmp_path):
    plain = Cache(tmp_path)
    one = publish_aged(plain, 4)[0].size_bytes
    os.utime(plain.path(key_of(0)), (time.time(), LONG_AGO))
    publish(Cache(tmp_path, max_bytes=4 * one), 4)
    assert keys_in(plain) == {key_of(0), key_of(3), key_of(4)}


class Counting(FileSystem):
    """Counts the scans of all entries."""

    def __init__(self):
        self.scans = 0

    def scan(self, folder):
        self.scans += folder.endswith(os.sep + "v1")
        return super().scan(folder)

    def free_bytes(self, path):
        return 10**12  # on a disk where nobody else writes


def test_the_entries_are_counted_only_now_and_then(tmp_path):
    files = Counting()
    one = publish(Cache(tmp_path / "other"), payload_bytes=100).size_bytes
    cache = Cache(tmp_path / "work", files=files)
    # A count is used for a long time, so that only what is written makes it stale, however slow the machine is.
    cache.budget = Budget(1000 * one, None, recount_factor=1e9)
    for number in range(300):
        publish(cache, number, payload_bytes=100)
    assert files.scans <= 60


@pytest.mark.parametrize(
    ("total", "written", "free", "is_stale"),
    [
        (0, 0, 10_000, False),
        (0, 100, 9_900, False),
        (0, 101, 9_900, True),
        (0, 1, 9_200, False),
        (0, 1, 9_199, True),
        (1600, 0, 10_000, True),
        (1700, 0, 10_000, True),
        (1584, 1, 10_000, False),
        (1584, 2, 10_000, True),
    ],
)
def test_when_the_entries_are_counted_again(total, written, free, is_stale):
    later = time.monotonic() + 1000
    assert Usage(total, 10_000, later, written).is_stale(1600, free) is is_stale
    assert not Usage(total, 10_000, later, written, is_stuck=True).is_stale(1600, free)
    for is_stuck in (False, True):
        assert Usage(total, 10_000, time.monotonic() - 1, written, is_stuck=is_stuck).is_stale(1600, free)


def test_one_that_writes_little_sees_what_the_others_wrote(tmp_path):
    """Its own share of the budget is not used up, but the free space of the disk shows the others' use."""
    payload = 100_000
    one = publish(Cache(tmp_path / "other"), payload_bytes=payload).size_bytes
    idle = Cache(tmp_path / "work", max_bytes=32 * one)
    publish(idle, 100, payload_bytes=payload, used=LONG_AGO)
    busy = Cache(tmp_path / "work")  # which keeps no budget
    for number in range(32):
        publish(busy, number, payload_bytes=payload, used=LONG_AGO)
    publish(idle, 101, payload_bytes=payload)
    assert total_of(idle) <= 32 * one


WRITER = """
cache = Cache({workdir!r}, max_bytes={budget})
largest = 0
for number in range({count}):
    entry = publish(cache, {writer} * 1000 + number, payload_bytes={payload} + 37 * (number % 50))
    largest = max(largest, entry.size_bytes) if os.path.exists(entry.path) else largest
say(largest)
"""


@pytest.mark.parametrize(
    ("budget", "sizes", "workload"),
    [
        (600_000, (400, 3_000, 12_000, 60_000), 4_000_000),
        pytest.param(
            10**9, (500_000, 5_000_000, 20_000_000, 60_000_000), 20 * 10**9,
            marks=[pytest.mark.slow, pytest.mark.timeout(3600)],
        ),
    ],
)  # fmt: skip
def test_writers_of_different_sizes_stay_within_the_budget_and_one_entry_each(tmp_path, budget, sizes, workload):
    largest = sum(size + 37 * 50 + 1000 for size in sizes)
    writers = [
        start_python(
            WRITER.format(
                workdir=str(tmp_path),
                budget=budget,
                count=workload // len(sizes) // (size + 4000),
                writer=index,
                payload=size,
            )
        )
        for index, size in enumerate(sizes)
    ]
    watcher = Cache(tmp_path)
    totals = []
    while any(writer.poll() is None for writer in writers):
        totals.append(total_at_one_moment(watcher))
    for writer in writers:
        with writer:
            assert writer.communicate(timeout=60)[0].strip().isdigit()
            assert writer.returncode == 0
    totals.append(total_at_one_moment(watcher))
    assert max(totals) > 0.9 * budget, "the budget was never put to the test"
    assert max(totals) <= budget + largest
    report = watcher.verify(read_data=True)
    assert report.ok, str(report)
    print(
        f"{workload:,} bytes by {len(sizes)} writers: at most {max(totals):,} of {budget:,}, in {len(totals):,} looks; "
        f"one entry each would be {largest:,} more"
    )


# -- free space -------------------------------------------------------------------------------------------------------


class SmallDisk(FileSystem):
    """A disk of a given capacity that holds only entries; a removed entry that is mapped keeps its space."""

    def __init__(self, root, capacity):
        self.root = root
        self.capacity = capacity
        self.mapped_bytes = 0

    def remove(self, path):
        size = os.lstat(path).st_size if os.path.lexists(path) else 0
        self.mapped_bytes += size if path in self.mapped else 0
        return super().remove(path)

    mapped: tuple[str, ...] = ()

    def free_bytes(self, path):
        used = sum(item.stat().st_size for item in self.root.rglob("*") if item.suffix in (".npy", ".tif"))
        return self.capacity - used - self.mapped_bytes


@pytest.fixture
def full_disk(tmp_path):
    """A cache whose ten entries leave space for half an entry; and the size of an entry."""
    one = publish_aged(Cache(tmp_path), 10)[0].size_bytes
    files = SmallDisk(tmp_path, 10 * one + (one + 1) // 2)
    return Cache(tmp_path, min_free_bytes=2 * one, files=files), one


def test_room_is_made_for_a_new_entry(full_disk):
    cache, one = full_disk
    publish(cache, 10, payload_bytes=1000)
    assert keys_in(cache) == {key_of(number) for number in range(3, 11)}  # 2.5 entries were short
    assert cache.files.free_bytes("") >= 2 * one


def test_nothing_is_removed_if_all_entries_are_not_enough(full_disk):
    cache, one = full_disk
    with hold_in_child(cache, 9) as process:
        with pytest.raises(nf.CacheFullError, match="must stay free"):
            publish(cache, 10, payload_bytes=8 * one)
        process.kill()
    assert len(keys_in(cache)) == 10
    with pytest.raises(nf.CacheFullError):
        cache.publish(key_of(10), lambda file: None, estimated_bytes=10**15)
    assert len(keys_in(cache)) == 10


def test_entries_that_others_hold_make_no_room(full_disk):
    cache, _ = full_disk
    with hold_in_child(cache, 0, 1) as process:
        publish(cache, 10)
        process.kill()
    assert keys_in(cache) == {key_of(number) for number in (0, 1, 5, 6, 7, 8, 9, 10)}


def test_entries_that_are_mapped_do_not_empty_the_cache_for_nothing(full_disk):
    cache, _ = full_disk
    cache.files.mapped = tuple(str(entry.path) for entry in cache.ls())
    with pytest.raises(nf.CacheFullError, match="must stay free"):
        publish(cache, 10)
    assert len(keys_in(cache)) == 5  # 2.5 were short, 5 were removed


def test_without_a_minimum_nothing_is_removed_for_room(full_disk):
    cache, _ = full_disk
    with pytest.raises(nf.CacheFullError):
        publish(Cache(cache.workdir, files=cache.files), 10)
    assert len(keys_in(cache)) == 10
