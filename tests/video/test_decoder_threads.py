"""Decoders with threads: the frames of one thread, bit for bit, and no fork that meets them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from kit.forking import in_fork
from kit.videos import CannotMakeError, Encoding, draw_recipes, list_clips

import ndframes as nf
from ndframes.system.handles import HandlePool
from ndframes.video import threaded
from ndframes.video.decoder import VideoDecoder
from ndframes.video.indexing import build_index

CLIPS = {clip.name: clip for clip in list_clips()}
LONG = {
    "b-frames.mp4": Encoding("libx264", options={"bf": "3", "b-pyramid": "normal", "refs": "4"}, gop=60),
    "open.mkv": Encoding("libx264", options={"bf": "2", "x264-params": "open-gop=1"}, gop=60),
    "deep.mp4": Encoding("libx264", "yuv420p10le", options={"bf": "2"}, gop=60),
    "hevc.mp4": Encoding("libx265", options={"x265-params": "bframes=3:log-level=none:pools=1"}, gop=60),
    "vp9.webm": Encoding("libvpx-vp9", options={"lag-in-frames": "16", "auto-alt-ref": "1"}, gop=60),
    "vp8.webm": Encoding("libvpx", options={"lag-in-frames": "16", "auto-alt-ref": "1"}, gop=60),
    "av1.mp4": Encoding("libsvtav1", options={"preset": "10", "svtav1-params": "lp=1"}, gop=60),
    "mpeg4.mp4": Encoding("mpeg4", options={"bf": "2"}, gop=60),
    "fields.mp4": Encoding("mpeg4", options={"bf": "2", "flags": "+ilme+ildct"}, gop=60),
    "interlaced.mkv": Encoding("libx264", options={"bf": "2", "x264-params": "interlaced=1"}, gop=60),
    "mpeg2.ts": Encoding("mpeg2video", options={"bf": "2"}, gop=60),
    "h264.ts": Encoding("libx264", options={"bf": "2"}, gop=60),
    "mjpeg.mkv": Encoding("mjpeg", "yuvj420p", gop=1),
    "ffv1.mkv": Encoding("ffv1", options={"level": "3", "slices": "4", "slicecrc": "1"}, gop=60),
}
COUNT = 130
#: FFmpeg decodes B-frames of interlaced MPEG-4 to other pixels if it has several threads.
WITH_THREADS = set(LONG) - {"mpeg2.ts", "mjpeg.mkv", "mpeg4.mp4", "fields.mp4"}


@pytest.fixture(autouse=True)
def one_thread_afterwards():
    yield
    nf.allow_decoder_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of a video, and its index."""
    folder, found = tmp_path_factory.mktemp("long"), {}

    def make(name: str):
        if name not in found:
            LONG[name](folder / name, COUNT)
            found[name] = str(folder / name), build_index(str(folder / name))
        return found[name]

    return make


def read(path, index, requests, threads, **options):
    """The pixels of each request, or its error, by a decoder that is new."""
    nf.allow_decoder_threads(threads)
    video = VideoDecoder(path, index, HandlePool(), frame_bytes=0, **options)
    answers = []
    for numbers in requests:
        try:
            answers.append([(number, pixels.copy()) for number, pixels in video.frames(numbers)])
        except nf.NdframesError as error:
            answers.append(str(error))
    return answers


def check_equal(one, several):
    assert len(one) == len(several)
    for expected, found in zip(one, several, strict=True):
        if isinstance(expected, str):
            assert found == expected
            continue
        assert [number for number, _ in found] == [number for number, _ in expected]
        for (_, right), (_, pixels) in zip(expected, found, strict=True):
            np.testing.assert_array_equal(pixels, right)


