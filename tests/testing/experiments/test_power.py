"""Power loss: what lies under an entry's name is whole; where a disk does not heed syncs, it is refused unread."""

from __future__ import annotations

import random

import pytest

from ndframes.testing.experiments.power import _Disk, lose_power


def test_what_is_left_is_whole(fork_server, scene, tmp_path, report):
    done = report(lose_power(fork_server, scene, str(tmp_path), images=6))
    assert (done["images"], done["replays"] > 50) == (6, True)
    assert done["entries found"] > 20
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_whole_is_refused(fork_server, scene, tmp_path, report):
    done = report(lose_power(fork_server, scene, str(tmp_path), images=6, heeds_syncs=False))
    assert done["damaged entries refused"] > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("heeds_syncs", [True, False])
def test_five_hundred_images(fork_server, scene, tmp_path, report, heeds_syncs):
    done = report(lose_power(fork_server, scene, str(tmp_path), images=500, heeds_syncs=heeds_syncs))
    assert done["images"] >= 500


def contents_after(folder, steps, seed):
    disk = _Disk()
    for name, *arguments in steps:
        getattr(disk, name)(*arguments)
    disk.save(random.Random(seed))
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    return contents


def test_the_disk_keeps_what_was_synced_and_may_lose_the_rest(tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    sure = [
        ("create", a), ("write", a, 0, b"11"), ("write", a, 2, b"22"), ("sync_file", a),
        ("link", a, b), ("sync_folder", str(tmp_path)),
    ]  # fmt: skip
    unsure = [("remove", a), ("write", b, 4, b"33")]
    seen = set()
    for seed in range(60):
        assert contents_after(tmp_path, sure, seed) == {"a": b"1122", "b": b"1122"}
        seen.add(tuple(sorted(contents_after(tmp_path, [*sure, *unsure], seed).items())))
    assert len(seen) == 6  # the name a gone or not, times what was written last: kept, lost, zero
    assert {dict(item)["b"] for item in seen} == {b"1122", b"112233", b"1122\0\0"}
