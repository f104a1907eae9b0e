"""Opening files in the ways that people try: lists, folders, globs, values with options, relative paths, pages, boxes."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import tifffile

import ndframes as nf


def picture(seed, shape=(20, 30)):
    return np.random.default_rng(seed).integers(1, 255, shape, np.uint8)


def write_movie(path, count):
    pixels = picture(count, (count, 32, 48, 3))
    nf.write_video(path, pixels, 25, codec="ffv1")
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Three images, in the order of their numbers, and other files."""
    root = tmp_path / "photos"
    root.mkdir()
    for number in (2, 10, 1):
        np.save(root / f"p{number}.npy", picture(number))
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.npy").write_bytes(b"")
    (root / "deeper").mkdir()
    return root


def check(frames, by_id):
    assert list(frames) == list(frames.image_ids) == list(by_id)
    for image_id, pixels in by_id.items():
        np.testing.assert_array_equal(frames[image_id][..., 0], pixels)
        np.testing.assert_array_equal(frames.load_region(image_id)[..., 0], pixels)


PHOTOS = {f"p{number}": picture(number) for number in (1, 2, 10)}


@pytest.mark.parametrize("backend", [None, "npy", "cog"])
@pytest.mark.parametrize("form", [str, os.fspath, lambda path: path, os.fsencode])
def test_a_folder_and_a_glob_are_their_files(folder, tmp_path, backend, form):
    options = {"workdir": tmp_path / "work", "backend": backend}
    check(nf.SimpleFrames(form(folder), **options), PHOTOS)
    check(nf.SimpleFrames(form(folder / "p*"), **options), PHOTOS)
    check(nf.SimpleFrames(form(folder / "p1*.npy"), **options), {key: PHOTOS[key] for key in ("p1", "p10")})
    check(nf.SimpleFrames(form(folder / "p%d.npy"), **options), PHOTOS)
    check(nf.SimpleFrames(form(folder / "p2.npy"), **options), {"p2": PHOTOS["p2"]})


def test_a_list_is_its_files(folder):
    paths = sorted(folder.glob("*.npy"))[1:]
    wanted = {path.stem: np.load(path) for path in paths}
    for sources in (paths, [*map(str, paths)], tuple(paths), iter(paths), [nf.ChannelInfo(path) for path in paths]):
        check(nf.SimpleFrames(sources, backend=None), wanted)
    check(nf.SimpleFrames([nf.PathInfo(number, [nf.ChannelInfo(path)]) for number, path in enumerate(paths)], backend=None),
          dict(enumerate(wanted.values())))  # fmt: skip
    check(nf.SimpleFrames(zip("xyz", paths, strict=True), backend=None), dict(zip("xyz", wanted.values(), strict=True)))


def test_names_that_come_twice_give_paths(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [str(tmp_path / name) for name in ("a/x.npy", "b/x.npy", "b/x.tif", "a/y.npy")]
    for number, path in enumerate(paths):
        (tifffile.imwrite if path.endswith(".tif") else np.save)(path, picture(number))
    check(nf.SimpleFrames(paths, backend=None), {path: picture(number) for number, path in enumerate(paths)})
    check(
        nf.SimpleFrames(tmp_path / "b", backend=None),
        {path: picture(n) for n, path in enumerate(paths) if "/b/" in path},
    )
    with pytest.raises(nf.PathInfoError, match="x.npy' comes more than once; give a mapping"):
        nf.SimpleFrames(paths[:1] * 2)


def test_two_letters_are_no_pair(tmp_path, monkeypatch):
    """Python takes a list of texts of two characters for pairs."""
    monkeypatch.chdir(tmp_path)
    for name in ("ab", "cd"):
        with open(name, "wb") as file:
            np.save(file, picture(ord(name[0])))
    check(nf.SimpleFrames(["ab", "cd"], backend=None), {name: picture(ord(name[0])) for name in ("ab", "cd")})


def test_what_is_not_there(tmp_path):
    with pytest.raises(nf.SourceMissingError, match="nowhere does not exist"):
        nf.SimpleFrames(tmp_path / "nowhere")
    with pytest.raises(nf.SourceMissingError, match="as a pattern it matches nothing"):
        nf.SimpleFrames(str(tmp_path / "*.png"))
    with pytest.raises(nf.SourceKindError, match="without images or videos: it holds no file"):
        nf.SimpleFrames(tmp_path)


@pytest.mark.parametrize("backend", [None, "cog"])
def test_values_with_options(tmp_path, backend):
    pages = [picture(number) for number in range(3)]
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tiff:
        for page in pages:
            tiff.write(page)
    np.save(tmp_path / "rgb.npy", picture(9, (20, 30, 3)))
    sources = {
        1: nf.ChannelInfo(tmp_path / "pages.tif", page=2),
        2: nf.PathInfo("other", [nf.ChannelInfo(tmp_path / "rgb.npy", channels="b|g|r")], default="r"),
        3: tmp_path / "rgb.npy",
        4: nf.Clip(tmp_path / "rgb.npy").path,
    }
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=backend)
    np.testing.assert_array_equal(frames[1][..., 0], pages[2])
    np.testing.assert_array_equal(frames[2], picture(9, (20, 30, 3))[..., 2:])
    np.testing.assert_array_equal(frames[3], picture(9, (20, 30, 3)))
    assert frames.pathinfo(2).image_id == frames[2].image_id == 2
    for page in range(3):
        opened = nf.open(tmp_path / "pages.tif", page=page, workdir=tmp_path / "work", backend=backend)
        np.testing.assert_array_equal(opened[..., 0], pages[page])
    assert nf.open(sources[1])[0, 0, 0] == pages[2][0, 0]
    np.testing.assert_array_equal(nf.open(sources[2]), frames[2])


