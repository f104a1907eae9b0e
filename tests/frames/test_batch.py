"""load_regions: as many single reads, bit for bit; each tile decoded once; and what goes wrong on the way is mended."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.forking import in_fork
from kit.synthetic import picture
from kit.tilework import cog, entry_path, flip_bit_of_tile, frames_over, tiles_under, watch_decodes

import ndframes as nf
from ndframes.system import threads as crew_module
from ndframes.system.threads import work_together

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
CHANNELS = {
    None: tuple(IMAGES),
    "<all>": tuple(IMAGES),
    "g": ("colour", "twin", "alpha", "dot"),
    "b|r": ("colour", "twin", "alpha", "dot"),
    "a|r|g": ("alpha",),
    "band.5|band.0|band.5": ("many",),
}


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_open():
    """Frames refer to themselves, so that their files close with a garbage collection; other tests count open files."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """In every form two of a kind: one for batches, one for single reads. The sources rest, so that they stay open."""
    folder = tmp_path_factory.mktemp("scenes")
    paths = frames_over(folder, IMAGES, None)._id_to_path
    time.sleep(2.05)
    return {
        form: [nf.SimpleFrames(paths, workdir=folder / form, backend=backend) for _ in range(2)]
        for form, backend in FORMS.items()
    }


@pytest.fixture(scope="module", params=FORMS)
def scene(request, scenes):
    return scenes[request.param]


def random_arrays(count: int, shape=(100, 90, 3)) -> dict[int, np.ndarray]:
    return {number: np.random.default_rng(number).integers(0, 255, shape, np.uint8) for number in range(count)}


def windows(rng: np.random.Generator, ids, count: int, edge: int = 40, shape=(100, 90)) -> list:
    corners = zip(rng.integers(0, shape[0] - edge, count), rng.integers(0, shape[1] - edge, count), strict=True)
    return [(ids[int(rng.integers(len(ids)))], np.s_[y : y + edge, x : x + edge]) for y, x in corners]


def count_wrong(crops, requests, arrays) -> int:
    assert len(crops) == len(requests)
    return sum(
        not np.array_equal(crop, arrays[image_id][region])
        for crop, (image_id, region) in zip(crops, requests, strict=True)
    )


def assert_same(results, wanted: list[np.ndarray]) -> None:
    """Bit for bit; an array where all are of one shape and dtype, else a list."""
    is_one = len({(item.shape, item.dtype) for item in wanted}) == 1
    assert isinstance(results, np.ndarray if is_one else list)
    assert len(results) == len(wanted)
    for number, item in enumerate(wanted):
        got = np.asarray(results[number])
        assert (got.shape, got.dtype) == (item.shape, item.dtype)
        assert got.tobytes() == item.tobytes(), f"result {number} differs"


# -- as many single reads -----------------------------------------------------------------------------------------


@cache
def regions_of(shape):
    """Numpy's basic indices, and slices that reach far outside or run backwards."""
    bound = st.none() | st.integers(-2 * max(shape), 2 * max(shape))
    wild = st.tuples(*(st.builds(slice, bound, bound, st.none() | st.integers(-9, 9).filter(bool)) for _ in shape))
    windows = st.tuples(*(st.builds(slice, bound, bound) for _ in shape[:2]))
    return hnp.basic_indices(shape, allow_newaxis=False) | wild | windows


@st.composite
def batches(draw):
    channels = draw(st.sampled_from(list(CHANNELS)))
    requests = []
    for image_id in draw(st.lists(st.sampled_from(CHANNELS[channels]), max_size=8)):
        bands = IMAGES[image_id].shape[2] if channels in (None, "<all>") else channels.count("|") + 1
        requests.append((image_id, draw(regions_of((*IMAGES[image_id].shape[:2], bands)))))
    repeats = draw(st.lists(st.sampled_from(requests), max_size=3)) if requests else []
    return channels, requests + repeats


