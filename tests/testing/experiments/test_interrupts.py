"""Ctrl-C at random moments of a prepare."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.images import SyntheticImages
from ndframes.testing.experiments.interrupts import inject_interrupts


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    return SyntheticImages(str(tmp_path_factory.mktemp("larger")), count=8, shape=(900, 900, 3), seed=4).save()


@pytest.mark.parametrize("workers", [0, 2])
def test_some_interrupts(fork_server, larger, tmp_path, check, workers):
    counts = check(inject_interrupts(fork_server, larger, str(tmp_path), interrupts=3, workers=workers))
    assert counts["interrupts"] >= 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_hundred_interrupts(fork_server, larger, tmp_path, check, workers):
    counts = check(inject_interrupts(fork_server, larger, str(tmp_path), interrupts=100, workers=workers))
    assert counts["interrupts"] >= 100
    assert counts["entries kept"] > 0
