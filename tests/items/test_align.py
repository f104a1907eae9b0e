"""Images of several files: every read equals a part of one aligned array."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.synthetic import DTYPES, picture
from kit.warping import check_close, finite_picture

import ndframes as nf

SHAPE = (120, 150)
BACKENDS = [None, "npy", "cog"]


class Scene(nf.Frames):
    """One image, of files that are written by the constructor."""

    def __init__(self, folder, files, *, shape=SHAPE, default=None, **options):
        super().__init__(workdir=folder / "work", **options)
        self._infos = []
        for number, (pixels, info) in enumerate(files):
            path = folder / f"{number}.npy"
            np.save(path, pixels)
            self._infos.append(nf.ChannelInfo(path, **info))
        self._shape, self._default = shape, default

    image_ids = property(lambda self: ["scene"])

    def build_pathinfo(self, image_id):
        return nf.PathInfo(image_id, self._infos, shape=self._shape, default=self._default)


def affine(degrees=0.0, scale=(1.0, 1.0), offset=(0.0, 0.0), shear=0.0) -> np.ndarray:
    """A map that scales, then shears, rotates and moves."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = np.array([[cos, -sin, offset[0]], [sin, cos, offset[1]], [0, 0, 1]])
    return rotation @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]]) @ np.diag([*scale, 1])


FILES = [
    (finite_picture((*SHAPE, 3), "uint8"), {"channels": "r|g|b"}),
    (finite_picture((30, 38, 1), "uint16"), {"channels": "nir", "img_from_src": np.diag([4, 4, 1])}),
    (finite_picture((20, 25, 2), "float32"), {"channels": "u|v", "img_from_src": np.diag([6, 6, 1])}),
    (
        finite_picture((200, 220, 1), "int16"),
        {"channels": "dem", "img_from_src": affine(25, (0.7, 0.8), (40, -20), 0.1)},
    ),
    (finite_picture((60, 70, 1), "uint8"), {"channels": "part", "img_from_src": affine(offset=(37, 21))}),
    (
        finite_picture((SHAPE[0] * 3, SHAPE[1] * 3, 1), "uint8"),
        {"channels": "fine", "img_from_src": np.diag([1 / 3, 1 / 3, 1])},
    ),
]
CODES = ["r", "g", "b", "nir", "u", "v", "dem", "part", "fine"]


@pytest.fixture(scope="module", params=BACKENDS, ids=str)
def scene(request, tmp_path_factory):
    frames = Scene(tmp_path_factory.mktemp("scene"), FILES, backend=request.param)
    frames.prepare()
    return frames


bounds = st.integers(-SHAPE[1] - 5, SHAPE[1] + 5) | st.none()
slices = st.builds(slice, bounds, bounds, st.sampled_from([None, None, 1, 2, 7, -1, -3]))
channel_lists = st.lists(st.sampled_from(CODES), min_size=1, max_size=6, unique=True)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(slices, slices), channel_lists, st.sampled_from(["nearest", "linear", "cubic", "lanczos"]))
def test_a_crop_equals_the_crop_of_the_whole(scene, region, codes, interpolation):
    whole = scene.load_region("scene", None, codes, interpolation=interpolation)
    assert whole.shape == (*SHAPE, len(codes))
    crop = scene.load_region("scene", region, codes, interpolation=interpolation)
    assert crop.flags.c_contiguous
    assert crop.flags.writeable
    wanted = whole[region]
    assert (crop.shape, crop.dtype) == (wanted.shape, wanted.dtype)
    for band, code in enumerate(codes):
        check_close(as_stored(crop[..., band], code), as_stored(wanted[..., band], code), interpolation)


def as_stored(band: np.ndarray, code: str) -> np.ndarray:
    """Integer channels as integers, even if a float channel has promoted them."""
    return band if code in "uv" else band.astype(np.int64)


def test_dtypes_promote_and_codes_go_in_any_order(scene):
    assert scene.load_region("scene", np.s_[:5, :5], "nir|g").dtype == np.uint16
    assert scene.load_region("scene", np.s_[:5, :5], "g|dem").dtype == np.int16
    assert scene.load_region("scene", np.s_[:5, :5], ["v", "r", "u"]).dtype == np.float32
    one, other = (scene.load_region("scene", np.s_[3:30, 4:50], codes) for codes in ("v|g|nir", "nir|v|g"))
    np.testing.assert_array_equal(one, other[:, :, [1, 2, 0]])


