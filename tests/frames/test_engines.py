"""prepare on the executors of others: what is accepted, how much they hold at a time, and what a killed worker costs."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from kit.held import hold_sources, release_sources, wait_for_holder
from kit.waiting import wait_until

import ndframes as nf
from ndframes.frames import engines
from ndframes.frames.engines import Engine
from ndframes.frames.prepare import schedule_jobs
from ndframes.system.workers import WorkerPool

COUNT = 30
MESSAGE = "is no concurrent.futures.Executor; give one, a Dask Client, ndframes.ray_executor\\(\\), or None; "


def make_arrays(count: int) -> dict[str, np.ndarray]:
    """The first image can be held back; see :mod:`kit.held`."""
    rng = np.random.default_rng(7)
    names = ["held", *map(str, range(count - 1))]
    return {name: rng.integers(0, 255, (40, 50 + number % 9, 3), np.uint8) for number, name in enumerate(names)}


@pytest.fixture
def arrays(request):
    return make_arrays(getattr(request, "param", COUNT))


@pytest.fixture
def workdir(request, tmp_path):
    """A folder, or a place in an object store."""
    is_remote = getattr(request, "param", "folder") == "store"
    return request.getfixturevalue("bucket") if is_remote else tmp_path / "work"


@pytest.fixture
def frames(tmp_path, workdir, arrays):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in arrays}, workdir=workdir)


def assert_each_image_once(report, frames, arrays) -> None:
    """A worker that dies after an entry is complete, but before that is told, makes it one that was there before."""
    assert report.ok, report
    assert report.prepared + report.present == len(arrays)
    assert len(list(frames.cache.ls())) == len(arrays)
    for name, array in arrays.items():
        assert frames.explain(name).files[0].is_cached
        np.testing.assert_array_equal(frames.load_image(name), array)


@contextlib.contextmanager
def dask_client(*, workers: int = 2, processes: bool = True):
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {"distributed.worker.daemon": True, "distributed.admin.tick.limit": "60 s"}
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "processes": processes}
    if processes:
        options["host"] = "127.0.0.1"
    with (
        dask.config.set(settings),
        distributed.LocalCluster(n_workers=workers, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def local_client(recwarn):
    """A cluster of one thread of this process, which starts fast."""
    with dask_client(workers=1, processes=False) as client:
        yield client


# -- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["threads", "processes", "loky"])
def test_an_executor(frames, arrays, kind):
    if kind == "loky":
        # joblib ships it.
        loky = pytest.importorskip("joblib.externals.loky")
    executor = {
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
        "loky": lambda: loky.ProcessPoolExecutor(2),
    }[kind]()
    with executor:
        report = frames.prepare(executor=executor)
    assert (report.prepared, report.present) == (COUNT, 0)
    assert_each_image_once(report, frames, arrays)


@pytest.mark.parametrize("kind", ["client", "executor"])
def test_dask(frames, arrays, local_client, kind):
    report = frames.prepare(executor=local_client if kind == "client" else local_client.get_executor())
    assert (report.prepared, report.present) == (COUNT, 0)
    assert_each_image_once(report, frames, arrays)


@pytest.mark.parametrize("kind", ["client", "executor"])
def test_dask_does_not_repeat_an_earlier_error(frames, arrays, local_client, kind):
    """Equal calls are one task for Dask, and an error that is kept keeps its task."""
    executor = local_client if kind == "client" else local_client.get_executor()
    assert frames.prepare(["2"]).ok
    temporary = frames.cache.root / "tmp"
    temporary.rmdir()
    temporary.touch()  # no folder can be made here
    report = frames.prepare(["1"], executor=executor, errors="collect")
    assert [failure.image_id for failure in report.failed] == ["1"]
    temporary.unlink()
    assert frames.prepare(["1"], executor=executor).prepared == 1


@pytest.mark.parametrize("workdir", ["folder", "store"], indirect=True)
def test_a_job_is_small(frames, arrays):
    jobs = [item.job for item in schedule_jobs(frames, list(arrays)).jobs.values()]
    assert len(jobs) == COUNT
    assert max(len(pickle.dumps(job)) for job in jobs) < 2000


# -- what is refused --------------------------------------------------------------------------------------------------


class OtherFutures:
    """Submits jobs like an executor, and is none."""

    submitted = 0

    def submit(self, function, *args, **kwargs):
        self.submitted += 1
        return object()


def test_other_futures_are_refused_before_anything_is_submitted(frames):
    executor = OtherFutures()
    with pytest.raises(ValueError, match=f"executor=.*{MESSAGE}a class of your own must inherit from concurrent"):
        frames.prepare(executor=executor)
    assert executor.submitted == 0
    assert not frames.cache.root.exists()


class WrongExecutor(OtherFutures, Executor):
    pass


def test_an_executor_that_breaks_its_contract_gets_one_job(frames):
    executor = WrongExecutor()
    with pytest.raises(ValueError, match="its submit\\(\\) returned <object .*, not a concurrent.futures.Future"):
        frames.prepare(executor=executor)
    assert executor.submitted == 1


def test_hints_for_those_that_have_an_executor_elsewhere(frames):
    with get_context("spawn").Pool(1) as pool, pytest.raises(ValueError, match=f"{MESSAGE}instead of multiprocessing"):
        frames.prepare(executor=pool)
    with pytest.raises(ValueError, match=f"{MESSAGE}instead of multiprocessing"):
        frames.prepare(executor=multiprocessing)
    joblib = pytest.importorskip("joblib")
    with pytest.raises(ValueError, match=f"{MESSAGE}instead of joblib, give loky"):
        frames.prepare(executor=joblib.Parallel(2))
    for name, hint in {"pebble": "instead of pebble, give workers=n", "submitit": "instead of submitit, give"}.items():
        kind = type("Pool", (OtherFutures,), {"__module__": f"{name}.pool"})
        with pytest.raises(ValueError, match=MESSAGE + hint):
            frames.prepare(executor=kind())


def test_a_class_in_place_of_an_executor(frames):
    with pytest.raises(ValueError, match=f"executor=<class .*ThreadPoolExecutor'> {MESSAGE}"):
        frames.prepare(executor=ThreadPoolExecutor)


def test_dask_that_is_refused(frames, local_client):
    with pytest.raises(ValueError, match=f"{MESSAGE}of a Dask cluster, give a Client"):
        frames.prepare(executor=local_client.cluster)

    async def prepare_on_a_loop():
        address = local_client.scheduler.address
        async with type(local_client)(address, asynchronous=True, set_as_default=False) as client:
            for executor in (client, client.get_executor()):
                with pytest.raises(ValueError, match="is asynchronous, and prepare would block its event loop"):
                    frames.prepare(executor=executor)

    asyncio.run(prepare_on_a_loop())


# -- a window of calls ------------------------------------------------------------------------------------------------


class CountingExecutor(Executor):
    """Runs calls in threads, and counts those that have not ended."""

    def __init__(self, workers: int, told: int | None) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()
        self.running = self.most = self.submitted = 0
        if told is not None:
            self.num_workers = told

    def submit(self, function, /, *args, **kwargs):
        with self._lock:
            self.submitted += 1
            self.running += 1
            self.most = max(self.most, self.running)
        return self._pool.submit(self._call, function, *args, **kwargs)

    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        finally:
            with self._lock:
                self.running -= 1

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.parametrize("count", [3000, pytest.param(250_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("told", "most"), [(3, 12), (1, 4), (None, 64)])
def test_the_calls_that_have_not_ended_are_few(told, most, count):
    with CountingExecutor(3, told) as executor:
        results = {place: future.result() for place, future in Engine(executor).run(str, range(count))}
    assert results == {number: str(number) for number in range(count)}
    assert executor.submitted == count
    assert executor.most <= most


def test_prepare_submits_in_a_window(frames, arrays):
    with CountingExecutor(1, 2) as executor:
        report = frames.prepare(executor=executor)
    assert executor.most <= 8
    assert executor.submitted == COUNT
    assert_each_image_once(report, frames, arrays)


def test_an_executor_that_ends_nothing_gets_no_more_than_the_window():
    begin = threading.Event()
    with CountingExecutor(1, 2) as executor:
        ended = Engine(executor).run(lambda _: begin.wait(60), range(100))
        thread = threading.Thread(target=list, args=(ended,))
        thread.start()
        wait_until(lambda: executor.submitted == 8)
        time.sleep(0.1)
        assert executor.submitted == 8
        begin.set()
        thread.join()
    assert executor.submitted == 100


def test_workers_that_come_later_are_counted(monkeypatch):
    monkeypatch.setattr(engines, "_RECOUNT_SECONDS", 0.0)
    with CountingExecutor(2, 1) as executor:
        ended = Engine(executor).run(str, range(100))
        next(ended)
        assert executor.submitted == 4
        executor.num_workers = 5
        next(ended)
        # One more for each of the two that have ended.
        assert executor.submitted == 21
        assert len(list(ended)) == 98


@pytest.mark.parametrize(
    ("make", "workers"),
    [
        (lambda: ThreadPoolExecutor(3), 3),
        (lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), 2),
        (lambda: WorkerPool(2), 2),
        (lambda: CountingExecutor(1, None), None),
    ],
    ids=["threads", "processes", "own", "untold"],
)
def test_the_number_of_workers(make, workers):
    with make() as executor:
        engine = Engine(executor)
        assert [future.result() for _, future in engine.run(abs, [-1])] == [1]
        assert engine.workers == workers


def test_the_number_of_workers_of_dask(local_client):
    engine = Engine(local_client)
    assert [future.result() for _, future in engine.run(abs, [-1])] == [1]
    assert engine.workers == 1


# -- the end before the end -------------------------------------------------------------------------------------------


class Uncancellable(Future):
    def cancel(self):
        raise NotImplementedError("Cancel not implemented")


class ManualExecutor(Executor):
    """Runs nothing by itself."""

    num_workers = 2

    def __init__(self, kind: type[Future]) -> None:
        self.kind, self.futures = kind, []

    def submit(self, function, /, *args, **kwargs):
        self.futures.append(self.kind())
        return self.futures[-1]


def test_what_has_not_begun_is_cancelled_when_the_caller_stops():
    executor = ManualExecutor(Future)
    ended = Engine(executor).run(abs, range(100))
    thread = threading.Thread(target=lambda: executor.futures[0].set_result(0))
    timer = threading.Timer(0.05, thread.start)
    timer.start()
    assert next(ended)[0] == 0
    ended.close()
    assert [future.cancelled() for future in executor.futures] == [False] + 7 * [True]


def test_an_executor_that_cannot_cancel_does_not_hide_why_it_stops():
    executor = ManualExecutor(Uncancellable)
    ended = Engine(executor).run(abs, range(100))
    threading.Timer(0.05, lambda: executor.futures[3].set_result(0)).start()
    assert next(ended)[0] == 3
    with pytest.raises(KeyboardInterrupt):
        ended.throw(KeyboardInterrupt())


def test_calls_after_the_executor_broke_end_as_broken():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        outcomes = dict(Engine(executor).run(os._exit, range(20)))
    assert sorted(outcomes) == list(range(20))
    for future in outcomes.values():
        with pytest.raises(BrokenExecutor):
            future.result()


def kill_holder(folder, cache, *, entries: int) -> None:
    """Kill the worker that waits for the held source as soon as some entries exist; then release the source."""
    pid = wait_for_holder(folder)
    wait_until(lambda: len(list(cache.ls())) >= entries)
    os.kill(pid, signal.SIGKILL)
    release_sources(folder)


@contextlib.contextmanager
def holder_killed(tmp_path, frames, entries: int = 8):
    thread = threading.Thread(target=kill_holder, args=(tmp_path, frames.cache), kwargs={"entries": entries})
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_a_killed_worker_that_breaks_the_executor(frames, arrays, tmp_path, monkeypatch, kind):
    """What it did not convert, our own processes do, those images included that were never submitted."""
    hold_sources(tmp_path, monkeypatch)
    if kind == "loky":
        executor = pytest.importorskip("joblib.externals.loky").ProcessPoolExecutor(2)
    else:
        executor = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    with executor, holder_killed(tmp_path, frames):
        report = frames.prepare(executor=executor)
    assert_each_image_once(report, frames, arrays)


@pytest.mark.parametrize("workdir", ["folder", "store"], indirect=True)
@pytest.mark.parametrize(
    "arrays", [COUNT, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])], indirect=True
)
def test_a_killed_worker_of_dask(frames, arrays, tmp_path, monkeypatch, recwarn):
    hold_sources(tmp_path, monkeypatch)
    with dask_client() as client, holder_killed(tmp_path, frames, len(arrays) // 4):
        report = frames.prepare(executor=client)
    assert_each_image_once(report, frames, arrays)


def test_an_image_that_kills_every_worker_of_dask_fails_alone(frames, arrays, tmp_path, monkeypatch, recwarn):
    import dask

    hold_sources(tmp_path, monkeypatch)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        dask_client() as client,
        holder_killed(tmp_path, frames),
    ):
        report = frames.prepare(executor=client, errors="collect")
    names = [failure.image_id for failure in report.failed]
    # The image that the worker held, and no other one twice.
    assert "held" in names
    assert len(set(names)) == len(names)
    assert report.prepared + report.present + len(names) == COUNT
    again = frames.prepare()
    assert (again.prepared + again.present, again.failed) == (COUNT, ())
    assert_each_image_once(again, frames, arrays)


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------

INTERRUPTED = f"""
import sys, ndframes as nf
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from ndframes.system.interrupts import lost_interrupts_repeated
folder, kind = sys.argv[1:]
names = [str(number) for number in range({COUNT - 1})]
names.insert(3, "held")
frames = nf.SimpleFrames({{name: f"{{folder}}/{{name}}.npy" for name in names}}, workdir=folder + "/work")
if kind == "threads":
    executor = ThreadPoolExecutor(1)
