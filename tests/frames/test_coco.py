"""CocoFrames: every image and channel against kwcoco's own reading, against a closed formula, and after edits."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import threading
import warnings
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
from kit.forking import in_fork
from kit.synthetic import picture

import ndframes as nf

DEMOS = ("vidshapes8-multispectral", "vidshapes8-aux", "vidshapes8-multisensor-msi", "vidshapes2-frames4", "shapes4")
# OpenCV 5 warps any other number of bands by coordinates that are rounded to 1/32 of a pixel.
_EXACT_BAND_COUNTS = (1, 3, 4)


@contextmanager
def quiet():
    """kwcoco and what it imports warn of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def demo_of(tmp_path_factory):
    """kwcoco's demo datasets, made in a folder of this test session."""
    made = {}

    def make(key):
        if key not in made:
            with quiet():
                import kwcoco

                made[key] = kwcoco.CocoDataset.demo(key, verbose=0)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("demos")))
        yield make


def find_slack(dtype):
    """How far a rounded integer may be from the exact value: points in rotated files are rounded to 2**-16 of a pixel."""
    return 0.51 if dtype.itemsize == 1 else 1.0


def coco(dataset, folder=None):
    with quiet():
        import kwcoco

        dset = kwcoco.CocoDataset(dataset)
    if folder is not None:
        dset.bundle_dpath = str(folder)
    return dset


def by_kwcoco(dset, image_id, channels, *, space="image", optimize=False, antialias=True):
    with quiet():
        delayed = dset.coco_image(image_id).imdelay(channels, space=space, antialias=antialias)
        return delayed.finalize(optimize=optimize)


def save(path, pixels):
    """A TIFF that kwcoco reads too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_colour = pixels.ndim == 3 and pixels.shape[2] == 3
    tifffile.imwrite(path, pixels, photometric="rgb" if is_colour else "minisblack", metadata=None, **_planes(pixels))
    return str(path)


def _planes(pixels):
    return {"planarconfig": "contig"} if pixels.ndim == 3 else {}


def points(matrix, shape):
    """Where the centres of a result's pixels lie in a file that ``matrix`` brings there: x and y."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inverse = np.linalg.inv(matrix)
    return inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2], inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]


