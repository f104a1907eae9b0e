"""CocoFrames on a dataset with every kind of file: forms, spaces, channels, quantization, the cache, pickles."""

from __future__ import annotations

import copy
import json
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from kit.coco_bundles import (
    MATRICES,
    SHAPE,
    by_kwcoco,
    coco,
    differ,
    find_slack,
    interpolate,
    is_clear,
    quiet,
    read_all,
    read_stored,
    save,
    to_video,
)
from kit.synthetic import picture

import ndframes as nf


@pytest.mark.parametrize("form", ["dict", "kwcoco", "path", "zip"])
def test_every_form_of_a_dataset(bundle, form, tmp_path):
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
    assert (len(frames), list(frames), frames[2].image_id) == (2, [1, 2], 2)
    np.testing.assert_array_equal(frames.load_region(2), picture((*SHAPE, 3), seed=2))
    known = [1, ("video", 8), "clip"]
    assert [item in frames for item in [*known, 3, "1", ("video", 9), ("audio", 8), None, [1], 2.5]] == [
        *[True] * 3,
        *[False] * 7,
    ]


def test_affine_parameters_are_kwimages(bundle):
    """The matrix of a dict of parameters is the one that kwimage makes."""
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
            wanted = by_kwcoco(dset, number, codes)  # kwcoco ignores assets beside auxiliary files
            dset.dataset["images"][number - 1]["auxiliary"][1:] = []
            assert differ(got, wanted)[clear].max() <= slack


def test_files_are_resampled_once_into_a_video(bundle):
    """By the product of both matrices; kwcoco resamples twice."""
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
        wanted = by_kwcoco(dset, number, "r|g|b", space="video")  # resampled once, as its file has no matrix
        assert differ(frames.load_region(number), wanted)[clear].max() <= 1


def test_a_video_is_its_images_by_frame_index(bundle):
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
                if wanted.dtype.kind == "f":  # OpenCV's coordinates start at the crop and have 24 bits
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
def test_deprecated_keys_hold_the_inverse_matrix(bundle, key):
    dataset, folder = bundle
    wanted = nf.CocoFrames(copy.deepcopy(dataset), bundle_dpath=folder, backend=None).load_image(1, "turned")
    asset = dataset["images"][0]["assets"][0]
    del asset["warp_aux_to_img"]
    asset[key] = {"type": "affine", "matrix": np.linalg.inv(MATRICES["turned"]).tolist()}
    got = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None).load_image(1, "turned")
    assert differ(got, wanted).max() <= 1
    assert differ(got, wanted).mean() < 0.01
    asset["warp_aux_to_img"] = {"scale": 1}  # takes precedence
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
def test_a_file_without_channel_names(tmp_path, bands):
    pixels = picture((*SHAPE, bands))
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", picture(SHAPE, "uint16"))
    image = {"id": 1, "file_name": "a.npy", "auxiliary": [{"file_name": "b.npy", "channels": "depth"}]}
    frames = nf.CocoFrames({"images": [image]}, bundle_dpath=tmp_path, backend=None)
    np.testing.assert_array_equal(frames.load_region(1), pixels)  # the image's own file is the default
    frame = frames.load_frame(1)
    assert len(frame.channels) == bands
    np.testing.assert_array_equal(frames.load_region(1, None, "depth")[..., 0], picture(SHAPE, "uint16"))
    together = frames.load_region(1, None, ["depth", frame.channels[-1]])
    np.testing.assert_array_equal(together, np.dstack([picture(SHAPE, "uint16"), pixels[..., -1]]))
    assert frames.load_region(1, None, "<all>").shape == (*SHAPE, bands + 1)


def test_a_channel_in_two_files(tmp_path):
    np.save(tmp_path / "a.npy", picture((*SHAPE, 3)))
    np.save(tmp_path / "b.npy", picture(SHAPE))
    image = {"id": 1, "file_name": "a.npy", "assets": [{"file_name": "b.npy", "channels": "g"}]}
    frames = nf.CocoFrames({"images": [image]}, bundle_dpath=tmp_path, backend=None)
    with pytest.raises(nf.ChannelError, match=r"image 1: several files hold 'g': .*a.npy \(r\|g\|b\), .*b.npy \(g\)"):
        frames.load_region(1, None, "g")
    image["channels"] = "red|green|blue"
    np.testing.assert_array_equal(frames.load_region(1, None, "g")[..., 0], picture(SHAPE))
    image["channels"] = "r|g|b"
    with pytest.raises(nf.ChannelError, match="its files have channel 'g'"):
        frames.load_region(1)


@pytest.mark.parametrize("spec", ["a|b|c", "a,b|c", ["a", "b", "c"], "x:3", "x.4:7"])
def test_notations_of_channels(tmp_path, spec):
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


def test_a_video_name_equal_to_an_image_id(tmp_path):
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


# -- plain datasets ---------------------------------------------------------------------------------------------------


def test_a_plain_dataset(tmp_path):
    """As other programs write them: without videos and channels, with further keys."""
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


def test_file_names_are_relative_to_the_current_folder(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", picture(SHAPE))
    monkeypatch.chdir(tmp_path)
    frames = nf.CocoFrames({"images": [{"id": 1, "file_name": "a.npy"}]}, backend=None)
    assert frames.bundle_dpath == tmp_path
    np.testing.assert_array_equal(frames.load_image(1)[..., 0], picture(SHAPE))
    given = nf.CocoFrames(
        {"images": [{"id": 1, "file_name": "a.npy"}], "bundle_dpath": os.fspath(tmp_path)}, backend=None
    )
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(given.load_image(1)[..., 0], picture(SHAPE))


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
    # OpenCV rounds coordinates of 64-bit images to 1/32 of a pixel
    assert differ(got, wanted)[clear].max() <= (1e-3 if got.dtype == np.float32 else 1e-2) * span
    if scale == 1:
        np.testing.assert_array_equal(np.isnan(got[..., 0]), stored == quantization.get("nodata"))


@pytest.mark.parametrize("where", ["dataset", "file"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_nodata(tmp_path, where, dtype):
    """Nodata pixels are left out of every mean; elsewhere pixels equal kwcoco's."""
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
    assert np.nanmax(got) < 300  # 9999 is in no mean
    clear[27:43, 41:63] = False
    assert differ(got, wanted)[clear].max() <= (1 if dtype == "uint16" else 0.3)
    masked = frames.load_region(1, nodata="mask")
    np.testing.assert_array_equal(masked.mask[..., 0], np.isnan(got))
    assert masked.dtype == dtype


# -- the cache and pickles --------------------------------------------------------------------------------------------


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
    report = in_video.prepare([("video", 8)], progress=False)  # the same entries in every space
    assert (report.prepared, report.present) == (0, 10)
    assert sorted(entry.path for entry in frames.cache.ls()) == entries


def test_a_read_fills_the_cache(bundle, tmp_path, backend):
    dataset, folder = bundle
    direct = read_all(nf.CocoFrames(dataset, bundle_dpath=folder, backend=None))
    np.testing.assert_equal(
        read_all(nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "w", backend=backend)), direct
    )


def test_a_pickle_holds_the_dataset_and_no_pixels(bundle):
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
