"""Invalid datasets: errors that name the image, the field and the value."""

from __future__ import annotations

import json
import math
import os
import pickle
import zipfile

import numpy as np
import pytest

import ndframes as nf


@pytest.mark.parametrize("dset", [None, 5, {}, {"images": 3}, {"images": [{"file_name": "a"}]}, []])
def test_an_invalid_dataset(dset, tmp_path):
    with pytest.raises(nf.PathInfoError, match="dataset"):
        nf.CocoFrames(dset)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"images": null}', b"PK\x03\x04", b"\xff\xfe"])
def test_a_file_without_a_dataset(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(nf.PathInfoError, match=r"data\.json (is not a COCO|cannot be read as a) dataset"):
        nf.CocoFrames(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images":' * 50_000])
def test_a_file_that_is_nested_too_deeply(tmp_path, text):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(nf.PathInfoError, match=r"data\.json cannot be read as a dataset: .* nested too deeply"):
        nf.CocoFrames(tmp_path / "data.json")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(nf.SourceMissingError, match=r"nowhere\.json does not exist; check the path"):
        nf.CocoFrames(tmp_path / "nowhere.json")
    os.mkfifo(tmp_path / "fifo.json")
    for path in (tmp_path, tmp_path / "fifo.json"):
        with pytest.raises(nf.SourceError, match="is not a regular file; give the path of a dataset"):
            nf.CocoFrames(path)


@pytest.mark.parametrize("videos", [5, "x", [5], [None], [{"name": "v"}], {"id": 1}])
def test_videos_that_are_none(videos):
    with pytest.raises(nf.PathInfoError, match="'videos' must be a list of dictionaries, each with an 'id'"):
        nf.CocoFrames({"images": [], "videos": videos})


@pytest.mark.parametrize("kind", ["image", "video"])
def test_an_id_that_occurs_twice(tmp_path, kind):
    """The last one would silently replace the others."""
    records = [{"id": 7, "file_name": "a.npy"}, {"id": 8, "file_name": "b.npy"}, {"id": 7, "file_name": "c.npy"}]
    dataset = {"images": [], f"{kind}s": records}
    with pytest.raises(nf.PathInfoError, match=f"the dataset: {kind} id 7 occurs 2 times"):
        nf.CocoFrames(dataset)
    (tmp_path / "data.json").write_text(json.dumps(dataset))
    with pytest.raises(nf.PathInfoError, match=rf"data\.json: {kind} id 7 occurs 2 times"):
        nf.CocoFrames(tmp_path / "data.json")
    records[2]["id"] = [7]
    with pytest.raises(nf.PathInfoError, match=f"an id of its {kind}s is a list"):
        nf.CocoFrames(dataset)


def test_an_id_that_occurs_twice_after_an_edit(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.uint8))
    dataset = {"images": [{"id": 7, "file_name": "a.npy"}]}
    frames = nf.CocoFrames(dataset, bundle_dpath=tmp_path, backend=None)
    assert frames.load_region(7).shape == (3, 4, 1)
    dataset["images"] += [{"id": 9, "file_name": "a.npy"}, {"id": 9, "file_name": "b.npy"}]
    with pytest.raises(nf.PathInfoError, match="image id 9 occurs 2 times"):
        frames.load_region(9)


@pytest.mark.parametrize("key", ["auxiliary", "assets"])
@pytest.mark.parametrize("files", [5, "x", [5], [None], ["b.npy"], [[]], {"file_name": "b.npy"}, True, math.inf])
def test_files_that_are_no_records(bundle, key, files):
    dataset, folder = bundle
    dataset["images"][0].update({key: files})
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, backend=None)
    for read in (frames.pathinfo, frames.load_region, frames.load_frame):
        with pytest.raises(nf.PathInfoError, match=f"image 1: {key} must be a list of dictionaries, got"):
            read(1)
    with pytest.raises(nf.PathInfoError, match=f"image 1: {key} must be a list of dictionaries, got"):
        frames.load_region("clip")


def test_an_archive_of_two_datasets(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    with pytest.raises(nf.PathInfoError, match=r"holds 2 \.json files"):
        nf.CocoFrames(tmp_path / "a.zip")


def test_an_unknown_space(bundle):
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


ASSET = ("images", 0, "assets", 0)
INVALID = {
    "a file that is not there": (("images", 0), {"file_name": "gone.tif"}, nf.SourceMissingError, "gone.tif"),
    "no file": (("images", 0), {"file_name": None, "auxiliary": [], "assets": None}, nf.PathInfoError, "names no file"),
    "another size": (("images", 0), {"width": 121}, nf.UnreadableImageError, "90 x 120 px, but said to be 90 x 121"),
    "an asset's other size": (ASSET, {"height": 7}, nf.UnreadableImageError, "80 x 100 px, but said to be 7 x 100"),
    "no size": (("images", 0), {"width": -1}, nf.PathInfoError, "shape must be"),
    "bands": (("images", 0), {"channels": "r|g"}, nf.UnreadableImageError, "3 bands, but 2 channels are named"),
    "a projection": (
        ASSET,
        {"warp_aux_to_img": {"type": "projective", "matrix": [[1, 0, 0], [0, 1, 0], [0.01, 0, 1]]}},
        nf.PathInfoError,
        "^image 1: warp_aux_to_img is not an invertible affine",
    ),
    "a flat map": (ASSET, {"warp_aux_to_img": {"scale": 0}}, nf.PathInfoError, "not an invertible affine"),
    "a map of words": (ASSET, {"warp_aux_to_img": "identity"}, nf.PathInfoError, "not an affine"),
    "a map with a hole": (ASSET, {"warp_aux_to_img": {"scale": math.nan}}, nf.PathInfoError, "invertible affine"),
    "a map of another kind": (ASSET, {"warp_aux_to_img": {"type": "tps", "points": 3}}, nf.PathInfoError, "not an affine"),
    "a ragged map": (ASSET, {"warp_aux_to_img": [[1, 2], [3]]}, nf.PathInfoError, "not an affine"),
    "a video's map": (("images", 0), {"warp_img_to_vid": {"scale": "two"}}, nf.PathInfoError, "warp_img_to_vid is not"),
    "no quantization": (ASSET, {"quantization": {"orig_min": 3}}, nf.PathInfoError, "no quant_max"),
    "no video": (("images", 0), {"video_id": 77}, nf.PathInfoError, "^image 1: its video 77 does not exist; the videos are"),
    "a file name that is none": (("images", 0), {"file_name": 12}, nf.PathInfoError, "file_name"),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_field(bundle, name):
    dataset, folder = bundle
    place, values, error, message = INVALID[name]
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
    )  # the other image is valid


def test_an_invalid_frame_index(bundle):
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
