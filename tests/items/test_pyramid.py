"""Scaled reads have one definition: the same pixels through every backend, which are those of the image's own pyramid."""

from __future__ import annotations

import logging
import tracemalloc

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import scaled as reference
from kit.synthetic import picture
from kit.videos import draw
from PIL import Image

import ndframes as nf
from ndframes.formats.images.arrays import ArrayReader
from ndframes.formats.pyramid import PyramidReader
from ndframes.formats.tiled.halve import halve

BACKENDS = {
    "direct": None,
    "npy": "npy",
    "tiles": {"type": "cog", "config": {"blocksize": 16}},
    "one tile": "cog",
    "no overviews": {"type": "cog", "config": {"blocksize": 32, "overviews": False, "compress": "NONE"}},
}
DTYPES = ("bool", "uint8", "int16", "uint16", "float32")
LEVELS = (1, 2, 3, 4, 5)


class Image1(nf.Frames):
    """One image "x" of one file or several."""

    image_ids = ("x",)

    def __init__(self, *channels, backend=None, workdir="work", shape=None, **options):
        self._info = nf.PathInfo("x", channels, shape=shape)
        super().__init__(workdir=workdir, backend=backend, **options)

    def build_pathinfo(self, image_id):
        return self._info


def in_every_backend(folder, path, **channel):
    """The image of one file, through each backend; all of them are prepared."""
    info = nf.ChannelInfo(path, **channel)
    made = {name: Image1(info, backend=backend, workdir=folder / "work") for name, backend in BACKENDS.items()}
    for frames in made.values():
        frames.prepare()
    return made


# -- one definition -----------------------------------------------------------------------------------------------


@st.composite
def images(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from((1, 1, 3))))
    pixels = picture(shape, dtype, seed=draw(st.integers(0, 3)))
    if dtype == "float32":
        pixels = np.where(np.isfinite(pixels), np.clip(pixels, -1e6, 1e6), np.float32(7)).astype(np.float32)
        if draw(st.booleans()):
            pixels[picture(shape, "uint8") > 200] = np.nan
    return pixels


@st.composite
def reads(draw, shape):
    axes = []
    for extent in shape[:2]:
        start = draw(st.integers(0, extent - 1))
        axes.append(slice(start, draw(st.integers(start + 1, extent))))
    region = draw(st.sampled_from((None, tuple(axes))))
    factor = st.one_of(st.sampled_from((1 / 2, 1 / 4, 1 / 8, 1 / 32, 0.3)), st.floats(0.01, 2))
    scale = draw(factor)
    interpolation = draw(st.sampled_from((None, None, "nearest", "linear", "cubic", "lanczos")))
    return region, (scale, draw(st.one_of(st.just(scale), factor))), interpolation


@settings(max_examples=25)
@given(st.data())
def test_every_backend_gives_the_pixels_of_the_definition(tmp_path_factory, data):
    pixels = data.draw(images())
    folder = tmp_path_factory.mktemp("any")
    np.save(folder / "a.npy", pixels)
    made = in_every_backend(folder, folder / "a.npy")
    for _ in range(3):
        region, scale, interpolation = data.draw(reads(pixels.shape))
        options = {"scale": scale, "interpolation": interpolation}
        got = {name: frames.load_region("x", region, **options) for name, frames in made.items()}
        for name, frames in made.items():
            np.testing.assert_array_equal(got[name], got["direct"], err_msg=name)
            for again in frames.load_regions([("x", region)] * 2, **options):
                np.testing.assert_array_equal(again, got["direct"], err_msg=f"{name}, in a batch")
        kernel = interpolation or ("nearest" if pixels.dtype == bool else "linear")
        reference.check(got["direct"], pixels, region or np.s_[:, :], scale, kernel)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "int64", "float16", "float32", "float64", "complex64"])