@settings(max_examples=50, deadline=None)
@given(batches(), st.sampled_from([1, 4]), st.booleans())
def test_a_batch_equals_single_reads(scene, batch, workers, read_ahead):
    frames, single = scene
    channels, requests = batch
    results = frames.load_regions(requests, channels, workers=workers, read_ahead=read_ahead)
    wanted = [single.load_region(image_id, region, channels) for image_id, region in requests]
    if not requests:
        assert results == []
        return
    assert_same(results, wanted)
    for item, (image_id, region) in zip(wanted, requests, strict=True):  # and those equal numpy
        is_lossless = "JPEG" not in str(single.backend) or IMAGES[image_id].dtype != "uint8"
        if is_lossless and channels in (None, "<all>"):
            np.testing.assert_array_equal(item, IMAGES[image_id][region])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-200, 200), st.integers(0, 60)] * 2), max_size=5),
    st.sampled_from(["constant", "edge", "reflect"]),
    st.sampled_from([1, 3]),
)
def test_a_padded_batch_equals_single_reads(scene, corners, pad, workers):
    frames, single = scene
    requests = [
        (image_id, np.s_[y : y + height, x : x + width])
        for image_id, (y, height, x, width) in zip(("twin", "colour", "dot", "colour", "twin"), corners, strict=False)
    ]
    results = frames.load_regions(requests, pad=pad, fill=7, workers=workers)
    if not requests:
        assert results == []
        return
    assert_same(results, [single.load_region(*request, pad=pad, fill=7) for request in requests])


def test_requests_may_come_from_anywhere(scene):
    frames, single = scene
    listed = [["colour", np.s_[:40, :40]], ("twin", np.s_[10:50, 20:60])]
    wanted = [single.load_region(*request) for request in listed]
    for requests in (listed, tuple(listed), iter(listed), (request for request in listed)):
        assert_same(frames.load_regions(requests), wanted)


@pytest.mark.parametrize("options", [{}, {"pad": "edge"}, {"read_ahead": True}, {"workers": 4}, {"out": []}])
@pytest.mark.parametrize("requests", [[], (), iter(())])
def test_no_requests_are_no_results(scene, options, requests):
    assert scene[0].load_regions(requests, **options) == []


def test_numbers_are_no_copies(scene):
    """A region of whole numbers alone is a single number: of an array of those, every item would be a copy."""
    frames, single = scene
    for image_id in ("colour", "deep", "many"):
        requests = [(image_id, (y, x, 0)) for y, x in ((0, 0), (3, 4), (-1, -1), (19, 60))]
        results = frames.load_regions(requests)
        assert results.shape == (4,)
        assert_same(results, [single.load_region(*request) for request in requests])
        out = np.zeros(8, results.dtype)
        frames.load_regions(requests, out=out[::2])
        np.testing.assert_array_equal(out[::2], results)


class TwoFiles(nf.Frames):
    """One image of two files, of unlike dtypes."""

    def __init__(self, folder, **options):
        self.arrays = picture((75, 90, 3)), picture((75, 90, 2), "int16")
        self.folder = folder
        for number, array in enumerate(self.arrays):
            np.save(folder / f"{number}.npy", array)
        super().__init__(workdir=folder / "work", **options)

    @property
    def image_ids(self):
        return ["both"]

    def build_pathinfo(self, image_id):
        infos = (
            nf.ChannelInfo(self.folder / f"{number}.npy", channels=codes) for number, codes in enumerate(["rgb", "n|m"])
        )
        return nf.PathInfo(image_id, tuple(infos))


@pytest.mark.parametrize("backend", FORMS.values(), ids=FORMS)
def test_files_that_share_an_image(tmp_path, backend):
    """Channels of two files between each other, promoted to one dtype."""
    frames = TwoFiles(tmp_path, backend=backend)
    regions = [np.s_[10:50, 20:80], np.s_[::-3, 5:70], np.s_[40, :, 1:3], np.s_[5:5], np.s_[10:50, 20:80]]
    for channels in (None, "m|r|n", "g", "n|m", "b|m|r|g|n"):
        wanted = [frames.load_region("both", region, channels) for region in regions]
        assert_same(frames.load_regions([("both", region) for region in regions], channels, workers=3), wanted)
    if backend != FORMS["jpeg"]:
        both = np.concatenate([array.astype(np.int16) for array in frames.arrays], axis=2)
        crops = frames.load_regions([("both", np.s_[3:60, 7:70])] * 2, "m|r|n")
        np.testing.assert_array_equal(crops[1], both[3:60, 7:70][:, :, [4, 0, 3]])


# -- where the results go -----------------------------------------------------------------------------------------

FOUR = [("colour", np.s_[y : y + 40, 3:43]) for y in (0, 10, 50, 10)]


