"""Frames in other libraries: dask arrays, xarray coordinates, kwimage boxes and transforms."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import dask
import dask.array as da
import kwimage
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.waiting import wait_until

import ndframes as nf
from ndframes.frames.interop import find_chunk
from ndframes.geometry.regions import resolve_region, resolve_unclipped
from ndframes.system.stamp import stat_source

CODES = ("r", "g", "b")
SHAPE = (300, 420, 3)


class Walk(nf.Frames):
    """A sequence of images, one file each."""

    image_ids = ("walk",)

    def __init__(self, paths, **options):
        super().__init__(**options)
        self.paths = paths

    def build_pathinfo(self, image_id):
        images = [
            nf.PathInfo(number, (nf.ChannelInfo(path, channels="rgb"),)) for number, path in enumerate(self.paths)
        ]
        return nf.SequenceInfo.of(image_id, images)


def pixels_of(seed: int, shape=SHAPE, dtype="uint8") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


@pytest.fixture
def image(write_npy, tmp_path):
    """Frames over one image with small tiles, and its pixels."""
    backend = {"type": "cog", "config": {"blocksize": 64}}
    frames = nf.SimpleFrames({"a": write_npy("a", pixels_of(1))}, workdir=tmp_path / "work", backend=backend)
    return frames, pixels_of(1)


def wait_until_settled(frames):
    """Wait until the sources' stamps are old enough to identify their content, so that arrays keep their names."""
    files = [channel.path for image_id in frames for channel in frames.pathinfo(image_id).channels]
    wait_until(lambda: all(stat_source(path).is_settled(time.time_ns()) for path in files))


@pytest.fixture
def walk(write_npy, tmp_path):
    """A sequence of five images, and its pixels."""
    paths = [write_npy(f"t{number}", pixels_of(number)) for number in range(5)]
    backend = {"type": "cog", "config": {"blocksize": 64}}
    return Walk(paths, workdir=tmp_path / "work", backend=backend), np.stack([pixels_of(n) for n in range(5)])


# -- dask -----------------------------------------------------------------------------------------------------------


def test_an_array_equals_the_frame(image):
    frames, pixels = image
    lazy = frames.load_frame("a").to_dask(chunks="40 kB")
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype, lazy.chunksize) == (SHAPE, pixels.dtype, (128, 64, 3))
    np.testing.assert_array_equal(lazy.compute(), pixels)
    for region in (np.s_[70:200, 100:300], np.s_[::-7, 5, :2], np.s_[-3:, None, ..., 1], np.s_[[299, 3, 3]], np.s_[:0]):
        np.testing.assert_array_equal(lazy[region].compute(), pixels[region])
    np.testing.assert_array_equal((lazy.astype("int32") * 3).sum(axis=(0, 1)).compute(), pixels.sum((0, 1)) * 3)


def test_the_first_axis_of_a_sequence_is_time(walk):
    frames, pixels = walk
    lazy = frames.load_frame("walk", "b|r").to_dask(chunks=(2, 128, 128, 2))
    assert lazy.numblocks == (3, 3, 4, 1)
    np.testing.assert_array_equal(lazy.compute(), pixels[..., [2, 0]])
    np.testing.assert_array_equal(lazy[3:0:-1, 7, ::9].compute(), pixels[3:0:-1, 7, ::9][..., [2, 0]])
    assert frames.load_frame("walk").to_dask().chunks == ((5,), (300,), (420,), (3,))


@pytest.mark.parametrize("dtype", ["bool", "uint16", "int64", "float16", "float32", "complex64"])
def test_dtypes_are_kept(dtype, frames_of):
    pixels = pixels_of(3, (40, 50), dtype)
    lazy = frames_of(pixels).load_frame("a").to_dask(chunks=(16, 16, 1))
    assert lazy.dtype == dtype
    assert lazy.compute().dtype == dtype
    np.testing.assert_array_equal(lazy.compute()[:, :, 0], pixels)


