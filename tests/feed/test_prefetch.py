"""Prefetch: every chunk equals a direct read, in order, from every kind of worker."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import threading

import numpy as np
import pytest
from kit.ahead import EDGE, children, count_wrong_pixels, descriptors, make_arrays, make_frames, make_requests

import ndframes as nf
from ndframes.errors import NdframesError, RegionError, RegionIndexError, RegionTooLargeError, UnreadableImageError
from ndframes.feed import Chunk, GridPatches, Patch, prefetch
from ndframes.feed.requests import RequestSource
from ndframes.system.portable_error import WorkerTraceback

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ARRAYS = make_arrays()
#: The quick ways to have workers; the others are tested where they matter.
QUICK = {
    "fork": {"start_method": "fork"},
    "forks": {"start_method": "fork", "workers": 3},
    "thread": {"worker": "thread"},
    "threads": {"worker": "thread", "workers": 3},
}
ALL = {
    **QUICK,
    "command": {},
    "commands": {"workers": 2, "depth": 1},
    "spawn": {"start_method": "spawn"},
    "forkserver": {"start_method": "forkserver"},
}
by_worker = pytest.mark.parametrize("how", QUICK.values(), ids=QUICK)
by_every_worker = pytest.mark.parametrize("how", ALL.values(), ids=ALL)
#: A process and a thread, for what does not depend on how they are started.
by_kind = pytest.mark.parametrize("how", [QUICK["forks"], QUICK["threads"]], ids=["processes", "threads"])


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return make_frames(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    nf.write_video(path, np.random.default_rng(0).integers(0, 255, (30, 32, 48, 3), np.uint8), 25)
    return nf.open(path)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No child and no descriptor is left behind by any test."""
    before = children()
    yield
    gc.collect()
    assert children() <= before


def requests_of(chunks) -> list:
    return [request for chunk in chunks for request in chunk.requests]


# -- pixels -----------------------------------------------------------------------------------------------------------


@by_every_worker
def test_each_chunk_equals_a_direct_read_and_they_come_in_order(frames, how):
    requests = make_requests(50)
    seen = []
    for chunk in prefetch(frames, requests, chunk_size=7, **how):
        assert count_wrong_pixels(chunk, ARRAYS) == 0
        assert (type(chunk), chunk.failed) == (Chunk, ())
        assert np.array_equal(chunk.array, frames.load_regions(chunk.requests))
        seen += chunk.requests
    assert seen == requests


@by_worker
def test_chunks_that_are_all_kept_stay_right_and_belong_to_their_reader(frames, how):
    chunks = prefetch(frames, make_requests(90), chunk_size=5, **how)
    kept = list(chunks)
    assert [count_wrong_pixels(chunk, ARRAYS) for chunk in kept] == [0] * 18
    for number, chunk in enumerate(kept):
        assert chunk.array.flags.writeable
        assert chunk.array.flags.c_contiguous
        chunk.array[...] = number
    assert all((chunk.array == number).all() for number, chunk in enumerate(kept))
    assert chunks.stats().chunks == 18
    assert (chunks.stats().copies > 0) == ("worker" not in how)


def test_a_plain_loop_copies_nothing(frames):
    chunks = prefetch(frames, make_requests(200), chunk_size=5, start_method="fork")
    for requests, array in chunks:
        assert len(requests) == len(array)
    stats = chunks.stats()
    assert (stats.chunks, stats.bytes, stats.copies) == (40, 200 * EDGE * EDGE * 3, 0)
    assert stats.consumer_waited_seconds > 0
    assert stats.to_dict()["workers_waited_seconds"] >= 0


def test_views_of_a_chunk_keep_its_memory(frames):
    iterator = iter(prefetch(frames, make_requests(100), chunk_size=5, start_method="fork"))
    views = [next(iterator).array[2, 3:9, ::-1] for _ in range(20)]
    wanted = [ARRAYS[image_id][region][3:9, ::-1] for image_id, region in make_requests(100)[2::5]]
    assert all(np.array_equal(view, want) for view, want in zip(views, wanted, strict=True))
    del iterator
    gc.collect()
    assert all(np.array_equal(view, want) for view, want in zip(views, wanted, strict=True))


