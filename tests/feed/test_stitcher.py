"""Stitcher: exact for an identity model, in any order, into memory and files, in the memory of a band."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.detections import tiles_of
from kit.synthetic import picture
from rasterio.errors import NotGeoreferencedWarning

import ndframes as nf
from ndframes.errors import OutputError, PatchError
from ndframes.feed import GridPatches, Patch, RandomPatches, Stitcher
from ndframes.feed.results import FileSink

MILLION = (1000, 1000)


def noise(shape, dtype, *, seed=0):
    """Numbers over the whole range of the dtype; floats of very different sizes."""
    random = np.random.default_rng([seed, *shape])
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (random.normal(0, 1, shape) * 10.0 ** random.integers(-30, 30, shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def padded_crop(image, patch):
    """The pixels of a patch; 0 outside of the image."""
    rows, cols = patch.rows, patch.cols
    crop = np.zeros((rows.stop - rows.start, cols.stop - cols.start, *image.shape[2:]), image.dtype)
    inside = [
        slice(max(axis.start, 0), max(0, min(axis.stop, n)))
        for axis, n in zip((rows, cols), image.shape[:2], strict=True)
    ]
    crop[tuple(slice(i.start - a.start, i.stop - a.start) for i, a in zip(inside, (rows, cols), strict=True))] = image[
        tuple(inside)
    ]
    return crop


def stitch_identity(image, todo, order=None, **options):
    stitcher = Stitcher(image.shape[:2], **{"dtype": image.dtype, **options})
    for index in range(len(todo)) if order is None else order:
        stitcher.add(todo[index], padded_crop(image, todo[index]))
    return stitcher


# -- exactness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16", "uint32"])
@pytest.mark.parametrize("weights", ["linear", "gaussian", "centre"])
def test_an_identity_model_changes_none_of_a_million_pixels(dtype, weights):
    image = noise(MILLION, dtype)
    patches = tiles_of(MILLION, 256, 96)
    order = np.random.default_rng(1).permutation(len(patches))
    for chosen in (None, order):
        result = stitch_identity(image, patches, chosen, weights=weights).close()
        assert result.dtype == image.dtype
        assert np.count_nonzero(result[:, :, 0] != image) == 0


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_shifted_grids_and_random_windows_over_one_another_change_no_pixel(dtype):
    image = noise((400, 500, 3), dtype)
    random = np.random.default_rng(5)
    patches = [
        Patch("a", (slice(top, top + height), slice(left, left + width)), image_shape=(400, 500))
        for top, left, height, width in zip(
            *(random.integers(low, high, 300).tolist() for low, high in ((-60, 390), (-60, 490), (1, 120), (1, 130))),
            strict=True,
        )
    ]
    patches += tiles_of((400, 500), 100, 0) + tiles_of((400, 500), 130, 41)
    stitcher = stitch_identity(image, patches, random.permutation(len(patches)))
    assert stitcher.covered.all()
    assert np.array_equal(stitcher.close()[...], image)


def test_patches_over_the_edges_are_cut_off(frames_of):
    image = noise((130, 190), "uint8")
    frames = frames_of(image)
    patches = GridPatches(frames, (64, 64), overlap=16, edge="pad")
    assert any(not patch.is_inside for patch in patches)
    stitcher = Stitcher((130, 190), dtype="uint8")
    for patch in patches:
        stitcher.add(patch, frames.load_region(*patch.request, **patch.read_options))
    assert np.array_equal(stitcher.close()[...][..., 0], image)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_order_gives_the_same_pixels(data):
    """Also where patches disagree: sums of integers and of what float64 holds do not depend on the order."""
    shape = data.draw(st.tuples(st.integers(1, 200), st.integers(1, 60)))
    places = data.draw(
        st.lists(
            st.tuples(st.integers(-9, 199), st.integers(-9, 59), st.integers(1, 90), st.integers(1, 40)),
            min_size=1,
            max_size=8,
        )
    )
    patches = [
        Patch("a", (slice(top, top + height), slice(left, left + width)), index=index)
        for index, (top, left, height, width) in enumerate(places)
    ]
    order = data.draw(st.permutations(range(len(patches))))
    weights, reduce = (
        data.draw(st.sampled_from(["linear", "gaussian", "centre"])),
        data.draw(st.sampled_from(["mean", "max"])),
    )
    is_planned = data.draw(st.booleans())
    values = [noise((patch.shape), "uint16", seed=patch.index) for patch in patches]

    def stitched(order, patches_given):
        stitcher = Stitcher(shape, weights=weights, reduce=reduce, fill=-1, patches=patches_given)
        for index in order:
            stitcher.add(patches[index], values[index])
        covered = stitcher.covered
        result = stitcher.close()[...]
        assert np.array_equal(stitcher.covered, covered)
        assert np.array_equal(result[..., 0] != -1, covered)
        return result

    in_rows = sorted(range(len(patches)), key=lambda index: (places[index][0], index))
    # Of two patches at one place the first counts for "centre".
    if weights != "centre" or len({place[:2] for place in places}) == len(places):
        assert np.array_equal(stitched(order, patches if is_planned else None), stitched(in_rows, None))


def test_the_mean_is_that_of_the_weights():
    """Against the sums written out, pixel by pixel."""
    shape, extent = (40, 56), 24
    patches = tiles_of(shape, extent, 10)
    values = [picture((extent, extent, 2), "float64", seed=index) for index in range(len(patches))]
    values = [np.nan_to_num(item, posinf=0, neginf=0).clip(-1e6, 1e6) for item in values]
    stitcher = Stitcher(shape, dtype="float64")
    sums, weight_sums = np.zeros((*shape, 2)), np.zeros((*shape, 1))
    ramp = np.minimum(np.arange(1, extent + 1), np.arange(extent, 0, -1))
    for number, (patch, item) in enumerate(zip(patches, values, strict=True)):
        stitcher.add(patch, item, weight=number + 1)
        sums[patch.region] += item * (ramp[:, None, None] * ramp[None, :, None] * (number + 1))
        weight_sums[patch.region] += ramp[:, None, None] * ramp[None, :, None] * (number + 1)
    assert np.allclose(stitcher.close()[...], sums / weight_sums, rtol=1e-12)


def test_centre_takes_the_patch_that_holds_the_pixel_deepest():
    stitcher = Stitcher((10, 16), dtype="uint8", weights="centre")
    stitcher.add((slice(0, 10), slice(6, 16)), np.full((10, 10), 2))
    stitcher.add((slice(0, 10), slice(0, 10)), np.full((10, 10), 1))
    row = stitcher.close()[5, :, 0]
    assert row.tolist() == [1] * 8 + [2] * 8


def test_argmax_and_max():
    random = np.random.default_rng(0)
    logits = random.normal(0, 1, (120, 150, 5)).astype("float32")
    patches = tiles_of((120, 150), 64, 16)
    labels = stitch_identity(logits, patches, dtype=None, reduce="argmax").close()
    assert (labels.dtype, labels.shape) == (np.uint8, (120, 150, 1))
    assert np.array_equal(labels[..., 0], logits.argmax(axis=2))
    highest = Stitcher((120, 150), reduce="max")
    expected = np.full((120, 150, 5), -np.inf, "float32")
    for patch in patches:
        values = logits[patch.region] + random.integers(0, 3)
        highest.add(patch, values)
        np.maximum(expected[patch.region], values, out=expected[patch.region])
    assert np.array_equal(highest.close()[...], expected)


def test_nan_and_infinite_values_of_floats_stay():
    image = picture((100, 90), "float32")
    assert not np.isfinite(image).all()
    result = stitch_identity(image, tiles_of((100, 90), 50, 20)).close()[..., 0]
    assert np.array_equal(result, image, equal_nan=True)


def test_a_smaller_output_is_placed_on_the_scaled_grid():
    image = noise((256, 384), "float32")
    for scale, size in ((0.25, 4), (2, 0.5)):
        grid = np.kron(image, np.ones((2, 2), "float32")) if scale == 2 else image[:: int(size), :: int(size)]
        stitcher = Stitcher((256, 384), scale=scale)
        for patch in tiles_of((256, 384), 128, 32):
            rows, cols = (slice(int(a.start * scale), int(a.stop * scale)) for a in (patch.rows, patch.cols))
            stitcher.add(patch, grid[rows, cols])
        assert np.array_equal(stitcher.close()[..., 0], grid)


# -- what is not covered -------------------------------------------------------------------------------------------------


def test_uncovered_pixels_have_the_fill_value():
    stitcher = Stitcher((200, 30))
    stitcher.add((slice(70, 90), slice(5, 20)), np.ones((20, 15)))
    covered = np.zeros((200, 30), bool)
    covered[70:90, 5:20] = True
    assert np.array_equal(stitcher.covered, covered)
    result = stitcher.close()[..., 0]
    assert np.array_equal(np.isnan(result), ~covered)
    labels = Stitcher((200, 30), dtype="uint8", fill=255)
    labels.add((slice(70, 90), slice(5, 20)), np.ones((20, 15)), weight=np.arange(15) > 4 + np.zeros((20, 1)))
    frame = labels.close()
    expected = np.full((200, 30), 255)
    expected[70:90, 10:20] = 1
    assert np.array_equal(frame[..., 0], expected)
    masked = frame.frames.load_region(frame.image_id, nodata="mask")
    assert np.array_equal(masked.mask[..., 0], expected == 255)


def test_integers_without_a_fill_value_must_be_covered():
    stitcher = Stitcher((100, 30), dtype="uint8")
    stitcher.add((slice(0, 100), slice(0, 29)), np.ones((100, 29)))
    with pytest.raises(PatchError, match=r"no patch covers the pixel \(y, x\) = \(0, 29\).*give fill="):
        stitcher.close()
    patches = [Patch("a", (slice(0, 90), slice(0, 30)))]
    with pytest.raises(PatchError, match=r"\(90, 0\)"):
        Stitcher((100, 30), dtype="uint8", patches=patches)
    Stitcher((100, 30), dtype="uint8", patches=patches, fill=0)
    Stitcher((90, 30), dtype="uint8", patches=patches)


@pytest.mark.parametrize("suffix", ["tif", "npy", None])
@pytest.mark.parametrize("weights", ["linear", "centre"])
def test_after_uncovered_pixels_the_missing_patches_can_be_added(tmp_path, suffix, weights):
    image = noise((300, 90, 2), "uint8")
    path = None if suffix is None else tmp_path / f"a.{suffix}"
    patches = tiles_of((300, 90), 60, 16)
    stitcher = stitch_identity(image, patches, [], weights=weights, out=path)
    for missing, start in (((0, 0), 0), ((104, 60), 5)):
        for _ in range(2):
            with pytest.raises(PatchError, match=rf"the pixel \(y, x\) = \({missing[0]}, {missing[1]}\).*give fill="):
                stitcher.close()
        for patch in patches[start : start + 5]:
            stitcher.add(patch, padded_crop(image, patch))
    for patch in patches[10:]:
        stitcher.add(patch, padded_crop(image, patch))
    assert stitcher.covered.all()
    assert np.array_equal(stitcher.close()[...], image)


def test_a_planned_patch_without_weight_can_be_made_up_for():
    image = noise((128, 64), "uint8")
    patches = [Patch("a", (slice(0, 64), slice(0, 64))), Patch("a", (slice(64, 128), slice(0, 64)))]
    stitcher = Stitcher((128, 64), dtype="uint8", patches=patches)
    hole = np.ones((64, 64))
    hole[3, 4] = 0
    with pytest.raises(PatchError, match=r"\(3, 4\)"):
        stitcher.add(patches[0], image[:64], hole)
    stitcher.add(patches[1], image[64:])
    with pytest.raises(PatchError, match=r"\(3, 4\)"):
        stitcher.close()
    stitcher.add(patches[0], image[:64])
    assert np.array_equal(stitcher.close()[..., 0], image)


def test_nothing_added_gives_an_image_without_data():
    assert np.isnan(Stitcher((4, 5)).close()[...]).all()
    with pytest.raises(PatchError, match="no patch covers"):
        Stitcher((4, 5), dtype="int8").close()


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize("is_planned", [True, False])
@pytest.mark.parametrize("options", [{}, {"dtype": "uint8", "fill": 7}, {"reduce": "argmax", "fill": 255}])
def test_a_file_holds_what_memory_holds(tmp_path, suffix, is_planned, options):
    values = noise((300, 420, 3), "uint8").astype("float32")
    # The last patches are left out: some pixels are not covered.
    patches = tiles_of((300, 420), 100, 30)[:-3]
    order = np.random.default_rng(2).permutation(len(patches))
    for chosen in (None, order):
        path = tmp_path / f"{len(os.listdir(tmp_path))}.{suffix}"
        given = {"dtype": None, **options, "patches": patches if is_planned else None}
        in_file = stitch_identity(values, patches, chosen, out=path, **given)
        in_memory = stitch_identity(values, patches, chosen, **given)
        frame, expected = in_file.close(), in_memory.close()[...]
        assert np.array_equal(frame[...], expected, equal_nan=True)
        assert frame.dtype == expected.dtype
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
        assert np.array_equal(nf.open(path)[...], expected, equal_nan=True)
    if suffix == "tif":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                assert np.array_equal(dataset.nodata, options.get("fill", np.nan), equal_nan=True)
                assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), expected, equal_nan=True)


def test_an_array_of_the_caller_is_filled():
    image = noise((90, 70), "uint16")
    out = np.zeros((90, 70), "uint16")
    frame = stitch_identity(image, tiles_of((90, 70), 40, 8), dtype=None, out=out).close()
    assert np.array_equal(out, image)
    assert np.array_equal(frame[..., 0], image)
    with pytest.raises(PatchError, match=r"out is \(90, 70\) uint16; the result is \(90, 70, 2\) uint16"):
        Stitcher((90, 70), out=out).add((slice(0, 5), slice(0, 5)), np.zeros((5, 5, 2)))


def test_a_result_pickles(tmp_path):
    image = noise((60, 50), "uint8")
    for out in (None, tmp_path / "a.npy"):
        frame = stitch_identity(image, tiles_of((60, 50), 30, 8), out=out).close()
        assert np.array_equal(pickle.loads(pickle.dumps(frame))[..., 0], image)


def test_an_error_or_a_dropped_stitcher_leaves_no_file(tmp_path):
    def begin():
        stitcher = Stitcher((300, 20), out=tmp_path / "a.tif")
        stitcher.add((slice(0, 100), slice(0, 20)), np.zeros((100, 20)))
        stitcher.add((slice(200, 300), slice(0, 20)), np.zeros((100, 20)))
        return stitcher

    with pytest.raises(ZeroDivisionError), begin():
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    stitcher = begin()
    del stitcher
    gc.collect()
    assert os.listdir(tmp_path) == []
    with begin() as stitcher:
        frame = stitcher.close()
    assert os.listdir(tmp_path) == ["a.tif"]
    assert stitcher.close() is frame


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_leaving_a_block_closes_the_stitcher(tmp_path, suffix):
    image = noise((150, 90), "uint8")
    path = tmp_path / f"a.{suffix}"
    with Stitcher((150, 90), dtype="uint8", out=path) as stitcher:
        for patch in tiles_of((150, 90), 60, 8):
            stitcher.add(patch, padded_crop(image, patch))
        assert not path.exists()
    assert os.listdir(tmp_path) == [path.name]
    assert np.array_equal(nf.open(path)[..., 0], image)
    assert stitcher.close() is stitcher.close()
    with Stitcher((150, 90), out=tmp_path / f"b.{suffix}") as stitcher:
        stitcher.discard()
    with pytest.raises(PatchError, match="no patch covers"), Stitcher((150, 90), dtype="uint8", out=path) as stitcher:
        stitcher.add(np.s_[0:60, 0:60], np.zeros((60, 60), "uint8"))
    with pytest.raises(PatchError, match="discarded"):
        stitcher.close()
    assert os.listdir(tmp_path) == [path.name]
    assert np.array_equal(nf.open(path)[..., 0], image)


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_after_a_full_disk_the_stitcher_can_be_closed_again(tmp_path, suffix, monkeypatch):
    image = noise((150, 90), "uint16")
    path = tmp_path / f"a.{suffix}"
    stitcher = stitch_identity(image, tiles_of((150, 90), 60, 8), out=path)
    put, calls = FileSink._put, []

    def fail(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise OutputError("no space left")
        put(self, *args)

    monkeypatch.setattr(FileSink, "_put", fail)
    with pytest.raises(OutputError, match="no space left"):
        stitcher.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: os.stat(tmp_path / "nowhere"))
        with pytest.raises(OutputError, match="cannot be written"):
            stitcher.close()
    assert np.array_equal(stitcher.close()[..., 0], image)
    assert os.listdir(tmp_path) == [path.name]


KILLED = """
import sys, numpy as np
from kit.detections import tiles_of
from ndframes.feed import Stitcher
import ndframes.formats.tiled.cog_writer as cog_writer
path, is_writing_cog = sys.argv[1], sys.argv[2] == "True"
if is_writing_cog:
    def stop(*args, **more):
        args[0].write(b"II")
        args[0].flush()
        print("ready", flush=True)
        sys.stdin.read()
    cog_writer.write_cog = stop
