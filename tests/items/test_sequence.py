"""Sequences of images: every region equals numpy's, and only the images that are read are opened."""

from __future__ import annotations

import gc
import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.synthetic import picture

import ndframes as nf
from ndframes.spec.pathinfo import ChannelInfo, PathInfo, SequenceInfo

SHAPE = (40, 50)
COUNT = 5


class Walks(nf.Frames):
    """One sequence, ``"walk"``, and its images by number."""

    def __init__(self, images, *, shape=None, **options):
        super().__init__(**options)
        self.images, self.shape = images, shape

    image_ids = property(lambda self: ["walk", *range(len(self.images))])

    def build_pathinfo(self, image_id):
        if image_id == "walk":
            return SequenceInfo.of("walk", self.images, shape=self.shape)
        return self.images[image_id]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    for number in range(COUNT):
        np.save(folder / f"{number}.npy", picture((*SHAPE, 3), seed=number))
        np.save(folder / f"depth{number}.npy", picture((20, 25), "uint16", seed=number))
    return folder


def image_of(folder, number, *, codes="r|g|b", depth=True, shape=None):
    files = [ChannelInfo(str(folder / f"{number}.npy"), channels=codes)]
    if depth:
        files.append(ChannelInfo(str(folder / f"depth{number}.npy"), channels="depth", img_from_src=np.diag([2, 2, 1])))
    return PathInfo(number, files, shape=shape, default=codes)


@pytest.fixture(scope="module")
def walk(folder, backend, tmp_path_factory):
    return Walks(
        [image_of(folder, number) for number in range(COUNT)], workdir=tmp_path_factory.mktemp("work"), backend=backend
    )


WHOLE = np.stack([picture((*SHAPE, 3), seed=number) for number in range(COUNT)])


def regions(shape):
    bound = st.none() | st.integers(-2 * max(shape), 2 * max(shape))
    wild = st.tuples(*(st.builds(slice, bound, bound, st.none() | st.integers(-9, 9).filter(bool)) for _ in shape))
    return hnp.basic_indices(shape, allow_newaxis=False) | wild


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_region_equals_numpy(walk, data):
    region = data.draw(regions(WHOLE.shape))
    got = walk.load_region("walk", region)
    assert got.dtype == WHOLE.dtype
    np.testing.assert_array_equal(got, WHOLE[region])
    assert got.flags.owndata
    assert got.flags.c_contiguous
    assert got.flags.writeable


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_warped_channels_equal_those_of_the_images(walk, data):
    whole = np.stack([walk.load_image(number, "depth|g") for number in range(COUNT)])
    region = data.draw(regions(whole.shape))
    mode = data.draw(st.sampled_from(["keep", "mask", "nan"]))
    got = walk.load_region("walk", region, "depth|g", nodata=mode)
    alone = walk.load_region(
        0, region[1:] if isinstance(region, tuple) and len(region) == 4 else None, "depth|g", nodata=mode
    )
    if not (isinstance(region, tuple) and Ellipsis in region):
        assert got.dtype == alone.dtype
    np.testing.assert_array_equal(got, whole[region])
    assert isinstance(got, np.ma.MaskedArray) == (mode == "mask")


