"""The samples by which a new entry is compared with its source."""

from __future__ import annotations

import numpy as np
import pytest

import ndframes as nf
from ndframes.entries.checks import SamplingReader
from ndframes.formats.images.arrays import ArrayReader


class Recording(ArrayReader):
    """Records the bands that are read."""

    def __init__(self, pixels) -> None:
        super().__init__("entry", pixels, format="npy")
        self.asked: list[set[int]] = []

    def read_window(self, rows, cols, bands, out, level):
        self.asked.append(set(bands))
        super().read_window(rows, cols, bands, out, level)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (40, 7, 300), np.uint8)


def sampled(pixels) -> SamplingReader:
    reader = SamplingReader(ArrayReader("source", pixels, format="npy"), is_lossless=True)
    reader.read_all()
    return reader


def test_the_samples_cover_all_bands_and_read_few_at_once(pixels):
    entry = Recording(pixels)
    sampled(pixels).check(entry)
    assert set().union(*entry.asked) == set(range(300))
    assert max(map(len, entry.asked)) <= 64


@pytest.mark.parametrize("band", [0, 1, 137, 299])
def test_a_mistake_in_one_band_is_found(pixels, band):
    wrong = pixels.copy()
    wrong[:, :, band] ^= 1
    with pytest.raises(nf.CacheEntryError, match="differs from it in row"):
        sampled(pixels).check(Recording(wrong))