patches = tiles_of((3000, 400), 128, 32)
stitcher = Stitcher((3000, 400), out=path, patches=None if path.endswith("tif") else patches)
for patch in patches if is_writing_cog else patches[:60]:
    stitcher.add(patch, np.zeros(patch.shape, np.float32))
if is_writing_cog:
    stitcher.close()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no files without names")
@pytest.mark.parametrize(("suffix", "is_writing_cog"), [("npy", False), ("tif", False), ("tif", True)])
def test_a_killed_process_leaves_no_file(tmp_path, suffix, is_writing_cog):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{KILLED}"
    command = [sys.executable, "-c", code, str(tmp_path / f"a.{suffix}"), str(is_writing_cog)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        open_files = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in os.listdir(f"/proc/{process.pid}/fd")]
        assert any(name.startswith(str(tmp_path)) for name in open_files)
        process.kill()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channel_count", [1, 2, 3, 4, 5])
def test_channels_of_an_answer_are_no_colours(tmp_path, dtype, channel_count):
    image = noise((70, 60, channel_count), dtype)
    names = [f"band.{number}" for number in range(channel_count)]
    path = tmp_path / "a.tif"
    for out in (path, tmp_path / "a.npy", None):
        frame = stitch_identity(image, tiles_of((70, 60), 40, 8), out=out).close()
        assert list(frame.channels) == names
        assert np.array_equal(frame[...], image)
        assert np.array_equal(frame.frames.load_image(frame.image_id, names[-1])[..., 0], image[..., -1])
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            assert page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
            assert list(page.extrasamples) == [tifffile.EXTRASAMPLE.UNSPECIFIED] * (channel_count - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            meanings = [interpretation.name for interpretation in dataset.colorinterp]
            assert meanings == ["gray", *["undefined"] * (channel_count - 1)]
            assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), image)


