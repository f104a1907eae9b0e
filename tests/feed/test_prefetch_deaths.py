"""Prefetch where processes are killed: an error within a second, no hang, and nothing is left."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kit.ahead import (
    Script,
    children,
    count_wrong_pixels,
    descriptors,
    make_arrays,
    make_frames,
    make_requests,
    run_script,
    segments,
    session_members,
)
from kit.limits import run_limited
from kit.waiting import wait_until

from ndframes.feed import WorkerDied, prefetch

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ARRAYS = make_arrays()
METHODS = ("command", "fork")
#: What most scripts begin with; the folder of the images comes as the first argument.
PRELUDE = """
import itertools, os, signal, time
from pathlib import Path
from kit.ahead import make_arrays, make_frames, make_requests, count_wrong_pixels
from ndframes.feed import prefetch
from ndframes.system.interrupts import lost_interrupts_repeated
arrays = make_arrays()
def endless(count=4): return itertools.cycle(make_requests(40))
def check(chunk): assert count_wrong_pixels(chunk, arrays) == 0
frames = make_frames(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return make_frames(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True)
def no_segment_is_left():
    before = segments()
    yield
    assert segments() <= before


def start(script: str, folder: Path, **options) -> Script:
    """Start a script that prints a line when its workers read."""
    started = Script(PRELUDE + script, folder, **options)
    assert started.read_line() == "reading", started.finish()
    return started


# -- a worker is killed ----------------------------------------------------------------------------------------------


def read_all(chunks) -> None:
    for chunk in chunks:
        assert count_wrong_pixels(chunk, ARRAYS) == 0


def kill_workers(frames, kills: int, method: str, seed: int) -> None:
    """Kill one of two workers at random moments, while the consumer reads."""
    rng = random.Random(seed)
    requests = make_requests(40)
    # The first one opens the images in this process, too, if it is forked.
    list(prefetch(frames, requests[:4], start_method=method))
    before = descriptors()
    for _ in range(kills):
        iterator = iter(
            prefetch(frames, (requests[i % 40] for i in range(10**9)), chunk_size=5, workers=2, start_method=method)
        )
        assert count_wrong_pixels(next(iterator), ARRAYS) == 0
        victim = rng.choice(sorted(children()))
        delay = rng.uniform(0, 0.05)
        killed_at = []

        def kill(victim=victim, delay=delay, killed_at=killed_at):
            time.sleep(delay)
            killed_at.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(WorkerDied, match=f"process {victim} was killed by SIGKILL while it read") as caught:
            read_all(iterator)
        killer.join()
        assert time.monotonic() - killed_at[0] < 60
        assert (caught.value.pid, caught.value.signal) == (victim, signal.SIGKILL)
        assert caught.value.request in requests
        assert list(iterator) == []
        assert children() == set()
    del caught, iterator
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_worker_is_an_error(frames, method):
    kill_workers(frames, 5 if method == "fork" else 1, method, seed=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_ended_by_sigterm_is_reported_by_that_signal(frames, method):
    iterator = iter(prefetch(frames, itertools.cycle(make_requests(40)), chunk_size=5, start_method=method))
    next(iterator)
    (victim,) = children()
    os.kill(victim, signal.SIGTERM)
    with pytest.raises(WorkerDied, match=f"process {victim} was killed by SIGTERM while it read") as caught:
        read_all(iterator)
    assert caught.value.signal == signal.SIGTERM
    assert children() == set()


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "spawn", "forkserver"])
def test_a_hundred_killed_workers(frames, method):
    kill_workers(frames, 100 if method in METHODS else 25, method, seed=2)


def test_a_worker_that_is_killed_while_a_fork_holds_its_end_of_the_socket(frames):
    """The end of a stream does not tell the death of a process if another one has a copy of the socket."""
    iterator = iter(prefetch(frames, make_requests(100), chunk_size=5, workers=2, start_method="fork"))
    next(iterator)
    victim = min(children())
    # A process with copies of everything that the worker has open.
    copier = subprocess.Popen([sys.executable, "-c", COPY_DESCRIPTORS, str(victim)], stdout=subprocess.PIPE, text=True)
    try:
        assert copier.stdout.readline() == "copied\n"
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=f"{victim} was killed by SIGKILL"):
            read_all(iterator)
    finally:
        copier.kill()
        copier.communicate()


COPY_DESCRIPTORS = """
import ctypes, os, sys, time
pidfd = os.pidfd_open(int(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
copies = [libc.syscall(438, pidfd, number, 0) for number in range(3, 64)]
assert any(copy >= 0 for copy in copies), os.strerror(ctypes.get_errno())
print("copied", flush=True)
time.sleep(60)
"""


