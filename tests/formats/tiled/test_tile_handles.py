"""Files of tiles: what is fetched ahead, how many are open, in threads and forks."""

from __future__ import annotations

import gc
import os
import pickle
import threading

import numpy as np
import pytest
from kit.forking import in_fork
from kit.limits import run_limited
from kit.racing import run_in_threads
from kit.synthetic import picture
from kit.tilework import (
    PHOTOGRAPH,
    cog,
    entry_path,
    frames_over,
    is_mapped,
    read_crops,
    segments_of,
    tile_cache_of,
    tile_number,
)


@pytest.mark.parametrize("compress", ["ZSTD", "NONE"])
@pytest.mark.parametrize("is_remote", [False, True])
def test_exactly_the_tiles_that_are_read_are_fetched_ahead(tmp_path, at_rest, monkeypatch, compress, is_remote):
    """In the order of the file, each once; none that is in memory."""
    monkeypatch.setattr("ndframes.system.files.is_remote", lambda path: is_remote)
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.prepare()
    fetched: list[tuple[int, int]] = []

    def note(descriptor, offset, length, advice):
        if advice == os.POSIX_FADV_WILLNEED and (offset, length) not in fetched:
            fetched.append((offset, length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    rows = segments_of(entry_path(frames))
    requests = [("a", np.s_[40:90, 10:50]), ("a", np.s_[0:10, 0:10]), ("a", np.s_[35:45, 30:40])]
    is_plain = compress == "NONE" and not is_remote
    twin = pickle.loads(pickle.dumps(frames))
    for _ in range(2):
        twin.load_regions(requests, read_ahead=True)
        wanted = sorted(tile_number(compress, *place) for place in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1)))
        assert fetched == [(int(rows[number]["offset"]), int(rows[number]["length"])) for number in wanted]
        if not is_plain:
            twin.load_regions([*requests, ("a", np.s_[96:, 128:])], read_ahead=True)
            assert fetched[5:] == [(int(rows[20]["offset"]), int(rows[20]["length"]))]
            break
        fetched.clear()


