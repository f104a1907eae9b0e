"""Options with a wrong value: refused when they are given, by an error that names the option."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import ndframes as nf

NO_COUNT = ["1GB", -1, 1.5, True, float("inf"), float("nan"), [1], b"x"]


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    return tmp_path / "a.npy"


@pytest.fixture
def frames(path, tmp_path):
    return nf.SimpleFrames({"a": path}, workdir=tmp_path / "work")


# -- constructors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["memory_bytes", "tile_bytes", "max_region_bytes"])
@pytest.mark.parametrize("value", NO_COUNT)
def test_budgets_are_whole_numbers_of_bytes(path, tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}=.*; give a whole number of bytes, 0 or more"):
        nf.SimpleFrames({"a": path}, workdir=tmp_path, **{name: value})


def test_integers_of_numpy_are_numbers_of_bytes(path, tmp_path):
    options = dict.fromkeys(("memory_bytes", "tile_bytes", "max_region_bytes"), np.int64(60))
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path, **options)
    np.testing.assert_array_equal(frames.load_image("a"), np.load(path))
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path, **{**options, "max_region_bytes": 59})
    with pytest.raises(nf.RegionTooLargeError):
        frames.load_image("a")


@pytest.mark.parametrize("value", ["False", "", 0, 1, [], object(), np.True_])
def test_isolate_is_a_bool_or_limits(tmp_path, value):
    with pytest.raises(ValueError, match=r"isolate=.*; allowed: True, False or ndframes\.Limits\(\.\.\.\)"):
        nf.SimpleFrames({}, workdir=tmp_path, isolate=value)


@pytest.mark.parametrize("value", [5, 1.5, True, [1], "a\0b"])
def test_a_workdir_is_a_path(value):
    for make in (nf.Cache, lambda workdir: nf.SimpleFrames({}, workdir=workdir)):
        with pytest.raises(nf.CacheError, match="workdir=.*; give the path of a folder"):
            make(value)


@pytest.mark.parametrize("value", ["x", -1, float("nan"), None, True, [1]])
def test_the_age_of_a_lock_is_a_number_of_seconds(tmp_path, value):
    with pytest.raises(ValueError, match="lock_age_seconds=.*; give a number of seconds, 0 or more"):
        nf.Cache(tmp_path, lock_age_seconds=value)


def test_the_number_of_threads_is_named_as_it_was_given(tmp_path, frames):
    with pytest.raises(ValueError, match="^threads=-1; give the number of threads"):
        nf.SimpleFrames({}, workdir=tmp_path, threads=-1)
    with pytest.raises(ValueError, match="^workers=-1; give the number of threads"):
        frames.load_regions([("a", None)], workers=-1)


@pytest.mark.parametrize("sources", [5, 2.5])
def test_what_is_no_source(tmp_path, sources):
    message = "files=.*; SimpleFrames takes a mapping from ids to paths, a list of paths, a folder or a glob"
    with pytest.raises(nf.PathInfoError, match=message):
        nf.SimpleFrames(sources, workdir=tmp_path)
    with pytest.raises(nf.PathInfoError, match="give a path, a Clip, a ChannelInfo or a PathInfo"):
        nf.SimpleFrames({"a": sources}, workdir=tmp_path)
    with pytest.raises(nf.PathInfoError, match="give a path, a Clip, a ChannelInfo or a PathInfo"):
        nf.SimpleFrames(["a.npy", sources], workdir=tmp_path)


def test_the_folder_of_a_dataset_is_a_path(tmp_path):
    with pytest.raises(nf.PathInfoError, match="bundle_dpath=5; give the path of a folder"):
        nf.CocoFrames({"images": []}, bundle_dpath=5, workdir=tmp_path)


def test_unknown_keywords_name_what_was_called(path, tmp_path, frames):
    cases = {
        "Frames()": lambda: nf.SimpleFrames({}, workdirr=tmp_path),
        "open()": lambda: nf.open(path, workdirr=tmp_path),
        "load_region()": lambda: frames.load_region("a", padd=1),
        "load_regions()": lambda: frames.load_regions([("a", None)], padd=1),
        "load_warped()": lambda: frames.load_warped("a", np.eye(3), (2, 2), padd=1),
    }
    for name, call in cases.items():
        with pytest.raises(TypeError, match=rf"{name[:-2]}\(\) got an unexpected keyword argument '(workdirr|padd)'"):
            call()
    with pytest.raises(
        TypeError, match=r"load_warped\(\) got an unexpected keyword argument 'pad'; allowed: antialias, fill"
    ):
        frames.load_warped("a", np.eye(3), (2, 2), pad="edge")
    with pytest.raises(TypeError, match=r"^open\(\) takes 1 positional argument"):
        nf.open(path, "r")


# -- open -------------------------------------------------------------------------------------------------------------


def test_the_defaults_of_open_may_be_given(path, tmp_path):
    defaults = {
        "frame_range": None,
        "frame_number": None,
        "stream": None,
        "pixel_format": None,
        "frame_errors": "raise",
        "backend": None,
        "channels": None,
        "workdir": None,
    }
    for options in ({}, *({name: value} for name, value in defaults.items()), defaults):
        np.testing.assert_array_equal(nf.open(path, **options), np.load(path))
    assert pickle.loads(pickle.dumps(nf.open)) is nf.open


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stream": -1}, "^stream must be 0 or more, got -1"),
        ({"frame_errors": None}, "frame_errors=None; allowed"),
        ({"pixel_format": "gray"}, "a.npy is not a video; pixel_format is for a video"),
        ({"frame_range": (0, 1)}, "a.npy is a file, not a folder of images"),
    ],
)
def test_other_values_are_checked(path, options, message):
    with pytest.raises(nf.NdframesError, match=message):
        nf.open(path, **options)


@pytest.mark.parametrize("path", [None, 5, "", b"a.npy"])
def test_what_is_no_path(path):
    with pytest.raises(nf.PathInfoError, match="a path must be a str or path-like and not empty, got"):
        nf.open(path)
    if not isinstance(path, bytes):
        for read in (nf.read_video, nf.video_metadata):
            with pytest.raises(nf.PathInfoError, match="a path must be a str or path-like"):
                read(path)


# -- reads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"interpolation": "x"}, {"interpolation": {"r": []}}, {"nodata": "x"}, {"pad": []}]
)
def test_an_option_of_a_read_names_the_image(frames, options):
    (name,) = options
    reads = [lambda: frames.load_region("a", **options)]
    if name != "pad":
        reads.append(lambda: frames.load_warped("a", np.eye(3), (2, 2), **options))
    for read in reads:
        with pytest.raises(nf.RegionError, match=f"^image 'a': {name}=.*; allowed: ") as caught:
            read()
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("shape", [(8.0, 8.0), (8, "x"), (True, 8), (0, 8), 8, (8,)])
def test_the_shape_of_a_result(frames, shape):
    for read in (
        lambda: frames.load_region("a", shape=shape),
        lambda: frames.load_warped("a", np.eye(3), shape),
    ):
        with pytest.raises(nf.RegionError, match=r"^image 'a': shape=.*; give \(height, width\) of the result"):
            read()


def test_an_affine_map_may_have_two_rows(frames):
    np.testing.assert_array_equal(
        frames.load_warped("a", np.eye(3)[:2], (4, 5)), frames.load_warped("a", np.eye(3), (4, 5))
    )
    with pytest.raises(nf.RegionError, match="transform must be an invertible affine matrix, 3x3 or 2x3, got"):
        frames.load_warped("a", np.eye(4), (4, 5))


@pytest.mark.parametrize("requests", [5, None])
def test_requests_that_are_none(frames, requests):
    with pytest.raises(nf.RegionError, match=r"requests=.*; give pairs \(image_id, region\)"):
        frames.load_regions(requests)


def test_frames_by_id(frames):
    np.testing.assert_array_equal(frames["a"], frames.load_image("a"))
    with pytest.raises(nf.ImageIdError, match=r"^no image 5; .*; frames\[...\] takes an id, not a position; that is"):
        frames[5]
    for index in ("b", 1.0, None, ["a"]):
        with pytest.raises(nf.ImageIdError, match="^no image"):
            frames[index]


# -- prepare ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2.5, None, "2", -1, float("inf"), True])
def test_the_number_of_workers(frames, value):
    """Refused even if there is nothing to convert."""
    for ids in ([], ["a"]):
        with pytest.raises(ValueError, match="workers=.*; give 0 to convert in this process"):
            frames.prepare(ids, workers=value)


def test_other_options_of_prepare(frames):
    with pytest.raises(ValueError, match=r"executor='x' is no concurrent\.futures\.Executor; give one"):
        frames.prepare([], executor="x")
    with pytest.raises(ValueError, match="errors=.*; allowed: 'raise', 'collect'"):
        frames.prepare([], errors=[])


@pytest.mark.parametrize("ids", ["moon", "a", b"a", 5, ("video", 1)])
def test_one_id_is_one_id(path, tmp_path, ids):
    frames = nf.SimpleFrames({"a": path, ("video", 1): path}, workdir=tmp_path)
    report = frames.prepare(ids, errors="collect")
    assert report.prepared == (ids in frames)
    assert [(item.image_id, str(item.error)) for item in report.failed] == (
        [] if ids in frames else [(ids, f"no image {ids!r}; there are 2, the first is 'a'")]
    )
    assert frames.prepare(("a",)).ok


# -- subclasses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returned", [None, "a.npy", {}, [nf.ChannelInfo("a.npy")], nf.ChannelInfo("a.npy")])
def test_a_description_that_is_none(tmp_path, returned):
    class Broken(nf.Frames):
        image_ids = (1,)

        def build_pathinfo(self, image_id):
            return returned

    frames = Broken(workdir=tmp_path)
    message = "^image 1: build_pathinfo returned .*; it must return a PathInfo"
    for read in (frames.load_region, frames.pathinfo, frames.load_frame, frames.explain, frames.load_image):
        with pytest.raises(nf.PathInfoError, match=message):
            read(1)
    (failure,) = frames.prepare(errors="collect").failed
    assert isinstance(failure.error, nf.PathInfoError)


def test_a_report_of_an_error_without_a_file(tmp_path):
    class Broken(nf.Frames):
        image_ids = (1,)

        def build_pathinfo(self, image_id):
            raise AttributeError("nothing there")

    report = Broken(workdir=tmp_path).prepare(errors="collect")
    assert str(report).splitlines()[1] == "  image 1: AttributeError: nothing there"


# -- messages ---------------------------------------------------------------------------------------------------------

LONG = "x" * 1000


@pytest.mark.parametrize(
    "options",
    [
        {"channels": LONG},
        {"pad": LONG},
        {"fill": LONG, "pad": "constant", "region": (slice(-1, 2),)},
        {"interpolation": LONG},
        {"nodata": LONG},
        {"scale": LONG},
        {"shape": LONG},
        {"region": (LONG,)},
    ],
)
def test_values_are_shortened(frames, options):
    with pytest.raises(nf.NdframesError, match="^image 'a': ") as caught:
        frames.load_region("a", **options)
    assert len(str(caught.value)) < 300


def test_lists_of_channels_are_shortened(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 5000), np.uint8))
    with pytest.raises(
        nf.ChannelError, match=r"no channel 'q'; there are 'band\.0\|band\.1\|.*\.\.\..*band\.4999'"
    ) as caught:
        nf.open(tmp_path / "a.npy", channels="q", workdir=tmp_path)[...]
    assert len(str(caught.value)) < 300 + 2 * len(str(tmp_path))


def test_a_handle_of_a_file_that_changed_its_channels(path, frames):
    handle = frames.load_frame("a")
    np.save(path, np.zeros((4, 5), np.uint8))
    for use in (
        lambda: handle[...],
        lambda: handle.shape,
        lambda: handle.dtype,
        lambda: handle.chunks,
        lambda: repr(handle),
    ):
        with pytest.raises(nf.ChannelError, match=r"^image 'a': no channel 'r\|g\|b'; there are 'gray'"):
            use()


def test_files_may_be_named_sources(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    assert nf.SimpleFrames(sources={"a": tmp_path / "a.npy"}, backend=None).load_image("a").shape == (3, 4, 1)
    with pytest.raises(TypeError, match="needs the files"):
        nf.SimpleFrames(backend=None)