def test_files_on_the_grid_are_bit_equal(scene):
    np.testing.assert_array_equal(scene.load_region("scene", None, "b|r"), FILES[0][0][:, :, [2, 0]])
    wanted = np.full((*SHAPE, 1), 9, np.uint8)
    wanted[21:81, 37:107] = FILES[4][0]
    np.testing.assert_array_equal(scene.load_region("scene", None, "part", fill=9), wanted)
    np.testing.assert_array_equal(scene.load_region("scene", np.s_[70:90, 30:60], "part", fill=9), wanted[70:90, 30:60])
    np.testing.assert_array_equal(scene.load_region("scene", np.s_[0:4, 0:4], "part", fill=9), wanted[:4, :4])


def test_nearest_with_an_integer_factor_repeats_pixels(scene):
    whole = scene.load_region("scene", None, "nir", interpolation="nearest")
    np.testing.assert_array_equal(whole, FILES[1][0].repeat(4, 0).repeat(4, 1)[: SHAPE[0], : SHAPE[1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dtype_is_aligned(tmp_path, dtype):
    small = picture((12, 15, 1), dtype)
    frames = Scene(tmp_path, [(small, {"img_from_src": np.diag([5, 5, 1])})], shape=(60, 75), backend=None)
    nearest = frames.load_region("scene", interpolation="nearest")
    assert nearest.dtype == small.dtype
    np.testing.assert_array_equal(nearest, small.repeat(5, 0).repeat(5, 1))
    if small.dtype.kind in "ui":
        linear = frames.load_region("scene").astype(np.float64)
        rows, cols = ((np.arange(extent) + 0.5) / 5 - 0.5 for extent in (60, 75))
        wanted = bilinear(small[:, :, 0].astype(np.float64), rows, cols)
        slack = 0.5 + 1e-6 * max(abs(float(np.iinfo(dtype).max)), 1) * (small.dtype.itemsize >= 8)
        assert np.abs(linear[:, :, 0] - wanted).max() <= slack + 1e-3


def bilinear(pixels: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    rows, cols = rows.clip(0, pixels.shape[0] - 1), cols.clip(0, pixels.shape[1] - 1)
    top, left = (np.floor(axis).astype(int) for axis in (rows, cols))
    down, across = (rows - top)[:, None], cols - left
    below, right = (np.minimum(first + 1, extent - 1) for first, extent in zip((top, left), pixels.shape, strict=True))
    upper = pixels[np.ix_(top, left)] * (1 - across) + pixels[np.ix_(top, right)] * across
    lower = pixels[np.ix_(below, left)] * (1 - across) + pixels[np.ix_(below, right)] * across
    return upper * (1 - down) + lower * down


# -- scaled, warped, padded -------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(-180, 180),
    st.floats(0.2, 3),
    st.data(),
    channel_lists,
    st.sampled_from(["nearest", "linear", "cubic", "lanczos"]),
)
def test_a_crop_of_the_warped_image_equals_the_warped_crop(scene, degrees, scale, data, codes, interpolation):
    shape = (70, 90)
    transform = affine(degrees, (scale, scale), (data.draw(st.floats(-50, 100)), data.draw(st.floats(-50, 100))))
    whole = scene.load_warped("scene", transform, shape, codes, interpolation=interpolation, fill=3)
    top, left = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 80))
    height, width = data.draw(st.integers(1, 70 - top)), data.draw(st.integers(1, 90 - left))
    moved = affine(offset=(-left, -top)) @ transform
    part = scene.load_warped("scene", moved, (height, width), codes, interpolation=interpolation, fill=3)
    wanted = whole[top : top + height, left : left + width]
    assert part.dtype == wanted.dtype
    inner = np.ones(part.shape[:2], bool)  # a centre on the border may be inside in one and outside in the other
    for band, code in enumerate(codes):
        is_other = (part[..., band] == 3) != (wanted[..., band] == 3)
        assert is_other.sum() <= max(2, 0.002 * inner.size)
        got = as_stored(part[..., band][~is_other], code)
        check_close(got, as_stored(wanted[..., band][~is_other], code), interpolation)


def test_identity_and_integer_shifts_change_no_pixel(scene):
    whole = scene.load_image("scene", "r|nir|part")
    np.testing.assert_array_equal(scene.load_warped("scene", np.eye(3), SHAPE, "r|nir|part"), whole)
    shifted = scene.load_warped("scene", affine(offset=(-20, -30)), (50, 60), "r|nir|part")
    np.testing.assert_array_equal(shifted, whole[30:80, 20:80])
    outside = scene.load_warped("scene", affine(offset=(10, 0)), SHAPE, "r", fill=5)
    assert (outside[:, :10] == 5).all()
    np.testing.assert_array_equal(outside[:, 10:], whole[:, :-10, :1])


@pytest.mark.parametrize("pad", ["constant", "edge", "reflect"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), codes=channel_lists)
def test_padding_equals_that_of_the_aligned_whole(scene, pad, data, codes):
    whole = scene.load_image("scene", codes)
    top, left = data.draw(st.integers(-200, 200)), data.draw(st.integers(-200, 200))
    step = data.draw(st.sampled_from([1, 1, 2, 5]))
    region = (slice(top, top + 40, step), slice(left, left + 50))
    got = scene.load_region("scene", region, codes, pad=pad, fill=7)
    modes = {"constant": {"constant_values": 7}, "edge": {}, "reflect": {}}
    padded = np.pad(whole, ((250, 250), (250, 250), (0, 0)), mode=pad, **modes[pad])
    plain = scene.load_region("scene", None, codes, fill=7)
    padded = padded if pad != "constant" else np.pad(plain, ((250, 250), (250, 250), (0, 0)), constant_values=7)
    if pad != "constant":
        padded = np.pad(plain, ((250, 250), (250, 250), (0, 0)), mode=pad)
    wanted = padded[top + 250 : top + 290 : step, left + 250 : left + 300]
    for band, code in enumerate(codes):
        check_close(as_stored(got[..., band], code), as_stored(wanted[..., band], code), "linear")


@pytest.mark.parametrize("pad", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 1.7])
@pytest.mark.parametrize("antialias", [True, False])
def test_a_padded_region_can_be_scaled(scene, pad, scale, antialias):
    """Inside it equals the scaled image; outside, the nearest or the mirrored points."""
    options = {"scale": scale, "antialias": antialias}
    got = scene.load_region("scene", np.s_[-20:40, 82:202], "r|nir", pad=pad, fill=3, **options)
    assert got.shape == (math.floor(60 * scale + 0.5), math.floor(120 * scale + 0.5), 2)
    rows, cols = ((np.arange(count) + 0.5) / scale for count in got.shape[:2])
    inside_rows, inside_cols = rows - 20 > 0, cols + 82 < 150
    inside = scene.load_region("scene", np.s_[0:40, 82:150], "r|nir", **options)
    overlap = got[inside_rows][:, inside_cols]
    if 20 * scale == int(20 * scale):
        height, width = min(len(overlap), len(inside)), min(overlap.shape[1], inside.shape[1])
        check_close(overlap[:height, :width], inside[:height, :width], "linear")
    if pad == "constant":
        assert (got[~inside_rows] == 3).all()
        assert (got[:, ~inside_cols] == 3).all()
    if pad == "edge":
        assert (got[~inside_rows] == got[~inside_rows][:1]).all()
        assert (got[:, ~inside_cols] == got[:, ~inside_cols][:, :1]).all()


