"""One Frames in many threads and processes: no wrong pixel, no hang, no inherited handle."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import threading
import time

import numpy as np
import pytest

import ndframes as nf

THREADS = 8
MANY_THREADS = 32
CROPS = 150


@pytest.fixture(scope="module", params=["direct tiff", "direct png", "cog", "npy"])
def scenes(request, tmp_path_factory):
    """Frames over four images, read through GDAL handles or memory maps; and their arrays."""
    import tifffile
    from PIL import Image

    folder = tmp_path_factory.mktemp("scenes")
    arrays, paths = {}, {}
    for number in range(4):
        arrays[number] = np.random.default_rng(number).integers(0, 255, (500, 600, 3), np.uint8)
        if request.param == "direct png":
            paths[number] = folder / f"{number}.png"
            Image.fromarray(arrays[number]).save(paths[number], compress_level=1)
        else:
            paths[number] = folder / f"{number}.tif"
            tifffile.imwrite(paths[number], arrays[number], tile=(64, 64), compression="zlib")
    backend = request.param if request.param in ("cog", "npy") else None
    return nf.SimpleFrames(paths, workdir=folder / "work", backend=backend), arrays


def read_crops(frames, arrays, seed, count=CROPS):
    """Compare random crops with numpy; return the number of wrong ones."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(count):
        number = int(rng.integers(4))
        top, left = rng.integers(0, 440, 2).tolist()
        region = np.s_[top : top + 60, left : left + 70]
        wrong += not np.array_equal(frames.load_region(number, region), arrays[number][region])
    return wrong


def read_in_child(frames, arrays, seed, queue):
    queue.put(read_crops(frames, arrays, seed))


def gather(queue, processes):
    outcomes = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    return outcomes


@pytest.mark.parametrize("crops", [40, pytest.param(4_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_threads_share_one_frames(scenes, crops):
    frames, arrays = scenes
    outcomes = []
    threads = [
        threading.Thread(target=lambda seed=seed: outcomes.append(read_crops(frames, arrays, seed, crops)))
        for seed in range(MANY_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [0] * MANY_THREADS
    print(f"{MANY_THREADS} threads, {MANY_THREADS * crops:,} crops: 0 wrong")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_started_afresh(scenes, method):
    frames, arrays = scenes
    frames.load_region(0)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=read_in_child, args=(frames, arrays, seed, queue)) for seed in range(2)]
    for process in processes:
        process.start()
    assert gather(queue, processes) == [0, 0]


def fork_and_read(frames, arrays, seed):
    """Fork as a data loader does; the child reads crops, writes the number of wrong ones to a pipe, and exits."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            wrong = read_crops(frames, arrays, seed, 15)
        except BaseException:
            wrong = 255
        os.write(writing, bytes([min(wrong, 255)]))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read(1)
    os.waitpid(pid, 0)
    return answer


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("forks", [12, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_forks_while_other_threads_read(scenes, forks):
    frames, arrays = scenes
    stop = threading.Event()
    outcomes = []

    def keep_reading(seed):
        while not stop.is_set():
            outcomes.append(read_crops(frames, arrays, seed, 20))
            time.sleep(0.001)  # otherwise the thread that forks hardly runs on a busy machine

    threads = [threading.Thread(target=keep_reading, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        children = [fork_and_read(frames, arrays, 100 + number) for number in range(forks)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert children == [b"\0"] * forks
    assert set(outcomes) == {0}
    print(f"{forks:,} forks: 0 wrong of {15 * forks:,} crops in the children and {20 * len(outcomes):,} in the threads")


def test_a_forked_child_opens_its_own_handles(scenes):
    frames, arrays = scenes
    assert read_crops(frames, arrays, 0, 20) == 0
    assert fork_and_read(frames, arrays, 1) == b"\0"
    assert read_crops(frames, arrays, 2, 20) == 0


def test_first_use_in_many_threads_converts_once(tmp_path, monkeypatch):
    import ndframes.entries.conversion as conversion_module

    array = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    np.save(tmp_path / "a.npy", array)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")
    writes = []
    write = conversion_module._write

    def counted(*arguments):
        writes.append(1)
        time.sleep(0.05)
        return write(*arguments)

    monkeypatch.setattr(conversion_module, "_write", counted)
    crops = []
    threads = [threading.Thread(target=lambda: crops.append(frames.load_region("a"))) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writes) == 1
    assert len(crops) == THREADS
    for crop in crops:
        np.testing.assert_array_equal(crop, array)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda frames: pickle.loads(pickle.dumps(frames))])
def test_a_copy_carries_no_handles_and_reads_the_same(scenes, duplicate):
    frames, arrays = scenes
    assert read_crops(frames, arrays, 0, 20) == 0
    assert len(pickle.dumps(frames)) < 5000
    twin = duplicate(frames)
    assert twin._opener.pool is not frames._opener.pool
    assert read_crops(twin, arrays, 1, 20) == 0
    del twin
    assert read_crops(frames, arrays, 2, 20) == 0


def test_files_stay_open_up_to_a_limit_only(tmp_path):
    import tifffile

    paths = {}
    for number in range(300):
        paths[number] = tmp_path / f"{number}.tif"
        tifffile.imwrite(paths[number], np.full((16, 16), number % 251, np.uint8))
    frames = nf.SimpleFrames(paths, backend=None, workdir=tmp_path / "w")
    gc.collect()  # frames left by other tests
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        assert int(frames.load_region(number)[0, 0, 0]) == number % 251
    assert len(os.listdir("/proc/self/fd")) - before <= frames._opener.pool.max_idle < 200
