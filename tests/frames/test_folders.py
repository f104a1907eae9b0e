"""Folders, globs and patterns: the frames are the files in their order, and their pixels are those of each file alone."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from kit.forking import in_fork
from kit.synthetic import picture
from PIL import Image

import ndframes as nf
from ndframes.frames.clip import Clip, natural_key, to_clip

SHAPE = (40, 52)
NUMBERS = (2, 3, 9, 10, 11, 100)


def write(path: Path, number: int, *, bands: int = 3, shape=SHAPE, dtype="uint8") -> None:
    """An image that only this number gives."""
    pixels = picture((*shape, bands), dtype, seed=number)
    pixels = pixels[..., 0] if bands == 1 else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb" if bands == 3 else "minisblack")
    else:
        Image.fromarray(pixels).save(path, subsampling=0)  # decoders spread colours in ways of their own


def decode(path: object) -> np.ndarray:
    """Its pixels, ``(height, width, channels)``, by other libraries than ours."""
    name = os.fspath(path)
    if name.endswith(".npy"):
        pixels = np.load(name)
    elif name.endswith(".tif"):
        pixels = tifffile.imread(name)
    else:
        pixels = np.asarray(Image.open(name))
    return pixels.reshape(*pixels.shape[:2], -1)


def stack(folder: Path, names) -> np.ndarray:
    return np.stack([decode(folder / name) for name in names])


@pytest.fixture(scope="module", params=[".png", ".jpg", ".tif", ".npy"])
def walk(request, tmp_path_factory):
    """A folder of six images, their names in order, and all that a folder has besides."""
    folder = tmp_path_factory.mktemp("walk")
    names = [f"frame{number}{request.param}" for number in NUMBERS]
    for name, number in reversed(list(zip(names, NUMBERS, strict=True))):
        write(folder / name, number)
    write(folder / "deeper" / f"frame1{request.param}", 1)
    write(folder / f".hidden{request.param}", 1)
    (folder / "folder.png").mkdir()
    for name in ("Thumbs.db", "frame4.json", "frame5.png.part", "frame6", ".DS_Store"):
        (folder / name).write_text("no image")
    return folder, names


@pytest.fixture
def many(tmp_path):
    """Makes empty files, for what is found without being read."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


# -- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "cog", "npy"])
def test_a_folder_is_an_array(walk, tmp_path, backend):
    folder, names = walk
    whole = stack(folder, names)
    walked = nf.open(folder, workdir=tmp_path, backend=backend)
    assert (walked.shape, walked.dtype, walked.channels) == (whole.shape, whole.dtype, ("r", "g", "b"))
    for index in (
        0, -1, np.s_[2:4], np.s_[::-2, 5:30, 7:40], np.s_[4, 9], np.s_[..., 0], np.s_[9:], [5, 1, 5], np.array([2, 0]),
        np.s_[[3, 2], 10:20, -9:],
    ):  # fmt: skip
        np.testing.assert_array_equal(walked[index], whole[index], strict=True)
    frames = nf.SimpleFrames({"walk": str(folder)}, workdir=tmp_path, backend=backend)
    np.testing.assert_array_equal(frames.load_region("walk", np.s_[1:3, 4:9], "b|r"), whole[1:3, 4:9][..., [2, 0]])
    batch = frames.load_regions([("walk", np.s_[time : time + 2, :8, :8]) for time in (3, 0, 4)])
    np.testing.assert_array_equal(batch, np.stack([whole[time : time + 2, :8, :8] for time in (3, 0, 4)]))
    with pytest.raises(nf.RegionIndexError, match="out of bounds for axis 0, which has 6"):
        walked[6]
    with pytest.raises(nf.RegionIndexError, match="out of bounds for axis 0, which has 6"):
        walked[[0, -7]]


def test_each_image_has_an_entry_of_its_own(walk, tmp_path):
    folder, names = walk
    frames = nf.SimpleFrames({"walk": folder}, workdir=tmp_path, backend="npy")
    report = frames.prepare()
    assert (report.prepared, report.present) == (6, 0)
    assert len(list(frames.cache.ls())) == 6
    alone = nf.SimpleFrames({name: folder / name for name in names}, workdir=tmp_path, backend="npy")
    report = alone.prepare()
    assert (report.prepared, report.present) == (0, 6)
    np.testing.assert_array_equal(frames.load_region("walk", 3), alone.load_image(names[3]))