def test_a_page_of_a_video_and_of_a_sequence(tmp_path, folder):
    path = tmp_path / "walk.mkv"
    pixels = write_movie(path, 6)
    np.testing.assert_array_equal(nf.open(path, page=4), nf.open(path)[4])
    assert nf.open(path, page=4).shape == pixels.shape[1:]
    gray = nf.open(path, page=4, pixel_format="gray")
    np.testing.assert_array_equal(gray, nf.open(path, pixel_format="gray")[4])
    with pytest.raises(nf.UnreadableImageError, match="frame 6 does not exist"):
        nf.open(path, page=6)[0]
    with pytest.raises(
        nf.PathInfoError, match=r"choose an image of one file; of a sequence, open\(...\)\[5\] is frame 5"
    ):
        nf.open(folder, page=1)
    with pytest.raises(nf.PathInfoError, match="name them in its ChannelInfo"):
        nf.open(nf.ChannelInfo(path), page=1)


def test_a_folder_of_videos(tmp_path):
    vids = tmp_path / "vids"
    vids.mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_movie(vids / name, 3)
    frames = nf.SimpleFrames(vids)
    assert [frames[name].shape[0] for name in frames] == [3, 3]
    assert list(frames) == ["a", "b"]
    with pytest.raises(nf.SourceKindError, match=r"is a folder of videos: .*; SimpleFrames\('.*'\) reads each"):
        nf.open(vids)


# -- relative paths ---------------------------------------------------------------------------------------------------


class Own(nf.Frames):
    image_ids = ("p1",)

    def build_pathinfo(self, image_id):
        return nf.PathInfo(image_id, [nf.ChannelInfo(f"photos/{image_id}.npy")])