def test_files_on_other_grids_and_quantized_ones(write_npy, tmp_path):
    class Scenes(nf.Frames):
        image_ids = (1,)

        def build_pathinfo(self, image_id):
            coarse = nf.ChannelInfo(
                write_npy("coarse", pixels_of(2, (75, 105))),
                channels="heat",
                img_from_src=np.diag([4, 4, 1]),
                quantization={"orig_min": -1, "orig_max": 1, "quant_max": 249},
            )
            return nf.PathInfo(image_id, (nf.ChannelInfo(write_npy("fine", pixels_of(1)), channels="rgb"), coarse))

    frame = Scenes(workdir=tmp_path / "work").load_frame(1, "heat|g")
    lazy = frame.to_dask(chunks=(97, 103, 1))
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy.compute(), frame[...])


def test_nothing_is_read_before_it_is_computed(image):
    frames, _ = image
    lazy = frames.load_frame("a").to_dask(chunks=(64, 64, 3))
    photo = frames.load_frame("a").to_xarray()
    for entry in frames.cache.ls():  # so that reading fails from now on
        os.truncate(entry.path, 0)
    assert lazy.shape == photo.shape == SHAPE
    os.remove(frames.pathinfo("a").channels[0].path)
    with pytest.raises(nf.SourceMissingError, match="image 'a'"):
        lazy[:1, :1].compute()


def test_blocks_are_whole_tiles(image):
    frame = image[0].load_frame("a")
    assert frame.to_dask().chunks == ((300,), (420,), (3,))
    assert frame.to_dask(chunks="1 B").chunksize == (64, 64, 3)
    assert frame.to_dask(chunks="50 kB").chunksize == (128, 128, 3)
    assert frame.to_dask(chunks=-1).numblocks == (1, 1, 1)
    assert frame.to_dask(chunks={0: 100}).chunks == ((100, 100, 100), (420,), (3,))
    assert frame.to_dask(chunks="auto").shape == SHAPE


def test_a_file_without_tiles_is_cut_by_rows(frames_of):
    pixels = pixels_of(5, (900, 200, 3))
    lazy = frames_of(pixels, backend=None).load_frame("a").to_dask(chunks="100 kB")
    assert lazy.chunksize == (128, 200, 3)
    np.testing.assert_array_equal(lazy.compute(), pixels)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_block_is_within_the_limit_or_one_tile(data):
    extents = st.integers(1, 50_000)
    ndim = data.draw(st.sampled_from([3, 4]))
    shape = (*(data.draw(extents) for _ in range(ndim - 1)), data.draw(st.integers(1, 9)))
    tile = (*(1 for _ in shape[:-3]), data.draw(st.integers(1, 512)), data.draw(st.integers(1, 512)), shape[-1])
    limit = data.draw(st.integers(1, 10**8))
    chunk = find_chunk(shape, tile, 2, limit)
    least = np.minimum(shape, tile)
    grown = np.array(chunk)
    assert ((least <= grown) & (grown <= shape)).all()
    assert np.prod(grown, dtype=object) * 2 <= limit or (grown == least).all()
    assert all(extent == whole or extent % part == 0 for extent, whole, part in zip(chunk, shape, tile, strict=True))
    assert (
        all(
            extent == whole or np.prod(grown, dtype=object) * 4 * 2 > limit
            for extent, whole in zip(chunk[:-1], shape[:-1], strict=True)
        )
        or chunk[-3:-1] == shape[-3:-1]
    )


@pytest.mark.parametrize("chunks", ["many", (64, 64), 1.5, (64, 64, 2, 1), ("a", 1, 1)])
def test_invalid_chunks(image, chunks):
    with pytest.raises(nf.RegionError, match="image 'a': chunks="):
        image[0].load_frame("a").to_dask(chunks=chunks)