def test_gray_images_have_one_channel(tmp_path):
    for number, dtype in enumerate(["uint8", "uint16", "uint16"]):
        write(tmp_path / f"{number}.tif", number, bands=1, dtype=dtype)
    walked = nf.open(tmp_path)
    assert (walked.shape, walked.channels, walked.dtype) == ((3, *SHAPE, 1), ("gray",), np.uint16)
    np.testing.assert_array_equal(walked[0], decode(tmp_path / "0.tif"), strict=True)  # each read has its own dtype
    np.testing.assert_array_equal(walked[...], np.stack([decode(tmp_path / f"{number}.tif") for number in range(3)]))


def test_images_that_do_not_fit_each_other_are_named(tmp_path):
    write(tmp_path / "0.png", 0)
    write(tmp_path / "1.png", 1, shape=(30, 60))
    write(tmp_path / "2.png", 2, bands=1)
    walked = nf.open(tmp_path)
    np.testing.assert_array_equal(walked[0], decode(tmp_path / "0.png"))
    with pytest.raises(nf.UnreadableImageError, match=r"1\.png.*30 x 60 px in an image of 40 x 52 px"):
        walked[1]
    with pytest.raises(nf.ChannelError, match=r"2\.png.*no channel 'r\|g\|b'; there are 'gray'"):
        walked[2]


def test_processes_read_the_same(walk, tmp_path):
    folder, names = walk
    whole = stack(folder, names)
    frames = nf.SimpleFrames({"walk": Clip(folder, frame_number=r"(\d+)\.")}, workdir=tmp_path)
    frames.load_region("walk", 0)
    twin = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(twin.load_region("walk"), whole)
    again = pickle.loads(pickle.dumps(frames.load_frame("walk")))
    np.testing.assert_array_equal(again[[4, 1]], whole[[4, 1]])
    in_fork(lambda: np.array_equal(frames.load_region("walk"), whole))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(frames.load_region, ("walk", slice(2, 5))), whole[2:5])


# -- which files, and in which order --------------------------------------------------------------------------------


def test_names_are_in_natural_order(many):
    names = ["a1.png", "a2.JPG", "a02b.png", "a10.png", "b1.tif", "b001x9.png", "b1x10.png"]
    folder = many(*reversed(names), ".a0.png", "c.txt", "a3.png/inner.png")
    assert list(Clip(folder).find_images()) == ["a1.png", "a2.JPG", "a02b.png", "a10.png", *names[4:]]
    assert list(Clip(folder).find_images().values()) == [str(folder / name) for name in names]


_STEMS = st.text("ab_.-é ", max_size=4)


@given(stem=_STEMS, end=_STEMS, numbers=st.lists(st.integers(0, 10**30), unique=True), widths=st.data())
def test_digits_compare_as_numbers(stem, end, numbers, widths):
    names = {number: f"{stem}{number:0{widths.draw(st.integers(1, 9))}d}{end}" for number in numbers}
    assert sorted(names.values(), key=natural_key) == [names[number] for number in sorted(numbers)]


@given(st.permutations(["", "1", "01", "001", "1a", "1a2", "1a10", "2", "10", "a", "a1", "a01", "a1b", "a10", "b"]))
def test_the_order_does_not_depend_on_what_comes_first(names):
    wanted = ["", "001", "01", "1", "1a", "1a2", "1a10", "2", "10", "a", "a01", "a1", "a1b", "a10", "b"]
    assert sorted(names, key=natural_key) == wanted


@given(st.lists(_STEMS))
def test_names_without_digits_are_sorted_as_ever(names):
    assert sorted(names, key=natural_key) == sorted(names)


def test_globs(many):
    folder = many("a/l2.png", "a/l10.png", "a/r1.png", "a/l1.txt", "a/l3.dat", "b/l0.png", "b/.l7.png", "c/d/m.png")
    (folder / "a" / "l5.png").mkdir()

    def find(pattern: str) -> list[str]:
        return list(Clip(folder / pattern).find_images())

    assert find("a/l*.png") == ["l2.png", "l10.png"]
    assert find("a/*") == find("a/*.*") == find("a/*.[p]ng") == ["l2.png", "l10.png", "r1.png"]
    assert find("a/*.dat") == ["l3.dat"]
    assert find("*/l?.png") == ["a/l2.png", "b/l0.png"]
    assert find("**/*.png") == ["a/l2.png", "a/l10.png", "a/r1.png", "b/l0.png", "c/d/m.png"]