class OnLoan:
    """What shares its memory with numpy and is no array, such as a tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array[...]


def make_out(kind: str) -> tuple[object, np.ndarray | list[np.ndarray]]:
    """Something to be written to, and where its results are then."""
    plain = np.zeros((4, 40, 40, 3), np.uint8)
    if kind == "array":
        return plain, plain
    if kind == "in strides":
        part = np.zeros((4, 50, 80, 6), np.uint8)[::-1, 5:45, ::2, 1:6:2]
        return part, part
    if kind == "in another order":
        turned = np.zeros((3, 40, 4, 40), np.uint8).transpose(2, 1, 3, 0)
        return turned, turned
    if kind == "on loan":
        return OnLoan(plain), plain
    if kind == "memory":
        return memoryview(plain), plain
    items = [plain[0].copy(), plain[1], np.asfortranarray(plain[2]), plain[3]]
    return (items if kind == "list" else (items[0], OnLoan(items[1]), *items[2:])), items


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "kind", ["array", "in strides", "in another order", "on loan", "memory", "list", "tuple of all kinds"]
)
def test_results_go_where_they_are_wanted(scene, kind, workers):
    frames, single = scene
    for options in ({}, {"pad": "reflect"}):
        out, arrays = make_out(kind)
        assert frames.load_regions(FOUR, out=out, workers=workers, **options) is out
        for got, request in zip(arrays, FOUR, strict=True):
            np.testing.assert_array_equal(got, single.load_region(*request))


def test_nothing_is_written_beside_the_results(scene):
    frames, _ = scene
    wide = np.full((4, 50, 80, 6), 77, np.uint8)
    part = wide[::-1, 5:45, ::2, 1:6:2]
    frames.load_regions(FOUR, out=part)
    assert (part != 77).any()
    part[...] = 77
    assert (wide == 77).all()


def test_results_of_unlike_shapes_go_to_a_list(scene):
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
    "would spread": (np.zeros((4, 40, 40, 1), np.uint8), r"out\[0\] is \(40, 40, 1\)"),
    "flat": (np.zeros((4, 4800), np.uint8), r"out\[0\] is \(4800,\)"),
    "a dtype": (np.zeros((4, 40, 40, 3), np.int8), r"out\[0\] is .* int8"),
    "read-only": (read_only(np.zeros((4, 40, 40, 3), np.uint8)), "cannot be written to"),
    "the last of a list": (
        [np.zeros((40, 40, 3), np.uint8) for _ in range(3)] + [read_only(np.zeros((40, 40, 3), np.uint8))],
        r"out\[3\] .*cannot be written to",
    ),
    "a number": (5, "out is 5"),
    "lists": ([np.zeros((40, 40, 3), np.uint8).tolist()] * 4, r"out\[0\] is .*shares its memory"),
    "what copies": (type("Copies", (), {"__array__": lambda *_, **__: np.zeros((4, 40, 40, 3), np.uint8)})(), "shares its memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OUTS)
def test_a_place_that_does_not_fit_is_refused_before_anything_is_written(scene, name):
    frames, _ = scene
    out, says = BAD_OUTS[name]
    for options in ({}, {"pad": "edge"}):
        with pytest.raises(nf.RegionError, match=says):
            frames.load_regions(FOUR, out=out, **options)
    for item in out if isinstance(out, list) else [out]:
        if isinstance(item, np.ndarray):
            assert not item.any()


# -- how many threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2, 8, 100, None, np.int64(2)])
def test_any_number_of_workers_reads_the_same(scene, workers):
    frames, single = scene
    requests = windows(np.random.default_rng(3), ["colour", "twin"], 30)
    assert_same(frames.load_regions(requests, workers=workers), [single.load_region(*request) for request in requests])


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2", [2]])
@pytest.mark.parametrize("requests", [[], FOUR])
def test_what_is_no_number_of_workers_is_refused(scene, requests, workers):
    with pytest.raises(ValueError, match="workers="):
        scene[0].load_regions(requests, workers=workers)


def test_a_process_among_many_takes_one_thread(tmp_path):
    """A data loader's workers share the cores already."""
    assert crew_module.count_threads(None) == len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(crew_module.count_threads, (None,)) == 1


