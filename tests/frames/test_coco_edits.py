"""CocoFrames whose dataset is edited: by hand, by kwcoco, after a fork, while threads read."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
from kit.coco_bundles import SHAPE, coco, read_all, save
from kit.forking import in_fork
from kit.synthetic import picture

import ndframes as nf


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


@pytest.mark.parametrize(("form", "space"), [("dict", "video"), ("kwcoco", "image")])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_takes_effect(bundle, at_rest, edit, form, space):
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


def test_irrelevant_edits_keep_the_image_open(bundle):
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
    """Counts how often it is iterated."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def test_reading_does_not_iterate_over_the_dataset(bundle):
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
    """Every read gives a state of the dataset at some time during the read."""
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