@by_kind
def test_patches_inside_outside_and_scaled(frames, how):
    patches = [
        *GridPatches(frames, (40, 40), edge="pad"),
        Patch(1, np.s_[0:64, 0:64], scale=0.5, image_shape=(90, 110)),
        Patch(2, np.s_[-8:24, 100:132], image_shape=(90, 110)),
        Patch(2, np.s_[-8:24, 100:132]),
    ]
    for chunk in prefetch(frames, patches, chunk_size=9, fill=7, **how):
        for patch, crop in zip(*chunk, strict=True):
            assert np.array_equal(crop, frames.load_region(*patch.request, fill=7, **patch.read_options))
    assert [type(crop) for crop in chunk.array] == [np.ndarray] * len(chunk)


@by_kind
def test_regions_of_several_shapes_come_as_a_list(frames, how):
    requests = [(0, np.s_[0:edge, 0:edge]) for edge in range(0, 40, 3)]
    for chunk in prefetch(frames, requests, chunk_size=5, **how):
        assert isinstance(chunk.array, list)
        assert count_wrong_pixels(chunk, ARRAYS) == 0


@by_kind
def test_a_chunk_of_another_shape_than_the_last_one(frames, how):
    edges = [16] * 10 + [48] * 10 + [8] * 5 + [60] * 10
    requests = [(number % 4, np.s_[1 : 1 + edge, 2 : 2 + edge]) for number, edge in enumerate(edges)]
    chunks = list(prefetch(frames, requests, chunk_size=5, **how))
    assert [count_wrong_pixels(chunk, ARRAYS) for chunk in chunks] == [0] * 7
    assert [chunk.array.shape[1] for chunk in chunks] == edges[::5]


@by_kind
def test_options_and_channels_reach_the_reader(frames, how):
    requests = [(0, np.s_[-4:28, 0:32]), (1, np.s_[80:112, 90:122])]
    options = {"pad": "reflect", "scale": 0.5, "interpolation": "nearest"}
    (chunk,) = prefetch(frames, requests, channels=[frames.load_frame(0).channels[2]], **options, **how)
    for request, crop in zip(*chunk, strict=True):
        assert np.array_equal(crop, frames.load_region(*request, [frames.load_frame(0).channels[2]], **options))


@by_kind
def test_masked_arrays_keep_their_masks(frames, how):
    requests = [(0, np.s_[-4:28, 0:32]), (1, np.s_[80:112, 90:122])]
    (chunk,) = prefetch(frames, requests, pad="constant", nodata="mask", **how)
    direct = frames.load_regions(requests, pad="constant", nodata="mask")
    assert isinstance(chunk.array, np.ma.MaskedArray)
    assert np.array_equal(chunk.array.mask, direct.mask)
    assert np.array_equal(chunk.array.filled(0), direct.filled(0))


def test_arrays_without_pixels(frames):
    requests = [(0, np.s_[5:5, 0:10])] * 3
    (chunk,) = prefetch(frames, requests, start_method="fork")
    assert chunk.array.shape == (3, 0, 10, 3)


# -- what may be requested -------------------------------------------------------------------------------------------


@by_worker
def test_nothing_to_read_ends_at_once(frames, how):
    with prefetch(frames, [], **how) as chunks:
        assert list(chunks) == []
        assert list(chunks) == []
    assert children() == set()


@by_kind
def test_no_requests_are_all_images(frames, how):
    chunks = list(prefetch(frames, chunk_size=3, **how))
    assert [chunk.requests for chunk in chunks] == [[(0, None), (1, None), (2, None)], [(3, None)]]
    assert all(np.array_equal(chunks[0].array[number], ARRAYS[number]) for number in range(3))


@by_kind
def test_frames_of_a_video_in_any_order(video, how):
    numbers = [7, 3, np.int64(29), 3, -1, 0, 12, 13, 14]
    chunks = list(prefetch(video, numbers, chunk_size=4, **how))
    assert [chunk.requests for chunk in chunks] == [numbers[:4], numbers[4:8], numbers[8:]]
    for chunk in chunks:
        assert np.array_equal(chunk.array, video[[int(number) for number in chunk.requests]])
    everything = list(prefetch(video, chunk_size=8, **how))
    assert np.array_equal(np.concatenate([chunk.array for chunk in everything]), video[:])
    assert requests_of(everything) == list(range(30))


def test_frames_of_a_sequence_of_images(tmp_path):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full((4, 5), number, np.uint8))
    walk = nf.open(tmp_path)
    chunks = list(prefetch(walk, [5, 0, 5, -2], chunk_size=3, worker="thread"))
    assert [chunk.array[:, 0, 0, 0].tolist() for chunk in chunks] == [[5, 0, 5], [4]]
    assert np.array_equal(np.concatenate([chunk.array for chunk in prefetch(walk, worker="thread")]), walk[:])