def interpolate(pixels, matrix, shape):
    """Linear interpolation by its definition, of one band; beyond its border a file goes on as there."""
    x, y = points(matrix, shape)
    x, y = (x - 0.5).clip(0, pixels.shape[1] - 1), (y - 0.5).clip(0, pixels.shape[0] - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = (left + 1).clip(0, pixels.shape[1] - 1), (top + 1).clip(0, pixels.shape[0] - 1)
    x, y, pixels = x - left, y - top, pixels.astype(np.float64)
    upper = pixels[top, left] * (1 - x) + pixels[top, right] * x
    return upper * (1 - y) + (pixels[bottom, left] * (1 - x) + pixels[bottom, right] * x) * y


def is_clear(matrix, shape, file_shape, margin=2):
    """Which of a result's pixels lie away from the border of a file's coverage, and of the result."""
    x, y = points(matrix, shape)
    clear = (x > margin) & (y > margin) & (x < file_shape[1] - margin) & (y < file_shape[0] - margin)
    clear[:3], clear[-3:], clear[:, :3], clear[:, -3:] = False, False, False, False
    return clear


def read_stored(path):
    """A file's pixels by another library, with their bands last."""
    with quiet():
        import kwimage

        pixels = kwimage.imread(path)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def differ(one, other):
    return np.abs(one.astype(np.float64) - other.astype(np.float64))


# -- kwcoco's demos ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["image", "video"])
@pytest.mark.parametrize("key", DEMOS)
def test_every_channel_of_a_demo_is_kwcocos(demo_of, key, space):
    """To one step; 16 bits now and then to two, since OpenCV's coordinates have 24 bits. The formula tells that ours are right."""
    dset = demo_of(key)
    frames = nf.CocoFrames(dset, space=space, backend=None)
    assert list(frames.image_ids) == list(dset.images())
    for image_id in frames.image_ids:
        info = frames.pathinfo(image_id)
        for file in info.channels:
            stored = read_stored(file.path)
            assert stored.shape == (*file.shape, len(file.channels))
            for band, code in enumerate(file.channels):
                got = frames.load_region(image_id, None, code)
                wanted = by_kwcoco(
                    dset, image_id, code, space=space, optimize=len(file.channels) not in _EXACT_BAND_COUNTS
                )
                assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
                assert got.shape[:2] == info.shape
                if file.is_aligned:
                    np.testing.assert_array_equal(got[:, :, 0], stored[:, :, band])
                    np.testing.assert_array_equal(got, wanted)
                    continue
                clear = is_clear(file.matrix, info.shape, file.shape)
                assert clear.mean() > 0.5
                exact = interpolate(stored[:, :, band], file.matrix, info.shape)
                assert differ(got[:, :, 0], exact)[clear].max() <= find_slack(stored.dtype)
                steps = differ(got, wanted)[clear]
                assert steps.max() <= (1 if got.dtype == np.uint8 else 2)
                assert (steps > 1).mean() < 1e-4


@pytest.mark.parametrize("key", DEMOS)
def test_every_file_of_a_demo_in_its_own_space(demo_of, key):
    dset = demo_of(key)
    frames = nf.CocoFrames(dset, space="asset", backend=None)
    for image_id in frames.image_ids:
        for file in frames.pathinfo(image_id).channels:
            stored = read_stored(file.path)
            np.testing.assert_array_equal(frames.load_region(image_id, None, list(file.channels)), stored)
            np.testing.assert_array_equal(
                frames.load_region(image_id, np.s_[-7:2:-2, 3:9], file.channels[::-1]), stored[-7:2:-2, 3:9, ::-1]
            )


@pytest.mark.parametrize("key", DEMOS[:-1])
def test_a_demos_video_is_its_images(demo_of, key):
    dset = demo_of(key)
    frames = nf.CocoFrames(dset, backend=None)
    in_video = nf.CocoFrames(dset, space="video", backend=None)
    for video_id in frames.video_ids:
        video = dset.index.videos[video_id]
        image_ids = list(dset.index.vidid_to_gids[video_id])
        codes = frames.image(("video", video_id)).channels
        had = [in_video.image(image_id).channels for image_id in image_ids]
        assert set(codes) == {code for some in had for code in some}
        crop = np.s_[100:180, 77:230]
        for code in codes[:4]:
            got = frames.load_region(("video", video_id), (slice(None), *crop), code, nodata="nan")
            assert got.shape == (len(image_ids), 80, 153, 1)
            np.testing.assert_array_equal(
                frames.load_region(video["name"], (slice(None), *crop), code, nodata="nan"), got
            )
            for time, image_id in enumerate(image_ids):
                if code in had[time]:
                    np.testing.assert_array_equal(
                        got[time], in_video.load_region(image_id, crop, code, nodata="nan").astype(got.dtype)
                    )
                else:
                    assert np.isnan(got[time]).all()


def test_channels_that_some_frames_lack(demo_of):
    dset = demo_of("vidshapes8-multisensor-msi")
    frames = nf.CocoFrames(dset, backend=None)
    in_video = nf.CocoFrames(dset, space="video", backend=None)
    found = 0
    for video_id in frames.video_ids:
        item, image_ids = ("video", video_id), list(dset.index.vidid_to_gids[video_id])
        for code in frames.image(item).channels:
            has = [code in in_video.image(image_id).channels for image_id in image_ids]
            if all(has):
                continue
            found += 1
            region = np.s_[:, 200:240, 300:330]
            with pytest.raises(nf.ChannelError, match=f"image {image_ids[has.index(False)]}: no channel"):
                frames.load_region(item, region, code)
            masked = frames.load_region(item, region, code, nodata="mask", fill=7)
            for time, image_id in enumerate(image_ids):
                if has[time]:
                    alone = in_video.load_region(image_id, region[1:], code, nodata="mask", fill=7)
                    np.testing.assert_array_equal(masked.mask[time], alone.mask)
                    np.testing.assert_array_equal(masked.data[time], alone.data)
                else:
                    assert masked.mask[time].all()
                    assert (masked.data[time] == 7).all()
            one = has.index(True)
            assert frames.load_region(item, (one, *region[1:]), code).dtype == in_video.image(image_ids[one]).dtype(
                code
            )
    assert found > 3


# -- bundles of our own -----------------------------------------------------------------------------------------------

SHAPE = (90, 120)


@pytest.fixture
def bundle(tmp_path):
    """A dataset of every kind of file, warp and size, that kwcoco reads too; in a video of two images, given in the wrong order."""
    folder = tmp_path / "bundle"
    images = []
    for number, frame_index in ((1, 5), (2, 3)):
        save(folder / f"{number}/rgb.tif", picture((*SHAPE, 3), seed=number))
        save(folder / f"{number}/nir.tif", picture((45, 40), "uint16", seed=number))
        save(folder / f"{number}/turned.tif", picture((80, 100), "uint8", seed=number + 10))
        save(folder / f"{number}/real.tif", np.float32(picture((60, 60), "uint8", seed=number) / 7))
        save(folder / f"{number}/same.tif", picture(SHAPE, "int16", seed=number))
        images.append(
            {
                "id": number, "name": f"image{number}", "file_name": f"{number}/rgb.tif", "channels": "r|g|b",
                "width": 120, "height": 90, "video_id": 8, "frame_index": frame_index,
                "warp_img_to_vid": {"type": "affine", "scale": [1.5, 1.25], "offset": [4, -3], "theta": 0.1 * number},
                "auxiliary": [
                    {"file_name": f"{number}/nir.tif", "channels": "nir", "width": 40, "height": 45,
                     "warp_aux_to_img": {"scale": [3, 2]}},
                ],
                "assets": [
                    {"file_name": f"{number}/turned.tif", "channels": "turned", "width": 100, "height": 80,
                     "warp_aux_to_img": {"type": "affine", "scale": 1.1, "theta": 0.2, "shearx": 0.05, "offset": [9, -5]}},
                    {"file_name": str(folder / f"{number}/real.tif"), "channels": "real", "width": 60, "height": 60,
                     "warp_aux_to_img": {"type": "affine", "matrix": [[2, 0, 0.5], [0, 1.5, -0.25], [0, 0, 1]]}},
                    {"file_name": f"{number}/same.tif", "channels": "same", "width": 120, "height": 90,
                     "num_overviews": 0},
                ],
            }
        )  # fmt: skip
    video = {"id": 8, "name": "clip", "width": 200, "height": 130}
    return {"images": images, "videos": [video], "annotations": [], "categories": []}, folder


MATRICES = {
    "r|g|b": np.eye(3),
    "nir": np.diag([3.0, 2, 1]),
    "turned": np.array([[math.cos(0.2), -math.sin(0.2), 9], [math.sin(0.2), math.cos(0.2), -5], [0, 0, 1]])
    @ np.array([[1, 0.05, 0], [0, 1, 0], [0, 0, 1]])
    @ np.diag([1.1, 1.1, 1]),
    "real": np.array([[2, 0, 0.5], [0, 1.5, -0.25], [0, 0, 1]]),
    "same": np.eye(3),
}  # fmt: skip


def to_video(number):
    cos, sin = math.cos(0.1 * number), math.sin(0.1 * number)
    return np.array([[cos, -sin, 4], [sin, cos, -3], [0, 0, 1]]) @ np.diag([1.5, 1.25, 1])


@pytest.mark.parametrize("form", ["dict", "kwcoco", "path", "zip"])
def test_a_dataset_comes_in_any_form(bundle, form, tmp_path):
    dataset, folder = bundle
    options = {}
    if form == "dict":
        dset, options = dataset, {"bundle_dpath": folder}
    elif form == "kwcoco":
        dset = coco(dataset, folder)
    elif form == "path":
        dset = folder / "data.kwcoco.json"
        dset.write_text(json.dumps(dataset))
    else:
        dset = str(folder / "data.kwcoco.zip")
        with zipfile.ZipFile(dset, "w") as archive:
            archive.writestr("data.kwcoco.json", json.dumps(dataset))
    frames = nf.CocoFrames(dset, backend=None, **options)
    assert frames.image_ids == [1, 2]
    assert (frames.video_ids, frames.bundle_dpath) == ([8], folder)
    assert (len(frames), list(frames), frames[1].image_id) == (2, [1, 2], 2)
    np.testing.assert_array_equal(frames.load_region(2), picture((*SHAPE, 3), seed=2))
    known = [1, ("video", 8), "clip"]
    assert [item in frames for item in [*known, 3, "1", ("video", 9), ("audio", 8), None, [1], 2.5]] == [
        *[True] * 3,
        *[False] * 7,
    ]


def test_kwcocos_maps_are_ours(bundle):
    """A map of parameters is what kwimage makes of it."""
    with quiet():
        import kwimage
    for given in (
        {"type": "affine"}, {"scale": 2}, {"scale": [2, 0.3]}, {"offset": [3, -4]}, {"offset": 3}, {"theta": 1.2},
        {"scale": [2, 3], "shearx": 0.3, "theta": -2, "offset": (1, 2), "type": "affine"},
        {"theta": 0.4, "about": [3, 4], "scale": 2}, {"matrix": [[1, 2, 3], [0, 4, 5], [0, 0, 1]]},
        {"matrix": [[1, 2, 3], [0, 4, 5]], "type": "affine"}, kwimage.Affine.scale(3), None,
    ):  # fmt: skip
        dataset = {"images": [{"id": 1, "assets": [{"file_name": "a.tif", "warp_aux_to_img": given}]}]}
        wanted = np.vstack([np.asarray(kwimage.Affine.coerce(given)), [0, 0, 1]])[:3]
        np.testing.assert_allclose(nf.CocoFrames(dataset).pathinfo(1).channels[0].matrix, wanted, atol=1e-12)


@pytest.mark.parametrize("form", ["dict", "kwcoco"])
def test_images_of_many_files(bundle, form):
    dataset, folder = bundle
    dset = coco(copy.deepcopy(dataset), folder)
    frames = nf.CocoFrames(dset if form == "kwcoco" else dataset, bundle_dpath=folder, backend=None)
    for number in frames.image_ids:
        info = frames.pathinfo(number)
        assert info.shape == SHAPE
        for file in info.channels:
            codes = "|".join(file.channels)
            matrix, stored = MATRICES[codes], read_stored(file.path)
            np.testing.assert_allclose(file.matrix, matrix, atol=1e-12)
            got = frames.load_region(number, None, codes)
            assert got.dtype == stored.dtype
            if file.is_aligned:
                np.testing.assert_array_equal(got, stored)
                continue
            clear = is_clear(matrix, SHAPE, stored.shape)
            span = float(np.ptp(stored.astype(np.float64)))
            slack = 1 if stored.dtype.kind in "ui" else 1e-3 * span
            assert clear.mean() > 0.3
            assert differ(got[..., 0], interpolate(stored[..., 0], matrix, SHAPE))[clear].max() <= slack / 1.9
            dset.dataset["images"][number - 1]["auxiliary"] += dset.dataset["images"][number - 1]["assets"]
            wanted = by_kwcoco(dset, number, codes)  # which overlooks assets beside auxiliary files
            dset.dataset["images"][number - 1]["auxiliary"][1:] = []
            assert differ(got, wanted)[clear].max() <= slack


def test_all_files_of_a_video_are_resampled_once(bundle):
    """Through both maps at a time, which kwcoco does one after the other."""
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, space="video", backend=None)
    shape = 130, 200
    for number in frames.image_ids:
        assert frames.load_frame(number).shape == (*shape, 3)
        for file in frames.pathinfo(number).channels:
            stored = read_stored(file.path)
            matrix = to_video(number) @ MATRICES["|".join(file.channels)]
            got = frames.load_region(number, None, list(file.channels))
            clear = is_clear(matrix, shape, stored.shape, 1)
            assert clear.mean() > 0.2
            for band in range(stored.shape[2]):
                slack = find_slack(stored.dtype) if stored.dtype.kind in "ui" else 1e-3 * float(np.ptp(stored))
                assert differ(got[..., band], interpolate(stored[..., band], matrix, shape))[clear].max() <= slack
        dset = coco(copy.deepcopy(dataset), folder)
        clear = is_clear(to_video(number), shape, SHAPE)
        wanted = by_kwcoco(dset, number, "r|g|b", space="video")  # whose first map is none
        assert differ(frames.load_region(number), wanted)[clear].max() <= 1


