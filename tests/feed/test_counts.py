"""Arguments that count something."""

from __future__ import annotations

import numpy as np
import pytest

from ndframes.errors import PatchError
from ndframes.feed.counts import to_count


@pytest.mark.parametrize("value", [3, np.int16(3)])
def test_integers_of_python_and_numpy(value):
    assert type(to_count("depth", value)) is int
    assert to_count("depth", value, least=3) == 3
    assert to_count("workers", 0, least=0) == 0


@pytest.mark.parametrize("value", [2, -1, 2.5, "3", None, True, np.array([3, 4])])
def test_all_else_is_an_error_that_names_the_argument(value):
    with pytest.raises(PatchError, match=r"depth=.*; give a number of frames from 3"):
        to_count("depth", value, "a number of frames", least=3)