def test_a_frame_that_a_video_does_not_have_is_a_typed_error(video):
    with pytest.raises(nf.RegionIndexError, match="30"):
        list(prefetch(video, [3, 30], worker="thread"))


def test_a_video_may_be_given_as_frames_and_a_mixture_of_requests(video):
    frames = nf.SimpleFrames({"cam": video.frames.pathinfo(video.image_id).channels[0].path}, backend=None)
    requests = [3, ("cam", np.s_[4, 0:8, 0:8]), Patch("cam", np.s_[5, 0:8, 0:8], image_shape=(32, 48))]
    (chunk,) = prefetch(frames, requests, start_method="fork")
    assert np.array_equal(chunk.array[0], video[3])
    assert np.array_equal(chunk.array[1], video[4, 0:8, 0:8])
    assert np.array_equal(chunk.array[2], video[5, 0:8, 0:8])


def test_one_image_as_a_frame(frames):
    frame = frames.load_frame(2, channels=[frames.load_frame(2).channels[1]])
    (chunk,) = prefetch(frame, worker="thread")
    assert chunk.requests == [(2, None)]
    assert np.array_equal(chunk.array[0], ARRAYS[2][:, :, 1:2])


@by_kind
def test_endless_requests_are_taken_as_they_are_needed(frames, how):
    taken = itertools.count()
    endless = ((next(taken) % 4, np.s_[0:8, 0:8]) for _ in itertools.count())
    iterator = iter(prefetch(frames, endless, chunk_size=5, depth=2, **how))
    for number in range(1, 9):
        assert count_wrong_pixels(next(iterator), ARRAYS) == 0
        assert next(taken) - (number - 1) <= 5 * (number + 2 * how["workers"])
    iterator.close()


@by_kind
def test_each_iteration_starts_again(frames, how):
    requests = make_requests(20)
    chunks = prefetch(frames, requests, chunk_size=6, **how)
    next(iter(chunks))
    for _ in range(2):
        assert requests_of(chunks) == requests


@by_kind
def test_threads_that_share_an_iterator_lose_nothing(frames, how):
    requests = make_requests(300)
    chunks, errors = [], []
    for _ in range(3):
        iterator = iter(prefetch(frames, requests, chunk_size=2, **how))

        def take(iterator=iterator):
            try:
                for chunk in iterator:
                    assert count_wrong_pixels(chunk, ARRAYS) == 0
                    chunks.extend(chunk.requests)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert sorted(map(repr, chunks)) == sorted(map(repr, requests))
        chunks.clear()


@by_kind
def test_threads_that_iterate_at_the_same_time_get_workers_of_their_own(frames, how):
    requests = make_requests(20)
    results = []
    with prefetch(frames, requests, chunk_size=2, **how) as chunks:
        rounds = 6

        def read():
            results.extend(sum(count_wrong_pixels(chunk, ARRAYS) for chunk in chunks) for _ in range(rounds))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [0] * 3 * rounds
        assert chunks.stats().chunks == 3 * rounds * 10


def test_a_with_block_keeps_its_processes_for_the_next_iteration(frames):
    requests = make_requests(20)
    with prefetch(frames, requests, chunk_size=6, workers=2, start_method="fork") as chunks:
        assert len(list(chunks)) == 4
        first = children()
        assert len(first) == 2
        assert len(list(chunks)) == 4
        assert children() == first
        next(iter(chunks))
    assert children() == set()
    # It can be used after that, too.
    assert requests_of(chunks) == requests
    assert children() == set()


def test_two_iterations_at_a_time(frames):
    with prefetch(frames, make_requests(30), chunk_size=6, start_method="fork") as chunks:
        for one, other in zip(chunks, chunks, strict=True):
            assert np.array_equal(one.array, other.array)
        assert len(children()) == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("scene", "request 0 is 'scene'; give patches"),
        ((1, 2, 3), "give patches, pairs"),
        (True, "give patches, pairs"),
        (3, "request 0 is 3, the number of a frame, but there are 4 images"),
    ],
)
def test_what_is_no_request(frames, request_, message):
    with pytest.raises(RegionError, match=message):
        list(prefetch(frames, [request_], worker="thread"))


def test_a_frame_number_of_a_picture(frames):
    with pytest.raises(RegionError, match="image 1 is no video"):
        list(prefetch(frames.load_frame(1), [0], worker="thread"))


