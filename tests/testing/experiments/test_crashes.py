"""Killed and failing at every step: right pixels, nothing wrong in the cache, nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest

from ndframes.cache.cache import Cache
from ndframes.testing.experiments.crashes import ERROR_KINDS, fail_everywhere, kill_everywhere
from ndframes.testing.experiments.scene import Tally, examine, find_leftovers, read_crops
from ndframes.testing.faults import flip_bit


def test_kills_at_some_steps_and_moments(fork_server, scene, tmp_path, report):
    done = report(kill_everywhere(fork_server, scene, str(tmp_path), kills=24, crops=16, stride=20))
    assert done["kills"] >= 24
    assert done["fault points"] > 4
    assert done["random moments"] > 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_kills(fork_server, scene, tmp_path, report):
    done = report(kill_everywhere(fork_server, scene, str(tmp_path), kills=1000))
    assert done["kills"] >= 1000
    assert done["fault points"] > 150


@pytest.mark.parametrize("kind", ERROR_KINDS)
def test_errors_at_some_steps(fork_server, scene, tmp_path, report, kind):
    stride = 2 if kind in ("short", "lost") else 11
    done = report(fail_everywhere(fork_server, scene, str(tmp_path), kinds=[kind], crops=4, stride=stride))
    assert done["faults"] > 5
    assert done["full disks"] >= 4
    assert kind == "short" or done["errors told"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_error_at_every_step(fork_server, scene, tmp_path, report):
    assert report(fail_everywhere(fork_server, scene, str(tmp_path)))["faults"] > 700


# -- the harness itself can fail --------------------------------------------------------------------------------------


def test_an_examination_finds_what_is_wrong(scene, tmp_path):
    scene.frames(tmp_path, "npy").prepare()  # frames that lived on would keep their lease
    assert not any(examine(scene, str(tmp_path), "npy", crops=4).broken.values())
    cache = Cache(tmp_path)
    flip_bit(next(cache.ls()).path, 8 * 3000)
    (cache.root / "tmp" / "stray").write_bytes(b"")
    found = examine(scene, str(tmp_path), "npy", crops=4)
    assert (found.broken["failed verify"], found.broken["leftovers"]) == (1, 1)
    assert found.broken["wrong crops"] == 0


def test_leftovers_are_named(scene, tmp_path):
    cache = scene.frames(tmp_path, "npy").cache
    assert find_leftovers(cache) == []
    scene.frames(tmp_path, "npy").prepare()
    assert find_leftovers(cache) == []
    for name in ("tmp/a.part", "leases/b.lease", "quarantine/c", "v1/d", "e"):
        (cache.root / name).write_bytes(b"")
    (cache.root / "CACHEDIR.TAG").unlink()
    found = find_leftovers(cache)
    assert [name for name in found if "/ndframes" not in name] == [
        "e", "leases/b.lease", "quarantine/c", "tmp/a.part", "v1/d",
    ]  # fmt: skip
    assert any("CACHEDIR.TAG" in name for name in found)


def test_a_wrong_pixel_is_counted(scene, tmp_path):
    arrays = [np.zeros_like(array) for array in scene.arrays()]
    tally = Tally("wrong crops")
    read_crops(scene.frames(tmp_path, "npy"), arrays, 9, 0, tally)
    findings = tally.finish("lies")
    assert (findings.ok, findings.done["crops"], findings.broken["wrong crops"]) == (False, 9, 9)
    assert str(findings).startswith("lies: 9 crops: 9 wrong crops\n  wrong crops: image")
    assert findings.to_dict()["ok"] is False
