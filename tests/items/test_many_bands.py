"""Files of thousands of bands: no step compares each channel with each other one."""

from __future__ import annotations

import numpy as np
import pytest

import ndframes as nf
from ndframes.spec.channels import default_codes

COUNT = 400


class Code(str):
    """A channel code that counts comparisons."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Code.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.fixture
def comparisons(monkeypatch):
    """Counts the comparisons of codes in a call."""
    monkeypatch.setattr("ndframes.items.parts.default_codes", lambda count: tuple(map(Code, default_codes(count))))

    def count(call) -> int:
        Code.compared = 0
        call()
        return Code.compared

    return count


@pytest.fixture
def stack(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 5, COUNT), np.uint8)
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", pixels)
    return tmp_path, pixels


@pytest.mark.parametrize("source", ["0.npy", "*.npy"])
def test_a_read_compares_each_channel_a_few_times(stack, comparisons, source):
    folder, pixels = stack
    lazy = nf.open(folder / source, workdir=folder)
    wanted = pixels if source == "0.npy" else np.stack([pixels] * 2)
    calls = (
        lambda: np.testing.assert_array_equal(lazy[...], wanted),
        lambda: np.testing.assert_array_equal(lazy[..., ::-1], wanted[..., ::-1]),
        lambda: repr(lazy),
        lambda: lazy.frames.explain(lazy.image_id),
        lambda: lazy.frames.load_region(lazy.image_id, scale=0.5),
    )
    assert all(comparisons(call) < 40 * COUNT for call in calls)