def test_reflection_mirrors_the_image(scene):
    """Scaled by 1, it equals the reflection of the pixels."""
    for region in (np.s_[-300:400, -170:190], np.s_[10:20, 140:900]):
        plain = scene.load_region("scene", region, "r|nir", pad="reflect")
        scaled = scene.load_region("scene", region, "r|nir", pad="reflect", scale=1)
        check_close(scaled, plain, "linear")
    thrice = scene.load_region("scene", np.s_[-40:60, 20:60], "r", pad="reflect", scale=3, antialias=False)[:, :, 0]
    first = 3 * 40 + 1  # the position of the centre of pixel 0, which is the mirror
    above, below = thrice[first - 90 : first][::-1], thrice[first + 1 : first + 91]
    np.testing.assert_array_equal(above[1:], below[1:])  # the half pixel next to the mirror belongs to the image


def test_each_channel_can_have_its_own_interpolation(scene):
    got = scene.load_region("scene", None, "nir|u|dem|v", interpolation={"nir": "nearest", "v": "cubic"})
    for band, (code, interpolation) in enumerate(
        [("nir", "nearest"), ("u", "linear"), ("dem", "linear"), ("v", "cubic")]
    ):
        alone = scene.load_region("scene", None, code, interpolation=interpolation)
        np.testing.assert_array_equal(got[:, :, band], alone[:, :, 0].astype(got.dtype))