def test_a_name_identifies_the_pixels(image, walk):
    frames, other = image[0], walk[0]
    wait_until_settled(frames)
    frame = frames.load_frame("a")
    arrays = [
        frame.to_dask(),
        frame.to_dask(chunks=(100, 100, 3)),
        frames.load_frame("a", "r|g").to_dask(),
        frames.load_frame("a", "g|r").to_dask(),
        nf.SimpleFrames({"a": frames.pathinfo("a").channels[0].path}, backend=None).load_frame("a").to_dask(),
        other.load_frame("walk").to_dask(),
    ]
    assert len({array.name for array in arrays}) == len(arrays)
    twin = pickle.loads(pickle.dumps(frames)).load_frame("a")
    assert twin.to_dask().name == frame.to_dask().name
    assert da.from_array(twin).name == da.from_array(frame).name


def test_names_are_deterministic(image, walk):
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        for frames, image_id in ((image[0], "a"), (walk[0], "walk")):
            wait_until_settled(frames)
            assert frames.load_frame(image_id).to_dask().name == frames.load_frame(image_id).to_dask().name


def test_a_name_is_the_same_in_another_process(image):
    wait_until_settled(image[0])
    frame = image[0].load_frame("a")
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).to_dask().name)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(frame), capture_output=True, check=True)
    assert done.stdout.decode().strip() == frame.to_dask().name


