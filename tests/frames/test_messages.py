"""Messages for mistakes that people make: each says what was found, and what to do."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import kwimage
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import ndframes as nf
from ndframes.cli import main


def picture(shape=(40, 60, 3)):
    return np.random.default_rng(3).integers(1, 255, shape, np.uint8)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "a.npy", picture())
    return str(tmp_path / "a.npy")


@pytest.fixture
def frames(path):
    return nf.SimpleFrames({100: path, 107: path}, backend=None)


REGIONS = {
    "slices take integers, not floats: got 0.0": np.s_[0.0:64.0],
    "slices take integers, not floats: got 2.5": np.s_[:, 1 : np.float32(2.5)],
    r"a frame takes a list of whole numbers on its first axis, frames\[image_id\]\[\[1, 5, 9\]\]": [1, 5, 9],
    "range.* is not a region; .* np.flatnonzero turns a mask into one": range(3),
    "np.flatnonzero turns a mask into one": np.zeros((40, 60), bool),
    "indices are integers, not floats": 2.0,
    "np.flatnonzero turns a mask into whole numbers": True,
    "a box ends before it begins: left 50, top 50, right 10, bottom 10; .* region_of_box": kwimage.Boxes(
        [[50, 50, 10, 10]], "ltrb"
    ),
}


@pytest.mark.parametrize(("message", "region"), REGIONS.items())
def test_regions(frames, message, region):
    with pytest.raises(nf.RegionError, match=message):
        frames.load_region(100, region)
    if not isinstance(region, (list, np.ndarray)):
        with pytest.raises(nf.RegionError, match=message):
            frames[100][region]
    with pytest.raises(nf.RegionError, match=message):
        frames.load_regions([(100, region)])


def test_shapes_and_masks(frames):
    for shape in ((64.0, 64.0), (np.float64(3), 4), (True, 4)):
        with pytest.raises(nf.RegionError, match=r"give \(height, width\) of the result in whole pixels, as integers"):
            frames.load_region(100, shape=shape)
    mask = np.arange(40) % 3 == 0
    with pytest.raises(nf.RegionError, match="np.flatnonzero turns a mask into whole numbers"):
        frames[100][mask]
    np.testing.assert_array_equal(frames[100][np.flatnonzero(mask)], picture()[mask])


class Scalar:
    """A number as torch has it: equal to it elementwise, hashed by identity."""

    ndim = 0

    def item(self):
        return 100

    def __eq__(self, other):
        return np.array(other == 100)

    def __hash__(self):
        return id(self)


@pytest.mark.parametrize("image_id", ["100", Scalar(), np.array(100), np.str_("107"), 100.5, ("100",)])
def test_ids_of_another_type(frames, image_id):
    reads = (frames.load_region, frames.load_frame, frames.explain, frames.pathinfo, frames.extents, frames.load_image)
    for read in (*reads, lambda item: frames.load_regions([(item, None)])):
        with pytest.raises(nf.ImageIdError, match="^no image") as caught:
            read(image_id)
    if not isinstance(image_id, (float, tuple)):
        kind = type(image_id).__name__
        assert f"ids are int, you gave {kind}; give 10" in str(caught.value)
    assert frames.load_region(np.int64(100)).shape == (40, 60, 3)


def test_a_subclass_that_forgets_its_parent(path):
    class Forgetful(nf.Frames):
        image_ids = (1,)

        def __init__(self):
            self.own = 5

        def build_pathinfo(self, image_id):
            return nf.PathInfo(image_id, [nf.ChannelInfo(path)])

    frames = Forgetful()
    calls = [
        lambda: frames.load_region(1),
        lambda: frames.load_regions([(1, None)]),
        lambda: frames[1],
        lambda: frames.explain(1),
        lambda: frames.extents(1),
        lambda: frames.cache,
        lambda: repr(frames),
        lambda: frames.max_region_bytes,
        frames.refresh,
        frames.prepare,
        frames.estimate,
    ]
    for call in calls:
        with pytest.raises(AttributeError, match=r"Forgetful.__init__ must call super\(\).__init__\(\)") as caught:
            call()
        assert isinstance(caught.value, nf.NotInitializedError)
    assert not hasattr(frames, "_images")
    assert len(frames) == 1
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        frames.nothing_of_this_name  # noqa: B018


def test_a_description_that_is_a_path(path):
    class Paths(nf.Frames):
        image_ids = (1,)

        def build_pathinfo(self, image_id):
            return path

    with pytest.raises(
        nf.PathInfoError, match=r"it must return a PathInfo, such as PathInfo\(image_id, \[ChannelInfo\(path\)\]\)"
    ):
        Paths(backend=None).load_region(1)


def test_an_executor_and_workers(frames):
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="executor= and workers=2 both say where to convert; give one of them"):
            frames.prepare(executor=executor, workers=2)
        assert frames.prepare(executor=executor).ok


def test_errors_of_the_users_own_code(path):
    class Broken(nf.SimpleFrames):
        def build_pathinfo(self, image_id):
            raise KeyError("column") if image_id == "a" else KeyError

    report = Broken({"a": path, "b": path}, backend=None).prepare(errors="collect")
    assert str(report).splitlines()[1:] == ["  image 'a': KeyError: 'column'", "  image 'b': KeyError"]


def test_ids_that_come_twice():
    images = [{"id": number // 2, "file_name": "a.png"} for number in range(40)]
    with pytest.raises(nf.PathInfoError, match=r"image id 0 occurs 2 times, and so do \[1, 2, 3, 4, 5, 6, \.\.\.\]"):
        nf.CocoFrames({"images": images})


@pytest.mark.parametrize("channels", ["b,r", "b|r", ["b", "r"], ("b,r",)])
def test_spellings_of_channels(frames, channels):
    np.testing.assert_array_equal(frames.load_region(100, None, channels), picture()[..., [2, 0]])
    np.testing.assert_array_equal(frames.load_frame(100, channels)[...], picture()[..., [2, 0]])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_channel_objects_of_kwcoco(frames, path):
    import kwcoco

    for kind in (kwcoco.ChannelSpec, kwcoco.FusedChannelSpec):
        spec = kind.coerce("b|r")
        np.testing.assert_array_equal(frames.load_region(100, None, spec), picture()[..., [2, 0]])
        assert nf.ChannelInfo(path, channels=kind.coerce("x|y|z")).channels == ("x", "y", "z")
    with pytest.raises(nf.ChannelError, match="no channel 'B1|B8'"):
        frames.load_region(100, None, kwcoco.ChannelSpec.coerce("B1,B8"))


def test_damage_in_a_notebook(tmp_path):
    """A file that opens, and whose pixels do not decode."""
    damaged = tmp_path / "a.tif"
    tifffile.imwrite(damaged, picture((300, 400, 3)), tile=(64, 64), compression="zlib")
    data = bytearray(damaged.read_bytes())
    data[2000:-2000] = bytes(len(data) - 4000)
    damaged.write_bytes(data)
    card = nf.open(damaged)._repr_html_()
    assert "<b>UnreadableImageError</b>" in card
    assert "a.tif" in card
    assert "<img" not in card
    missing = tmp_path / "b.npy"
    np.save(missing, picture())
    frame = nf.open(missing)
    missing.unlink()
    assert "<b>SourceMissingError</b>" in frame._repr_html_()


def test_images_tell_what_they_are(frames, path, tmp_path):
    assert repr(frames.image(100)) == f"<AlignableImageData 100: 1 file: {path}>"
    files = [nf.ChannelInfo(tmp_path / f"{number}.npy", channels=f"c{number}") for number in range(6)]
    several = nf.SimpleFrames([nf.PathInfo("s", files, shape=(40, 60))], backend=None).image("s")
    assert repr(several).startswith(f"<AlignableImageData 's': 40 x 60 px, 6 files: {tmp_path}/0.npy (c0), ")
    assert repr(several).endswith("3.npy (c3) and 2 more>")


def test_regions_outside_on_the_command_line(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for region in ("-10:10,:", "100:110,0:10"):
        result = CliRunner().invoke(main, ["crop", "a.npy", f"--region={region}", "-o", "o.png"])
        assert result.exit_code == 2
        assert "A region outside of the image is empty, and a negative start counts from the end" in result.stderr
        assert "--pad" in result.stderr
    result = CliRunner().invoke(main, ["show", "a.npy", "--region=100:110,0:10"])
    assert "the image is 40 x 60 px (height x width), and a negative start counts from its end" in result.stderr


def test_errors_pickle(frames):
    with pytest.raises(nf.ImageIdError) as caught:
        frames.load_region("100")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert logging.getLogger("ndframes").handlers == []


def test_a_dataset_that_is_opened_as_an_image(tmp_path):
    (tmp_path / "data.kwcoco.json").write_text('\n {"images": []}')
    for read in (nf.open, lambda path: nf.SimpleFrames([path], backend=None)["data.kwcoco"].shape):
        with pytest.raises(nf.UnreadableImageError, match="is JSON, not an image; CocoFrames reads a COCO or kwcoco"):
            read(tmp_path / "data.kwcoco.json")


def test_an_array_without_axes_is_one_id(path, tmp_path):
    frames = nf.SimpleFrames({100: path}, workdir=tmp_path / "work")
    with pytest.raises(nf.PrepareError, match="ids are int, you gave .*; give 100"):
        frames.prepare(np.array(100))
    assert frames.prepare(np.int64(100)).prepared == 1
    assert frames.prepare(np.array([100])).present == 1
