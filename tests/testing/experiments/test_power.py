"""Power loss: entries are intact; on a disk that ignores syncs, damaged entries are rejected."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ndframes.testing.experiments.power import _Disk, simulate_power_loss


@pytest.fixture(scope="module")
def pair(images):
    return replace(images, count=2)


def test_entries_survive_a_power_loss(fork_server, pair, tmp_path, check):
    counts = check(simulate_power_loss(fork_server, pair, str(tmp_path), conversions=4))
    assert (counts["images"], counts["replays"] > 40) == (4, True)
    assert counts["entries found"] > 20
    assert list(tmp_path.iterdir()) == []


def test_damaged_entries_are_rejected(fork_server, pair, tmp_path, check):
    counts = check(simulate_power_loss(fork_server, pair, str(tmp_path), conversions=4, honors_sync=False))
    assert counts["rejected entries"] > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("honors_sync", [True, False])
def test_five_hundred_conversions(fork_server, images, tmp_path, check, honors_sync):
    counts = check(simulate_power_loss(fork_server, images, str(tmp_path), conversions=500, honors_sync=honors_sync))
    assert counts["images"] >= 500


def contents_after(folder, steps, seed):
    """The files that survive a power loss after ``steps``."""
    disk = _Disk()
    for name, *arguments in steps:
        getattr(disk, name)(*arguments)
    disk.lose_power(random.Random(seed))
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    return contents


def test_the_simulated_disk_keeps_synced_data_and_may_lose_the_rest(tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    synced = [
        ("create", a), ("write", a, 0, b"11"), ("write", a, 2, b"22"), ("sync_file", a),
        ("link", a, b), ("sync_folder", str(tmp_path)),
    ]  # fmt: skip
    pending = [("remove", a), ("write", b, 4, b"33")]
    seen = set()
    for seed in range(60):
        assert contents_after(tmp_path, synced, seed) == {"a": b"1122", "b": b"1122"}
        seen.add(tuple(sorted(contents_after(tmp_path, [*synced, *pending], seed).items())))
    assert len(seen) == 6  # name "a" removed or not; last write kept, lost or zeroed
    assert {dict(item)["b"] for item in seen} == {b"1122", b"112233", b"1122\0\0"}
