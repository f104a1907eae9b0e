"""``load_regions`` from several threads, after forks, under Ctrl-C; and the threads that share its work."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial

import numpy as np
import pytest
from kit.batches import FORMS, count_wrong, random_arrays, random_windows
from kit.forking import in_fork
from kit.tilework import cog, frames_over
from kit.waiting import wait_until

import ndframes as nf
from ndframes.system.threads import run_tasks

# -- sharing work -----------------------------------------------------------------------------------------------------


def test_every_task_is_done_once():
    """Also if the caller finishes before a helper begins."""
    for number in range(500):
        done: list[int] = []
        run_tasks([partial(done.append, item) for item in range(number % 7)], threads=1 + number % 5)
        assert sorted(done) == list(range(number % 7))


def test_no_task_begins_after_one_has_failed():
    """The other threads hold their tasks until the one that failed has ended."""
    caller, begun, failed = threading.get_ident(), [], []

    def work(number):
        begun.append(number)
        if threading.get_ident() != caller and not failed:
            failed.append(threading.get_ident())
            raise nf.RegionError("the first helper's task")
        wait_until(lambda: failed and failed[0] not in sys._current_frames())

    with pytest.raises(nf.RegionError, match="the first helper"):
        run_tasks([partial(work, number) for number in range(200)], threads=4)
    assert len(begun) <= 4


def test_one_thread_stops_at_a_task_that_fails():
    done: list[int] = []

    def work(number):
        if number == 10:
            raise nf.RegionError("the eleventh")
        done.append(number)

    with pytest.raises(nf.RegionError, match="the eleventh"):
        run_tasks([partial(work, number) for number in range(200)], threads=1)
    assert done == list(range(10))


def test_more_callers_than_threads():
    """A helper without a thread is not waited for."""
    wrong = []

    def call(seed):
        for _ in range(20):
            done: list[int] = []
            run_tasks([partial(done.append, item) for item in range(30)], threads=16)
            if sorted(done) != list(range(30)):
                wrong.append(seed)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_without_further_threads_the_caller_works_alone(tmp_path, monkeypatch):
    arrays = random_arrays(2)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=0)
    frames.prepare()
    requests = random_windows(np.random.default_rng(0), list(arrays), 20)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert count_wrong(frames.load_regions(requests, workers=4), requests, arrays) == 0
    assert count_wrong(frames.load_regions(requests, workers=4), requests, arrays) == 0


READ_AT_EXIT = textwrap.dedent("""
    import sys, threading
    import numpy as np
    import ndframes as nf
    folder = sys.argv[1]
    frames = nf.SimpleFrames({"a": folder + "/0.npy"}, workdir=folder + "/work", backend={"type": "cog", "config": {"blocksize": 16}})
    first = frames.load_regions([("a", np.s_[:, :])] * 2, workers=3)
    frames = nf.SimpleFrames(frames._sources, workdir=folder + "/work", backend=frames.backend, tile_bytes=0)
    frames.load_region("a")
    def read_later():
        threading.main_thread().join()
        print(np.array_equal(frames.load_regions([("a", np.s_[:, :])] * 2, workers=3), first))
    threading.Thread(target=read_later).start()
""")


def test_a_thread_reads_while_the_interpreter_ends(tmp_path):
    frames_over(tmp_path, random_arrays(1), None)
    command = [sys.executable, "-W", "error", "-c", READ_AT_EXIT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


@pytest.mark.parametrize("tile_bytes", [None, 20_000])
@pytest.mark.parametrize("rounds", [6, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_batches_from_several_threads_at_once(tmp_path, at_rest, rounds, tile_bytes):
    arrays = random_arrays(4)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=tile_bytes)
    outcomes = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(rounds):
            requests = random_windows(rng, list(arrays), 25)
            try:
                outcomes.append(count_wrong(frames.load_regions(requests, workers=1 + seed % 4), requests, arrays))
            except BaseException as error:
                outcomes.append(repr(error))
                raise

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [0] * 6 * rounds


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("form", ["zstd", "raw", "npy", "direct"])
def test_a_forked_child_starts_threads_of_its_own(tmp_path, form):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, FORMS[form])
    requests = random_windows(np.random.default_rng(0), list(arrays), 40)

    def check() -> bool:
        return count_wrong(frames.load_regions(requests, workers=4), requests, arrays) == 0

    assert check()
    in_fork(check)
    assert check()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("forks", [10, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_forks_while_batches_are_read(tmp_path, at_rest, forks):
    arrays = random_arrays(3)
    frames = frames_over(tmp_path, arrays, cog("ZSTD"), tile_bytes=30_000)
    stop, wrong = threading.Event(), []

    def check(seed=0) -> bool:
        requests = random_windows(np.random.default_rng(seed), list(arrays), 30)
        return count_wrong(frames.load_regions(requests, workers=3), requests, arrays) == 0

    def keep_reading(seed):
        while not stop.is_set():
            wrong.append(not check(seed))

    threads = [threading.Thread(target=keep_reading, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(forks):
            in_fork(check)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong
    assert not any(wrong)


INTERRUPTED = textwrap.dedent("""
    import os, signal, sys, time
    from functools import partialmethod
    import ndframes as nf
    from ndframes.formats.tiled.tile_reader import TileReader
    from ndframes.system.interrupts import lost_interrupts_repeated
    signal.signal(signal.SIGINT, signal.default_int_handler)
    TileReader.__init__ = partialmethod(TileReader.__init__, group_bytes=1)
    decode = TileReader._decode_with
    def decode_slowly(self, *arguments):
        os.write(1, b"decoding\\n")
        time.sleep(0.05)
        return decode(self, *arguments)
    TileReader._decode_with = decode_slowly
    folder, workers = sys.argv[1], int(sys.argv[2])
    frames = nf.SimpleFrames({"a": folder + "/0.npy"}, workdir=folder + "/work", backend={"type": "cog", "config": {"blocksize": 16}})
    frames.prepare()
    with lost_interrupts_repeated():
        frames.load_regions([("a", None)] * 3, workers=workers)
""")


@pytest.mark.parametrize("workers", [1, 4])
def test_ctrl_c_ends_a_batch_at_once(tmp_path, workers):
    """The batch has 2,520 tiles, of which few are decoded after the signal."""
    frames_over(tmp_path, {"a": random_arrays(1, (640, 1000, 1))[0]}, None)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(workers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        for _ in range(10):
            assert process.stdout.readline() == b"decoding\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert stderr.rstrip().endswith(b"KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
    assert stdout.count(b"decoding") < 1000