def test_every_level_of_any_backend_is_exact(tmp_path, dtype):
    pixels = picture((67, 93, 2), dtype)
    np.save(tmp_path / "a.npy", pixels)
    made = in_every_backend(tmp_path, tmp_path / "a.npy")
    wanted = pixels
    for level in range(1, 8):
        wanted = reference.half(wanted) if wanted.dtype.kind in "ui" else halve(wanted)
        for name, frames in made.items():
            got = frames.load_region("x", scale=0.5**level)
            np.testing.assert_array_equal(got, wanted[: got.shape[0], : got.shape[1]], err_msg=f"{name}, level {level}")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_a_mean_does_not_depend_on_what_is_averaged_with_it(dtype):
    """Blocks of any shape give the same bits, down to one pixel: numpy's sum adds in another order where it has one column."""
    rng = np.random.default_rng(3)
    pixels = rng.standard_normal((64, 48, 2)) + (1j * rng.standard_normal((64, 48, 2)) if dtype[0] == "c" else 0)
    pixels = pixels.astype(dtype)
    level = halve(pixels)
    for y, x, band in np.ndindex(level.shape):
        alone = halve(np.ascontiguousarray(pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, band : band + 1]))
        assert alone[0, 0, 0] == level[y, x, band], (y, x, band)
    for x in range(24):
        column = halve(np.ascontiguousarray(pixels[:, 2 * x : 2 * x + 2, :1]))
        np.testing.assert_array_equal(column, level[:, x : x + 1, :1])


def test_warped_channels_sequences_and_videos(tmp_path):
    """Every way in leads to the same pyramid."""
    fine, coarse = picture((200, 260, 3)), picture((50, 65, 1), "uint16")
    np.save(tmp_path / "fine.npy", fine)
    np.save(tmp_path / "coarse.npy", coarse)
    turn = [[0.9, -0.3, 20], [0.3, 0.9, 5], [0, 0, 1]]
    nf.write_video(tmp_path / "clip.mkv", [draw(number, (48, 64)) for number in range(5)], 25)
    found = []
    for backend in (None, "npy", BACKENDS["tiles"]):
        image = Image1(
            nf.ChannelInfo(tmp_path / "fine.npy", channels="r|g|b", img_from_src=np.diag([0.5, 0.5, 1])),
            nf.ChannelInfo(tmp_path / "coarse.npy", channels="nir", img_from_src=turn),
            shape=(100, 130), backend=backend, workdir=tmp_path / "work",
        )  # fmt: skip
        clips = nf.SimpleFrames({"v": tmp_path / "clip.mkv"}, backend=backend, workdir=tmp_path / "work")
        found.append(
            [
                image.load_region("x", np.s_[10:90, 20:110], scale=0.2),
                image.load_region("x", channels="nir|g", shape=(13, 17), interpolation={"g": "cubic"}),
                image.load_warped("x", [[0.2, 0.05, 0], [-0.05, 0.2, 9], [0, 0, 1]], (30, 30)),
                image.image("x").load_thumbnail(20),
                image.load_frame("x").to_dask().compute(),
                clips.load_region("v", scale=0.25),
                clips.load_region("v", np.s_[1:4, 5:41, 3:50], scale=1 / 7),
                clips.image("v").load_thumbnail(10),
            ]
        )
    for others in found[1:]:
        for first, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(first, other)


def test_thumbnails_are_scaled_reads(tmp_path):
    np.save(tmp_path / "a.npy", picture((301, 450, 3)))
    for frames in in_every_backend(tmp_path, tmp_path / "a.npy").values():
        np.testing.assert_array_equal(frames.image("x").load_thumbnail(100), frames.load_region("x", scale=100 / 450))


def test_a_level_is_read_from_what_it_needs_only(tmp_path):
    """A crop of a computed level, from the pixels under it; and all of it in blocks, from top to bottom."""
    pixels = picture((260, 300, 3))
    image = Recorder("a", pixels, format="array")
    pyramid = PyramidReader(image)
    out = np.empty((4, 6, 1), np.uint8)
    pyramid.read(range(20, 24), range(30, 36), [1], out, level=3)
    assert image.windows == [(range(160, 192), range(240, 288), 1)]
    level = pixels
    for _ in range(3):
        level = reference.half(level)
    np.testing.assert_array_equal(out, level[20:24, 30:36, 1:2])


