"""AsyncVideo as SLEAP has it, with what SLEAP's own lacks: errors reach the loop, and nothing hangs."""

from __future__ import annotations

import gc
import itertools
import os
import signal

import numpy as np
import pytest
from kit.ahead import children
from kit.waiting import wait_until

import ndframes as nf
from ndframes.compat.sleap import AsyncVideo, get_frames_safely

COUNT = 50


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("sleap") / "walk.mp4"
    nf.write_video(path, np.random.default_rng(0).integers(0, 255, (COUNT, 48, 64, 3), np.uint8), fps=5)
    return path


@pytest.fixture(scope="module")
def pixels(path):
    return nf.read_video(path)


@pytest.fixture
def in_threads(monkeypatch):
    """Avoid the start of a process, which costs about a second, where it is not what is tested."""
    import ndframes.compat.sleap as module

    make_workers = module.make_workers
    monkeypatch.setattr(
        module,
        "make_workers",
        lambda work, **options: make_workers(work, **{**options, "kind": "thread", "start_method": None}),
    )


class Foreign:
    """As SLEAP's Video."""

    def __init__(self, pixels, broken=()):
        self.pixels, self.broken = pixels, broken
        self.lambda_ = lambda: None  # so that it does not pickle

    @property
    def num_frames(self):
        return len(self.pixels)

    def get_frame(self, idx):
        if idx in self.broken:
            raise KeyError(f"frame {idx} is broken")
        return self.pixels[idx]


class ForeignOfMany(Foreign):
    """Which reads several frames at once, and returns what it keeps."""

    frames = property(lambda self: len(self.pixels))

    def get_frames(self, idxs):
        return self.pixels if len(idxs) == len(self.pixels) else np.stack([self.get_frame(idx) for idx in idxs])


class Sliced:
    """As sleap-io's Video."""

    def __init__(self, pixels):
        self.pixels, self.shape = pixels, pixels.shape
        self.pid = os.getpid()

    def __getitem__(self, idx):
        assert isinstance(idx, int)
        return np.full_like(self.pixels[idx], idx) if os.getpid() != self.pid else self.pixels[idx]


def check(chunks, pixels, numbers, size):
    """Chunks hold the frames of some numbers, in their order, and belong to the reader."""
    found = list(chunks)
    numbers = [int(number) for number in numbers]
    assert [idxs for idxs, _ in found] == [numbers[start : start + size] for start in range(0, len(numbers), size)]
    for idxs, frames in found:
        assert all(type(idx) is int for idx in idxs)
        np.testing.assert_array_equal(frames, pixels[idxs])
        frames[...] = 0


def test_a_path_is_read_in_a_process(path, pixels):
    before = children()
    video = AsyncVideo.from_video(str(path), frames_per_chunk=23)
    assert children() != before  # it has begun
    check(video.chunks, pixels, range(COUNT), 23)
    assert children() == before
    assert list(video.chunks) == []


@pytest.mark.parametrize("numbers", [range(0, 10, 2), np.array([7, 3, 3, 49, 0]), [np.int64(4)], iter([5, 1])])
@pytest.mark.parametrize("make", [str, nf.open, np.asarray, Foreign, ForeignOfMany], ids=lambda make: make.__name__)
def test_any_numbers_of_any_video(path, pixels, in_threads, make, numbers):
    numbers = list(numbers) if not isinstance(numbers, np.ndarray) else numbers
    video = make(path if make in (str, nf.open) else pixels)
    check(AsyncVideo.from_video(video, numbers, frames_per_chunk=2).chunks, pixels, numbers, 2)


@pytest.mark.parametrize("make", [Foreign, ForeignOfMany, np.asarray])
def test_all_frames_of_an_object_of_another_package(pixels, make):
    own = pixels.copy()
    check(AsyncVideo.from_video(make(own), frames_per_chunk=COUNT).chunks, pixels, range(COUNT), COUNT)
    assert np.array_equal(own, pixels), "the object's own frames were written to"


def test_a_small_object_that_pickles_is_read_in_a_process():
    video = Sliced(np.zeros((5, 4, 6, 1), np.uint8))
    chunks = list(AsyncVideo.from_video(video, None, 2).chunks)
    assert [frame.max() for _, frames in chunks for frame in frames] == [0, 1, 2, 3, 4]


def test_a_large_one_is_read_in_a_thread():
    video = Sliced(np.ones((5, 2048, 2048, 1), np.uint8))
    ((idxs, frames),) = AsyncVideo.from_video(video).chunks
    assert idxs == [0, 1, 2, 3, 4]
    assert frames.min() == 1


