"""Upkeep: what may go goes, in the right order, and nothing else ever does."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import shutil
import signal
import socket
import threading
import time
import uuid

import pytest
from filelock import FileLock
from kit.entries import key_of, publish, start_python, tree_of

import ndframes as nf
from ndframes.cache.budget import Budget, Usage
from ndframes.cache.cache import Cache
from ndframes.cache.remover import GcReport
from ndframes.system.files import FileSystem
from ndframes.text import format_bytes

LONG_AGO = 1_000_000_000.0


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


def names_of(cache):
    return {entry.key for entry in cache.ls()}


def total_of(cache):
    return sum(entry.size_bytes for entry in cache.ls())


def total_at_one_moment(cache):
    """The entries that were there before and after one moment, and so in it: a total that is never too large."""
    entries = list(cache.ls())
    return sum(entry.size_bytes for entry in entries if entry.path.exists())


def publish_aged(cache, count, **options):
    """Entries of source 0, 1, ...: each was used a second after the one before."""
    return [publish(cache, number, used=LONG_AGO + number, **options) for number in range(count)]


def hold_in_child(cache, *numbers):
    process = start_python(
        f"cache = Cache({str(cache.workdir)!r})\n"
        f"cache.hold([key_of(number) for number in {numbers!r}])\n"
        "say('held')\nsys.stdin.readline()"
    )
    assert process.stdout.readline() == "held\n"
    return process


def dead_pid():
    with start_python("") as process:
        process.communicate(timeout=30)
    return process.pid


def plant_leftovers(cache):
    """Of each kind one that may go and one that may not: the paths of both."""
    host, dead = socket.gethostname(), dead_pid()
    goes, stays = {}, {}
    for kind, name in (("tmp", f"{'0' * 32}-{{}}.part"), ("leases", "{}.lease")):
        goes[kind] = cache.root / kind / name.format(f"{host}-{dead}-{uuid.uuid4().hex}")
        stays[kind] = cache.root / kind / name.format(f"elsewhere-{dead}-{uuid.uuid4().hex}")
        stays[kind + " mine"] = cache.root / kind / name.format(f"{host}-{os.getpid()}-{uuid.uuid4().hex}")
    goes["quarantine"] = cache.root / "quarantine" / f"{'1' * 32}.{'2' * 32}.tif.01234567"
    for path in (*goes.values(), *stays.values()):
        path.write_bytes(b"half")
    return goes, stays


# -- stat -------------------------------------------------------------------------------------------------------------


def test_stat_of_nothing_writes_nothing(cache, tmp_path):
    stat = cache.stat()
    assert (stat.entries, stat.total_bytes, stat.by_backend, stat.oldest_used, stat.leased) == (0, 0, (), None, 0)
    assert stat.free_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_stat_counts(tmp_path):
    cache = Cache(tmp_path, max_bytes=10**9, min_free_bytes=5)
    first = publish(cache, 1, used=LONG_AGO)
    new = publish(cache, 1, state=1, used=LONG_AGO + 1)
    other = publish(cache, 2, form="cog", payload_bytes=5000, used=LONG_AGO + 2)
    plant_leftovers(cache)
    stat = cache.stat()
    assert stat.entries == 3
    assert stat.total_bytes == first.size_bytes + new.size_bytes + other.size_bytes
    assert [tuple(form) for form in stat.by_backend] == [
        (other.key.backend_id, ".tif", 1, other.size_bytes),
        (new.key.backend_id, ".npy", 2, first.size_bytes + new.size_bytes),
    ]
    assert (stat.oldest_used, stat.newest_used) == (LONG_AGO, LONG_AGO + 2)
    assert (stat.superseded, stat.superseded_bytes) == (1, first.size_bytes)
    assert (stat.temporary, stat.temporary_bytes) == (3, 12)
    assert (stat.quarantined, stat.quarantined_bytes) == (1, 4)
    assert (stat.max_bytes, stat.min_free_bytes) == (10**9, 5)
    with hold_in_child(cache, 1) as process:
        assert cache.stat().leased == 1
        process.kill()
    told = json.loads(json.dumps(stat.to_dict()))
    assert told["by_backend"][1]["entries"] == 2
    assert str(stat).startswith("3 entries, ")
    assert "1 superseded" in str(stat)


# -- what gc removes --------------------------------------------------------------------------------------------------


def test_gc_of_nothing_is_nothing(cache, tmp_path):
    assert cache.gc() == GcReport(0, 0, 0)
    assert cache.clear(dry_run=True) == GcReport(0, 0, 0, is_dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_gc_removes_what_is_of_no_use_and_keeps_the_rest(cache):
    old = publish(cache, 1, used=LONG_AGO)
    new = publish(cache, 1, state=1)
    other = publish(cache, 1, form="cog", used=LONG_AGO)
    goes, stays = plant_leftovers(cache)
    writing = (cache.root / "tmp" / f"{'0' * 32}-elsewhere-1-{uuid.uuid4().hex}.part").open("x+b")
    with writing:
        cache.files.try_lock(writing)
        os.utime(writing.name, (LONG_AGO, LONG_AGO))
        report = cache.gc()
        assert os.path.exists(writing.name)
    assert names_of(cache) == {new.key, other.key}
    assert not any(path.exists() for path in goes.values())
    assert all(path.exists() for path in stays.values())
    assert (report.removed, report.leftovers, report.kept) == (1, 3, 2)
    assert report.freed_bytes == old.size_bytes + 12
    assert report.remaining_bytes == new.size_bytes + other.size_bytes
    assert set(report.paths) == {str(old.path), *map(str, goes.values())}
    assert report.ok


def test_of_many_states_the_one_written_last_stays_whatever_was_read_last(cache):
    states = [publish(cache, 1, state=number, used=LONG_AGO + number) for number in range(5)]
    os.utime(states[0].path, (time.time(), LONG_AGO))
    assert cache.gc().removed == 4
    assert names_of(cache) == {states[4].key}


@pytest.mark.parametrize("room", [0, 1, 3, 9, 10])
def test_gc_goes_to_the_limit_and_no_further_the_longest_unused_first(cache, room):
    entries = publish_aged(cache, 10)
    limit = room * entries[0].size_bytes
    report = cache.gc(max_bytes=limit)
    assert names_of(cache) == {entry.key for entry in entries[10 - room :]}
    assert (report.removed, report.kept, report.remaining_bytes) == (10 - room, room, limit)
    assert cache.gc(max_bytes=limit).removed == 0


def test_one_byte_less_is_one_entry_less(cache):
    entries = publish_aged(cache, 4)
    assert cache.gc(max_bytes=2 * entries[0].size_bytes - 1).kept == 1


def test_to_read_is_to_use(cache):
    entries = publish_aged(cache, 4)
    os.utime(entries[0].path, (LONG_AGO + 100, LONG_AGO))
    cache.gc(max_bytes=2 * entries[0].size_bytes)
    assert names_of(cache) == {entries[0].key, entries[3].key}


def test_without_a_limit_gc_takes_the_cache_s_own_budget(tmp_path):
    cache = Cache(tmp_path)
    entries = publish_aged(cache, 4)
    assert cache.gc().removed == 0
    assert Cache(tmp_path, max_bytes=2 * entries[0].size_bytes).gc().removed == 2


@pytest.mark.parametrize("limit", [-1, 1.5, "1GB", True])
def test_a_limit_that_is_no_number_of_bytes_is_told(cache, limit):
    publish(cache)
    with pytest.raises(nf.CacheError, match="max_bytes"):
        cache.gc(max_bytes=limit)
    assert len(names_of(cache)) == 1


def test_clear_removes_every_entry(cache):
    publish_aged(cache, 5)
    publish(cache, form="cog")
    _, stays = plant_leftovers(cache)
    report = cache.clear()
    assert (report.removed, report.kept, report.leftovers) == (6, 0, 3)
    assert names_of(cache) == set()
    assert all(path.exists() for path in stays.values())
    assert publish(cache).path.exists()


@pytest.mark.parametrize("act", [lambda cache, **how: cache.gc(0, **how), lambda cache, **how: cache.clear(**how)])
def test_a_dry_run_changes_nothing_and_foretells_everything(cache, act):
    publish_aged(cache, 3)
    publish(cache, 0, state=1)
    plant_leftovers(cache)
    before = tree_of(cache.root)
    told = act(cache, dry_run=True)
    assert tree_of(cache.root) == before
    assert told.is_dry_run
    done = act(cache)
    assert {**told.to_dict(), "is_dry_run": False} == done.to_dict()
    assert str(told) == "4 entries and 3 leftovers would be removed (4.95 kB), 0 kept (0 B)".replace(
        "4.95 kB", format_bytes(told.freed_bytes)
    )


def test_reports_are_values(cache):
    publish(cache)
    report = cache.clear()
    assert pickle.loads(pickle.dumps(report)) == report
    assert json.loads(json.dumps(report.to_dict()))["paths"] == list(report.paths)
    assert "paths" not in repr(report)
    with pytest.raises(AttributeError):
        report.removed = 3


# -- what nothing removes ---------------------------------------------------------------------------------------------


def plant_user_files(root, outside):
    """Files that are not the cache's, under names as near to its own as can be."""
    source, state = "5" * 32, "7" * 32
    shard = root / "v1" / ("b" * 12) / "55"
    entry = f"{source}.{state}.tif"
    outside.mkdir()
    files = [
        root / "notes.txt",
        root / "v1" / entry,
        root / "v1" / ("b" * 12) / entry,
        root / "v1" / ("b" * 11) / "55" / entry,
        root / "v1" / ("B" * 12) / "55" / entry,
        root / "v1" / ("b" * 12) / "56" / entry,
        root / "v1" / "x" / ("b" * 12) / "55" / entry,
        root / "v2" / ("b" * 12) / "55" / entry,
        root / "v10" / ("b" * 12) / "55" / entry,
        shard / "notes.txt",
        shard / f"{source}.{state}.tiff",
        shard / f"{source}.{state}.tif.aux.xml",
        shard / f"{source}.{state}.TIF",
        shard / f"{source}.{state}",
        shard / f"{source[1:]}.{state}.tif",
        shard / f" {entry}",
        shard / f"{entry}\n",
        shard / f"{'g' * 32}.{state}.tif",
        shard / "deeper" / entry,
        root / "tmp" / "thesis.part",
        root / "tmp" / f"{state}-here-x-{uuid.uuid4().hex}.part",
        root / "leases" / "flat.lease",
        root / "quarantine" / entry,
        root / "quarantine" / "scan.tif.01234567",
        root / "quarantine" / f"{entry}.0123456g",
        root / "locks" / "mine",
    ]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    real = outside / entry
    real.write_bytes(b"mine")
    folder = outside / ("c" * 12) / "55"
    folder.mkdir(parents=True)
    (folder / entry).write_bytes(b"mine")
    links = [
        (shard / f"{source}.{'8' * 32}.tif", real),
        (shard / f"{source}.{'9' * 32}.tif", outside / "nowhere"),
        (root / "v1" / ("c" * 12), folder.parent),
        (root / "v1" / ("b" * 12) / "66", folder),
        (root / "tmp" / f"{state}-elsewhere-1-{uuid.uuid4().hex}.part", real),
        (root / "leases" / f"elsewhere-1-{uuid.uuid4().hex}.lease", real),
        (root / "quarantine" / f"{entry}.01234567", real),
    ]
    for link, target in links:
        link.symlink_to(target)
    (shard / f"{source}.{'a' * 32}.tif").mkdir()
    os.mkfifo(shard / f"{source}.{'b' * 32}.tif")
    os.mkfifo(root / "tmp" / f"{state}-elsewhere-2-{uuid.uuid4().hex}.part")
    for path in (real, folder / entry, *files):
        os.utime(path, (LONG_AGO, LONG_AGO))