# -- each tile once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("compress", ["ZSTD", "JPEG", "LZW"])
def test_a_tile_that_many_crops_share_is_decoded_once(tmp_path, at_rest, compress, workers, read_ahead):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, cog(compress), tile_bytes=0)
    frames.prepare()
    requests = [*windows(np.random.default_rng(workers), list(arrays), 60), (1, np.s_[:, :]), (1, np.s_[:, 40:, 1])]
    wanted = [frames.load_region(*request) for request in requests]
    seen = watch_decodes(frames, *arrays)
    for batch in (requests, requests[:7], requests[::-1]):
        touched = {
            (image_id, *tile)
            for image_id, region in batch
            for tile in tiles_under(
                *(range(extent)[part] for extent, part in zip((100, 90), region[:2], strict=True)), 32
            )
        }
        seen.clear()
        results = frames.load_regions(batch, workers=workers, read_ahead=read_ahead)
        assert len(seen) == len(set(seen)) == len(touched)
        for got, request in zip(results, batch, strict=True):
            np.testing.assert_array_equal(got, wanted[requests.index(request)])


def test_what_the_batch_before_decoded_is_not_decoded_again(tmp_path, at_rest):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"))
    frames.prepare()
    requests = windows(np.random.default_rng(0), list(arrays), 40)
    assert count_wrong(frames.load_regions(requests), requests, arrays) == 0
    seen = watch_decodes(frames, *arrays)
    assert count_wrong(frames.load_regions(requests[::-1], read_ahead=True), requests[::-1], arrays) == 0
    assert seen == []


# -- requests that cannot be met ----------------------------------------------------------------------------------


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
def test_one_bad_request_is_named_and_the_others_can_still_be_read(scene, request_, channels, error, says, pad):
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
def test_too_large_a_batch_is_refused_before_it_is_allocated(tmp_path, pad):
    """Each of its regions alone would be allowed."""
    frames = frames_over(tmp_path, random_arrays(1), "cog", max_region_bytes=30_000)
    frames.load_region(0, np.s_[:, :], pad=pad)
    tracemalloc.start()
    try:
        with pytest.raises(nf.RegionTooLargeError, match="a batch of 2,000 regions: 54,000,000 bytes.*30,000"):
            frames.load_regions([(0, np.s_[:, :])] * 2000, pad=pad)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    out = np.zeros((2, 100, 90, 3), np.uint8)  # what is there already takes no more memory
    frames.load_regions([(0, np.s_[:, :])] * 2, out=out, pad=pad)
    np.testing.assert_array_equal(out[1], random_arrays(1)[0])


def test_an_unreadable_source_names_its_image(tmp_path):
    frames = frames_over(tmp_path, random_arrays(2), "cog")
    (tmp_path / "1.npy").write_bytes(b"no image at all")
    with pytest.raises(nf.UnreadableImageError, match="image 1: "):
        frames.load_regions([(0, None), (1, None)])
    np.testing.assert_array_equal(frames.load_regions([(0, None)])[0], random_arrays(1)[0])


# -- what is mended on the way ------------------------------------------------------------------------------------


def quarantined(frames) -> int:
    folder = frames.cache.root / "quarantine"
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("form", ["zstd", "raw", "npy"])
def test_a_damaged_entry_is_mended_in_the_middle_of_a_batch(tmp_path, at_rest, form, workers):
    arrays = random_arrays(4)
    frames = frames_over(tmp_path, arrays, FORMS[form])
    frames.prepare()
    for image_id in arrays:  # opened, and nothing of it read
        frames.image(image_id).opened(0)
    for number in (1,) if form == "npy" else (1, 5):
        flip_bit_of_tile(entry_path(frames, 2), number)
    requests = [*windows(np.random.default_rng(0), list(arrays), 80), (2, np.s_[:])]
    for _ in range(2):
        assert count_wrong(frames.load_regions(requests, workers=workers), requests, arrays) == 0
        assert quarantined(frames) == 1
    assert len(list(frames.cache.ls())) == 4


@pytest.mark.parametrize("options", [{}, {"read_ahead": True}, {"pad": "edge"}])
@pytest.mark.parametrize("form", ["zstd", "raw", "npy"])
def test_entries_that_are_removed_between_batches_are_made_again(tmp_path, at_rest, form, options):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form], tile_bytes=0)
    requests = windows(np.random.default_rng(0), list(arrays), 30)
    for image_ids in ([], [1], [0, 1, 2]):
        for image_id in image_ids:
            entry_path(frames, image_id).unlink()
        frames._opener.pool.close()  # as when many other files were read meanwhile
        assert count_wrong(frames.load_regions(requests, **options), requests, arrays) == 0
        assert len(list(frames.cache.ls())) == 3


