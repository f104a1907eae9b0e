"""Too little room: an error that says so, or an entry that is whole."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.scene import Scene
from ndframes.testing.experiments.space import fill_up

CASES_PER_SIZE = 6  # cog, cog with a mapped file, npy; each on a disk that tells what is free and on one that boasts


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return Scene(str(tmp_path_factory.mktemp("large")), count=1, shape=(640, 650, 3), seed=1).save()


def check(done, steps):
    assert done["conversions"] == steps * CASES_PER_SIZE
    assert 0 < done["that fitted"] < done["conversions"]
    assert done["mapped files"] > 0


def test_files_that_may_not_grow(fork_server, large, tmp_path, report):
    check(report(fill_up(fork_server, large, str(tmp_path), limit="file length", steps=5)), 5)
    assert list(tmp_path.iterdir()) == []


def test_a_small_disk(fork_server, large, tmp_path, report):
    findings = fill_up(fork_server, large, str(tmp_path), limit="tmpfs", steps=5)
    if findings.skipped:
        pytest.skip(findings.skipped)
    check(report(findings), 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("limit", ["file length", "tmpfs"])
def test_fifty_sizes(fork_server, large, tmp_path, report, limit):
    findings = fill_up(fork_server, large, str(tmp_path), limit=limit, steps=50)
    if findings.skipped:
        pytest.skip(findings.skipped)
    check(report(findings), 50)