@pytest.mark.parametrize("compress", ["ZSTD", "NONE"])
def test_a_first_crop_has_all_its_tiles_fetched_side_by_side(tmp_path, at_rest, monkeypatch, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.prepare()
    fetched: list[int] = []

    def note(descriptor, offset, length, advice):
        if advice == os.POSIX_FADV_WILLNEED:
            fetched.append(offset)

    monkeypatch.setattr(os, "posix_fadvise", note)
    rows = segments_of(entry_path(frames))
    for _ in range(2):
        frames.load_region("a", np.s_[40:90, 10:50])
        touched = sorted(tile_number(compress, row, col) for row in (1, 2) for col in (0, 1))
        assert fetched == [int(rows[number]["offset"]) for number in touched]


MANY = """
import os, sys, threading
import numpy as np
import ndframes as nf
folder = sys.argv[1]
base = np.load(folder + "/base.npy")
def backend(image_id, info):
    return {"type": "cog", "config": {"compress": "NONE" if image_id % 2 else "ZSTD", "blocksize": 16, "overviews": False}}
frames = nf.SimpleFrames({n: f"{folder}/{n}.npy" for n in range(160)}, workdir=folder + "/work", backend=backend, tile_bytes=20_000)
assert frames._opener.pool.max_idle == 16
frames.prepare()
most, right, errors = [], [], []
def work(seed):
    dice = np.random.default_rng(seed)
    try:
        for _ in range(400):
            number = int(dice.integers(160))
            top, left = (int(value) for value in dice.integers(0, 20, 2))
            crop = frames.load_region(number, np.s_[top : top + 20, left : left + 30])
            assert np.array_equal(crop, base[top : top + 20, left : left + 30] + np.uint8(number % 251)), number
            right.append(1)
            most.append(len(os.listdir("/proc/self/fd")))
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if errors:
    raise errors[0]
batch = frames.load_regions([(number, np.s_[5:25, 5:25]) for number in range(160)], workers=4)
assert all(np.array_equal(crop, base[5:25, 5:25] + np.uint8(number % 251)) for number, crop in enumerate(batch))
frames._opener.pool.close()
print(len(right), max(most), len(os.listdir("/proc/self/fd")))
"""


def test_hundreds_of_entries_in_few_descriptors(tmp_path):
    """64 files may be open, four threads read 160 entries in any order, half of them mapped."""
    base = picture((40, 50, 3))
    np.save(tmp_path / "base.npy", base)
    for number in range(160):
        np.save(tmp_path / f"{number}.npy", base + np.uint8(number % 251))
    right, most, left = map(int, run_limited(MANY, 64, str(tmp_path)).split())
    own = 8  # of Python, of its libraries, and of whoever lists them
    assert right == 1600
    assert left <= own + 4
    assert most <= own + 16 + 4 * 4, "the idle, and for each thread what it opens, maps and lists"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
@pytest.mark.parametrize("forks", [12, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_forks_while_threads_read(tmp_path, at_rest, compress, forks):
    arrays = {number: np.roll(PHOTOGRAPH, number) for number in range(4)}
    frames = frames_over(tmp_path, arrays, cog(compress), tile_bytes=30_000)
    frames.prepare()
    read_crops(frames, arrays, 0, 10)
    stop = threading.Event()

    def work(seed):
        if seed:
            wrong = 0
            while not stop.is_set():
                wrong += read_crops(frames, arrays, seed, 10)
            return wrong
        try:
            for number in range(forks):
                in_fork(lambda number=number: read_crops(frames, arrays, 100 + number, 15) == 0)
        finally:
            stop.set()
        return 0

    assert run_in_threads(work, 5) == [0] * 5


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_an_entry_that_is_removed_while_it_is_open_is_read_on(tmp_path, at_rest, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress), tile_bytes=0)
    frames.load_region("a", np.s_[:10, :10])
    path = entry_path(frames)
    path.unlink()
    np.testing.assert_array_equal(frames.load_region("a"), PHOTOGRAPH)
    np.testing.assert_array_equal(frames.load_regions([("a", np.s_[:])])[0], PHOTOGRAPH)
    assert not path.exists()
    twin = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(twin.load_region("a"), PHOTOGRAPH)
    assert path.exists()
    frames._opener.pool.close()
    np.testing.assert_array_equal(frames.load_region("a"), PHOTOGRAPH)


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_an_unused_reader_leaves_nothing_open(tmp_path, compress):
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress))
    frames.load_region("a")
    path = str(entry_path(frames))

    def count_open() -> int:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return sum(os.path.islink(link) and os.readlink(link) == path for link in links)

    assert count_open() == (2 if compress == "NONE" else 1)
    del frames
    gc.collect()
    assert count_open() == 0
    assert not is_mapped(path)


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_a_file_is_closed_after_its_last_reference_is_gone(tmp_path, at_rest, monkeypatch, compress):
    """While a finalizer runs, weak references still return its object: threads would read from a closed file."""
    frames = frames_over(tmp_path, {"a": PHOTOGRAPH}, cog(compress), tile_bytes=0)
    frames.load_region("a")
    segments = frames.image("a").opened(0).reader._bytes
    descriptor, given_out, close = segments._file().opened._descriptor, [], os.close

    def watched(number):
        if number == descriptor:
            given_out.append(segments._file())
        close(number)

    monkeypatch.setattr(os, "close", watched)
    frames._opener.pool.close()
    assert given_out == [None]


@pytest.mark.parametrize("compress", ["NONE", "ZSTD", "LZW"])
@pytest.mark.parametrize("crops", [60, pytest.param(6_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_threads_that_evict_each_other_s_tiles(tmp_path, at_rest, compress, crops):
    """Room for seven tiles in memory, and for one file beside those in use."""
    arrays = {number: np.roll(PHOTOGRAPH, number) for number in range(5)}
    frames = frames_over(tmp_path, arrays, cog(compress), tile_bytes=7 * 32 * 32 * 3)
    frames.prepare()
    frames._opener.pool.max_idle = 2
    assert run_in_threads(lambda seed: read_crops(frames, arrays, seed, crops), 8) == [0] * 8
    memory = tile_cache_of(frames)
    assert memory.used_bytes <= memory.max_bytes
    assert len(memory) == (7 if compress != "NONE" else 0)
    print(f"{compress}: 8 threads, {8 * crops:,} crops: 0 wrong")