def test_a_worker_that_exits_by_itself(frames, tmp_path):
    script = """
    import ndframes as nf
    class Leaving(nf.Frames):
        image_ids = property(lambda self: range(4))
        def build_pathinfo(self, image_id):
            os._exit(3)
    try:
        list(prefetch(Leaving(workdir=sys.argv[1]), [(2, None)], worker="process"))
    except nf.WorkerDied as error:
        print(error.signal, error.request, error)
    """
    output = run_script(PRELUDE + script.replace("\n    ", "\n"), tmp_path)
    assert output.startswith("None (2, None) worker process ")
    assert "ended with exit status 3" in output


# -- the parent is killed --------------------------------------------------------------------------------------------

READ = """
with lost_interrupts_repeated():
    for number, chunk in enumerate(prefetch(frames, endless(), chunk_size=5, workers=2, start_method={method!r})):
        check(chunk)
        if not number:
            print("reading", flush=True)
"""


def end_parent(folder: Path, times: int, method: str, number: int, *, is_group: bool, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(times):
        script = start(READ.format(method=method), folder)
        assert len(session_members(script.process.pid)) >= 3
        time.sleep(rng.uniform(0, 0.05))
        if is_group:
            script.signal_group(number)
        else:
            os.kill(script.process.pid, number)
        status, _, errors = script.finish()
        if number == signal.SIGINT:
            # One traceback, that of the parent.
            assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1, errors
            assert status == -signal.SIGINT
        else:
            assert (status, errors) == (-number, "")


@pytest.mark.parametrize(
    ("number", "is_group", "method"),
    [
        (signal.SIGKILL, False, "fork"),
        (signal.SIGKILL, False, "command"),
        (signal.SIGKILL, True, "fork"),
        (signal.SIGINT, True, "command"),
    ],
    ids=str,
)
def test_the_end_of_the_parent_leaves_nothing(tmp_path, number, is_group, method):
    end_parent(tmp_path, 1, method, number, is_group=is_group, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "forkserver"])
@pytest.mark.parametrize(
    ("number", "is_group"), [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, True)], ids=str
)
def test_the_end_of_the_parent_25_times(tmp_path, number, is_group, method):
    end_parent(tmp_path, 25, method, number, is_group=is_group, seed=4)


INTERRUPTED = """
try:
    with lost_interrupts_repeated():
        print("reading", flush=True)
        for chunk in prefetch(frames, endless(), chunk_size=5, workers=2, start_method={method!r}):
            check(chunk)
except KeyboardInterrupt:
    pass
print(children(), descriptors().count("socket"))
"""