def test_no_file_but_the_cache_s_own_is_removed(cache, tmp_path):
    publish(cache)
    cache.clear()
    plant_user_files(cache.root, tmp_path / "outside")
    before = tree_of(tmp_path)
    publish(cache)
    report = cache.gc(max_bytes=0)
    assert (report.removed, report.leftovers, report.kept) == (1, 0, 0)
    publish(cache)
    assert cache.clear().removed == 1
    assert tree_of(tmp_path) == before


@pytest.mark.parametrize("folder", ["v1", "tmp", "leases", "quarantine"])
def test_a_folder_that_is_a_link_is_not_followed(cache, tmp_path, folder):
    publish(cache, 1)
    publish(cache, 1, state=1)
    plant_leftovers(cache)
    shutil.move(cache.root / folder, tmp_path / "elsewhere")
    (cache.root / folder).symlink_to(tmp_path / "elsewhere")
    before = tree_of(tmp_path / "elsewhere")
    cache.gc(max_bytes=0)
    cache.clear()
    assert tree_of(tmp_path / "elsewhere") == before


def make_home(home):
    """A tree like a home folder, with files that are named like a cache's."""
    for name in (
        "papers/thesis.part",
        "scans/a.tif",
        f"v1/{'b' * 12}/55/{'5' * 32}.{'7' * 32}.tif",
        f"tmp/{'7' * 32}-elsewhere-1-{'0' * 32}.part",
        f"quarantine/{'5' * 32}.{'7' * 32}.tif.01234567",
        "tmp/x",
        "locks/gc",
    ):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (LONG_AGO, LONG_AGO))