def test_a_video_is_its_images_in_their_order(bundle):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    in_video = nf.CocoFrames(dataset, bundle_dpath=folder, space="video", backend=None)
    for channels in (None, "nir", "turned|r", "real|same"):
        wanted = np.stack([in_video.load_image(2, channels), in_video.load_image(1, channels)])
        for item in (("video", 8), "clip"):
            np.testing.assert_array_equal(frames.load_image(item, channels), wanted)
            np.testing.assert_array_equal(frames.load_image(item, channels, cache=False), wanted)
            frame = frames.load_frame(item, channels)
            assert (frame.shape, frame.dtype) == (wanted.shape, wanted.dtype)
            for region in np.s_[0], np.s_[-1], np.s_[::-1, 3:90, 110:7:-3], np.s_[1:1], np.s_[1, 5, 6], np.s_[..., 0]:
                if wanted.dtype.kind == "f":  # whose coordinates OpenCV counts from the crop, to 24 bits
                    np.testing.assert_allclose(frame[region], wanted[region], rtol=1e-5, atol=1e-3)
                else:
                    np.testing.assert_array_equal(frame[region], wanted[region])


def test_the_space_of_assets(bundle):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, space="asset", backend=None)
    assert frames.load_region(1, np.s_[-4:], "nir").shape == (4, 40, 1)
    np.testing.assert_array_equal(
        frames.load_region(1, None, "same|g"),
        np.dstack([picture(SHAPE, "int16", seed=1), picture((*SHAPE, 3), seed=1)[..., 1]]),
    )
    with pytest.raises(nf.ChannelError, match=r"image 1: .*r\|g\|b \(90 x 120 px\), nir \(45 x 40 px\)"):
        frames.load_region(1, None, "r|nir")


