"""Ctrl-C at any moment of a prepare: over at once, nothing left, nothing done twice."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.interrupts import interrupt_often
from ndframes.testing.experiments.scene import Scene


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    return Scene(str(tmp_path_factory.mktemp("larger")), count=16, shape=(900, 900, 3), seed=4).save()


@pytest.mark.parametrize("workers", [0, 2])
def test_some_interrupts(fork_server, larger, tmp_path, report, workers):
    done = report(interrupt_often(fork_server, larger, str(tmp_path), interrupts=5, workers=workers))
    assert done["interrupts"] >= 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_hundred_interrupts(fork_server, larger, tmp_path, report, workers):
    done = report(interrupt_often(fork_server, larger, str(tmp_path), interrupts=100, workers=workers))
    assert done["interrupts"] >= 100
    assert done["entries kept"] > 0
