"""Videos as items of Frames: every read equals numpy slicing of the frames that are decoded from the beginning."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kit.videos import Encoding, list_clips, read_number
from kit.waiting import wait_until

import ndframes as nf
from ndframes.entries import frame_index
from ndframes.video.index import decode_all
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels

CLIPS = {clip.name: clip for clip in list_clips()}


@pytest.fixture(scope="module")
def made(tmp_path_factory, module_at_rest):
    """The paths of some clips, which are settled, and their frames."""
    folder = tmp_path_factory.mktemp("clips")
    names = ("plain.mp4", "h264.avi", "sixteen.mkv", "alpha.mkv", "turned1.mp4", "gray.mp4")
    for name in names:
        CLIPS[name].make(folder / name)
    clips = {}
    for name in names:
        path = str(folder / name)
        index = build_index(path)
        clips[name] = (
            path,
            np.stack([to_pixels(frame, is_gray=index.is_gray) for frame in decode_all(path, index.stream)]),
        )
    return clips


@pytest.mark.parametrize("name", ["plain.mp4", "h264.avi", "sixteen.mkv", "alpha.mkv", "turned1.mp4", "gray.mp4"])
def test_an_opened_video_is_an_array(made, tmp_path, name):
    path, frames = made[name]
    video = nf.open(path, workdir=tmp_path)
    assert (video.shape, video.dtype, len(video)) == (frames.shape, frames.dtype, len(frames))
    indices = [
        5, -1, np.s_[10:20], np.s_[3:90:11, 5:30, 7:40], np.s_[::-7], np.s_[60:20:-13, ::-3, 4:50:5], np.s_[7, 9], np.s_[4, 5, 6],
        np.s_[..., 0], np.s_[99:, ::2], np.s_[50:50], [7, 3, 7, 99, 0], np.array([2, 1]), np.s_[[8, 2], 10:20, -9:],
    ]  # fmt: skip
    for index in indices:
        got = video[index]
        np.testing.assert_array_equal(got, frames[index])
        assert got.flags.c_contiguous
        assert got.flags.writeable
    np.testing.assert_array_equal(np.asarray(video), frames)


def test_times_and_frames_at_times(made, tmp_path):
    path, frames = made["plain.mp4"]
    video = nf.open(path, workdir=tmp_path)
    assert video.fps == 25
    np.testing.assert_allclose(video.times, np.arange(100) / 25)
    assert video.keyframes.tolist() == list(range(0, 100, 12))
    np.testing.assert_array_equal(video.at_time([1.0, 0.0, 2.53]), frames[[25, 0, 63]])
    np.testing.assert_array_equal(video.at_time(99.0), frames[99])
    with pytest.raises(nf.RegionError, match=r"at_time\(\[1\.0, nan\]\) contains nan"):
        video.at_time([1.0, float("nan")])


def test_the_repr_of_a_video(made, tmp_path):
    path, _ = made["plain.mp4"]
    told = f"<LazyVideo {path!r}: 100 frames of 64 x 96 px, r|g|b, uint8, 1.84 MB, 25 frames a second; "
    assert repr(nf.open(path, workdir=tmp_path)) == f"{told}read directly, tiles 64 x 96>"
    assert repr(nf.open(path, workdir=tmp_path, backend="cog")) == f"{told}cached as COG, tiles 8 x 64 x 64>"


@pytest.mark.parametrize("read", [lambda video: video[[3, 100]], lambda video: video.read([3, 100])])
def test_an_error_of_a_missing_frame_names_the_video(made, tmp_path, read):
    path, _ = made["plain.mp4"]
    with pytest.raises(nf.RegionIndexError, match=rf"^image '{path}': index 100 is out of bounds"):
        read(nf.open(path, workdir=tmp_path))


def test_a_video_among_the_files_of_an_image_needs_a_page(made, tmp_path):
    path, frames = made["plain.mp4"]
    np.save(tmp_path / "heat.npy", frames[7, :, :, 0])

    class Fused(nf.Frames):
        image_ids = ("all", 7)

        def build_pathinfo(self, image_id):
            video = nf.ChannelInfo(path, channels="r|g|b", page=None if image_id == "all" else image_id)
            return nf.PathInfo(image_id, (video, nf.ChannelInfo(tmp_path / "heat.npy", channels="heat")))

    fused = Fused(workdir=tmp_path)
    np.testing.assert_array_equal(fused.load_region(7, None, "heat|g"), frames[7][:, :, :2])
    with pytest.raises(nf.PathInfoError, match=rf"^image 'all': {path} is a video among .*ChannelInfo\(page=\.\.\.\)"):
        fused.load_region("all")


def test_frames_of_several_sizes_are_refused(tmp_path):
    for number, shape in enumerate([(64, 96), (48, 64)]):
        Encoding("libx264", container_format="h264", shape=shape)(tmp_path / f"{number}.h264", 20)
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join((tmp_path / f"{number}.h264").read_bytes() for number in range(2)))
    video = nf.open(path, workdir=tmp_path)
    assert [read_number(frame) for frame in video[[19, 3]]] == [19, 3]
    told = r"both.h264: frame 25 is 48 x 64 px \(height x width\), 3 channels, uint8, stored as yuv420p; the first frame is 64 x 96 px"
    for read in (lambda: video[25], lambda: nf.read_video(path, [25], workdir=tmp_path)):
        with pytest.raises(nf.UnreadableImageError, match=told):
            read()


def test_videos_and_images_side_by_side(made, tmp_path):
    path, frames = made["plain.mp4"]
    both = nf.SimpleFrames({"cam": path, "scene": nf.demo_paths()["coffee"]}, workdir=tmp_path)
    region = (slice(8, 24), slice(0, 32), slice(40, 72))
    np.testing.assert_array_equal(both.load_region("cam", region), frames[region])
    np.testing.assert_array_equal(both.load_region("cam", region, "b|r"), frames[region][..., [2, 0]])
    assert both.load_region("scene", region[1:]).shape == (32, 32, 3)
    padded = both.load_region("cam", (slice(0, 3), slice(-5, 70), slice(90, 100)), pad="edge")
    wanted = np.pad(frames[:3], ((0, 0), (5, 6), (0, 4), (0, 0)), mode="edge")[:, :, 90:]
    np.testing.assert_array_equal(padded, wanted)
    half = both.load_region("cam", (slice(5, 7),), scale=0.5)
    assert half.shape == (2, 32, 48, 3)
    exact = frames[5:7].reshape(2, 32, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(half - exact).mean() < 8
    turned = both.load_warped("cam", [[0, -1, 64], [1, 0, 0], [0, 0, 1]], (96, 64))
    np.testing.assert_array_equal(turned[3], np.rot90(frames[3], -1))
    batch = both.load_regions([("cam", (slice(t, t + 2), slice(0, 8), slice(0, 8))) for t in (50, 3, 97)], workers=2)
    np.testing.assert_array_equal(batch[1], frames[3:5, :8, :8])
    with pytest.raises(nf.ChannelError, match="no channel 'nir'"):
        both.load_region("cam", region, "nir")
    with pytest.raises(nf.RegionIndexError, match="out of bounds for axis 0, which has 100"):
        both.load_region("cam", 100)


def test_the_index_is_made_once(made, tmp_path, monkeypatch):
    path, frames = made["h264.avi"]
    nf.open(path, workdir=tmp_path)[0]
    calls = []
    monkeypatch.setattr(frame_index, "build_index", lambda *_, **__: calls.append(1))
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path)[40:44], frames[40:44])
    assert not calls
    cache = nf.Cache(tmp_path)
    assert len(list(cache.ls())) == 1
    assert cache.verify(read_data=True).ok


def test_a_damaged_index_is_made_again(made, tmp_path):
    path, frames = made["plain.mp4"]
    nf.open(path, workdir=tmp_path)[0]
    (entry,) = nf.Cache(tmp_path).ls()
    data = bytearray(entry.path.read_bytes())
    data[300] ^= 255
    entry.path.write_bytes(data)
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path)[40:44], frames[40:44])
    assert nf.Cache(tmp_path).verify(read_data=True).ok


def test_a_changed_video_is_opened_again(tmp_path):
    path = tmp_path / "a.mp4"
    CLIPS["plain.mp4"].make(path)
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w")
    assert read_number(frames.load_region("a", 70)) == 70
    CLIPS["uneven.mp4"].make(tmp_path / "b.mp4")
    os.replace(tmp_path / "b.mp4", path)
    assert read_number(frames.load_region("a", 70)) == 70
    assert frames.load_frame("a").times[70] != 70 / 25


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"no video at all" * 100])
def test_a_file_that_is_not_a_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(nf.UnreadableImageError, match=r"a\.mp4"):
        nf.open(path, workdir=tmp_path / "w")


def test_frames_of_a_truncated_file_keep_their_numbers(made, tmp_path):
    """A transport stream without its end: the frames that are left show their own numbers."""
    CLIPS["stream.ts"].make(tmp_path / "whole.ts")
    data = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[: len(data) * 2 // 3 // 188 * 188])
    video = nf.open(tmp_path / "cut.ts", workdir=tmp_path / "w")
    assert 20 < len(video) < 100
    for number in range(0, len(video) - 5, 7):
        assert read_number(video[number]) == number


# -- processes and threads --------------------------------------------------------------------------------------------


def read_numbers(frames: nf.SimpleFrames, numbers: list[int]) -> list[int]:
    return [read_number(frames.load_region("a", number)) for number in numbers]


@pytest.mark.parametrize("name", ["plain.mp4", "h264.avi", "sixteen.mkv", "alpha.mkv"])
def test_no_thread_of_a_decoder_is_left(made, tmp_path, name):
    """A forked child would wait for it for ever."""
    before = set(os.listdir("/proc/self/task"))
    video = nf.open(made[name][0], workdir=tmp_path)
    assert read_number(video[50]) == 50
    wait_until(lambda: before.issuperset(os.listdir("/proc/self/task")), seconds=10)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_use_their_own_decoders(made, tmp_path, method):
    path, _ = made["plain.mp4"]
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path)
    assert read_numbers(frames, [50]) == [50]  # this opens a decoder, which the others must not use
    wanted = np.random.default_rng(0).integers(0, 100, (4, 25)).tolist()
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(read_numbers, [(frames, numbers) for numbers in wanted]) == wanted
    assert read_numbers(frames, [51, 3]) == [51, 3]


def test_threads_use_their_own_decoders(made, tmp_path):
    path, _ = made["h264.avi"]
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path, tile_bytes=0)
    wanted = np.random.default_rng(0).integers(0, 100, (8, 25)).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda numbers: read_numbers(frames, numbers), wanted)) == wanted


def test_frames_with_videos_pickle_small(made, tmp_path):
    path, frames = made["plain.mp4"]
    video = nf.open(path, workdir=tmp_path)
    video[3]
    data = pickle.dumps(video)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data)[17], frames[17])


@pytest.mark.parametrize("workers", [0, 2])
def test_prepare_indexes_videos(tmp_path, monkeypatch, workers):
    """Even if they were written just now: it waits until they are settled."""
    for name in ("plain.mp4", "h264.avi"):
        CLIPS[name].make(tmp_path / name)
    sources = {"cam": tmp_path / "plain.mp4", "avi": tmp_path / "h264.avi", "scene": nf.demo_paths()["moon"]}
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "w")
    report = frames.prepare(workers=workers)
    assert (report.prepared, report.present, report.failed) == (3, 0, ())
    assert report.bytes_written == sum(entry.size_bytes for entry in frames.cache.ls())
    assert frames.prepare().present == 3
    calls = []
    monkeypatch.setattr(frame_index, "build_index", lambda *_, **__: calls.append(1))
    fresh = nf.SimpleFrames(sources, workdir=tmp_path / "w")
    assert [read_number(fresh.load_region(name, 70)) for name in ("cam", "avi")] == [70, 70]
    assert not calls
    monkeypatch.undo()
    (tmp_path / "plain.mp4").write_bytes(b"nothing")
    with pytest.raises(nf.PrepareError, match="image 'cam': .*does not open as a video"):
        frames.prepare()


def test_lists_of_frames_equal_numpy_with_any_backend_range_and_warp(made, tmp_path):
    path, frames = made["plain.mp4"]
    for backend in (None, "intra", "npy"):
        video = nf.open(path, workdir=tmp_path, backend=backend)
        indices = [
            [],
            [31],
            [90, 2, 2, 45],
            np.s_[[5, 4], 3:9, 7],
            np.s_[[5, 4], ..., 1],
            np.s_[[60, 11], ::-1, 2:4, 1:],
        ]
        for index in indices:
            np.testing.assert_array_equal(video[index], frames[index])
        with pytest.raises(nf.RegionIndexError, match="index 100 is out of bounds"):
            video[[3, 100]]

    # A mask is kept, and a number that is out of bounds is an error of this package with every option.
    plain = nf.SimpleFrames({"a": path}, workdir=tmp_path)
    for options in ({}, {"nodata": "mask"}, {"scale": 0.5}):
        whole = plain.load_region("a", np.s_[0:6], **options)
        listed = plain.load_region("a", ([5, 2, 5],), **options)
        assert np.ma.isMaskedArray(listed) == np.ma.isMaskedArray(whole)
        np.testing.assert_array_equal(listed, whole[[5, 2, 5]])
        assert plain.load_region("a", ([],), **options).shape == (0, *whole.shape[1:])
        with pytest.raises(nf.RegionIndexError, match="index 100 is out of bounds"):
            plain.load_region("a", ([3, 100],), **options)

    part = nf.SimpleFrames({"a": nf.Clip(path, frame_range=(40, 60))}, workdir=tmp_path).load_frame("a")
    np.testing.assert_array_equal(part[[19, 0, -2]], frames[[59, 40, 58]])

    class Shifted(nf.SimpleFrames):
        def build_pathinfo(self, image_id):
            shift = np.array([[1, 0, 5], [0, 1, 0], [0, 0, 1]])
            return nf.PathInfo(image_id, (nf.ChannelInfo(path, img_from_src=shift, shape=(64, 96)),), shape=(64, 96))

    shifted = Shifted({"a": path}, workdir=tmp_path).load_frame("a")
    got = shifted[[70, 3]]
    np.testing.assert_array_equal(got[:, :, 5:], frames[[70, 3], :, :91])
    assert not got[:, :, :5].any()
    assert shifted[[]].shape == (0, 64, 96, 3)