SOURCES = {
    "mapping": lambda: nf.SimpleFrames({"p1": "photos/p1.npy"}),
    "list": lambda: nf.SimpleFrames(["photos/p1.npy"]),
    "channel": lambda: nf.SimpleFrames({"p1": nf.ChannelInfo("photos/p1.npy")}),
    "pathinfo": lambda: nf.SimpleFrames({"p1": nf.PathInfo(0, [nf.ChannelInfo("photos/p1.npy")])}),
    "folder": lambda: nf.SimpleFrames("photos"),
    "glob": lambda: nf.SimpleFrames("photos/p*.npy"),
    "own": Own,
    "coco": lambda: nf.CocoFrames({"images": [{"id": "p1", "file_name": "photos/p1.npy"}]}),
    "coco folder": lambda: nf.CocoFrames({"images": [{"id": "p1", "file_name": "p1.npy"}]}, bundle_dpath="photos"),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_a_later_chdir_changes_nothing(folder, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    frames = make()
    monkeypatch.chdir("/")
    twin = pickle.loads(pickle.dumps(frames))
    for each in (frames, twin):
        np.testing.assert_array_equal(each.load_region("p1")[..., 0], PHOTOS["p1"])
        assert os.path.isabs(each.pathinfo("p1").channels[0].path)


def test_sequences_stay_where_they_were(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = nf.SimpleFrames({"glob": "photos/p*.npy", "folder": "photos", "clip": nf.Clip("photos/p%d.npy")})
    opened = nf.open("photos")
    monkeypatch.chdir("/")
    for image_id in frames:
        np.testing.assert_array_equal(frames[image_id][..., 0], np.stack([*PHOTOS.values()]))
    np.testing.assert_array_equal(opened[..., 0], np.stack([*PHOTOS.values()]))


def test_a_tilde_is_the_home_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for source in ("~/photos", "~/photos/p*.npy", {"p1": "~/photos/p1.npy"}, ["~/photos/p1.npy"]):
        frames = nf.SimpleFrames(source, workdir="~/cache", backend="npy")
        np.testing.assert_array_equal(frames["p1"][..., 0], PHOTOS["p1"])
        assert frames.cache.workdir == tmp_path / "cache"
    np.testing.assert_array_equal(nf.open("~/photos/p1.npy")[..., 0], PHOTOS["p1"])
    np.testing.assert_array_equal(nf.open(nf.Clip("~/photos"))[0, ..., 0], PHOTOS["p1"])
    coco = nf.CocoFrames({"images": [{"id": 1, "file_name": "p1.npy"}]}, bundle_dpath="~/photos")
    np.testing.assert_array_equal(coco[1][..., 0], PHOTOS["p1"])
    assert not (tmp_path / "~").exists()


# -- boxes, and regions that leave the image --------------------------------------------------------------------------


def test_a_box_of_coco():
    assert nf.region_of_box((10, 20, 30, 40)) == (slice(20, 60), slice(10, 40))
    assert nf.region_of_box(np.float32([0.5, 1.5, 2, 3])) == (slice(1, 5), slice(0, 3))
    assert nf.region_of_box([-3, -2.5, 10, 5]) == (slice(-3, 3), slice(-3, 7))
    for box in ((1, 2, 3), 5, "abcd", (1, 2, -3, 4), (np.nan, 0, 1, 1), (0, 0, np.inf, 1)):
        with pytest.raises(nf.RegionError, match="box"):
            nf.region_of_box(box)


@pytest.mark.parametrize("backend", [None, "cog"])
def test_a_region_that_leaves_the_image_is_an_error_on_request(frames_of, backend):
    pixels = picture(0, (40, 60, 3))
    frames = frames_of(pixels, backend=backend)
    inside = [
        np.s_[0:40, 0:60],
        np.s_[3:9:2, 59::-1],
        np.s_[5],
        np.s_[..., 1],
        None,
        nf.region_of_box((50, 30, 10, 10)),
    ]
    for region in inside:
        want = np.atleast_1d(pixels if region is None else pixels[region])
        np.testing.assert_array_equal(frames.load_region("a", region, outside="raise"), want)
    (crop,) = frames.load_regions([("a", np.s_[2:5, 3:7])], outside="raise")
    np.testing.assert_array_equal(crop, pixels[2:5, 3:7])
    for region in (
        np.s_[0:60, 0:40],
        np.s_[0:41],
        np.s_[:, -1:],
        np.s_[-1],
        np.s_[40],
        nf.region_of_box((-2, 0, 10, 10)),
    ):
        with pytest.raises(nf.RegionError, match="leaves the image of 40 x 60 px") as caught:
            frames.load_region("a", region, outside="raise")
        assert ("y and x swapped" in str(caught.value)) == (region == np.s_[0:60, 0:40])
        with pytest.raises(nf.RegionError, match="leaves the image|is out of bounds"):
            frames.load_regions([("a", region)], outside="raise")
    with pytest.raises(nf.RegionError, match="outside='raise' refuses what pad='edge' fills"):
        frames.load_region("a", pad="edge", outside="raise")
    with pytest.raises(nf.RegionError, match="outside='clip'; allowed"):
        frames.load_region("a", outside="clip")


def test_a_region_that_leaves_a_video_is_an_error_on_request(folder):
    frames = nf.SimpleFrames({"walk": folder}, backend=None)
    assert frames.load_region("walk", np.s_[0:3, 0:5, 0:5], outside="raise").shape == (3, 5, 5, 1)
    for region in (np.s_[0:4], np.s_[:, 0:21], np.s_[:, :, 0:31], np.s_[-1]):
        with pytest.raises(nf.RegionError, match="leaves the"):
            frames.load_region("walk", region, outside="raise")