def test_a_folder_without_marks_is_no_cache(tmp_path):
    make_home(tmp_path / "ndframes-cache")
    before = tree_of(tmp_path)
    cache = Cache(tmp_path)
    for act in (cache.gc, cache.clear, lambda: cache.gc(0, dry_run=True), lambda: cache.verify(repair=True)):
        with pytest.raises(nf.CacheError, match="does not bear the marks of a cache"):
            act()
    assert tree_of(tmp_path) == before


def test_a_cache_in_a_home_folder_leaves_it_alone(tmp_path):
    make_home(tmp_path)
    before = tree_of(tmp_path)
    cache = Cache(tmp_path)
    publish(cache)
    cache.clear()
    shutil.rmtree(cache.root)
    assert tree_of(tmp_path) == before


@pytest.mark.parametrize(
    ("mark", "text", "message"),
    [
        ("CACHEDIR.TAG", "Signature: something else", "marks of another kind"),
        ("ndframes.json", '{"layout": "1"}', "marks of another kind"),
        ("ndframes.json", "{}", "does not bear the marks"),
        ("ndframes.json", "", "does not bear the marks"),
        ("ndframes.json", "[1]", "does not bear the marks"),
        ("ndframes.json", '{"layout": 2}', "newer ndframes"),
    ],
)
def test_odd_marks_and_a_newer_layout_refuse(cache, mark, text, message):
    publish_aged(cache, 3)
    (cache.root / mark).write_text(text)
    before = tree_of(cache.root)
    for act in (lambda: cache.gc(0), cache.clear):
        with pytest.raises(nf.CacheError, match=message):
            act()
    assert tree_of(cache.root) == before