@pytest.mark.parametrize("key", ["base_to_aux", "warp_img_to_aux"])
def test_old_maps_are_the_other_way_round(bundle, key):
    dataset, folder = bundle
    wanted = nf.CocoFrames(copy.deepcopy(dataset), bundle_dpath=folder, backend=None).load_image(1, "turned")
    asset = dataset["images"][0]["assets"][0]
    del asset["warp_aux_to_img"]
    asset[key] = {"type": "affine", "matrix": np.linalg.inv(MATRICES["turned"]).tolist()}
    got = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None).load_image(1, "turned")
    assert differ(got, wanted).max() <= 1
    assert differ(got, wanted).mean() < 0.01
    asset["warp_aux_to_img"] = {"scale": 1}  # which is the one that counts
    asset["width"], asset["height"] = 100, 80
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    np.testing.assert_array_equal(frames.load_image(1, "turned")[:80, :100, 0], picture((80, 100), seed=11))


def test_an_image_without_sizes(tmp_path):
    pixels = picture((*SHAPE, 3))
    save(tmp_path / "a.tif", pixels)
    save(tmp_path / "b.tif", picture(SHAPE, "uint16"))
    dataset = {"images": [{"id": "x", "file_name": "a.tif", "assets": [{"file_name": "b.tif", "channels": "b2"}]}]}
    frames = nf.CocoFrames(dataset, bundle_dpath=tmp_path, backend=None)
    np.testing.assert_array_equal(frames.load_image("x"), pixels)
    np.testing.assert_array_equal(frames.load_image("x", "b2")[..., 0], picture(SHAPE, "uint16"))
    del dataset["images"][0]["file_name"]
    dataset["images"][0]["assets"][0]["warp_aux_to_img"] = {"scale": 2}
    assert frames.load_image("x").shape == (180, 240, 1)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
def test_a_file_whose_bands_nobody_named(tmp_path, bands):
    pixels = picture((*SHAPE, bands))
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", picture(SHAPE, "uint16"))
    image = {"id": 1, "file_name": "a.npy", "auxiliary": [{"file_name": "b.npy", "channels": "depth"}]}
    frames = nf.CocoFrames({"images": [image]}, bundle_dpath=tmp_path, backend=None)
    np.testing.assert_array_equal(frames.load_region(1), pixels)  # the image's own file, as if it had names
    frame = frames.load_frame(1)
    assert len(frame.channels) == bands
    np.testing.assert_array_equal(frames.load_region(1, None, "depth")[..., 0], picture(SHAPE, "uint16"))
    together = frames.load_region(1, None, ["depth", frame.channels[-1]])
    np.testing.assert_array_equal(together, np.dstack([picture(SHAPE, "uint16"), pixels[..., -1]]))
    assert frames.load_region(1, None, "<all>").shape == (*SHAPE, bands + 1)


def test_a_name_that_two_files_go_by(tmp_path):
    np.save(tmp_path / "a.npy", picture((*SHAPE, 3)))
    np.save(tmp_path / "b.npy", picture(SHAPE))
    image = {"id": 1, "file_name": "a.npy", "assets": [{"file_name": "b.npy", "channels": "g"}]}
    frames = nf.CocoFrames({"images": [image]}, bundle_dpath=tmp_path, backend=None)
    with pytest.raises(nf.ChannelError, match=r"image 1: several files hold 'g': .*a.npy \(r\|g\|b\), .*b.npy \(g\)"):
        frames.load_region(1, None, "g")
    image["channels"] = "red|green|blue"
    np.testing.assert_array_equal(frames.load_region(1, None, "g")[..., 0], picture(SHAPE))
    image["channels"] = "r|g|b"
    with pytest.raises(nf.ChannelError, match="several files hold channel 'g'"):
        frames.load_region(1)


@pytest.mark.parametrize("spec", ["a|b|c", "a,b|c", ["a", "b", "c"], "x:3", "x.4:7"])
def test_how_channels_are_written(tmp_path, spec):
    pixels = picture((*SHAPE, 3))
    np.save(tmp_path / "a.npy", pixels)
    image = {"id": 1, "file_name": "a.npy", "channels": spec}
    frames = nf.CocoFrames({"images": [image]}, bundle_dpath=tmp_path, backend=None)
    with quiet():
        import kwcoco

        codes = kwcoco.ChannelSpec.coerce(spec if isinstance(spec, str) else "|".join(spec)).fuse().as_list()
        other = kwcoco.FusedChannelSpec.coerce("q|w|e")
    assert list(frames.load_frame(1).channels) == codes
    np.testing.assert_array_equal(frames.load_region(1, None, codes[::-1]), pixels[..., ::-1])
    image["channels"] = other
    assert frames.load_frame(1).channels == ("q", "w", "e")