def test_batches_equal_single_reads(scene):
    requests = [("scene", np.s_[y : y + 40, y : y + 30]) for y in range(0, 80, 9)]
    for options in ({}, {"interpolation": "nearest"}, {"nodata": "nan"}, {"scale": 0.5}, {"pad": "edge"}):
        batch = scene.load_regions(requests, "dem|r|nir", workers=2, **options)
        for got, request in zip(batch, requests, strict=True):
            np.testing.assert_array_equal(got, scene.load_region(*request, "dem|r|nir", **options))
    masked = scene.load_regions(requests, "dem|r", nodata="mask")
    assert isinstance(masked, np.ma.MaskedArray)
    assert masked.mask.any()
    out = np.zeros((len(requests), 40, 30, 2), np.int16)
    assert scene.load_regions(requests, "dem|r", out=out) is out
    np.testing.assert_array_equal(out[3], scene.load_region(*requests[3], "dem|r"))
    with pytest.raises(nf.RegionError, match="leave out"):
        scene.load_regions(requests, "dem|r", nodata="mask", out=out)


# -- missing data ----------------------------------------------------------------------------------------------------


def test_nodata_modes(tmp_path):
    pixels = finite_picture((40, 50, 2), "int16")
    pixels[pixels == -999] = 0
    pixels[5:9, 5:20, 0] = -999
    frames = Scene(tmp_path, [(pixels, {"channels": "a|b", "nodata": -999})], shape=None, backend="cog")
    np.testing.assert_array_equal(frames.load_image("scene"), pixels)
    nan = frames.load_region("scene", np.s_[2:30, 3:], nodata="nan")
    assert nan.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(nan), (pixels == -999)[2:30, 3:])
    np.testing.assert_array_equal(nan[~np.isnan(nan)], pixels[2:30, 3:][~np.isnan(nan)])
    masked = frames.load_region("scene", np.s_[2:30, 3:], "b|a", nodata="mask")
    assert masked.dtype == np.int16
    np.testing.assert_array_equal(masked.mask, (pixels == -999)[2:30, 3:, ::-1])
    np.testing.assert_array_equal(masked.compressed(), pixels[2:30, 3:, ::-1][~masked.mask])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_nodata_value_of_a_file_is_used(tmp_path):
    import rasterio

    pixels = np.full((300, 300), 5, np.uint16)
    pixels[100:150] = 65535
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=300, width=300, count=1, dtype="uint16", nodata=65535
    ) as file:
        file.write(pixels, 1)
    for backend in BACKENDS:
        frames = nf.SimpleFrames({"a": tmp_path / "a.tif"}, workdir=tmp_path / str(backend), backend=backend)
        got = frames.load_region("a", nodata="mask")
        np.testing.assert_array_equal(got.mask[:, :, 0], pixels == 65535)
        small = frames.load_region("a", scale=0.25, nodata="nan")  # overviews do not record missing data
        assert np.isnan(small[26:36]).all()
        assert set(np.unique(small[~np.isnan(small)])) == {5.0}


def test_missing_pixels_take_no_part_in_means(tmp_path):
    pixels = np.full((20, 20, 1), 100, np.int16)
    pixels[8:12, 8:12] = -9999
    frames = Scene(
        tmp_path,
        [(pixels, {"nodata": -9999, "img_from_src": affine(20, (5, 5), (30, 0))})],
        shape=(120, 150),
        backend=None,
    )
    for interpolation in ("nearest", "linear", "cubic", "lanczos"):
        got = frames.load_region("scene", nodata="mask", interpolation=interpolation)
        assert got.mask.any()
        assert (got.compressed() == 100).all()
        nan = frames.load_region("scene", nodata="nan", interpolation=interpolation)
        np.testing.assert_array_equal(np.isnan(nan), got.mask)
    outside = frames.load_region("scene", np.s_[:3, :3], fill=8)
    assert (outside == 8).all()
    assert np.ma.getmaskarray(frames.load_region("scene", np.s_[:3, :3], nodata="mask")).all()