def draw_requests(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    far = min(count, 100)
    yield range(count)
    yield range(far - 16, far)
    yield range(5, count, 3)
    for _ in range(3):
        first = int(rng.integers(0, count - 16))
        yield range(first, first + 16)
        yield rng.choice(count, 12, replace=False).tolist()
        yield [int(rng.integers(count))]
    for number in range(max(0, far - 50), far):
        yield [number]


def threads_of_process() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.fixture
def counted(monkeypatch):
    """The numbers of the frames that decoders with threads gave."""
    found = []
    find = threaded._ThreadedCursor.find

    def note(self, number, following):
        frame = find(self, number, following)
        if frame is not None:
            found.append(number)
        return frame

    monkeypatch.setattr(threaded._ThreadedCursor, "find", note)
    return found


@pytest.mark.parametrize("name", LONG)
def test_frames_are_those_of_one_thread(made, counted, name):
    path, index = made(name)
    requests = list(draw_requests(COUNT))
    one = read(path, index, requests, 1)
    assert not counted
    assert [len(answer) for answer in one] == [len(numbers) for numbers in requests]
    check_equal(one, read(path, index, requests, 3))
    assert (set(counted) >= set(range(COUNT))) == (name in WITH_THREADS)


@pytest.mark.parametrize("name", list(CLIPS))
def test_every_kind_of_video(tmp_path, name):
    clip = CLIPS[name]
    clip.make(tmp_path / name)
    path = str(tmp_path / name)
    index = build_index(path)
    last = clip.count - 1
    requests = [range(clip.count), range(last - 35, last), [last, 20, last - 5], [last - 3], [last - 2], [last - 1]]
    check_equal(read(path, index, requests, 1), read(path, index, requests, 4))


@pytest.mark.parametrize("how", ["zeros", "flips", "missing"])
@pytest.mark.parametrize("name", ["b-frames.mp4", "open.mkv", "hevc.mp4", "vp9.webm", "ffv1.mkv"])
def test_damage_is_treated_as_by_one_thread(made, tmp_path, name, how):
    data = bytearray(Path(made(name)[0]).read_bytes())
    place = len(data) // 3
    if how == "zeros":
        data[place : place + 100] = bytes(100)
    elif how == "flips":
        data[place : place + 3] = bytes(byte ^ 0x5A for byte in data[place : place + 3])
    elif name.endswith(".mp4"):
        pytest.skip("the table of an MP4 says where the bytes are")
    else:
        del data[place : place + 200]
    path = str(tmp_path / name)
    Path(path).write_bytes(data)
    index = build_index(path)
    last = len(index) - 1  # Matroska loses the frames behind the damage
    requests = [range(last + 1), range(last - 30, last), range(last - 45, last - 20), [last - 1], [last]]
    one = read(path, index, requests, 1)
    for _ in range(2):  # what depends on the time at which threads run would differ
        check_equal(one, read(path, index, requests, 4))


def test_the_nearest_frame_is_that_of_one_thread(made, tmp_path):
    data = bytearray(Path(made("ffv1.mkv")[0]).read_bytes())
    data[len(data) // 3] ^= 1
    path = str(tmp_path / "a.mkv")
    Path(path).write_bytes(data)
    index = build_index(path)
    one = read(path, index, [range(len(index))], 1)
    assert isinstance(one[0], str)
    number = int(one[0].partition("frame ")[2].partition(" ")[0])
    requests = [range(number - 35, number + 2)]
    check_equal(read(path, index, requests, 1, errors="nearest"), read(path, index, requests, 3, errors="nearest"))


def test_a_new_process_has_one_thread_and_single_frames_near_key_frames_too(made, counted):
    path, index = made("b-frames.mp4")
    video = VideoDecoder(path, index, HandlePool(), frame_bytes=0)
    list(video.frames(range(COUNT)))
    assert not counted
    nf.allow_decoder_threads(4)
    for number in (3, 70, 20, 65, 0, 125):
        video.frame(number)
    list(video.frames([0, 60, 120]))
    assert not counted
    list(video.frames(range(40, 50)))
    assert counted == list(range(40, 50))
    counted.clear()
    video.frame(50)  # goes on
    assert counted == [50]
    counted.clear()
    for number in range(100):
        video.frame(number)
    assert counted == list(range(31, 100))


@pytest.mark.parametrize("threads", [-1, 1.5, "2", True])
def test_what_is_no_number_of_threads(threads):
    with pytest.raises(ValueError, match="number of threads"):
        nf.allow_decoder_threads(threads)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="counts threads of Linux")


@needs_fork
def test_a_fork_ends_the_threads_and_reading_goes_on_in_both(made, counted):
    path, index = made("b-frames.mp4")
    (right,) = read(path, index, [range(COUNT)], 1)
    nf.allow_decoder_threads(4)
    video = VideoDecoder(path, index, HandlePool(), frame_bytes=0)
    before = threads_of_process()
    frames = video.frames(range(COUNT))
    for number in range(70):
        np.testing.assert_array_equal(next(frames)[1], right[number][1])
    assert threads_of_process() >= before + 4

    def rest_is_right() -> bool:
        are_alone = threads_of_process() == 1
        got = [np.array_equal(pixels, right[number][1]) for number, pixels in frames]
        again = [np.array_equal(pixels, right[number][1]) for number, pixels in video.frames(range(COUNT))]
        return are_alone and len(got) == COUNT - 70 and all(got) and all(again) and threads_of_process() == 1

    in_fork(rest_is_right)
    assert threads_of_process() <= before  # a thread of another test may have ended since
    counted.clear()
    check_equal([right[70:]], [list(frames)])
    assert counted == list(range(70, COUNT))
    in_fork(lambda: len(list(video.frames(range(20, 60)))) == 40)  # with an idle decoder
    assert threads_of_process() <= before


@needs_fork
@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_forks_while_threads_read(made, count):
    names = ["b-frames.mp4", "vp9.webm", "av1.mp4"]
    right = {name: read(*made(name), [range(COUNT)], 1)[0] for name in names}
    nf.allow_decoder_threads(4)
    videos = {name: VideoDecoder(*made(name), HandlePool(), frame_bytes=0) for name in names}
    is_over, wrong = threading.Event(), []

    def is_right(name: str, first: int) -> bool:
        got = list(videos[name].frames(range(first, first + 20)))
        return len(got) == 20 and all(np.array_equal(pixels, right[name][number][1]) for number, pixels in got)

    def read_on(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not is_over.is_set():
            name, first = str(rng.choice(names)), int(rng.integers(COUNT - 20))
            if not is_right(name, first):
                wrong.append((name, first))

    threads = [threading.Thread(target=read_on, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(count):
            is_over.wait(0.004 * (turn % 5))
            in_fork(lambda: all(is_right(name, 40) for name in names))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not wrong


@needs_fork
def test_a_child_that_ends_by_itself_does_not_wait(made):
    path, index = made("b-frames.mp4")
    nf.allow_decoder_threads(4)
    video = VideoDecoder(path, index, HandlePool(), frame_bytes=0)
    list(video.frames(range(COUNT)))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.map_async(_count_threads, range(4)).get(timeout=30)
    assert answers == [1] * 4


def _count_threads(_: int) -> int:
    return threaded._DECODERS.threads


def test_frames_read_through_the_cache_are_the_same(made, tmp_path, counted):
    path, _ = made("b-frames.mp4")
    video = nf.open(path, workdir=tmp_path)
    whole, crop, gray = video[:], video[80:96, 10:40, 5:50], nf.read_video(path, pixel_format="gray", workdir=tmp_path)
    nf.allow_decoder_threads(2)
    again = nf.open(path, workdir=tmp_path)
    np.testing.assert_array_equal(again[80:96, 10:40, 5:50], crop)
    np.testing.assert_array_equal(again[:], whole)
    np.testing.assert_array_equal(nf.read_video(path, pixel_format="gray", workdir=tmp_path), gray)
    assert counted


@pytest.mark.slow
def test_generated_videos(tmp_path):
    """500 videos of all containers, codecs and kinds of damage."""
    recipes, checked = draw_recipes(5), 0
    while checked < 500:
        try:
            path = str(next(recipes).make(tmp_path))
            index = build_index(path)
        except (CannotMakeError, nf.NdframesError):
            continue
        requests = list(draw_requests(len(index), checked)) if len(index) > 16 else [range(len(index))]
        check_equal(read(path, index, requests, 1), read(path, index, requests, 4))
        checked += 1