@pytest.mark.parametrize("form", ["zstd", "raw", "npy"])
def test_an_entry_that_is_removed_while_it_is_read(tmp_path, at_rest, form, monkeypatch):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form], tile_bytes=0)
    requests = windows(np.random.default_rng(0), list(arrays), 30)
    frames.load_regions(requests)
    run = work_together

    def remove_first(tasks, *, threads):
        entry_path(frames, 1).unlink()
        frames._opener.pool.close()
        run(tasks, threads=threads)

    monkeypatch.setattr("ndframes.frames.batch.work_together", remove_first)
    assert count_wrong(frames.load_regions(requests), requests, arrays) == 0
    assert len(list(frames.cache.ls())) == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_source_that_changes_between_batches_is_read_anew(tmp_path, form):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form])
    requests = [(number, np.s_[10:60, 20:80]) for number in (0, 1, 2, 1)]
    before = frames.load_regions(requests)
    np.save(tmp_path / "1.npy", 255 - arrays[1])
    after = frames.load_regions(requests)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    if form != "jpeg":
        np.testing.assert_array_equal(after[1], 255 - arrays[1][10:60, 20:80])
    np.testing.assert_array_equal(after[1], frames.load_region(*requests[1]))
    np.testing.assert_array_equal(after[1], after[3])
    assert not np.array_equal(after[1], before[1])


@pytest.mark.parametrize("other", [random_arrays(1, (100, 90, 1))[0], picture((100, 90, 3), "uint16")])
def test_a_source_that_becomes_another_while_it_is_read(tmp_path, at_rest, monkeypatch, other):
    """Of another shape or dtype: never squeezed into what was planned for the old one."""
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, None)
    requests = [(number, np.s_[10:60, 20:80]) for number in (0, 1, 2, 1)]
    frames.load_regions(requests)
    run = work_together

    def replace_first(tasks, *, threads):
        monkeypatch.setattr("ndframes.frames.batch.work_together", run)
        np.save(tmp_path / "new.npy", other)
        os.replace(tmp_path / "new.npy", tmp_path / "1.npy")
        frames._opener.pool.close()
        run(tasks, threads=threads)

    arrays[1] = other
    monkeypatch.setattr("ndframes.frames.batch.work_together", replace_first)
    results = frames.load_regions(requests)
    assert isinstance(results, list)
    assert count_wrong(results, requests, arrays) == 0
    np.save(tmp_path / "1.npy", random_arrays(2)[1])
    frames.load_regions(requests)
    monkeypatch.setattr("ndframes.frames.batch.work_together", replace_first)
    with pytest.raises(nf.RegionError, match=r"out\[1\] is \(50, 60, 3\) uint8"):
        frames.load_regions(requests, out=np.zeros((4, 50, 60, 3), np.uint8))


# -- threads, forks, Ctrl-C ---------------------------------------------------------------------------------------


def test_a_crew_does_every_task_once():
    """Also where the caller is done before a helper has begun."""
    for number in range(500):
        done: list[int] = []
        work_together([partial(done.append, item) for item in range(number % 7)], threads=1 + number % 5)
        assert sorted(done) == list(range(number % 7))


@pytest.mark.parametrize("threads", [1, 4])
def test_after_a_task_that_fails_no_other_is_begun(threads):
    done, lock = [], threading.Lock()

    def work(number):
        time.sleep(0.005)
        if number == 10:
            raise nf.RegionError("the eleventh")
        with lock:
            done.append(number)

    with pytest.raises(nf.RegionError, match="eleventh"):
        work_together([partial(work, number) for number in range(2000)], threads=threads)
    assert set(range(10 - threads)) <= set(done)
    assert len(done) < 1000, "all went on"  # a busy machine may leave the thread that fails asleep for a while
    settled = list(done)
    time.sleep(0.05)
    assert done == settled, "somebody worked on after the error was raised"