def test_options_that_are_not_valid(frames):
    for name in ("chunk_size", "depth", "workers"):
        for value in (0, -1, 1.5, True, None):
            with pytest.raises(ValueError, match=f"{name}=.*whole number from 1"):
                prefetch(frames, [], **{name: value})
    with pytest.raises(ValueError, match="worker='fibre'; allowed: 'auto', 'process', 'thread'"):
        prefetch(frames, [], worker="fibre")
    with pytest.raises(ValueError, match="errors='ignore'"):
        prefetch(frames, [], errors="ignore")
    with pytest.raises(ValueError, match="start_method='vfork'"):
        prefetch(frames, [], start_method="vfork")
    with pytest.raises(ValueError, match="interpolation"):
        prefetch(frames, [], interpolation="magic")
    with pytest.raises(TypeError, match="give Frames"):
        prefetch({"a": "b.tif"}, [])
    with pytest.raises(
        TypeError, match="^prefetch has no option 'chunks'; .* load_region: fill, interpolation, .*, shape, outside$"
    ):
        prefetch(frames, [], chunks=5)


# -- errors ----------------------------------------------------------------------------------------------------------


@by_kind
def test_an_error_comes_in_its_turn_with_everything_that_is_known_of_it(frames, how):
    requests = make_requests(30)
    requests[17] = (2, np.s_[500, 0:32])
    iterator = iter(prefetch(frames, requests, chunk_size=5, **how))
    for _ in range(3):
        assert count_wrong_pixels(next(iterator), ARRAYS) == 0
    with pytest.raises(RegionIndexError, match="image 2") as caught:
        next(iterator)
    assert caught.value.image_id == 2
    (note,) = caught.value.__notes__
    assert note.startswith("while reading (2, (500, slice(0, 32, None))) in process ")
    if how["workers"] and "start_method" in how:
        assert isinstance(caught.value.__cause__, WorkerTraceback)
        assert "RegionIndexError: image 2" in str(caught.value.__cause__)
        assert str(os.getpid()) not in note
    assert list(iterator) == []
    assert children() == set()


@by_kind
def test_failed_requests_can_be_left_out(frames, how):
    requests = make_requests(30)
    for number in (3, 17, 19, 25, 26, 27, 28, 29):
        requests[number] = (9, np.s_[0:9, 0:9]) if number == 3 else (1, np.s_[900, 0:9])
    chunks = list(prefetch(frames, requests, chunk_size=5, errors="skip", **how))
    assert [len(chunk) for chunk in chunks] == [4, 5, 5, 3, 5, 0]
    assert [len(chunk.failed) for chunk in chunks] == [1, 0, 0, 2, 0, 5]
    assert sum(count_wrong_pixels(chunk, ARRAYS) for chunk in chunks) == 0
    failed = sum((chunk.failed for chunk in chunks), ())
    assert [request for request, _ in failed] == [requests[number] for number in (3, 17, 19, 25, 26, 27, 28, 29)]
    assert [type(error).__name__ for _, error in failed] == ["ImageIdError"] + ["RegionIndexError"] * 7


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    frames = nf.SimpleFrames({"bad": str(tmp_path / "bad.png")}, workdir=tmp_path / "work", backend=None)
    with pytest.raises(UnreadableImageError, match=r"bad\.png"):
        list(prefetch(frames, start_method="fork"))


def test_a_chunk_that_is_too_large_as_a_whole(tmp_path):
    frames = make_frames(tmp_path, max_region_bytes=10 * EDGE * EDGE * 3)
    with pytest.raises(RegionTooLargeError, match="a batch of 20 regions") as caught:
        list(prefetch(frames, make_requests(20), chunk_size=20, start_method="fork"))
    assert "while reading 20 requests from (0, " in caught.value.__notes__[-1]


class TwoArgumentsError(Exception):
    """An error that pickles, and does not load again."""

    def __init__(self, path: str, code: int) -> None:
        super().__init__(f"{path} has code {code}")
        self.code = code


class CustomError(Exception):
    """An error with an attribute."""


class Troubled(nf.Frames):
    """Frames whose own code fails."""

    image_ids = property(lambda self: range(4))

    def build_pathinfo(self, image_id):
        if image_id == 1:
            raise TwoArgumentsError("a.tif", 7)
        error = CustomError("not today")
        error.reason = ("rain", image_id)
        raise error from ValueError("the cause")


