"""Processes that are killed, and operations that fail, at every step of the cache's work."""

from __future__ import annotations

import numpy as np
import pytest

from ndframes.cache.cache import Cache
from ndframes.testing.experiments.checks import check_cache, find_leftovers, read_crops
from ndframes.testing.experiments.crashes import ERROR_KINDS, inject_errors, inject_kills
from ndframes.testing.experiments.results import Recorder
from ndframes.testing.faults import flip_bit


def test_kills_at_some_operations_and_moments(fork_server, images, tmp_path, check):
    counts = check(inject_kills(fork_server, images, str(tmp_path), kills=24, crops=16, stride=20))
    assert counts["kills"] >= 24
    assert counts["fault points"] > 4
    assert counts["random moments"] > 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_kills(fork_server, images, tmp_path, check):
    counts = check(inject_kills(fork_server, images, str(tmp_path), kills=1000))
    assert counts["kills"] >= 1000
    assert counts["fault points"] > 150


@pytest.mark.parametrize("kind", ERROR_KINDS)
def test_errors_at_some_operations(fork_server, images, tmp_path, check, kind):
    stride = 4 if kind in ("short", "lost") else 21
    counts = check(inject_errors(fork_server, images, str(tmp_path), kinds=[kind], crops=4, stride=stride))
    assert counts["faults"] > 5
    assert kind not in ("ENOSPC", "EDQUOT") or counts["full disks"] >= 4
    assert kind == "short" or counts["reported errors"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_error_at_every_operation(fork_server, images, tmp_path, check):
    assert check(inject_errors(fork_server, images, str(tmp_path)))["faults"] > 700


# -- the checks can fail ----------------------------------------------------------------------------------------------


def test_damage_and_leftovers_are_violations(images, tmp_path):
    images.frames(tmp_path, "npy").prepare()  # keep no reference: living frames hold a lease, which is a leftover
    assert not any(check_cache(images, str(tmp_path), "npy", crops=4).violations.values())
    cache = Cache(tmp_path)
    flip_bit(next(cache.ls()).path, 8 * 3000)
    (cache.root / "tmp" / "stray").write_bytes(b"")
    violations = check_cache(images, str(tmp_path), "npy", crops=4).violations
    assert (violations["damaged entries"], violations["leftovers"], violations["wrong crops"]) == (1, 1, 0)


def test_leftovers_are_listed(images, tmp_path):
    cache = images.frames(tmp_path, "npy").cache
    assert find_leftovers(cache) == []
    images.frames(tmp_path, "npy").prepare()
    assert find_leftovers(cache) == []
    for name in ("tmp/a.part", "leases/b.lease", "quarantine/c", "v1/d", "e"):
        (cache.root / name).write_bytes(b"")
    (cache.root / "CACHEDIR.TAG").unlink()
    found = find_leftovers(cache)
    assert [name for name in found if "/ndframes" not in name] == [
        "e", "leases/b.lease", "quarantine/c", "tmp/a.part", "v1/d",
    ]  # fmt: skip
    assert any("CACHEDIR.TAG" in name for name in found)


def test_wrong_pixels_are_violations(images, tmp_path):
    arrays = [np.zeros_like(array) for array in images.arrays()]
    recorder = Recorder("wrong crops")
    read_crops(images.frames(tmp_path, "npy"), arrays, 9, 0, recorder)
    result = recorder.finish("zeros")
    assert (result.ok, result.counts["crops"], result.violations["wrong crops"]) == (False, 9, 9)
    assert str(result).startswith("zeros: 9 crops: 9 wrong crops\n  wrong crops: image")
    assert result.to_dict()["ok"] is False