# -- quantization and nodata ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_max": 200},
        {"orig_min": -3, "orig_max": 5, "quant_min": 10, "quant_max": 240, "nodata": 0, "orig_dtype": "float32"},
        {"orig_min": 0, "orig_max": 1e-3, "quant_min": 0, "quant_max": 255, "nodata": 255, "orig_dtype": "float64"},
    ],
)
@pytest.mark.parametrize("scale", [1, 3])
def test_quantized_files(tmp_path, quantization, scale):
    stored = np.clip(picture((30, 40), "uint8"), 1, 254)
    hole = np.s_[10:14, 20:25]
    if "nodata" in quantization:
        stored[hole] = quantization["nodata"]
    save(tmp_path / "q.tif", stored)
    asset = {
        "file_name": "q.tif", "channels": "q", "width": 40, "height": 30, "quantization": quantization,
        "warp_aux_to_img": {"scale": scale},
    }  # fmt: skip
    dataset = {"images": [{"id": 1, "file_name": None, "width": 40 * scale, "height": 30 * scale, "assets": [asset]}]}
    dset = coco(dataset, tmp_path)
    got = nf.CocoFrames(dset, backend=None).load_region(1)
    wanted = by_kwcoco(dset, 1, "q")
    clear = is_clear(np.diag([scale, scale, 1]), got.shape[:2], stored.shape)
    if "nodata" in quantization:
        clear[10 * scale - 2 * scale : 14 * scale + 2 * scale, 20 * scale - 2 * scale : 25 * scale + 2 * scale] = False
        inner = got[10 * scale : 14 * scale, 20 * scale : 25 * scale]
        assert np.isnan(inner[1:-1, 1:-1]).all()
        assert np.isnan(got).sum() <= inner.size
    span = np.nanmax(wanted) - np.nanmin(wanted)
    assert got.dtype == np.dtype(quantization.get("orig_dtype", "float32"))
    assert np.isfinite(got[clear]).all()
    low, high = quantization.get("orig_min", 0), quantization.get("orig_max", 1)
    first, last = quantization.get("quant_min", 0), quantization["quant_max"]
    real = (stored.astype(np.float64) - first) * (high - low) / (last - first) + low
    exact = interpolate(real, np.diag([scale, scale, 1]), got.shape[:2])
    assert differ(got[..., 0], exact)[clear].max() <= 2e-6 * max(abs(low), abs(high))
    # OpenCV rounds coordinates to 1/32 of a pixel where numbers have 64 bits
    assert differ(got, wanted)[clear].max() <= (1e-3 if got.dtype == np.float32 else 1e-2) * span
    if scale == 1:
        np.testing.assert_array_equal(np.isnan(got[..., 0]), stored == quantization.get("nodata"))