def test_a_workdir_that_may_not_be_searched_is_told(tmp_path):
    class Closed(FileSystem):
        def status(self, path):
            raise PermissionError(13, "Permission denied", path)

    cache = Cache(tmp_path, files=Closed())
    with pytest.raises(nf.CacheError, match="cannot be searched.*Permission denied"):
        cache.gc()


# -- leases -----------------------------------------------------------------------------------------------------------


def test_what_another_job_holds_is_kept_until_it_ends(cache):
    entries = publish_aged(cache, 4)
    superseded = entries[1]
    publish(cache, 1, state=1)
    with hold_in_child(cache, 0, 1) as process:
        report = cache.gc(max_bytes=0)
        assert names_of(cache) == {entries[0].key, superseded.key}
        assert (report.removed, report.kept, report.leased) == (3, 2, 2)
        assert str(report).endswith(f"2 kept (2 for other jobs) ({format_bytes(report.remaining_bytes)})")
        assert cache.clear().kept == 2
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    report = cache.clear()
    assert (report.removed, report.leased, report.leftovers) == (2, 0, 1)
    assert os.listdir(cache.root / "leases") == []


def test_a_process_s_own_orders_go_before_its_leases(cache):
    entries = publish_aged(cache, 3)
    cache.hold([entry.key for entry in entries])
    assert cache.gc(max_bytes=0).removed == 3
    assert len(os.listdir(cache.root / "leases")) == 1


# -- others at work at the same time ----------------------------------------------------------------------------------


