"""Images, requests and comparisons for tests of ``load_regions``."""

from __future__ import annotations

import numpy as np

from .synthetic import picture
from .tilework import cog

FORMS = {"direct": None, "npy": "npy", "raw": cog("NONE"), "zstd": cog("ZSTD"), "jpeg": cog("JPEG")}
IMAGES = {
    "colour": picture((101, 131, 3)),
    "twin": picture((101, 131, 3), seed=1),
    "deep": picture((61, 83, 1), "uint16"),
    "alpha": picture((70, 33, 4), "float32"),
    "many": picture((20, 150, 7), "int16"),
    "mask": picture((64, 64, 1), "bool"),
    "dot": picture((1, 1, 3)),
}


def random_arrays(count: int, shape=(100, 90, 3)) -> dict[int, np.ndarray]:
    return {number: np.random.default_rng(number).integers(0, 255, shape, np.uint8) for number in range(count)}


def random_windows(rng: np.random.Generator, ids, count: int, edge: int = 40, shape=(100, 90)) -> list:
    """Requests for square windows of images that all have ``shape``."""
    corners = zip(rng.integers(0, shape[0] - edge, count), rng.integers(0, shape[1] - edge, count), strict=True)
    return [(ids[int(rng.integers(len(ids)))], np.s_[y : y + edge, x : x + edge]) for y, x in corners]


def count_wrong(crops, requests, arrays) -> int:
    """How many crops differ from numpy's."""
    assert len(crops) == len(requests)
    return sum(
        not np.array_equal(crop, arrays[image_id][region])
        for crop, (image_id, region) in zip(crops, requests, strict=True)
    )


def assert_same(results, wanted: list[np.ndarray]) -> None:
    """Equal to the bit; an array if all have one shape and dtype, else a list."""
    is_one = len({(item.shape, item.dtype) for item in wanted}) == 1
    assert isinstance(results, np.ndarray if is_one else list)
    assert len(results) == len(wanted)
    for number, item in enumerate(wanted):
        got = np.asarray(results[number])
        assert (got.shape, got.dtype) == (item.shape, item.dtype)
        assert got.tobytes() == item.tobytes(), f"result {number} differs"