def interrupt(folder: Path, times: int, method: str, seed: int) -> None:
    """Ctrl-C at random moments, those included in which workers start."""
    rng = random.Random(seed)
    for _ in range(times):
        script = start("from kit.ahead import children, descriptors" + INTERRUPTED.format(method=method), folder)
        time.sleep(rng.uniform(0, 0.7 if method == "command" else 0.05))
        script.signal_group(signal.SIGINT)
        assert script.finish() == (0, "set() 0\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_at_any_moment_leaves_nothing(tmp_path, method):
    interrupt(tmp_path, 1, method, seed=6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_25_interrupts_at_any_moment(tmp_path, method):
    interrupt(tmp_path, 25, method, seed=7)


def test_a_killed_parent_whose_socket_a_fork_still_holds(tmp_path):
    """A process that the consumer forked without telling Python must not keep the workers alive."""
    script = """
    import ctypes
    iterator = iter(prefetch(frames, endless(), chunk_size=5, start_method="fork"))
    check(next(iterator))
    if ctypes.PyDLL(None).fork() == 0:
        os.setsid()
        for number in (0, 1, 2): os.dup2(os.open(os.devnull, os.O_RDWR), number)
        time.sleep(60)
        os._exit(0)
    child = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1]
    print("reading"); print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    started = start(script.replace("\n    ", "\n"), tmp_path)
    holder = int(started.read_line())
    try:
        wait_until(lambda: not session_members(started.process.pid), 20)
        os.kill(holder, 0)
    finally:
        os.kill(holder, signal.SIGKILL)
    started.finish()


def test_forks_of_the_consumer_neither_keep_nor_end_its_workers(frames):
    iterator = iter(prefetch(frames, make_requests(100), chunk_size=5, start_method="fork"))
    next(iterator)
    (worker,) = children()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        del iterator
        gc.collect()
        os.read(reader, 1)
        os._exit(0)
    for _ in range(10):
        assert count_wrong_pixels(next(iterator), ARRAYS) == 0
    assert worker in children()
    del iterator
    gc.collect()
    assert children() == {child}
    os.write(writer, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)
    os.close(writer)


def test_an_iterator_that_is_alive_at_exit(tmp_path):
    script = """
    kept = iter(prefetch(frames, endless(), chunk_size=5))
    threaded = iter(prefetch(frames, endless(), chunk_size=5, workers=2, worker="thread"))
    check(next(kept)); check(next(threaded))
    print("done")
    """
    assert run_script(PRELUDE + script.replace("\n    ", "\n"), tmp_path) == "done\n"


# -- scripts, limits -------------------------------------------------------------------------------------------------

WITHOUT_GUARD = """
import ndframes as nf
print("main runs")
for chunk in prefetch(frames, make_requests(20), chunk_size=6):
    check(chunk)
print("read")
"""


@pytest.mark.parametrize("form", ["file", "stdin", pytest.param("string", marks=pytest.mark.slow)])
def test_a_script_without_a_guard(tmp_path, form):
    text = PRELUDE + WITHOUT_GUARD
    if form == "file":
        path = tmp_path / "script.py"
        path.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{text}")
        text = f"import subprocess; sys.exit(subprocess.call([sys.executable, {str(path)!r}, *sys.argv[1:]]))"
    assert run_script(text, tmp_path, from_stdin=form == "stdin") == "main runs\nread\n"


def test_spawn_in_a_script_without_a_guard_is_an_error_and_no_hang(tmp_path):
    path = tmp_path / "script.py"
    text = PRELUDE + 'list(prefetch(frames, make_requests(20), start_method="spawn"))'
    path.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{text}")
    result = subprocess.run([sys.executable, path, tmp_path], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "WorkerDied" in result.stderr
    assert "__main__" in result.stderr


CLASSES_OF_MAIN = """
import ndframes as nf, warnings
class Pair(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")
class Own(Exception):
    pass
class Mine(nf.Frames):
    image_ids = property(lambda self: range(4))
    def build_pathinfo(self, image_id):
        if image_id == 2: raise Pair(1, 2)
        if image_id == 3: raise Own("mine")
        return nf.PathInfo(image_id, (nf.ChannelInfo(f"{sys.argv[1]}/{image_id}.npy"),))
mine = Mine(workdir=sys.argv[1], backend=None)
for kind in ("auto", "process", "thread"):
    for chunk in prefetch(mine, make_requests(20, images=2), chunk_size=6, worker=kind):
        check(chunk)
    for image_id in (2, 3):
        try:
            list(prefetch(mine, [(image_id, None)], worker=kind))
        except Exception as error:
            print(kind, type(error).__name__, error)
try:
    list(prefetch(mine, [(0, None)], start_method="command"))
except nf.UnsupportedError as error:
    print(error)
"""


@pytest.mark.parametrize("from_stdin", [pytest.param(False, marks=pytest.mark.slow), True])
def test_classes_of_the_main_module(tmp_path, from_stdin):
    lines = run_script(PRELUDE + CLASSES_OF_MAIN, tmp_path, from_stdin=from_stdin).splitlines()
    assert lines[:-1] == [
        "auto Pair 1 and 2",
        "auto Own mine",
        "process Pair 1 and 2",
        "process Own mine",
        "thread Pair 1 and 2",
        "thread Own mine",
    ]
    assert "a class or function of the frames is defined in the main module" in lines[-1]


def test_with_few_descriptors(tmp_path):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n" + PRELUDE
    script += """
kept = []
for chunk in prefetch(frames, make_requests(1000), chunk_size=5, workers=4, depth=3, start_method="fork"):
    check(chunk)
    kept.append(chunk)
    assert len(os.listdir("/proc/self/fd")) < 100
print(len(kept), sum(count_wrong_pixels(chunk, arrays) for chunk in kept))
"""
    assert run_limited(script, 256, str(tmp_path)) == "200 0\n"


IN_SMALL_SHM = """
import os, sys
import numpy as np
print(os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize)
import ndframes as nf
from ndframes.feed import prefetch
from ndframes.system.process_workers import ProcessWorkers
np.save(sys.argv[1] + "/big.npy", np.arange(2000 * 3000 * 4, dtype=np.uint32).astype(np.uint8).reshape(2000, 3000, 4))
frames = nf.SimpleFrames({1: sys.argv[1] + "/big.npy"}, backend=None)
whole = frames.load_image(1)
for chunk in prefetch(frames, [(1, None)] * 6, chunk_size=2, start_method="fork"):
    assert chunk.array.nbytes == 48_000_000 and (chunk.array == whole).all()
def work(payload, allocate):
    array = allocate((payload,), np.dtype("uint8"))
    array[...] = 3
    return array
workers = ProcessWorkers(work, count=1, depth=1, method="fork", memory_kind="shared_memory")
workers.submit(4_000_000, "small")
assert (workers.receive().value == 3).all()
workers.submit(64_000_000, "large")
try:
    workers.receive()
except nf.SharedMemoryError as error:
    print(error)
workers.submit(4_000_000, "small")
assert (workers.receive().value == 3).all()
workers.close()
print(os.listdir("/dev/shm"))
"""


def test_a_small_dev_shm_is_no_limit_and_no_bus_error(tmp_path):
    prefix = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"', "sh")
    try:
        allowed = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mounting another /dev/shm is not allowed")
    size, error, left = run_script(IN_SMALL_SHM, tmp_path, prefix=prefix).splitlines()
    assert (size, left) == (str(8 << 20), "[]")
    assert "64.1 MB of shared memory for a chunk: /dev/shm has no space for it" in error