@pytest.mark.parametrize("pad", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("time", [slice(None), slice(3, 0, -2), -2, slice(9, 12)])
def test_only_y_and_x_are_padded(walk, pad, time):
    crop = np.s_[-5:60, 40:70:2, 1:]
    wanted = np.stack([walk.load_region(number, crop, "r|depth|b", pad=pad, fill=3) for number in range(COUNT)])
    got = walk.load_region("walk", (time, *crop), "r|depth|b", pad=pad, fill=3)
    np.testing.assert_array_equal(got, wanted[time])
    np.testing.assert_array_equal(walk.load_region("walk", (..., *crop), "r|depth|b", pad=pad, fill=3), wanted)
    assert got.flags.owndata


@pytest.mark.parametrize(
    "options", [{"scale": 0.5}, {"scale": (2, 0.3)}, {"shape": (7, 9)}, {"scale": 3, "pad": "edge"}]
)
@pytest.mark.parametrize("time", [slice(None), slice(3, 0, -2), 1, slice(0, 0)])
def test_only_y_and_x_are_scaled(walk, options, time):
    crop = np.s_[3:30, 10:]
    wanted = np.stack([walk.load_region(number, crop, "r|depth", **options) for number in range(COUNT)])
    np.testing.assert_array_equal(walk.load_region("walk", (time, *crop), "r|depth", **options), wanted[time])
    np.testing.assert_array_equal(
        walk.load_region("walk", (time, *crop, np.s_[1:]), "r|depth", **options), wanted[time][..., 1:]
    )


def test_every_image_is_warped(walk):
    rotation = np.array([[0.8, -0.6, 9], [0.6, 0.8, -4], [0, 0, 1]])
    got = walk.load_warped("walk", rotation, (33, 44), "b|depth", fill=5)
    wanted = np.stack([walk.load_warped(number, rotation, (33, 44), "b|depth", fill=5) for number in range(COUNT)])
    np.testing.assert_array_equal(got, wanted)


def test_a_matrix_that_is_none_is_not_blamed_on_a_single_image(walk):
    with pytest.raises(nf.RegionError, match="image 'walk': transform must be an invertible affine matrix"):
        walk.load_warped("walk", np.zeros((3, 3)), (33, 44))


@pytest.mark.parametrize(
    "region", [np.s_[:, 3], np.s_[:, :, 4], np.s_[:, ::2], np.s_[:, 1:2, 3:4, 5], np.s_[:, 1:2, 3:4, 0]]
)
def test_regions_that_cannot_be_scaled(walk, region):
    with pytest.raises(nf.RegionError, match="image walk|'walk'|walk"):
        walk.load_region("walk", region, scale=0.5)


def test_a_frame_is_an_array(walk):
    frame = walk.load_frame("walk", "b|r")
    whole = WHOLE[..., [2, 0]]
    assert (frame.shape, frame.dtype, frame.ndim, len(frame)) == (whole.shape, whole.dtype, 4, COUNT)
    assert (frame.size, frame.nbytes, frame.channels) == (whole.size, whole.nbytes, ("b", "r"))
    assert frame.chunks[0] == 1
    assert frame.chunks[-1] == 2
    np.testing.assert_array_equal(np.asarray(frame), whole)
    np.testing.assert_array_equal(frame[[4, 0, -1]], whole[[4, 0, -1]])
    np.testing.assert_array_equal(np.stack(list(frame)), whole)
    np.testing.assert_array_equal(frame[-2, 5:9, ::-1, 1], whole[-2, 5:9, ::-1, 1])
    assert repr(frame).startswith("<LazyFrame 'walk': 5 frames of 40 x 50 px, b|r, uint8, ")
    assert "data:image/png;base64," in frame._repr_html_()
    with pytest.raises(nf.RegionIndexError):
        frame[5]


def test_a_batch(walk):
    requests = [("walk", (slice(time, time + 2), slice(3, 20))) for time in range(3)]
    batch = walk.load_regions(requests, "g|depth")
    np.testing.assert_array_equal(batch, np.stack([walk.load_region(*request, "g|depth") for request in requests]))
    scaled = walk.load_regions(requests, scale=0.5, out=np.empty((3, 2, 9, 25, 3), np.uint8))
    np.testing.assert_array_equal(scaled[1], walk.load_region(*requests[1], scale=0.5))


def test_too_large_a_result_is_refused(folder):
    frames = Walks([image_of(folder, number) for number in range(COUNT)], backend=None, max_region_bytes=20_000)
    assert frames.load_region("walk", np.s_[:3]).nbytes == 18_000
    for options in ({}, {"scale": 1.5}, {"pad": "edge"}):
        with pytest.raises(nf.RegionTooLargeError, match="image walk|walk"):
            frames.load_region("walk", **options)
    with pytest.raises(nf.RegionTooLargeError):
        frames.load_regions([("walk", np.s_[:2])] * 2, scale=1.0)


# -- images that differ -----------------------------------------------------------------------------------------------


def test_channels_of_some_images_only(folder):
    frames = Walks([image_of(folder, number, depth=number % 2 == 1) for number in range(COUNT)], backend=None)
    assert frames.image("walk").channels == ("r", "g", "b", "depth")
    with pytest.raises(nf.ChannelError, match=r"image 0: no channel 'depth'; there are 'r\|g\|b'"):
        frames.load_region("walk", None, "depth")
    with pytest.raises(nf.ChannelError, match=r"no channel 'q'; there are 'r\|g\|b\|depth'"):
        frames.load_frame("walk", "r|q")
    odd = frames.load_region("walk", np.s_[1::2], "depth|r")
    np.testing.assert_array_equal(odd, np.stack([frames.load_image(number, "depth|r") for number in (1, 3)]))
    masked = frames.load_region("walk", np.s_[:, 2:9], "g|depth|r", nodata="mask", fill=6)
    real = frames.load_region("walk", np.s_[:, 2:9], "g|depth|r", nodata="nan")
    assert (masked.dtype, real.dtype) == (np.uint16, np.float32)
    np.testing.assert_array_equal(masked.mask, np.isnan(real))
    for time in range(COUNT):
        assert masked.mask[time, ..., 1].all() == (time % 2 == 0)
        np.testing.assert_array_equal(masked.data[time, ..., 0], WHOLE[time, 2:9, :, 1])
        np.testing.assert_array_equal(masked.data[time, ..., 2], WHOLE[time, 2:9, :, 0])
        depth = 6 if time % 2 == 0 else frames.load_region(time, np.s_[2:9], "depth")[..., 0]
        assert (masked.data[time, ..., 1] == depth).all()
    one = frames.load_region("walk", np.s_[0, 1:3], "depth", nodata="mask")
    assert one.mask.all()
    assert one.shape == (2, 50, 1)
    warped = frames.load_warped("walk", np.eye(3), SHAPE, "g|depth", nodata="mask")
    np.testing.assert_array_equal(warped.mask[::2, ..., 1], True)
    np.testing.assert_array_equal(warped.data[..., 0], WHOLE[..., 1])


def test_dtypes_are_those_of_the_images_that_are_read(folder):
    np.save(folder / "7.npy", picture((*SHAPE, 3), "float32", seed=7).clip(0, 100))
    frames = Walks([image_of(folder, number, depth=False) for number in (0, 7, 1)], backend=None)
    assert frames.load_frame("walk").dtype == np.float32
    assert frames.load_region("walk").dtype == np.float32
    assert frames.load_region("walk", np.s_[::2]).dtype == np.uint8
    assert frames.load_region("walk", np.s_[1:1]).dtype == np.uint8
    assert frames.load_region("walk", np.s_[..., 1:1]).shape == (3, *SHAPE, 0)


def test_bands_without_names(folder):
    frames = Walks([image_of(folder, number, codes=None, depth=False) for number in range(COUNT)], backend=None)
    np.testing.assert_array_equal(frames.load_image("walk"), WHOLE)
    np.testing.assert_array_equal(frames.load_region("walk", -1, "b|g"), WHOLE[-1][..., [2, 1]])


def test_images_of_several_sizes(folder):
    """Without a common grid they are refused; with one, each image covers its part of it."""
    np.save(folder / "8.npy", picture((30, 60, 3), seed=8))
    frames = Walks([image_of(folder, number, depth=False) for number in (0, 8)], backend=None)
    np.testing.assert_array_equal(frames.load_region("walk", 0), WHOLE[0])
    with pytest.raises(nf.UnreadableImageError, match="image 8: .*30 x 60 px in an image of 40 x 50 px"):
        frames.load_region("walk")
    files = [ChannelInfo(str(folder / f"{number}.npy"), channels="r|g|b", shape=shape)
             for number, shape in ((0, SHAPE), (8, (30, 60)))]  # fmt: skip
    frames = Walks([PathInfo(0, files[:1]), PathInfo(8, files[1:])], shape=(45, 55), backend=None)
    wanted = np.full((2, 45, 55, 3), 9, np.uint8)
    wanted[0, :40, :50], wanted[1, :30] = WHOLE[0], picture((30, 60, 3), seed=8)[:, :55]
    np.testing.assert_array_equal(frames.load_region("walk", fill=9), wanted)


# -- what is opened ---------------------------------------------------------------------------------------------------


def test_only_images_that_are_read_are_opened(folder, tmp_path):
    """A missing image raises an error only when it is read, and images that are not read are not converted."""
    images = [image_of(folder, number, depth=False) for number in (0, 1, 2, 99)]
    frames = Walks(images, shape=SHAPE, workdir=tmp_path)
    frame = frames.load_frame("walk")
    np.testing.assert_array_equal(frame[2, 5:9], WHOLE[2, 5:9])
    assert frame.shape == (4, *SHAPE, 3)
    assert len(list(frames.cache.ls())) == 1
    for read in (lambda: frame[3], lambda: frame[...]):
        with pytest.raises(nf.SourceMissingError, match=r"image 99: .*99\.npy"):
            read()
    frames = Walks(images[:3], shape=SHAPE, workdir=tmp_path / "other")
    frame = frames.load_frame("walk")
    assert "3 frames" in repr(frame)
    assert frame.nbytes == WHOLE[:3].nbytes
    assert len(list(frames.cache.ls())) <= 1  # only the first image is opened for the description


def test_a_changed_image_is_opened_again(tmp_path, backend):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", picture((*SHAPE, 3), seed=number))
    frames = Walks(
        [image_of(tmp_path, number, depth=False) for number in range(3)], workdir=tmp_path / "w", backend=backend
    )
    wanted = np.stack([picture((*SHAPE, 3), seed=number) for number in range(3)])
    np.testing.assert_array_equal(frames.load_region("walk"), wanted)
    sequence = frames.image("walk")
    for seed in range(30, 34):
        wanted[1] = picture((*SHAPE, 3), seed=seed)
        np.save(tmp_path / "new.npy", wanted[1])
        os.replace(tmp_path / "new.npy", tmp_path / "1.npy")
        np.testing.assert_array_equal(frames.load_region("walk"), wanted)
    assert frames.image("walk") is sequence


def test_its_memory_is_that_of_its_open_images(folder):
    frames = Walks([image_of(folder, number) for number in range(COUNT)], backend=None)
    costs = []
    for time in range(COUNT):
        frames.load_region("walk", time)
        costs.append(frames.image("walk").memory_bytes)
    assert all(less < more for less, more in itertools.pairwise(costs))
    assert frames.image("walk").memory_bytes == costs[-1]


def test_a_sequence_that_is_dropped_closes_its_files_at_once(folder, tmp_path, at_rest):
    """Without a garbage collection, which may come late in a program that creates few objects."""
    frames = Walks([image_of(folder, number) for number in range(COUNT)], workdir=tmp_path, backend="cog")
    wanted = frames.load_region("walk")
    gc.collect()
    gc.disable()
    try:
        before = os.listdir("/proc/self/fd")
        for _ in range(5):
            assert frames.summarize("walk").shape == wanted.shape
        assert len(os.listdir("/proc/self/fd")) <= len(before)
    finally:
        gc.enable()


def test_explain_lists_every_image(walk):
    explanation = walk.explain("walk", np.s_[1:4, 2:9, 3:5])
    assert explanation.shape == walk.load_region("walk", np.s_[1:4, 2:9, 3:5]).shape
    paths = [image.channels[0].path for image in walk.pathinfo("walk").images[1:4]]  # of the default channels
    assert [file.path for file in explanation.files] == paths
    states = (": read directly", ": cached", ": not cached")
    assert sum(str(explanation).count(state) for state in states) == len(paths)


@pytest.mark.parametrize("numbers", [[], [4], [3, 1, -1, 3], [2, 2], [-5, 0, 1]])
def test_lists_of_frames_equal_numpy_with_every_option(walk, folder, numbers):
    whole = np.stack([np.load(folder / f"{number}.npy") for number in range(COUNT)])
    np.testing.assert_array_equal(walk.load_region("walk", (numbers, slice(3, 9))), whole[numbers, 3:9])
    np.testing.assert_array_equal(walk.load_region("walk", (numbers, ..., 1)), whole[numbers, ..., 1])
    for options in ({"scale": 0.5}, {"pad": "edge"}, {"nodata": "mask"}):
        of_all = walk.load_region("walk", np.s_[:, 0:20], **options)
        listed = walk.load_region("walk", (numbers, slice(0, 20)), **options)
        np.testing.assert_array_equal(np.ma.getdata(listed), np.ma.getdata(of_all)[numbers])
        np.testing.assert_array_equal(np.ma.getmaskarray(listed), np.ma.getmaskarray(of_all)[numbers])


def test_lists_of_frames_are_checked(walk):
    with pytest.raises(nf.RegionIndexError, match="index 7 is out of bounds"):
        walk.load_region("walk", ([3, 7],))
    with pytest.raises(nf.RegionError, match="not a region"):
        walk.load_region("walk", ([3, 1.5],))
