"""Many processes on one cache: races, suspended writers, and eviction under readers."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.crowds import evict_under_readers, race_for_entries, suspend_writer
from ndframes.testing.experiments.images import SyntheticImages

SMALL = (90, 100, 3)
LOCKS = ["exclusive", "ineffective", "ENOLCK", "ENOSYS"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return SyntheticImages(str(tmp_path_factory.mktemp("many")), count=20, shape=SMALL, seed=2).save()


@pytest.mark.parametrize("locks", LOCKS)
def test_sixteen_processes_read_twenty_images(fork_server, many, tmp_path, check, locks):
    counts = check(race_for_entries(fork_server, many, str(tmp_path), locks=locks, seconds=60))
    assert (counts["processes"], counts["published"]) == (16, 20)
    assert counts["conversions"] == 20 if locks == "exclusive" else counts["conversions"] > 20
    assert 0 < counts["reported as new"] <= 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("locks", LOCKS)
def test_sixteen_processes_read_two_hundred_images(fork_server, tmp_path, check, locks):
    images = SyntheticImages(str(tmp_path), count=200, seed=3).save()
    counts = check(race_for_entries(fork_server, images, str(tmp_path), locks=locks))
    assert counts["published"] == 200


@pytest.mark.parametrize("form", ["cog", "npy"])
def test_waiters_overtake_a_suspended_writer(fork_server, images, tmp_path, check, form):
    counts = check(suspend_writer(fork_server, images, str(tmp_path), form=form, lock_age_seconds=0.5))
    assert counts["waiters"] == 3
    assert list(tmp_path.iterdir()) == []


def test_waiters_respect_a_young_lock(fork_server, images, tmp_path):
    result = suspend_writer(fork_server, images, str(tmp_path), lock_age_seconds=60, patience_seconds=-59)
    assert result.violations == {**dict.fromkeys(result.violations, 0), "waited too long": 3}


@pytest.mark.slow
def test_many_waiters_overtake_a_suspended_writer(fork_server, images, tmp_path, check):
    check(suspend_writer(fork_server, images, str(tmp_path), waiters=15))


def test_readers_under_eviction(fork_server, images, tmp_path, check):
    minima = {"evictions": 12, "collections": 4, "preparations": 3, "deleted caches": 1}
    counts = check(evict_under_readers(fork_server, images, str(tmp_path), crops=1000, min_actions=minima, seconds=120))
    assert counts["readers"] == 8
    assert counts["crops"] >= 8 * 1000
    assert all(counts[action] >= 2 * minimum for action, minimum in minima.items())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_hundred_thousand_crops_under_eviction(fork_server, images, tmp_path, check):
    minima = {"deleted caches": 51}
    counts = check(
        evict_under_readers(fork_server, images, str(tmp_path), crops=100_000, min_actions=minima, seconds=1700)
    )
    assert counts["crops"] >= 800_000
    assert counts["deleted caches"] > 100
