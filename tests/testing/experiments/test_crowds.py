"""Many processes on one cache: work is done once, locks or no locks the pixels are right, and eviction hurts nobody."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.crowds import evict_under_readers, race, stop_a_writer
from ndframes.testing.experiments.scene import Scene

SMALL = (90, 100, 3)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return Scene(str(tmp_path_factory.mktemp("many")), count=20, shape=SMALL, seed=2).save()


@pytest.mark.parametrize("locks", ["work", "lie", "ENOLCK", "ENOSYS"])
def test_sixteen_processes_want_everything(fork_server, many, tmp_path, report, locks):
    done = report(race(fork_server, many, str(tmp_path), locks=locks, seconds=60))
    assert (done["processes"], done["published"]) == (16, 20)
    assert done["conversions"] == 20 if locks == "work" else done["conversions"] > 20
    assert 0 < done["reported as new"] <= 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("locks", ["work", "lie", "ENOLCK", "ENOSYS"])
def test_sixteen_processes_want_two_hundred_images(fork_server, tmp_path, report, locks):
    scene = Scene(str(tmp_path), count=200, seed=3).save()
    done = report(race(fork_server, scene, str(tmp_path), locks=locks))
    assert done["published"] == 200


@pytest.mark.parametrize("form", ["cog", "npy"])
def test_a_stopped_writer_is_not_waited_for(fork_server, scene, tmp_path, report, form):
    done = report(
        stop_a_writer(fork_server, scene, str(tmp_path), form=form, lock_age_seconds=0.5, patience_seconds=2.5)
    )
    assert done["waiters"] == 3


def test_a_stopped_writer_is_waited_for_as_long_as_its_lock_is_young(fork_server, scene, tmp_path):
    patience = {"lock_age_seconds": 60, "patience_seconds": -59, "stopped_seconds": 4}
    findings = stop_a_writer(fork_server, scene, str(tmp_path), **patience)
    assert findings.broken["waited too long"] == 3


@pytest.mark.slow
def test_a_stopped_writer_at_length(fork_server, scene, tmp_path, report):
    report(stop_a_writer(fork_server, scene, str(tmp_path), waiters=15))


def test_readers_under_eviction(fork_server, scene, tmp_path, report):
    done = report(evict_under_readers(fork_server, scene, str(tmp_path), crops=6000, seconds=120))
    assert done["readers"] == 8
    assert done["crops"] >= 8 * 6000
    assert done["evictions"] > 5
    assert done["collections"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_hundred_thousand_crops_under_eviction(fork_server, scene, tmp_path, report):
    done = report(evict_under_readers(fork_server, scene, str(tmp_path), crops=100_000, seconds=3000))
    assert done["crops"] >= 800_000
    assert done["deleted caches"] > 100