class Recorder(ArrayReader):
    """An array that lists the windows that are read."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.windows = []

    def read_window(self, rows, cols, bands, out, level):
        self.windows.append((rows, cols, len(bands)))
        super().read_window(rows, cols, bands, out, level)


def test_a_huge_image_is_scaled_in_little_memory(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (6000, 6000, 1))
    array[::600] = 255  # the rest is a hole in the file
    del array
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, backend=None)
    frames.load_region("a", np.s_[:64, :64], scale=0.5)  # imports
    tracemalloc.start()
    try:
        small = frames.image("a").load_thumbnail(100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert small.shape == (100, 100, 1)
    assert peak < 20 * 2**20


# -- no drift -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retina", "hubble_deep_field"])
def test_the_brightness_of_photographs_does_not_drift(tmp_path, name):
    pixels = np.asarray(Image.open(nf.demo_paths()[name]))
    pixels = pixels[: pixels.shape[0] // 64 * 64, : pixels.shape[1] // 64 * 64]
    assert min(pixels.shape[:2]) >= 800
    for number, image in enumerate([pixels, np.ascontiguousarray(255 - pixels), pixels.astype(np.uint16) * 200 + 9]):
        np.save(tmp_path / f"{number}.npy", image)
        frames = nf.SimpleFrames({"a": tmp_path / f"{number}.npy"}, backend=None)
        for level in LEVELS:
            scaled = frames.load_region("a", scale=0.5**level)
            assert abs(scaled.mean() - image.mean()) < 0.02, (number, level)
    # A crop that begins between the pixels of a level is interpolated, and rounded once more.
    crop = pixels[1:801, 3:803]
    for scale in (1 / 2, 1 / 4):
        got = nf.SimpleFrames({"a": tmp_path / "0.npy"}, backend=None).load_region(
            "a", np.s_[1:801, 3:803], scale=scale
        )
        assert abs(got.mean() - crop.mean()) < 0.1  # the borders are averaged with what lies beyond the crop


@pytest.mark.parametrize("values", [(254, 255), (0, 1), (7, 8), (-2, -1)])
def test_halves_do_not_drift_where_all_values_are_alike(values):
    """Half up or half to even would move these by more than a tenth at each level."""
    pixels = np.random.default_rng(1).choice(np.array(values, np.int16), (1024, 1024, 1))
    level = pixels
    for _ in LEVELS:
        level = halve(level)
        assert abs(level.mean() - pixels.mean()) < 0.02


def test_flat_images_and_ramps_keep_their_values():
    flat = np.full((101, 67, 3), 200, np.uint8)
    ramp = np.broadcast_to((np.arange(1024) // 4).astype(np.uint8)[None, :, None], (1024, 1024, 1))
    level = ramp
    for number in LEVELS:
        flat, level = halve(flat), halve(level)
        assert (flat == 200).all()
        exact = ramp.reshape(1024, 1024 >> number, -1).mean(axis=(0, 2))
        assert np.abs(level[:, :, 0] - exact).max() <= 1
        assert abs(level.mean() - ramp.mean()) < 0.02


@pytest.mark.parametrize("bands", [1, 3, 14])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float16", "float32", "complex64"])
def test_large_levels_are_those_of_their_parts(dtype, bands):
    """The pixels are averaged in strips, and NaN is looked for in each: neither may show in the result."""
    pixels = picture((1301, 262, bands), dtype)
    if pixels.dtype.kind in "fc":
        pixels[40:44] = np.nan
        pixels[41, 7] = np.inf
        pixels[44:48] = -0.0
    level = halve(pixels)
    for top, left in ((0, 0), (21, 3), (22, 5), (404, 60), (648, 129)):
        part = halve(pixels[2 * top : 2 * top + 6, 2 * left : 2 * left + 8], (top, left))
        assert level[top : top + 3, left : left + 4].tobytes() == part.tobytes()
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize < 8:
        whole = np.pad(pixels.astype(np.int64), ((0, 1), (0, 0), (0, 0)), mode="edge")
        sums = whole.reshape(651, 2, 131, 2, bands).sum(axis=(1, 3))
        y, x, _ = np.ogrid[: sums.shape[0], : sums.shape[1], :1]
        np.testing.assert_array_equal(level, (sums + 1 + (y + x) % 2) // 4)


# -- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_masks_keep_their_area(tmp_path, backend, share):
    mask = np.random.default_rng(2).random((1280, 1280)) < share
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "labels.npy", mask.astype(np.uint8) * 3)
    masks = nf.SimpleFrames({"m": tmp_path / "mask.npy"}, backend=BACKENDS[backend], workdir=tmp_path / "work")
    labels = Image1(
        nf.ChannelInfo(tmp_path / "labels.npy", interpolation="nearest"),
        backend=BACKENDS[backend], workdir=tmp_path / "work",
    )  # fmt: skip
    for scale, tolerance in ((1 / 2, 0.01), (1 / 4, 0.01), (1 / 7, 0.02), (1 / 32, 0.04)):
        rows = np.floor((np.arange(int(1280 * scale + 0.5)) + 0.5) / scale + 1e-9).astype(int).clip(0, 1279)
        got = masks.load_region("m", scale=scale)[:, :, 0]
        np.testing.assert_array_equal(got, mask[np.ix_(rows, rows)])
        assert abs(got.mean() - share) < tolerance
        np.testing.assert_array_equal(labels.load_region("x", scale=scale)[:, :, 0], got * np.uint8(3))
        np.testing.assert_array_equal(masks.load_regions([("m", None)], scale=scale)[0, :, :, 0], got)
    majority = masks.load_region("m", scale=1 / 32, interpolation="linear")
    assert majority.mean() == (share > 0.5)  # a mean of 1,024 pixels, rounded once


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_stored_overviews_of_masks_keep_the_area_too(tmp_path):
    """For other programs that read the entry."""
    mask = np.random.default_rng(3).random((1024, 1024)) < 0.3
    np.save(tmp_path / "mask.npy", mask)
    frames = nf.SimpleFrames({"m": tmp_path / "mask.npy"}, workdir=tmp_path / "work")
    frames.prepare()
    (entry,) = frames.cache.ls()
    with rasterio.open(entry.path) as dataset:
        assert dataset.overviews(1) == [2, 4, 8]
        for factor in dataset.overviews(1):
            small = dataset.read(1, out_shape=(1024 // factor, 1024 // factor))
            assert abs(small.mean() - mask.mean()) < 0.02


def test_a_bool_channel_is_nearest_when_it_is_aligned(tmp_path):
    """30 % of small blocks, enlarged and shrunk by a map."""
    mask = np.random.default_rng(4).random((300, 300)) < 0.3
    np.save(tmp_path / "rgb.npy", picture((600, 600, 3)))
    np.save(tmp_path / "mask.npy", mask)
    frames = Image1(
        nf.ChannelInfo(tmp_path / "rgb.npy", channels="r|g|b"),
        nf.ChannelInfo(tmp_path / "mask.npy", channels="mask", img_from_src=np.diag([2, 2, 1])),
    )
    np.testing.assert_array_equal(frames.load_region("x", None, "mask")[:, :, 0], mask.repeat(2, 0).repeat(2, 1))
    both = frames.load_region("x", channels="mask|r", scale=1 / 16)
    np.testing.assert_array_equal(both[:, :, 1], frames.load_region("x", channels="r", scale=1 / 16)[:, :, 0])
    assert abs(both[:, :, 0].mean() - 0.3) < 0.05


def test_the_default_interpolation_of_a_channel(tmp_path):
    pixels = picture((40, 40, 1))
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", pixels)
    frames = Image1(
        nf.ChannelInfo(tmp_path / "a.npy", channels="a", interpolation="nearest"),
        nf.ChannelInfo(tmp_path / "b.npy", channels="b"),
        workdir=tmp_path / "work", backend="cog",
    )  # fmt: skip
    nearest, linear, cubic = (
        frames.load_region("x", channels="b", scale=0.3, interpolation=name)[:, :, 0]
        for name in ("nearest", "linear", "cubic")
    )
    for options, wanted in (
        ({}, (nearest, linear)),
        ({"interpolation": "cubic"}, (cubic, cubic)),
        ({"interpolation": {"b": "cubic"}}, (nearest, cubic)),
        ({"interpolation": {"a": "linear"}}, (linear, linear)),
    ):
        got = frames.load_region("x", channels="a|b", scale=0.3, **options)
        np.testing.assert_array_equal(got, np.stack(wanted, axis=2))


# -- thin images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 4000), (3, 4000), (4000, 2), (1, 1), (2, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"interpolation": "nearest"}, {"pad": "constant"}, {"pad": "edge"}, {"pad": "reflect"}]
)
def test_thin_images_keep_their_value(tmp_path, shape, options):
    np.save(tmp_path / "a.npy", np.full(shape, 200, np.uint8))
    for frames in in_every_backend(tmp_path, tmp_path / "a.npy").values():
        got = frames.load_region("x", scale=1 / 8, **options)
        assert got.shape == (*(max(1, int(extent / 8 + 0.5)) for extent in shape), 1)
        assert (got == 200).all()
        assert (frames.image("x").load_thumbnail() == 200).all()


def test_the_last_rows_keep_their_value(tmp_path):
    np.save(tmp_path / "a.npy", np.full((100, 100), 200, np.uint8))
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, backend=None)
    for first in range(90, 100):
        for scale in (1 / 4, 1 / 3, 1 / 50):
            assert (frames.load_region("a", np.s_[first:, :80], scale=scale) == 200).all()
    assert (frames.load_regions([("a", np.s_[99:, 99:])] * 2, scale=1 / 100) == 200).all()


# -- what files hold ----------------------------------------------------------------------------------------------


@pytest.fixture
def stale_overviews(tmp_path):
    """A TIFF whose overviews are not those of its image."""
    pixels = picture((400, 500, 1))
    path = tmp_path / "stale.tif"
    profile = {"driver": "GTiff", "height": 400, "width": 500, "count": 1, "dtype": "uint8", "tiled": True,
               "blockxsize": 64, "blockysize": 64, "transform": rasterio.Affine(2, 0, 0, 0, -2, 0)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.full((400, 500), 77, np.uint8), 1)
        dataset.build_overviews([2, 4])
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(pixels[:, :, 0], 1)
    return path, pixels


def test_overviews_of_a_source_are_used_on_request_only(tmp_path, stale_overviews):
    path, pixels = stale_overviews
    wanted = halve(halve(pixels))
    for frames in in_every_backend(tmp_path, path).values():
        np.testing.assert_array_equal(frames.load_region("x", scale=1 / 4), wanted)
    direct = Image1(nf.ChannelInfo(path), overviews="source")
    assert (direct.load_region("x", scale=1 / 4) == 77).all()
    np.testing.assert_array_equal(direct.load_region("x"), pixels)
    assert (nf.open(path, overviews="source").frames.image(str(path)).load_thumbnail(100) == 77).all()
    # An entry has levels of its own, and its key is the same.
    cached = Image1(nf.ChannelInfo(path), overviews="source", backend="cog", workdir=tmp_path / "work")
    assert cached.prepare().prepared == 0
    np.testing.assert_array_equal(cached.load_region("x", scale=1 / 4), wanted)


def test_overviews_of_a_source_without_any_are_its_own(tmp_path):
    pixels = picture((100, 130, 3))
    np.save(tmp_path / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, backend=None, overviews="source")
    np.testing.assert_array_equal(frames.load_region("a", scale=1 / 2), halve(pixels)[:50, :65])


def test_overviews_is_one_of_two(tmp_path):
    with pytest.raises(ValueError, match="overviews='mine'; allowed: 'own', 'source'"):
        nf.SimpleFrames({}, workdir=tmp_path, overviews="mine")


def test_overviews_of_an_older_rule_are_not_read(tmp_path, monkeypatch):
    pixels = picture((300, 200, 3))
    np.save(tmp_path / "a.npy", pixels)
    with monkeypatch.context() as patch:
        patch.setattr("ndframes.formats.tiled.cog_writer.RULE", 1)
        patch.setattr("ndframes.formats.tiled.cog_writer.halve", lambda part: halve(part) * 0)
        old = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=BACKENDS["tiles"])
        old.prepare()
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=BACKENDS["tiles"])
    assert frames.prepare().prepared == 0
    np.testing.assert_array_equal(frames.load_region("a", scale=1 / 2), halve(pixels))


def test_explain_tells_what_is_read(tmp_path):
    np.save(tmp_path / "a.npy", picture((300, 200, 3)))
    cog = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=BACKENDS["tiles"])
    cog.prepare()
    assert cog.explain("a", scale=1 / 4).files[0].level == 2
    assert cog.explain("a", scale=1 / 64).files[0].level == 5  # one more is computed
    flat = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=BACKENDS["no overviews"])
    flat.prepare()
    assert flat.explain("a", scale=1 / 4).files[0].level == 0


def test_a_damaged_overview_is_made_again_or_computed_from_the_source(tmp_path, caplog):
    pixels = picture((300, 200, 3))
    np.save(tmp_path / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=BACKENDS["tiles"])
    frames.prepare()
    wanted = halve(pixels)
    with caplog.at_level(logging.CRITICAL, "ndframes"):
        for _ in range(4):
            for entry in frames.cache.ls():
                data = bytearray(entry.path.read_bytes())
                data[2000 : len(data) - 4000] = bytes(len(data) - 6000)
                entry.path.write_bytes(data)
            frames.refresh()
            np.testing.assert_array_equal(frames.load_region("a", scale=1 / 2), wanted)