def test_a_folder_of_images(tmp_path, in_threads):
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.full((6, 7), number, np.uint8))
    ((idxs, frames),) = AsyncVideo.from_video(tmp_path, [4, 2]).chunks
    assert (idxs, frames[:, 0, 0, 0].tolist()) == ([4, 2], [4, 2])


def test_several_loads_come_one_after_the_other(path, pixels, in_threads):
    video = AsyncVideo(base_port=9010)
    assert (video.base_port, video.handshake_success) == (9010, True)
    assert video.load_by_chunk(path, range(5), 2) is None
    video.load_by_chunk(pixels, [], 2)
    video.load_by_chunk(Foreign(pixels), [9, 8, 7], 2)
    assert [idxs for idxs, _ in video.chunks] == [[0, 1], [2, 3], [4], [9, 8], [7]]
    video.load_by_chunk(path, [3], 2)
    check(video.chunks, pixels, [3], 2)


def test_no_frames_end_at_once(path):
    before = children()
    assert list(AsyncVideo.from_video(path, frame_idxs=[]).chunks) == []
    assert list(AsyncVideo().chunks) == []
    assert children() == before


def test_the_loop_may_stop_and_go_on(path, pixels, in_threads):
    video = AsyncVideo.from_video(path, range(10), 3)
    assert [idxs for idxs, _ in itertools.islice(video.chunks, 2)] == [[0, 1, 2], [3, 4, 5]]
    assert [idxs for idxs, _ in video.chunks] == [[6, 7, 8], [9]]


def test_an_error_is_raised_by_the_loop_and_ends_it(path, pixels, in_threads):
    video = AsyncVideo.from_video(path, [0, 1, 2, COUNT], 2)
    chunks = video.chunks
    assert next(chunks)[0] == [0, 1]
    with pytest.raises(nf.RegionIndexError, match=str(COUNT)):
        next(chunks)
    assert list(video.chunks) == []
    with pytest.raises(KeyError, match="frame 3 is broken"):
        list(AsyncVideo.from_video(Foreign(pixels, broken=[3])).chunks)


@pytest.mark.parametrize("make", [nf.open, Foreign, ForeignOfMany], ids=lambda make: make.__name__)
def test_frames_that_cannot_be_read_are_left_out_on_request(path, pixels, in_threads, make):
    video = nf.open(path) if make is nf.open else make(pixels, broken=[COUNT, COUNT + 1])
    loader = AsyncVideo.from_video(video, [1, COUNT, 2, COUNT, COUNT + 1, 4], 2, errors="skip")
    found = list(loader.chunks)
    assert [idxs for idxs, _ in found] == [[1], [2], [4]]
    np.testing.assert_array_equal(np.concatenate([frames for _, frames in found]), pixels[[1, 2, 4]])
    idxs, frames = get_frames_safely(video, [3, COUNT, 3])
    assert idxs == [3, 3]
    np.testing.assert_array_equal(frames, pixels[[3, 3]])
    assert get_frames_safely(video, [COUNT]) == ([], None)
    assert get_frames_safely(video, []) == ([], None)


def test_a_killed_worker_is_an_error_and_closing_twice_is_not(path):
    before = children()
    video = AsyncVideo.from_video(path, frames_per_chunk=2)
    chunks = video.chunks
    next(chunks)
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(nf.WorkerDied, match="SIGKILL"):
        list(chunks)
    wait_until(lambda: children() == before)
    video.close()
    video.close()


def test_nothing_is_left_of_a_forgotten_object(path):
    before = children()
    with AsyncVideo.from_video(path, frames_per_chunk=2) as video:
        assert children() != before
    wait_until(lambda: children() == before)
    video = AsyncVideo.from_video(path, frames_per_chunk=2)
    del video
    gc.collect()
    wait_until(lambda: children() == before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "video=3"),
        ((object(),), TypeError, "get_frames, get_frame"),
        (("nowhere.mp4",), FileNotFoundError, "nowhere.mp4"),
        ((np.zeros((2, 3, 4, 1)), None, 0), ValueError, "frames_per_chunk=0"),
        ((np.zeros((2, 3, 4, 1)), [0.5]), TypeError, "whole numbers"),
        ((type("Endless", (), {"get_frame": None})(),), TypeError, "does not tell its number of frames"),
    ],
)
def test_bad_arguments_are_errors_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        AsyncVideo.from_video(*arguments)


def test_an_image_has_no_frames():
    with pytest.raises(nf.RegionError, match="no video"):
        AsyncVideo.from_video(nf.demo_paths()["coffee"], [0])