@pytest.mark.parametrize("pattern", ["f{:03d}.png", "f{:03}.png", "f{0:03d}.png", "f{number:03d}.png", "f%03d.png"])
def test_patterns(many, pattern):
    """Names that another pattern makes are left out: 7 and 007 would else be one number."""
    folder = many(
        "f007.png", "f010.png", "f1000.png", "f9.png", "f0011.png", "fx.png", "f001.jpg", "g002.png", "f003a.png"
    )
    assert Clip(folder / pattern).find_images() == {
        number: str(folder / f"f{number:03d}.png") for number in (7, 10, 1000)
    }


@pytest.mark.parametrize("field", ["{}", "{:d}", "{frame}", "%d"])
def test_patterns_of_any_width(many, field):
    folder = many("f[1]0.png", "f[1]7.png", "f[1]10.png", "f[1]08.png", "f11.png")
    found = Clip(f"{folder}/f[1]{field}.png").find_images()
    assert list(found) == [0, 7, 10]
    folder = many("7/left.png", "10/left.png", "9/right.png")
    assert list(Clip(f"{folder}/{field}/left.png").find_images()) == [7, 10]


@given(numbers=st.sets(st.integers(0, 10**12), min_size=1, max_size=8), width=st.integers(1, 8))
def test_a_pattern_finds_what_it_formats(tmp_path_factory, numbers, width):
    folder = tmp_path_factory.mktemp("numbers")
    pattern = f"{folder}/a%0{width}d.png"
    for number in numbers:
        Path(pattern % number).touch()
    assert list(Clip(pattern).find_images().items()) == [(number, pattern % number) for number in sorted(numbers)]


def test_frame_numbers(many):
    folder = many("b_frame 3.png", "a_frame-0010.png", "c_frame7.png")
    found = Clip(folder, frame_number=r"frame\D*(\d+)(?!\d)").find_images()
    assert [(number, Path(path).name) for number, path in found.items()] == [
        (3, "b_frame 3.png"),
        (7, "c_frame7.png"),
        (10, "a_frame-0010.png"),
    ]
    assert list(Clip(folder / "[ac]*.png", frame_number=r"(-?\d+)").find_images()) == [-10, 7]


def test_frame_numbers_are_not_looked_for_in_the_folder(many):
    folder = many("frame1/frame5.png", "frame1/frame4.png", "run/8/left.png", "run/7/left.png")
    assert list(Clip(folder / "frame1", frame_number=r"frame(\d+)").find_images()) == [4, 5]
    assert list(Clip(folder / "frame1/*.png", frame_number=r"frame(\d+)").find_images()) == [4, 5]
    assert list(Clip(folder / "run/*/left.png", frame_number=r"(\d+)/").find_images()) == [7, 8]


@pytest.mark.parametrize(("frame_range", "places"), [((1, 4), [1, 2, 3]), ((4, None), [4, 5]), ((0, 6), range(6))])
def test_ranges_are_of_places(walk, frame_range, places):
    folder, names = walk
    some = nf.open(folder, frame_number=r"(\d+)\.", frame_range=frame_range)
    np.testing.assert_array_equal(some[...], stack(folder, [names[place] for place in places]))
    assert some.frame_ids == tuple(NUMBERS[place] for place in places)
    with pytest.raises(IndexError):
        some[len(places)]


@pytest.mark.parametrize("frame_range", [(0, 7), (6, None), (6, 7), (5, 10**30)])
def test_ranges_end_where_the_images_do(walk, frame_range):
    with pytest.raises(nf.PathInfoError, match=f"{re.escape(repr(frame_range))} goes beyond the 6 images there"):
        nf.open(walk[0], frame_range=frame_range)


def test_frames_have_ids(walk, tmp_path):
    folder, names = walk
    assert nf.open(folder).frame_ids == tuple(names)
    numbered = nf.open(folder / f"frame{{}}{Path(names[0]).suffix}")
    assert numbered.frame_ids == NUMBERS
    np.testing.assert_array_equal(numbered[numbered.frame_ids.index(10)], decode(folder / names[3]))
    assert not nf.open(folder / names[0]).frame_ids


# -- what a path is ---------------------------------------------------------------------------------------------------


def test_a_file_that_looks_like_a_pattern_is_itself(tmp_path):
    for name in ("a*.png", "a1.png", "b%d.png", "b1.png", "c{}.png", "c1.png", "d[1].png", "d1.png"):
        write(tmp_path / name, len(name) + ord(name[0]))
    for name in ("a*.png", "b%d.png", "c{}.png", "d[1].png"):
        assert to_clip(tmp_path / name) is None
        np.testing.assert_array_equal(nf.open(tmp_path / name)[...], decode(tmp_path / name))
    (tmp_path / "a*.png").unlink()
    assert nf.open(tmp_path / "a*.png").frame_ids == ("a1.png",)


