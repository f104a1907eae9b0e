"""Remover: only the cache's own files are removed, and only while nobody else needs them."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import threading
import time
import uuid

import pytest
from filelock import FileLock
from kit.entries import (
    LONG_AGO,
    hold_in_child,
    keys_in,
    plant_leftovers,
    publish,
    publish_aged,
    start_python,
    tree_of,
)

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.system.files import FileSystem
from ndframes.text import format_bytes


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


# -- what nothing removes ---------------------------------------------------------------------------------------------


def plant_user_files(root, outside):
    """Files of the user, with names that are as similar to the cache's own as possible."""
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
    """A tree like a home folder, with files that have names of a cache."""
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
        ("CACHEDIR.TAG", "Signature: something else", "the marks of another kind"),
        ("ndframes.json", '{"layout": "1"}', "the marks of another kind"),
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


def test_a_workdir_that_cannot_be_searched_is_an_error(tmp_path):
    class Closed(FileSystem):
        def status(self, path, **options):
            raise PermissionError(13, "Permission denied", path)

    cache = Cache(tmp_path, files=Closed())
    with pytest.raises(nf.CacheError, match="cannot be searched.*Permission denied"):
        cache.gc()


# -- leases -----------------------------------------------------------------------------------------------------------


def test_what_another_job_holds_stays_until_it_ends(cache):
    entries = publish_aged(cache, 4)
    superseded = entries[1]
    publish(cache, 1, state=1)
    with hold_in_child(cache, 0, 1) as process:
        report = cache.gc(max_bytes=0)
        assert keys_in(cache) == {entries[0].key, superseded.key}
        assert (report.removed, report.kept, report.leased) == (3, 2, 2)
        assert str(report).endswith(f"2 kept (2 for other jobs) ({format_bytes(report.remaining_bytes)})")
        assert cache.clear().kept == 2
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    report = cache.clear()
    assert (report.removed, report.leased, report.leftovers) == (2, 0, 1)
    assert os.listdir(cache.root / "leases") == []


def test_a_process_may_remove_what_it_holds_itself(cache):
    entries = publish_aged(cache, 3)
    cache.hold([entry.key for entry in entries])
    assert cache.gc(max_bytes=0).removed == 3
    assert len(os.listdir(cache.root / "leases")) == 1


# -- others at work at the same time ----------------------------------------------------------------------------------


class InterferingFiles(FileSystem):
    """Calls a function just before the status of one file is read for the second time."""

    def __init__(self, path, change):
        self.path = str(path)
        self.change = change
        self.looks = 0

    def status(self, path, **options):
        if path == self.path:
            self.looks += 1
            if self.looks == 2:
                self.change(path)
        return super().status(path, **options)


def replace_by_folder(path):
    os.unlink(path)
    os.mkdir(path)


def replace_by_link(path):
    """A link with the length and the times of the entry."""
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
    ("change", "is_left", "removed"),
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
def test_a_change_of_an_entry_meanwhile_is_noticed(cache, change, is_left, removed):
    entries = publish_aged(cache, 4)
    collector = Cache(cache.workdir, files=InterferingFiles(entries[0].path, change))
    report = collector.gc(max_bytes=2 * entries[0].size_bytes)
    assert os.path.lexists(entries[0].path) == is_left
    assert report.removed == removed
    assert str(entries[0].path) not in report.paths or change is not os.unlink
    assert not entries[1].path.exists()


def test_what_cannot_be_removed_is_reported_and_the_rest_is_removed(cache):
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
    assert keys_in(cache) == {entries[0].key}


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
    assert keys_in(cache) == set()


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
    left = len(keys_in(cache))
    assert left <= 281
    assert cache.verify(read_data=True).checked == left
    with FileLock(cache.root / "locks" / "gc", timeout=0):  # which the kernel has released
        pass
    assert cache.clear().removed == left


def test_a_collector_that_hangs_does_not_stop_others(cache):
    publish_aged(cache, 2)
    with FileLock(cache.root / "locks" / "gc"):
        started = time.monotonic()
        assert cache.clear().removed == 2
        assert time.monotonic() - started > 1, "it has not waited for the other collector"