@by_kind
def test_errors_of_the_users_own_code(tmp_path, how):
    frames = Troubled(workdir=tmp_path)
    with pytest.raises(CustomError, match="not today") as caught:
        list(prefetch(frames, [(2, None)], **how))
    assert caught.value.reason == ("rain", 2)
    is_process = "start_method" in how
    assert ("ValueError: the cause" in str(caught.value.__cause__)) == is_process
    # tblib, which distributed installs, makes errors of any constructor pickle.
    with pytest.raises(
        (NdframesError, TwoArgumentsError) if is_process else TwoArgumentsError, match=r"a\.tif has code 7"
    ) as caught:
        list(prefetch(frames, [(1, None)], **how))
    assert "(1, None)" in caught.value.__notes__[0]
    if is_process:
        if isinstance(caught.value, NdframesError):
            assert str(caught.value) == "test_prefetch.TwoArgumentsError: a.tif has code 7"
        assert "TwoArgumentsError" in str(caught.value.__cause__)


@by_kind
def test_an_error_of_the_requests_comes_after_the_chunks_before_it(frames, how):
    def failing():
        yield from make_requests(12)
        raise OSError("the list ends here")

    iterator = iter(prefetch(frames, failing(), chunk_size=5, **how))
    assert [len(next(iterator)) for _ in range(3)] == [5, 5, 2]
    with pytest.raises(OSError, match="the list ends here"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_frames_that_do_not_pickle(tmp_path):
    frames = make_frames(tmp_path)
    frames.secret = lambda: None
    requests = make_requests(10)
    for how in ({}, {"worker": "process"}, {"start_method": "fork"}, {"worker": "thread"}):
        (chunk,) = prefetch(frames, requests, **how)
        assert count_wrong_pixels(chunk, ARRAYS) == 0
    with pytest.raises(nf.UnsupportedError, match=r"^the frames cannot be pickled.*start_method='fork'"):
        list(prefetch(frames, requests, start_method="spawn"))


# -- where it runs ---------------------------------------------------------------------------------------------------


def read_in_daemon(folder, connection):
    frames = make_frames(folder)
    found = []
    for how in ({}, {"worker": "thread", "workers": 2}, {"worker": "process"}):
        wrong = sum(
            count_wrong_pixels(chunk, ARRAYS) for chunk in prefetch(frames, make_requests(20), chunk_size=6, **how)
        )
        found.append(wrong)
        if not how:
            iterator = iter(prefetch(frames, make_requests(20), chunk_size=6))
            next(iterator)
            found.append(len(children()))
            iterator.close()
    try:
        list(prefetch(frames, make_requests(2), worker="process", start_method="fork"))
    except nf.UnsupportedError as error:
        found.append(str(error))
    connection.send(found)


def test_in_a_worker_of_a_data_loader_it_takes_threads(tmp_path):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=read_in_daemon, args=(tmp_path, sender), daemon=True)
    process.start()
    assert receiver.poll(60)
    *counts, message = receiver.recv()
    process.join()
    assert counts == [0, 0, 0, 0]
    assert "use worker='thread'" in message


def test_a_source_answers_what_everything_is(frames, video):
    assert list(RequestSource(frames, None).everything()) == [(number, None) for number in range(4)]
    assert list(RequestSource(video, None).everything()) == list(range(30))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=() if name in ("command", "forks", "threads") else pytest.mark.slow)
        for name, how in ALL.items()
    ],
    ids=ALL,
)
def test_early_exit_and_forgotten_iterators_leave_nothing(frames, how):
    next(iter(prefetch(frames, make_requests(5), **how)))
    before = descriptors()
    for _ in prefetch(frames, make_requests(60), chunk_size=5, **how):
        break
    iterator = iter(prefetch(frames, make_requests(60), chunk_size=5, **how))
    assert count_wrong_pixels(next(iterator), ARRAYS) == 0
    del iterator
    with prefetch(frames, make_requests(60), chunk_size=5, **how) as chunks:
        kept = iter(chunks)
        assert count_wrong_pixels(next(kept), ARRAYS) == 0
    assert list(kept) == []
    del _
    assert children() == set()
    assert descriptors() == before


def test_an_iterator_in_a_cycle_is_ended_by_the_garbage_collector(frames):
    iterator = iter(prefetch(frames, make_requests(60), chunk_size=5, start_method="fork"))
    next(iterator)
    holder = {"iterator": iterator}
    holder["self"] = holder
    assert len(children()) == 1
    del iterator, holder
    gc.collect()
    assert children() == set()