@pytest.mark.parametrize("name", ["a[1]", "a*", "walk.mp4", "a%d", "a{}", "scan.tif"])
def test_a_folder_may_be_called_anything(tmp_path, name):
    for number in (0, 1):
        write(tmp_path / name / f"f{number}.png", number)
    wanted = stack(tmp_path / name, ["f0.png", "f1.png"])
    for path in (name, f"{name}/", f"{name}/*.png", f"{name}/f{{:d}}.png"):
        np.testing.assert_array_equal(nf.open(f"{tmp_path}/{path}")[...], wanted)


def test_paths_may_be_relative(tmp_path, monkeypatch):
    write(tmp_path / "walk" / "f0.png", 0)
    monkeypatch.chdir(tmp_path / "walk")
    for path in (".", "f*.png", "f%d.png", "../walk"):
        np.testing.assert_array_equal(nf.open(path)[0], decode("f0.png"))


def test_frames_of_ones_own_describe_folders(walk, tmp_path):
    folder, names = walk

    class Walks(nf.Frames):
        image_ids = ("walk",)

        def build_pathinfo(self, image_id):
            return Clip(folder, frame_range=(2, 5)).to_pathinfo(image_id)

    np.testing.assert_array_equal(Walks(workdir=tmp_path).load_region("walk"), stack(folder, names[2:5]))


def test_a_folder_is_listed_once(tmp_path):
    write(tmp_path / "f0.png", 0)
    frames = nf.SimpleFrames({"walk": tmp_path}, backend=None)
    assert frames.load_frame("walk").shape[0] == 1
    write(tmp_path / "f1.png", 1)
    assert frames.load_frame("walk").shape[0] == 1
    assert nf.open(tmp_path).shape[0] == 2
    write(tmp_path / "f0.png", 7)
    np.testing.assert_array_equal(frames.load_region("walk", 0), picture((*SHAPE, 3), seed=7))
    os.unlink(tmp_path / "f0.png")
    with pytest.raises(nf.SourceMissingError, match=r"f0\.png"):
        frames.load_region("walk", 0)


def test_a_link_to_nothing_is_a_frame_that_is_missing(tmp_path):
    """As a data set is that was not fetched: no frame takes the place of another."""
    write(tmp_path / "f0.png", 0)
    write(tmp_path / "f2.png", 2)
    (tmp_path / "f1.png").symlink_to("nowhere.png")
    for path in (tmp_path, tmp_path / "*.png", tmp_path / "f%d.png"):
        walked = nf.open(path)
        assert len(walked) == 3
        np.testing.assert_array_equal(walked[2], decode(tmp_path / "f2.png"))
        with pytest.raises(nf.SourceMissingError, match=r"f1\.png does not exist"):
            walked[1]


def test_a_video_of_a_dataset_lies_in_a_folder(tmp_path):
    images = []
    for number in NUMBERS[::-1]:
        write(tmp_path / "walk" / f"frame{number}.png", number)
        images.append(
            {"id": number + 50, "file_name": f"walk/frame{number}.png", "width": SHAPE[1], "height": SHAPE[0],
             "channels": "r|g|b", "video_id": 1, "frame_index": number}
        )  # fmt: skip
    videos = [{"id": 1, "name": "walk", "width": SHAPE[1], "height": SHAPE[0]}]
    frames = nf.CocoFrames({"videos": videos, "images": images}, bundle_dpath=tmp_path, workdir=tmp_path / "w")
    walked = frames.load_frame("walk")
    assert walked.frame_ids == tuple(number + 50 for number in NUMBERS)
    np.testing.assert_array_equal(walked[...], nf.open(tmp_path / "walk")[...])


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_nothing_there(many):
    folder = many("a/notes.txt", "a/b/c.png", "b/f1.png", "b/f01.png", "e/.x.png")
    (folder / "d").mkdir()
    for path, kind, told in (
        ("a", nf.SourceKindError, "a is a directory without images: it holds 1 file, such as notes.txt; give the path"),
        ("d", nf.SourceKindError, "d is a directory without images: it holds no file;"),
        ("e", nf.SourceKindError, "e is a directory without images: it holds 1 file, such as .x.png;"),
        ("b/g*.png", nf.SourceMissingError, "as a pattern it matches nothing; .*/b holds 2 files, such as f01.png$"),
        ("b/f%03d.png", nf.SourceMissingError, "as a pattern it matches nothing; .*/b holds 2 files"),
        ("a/*/*.tif", nf.SourceMissingError, "as a pattern it matches nothing; .*/a/ holds 1 file"),
        ("x/*.png", nf.SourceMissingError, "x/ does not exist; check the path"),
        ("x/f{}.png", nf.SourceMissingError, "x/ does not exist; check the path"),
        ("a%db/x.png", nf.SourceMissingError, "a%db/x.png does not exist, and as a pattern it matches nothing"),
    ):
        with pytest.raises(kind, match=re.escape(str(folder)) + ".*" + told) as caught:
            nf.open(folder / path)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        report = nf.SimpleFrames({"a": folder / path}).prepare(errors="collect")
        assert [type(item.error) for item in report.failed] == [kind]
    with pytest.raises(nf.SourceMissingError, match="x does not exist; check the path"):
        Clip(folder / "x").find_images()
    with pytest.raises(nf.SourceKindError, match=r"f1\.png is a file, not a folder of images"):
        nf.open(folder / "b" / "f1.png", frame_range=(0, 1))


