"""Frames: every region equals numpy's, through every backend."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndframes as nf

DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip


def photographs() -> dict[str, np.ndarray]:
    frames = nf.SimpleFrames.demo(backend=None)
    return {image_id: frames.load_image(image_id) for image_id in frames}


PHOTOGRAPHS = photographs()


def assert_is_owned(crop: np.ndarray) -> None:
    assert crop.flags.c_contiguous
    assert crop.flags.owndata
    assert crop.flags.writeable
    assert type(crop) is np.ndarray


def regions(shape):
    """Numpy's basic indices, and slices that reach far outside."""
    bound = st.none() | st.integers(-2 * max(shape), 2 * max(shape))
    step = st.none() | st.integers(-9, 9).filter(bool)
    wild = st.tuples(*(st.builds(slice, bound, bound, step) for _ in shape))
    return hnp.basic_indices(shape, allow_newaxis=False) | wild


@pytest.fixture(scope="module")
def photograph_frames(backend, tmp_path_factory):
    return nf.SimpleFrames.demo(workdir=tmp_path_factory.mktemp("photographs"), backend=backend)


@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_a_region_of_a_photograph_equals_numpy(photograph_frames, data):
    image_id = data.draw(st.sampled_from(sorted(PHOTOGRAPHS)))
    whole = PHOTOGRAPHS[image_id]
    region = data.draw(regions(whole.shape))
    crop = photograph_frames.load_region(image_id, region)
    assert crop.dtype == whole.dtype
    np.testing.assert_array_equal(crop, whole[region])
    assert_is_owned(crop)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_padded_region_equals_a_crop_of_the_padded_image(photograph_frames, data):
    image_id = data.draw(st.sampled_from(["astronaut", "chelsea", "moon"]))
    pad = data.draw(st.sampled_from(["constant", "edge", "reflect"]))
    whole = PHOTOGRAPHS[image_id]
    margin = 700  # wider than the images, so that reflections repeat
    starts = [data.draw(st.integers(-margin, extent + margin)) for extent in whole.shape[:2]]
    lengths = [data.draw(st.integers(0, 300)) for _ in range(2)]
    steps = [data.draw(st.integers(1, 5)) for _ in range(2)]
    region = tuple(
        slice(start, min(start + length, extent + margin), step)
        for start, length, step, extent in zip(starts, lengths, steps, whole.shape, strict=False)
    )
    keywords = {"constant_values": 7} if pad == "constant" else {}
    padded = np.pad(whole, ((margin, margin), (margin, margin), (0, 0)), mode=pad, **keywords)
    wanted = padded[tuple(slice(item.start + margin, item.stop + margin, item.step) for item in region)]
    crop = photograph_frames.load_region(image_id, region, pad=pad, fill=7)
    np.testing.assert_array_equal(crop, wanted)
    assert_is_owned(crop)


@pytest.mark.parametrize(
    ("dtype", "band_count"), [*product(DTYPES, [3]), *product(["bool", "uint8", "uint16", "float32"], [1, 2, 4, 7])]
)
def test_every_dtype(backend, dtype, band_count, frames_of):
    values = np.random.default_rng(7).integers(0, 256, (70, 133, band_count * np.dtype(dtype).itemsize), np.uint8)
    whole = values.view(dtype) if dtype != "bool" else values > 127
    frames = frames_of(whole, backend=backend)
    for region in (None, np.s_[3:69:7, ::-1], np.s_[-5:, 64:66], np.s_[..., -1:], np.s_[9:9], np.s_[3, 4]):
        crop = frames.load_region("a", region)
        assert crop.dtype == whole.dtype
        with np.errstate(invalid="ignore"):  # random bits hold signalling NaNs
            np.testing.assert_array_equal(crop, whole if region is None else whole[region])
    bytes_back = frames.load_image("a").view(np.uint8)
    if dtype not in ("float16",):  # GDAL converts 16-bit floats to 32 bits, which makes signalling NaNs quiet
        np.testing.assert_array_equal(bytes_back, np.ascontiguousarray(whole).view(np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (1, 900, 3), (900, 1, 1), (257, 255, 2), (16, 16, 33)])
def test_odd_shapes(backend, shape, frames_of):
    whole = np.random.default_rng(1).integers(0, 60000, shape).astype(np.uint16)
    wanted = whole[:, :, None] if whole.ndim == 2 else whole
    np.testing.assert_array_equal(frames_of(whole, backend=backend).load_image("a"), wanted)


