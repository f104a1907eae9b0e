"""The decoder on the page docs/movies.rst, which uses numpy and zstandard alone, reads what is packed."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

from ndframes.video.fields.packing import pack

PAGE = Path(__file__).parents[2] / "docs" / "movies.rst"
ROWS, COLS = np.mgrid[0:30, 0:40]


@pytest.fixture(scope="module")
def decode():
    """The function of the page."""
    names: dict[str, object] = {"np": np}
    for example in doctest.DocTestParser().get_examples(PAGE.read_text()):
        if example.source.startswith(("import struct", "def decode")):
            exec(example.source, names)
    return names["decode"]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f2", "f4", "f8"])
def test_the_decoder_of_the_page_reads_every_kind_of_field(decode, dtype):
    random = np.random.default_rng(0)
    fields = [
        np.zeros((30, 40)),
        COLS + ROWS,
        np.sin(COLS / 9) * np.cos(ROWS / 7) * 100,
        random.normal(size=(30, 40)) * 50,
        np.exp(-((COLS - 20) ** 2 + (ROWS - 15) ** 2) / 9.0) * 100,
    ]
    if dtype[0] == "f":
        fields += [np.where(COLS > 3, np.nan, 1), np.where(COLS > 3, np.inf, -ROWS), np.full((30, 40), 1e-40)]
    for field in fields:
        given = field.astype(dtype)
        assert decode(pack(given), given.shape, given.dtype).tobytes() == given.tobytes()


def test_both_methods_are_tried(decode):
    """Otherwise the test above would not show that the decoder reads them."""
    smooth = (np.sin(COLS / 9) * np.cos(ROWS / 7) * 100).astype("f4")
    methods = {pack(field)[4] for field in (smooth, np.where(COLS > 3, np.nan, smooth).astype("f4"))}
    assert methods == {0, 1}