def test_a_folder_that_may_not_be_read(many):
    folder = many("a/f1.png") / "a"
    parents = folder.parents
    temporary = next(place for place, parent in enumerate(parents) if parent.name.startswith("pytest-of-"))
    for parent in parents[: temporary + 1]:
        os.chmod(parent, 0o755)
    os.chmod(folder, 0)

    def is_refused() -> bool:
        if not os.geteuid():
            os.setuid(65534)
        for path in (folder, folder / "*.png", folder / "f%d.png"):
            with pytest.raises(nf.SourceAccessError, match="a cannot be read by this user"):
                Clip(path).find_images()
        return True

    try:
        in_fork(is_refused)
    finally:
        os.chmod(folder, 0o700)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (r"take(\d+)", r"finds nothing in 'a_frame_1\.png' instead of one whole number"),
        (r"(\d+)", r"finds '1', '2' in 'b_frame_1_2\.png' instead of"),
        (r"_(\w+)\.", r"finds 'frame_1' in 'a_frame_1\.png' instead of"),
        (r"frame_(\d)", r"finds 1 in both 'a_frame_1\.png' and 'b_frame_1_2\.png'; change it"),
    ],
)
def test_frame_numbers_that_are_none(many, expression, told):
    folder = many("a_frame_1.png", "b_frame_1_2.png")
    for path in (folder, folder / "*.png"):
        with pytest.raises(nf.PathInfoError, match=f"frame_number={re.escape(repr(expression))} {told}"):
            nf.open(path, frame_number=expression)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frame_number": "("}, r"frame_number='\(' is not a regular expression: "),
        ({"frame_number": r"\d+"}, "with one group, which matches the number"),
        ({"frame_number": r"(\d+)_(\d+)"}, "with one group, which matches the number"),
        ({"frame_number": b"(.)"}, "with one group, which matches the number"),
        ({"frame_number": 7}, r"such as r'frame\(\\d\+\)', got 7"),
        ({"frame_range": 7}, r"frame_range must be \(start, stop\) in whole frames, got 7"),
        ({"frame_range": (1,)}, "in whole frames"),
        ({"frame_range": (1, 2, 3)}, "in whole frames"),
        ({"frame_range": (0.5, 2)}, "in whole frames"),
        ({"frame_range": (None, 2)}, "in whole frames"),
        ({"frame_range": (-1, 2)}, "with 0 <= start < stop, got"),
        ({"frame_range": (2, 2)}, "with 0 <= start < stop, got"),
        ({"path": ""}, "a path must be"),
        ({"path": 3}, "a path must be"),
    ],
)
def test_values_that_cannot_be(options, told):
    with pytest.raises(nf.PathInfoError, match=told):
        Clip(**{"path": "walk", **options})


def test_a_pattern_says_one_number(many):
    folder = many("f1_2.png")
    with pytest.raises(nf.PathInfoError, match="has 2 numbers; give a pattern with one number"):
        nf.open(folder / "f{}_{}.png")
    with pytest.raises(nf.PathInfoError, match="contains the number of a frame, so leave out frame_number"):
        nf.open(folder / "f{}_2.png", frame_number=r"f(\d+)")


def test_a_folder_is_a_value():
    folder = Clip(Path("walk"), frame_range=[np.int64(1), 3])
    assert folder == Clip("walk", frame_range=(1, 3)) != Clip("walk")
    assert len({folder, pickle.loads(pickle.dumps(folder)), Clip("walk", frame_range=(1, 3))}) == 1
    assert to_clip(folder) is folder
    assert (to_clip(None), to_clip(3), to_clip(""), to_clip("none.png")) == (None,) * 4