@pytest.mark.parametrize("where", ["dataset", "file"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_nodata(tmp_path, where, dtype):
    """Holes take no part in any mean; away from them, pixels are kwcoco's."""
    stored = np.clip(picture((40, 50), "uint8"), 1, 254).astype(dtype)
    stored[15:20, 22:30] = 9999
    if where == "file":
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 50, "dtype": dtype, "nodata": 9999}
            with rasterio.open(tmp_path / "n.tif", "w", **profile) as file:
                file.write(stored, 1)
    else:
        save(tmp_path / "n.tif", stored)
    asset = {
        "file_name": "n.tif", "channels": "n", "width": 50, "height": 40, "warp_aux_to_img": {"scale": 2},
        **({"nodata": 9999} if where == "dataset" else {}),
    }  # fmt: skip
    dset = coco({"images": [{"id": 1, "file_name": None, "width": 100, "height": 80, "assets": [asset]}]}, tmp_path)
    frames = nf.CocoFrames(dset, backend=None)
    got = frames.load_region(1, nodata="nan")[..., 0]
    wanted = by_kwcoco(dset, 1, "n")[..., 0]
    clear = is_clear(np.diag([2, 2, 1]), (80, 100), (40, 50))
    assert np.isnan(got[30:40, 44:60]).all()
    assert np.isnan(got).sum() <= 14 * 20
    assert np.nanmax(got) < 300  # nothing of 9999 in any mean
    clear[27:43, 41:63] = False
    assert differ(got, wanted)[clear].max() <= (1 if dtype == "uint16" else 0.3)
    masked = frames.load_region(1, nodata="mask")
    np.testing.assert_array_equal(masked.mask[..., 0], np.isnan(got))
    assert masked.dtype == dtype


# -- edits ------------------------------------------------------------------------------------------------------------


def set_item(name, value):
    return lambda dataset: dataset["images"][0].__setitem__(name, value)


def edit_asset(name, value):
    return lambda dataset: dataset["images"][0]["assets"][0].__setitem__(name, value)


EDITS = {
    "another file": set_item("file_name", "2/rgb.tif"),
    "other names": set_item("channels", "g|r|b"),
    "no names": lambda dataset: dataset["images"][0].pop("channels"),
    "no file": set_item("file_name", None),
    "moved in the video": set_item("warp_img_to_vid", {"offset": [7, 8]}),
    "moved deep inside": lambda dataset: dataset["images"][0]["warp_img_to_vid"]["offset"].__setitem__(0, 11),
    "another order": set_item("frame_index", 1),
    "out of the video": set_item("video_id", None),
    "an asset more": lambda dataset: dataset["images"][0]["assets"].append(
        {"file_name": "2/same.tif", "channels": "more", "width": 120, "height": 90}
    ),
    "an asset less": lambda dataset: dataset["images"][0]["assets"].pop(0),
    "an asset's map": edit_asset("warp_aux_to_img", {"offset": [3, 4]}),
    "an asset's quantization": edit_asset("quantization", {"quant_max": 100}),
    "an asset's nodata": edit_asset("nodata", 5),
    "an asset's file": lambda dataset: dataset["images"][0]["assets"][0].update(
        file_name="2/nir.tif", width=40, height=45
    ),
    "a map in place": lambda dataset: dataset["images"][0]["assets"][1]["warp_aux_to_img"]["matrix"][0].__setitem__(
        2, 9.0
    ),
    "an array": edit_asset("warp_aux_to_img", np.diag([1.5, 1.25, 1])),
    "the video's size": lambda dataset: dataset["videos"][0].update(width=70, height=60),
    "the images' order": lambda dataset: dataset["images"].reverse(),
    "an image less": lambda dataset: dataset["images"].pop(1),
    "an image more": lambda dataset: dataset["images"].insert(
        0, {**copy.deepcopy(dataset["images"][1]), "id": 17, "frame_index": 4}
    ),
    "another id": lambda dataset: dataset["images"][1].update(id=22),
    "another image of that id": lambda dataset: dataset["images"].__setitem__(
        0, {**copy.deepcopy(dataset["images"][1]), "id": 1}
    ),
}


def read_all(frames):
    """All there is to be read, and what cannot be."""
    found = {}
    for item in (1, 2, 17, 22, ("video", 8), "clip"):
        try:
            frame = frames.load_frame(item)
            found[item] = frame.channels, frame.shape, frames.load_region(item, nodata="nan")
            codes = frames.image(item).channels
            found[item] += codes, [frames.load_region(item, None, code, nodata="nan") for code in codes]
        except nf.NdframesError as error:
            found[item] = type(error), str(error)
    return found


@pytest.mark.parametrize("space", ["image", "video"])
@pytest.mark.parametrize("form", ["dict", "kwcoco"])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_seen(bundle, edit, form, space):
    dataset, folder = bundle
    dset = coco(dataset, folder) if form == "kwcoco" else dataset
    frames = nf.CocoFrames(dset, bundle_dpath=folder, space=space, backend=None)
    before = read_all(frames)
    EDITS[edit](dset.dataset if form == "kwcoco" else dset)
    fresh = nf.CocoFrames(
        copy.deepcopy(dset.dataset if form == "kwcoco" else dset), bundle_dpath=folder, space=space, backend=None
    )
    after, wanted = read_all(frames), read_all(fresh)
    np.testing.assert_equal(after, wanted)
    if edit not in ("no names", "moved in the video", "moved deep inside", "the images' order", "an image more"):
        with pytest.raises(AssertionError):
            np.testing.assert_equal(before, after)
    np.testing.assert_equal(read_all(pickle.loads(pickle.dumps(frames))), wanted)


def test_edits_by_kwcocos_own_methods(bundle):
    dataset, folder = bundle
    dset = coco(dataset, folder)
    frames = nf.CocoFrames(dset, backend=None)
    clip = frames.load_frame("clip")
    assert clip.shape == (2, 130, 200, 3)
    dset.add_image(id=5, file_name="./1/rgb.tif", channels="r|g|b", width=120, height=90, video_id=8, frame_index=4)
    assert (clip.shape, frames.image_ids) == ((3, 130, 200, 3), [1, 2, 5])
    np.testing.assert_array_equal(clip[1, :90, :120], picture((*SHAPE, 3), seed=1))
    dset.remove_images([2])
    assert (len(clip), frames.image_ids) == (2, [1, 5])
    np.testing.assert_array_equal(clip[0, :90, :120], picture((*SHAPE, 3), seed=1))
    dset.index.imgs[5]["video_id"] = None
    assert len(clip) == 1
    dset.remove_videos([8])
    with pytest.raises(nf.ImageIdError):
        clip[0]


def test_a_bundle_that_is_moved(bundle, tmp_path):
    dataset, folder = bundle
    dset = coco(dataset, folder)
    frames = nf.CocoFrames(dset, backend=None)
    frames.load_region(1)
    save(tmp_path / "elsewhere/1/rgb.tif", picture((*SHAPE, 3), seed=77))
    dset.bundle_dpath = tmp_path / "elsewhere"
    np.testing.assert_array_equal(frames.load_region(1), picture((*SHAPE, 3), seed=77))


def test_what_does_not_matter_opens_nothing_again(bundle):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    frames.load_region(1)
    image = frames.image(1)
    dataset["images"][0]["caption"] = ["a", "b"]
    dataset["images"][0]["array"] = np.arange(4)
    dataset["images"][1]["file_name"] = "gone.tif"
    assert frames.image(1) is image
    assert frames.image(1) is image
    dataset["images"][0]["array"][1] = 7
    assert frames.image(1) is image


class Counted(list):
    """How often it is gone through."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def test_reading_goes_not_through_the_dataset(bundle):
    dataset, folder = bundle
    dset = coco(dataset, folder)
    images = dset.dataset["images"] = Counted(dset.dataset["images"])
    frames = nf.CocoFrames(dset, backend=None)
    for item in (1, 2, ("video", 8), "clip"):
        frames.load_region(item)
    assert images.walks
    images.walks = 0
    for item in (1, 2, ("video", 8), "clip", 1):
        frames.load_region(item)
    assert images.walks == 0


def test_a_name_that_is_an_id_too(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", picture(SHAPE, seed=ord(name)))
    images = [
        {"id": "clip", "file_name": "a.npy", "video_id": 1, "frame_index": 0},
        {"id": "b", "file_name": "b.npy", "video_id": 1, "frame_index": 1},
    ]
    frames = nf.CocoFrames(
        {"images": images, "videos": [{"id": 1, "name": "clip"}]}, bundle_dpath=tmp_path, backend=None
    )
    assert frames.load_region("clip").shape == (*SHAPE, 1)
    assert frames.load_region(("video", 1)).shape == (2, *SHAPE, 1)


# -- the cache, processes, threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_prepare(bundle, tmp_path, workers):
    dataset, folder = bundle
    direct = read_all(nf.CocoFrames(dataset, bundle_dpath=folder, backend=None))
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "work")
    report = frames.prepare(workers=workers, progress=False)
    assert (report.prepared, report.present, len(report.failed)) == (10, 0, 0)
    entries = sorted(entry.path for entry in frames.cache.ls())
    assert len(entries) == 10
    np.testing.assert_equal(read_all(frames), direct)
    in_video = nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "work", space="video")
    report = in_video.prepare([("video", 8)], progress=False)  # of files, wherever they lie
    assert (report.prepared, report.present) == (0, 10)
    assert sorted(entry.path for entry in frames.cache.ls()) == entries


def test_a_read_fills_the_cache(bundle, tmp_path, backend):
    dataset, folder = bundle
    direct = read_all(nf.CocoFrames(dataset, bundle_dpath=folder, backend=None))
    np.testing.assert_equal(
        read_all(nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "w", backend=backend)), direct
    )


def test_a_pickle_holds_the_dataset_and_nothing_that_was_read(bundle):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, space="video", backend=None)
    before = len(pickle.dumps(frames))
    wanted = frames.load_region("clip", np.s_[:, 5:50, 6:60], "nir|g")
    assert len(pickle.dumps(frames)) == before
    copied = pickle.loads(pickle.dumps(frames))
    assert (copied.space, copied.bundle_dpath, copied.image_ids) == ("video", folder, [1, 2])
    np.testing.assert_array_equal(copied.load_region("clip", np.s_[:, 5:50, 6:60], "nir|g"), wanted)
    frame = pickle.loads(pickle.dumps(frames.load_frame("clip", "nir|g")))
    np.testing.assert_array_equal(frame[:, 5:50, 6:60], wanted)
    with quiet():
        dset = pickle.loads(pickle.dumps(nf.CocoFrames(coco(dataset, folder), backend=None)))
    np.testing.assert_array_equal(dset.load_region("clip", np.s_[:, 5:50, 6:60], "nir|g"), wanted)


def test_after_a_fork(bundle):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    wanted = read_all(frames)

    def check():
        np.testing.assert_equal(read_all(frames), wanted)
        dataset["images"][0]["file_name"] = "2/rgb.tif"
        return np.array_equal(frames.load_region(1), picture((*SHAPE, 3), seed=2))

    in_fork(check)
    np.testing.assert_array_equal(frames.load_region(1), picture((*SHAPE, 3), seed=1))


def test_threads_while_the_dataset_is_edited(bundle):
    """Every read gives what the dataset said at a time while it was running."""
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    wanted = {number: picture((*SHAPE, 3), seed=number) for number in (1, 2)}
    image = {"id": 9, "file_name": "1/rgb.tif", "channels": "r|g|b", "width": 120, "height": 90}
    dataset["images"].append(image)
    done, wrong = threading.Event(), []

    def read():
        while not done.is_set():
            got = frames.load_region(9)
            if not any(np.array_equal(got, pixels) for pixels in wanted.values()):
                wrong.append("neither")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for round_number in range(150):
            number = 1 + round_number % 2
            image["file_name"] = f"{number}/rgb.tif"
            if not np.array_equal(frames.load_region(9), wanted[number]):
                wrong.append("stale")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert np.array_equal(frames.load_region(9), wanted[number])


def test_a_batch_of_images_and_videos(bundle):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    requests = [
        (1, np.s_[3:30, 5:60]),
        (("video", 8), np.s_[1:, 8:40, 9:50]),
        ("clip", np.s_[0, 8:40, 9:50]),
        (2, None),
    ]
    for got, request in zip(frames.load_regions(requests, "nir|r"), requests, strict=True):
        np.testing.assert_array_equal(got, frames.load_region(*request, "nir|r"))


# -- a plain dataset, and errors --------------------------------------------------------------------------------------


def test_a_plain_dataset(tmp_path):
    """As other programs write them: no videos, no channels, more keys than anybody asks for."""
    save(tmp_path / "images/a.tif", picture((*SHAPE, 3)))
    dataset = {
        "info": {"year": 2017}, "licenses": [],
        "images": [{"license": 1, "file_name": "images/a.tif", "height": 90, "width": 120, "id": 397133,
                    "coco_url": "http://images.cocodataset.org/a.jpg", "date_captured": "2013-11-14 17:02:52"}],
        "annotations": [{"id": 1, "image_id": 397133, "bbox": [1, 2, 3, 4], "category_id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
    }  # fmt: skip
    (tmp_path / "instances.json").write_text(json.dumps(dataset))
    frames = nf.CocoFrames(tmp_path / "instances.json", backend=None)
    assert (frames.image_ids, frames.video_ids) == ([397133], [])
    np.testing.assert_array_equal(frames.load_image(397133), picture((*SHAPE, 3)))
    in_video = nf.CocoFrames(tmp_path / "instances.json", space="video", backend=None)
    np.testing.assert_array_equal(in_video.load_image(397133), picture((*SHAPE, 3)))
    assert "CocoFrames: 1 images" in repr(frames)


def test_the_current_folder_is_where_names_start_from(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", picture(SHAPE))
    monkeypatch.chdir(tmp_path)
    frames = nf.CocoFrames({"images": [{"id": 1, "file_name": "a.npy"}]}, backend=None)
    assert frames.bundle_dpath == type(tmp_path)(".")
    np.testing.assert_array_equal(frames.load_image(1)[..., 0], picture(SHAPE))
    told = nf.CocoFrames(
        {"images": [{"id": 1, "file_name": "a.npy"}], "bundle_dpath": os.fspath(tmp_path)}, backend=None
    )
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(told.load_image(1)[..., 0], picture(SHAPE))


@pytest.mark.parametrize("dset", [None, 5, {}, {"images": 3}, {"images": [{"file_name": "a"}]}, [], "nowhere.json"])
def test_what_is_no_dataset(dset, tmp_path):
    with pytest.raises(nf.PathInfoError, match="dataset"):
        nf.CocoFrames(dset)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"images": null}', b"PK\x03\x04", b"\xff\xfe"])
def test_a_file_that_is_no_dataset(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(nf.PathInfoError, match=r"data\.json (is not a COCO|cannot be read as a) dataset"):
        nf.CocoFrames(path)


def test_an_archive_of_two_datasets(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    with pytest.raises(nf.PathInfoError, match=r"holds 2 \.json files"):
        nf.CocoFrames(tmp_path / "a.zip")


def test_no_such_space(bundle):
    with pytest.raises(ValueError, match="space='world'"):
        nf.CocoFrames(bundle[0], space="world")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, "no image 3; there are 2, the first is 1"),
        ("klip", "no image 'klip'"),
        (("video", 9), r"no video .*9.*; there are \[8\]"),
        ([1], r"no image \[1\]"),
        (None, "no image None"),
    ],
)
def test_an_unknown_id(bundle, item, message):
    dataset, folder = bundle
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    for read in (frames.load_region, frames.pathinfo, frames.image, frames.load_frame, frames.load_image):
        with pytest.raises(nf.ImageIdError, match=message):
            read(item)


TURNED = ("images", 0, "assets", 0)
WRONG = {
    "a file that is not there": (("images", 0), {"file_name": "gone.tif"}, nf.SourceMissingError, "gone.tif"),
    "no file": (("images", 0), {"file_name": None, "auxiliary": [], "assets": None}, nf.PathInfoError, "names no file"),
    "another size": (("images", 0), {"width": 121}, nf.UnreadableImageError, "90 x 120 px, but said to be 90 x 121"),
    "an asset's other size": (TURNED, {"height": 7}, nf.UnreadableImageError, "80 x 100 px, but said to be 7 x 100"),
    "no size": (("images", 0), {"width": -1}, nf.PathInfoError, "shape must be"),
    "bands": (("images", 0), {"channels": "r|g"}, nf.UnreadableImageError, "3 bands, but 2 channels are named"),
    "a projection": (
        TURNED,
        {"warp_aux_to_img": {"type": "projective", "matrix": [[1, 0, 0], [0, 1, 0], [0.01, 0, 1]]}},
        nf.PathInfoError,
        "^image 1: warp_aux_to_img is not an invertible affine",
    ),
    "a flat map": (TURNED, {"warp_aux_to_img": {"scale": 0}}, nf.PathInfoError, "not an invertible affine"),
    "a map of words": (TURNED, {"warp_aux_to_img": "identity"}, nf.PathInfoError, "not an affine"),
    "a map with a hole": (TURNED, {"warp_aux_to_img": {"scale": math.nan}}, nf.PathInfoError, "invertible affine"),
    "a map of another kind": (TURNED, {"warp_aux_to_img": {"type": "tps", "points": 3}}, nf.PathInfoError, "not an affine"),
    "a ragged map": (TURNED, {"warp_aux_to_img": [[1, 2], [3]]}, nf.PathInfoError, "not an affine"),
    "a video's map": (("images", 0), {"warp_img_to_vid": {"scale": "two"}}, nf.PathInfoError, "warp_img_to_vid is not"),
    "no quantization": (TURNED, {"quantization": {"orig_min": 3}}, nf.PathInfoError, "no quant_max"),
    "no video": (("images", 0), {"video_id": 77}, nf.PathInfoError, "^image 1: its video 77 does not exist; the videos are"),
    "a file name that is none": (("images", 0), {"file_name": 12}, nf.PathInfoError, "file_name"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_dataset_says_wrongly(bundle, name):
    dataset, folder = bundle
    place, values, error, message = WRONG[name]
    item = dataset
    for key in place:
        item = item[key]
    item.update(values)
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, space="video", backend=None)
    with pytest.raises(error, match=message) as caught:
        frames.load_region(1, None, "turned|g" if name not in ("bands", "no file") else None)
    assert "image 1" in str(caught.value)
    assert type(pickle.loads(pickle.dumps(caught.value))) is error
    np.testing.assert_array_equal(
        frames.load_region(2, None, "turned|g").shape, (130, 200, 2)
    )  # of which nothing is wrong


def test_a_frame_index_that_is_no_number(bundle):
    dataset, folder = bundle
    dataset["images"][0]["frame_index"] = "first"
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    with pytest.raises(nf.PathInfoError, match="video 8: the frame_index of an image is not a number"):
        frames.load_region("clip")


def test_a_video_without_images(bundle):
    dataset, folder = bundle
    dataset["videos"].append({"id": 9, "name": "empty"})
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    for item in (("video", 9), "empty"):
        with pytest.raises(nf.PathInfoError, match="video 9 has no images"):
            frames.load_region(item)