def test_more_callers_than_threads():
    """A helper that finds no thread in time is not waited for."""
    wrong = []

    def call(seed):
        for _ in range(20):
            done: list[int] = []
            work_together([partial(done.append, item) for item in range(30)], threads=16)
            if sorted(done) != list(range(30)):
                wrong.append(seed)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_where_no_thread_is_to_be_had_the_caller_works_alone(tmp_path, monkeypatch):
    arrays = random_arrays(2)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=0)
    frames.prepare()
    requests = windows(np.random.default_rng(0), list(arrays), 20)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert count_wrong(frames.load_regions(requests, workers=4), requests, arrays) == 0
    assert count_wrong(frames.load_regions(requests, workers=4), requests, arrays) == 0


LATE = textwrap.dedent("""
    import sys, threading
    import numpy as np
    import ndframes as nf
    folder = sys.argv[1]
    frames = nf.SimpleFrames({"a": folder + "/0.npy"}, workdir=folder + "/work", backend={"type": "cog", "config": {"blocksize": 16}})
    first = frames.load_regions([("a", np.s_[:, :])] * 2, workers=3)
    frames = nf.SimpleFrames(frames._id_to_path, workdir=folder + "/work", backend=frames.backend, tile_bytes=0)
    frames.load_region("a")
    def read_later():
        threading.main_thread().join()
        print(np.array_equal(frames.load_regions([("a", np.s_[:, :])] * 2, workers=3), first))
    threading.Thread(target=read_later).start()
""")


def test_a_thread_that_reads_on_when_the_interpreter_is_about_to_end(tmp_path):
    frames_over(tmp_path, random_arrays(1), None)
    command = [sys.executable, "-W", "error", "-c", LATE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


@pytest.mark.parametrize("tile_bytes", [None, 20_000])
@pytest.mark.parametrize("rounds", [6, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_batches_from_several_threads_at_once(tmp_path, at_rest, rounds, tile_bytes):
    arrays = random_arrays(4)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=tile_bytes)
    outcomes = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(rounds):
            requests = windows(rng, list(arrays), 25)
            try:
                outcomes.append(count_wrong(frames.load_regions(requests, workers=1 + seed % 4), requests, arrays))
            except BaseException as error:
                outcomes.append(repr(error))
                raise

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [0] * 6 * rounds


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("form", ["zstd", "raw", "npy", "direct"])
def test_a_child_has_a_crew_of_its_own(tmp_path, form):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form])
    requests = windows(np.random.default_rng(0), list(arrays), 40)

    def check() -> bool:
        return count_wrong(frames.load_regions(requests, workers=4), requests, arrays) == 0

    assert check()
    in_fork(check)
    assert check()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("forks", [10, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_forks_while_batches_are_read(tmp_path, at_rest, forks):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=30_000)
    stop, wrong = threading.Event(), []

    def check(seed=0) -> bool:
        requests = windows(np.random.default_rng(seed), list(arrays), 30)
        return count_wrong(frames.load_regions(requests, workers=3), requests, arrays) == 0

    def keep_reading(seed):
        while not stop.is_set():
            wrong.append(not check(seed))

    threads = [threading.Thread(target=keep_reading, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(forks):
            in_fork(check)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong
    assert not any(wrong)


INTERRUPTED = textwrap.dedent("""
    import os, signal, sys, time
    from functools import partialmethod
    import ndframes as nf
    from ndframes.formats.tiled.tile_reader import TileReader
    signal.signal(signal.SIGINT, signal.default_int_handler)
    TileReader.__init__ = partialmethod(TileReader.__init__, group_bytes=1)
    decode = TileReader._decode_with
    def slowly(self, *arguments):
        os.write(1, b"decoding\\n")
        time.sleep(0.05)
        return decode(self, *arguments)
    TileReader._decode_with = slowly
    folder, workers = sys.argv[1], int(sys.argv[2])
    frames = nf.SimpleFrames({"a": folder + "/0.npy"}, workdir=folder + "/work", backend={"type": "cog", "config": {"blocksize": 16}})
    frames.prepare()
    frames.load_regions([("a", None)] * 3, workers=workers)
""")


@pytest.mark.parametrize("workers", [1, 4])
def test_ctrl_c_ends_a_batch_at_once(tmp_path, workers):
    """There is work for 50 seconds and more."""
    frames_over(tmp_path, {"a": random_arrays(1, (640, 1000, 1))[0]}, None)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(workers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        for _ in range(10):
            assert process.stdout.readline() == b"decoding\n"
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, said = process.communicate(timeout=60)
        seconds = time.monotonic() - started
    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
    assert seconds < 2
