"""Upkeep: ``stat``, ``gc`` and ``clear`` count and remove what they should, in the right order."""

from __future__ import annotations

import json
import os
import pickle
import time
import uuid

import pytest
from kit.entries import LONG_AGO, hold_in_child, keys_in, plant_leftovers, publish, publish_aged, tree_of

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.cache.remover import GcReport
from ndframes.text import format_bytes


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "work")


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
    data = json.loads(json.dumps(stat.to_dict()))
    assert data["by_backend"][1]["entries"] == 2
    assert str(stat).startswith("3 entries, ")
    assert "1 superseded" in str(stat)


# -- what gc removes --------------------------------------------------------------------------------------------------


def test_gc_of_nothing_is_nothing(cache, tmp_path):
    assert cache.gc() == GcReport(0, 0, 0)
    assert cache.clear(dry_run=True) == GcReport(0, 0, 0, is_dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_gc_removes_leftovers_and_superseded_entries(cache):
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
    assert keys_in(cache) == {new.key, other.key}
    assert not any(path.exists() for path in goes.values())
    assert all(path.exists() for path in stays.values())
    assert (report.removed, report.leftovers, report.kept) == (1, 3, 2)
    assert report.freed_bytes == old.size_bytes + 12
    assert report.remaining_bytes == new.size_bytes + other.size_bytes
    assert set(report.paths) == {str(old.path), *map(str, goes.values())}
    assert report.ok


def test_of_several_states_the_one_written_last_stays(cache):
    states = [publish(cache, 1, state=number, used=LONG_AGO + number) for number in range(5)]
    os.utime(states[0].path, (time.time(), LONG_AGO))
    assert cache.gc().removed == 4
    assert keys_in(cache) == {states[4].key}


@pytest.mark.parametrize("room", [0, 1, 3, 9, 10])
def test_gc_removes_down_to_the_limit_the_longest_unused_first(cache, room):
    entries = publish_aged(cache, 10)
    limit = room * entries[0].size_bytes
    report = cache.gc(max_bytes=limit)
    assert keys_in(cache) == {entry.key for entry in entries[10 - room :]}
    assert (report.removed, report.kept, report.remaining_bytes) == (10 - room, room, limit)
    assert cache.gc(max_bytes=limit).removed == 0


def test_one_byte_less_is_one_entry_less(cache):
    entries = publish_aged(cache, 4)
    assert cache.gc(max_bytes=2 * entries[0].size_bytes - 1).kept == 1


def test_reading_counts_as_use(cache):
    entries = publish_aged(cache, 4)
    os.utime(entries[0].path, (LONG_AGO + 100, LONG_AGO))
    cache.gc(max_bytes=2 * entries[0].size_bytes)
    assert keys_in(cache) == {entries[0].key, entries[3].key}


def test_without_a_limit_gc_takes_the_cache_s_own_budget(tmp_path):
    cache = Cache(tmp_path)
    entries = publish_aged(cache, 4)
    assert cache.gc().removed == 0
    assert Cache(tmp_path, max_bytes=2 * entries[0].size_bytes).gc().removed == 2


@pytest.mark.parametrize("limit", [-1, 1.5, "1GB", True])
def test_a_limit_that_is_not_a_number_of_bytes_is_refused(cache, limit):
    publish(cache)
    with pytest.raises(nf.CacheError, match="max_bytes"):
        cache.gc(max_bytes=limit)
    assert len(keys_in(cache)) == 1


def test_clear_removes_every_entry(cache):
    publish_aged(cache, 5)
    publish(cache, form="cog")
    _, stays = plant_leftovers(cache)
    report = cache.clear()
    assert (report.removed, report.kept, report.leftovers) == (6, 0, 3)
    assert keys_in(cache) == set()
    assert all(path.exists() for path in stays.values())
    assert publish(cache).path.exists()


@pytest.mark.parametrize("act", [lambda cache, **how: cache.gc(0, **how), lambda cache, **how: cache.clear(**how)])
def test_a_dry_run_changes_nothing_and_reports_what_would_be_removed(cache, act):
    publish_aged(cache, 3)
    publish(cache, 0, state=1)
    plant_leftovers(cache)
    before = tree_of(cache.root)
    expected = act(cache, dry_run=True)
    assert tree_of(cache.root) == before
    assert expected.is_dry_run
    done = act(cache)
    assert {**expected.to_dict(), "is_dry_run": False} == done.to_dict()
    assert str(expected) == "4 entries and 3 leftovers would be removed (4.95 kB), 0 kept (0 B)".replace(
        "4.95 kB", format_bytes(expected.freed_bytes)
    )


def test_reports_are_values(cache):
    publish(cache)
    report = cache.clear()
    assert pickle.loads(pickle.dumps(report)) == report
    assert json.loads(json.dumps(report.to_dict()))["paths"] == list(report.paths)
    assert "paths" not in repr(report)
    with pytest.raises(AttributeError):
        report.removed = 3
