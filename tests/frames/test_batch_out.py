"""``load_regions(out=...)``, and requests that are refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from kit.batches import assert_same, random_arrays
from kit.tilework import frames_over

import ndframes as nf

FOUR = [("colour", np.s_[y : y + 40, 3:43]) for y in (0, 10, 50, 10)]


class SharesMemory:
    """Shares its memory with numpy without being an array, as a tensor does."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array[...]


def make_out(kind: str) -> tuple[object, np.ndarray | list[np.ndarray]]:
    """Return an ``out`` argument, and the arrays that receive its results."""
    plain = np.zeros((4, 40, 40, 3), np.uint8)
    if kind == "array":
        return plain, plain
    if kind == "in strides":
        part = np.zeros((4, 50, 80, 6), np.uint8)[::-1, 5:45, ::2, 1:6:2]
        return part, part
    if kind == "in another order":
        turned = np.zeros((3, 40, 4, 40), np.uint8).transpose(2, 1, 3, 0)
        return turned, turned
    if kind == "shared":
        return SharesMemory(plain), plain
    if kind == "memory":
        return memoryview(plain), plain
    items = [plain[0].copy(), plain[1], np.asfortranarray(plain[2]), plain[3]]
    return (items if kind == "list" else (items[0], SharesMemory(items[1]), *items[2:])), items


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "kind", ["array", "in strides", "in another order", "shared", "memory", "list", "tuple of all kinds"]
)
def test_results_are_written_to_out(scene, kind, workers):
    frames, single = scene
    for options in ({}, {"pad": "reflect"}):
        out, arrays = make_out(kind)
        assert frames.load_regions(FOUR, out=out, workers=workers, **options) is out
        for got, request in zip(arrays, FOUR, strict=True):
            np.testing.assert_array_equal(got, single.load_region(*request))


def test_nothing_else_is_written(scene):
    frames, _ = scene
    wide = np.full((4, 50, 80, 6), 77, np.uint8)
    part = wide[::-1, 5:45, ::2, 1:6:2]
    frames.load_regions(FOUR, out=part)
    assert (part != 77).any()
    part[...] = 77
    assert (wide == 77).all()


def test_a_list_takes_results_of_different_shapes(scene):
    frames, single = scene
    requests = [("colour", np.s_[:10]), ("deep", np.s_[3, :, 0]), ("mask", None), ("alpha", (0, 0, 0))]
    out = [np.zeros((10, 131, 3), np.uint8), np.zeros(83, np.uint16), np.zeros((64, 64, 1), bool), np.zeros((), "f4")]
    assert frames.load_regions(requests, out=out) is out
    for got, request in zip(out, requests, strict=True):
        assert got.tobytes() == single.load_region(*request).tobytes()


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


BAD_OUTS = {
    "too few": (np.zeros((3, 40, 40, 3), np.uint8), "3 results, but 4"),
    "too many": ([np.zeros((40, 40, 3), np.uint8)] * 5, "5 results, but 4"),
    "none": (np.zeros((0, 40, 40, 3), np.uint8), "0 results"),
    "no axis": (np.zeros((), np.uint8), "0 results"),
    "a shape": (np.zeros((4, 40, 41, 3), np.uint8), r"out\[0\] is \(40, 41, 3\)"),
    "a shape to broadcast": (np.zeros((4, 40, 40, 1), np.uint8), r"out\[0\] is \(40, 40, 1\)"),
    "flat": (np.zeros((4, 4800), np.uint8), r"out\[0\] is \(4800,\)"),
    "a dtype": (np.zeros((4, 40, 40, 3), np.int8), r"out\[0\] is .* int8"),
    "read-only": (read_only(np.zeros((4, 40, 40, 3), np.uint8)), "cannot be written to"),
    "the last of a list": (
        [np.zeros((40, 40, 3), np.uint8) for _ in range(3)] + [read_only(np.zeros((40, 40, 3), np.uint8))],
        r"out\[3\] .*cannot be written to",
    ),
    "a number": (5, "out is 5"),
    "lists": ([np.zeros((40, 40, 3), np.uint8).tolist()] * 4, r"out\[0\] is .*shares its memory"),
    "a copy": (type("Copies", (), {"__array__": lambda *_, **__: np.zeros((4, 40, 40, 3), np.uint8)})(), "shares its memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OUTS)
def test_an_unfit_out_is_refused_before_anything_is_written(scene, name):
    frames, _ = scene
    out, says = BAD_OUTS[name]
    for options in ({}, {"pad": "edge"}):
        with pytest.raises(nf.RegionError, match=says):
            frames.load_regions(FOUR, out=out, **options)
    for item in out if isinstance(out, list) else [out]:
        if isinstance(item, np.ndarray):
            assert not item.any()


# -- invalid requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "channels", "error", "says"),
    [
        (("nobody", None), None, nf.ImageIdError, "'nobody'"),
        (([1], None), None, nf.ImageIdError, r"\[1\]"),
        (("deep", None), "r", nf.ChannelError, "'deep'"),
        (("twin", "top left"), None, nf.RegionError, "'twin'"),
        (("twin", 101), None, nf.RegionError, "'twin'"),
        (("twin", np.s_[0, 0, 0, 0]), None, nf.RegionError, "'twin'"),
    ],
)
@pytest.mark.parametrize("pad", [None, "edge"])
def test_an_invalid_request_is_named_and_the_others_stay_readable(scene, request_, channels, error, says, pad):
    frames, single = scene
    good = [("colour", np.s_[:20, :30]), ("dot", np.s_[:])]
    for place in range(3):
        requests = [*good[:place], request_, *good[place:]]
        with pytest.raises(error, match=says):
            frames.load_regions(requests, channels, pad=pad)
    assert_same(frames.load_regions(good), [single.load_region(*request) for request in good])


@pytest.mark.parametrize("item", ["a", 5, ("a",), ("a", None, None), None, {"a": None}, np.zeros((2, 2))])
def test_a_request_is_a_pair(scene, item):
    with pytest.raises(nf.RegionError, match="request 1 is .*pair"):
        scene[0].load_regions([("colour", None), item])


@pytest.mark.parametrize("pad", [None, "constant", "edge"])
def test_a_batch_over_the_limit_is_refused_before_it_is_allocated(tmp_path, pad):
    """Each region alone is under the limit."""
    frames = frames_over(tmp_path, random_arrays(1), "cog", max_region_bytes=30_000)
    frames.load_region(0, np.s_[:, :], pad=pad)
    tracemalloc.start()
    try:
        with pytest.raises(nf.RegionTooLargeError, match="a batch of 2,000 regions: 54,000,000 bytes.*30,000"):
            frames.load_regions([(0, np.s_[:, :])] * 2000, pad=pad)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    out = np.zeros((2, 100, 90, 3), np.uint8)  # allocated by the caller, so not limited
    frames.load_regions([(0, np.s_[:, :])] * 2, out=out, pad=pad)
    np.testing.assert_array_equal(out[1], random_arrays(1)[0])


def test_an_unreadable_source_names_its_image(tmp_path):
    frames = frames_over(tmp_path, random_arrays(2), "cog")
    (tmp_path / "1.npy").write_bytes(b"no image at all")
    with pytest.raises(nf.UnreadableImageError, match="image 1: "):
        frames.load_regions([(0, None), (1, None)])
    np.testing.assert_array_equal(frames.load_regions([(0, None)])[0], random_arrays(1)[0])