def test_an_output_that_cannot_be_written_is_an_error_at_once(tmp_path):
    for name, text in (("a.png", "use one of these endings"), ("none/a.tif", "no folder"), ("", "endings")):
        with pytest.raises(OutputError, match=text):
            Stitcher((4, 4), out=tmp_path / name)


# -- memory -----------------------------------------------------------------------------------------------------------

WIDE = (1536, 8192)


@pytest.mark.parametrize(("suffix", "is_planned"), [("npy", True), ("tif", False)])
def test_memory_is_that_of_a_band(tmp_path, suffix, is_planned):
    """Sums of the whole image would take 201 MB, those of the rows of a patch 42 MB."""
    patches = tiles_of(WIDE, 256, 64)
    tile = noise((256, 256), "uint8")
    stitcher = Stitcher(WIDE, dtype="uint8", out=tmp_path / f"a.{suffix}", patches=patches if is_planned else None)
    tracemalloc.start()
    try:
        for patch in patches:
            stitcher.add(patch, tile)
        stitcher.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "is_planned"), [("tif", True), ("tif", False), ("npy", True)])
def test_resident_memory_is_that_of_a_band(tmp_path, suffix, is_planned):
    """8192 x 8192: sums of the whole image would take 1 GiB, the pixels 256 MiB."""
    code = f"""
import resource, numpy as np
from kit.detections import tiles_of
from ndframes.feed import Stitcher
patches = tiles_of((8192, 8192), 512, 128)
tile = np.random.default_rng(0).random((512, 512), np.float32)
def run(shape, patches, name):
    stitcher = Stitcher(shape, out={str(tmp_path)!r} + name, patches=patches if {is_planned} else None)
    for patch in patches:
        stitcher.add(patch, tile)
    return stitcher.close()
run((512, 512), tiles_of((512, 512), 512, 128), "/small.{suffix}")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run((8192, 8192), patches, "/large.{suffix}")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert int(found.stdout) < 140


def test_unsorted_patches_do_not_wait_in_a_file(tmp_path, monkeypatch):
    """After the first patch out of order, memory grows; the result is the same."""
    image = noise((700, 40), "uint8")
    patches = tiles_of((700, 40), 40, 10)
    stitcher = Stitcher((700, 40), dtype="uint8", out=tmp_path / "a.npy")
    order = [0, 1, 2, 9, 10, 11, 3, *range(12, len(patches)), 8, 7, 6, 5, 4]
    for index in order:
        stitcher.add(patches[index], image[patches[index].region])
    assert len(stitcher._sums._bands) + len(stitcher._sums._in_file) == 11
    assert 0 < len(stitcher._sums._in_file) < 11
    assert np.array_equal(stitcher.close()[..., 0], image)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"weights": "flat"}, ValueError, "weights='flat'; allowed: 'linear', 'gaussian', 'centre'"),
        ({"reduce": "median"}, ValueError, "reduce='median'; allowed"),
        ({"dtype": "complex64"}, PatchError, "dtype=complex64; give"),
        ({"dtype": "no"}, PatchError, "dtype='no' is not a dtype"),
        ({"dtype": "uint8", "fill": 256}, PatchError, "fill=256 is no value of uint8; give an integer from 0 to 255"),
        ({"dtype": "int8", "fill": 0.5}, PatchError, "fill=0.5 is no value of int8"),
        ({"fill": "x"}, PatchError, "fill='x'; give a number"),
        ({"scale": 0}, PatchError, "scale=0; give a number above 0"),
        ({"out": 3}, PatchError, r"out=3; give a path that ends in \.tif, \.tiff, \.npy, or an array"),
        ({"out": [[0] * 10] * 10, "dtype": "uint8"}, PatchError, "out=.*, or an array"),
    ],
)
def test_wrong_options(options, error, text):
    with pytest.raises(error, match=text):
        Stitcher((10, 10), **options)


def test_wrong_values_name_the_patch_and_what_was_expected():
    stitcher = Stitcher((64, 64), dtype="uint8", scale=0.5)
    patch = Patch("scene", (slice(0, 32), slice(0, 32)), index=5, image_shape=(64, 64))
    for values, text in (
        (
            np.zeros((32, 32)),
            r"patch 5 \(rows 0:32, columns 0:32\) are \(32, 32\) float64; expected numbers \(16, 16\) or \(16, 16, k\)",
        ),
        (np.zeros((3, 16, 16)), r"are \(3, 16, 16\) float64"),
        (np.zeros(16), r"are \(16,\)"),
        (np.zeros((16, 16), complex), "complex128"),
        (np.full((16, 16), np.nan), "contain nan, which uint8 cannot hold"),
        (np.full((16, 16), np.inf), "contain inf"),
    ):
        with pytest.raises(PatchError, match=text) as caught:
            stitcher.add(patch, values)
        assert caught.value.image_id == "scene"
    stitcher.add(patch, np.zeros((16, 16, 2)))
    with pytest.raises(PatchError, match="have 1 channels, those before 2"):
        stitcher.add(patch, np.zeros((16, 16)))
    for weight in (-1, np.nan, np.ones(3), [[1]], "heavy", [[1], [2, 3]]):
        with pytest.raises(PatchError, match="the weight of patch 5"):
            stitcher.add(patch, np.zeros((16, 16, 2)), weight)
    with pytest.raises(PatchError, match=r"an image of \(9, 9\) px, the stitcher of one of \(64, 64\)"):
        stitcher.add(Patch("b", (slice(0, 9), slice(0, 9)), image_shape=(9, 9)), np.zeros((4, 4)))


def test_more_channels_than_labels():
    with pytest.raises(PatchError, match="257 channels do not fit into labels of uint8"):
        Stitcher((4, 4), reduce="argmax").add((slice(0, 4), slice(0, 4)), np.zeros((4, 4, 257)))


def test_patches_beyond_the_plan_and_after_the_end():
    patches = tiles_of((100, 50), 50, 0)
    stitcher = Stitcher((100, 50), patches=patches)
    for patch in patches:
        stitcher.add(patch, np.zeros((50, 50)))
    with pytest.raises(PatchError, match="reaches row 0 of the result, which is finished"):
        stitcher.add(patches[0], np.zeros((50, 50)))
    stitcher.close()
    with pytest.raises(PatchError, match="is closed"):
        stitcher.add(patches[0], np.zeros((50, 50)))
    stitcher = Stitcher((100, 50))
    stitcher.discard()
    with pytest.raises(PatchError, match="was discarded"):
        stitcher.close()


def test_random_patches_are_stitched(frames_of):
    image = noise((90, 120), "float32")
    frames = frames_of(image)
    patches = RandomPatches(frames, (32, 32), 200, seed=3)
    stitcher = Stitcher((90, 120), patches=patches)
    for patch in patches:
        stitcher.add(patch.request, frames.load_region(*patch.request))
    covered = stitcher.covered
    assert covered.mean() > 0.9
    assert np.array_equal(stitcher.close()[..., 0], np.where(covered, image, np.nan), equal_nan=True)