def test_quantized_channels_are_decoded(tmp_path):
    pixels = finite_picture((30, 40, 1), "uint8")
    quantization = {"orig_min": -1.0, "orig_max": 1.0, "quant_min": 0, "quant_max": 254, "nodata": 255}
    pixels[3:6, 4:9] = 255
    files = [
        (pixels, {"channels": "flow", "quantization": quantization}),
        (pixels, {"channels": "far", "quantization": quantization, "img_from_src": np.diag([4, 4, 1])}),
    ]
    frames = Scene(tmp_path, files, shape=(30, 40), backend="auto")
    got = frames.load_region("scene", None, "flow")
    values = pixels / 254 * 2 - 1
    assert got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), pixels == 255)
    np.testing.assert_allclose(got[pixels != 255], values[pixels != 255], atol=1e-6)
    far = frames.load_region("scene", np.s_[:, :], "far")
    wanted = bilinear(values[:, :, 0], (np.arange(30) + 0.5) / 4 - 0.5, (np.arange(40) + 0.5) / 4 - 0.5)
    clear = ~np.isnan(far[:, :, 0])
    clear[8:28, 12:] = False  # next to the hole
    np.testing.assert_allclose(far[:, :, 0][clear], wanted[clear], atol=1e-5)
    assert np.isnan(far[16:20, 20:32]).all()
    assert np.ma.getmaskarray(frames.load_region("scene", None, "flow", nodata="mask"))[3:6, 4:9].all()


@pytest.mark.parametrize(
    "quantization",
    [{}, {"orig_min": 0}, {"quant_max": 0}, {"quant_max": "x"}, {"quant_max": 9, "orig_dtype": "int8"}],
    ids=str,
)
def test_an_invalid_quantization_is_refused(tmp_path, quantization):
    frames = Scene(tmp_path, [(np.zeros((4, 4, 1), np.uint8), {"quantization": quantization})], backend=None)
    with pytest.raises(nf.PathInfoError, match="quantization"):
        frames.load_region("scene")


# -- parts, sizes, refusals -------------------------------------------------------------------------------------------


def test_parts_are_stored_pixels_and_their_alignment(scene):
    image = scene.image("scene")
    region = np.s_[33:70, 41:99]
    parts = image.load_region(region, "nir|b|dem|u", fused=False)
    assert [part.channels for part in parts] == [("nir",), ("b",), ("dem",), ("u",)]
    for part, (source, info) in zip(parts, [FILES[1], FILES[0], FILES[3], FILES[2]], strict=True):
        region_from_src = affine(offset=(-41, -33)) @ info.get("img_from_src", np.eye(3))
        src_from_part = np.linalg.inv(region_from_src) @ part.region_from_part
        left, top = np.rint(src_from_part[:2, 2]).astype(int)
        np.testing.assert_allclose(src_from_part, affine(offset=(left, top)), atol=1e-9)
        height, width, bands = part.pixels.shape
        wanted = source[top : top + height, left : left + width]
        band = {"b": slice(2, 3), "u": slice(0, 1)}.get(part.channels[0], slice(None))
        np.testing.assert_array_equal(part.pixels, wanted[:, :, band])
        assert bands == 1
    assert parts[1].pixels.shape == (37, 58, 1)
    assert parts[0].pixels.shape == (10, 15, 1)
    far = image.load_parts(np.s_[:5, :5], "part")[0]
    assert far.pixels.size == 0


def test_an_image_without_a_shape_has_that_of_its_files(tmp_path):
    frames = Scene(tmp_path, [FILES[1], FILES[0]], shape=None, backend=None)
    assert frames.load_frame("scene").shape == (*SHAPE, 4)
    (tmp_path / "b").mkdir()
    alone = Scene(tmp_path / "b", [FILES[1]], shape=None, backend=None)
    assert alone.load_frame("scene").shape == (120, 152, 1)