else:
    executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
with executor, lost_interrupts_repeated():
    try:
        frames.prepare(executor=executor)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_ctrl_c_converts_no_more_than_what_has_begun(frames, arrays, tmp_path, monkeypatch, kind):
    hold_sources(tmp_path, monkeypatch)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_holder(tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        release_sources(tmp_path)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    # The held one was running, and a process pool has one more in its queue.
    done = len(list(frames.cache.ls()))
    assert done <= 6
    assert list((frames.cache.root / "tmp").iterdir()) == []
    report = frames.prepare()
    assert (report.prepared, report.present) == (COUNT - done, done)
    assert_each_image_once(report, frames, arrays)


# -- Ray --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("default")
def test_ray(frames, arrays, ray):
    with nf.ray_executor() as executor:
        report = frames.prepare(executor=executor)
        assert (report.prepared, report.present) == (COUNT, 0)
        engine = Engine(executor)
        assert [future.result() for _, future in engine.run(abs, [-1])] == [1]
        assert engine.workers == 2
    assert_each_image_once(report, frames, arrays)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(abs, 1)


@pytest.mark.filterwarnings("default")
def test_errors_of_ray_are_those_of_the_job(frames, arrays, tmp_path, ray):
    (tmp_path / "1.npy").write_bytes(b"no array at all")
    with nf.ray_executor(num_cpus=1) as executor:
        report = frames.prepare(executor=executor, errors="collect")
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()
        running, waiting = executor.submit(time.sleep, 600), [executor.submit(time.sleep, 600) for _ in range(9)]
        assert all(future.cancel() for future in [running, *waiting])
    (failure,) = report.failed
    assert (failure.image_id, type(failure.error)) == ("1", nf.UnreadableImageError)
    assert str(failure).startswith("image '1': ")
    assert report.prepared == COUNT - 1


@pytest.mark.filterwarnings("default")
def test_a_killed_worker_of_ray(tmp_path, ray):
    """Ray runs the task again. Its workers do not inherit this process's environment, so the job itself waits here."""
    path = tmp_path / "pid"
    path.touch()
    script = 'echo $PPID > "$0/pid"; while [ ! -e "$0/released" ]; do sleep 0.01; done'
    with nf.ray_executor() as executor:
        future = executor.submit(subprocess.check_call, ["sh", "-c", script, str(tmp_path)])
        wait_until(lambda: path.read_text() or future.done())
        first = int(path.read_text())
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: int(path.read_text() or first) != first or future.done())
        release_sources(tmp_path)
        assert future.result(60) == 0


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(nf.MissingExtraError, match="ray_executor needs Ray: pip install"):
        nf.ray_executor()