def test_a_changed_source_has_another_name(image):
    frames, _ = image
    path = frames.pathinfo("a").channels[0].path
    before = frames.load_frame("a").to_dask()
    status = os.stat(path)
    np.save(path, pixels_of(2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same size and the same time
    after = frames.load_frame("a").to_dask()
    assert after.name != before.name
    np.testing.assert_array_equal(after.compute(), pixels_of(2))
    np.save(path, pixels_of(1))
    os.utime(path, (1, 1))  # long ago, so that the stamp alone identifies the content
    assert frames.load_frame("a").to_dask().name not in (before.name, after.name)


def test_a_block_of_a_changed_source_raises(image, walk):
    lazy, photo = image[0].load_frame("a").to_dask(), image[0].load_frame("a").to_xarray()
    np.save(image[0].pathinfo("a").channels[0].path, pixels_of(2))
    for array in (lazy, photo):
        with pytest.raises(nf.SourceChangedError, match=r"image 'a': .*a\.npy was changed since"):
            array.compute()
    lazy = walk[0].load_frame("walk").to_dask(chunks=(1, 300, 420, 3))
    np.save(walk[0].paths[3], pixels_of(9))
    np.testing.assert_array_equal(lazy[:3].compute(), walk[1][:3])
    with pytest.raises(nf.SourceChangedError, match=r"t3\.npy"):
        lazy[3].compute()


def test_a_missing_source_is_read_from_the_cache_if_allowed(write_npy, tmp_path):
    path = write_npy("a", pixels_of(1))
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "work", when_source_missing="use")
    lazy = frames.load_frame("a").to_dask(chunks=(100, 100, 3))
    os.remove(path)
    np.testing.assert_array_equal(lazy.compute(), pixels_of(1))
    np.testing.assert_array_equal(frames.load_frame("a").to_dask().compute(), pixels_of(1))


def test_a_graph_pickles_small(image, walk):
    for frames, image_id in ((image[0], "a"), (walk[0], "walk")):
        lazy = frames.load_frame(image_id).to_dask(chunks="20 kB")
        frames.load_region(image_id)  # open files are not pickled
        graph = dict(lazy.__dask_graph__())
        assert len(graph) > 10
        sizes = sorted(len(pickle.dumps(task)) for task in graph.values())
        assert sizes[-1] < 6000  # the frames, once
        assert sizes[-2] < 1500  # each block


def compute_and_compare(image, walk, **options):
    for (frames, pixels), image_id in ((image, "a"), (walk, "walk")):
        lazy = frames.load_frame(image_id).to_dask(chunks="60 kB")
        np.testing.assert_array_equal(lazy.compute(**options), pixels)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_of_this_process(image, walk, scheduler):
    compute_and_compare(image, walk, scheduler=scheduler, num_workers=2)


def test_a_scheduler_with_processes(image, walk):
    # One pool for both: each of its processes imports dask, which takes a second.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        compute_and_compare(image, walk, scheduler="processes", pool=pool)


def test_a_cluster_on_loopback(image, walk, recwarn):
    import distributed

    settings_ = {"distributed.worker.daemon": True, "distributed.admin.tick.limit": "60 s"}
    with (
        dask.config.set(settings_),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        for (frames, pixels), image_id in ((image, "a"), (walk, "walk")):
            lazy = frames.load_frame(image_id).to_dask(chunks="20 kB")
            np.testing.assert_array_equal(lazy.compute(), pixels)
            assert lazy.sum().compute() == pixels.sum()
        frame = image[0].load_frame("a")
        photo = frame.to_xarray(chunks=(100, 100, 3))
        np.testing.assert_allclose(photo.mean("channel").compute(), image[1].mean(2))
        np.save(image[0].pathinfo("a").channels[0].path, pixels_of(7))
        with pytest.raises(nf.SourceChangedError, match="image 'a'"):
            photo.max().compute()
        np.testing.assert_array_equal(image[0].load_frame("a").to_dask(chunks="20 kB").compute(), pixels_of(7))


# -- xarray ---------------------------------------------------------------------------------------------------------


def test_a_data_array_has_coordinates(image):
    frames, pixels = image
    photo = frames.load_frame("a", "b|r").to_xarray(chunks=(100, 100, 1))
    assert isinstance(photo, xarray.DataArray)
    assert photo.dims == ("y", "x", "channel")
    assert photo.chunks == ((100, 100, 100), (100, 100, 100, 100, 20), (1, 1))
    assert photo.attrs == {"image_id": "a"}
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo.y, np.arange(300) + 0.5)
    np.testing.assert_array_equal(photo.x, np.arange(420) + 0.5)
    assert photo.channel.values.tolist() == ["b", "r"]
    np.testing.assert_array_equal(photo.values, pixels[..., [2, 0]])
    np.testing.assert_array_equal(photo.sel(y=slice(10, 20), x=7.5, channel="r"), pixels[10:20, 7, 0])
    np.testing.assert_array_equal(photo.sel(x=[3.1, 8.9], method="nearest").isel(y=0), pixels[0, [3, 8]][:, [2, 0]])


def test_a_sequence_as_a_data_array(walk):
    frames, pixels = walk
    movie = frames.load_frame("walk").to_xarray()
    assert movie.dims == ("t", "y", "x", "channel")
    assert movie.t.values.tolist() == [0, 1, 2, 3, 4]
    assert movie.attrs == {"image_id": "walk"}
    np.testing.assert_array_equal(movie.sel(t=3, channel=["g"]).values, pixels[3][..., [1]])
    np.testing.assert_array_equal(movie.median("t").values, np.median(pixels, axis=0))


def test_coordinates_agree_with_load_warped(image):
    """xarray's interpolation between the coordinates equals a warp."""
    frames, _ = image
    photo = frames.load_frame("a").to_xarray().astype(np.float64).compute()
    shifted = photo.interp(x=photo.x[:-1] + 0.25)
    warped = frames.load_warped("a", [[1, 0, -0.25], [0, 1, 0]], (300, 419))
    assert np.abs(shifted.values - warped).max() <= 0.5


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [("dask", "to_dask", "dask"), ("xarray", "to_xarray", "xarray"), ("dask", "to_xarray", "dask")],
)
def test_a_missing_library_names_the_command_that_installs_it(missing, call, extra):
    code = f"""
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == {missing!r} else PathFinder.find_spec(name, path, target)

sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [Finder]
import ndframes as nf
try:
    nf.SimpleFrames.demo(backend=None).load_frame("coffee").{call}()
except nf.MissingExtraError as error:
    print(error, "/", error.name)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert printed.endswith(f'pip install "ndframes[{extra}]" / {missing}\n')


# -- boxes ----------------------------------------------------------------------------------------------------------

BOX = [10.2, 20.9, 30.1, 40.0]  # left, top, right, bottom
COVERED = np.s_[20:40, 10:31]


@pytest.mark.parametrize("format_", ["ltrb", "xywh", "cxywh", "xxyy"])
def test_a_box_is_the_pixels_that_it_touches(image, format_):
    frames, pixels = image
    several = kwimage.Boxes([BOX], "ltrb").toformat(format_)
    for box in (several, several[0], kwimage.Box(several, _check=False)):
        np.testing.assert_array_equal(frames.load_region("a", box), pixels[COVERED])
        np.testing.assert_array_equal(frames.load_region("a", (box, 1)), pixels[COVERED][..., 1])
        np.testing.assert_array_equal(frames.load_frame("a")[box], pixels[COVERED])
    np.testing.assert_array_equal(frames.load_region("a", several.quantize()), pixels[COVERED])
    assert frames.explain("a", several).shape == (20, 21, 3)
    (part,) = frames.image("a").load_parts(several)
    np.testing.assert_array_equal(part.pixels, pixels[COVERED])


def test_tensors_in_boxes(image):
    """The data of a box may be anything that numpy converts to an array."""

    class Corners:
        data = ((1, 2, 3, 4),)

        def to_ltrb(self):
            return self

    np.testing.assert_array_equal(image[0].load_region("a", Corners()), image[1][2:4, 1:3])


def test_a_box_does_not_wrap(image):
    frames, pixels = image
    box = kwimage.Boxes([[-5, -7, 10, 20]], "xywh")
    np.testing.assert_array_equal(frames.load_region("a", box), pixels[:13, :5])
    np.testing.assert_array_equal(
        frames.load_region("a", kwimage.Boxes([[400, 290, 50, 50]], "xywh")), pixels[290:, 400:]
    )
    assert frames.load_region("a", kwimage.Boxes([[-20, 3, 10, 10]], "xywh")).shape == (10, 0, 3)
    padded = frames.load_region("a", box, pad="constant", fill=9)
    np.testing.assert_array_equal(padded, np.pad(pixels[:13, :5], ((7, 0), (5, 0), (0, 0)), constant_values=9))
    np.testing.assert_array_equal(
        frames.load_region("a", box, scale=0.5), frames.load_region("a", np.s_[:13, :5], scale=0.5)
    )
    np.testing.assert_array_equal(
        frames.load_region("a", box, scale=0.5, pad="edge"),
        frames.load_region("a", np.s_[-7:13, -5:5], scale=0.5, pad="edge"),
    )


def test_a_box_in_a_sequence(walk):
    frames, pixels = walk
    box = kwimage.Boxes([BOX], "ltrb")
    np.testing.assert_array_equal(frames.load_region("walk", box), pixels[(slice(None), *COVERED)])
    np.testing.assert_array_equal(frames.load_region("walk", (slice(1, 3), box)), pixels[(slice(1, 3), *COVERED)])
    np.testing.assert_array_equal(frames.load_region("walk", (2, box, 0)), pixels[(2, *COVERED, 0)])
    outside = kwimage.Boxes([[-3, -2, 6, 8]], "xywh")
    np.testing.assert_array_equal(
        frames.load_region("walk", outside, pad="edge"),
        np.pad(pixels[:, :6, :3], ((0, 0), (2, 0), (3, 0), (0, 0)), mode="edge"),
    )
    np.testing.assert_array_equal(
        frames.load_region("walk", (slice(1, 3), outside, slice(1, 3)), scale=2),
        frames.load_region("walk", np.s_[1:3, :6, :3, 1:3], scale=2),
    )


def test_many_boxes_are_a_batch(image):
    frames, pixels = image
    boxes = kwimage.Boxes([[3, 4, 32, 32], [100.5, 50, 31, 31.5], [-8, 10, 40, 32]], "xywh")
    batch = frames.load_regions([("a", box) for box in boxes])
    corners = [(4, 36, 3, 35), (50, 82, 100, 132), (10, 42, 0, 32)]
    for crop, (top, bottom, left, right) in zip(batch, corners, strict=True):
        np.testing.assert_array_equal(crop, pixels[top:bottom, left:right])
    padded = frames.load_regions([("a", box) for box in boxes[[0, 2]].quantize()], pad="reflect", shape=(16, 16))
    assert padded.shape == (2, 16, 16, 3)


def test_an_invalid_box(image):
    frames, _ = image
    two = kwimage.Boxes([BOX, BOX], "ltrb")
    with pytest.raises(nf.RegionError, match=r"a region is one box, got 2; load_regions reads many"):
        frames.load_region("a", two)
    with pytest.raises(nf.RegionError, match=r"got \[nan, "):
        frames.load_region("a", kwimage.Boxes([[np.nan, 0, 1, 1]], "ltrb"))
    with pytest.raises(nf.RegionError, match="corners of a box must be finite"):
        frames.load_region("a", kwimage.Boxes([[0, 0, np.inf, 1]], "ltrb"), pad="edge")
    with pytest.raises(nf.RegionError, match="a box ends before it begins: left 9, top 0, right 2"):
        frames.load_region("a", kwimage.Boxes([[9, 0, 2, 1]], "ltrb"), pad="edge")
    with pytest.raises(nf.RegionIndexError, match="the region has 4 axes"):
        frames.load_region("a", (two[0], two[1]))


corners = st.floats(-1e4, 1e4)


@settings(max_examples=50, deadline=None)
@given(corners, corners, st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_box_selects_the_pixels_that_it_touches(left, top, width, height):
    box = kwimage.Boxes([[left, top, left + width, top + height]], "ltrb")
    rows, cols, _ = resolve_unclipped(box, (100, 80, 3))
    for axis, low, high in ((rows, top, top + height), (cols, left, left + width)):
        assert axis.start <= low < axis.start + 1
        assert axis.stop - 1 < high <= axis.stop
    inner = resolve_region(box, (100, 80, 3)).ranges
    assert [*inner[0]] == [row for row in range(100) if row in rows]
    assert [*inner[1]] == [col for col in range(80) if col in cols]


# -- transforms -----------------------------------------------------------------------------------------------------


class Matrix:
    """Has only a matrix."""

    def __init__(self, matrix):
        self.matrix = matrix


def test_an_affine_of_kwimage_is_a_transform(image):
    frames, _ = image
    affine = kwimage.Affine.affine(scale=(0.7, 0.8), theta=0.3, offset=(12.5, -3), shearx=0.1)
    want = frames.load_warped("a", affine.matrix, (150, 160))
    assert want.any()
    for given_ in (affine, Matrix(affine.matrix), Matrix(affine.matrix.tolist()), affine.matrix[:2]):
        np.testing.assert_array_equal(frames.load_warped("a", given_, (150, 160)), want)


def test_an_affine_of_kwimage_is_the_matrix_of_a_file(write_npy):
    path, affine = write_npy("a", pixels_of(4, (30, 40))), kwimage.Affine.affine(scale=2, offset=(3, 5))
    infos = [nf.ChannelInfo(path, img_from_src=given_) for given_ in (affine, Matrix(affine.matrix), affine.matrix)]
    assert len(set(infos)) == 1
    assert infos[0].matrix.tolist() == [[2, 0, 3], [0, 2, 5], [0, 0, 1]]


def test_a_warped_box_is_the_crop_of_the_warped_image(image):
    """Boxes and transforms use one convention, so a warped box covers the warped pixels of the box."""
    frames, _ = image
    affine = kwimage.Affine.affine(scale=0.5, offset=(-10, -20))
    box = kwimage.Boxes([[40, 60, 64, 32]], "xywh")
    moved = box.warp(affine)
    whole = frames.load_warped("a", affine, (130, 200))
    rows, cols, _ = resolve_region(moved, whole.shape).ranges
    np.testing.assert_array_equal(
        frames.load_region("a", box, scale=0.5), whole[rows.start : rows.stop, cols.start : cols.stop]
    )