def test_the_shape_of_a_file_is_checked(tmp_path):
    small = np.zeros((10, 12, 1), np.uint8)
    said = Scene(tmp_path, [(small, {"shape": (10, 12)})], shape=(20, 20), backend=None)
    assert said.load_image("scene", None).shape == (20, 20, 1)
    (tmp_path / "b").mkdir()
    wrong = Scene(tmp_path / "b", [(small, {"shape": (10, 13), "img_from_src": np.diag([2, 2, 1])})], backend=None)
    with pytest.raises(nf.UnreadableImageError, match="10 x 12 px, but said to be 10 x 13 px"):
        wrong.load_region("scene")


@pytest.mark.parametrize(
    "transform", [np.zeros((3, 3)), np.eye(4), "turn", None, [[1, 0], [0, 1]], np.full((3, 3), np.nan), np.eye(3) * 1j]
)
def test_an_invalid_transform_is_refused(scene, transform):
    with pytest.raises(nf.RegionError, match="transform must be"):
        scene.load_warped("scene", transform, (5, 5))


@pytest.mark.parametrize("shape", [(0, 5), 5, (5,), (5, 5, 3), (2.5, 2), None])
def test_an_invalid_shape_is_refused(scene, shape):
    with pytest.raises(nf.RegionError, match=r"shape=|whole numbers"):
        scene.load_warped("scene", np.eye(3), shape)


def test_too_large_a_result_fails_before_it_allocates(scene):
    with pytest.raises(nf.RegionTooLargeError):
        scene.load_warped("scene", np.eye(3), (10**7, 10**7))


@pytest.mark.parametrize("options", [{"interpolation": "sinc"}, {"nodata": "drop"}, {"interpolation": {"r": "best"}}])
def test_unknown_options_are_refused(scene, options):
    with pytest.raises(ValueError, match="allowed: "):
        scene.load_region("scene", np.s_[:4, :4], **options)


def test_the_memory_of_a_warped_crop_does_not_grow_with_the_image(tmp_path):
    peaks = []
    for extent in (512, 4096):
        folder = tmp_path / str(extent)
        folder.mkdir()
        tile = finite_picture((512, 512, 1), "uint16")
        pixels = np.tile(tile, (extent // 512, extent // 512, 1))
        frames = Scene(
            folder,
            [(pixels, {"img_from_src": affine(20, (1.5, 1.5), (200, 0))})],
            shape=(extent, extent),
            backend="cog",
        )
        frames.load_region("scene", np.s_[:64, :64])
        tracemalloc.start()
        frames.load_region("scene", np.s_[100:228, 200:328], interpolation="cubic")
        frames.load_warped("scene", affine(-20, offset=(0, 50)), (128, 128))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_explain_describes_warped_reads(tmp_path):
    frames = Scene(tmp_path, FILES, backend="cog")
    frames.prepare()
    plain, coarse, turned = frames.explain("scene", np.s_[0:40, 20:60], "b|nir|dem").files
    assert (plain.is_warped, coarse.is_warped, turned.is_warped) == (False, True, True)
    assert (plain.bands, coarse.tiles, turned.level) == (1, 1, 0)
    text = str(frames.explain("scene", np.s_[0:40, 20:60], "b|nir"))
    assert text.count("warped onto the grid of the result") == 1
    assert frames.explain("scene", None, "fine").files[0].level == 1
    assert frames.explain("scene", np.s_[:, 5:5], "fine").files[0].tiles == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(scene, method):
    import multiprocessing

    region = np.s_[20:70, 30:90]
    wanted = scene.load_region("scene", region, "dem|nir|r")
    with multiprocessing.get_context(method).Pool(2) as pool:
        for got in pool.starmap(scene.load_region, [("scene", region, "dem|nir|r")] * 4):
            np.testing.assert_array_equal(got, wanted)


def test_threads_read_the_same(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    frames = Scene(tmp_path, FILES, backend="cog")
    regions = [np.s_[y : y + 30, x : x + 40] for y in range(0, 80, 20) for x in range(0, 100, 25)]
    wanted = [frames.load_region("scene", region, CODES) for region in regions]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, right in zip(
                pool.map(lambda region: frames.load_region("scene", region, CODES), regions), wanted, strict=True
            ):
                np.testing.assert_array_equal(got, right)
