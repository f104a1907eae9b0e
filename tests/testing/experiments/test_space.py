"""Full disks: a conversion succeeds, or raises an error with the system's error number."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.images import SyntheticImages
from ndframes.testing.experiments.space import exhaust_space

CASES_PER_SIZE = 6  # COG, COG with a mapped file, npy; each with true and with overstated free space


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return SyntheticImages(str(tmp_path_factory.mktemp("large")), count=1, shape=(640, 650, 3), seed=1).save()


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        ("file length", 5),
        ("tmpfs", 5),
        pytest.param("file length", 50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param("tmpfs", 50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_limited_space(fork_server, large, tmp_path, check, limit, steps):
    result = exhaust_space(fork_server, large, str(tmp_path), limit=limit, steps=steps)
    if result.skipped and limit == "tmpfs":
        pytest.skip(result.skipped)
    counts = check(result)
    assert counts["conversions"] == steps * CASES_PER_SIZE
    assert 0 < counts["that fitted"] < counts["conversions"]
    assert counts["mapped files"] > 0
    assert limit == "tmpfs" or list(tmp_path.iterdir()) == []