class Meddler(FileSystem):
    """Does something to one file just before it is looked at for the last time."""

    def __init__(self, path, deed):
        self.path = str(path)
        self.deed = deed
        self.looks = 0

    def status(self, path):
        if path == self.path:
            self.looks += 1
            if self.looks == 2:
                self.deed(path)
        return super().status(path)


def replace_by_folder(path):
    os.unlink(path)
    os.mkdir(path)


def replace_by_link(path):
    """One that looks just like the entry: as long, and as old."""
    size = os.stat(path).st_size
    os.unlink(path)
    os.symlink("x/" * (size // 2) + "x" * (size % 2), path)
    os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def rewrite(path):
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(b"another one")
    os.utime(path, (LONG_AGO - 5, LONG_AGO - 5))


@pytest.mark.parametrize(
    ("deed", "is_left", "removed"),
    [
        (lambda path: os.utime(path, (time.time(), LONG_AGO)), True, 2),
        (rewrite, True, 2),
        (replace_by_folder, True, 2),
        (replace_by_link, True, 2),
        (os.unlink, False, 1),
        (lambda path: None, False, 2),
    ],
    ids=["read", "rewritten", "folder", "link", "removed", "nothing"],
)
def test_what_happened_to_an_entry_meanwhile_is_seen(cache, deed, is_left, removed):
    entries = publish_aged(cache, 4)
    meddled = Cache(cache.workdir, files=Meddler(entries[0].path, deed))
    report = meddled.gc(max_bytes=2 * entries[0].size_bytes)
    assert os.path.lexists(entries[0].path) == is_left
    assert report.removed == removed
    assert str(entries[0].path) not in report.paths or deed is not os.unlink
    assert not entries[1].path.exists()


def test_what_cannot_be_removed_is_told_and_the_rest_goes(cache):
    entries = publish_aged(cache, 3)

    class Sticky(FileSystem):
        def remove(self, path):
            if path == str(entries[0].path):
                raise PermissionError(1, "Operation not permitted", path)
            return super().remove(path)

    report = Cache(cache.workdir, files=Sticky()).clear()
    assert (report.removed, report.kept, report.ok) == (2, 1, False)
    assert report.failed == ((str(entries[0].path), "Operation not permitted"),)
    assert "Operation not permitted" in str(report)
    assert names_of(cache) == {entries[0].key}


def test_a_reader_with_an_open_map_reads_on(cache):
    entry = publish(cache, payload_bytes=100_000)
    expected = entry.path.read_bytes()
    with open(entry.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert cache.clear().removed == 1
        assert not entry.path.exists()
        assert view[:] == expected


def test_collectors_in_threads_and_processes_share_the_work(cache):
    entries = publish_aged(cache, 200)
    code = f"report = Cache({str(cache.workdir)!r}).clear()\nsay(report.removed)"
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(cache.clear().removed)) for _ in range(3)]
    with start_python(code) as process:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reports.append(int(process.communicate(timeout=60)[0]))
    assert sum(reports) == len(entries)
    assert names_of(cache) == set()


def test_a_killed_collector_leaves_a_cache(cache):
    publish_aged(cache, 300)
    code = f"""
class Slow(FileSystem):
    def remove(self, path):
        say("removing")
        return super().remove(path)
Cache({str(cache.workdir)!r}, files=Slow()).clear()
"""
    with start_python("from ndframes.system.files import FileSystem\n" + code) as process:
        for _ in range(20):
            assert process.stdout.readline() == "removing\n"
        process.kill()
        process.wait(30)
    left = len(names_of(cache))
    assert left <= 281
    assert cache.verify(read_data=True).checked == left
    started = time.monotonic()
    assert cache.clear().removed == left
    assert time.monotonic() - started < 1.5


def test_a_collector_that_hangs_stops_no_other(cache):
    publish_aged(cache, 2)
    with FileLock(cache.root / "locks" / "gc"):
        started = time.monotonic()
        assert cache.clear().removed == 2
        assert 1 < time.monotonic() - started < 5


# -- the budget -------------------------------------------------------------------------------------------------------


def test_without_a_budget_nothing_is_removed_unasked(cache):
    publish_aged(cache, 5)
    publish(cache, 1, state=1)
    assert len(names_of(cache)) == 6


def test_a_budget_is_kept_with_room_to_spare(tmp_path):
    one = publish(Cache(tmp_path / "other")).size_bytes
    cache = Cache(tmp_path / "work", max_bytes=20 * one)
    for number in range(20):
        publish(cache, number, used=LONG_AGO + number)
        assert len(names_of(cache)) == number + 1
    publish(cache, 20)
    assert names_of(cache) == {key_of(number) for number in range(4, 21)}  # 17 of 20 are 85 %


def test_an_entry_that_is_larger_than_the_budget_stays_alone_and_is_told_once(tmp_path, caplog):
    cache = Cache(tmp_path, max_bytes=500)
    for number in range(3):
        newest = publish(cache, number)
        assert names_of(cache) == {newest.key}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "newest entry alone is too large" in record.getMessage()
    assert f"{newest.size_bytes - 500:,} bytes more" in record.getMessage()


def test_leases_of_others_that_break_the_budget_are_told_once_with_their_holders(tmp_path, caplog):
    plain = Cache(tmp_path)
    one = publish_aged(plain, 3)[0].size_bytes
    cache = Cache(tmp_path)
    cache.budget = Budget(2 * one, None, recount_factor=0)
    with hold_in_child(cache, 0, 1, 2) as process:
        for number in range(10, 13):
            newest = publish(cache, number)
            assert names_of(cache) == {key_of(0), key_of(1), key_of(2), newest.key}
        process.kill()
    (record,) = caplog.records
    told = record.getMessage()
    assert "3 entries must stay for other jobs" in told
    assert f"process {process.pid} on {socket.gethostname()}" in told
    assert f"{2 * one:,} bytes" in told
    publish(cache, 20)
    assert total_of(cache) <= 2 * one


def test_a_budget_that_cannot_be_looked_after_does_not_undo_the_entry(tmp_path, caplog):
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
    assert names_of(plain) == {key_of(0), key_of(3), key_of(4)}


class Counting(FileSystem):
    """How often every entry was looked at."""

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
    cache = Cache(tmp_path / "work", max_bytes=1000 * one, files=files)
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
    """Its own share would have let it write on unseen."""
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
    """A disk of so many bytes, with nothing on it but the entries; those that are mapped keep their room."""

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
    """A cache whose ten entries leave half an entry free, and the size of one."""
    one = publish_aged(Cache(tmp_path), 10)[0].size_bytes
    files = SmallDisk(tmp_path, 10 * one + (one + 1) // 2)
    return Cache(tmp_path, min_free_bytes=2 * one, files=files), one


def test_room_is_made_for_a_new_entry(full_disk):
    cache, one = full_disk
    publish(cache, 10, payload_bytes=1000)
    assert names_of(cache) == {key_of(number) for number in range(3, 11)}  # 2.5 entries were short
    assert cache.files.free_bytes("") >= 2 * one


def test_nothing_is_removed_where_all_together_is_not_enough(full_disk):
    cache, one = full_disk
    with hold_in_child(cache, 9) as process:
        with pytest.raises(nf.CacheFullError, match="must stay free"):
            publish(cache, 10, payload_bytes=8 * one)
        process.kill()
    assert len(names_of(cache)) == 10
    with pytest.raises(nf.CacheFullError):
        cache.publish(key_of(10), lambda file: None, estimated_bytes=10**15)
    assert len(names_of(cache)) == 10


def test_what_others_hold_makes_no_room(full_disk):
    cache, _ = full_disk
    with hold_in_child(cache, 0, 1) as process:
        publish(cache, 10)
        process.kill()
    assert names_of(cache) == {key_of(number) for number in (0, 1, 5, 6, 7, 8, 9, 10)}


def test_entries_that_are_mapped_do_not_empty_the_cache_for_nothing(full_disk):
    cache, _ = full_disk
    cache.files.mapped = tuple(str(entry.path) for entry in cache.ls())
    with pytest.raises(nf.CacheFullError, match="must stay free"):
        publish(cache, 10)
    assert len(names_of(cache)) == 5  # 2.5 were short, 5 were removed


def test_without_a_minimum_nothing_is_removed_for_room(full_disk):
    cache, _ = full_disk
    with pytest.raises(nf.CacheFullError):
        publish(Cache(cache.workdir, files=cache.files), 10)
    assert len(names_of(cache)) == 10