def test_a_gray_image_has_a_channel_axis(frames_of):
    frames = frames_of(np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert frames.load_region("a").tolist() == [[[0], [1], [2]], [[3], [4], [5]]]


# -- channels ---------------------------------------------------------------------------------------------------------


class TwoFiles(nf.Frames):
    """A user's subclass: a property and a method."""

    image_ids = property(lambda self: ["scene"])

    def __init__(self, rgb_path, nir_path, **options):
        super().__init__(**options)
        self.paths = rgb_path, nir_path

    def build_pathinfo(self, image_id):
        return nf.PathInfo(
            image_id,
            default="r|g|b",
            channels=(nf.ChannelInfo(self.paths[0], channels="r|g|b"), nf.ChannelInfo(self.paths[1], channels="nir")),
        )


@pytest.fixture
def two_files(write_npy, tmp_path, backend):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    nir = np.random.default_rng(1).integers(0, 60000, (40, 50)).astype(np.uint16)
    frames = TwoFiles(write_npy("rgb", rgb), write_npy("nir", nir), workdir=tmp_path / "w", backend=backend)
    return frames, rgb, nir


def test_channels_are_fused_in_the_requested_order(two_files):
    frames, rgb, nir = two_files
    region = np.s_[5:20:3, -9:]
    crop = frames.load_region("scene", region, "nir|g|r")
    assert crop.dtype == np.uint16
    wanted = np.dstack([nir, rgb[..., 1], rgb[..., 0]])[region]
    np.testing.assert_array_equal(crop, wanted)
    np.testing.assert_array_equal(frames.load_region("scene", region, ["nir", "g", "r"]), wanted)
    assert_is_owned(crop)


def test_the_default_channels(two_files):
    frames, rgb, nir = two_files
    assert frames.load_region("scene").dtype == np.uint8
    np.testing.assert_array_equal(frames.load_region("scene"), rgb)
    np.testing.assert_array_equal(frames.load_region("scene", None, "<all>"), np.dstack([rgb, nir]))
    np.testing.assert_array_equal(frames.load_region("scene", np.s_[:, :, 1:], "b|nir"), nir[..., None])
    assert frames.load_frame("scene", "nir").channels == ("nir",)


def test_an_unread_file_is_never_opened(write_npy, tmp_path):
    frames = TwoFiles(write_npy("rgb", np.zeros((4, 4, 3), np.uint8)), "/missing.tif", backend=None)
    assert not frames.load_region("scene").any()
    with pytest.raises(nf.SourceMissingError, match="image 'scene'.*/missing.tif"):
        frames.load_region("scene", None, "nir")


def test_an_unknown_channel_lists_the_known_ones(two_files):
    frames, *_ = two_files
    for request in ("swir", "r|swir", ["swir"]):
        with pytest.raises(nf.ChannelError, match=r"image 'scene'.*swir.*r\|g\|b\|nir"):
            frames.load_region("scene", None, request)


def test_files_of_another_size_are_refused(write_npy):
    frames = TwoFiles(write_npy("a", np.zeros((4, 4, 3), np.uint8)), write_npy("b", np.zeros((8, 8))), backend=None)
    with pytest.raises(nf.UnreadableImageError, match="8 x 8 px in an image of 4 x 4 px; say how it lies"):
        frames.load_region("scene", None, "r|nir")


def test_a_wrong_number_of_channel_names(write_npy):
    frames = TwoFiles(write_npy("a", np.zeros((4, 4, 2), np.uint8)), write_npy("b", np.zeros((4, 4))), backend=None)
    with pytest.raises(nf.UnreadableImageError, match="2 bands, but 3 channels"):
        frames.load_region("scene")


# -- sources that change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashid_mode", ["PATH", "PIXELS"])
def test_an_edited_source_is_read_again(backend, write_npy, tmp_path, hashid_mode):
    path = write_npy("a", np.zeros((8, 9), np.uint8))
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w", backend=backend, hashid_mode=hashid_mode)
    for number in range(1, 20):
        assert (frames.load_region("a") == number - 1).all()
        np.save(path, np.full((8 + number % 3, 9), number, np.uint8))
        assert frames.load_region("a").shape == (8 + number % 3, 9, 1)
        assert (frames.load_image("a", cache=False) == number).all()


def test_equal_names_in_different_folders_do_not_share(tmp_path, backend):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        np.save(tmp_path / str(number) / "x.npy", np.full((5, 5), number))
    frames = nf.SimpleFrames({n: tmp_path / str(n) / "x.npy" for n in (1, 2)}, workdir=tmp_path / "w", backend=backend)
    assert [int(frames.load_region(n)[0, 0, 0]) for n in (1, 2)] == [1, 2]


def test_copies_share_one_entry_by_content(write_npy, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    paths = {name: write_npy(name, array) for name in ("a", "b")}
    by_content = nf.SimpleFrames(paths, workdir=tmp_path / "content", hashid_mode="PIXELS")
    report = by_content.prepare()
    assert (report.prepared, report.present, len(list(by_content.cache.ls()))) == (1, 1, 1)
    for name in paths:
        np.testing.assert_array_equal(by_content.load_region(name), array)
    by_path = nf.SimpleFrames(paths, workdir=tmp_path / "path")
    assert by_path.prepare().prepared == 2


def test_a_source_that_is_gone_raises(frames_of, gradient, tmp_path):
    frames = frames_of(gradient)
    frames.load_region("a")
    (tmp_path / "a.npy").unlink()
    with pytest.raises(nf.SourceMissingError, match="image 'a'.*a.npy does not exist"):
        frames.load_region("a")


# -- invalid requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "error"),
    [
        (np.s_[0.5:2], nf.RegionError),
        (1.0, nf.RegionError),
        (True, nf.RegionError),
        ((None, slice(2)), nf.RegionError),
        ([1, 2], nf.RegionError),
        ("0:5", nf.RegionError),
        (np.s_[::0], nf.RegionError),
        (np.s_[..., ...], nf.RegionError),
        (np.s_[:, :, :, :], nf.RegionIndexError),
        (37, nf.RegionIndexError),
        ((slice(None), -54), nf.RegionIndexError),
    ],
)
def test_an_invalid_region(frames_of, gradient, region, error):
    with pytest.raises(error, match="image 'a'"):
        frames_of(gradient).load_region("a", region)


@pytest.mark.parametrize("region", [np.s_[5:2], np.s_[::-1], np.s_[0:5.5], (3, slice(5)), np.s_[:, 2:9:-1]], ids=str)
def test_a_padded_region_has_positive_steps(frames_of, gradient, region):
    with pytest.raises(nf.RegionError, match="image 'a'"):
        frames_of(gradient).load_region("a", region, pad="edge")


@pytest.mark.parametrize("fill", [-1, 65536, 0.5, float("nan"), 1j, "x"])
def test_a_fill_value_outside_the_dtype_is_refused(frames_of, gradient, fill):
    with pytest.raises(nf.RegionError, match="fill"):
        frames_of(gradient).load_region("a", np.s_[-1:2], pad="constant", fill=fill)


def test_an_unknown_pad_names_the_allowed_ones(frames_of, gradient):
    with pytest.raises(nf.RegionError, match="'constant', 'edge', 'reflect'"):
        frames_of(gradient).load_region("a", np.s_[-1:2], pad="wrap")


@pytest.mark.parametrize("pad", ["constant", "edge", "reflect"])
def test_a_region_too_large_fails_before_it_allocates(frames_of, gradient, pad):
    frames = frames_of(gradient)
    frames.load_region("a", np.s_[:5, :5], pad=pad)
    tracemalloc.start()
    try:
        with pytest.raises(nf.RegionTooLargeError, match="over the limit"):
            frames.load_region("a", (slice(-(10**9), 10**9), slice(0, 10**9)), pad=pad)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    small = frames_of(gradient, max_region_bytes=1000)
    with pytest.raises(nf.RegionTooLargeError, match=r"11,766 bytes, over the limit of 1,000"):
        small.load_region("a")
    assert small.load_region("a", np.s_[:5, :5]).nbytes == 150


@pytest.mark.parametrize("image_id", ["b", 7, None, ("a",), [1]])
def test_an_unknown_id(frames_of, gradient, image_id):
    frames = frames_of(gradient)
    assert image_id not in frames
    with pytest.raises(nf.ImageIdError, match="no image"):
        frames.load_region(image_id)


def test_a_shifted_channel_is_aligned_and_an_incomplete_quantization_refused(write_npy):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    path = write_npy("a", pixels)

    class Odd(nf.Frames):
        image_ids = property(lambda self: [0, 1])

        def build_pathinfo(self, image_id):
            odd = [{"img_from_src": [[1, 0, 2], [0, 1, 1]]}, {"quantization": {"orig_min": 0}}][image_id]
            return nf.PathInfo(image_id, (nf.ChannelInfo(path, **odd),))

    np.testing.assert_array_equal(Odd(backend=None).load_region(0)[..., 0], np.pad(pixels, ((1, 0), (2, 0))))
    with pytest.raises(nf.PathInfoError, match="image 1: .*has no quant_max"):
        Odd(backend=None).load_region(1)


def test_errors_of_build_pathinfo_are_not_wrapped():
    class Broken(nf.Frames):
        image_ids = property(lambda self: [1])

        def build_pathinfo(self, image_id):
            raise KeyError("file_name")

    with pytest.raises(KeyError, match="file_name"):
        Broken(backend=None).load_region(1)
    with pytest.raises(nf.ImageIdError, match="no image 2"):
        Broken(backend=None).load_region(2)


# -- a collection -----------------------------------------------------------------------------------------------------


def test_it_is_a_collection():
    frames = nf.SimpleFrames.demo(backend=None)
    assert len(frames) == len(frames.image_ids) == len(list(frames))
    assert "moon" in frames
    assert [frames[image_id].image_id for image_id in frames] == list(frames.image_ids)
    assert frames["astronaut"].shape == (512, 512, 3)
    assert "8 images" in repr(frames)
    with pytest.raises(KeyError):
        frames[0]


def test_it_pickles_small_and_reads_the_same(two_files):
    frames, rgb, _ = two_files
    frames.load_region("scene")
    for twin in (pickle.loads(pickle.dumps(frames)), copy.copy(frames), copy.deepcopy(frames)):
        np.testing.assert_array_equal(twin.load_region("scene"), rgb)
    assert len(pickle.dumps(frames)) < 2000
    thousand = nf.SimpleFrames({number: f"/data/images/{number:06d}.png" for number in range(1000)}, backend=None)
    assert len(pickle.dumps(thousand)) < 50_000


def test_a_backend_per_channel(write_npy, tmp_path):
    paths = {name: write_npy(name, np.full((9, 9), number)) for number, name in enumerate("abc")}
    frames = nf.SimpleFrames(
        paths, workdir=tmp_path / "w", backend=lambda image_id, info: {"a": None, "b": "npy", "c": "cog"}[image_id]
    )
    assert [int(frames.load_region(name)[0, 0, 0]) for name in "abc"] == [0, 1, 2]
    assert sorted(entry.path.suffix for entry in frames.cache.ls()) == [".npy", ".tif"]


def test_memory_stays_within_its_budget(write_npy):
    paths = {number: write_npy(str(number), np.full((9, 9), number)) for number in range(50)}
    frames = nf.SimpleFrames(paths, backend=None, memory_bytes=40_000)
    for _ in range(2):
        for number in range(50):
            assert int(frames.load_region(number)[0, 0, 0]) == number
        assert 0 < frames._images.used_bytes <= 40_000


# -- explain ----------------------------------------------------------------------------------------------------------


def test_explain_lists_what_a_read_touches_and_converts_nothing(frames_of):
    frames = frames_of(np.zeros((600, 700, 3), np.uint8), backend="cog")
    before = frames.explain("a", np.s_[120:130, :150])
    assert (before.shape, before.dtype, before.result_bytes) == ((10, 150, 3), "uint8", 4500)
    assert not before.files[0].is_cached
    assert list(frames.cache.ls()) == []
    frames.prepare()
    after = frames.explain("a", np.s_[120:130, :150])
    assert after.files[0].is_cached
    assert after.files[0].entry_path == before.files[0].entry_path == str(next(iter(frames.cache.ls())).path)
    assert (after.files[0].tiles, after.files[0].tile_shape) == (4, (128, 128))
    assert after.files[0].decoded_bytes == 4 * 128 * 128 * 3
    assert frames.explain("a", np.s_[::-200, 5]).files[0].tiles == 3
    assert "4 of its 128 x 128" in str(after)
    assert after.to_dict()["files"][0]["tiles"] == 4
    assert "read directly" in str(frames_of(np.zeros((6, 7)), backend=None).explain("a"))


# -- extents ----------------------------------------------------------------------------------------------------------


def test_extents_are_those_of_the_pixels_and_convert_nothing(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30, 40, 3), np.uint8))
    for number in range(3):
        np.save(tmp_path / f"walk{number}.npy", np.zeros((8, 9, 1), np.uint8))
    nf.write_video(tmp_path / "v.mp4", np.zeros((5, 32, 48, 3), np.uint8), fps=5)
    sources = {"image": tmp_path / "a.npy", "walk": nf.Clip(tmp_path / "walk*.npy"), "video": tmp_path / "v.mp4"}
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend="cog")
    found = {image_id: frames.extents(image_id) for image_id in frames}
    assert found == {"image": (30, 40), "walk": (3, 8, 9), "video": (5, 32, 48)}
    assert found == {image_id: frames.load_frame(image_id).shape[:-1] for image_id in frames}


def test_extents_that_are_described_open_no_file():
    class Described(nf.Frames):
        image_ids = ("gone",)

        def build_pathinfo(self, image_id):
            return nf.PathInfo(image_id, (nf.ChannelInfo("/no/such/file.png"),), shape=(30, 40))

    assert Described().extents("gone") == (30, 40)


def test_extents_of_an_unknown_image_or_a_missing_file_are_errors(tmp_path):
    frames = nf.SimpleFrames({"a": tmp_path / "gone.png"})
    with pytest.raises(nf.SourceMissingError, match="image 'a'"):
        frames.extents("a")
    with pytest.raises(nf.ImageIdError, match="'b'"):
        frames.extents("b")
