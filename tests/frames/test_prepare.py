"""prepare: every executor, every failure, Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from kit.held import hold_sources
from kit.waiting import wait_until

import ndframes as nf
from ndframes.system.workers import WorkerPool

COUNT = 6


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    return {f"image {number}": rng.integers(0, 255, (120, 140 + number, 3), np.uint8) for number in range(COUNT)}


@pytest.fixture
def make_frames(tmp_path, arrays):
    paths = {}
    for image_id, array in arrays.items():
        paths[image_id] = tmp_path / f"{image_id}.npy"
        np.save(paths[image_id], array)

    def make(extra=(), **options):
        return nf.SimpleFrames({**paths, **dict(extra)}, workdir=tmp_path / "work", **options)

    return make


def assert_all_cached(frames, arrays):
    for image_id, array in arrays.items():
        assert frames.explain(image_id).files[0].is_cached
        np.testing.assert_array_equal(frames.load_image(image_id), array)


def assert_no_leftovers(frames):
    assert list((frames.cache.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("backend", ["cog", "npy"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers(make_frames, arrays, workers, backend):
    frames = make_frames(backend=backend)
    report = frames.prepare(workers=workers)
    assert (report.prepared, report.present, report.failed) == (COUNT, 0, ())
    assert report.bytes_written == sum(entry.size_bytes for entry in frames.cache.ls()) > 0
    assert_all_cached(frames, arrays)
    again = frames.prepare(workers=workers)
    assert (again.prepared, again.present, again.bytes_written) == (0, COUNT, 0)
    assert_no_leftovers(frames)


def test_some_images_only(make_frames, arrays):
    frames = make_frames()
    chosen = list(arrays)[1:3]
    assert frames.prepare(chosen).prepared == 2
    assert frames.prepare().present == 2


def test_nothing_to_prepare_without_a_backend(make_frames):
    report = make_frames(backend=None).prepare(workers=2)
    assert (report.prepared, report.present, report.failed) == (0, 0, ())


@pytest.mark.parametrize("kind", ["threads", "processes", "own"])
def test_any_executor(make_frames, arrays, kind):
    frames = make_frames()
    executor = {
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
        "own": lambda: WorkerPool(2),
    }[kind]()
    with executor:
        assert frames.prepare(executor=executor).prepared == COUNT
    assert_all_cached(frames, arrays)


def test_a_dask_cluster(make_frames, arrays, recwarn):
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {"distributed.worker.daemon": True, "distributed.admin.tick.limit": "60 s"}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        frames = make_frames([("bad", "/missing.png")])
        report = frames.prepare(executor=client.get_executor(), errors="collect")
    assert (report.prepared, len(report.failed)) == (COUNT, 1)
    assert_all_cached(frames, arrays)


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_sources(tmp_path):
    (tmp_path / "garbage.png").write_bytes(b"this is no image at all")
    (tmp_path / "cut.png").write_bytes(nf.demo_paths()["chelsea"].read_bytes()[:50_000])
    return {"gone": tmp_path / "gone.png", "garbage": tmp_path / "garbage.png", "cut": tmp_path / "cut.png"}


@pytest.mark.parametrize("workers", [0, 2])
def test_all_failures_are_raised_after_the_other_images_are_done(make_frames, arrays, bad_sources, workers):
    frames = make_frames(bad_sources)
    with pytest.raises(nf.PrepareError, match="3 of 9 failed") as caught:
        frames.prepare(workers=workers)
    for image_id, path in bad_sources.items():
        assert f"image {image_id!r}" in str(caught.value)
        assert str(path) in str(caught.value)
    assert caught.value.report.prepared == COUNT
    assert_all_cached(frames, arrays)
    assert pickle.loads(pickle.dumps(caught.value)).report.prepared == COUNT


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_are_collected(make_frames, bad_sources, workers):
    report = make_frames(bad_sources).prepare(workers=workers, errors="collect")
    assert (report.prepared, report.ok) == (COUNT, False)
    found = {failure.image_id: failure for failure in report.failed}
    assert {image_id: failure.path for image_id, failure in found.items()} == {
        k: str(v) for k, v in bad_sources.items()
    }
    assert isinstance(found["gone"].error, nf.SourceMissingError)
    assert isinstance(found["garbage"].error, nf.UnreadableImageError)
    assert isinstance(found["cut"].error, nf.UnreadableImageError)
    assert "3 failed" in str(report)
    data = json.loads(json.dumps(report.to_dict()))
    assert {item["image_id"] for item in data["failed"]} == set(bad_sources)


def test_unknown_ids_and_errors_of_build_pathinfo_are_collected(make_frames):
    class Half(nf.SimpleFrames):
        def build_pathinfo(self, image_id):
            if image_id == "image 1":
                raise RuntimeError("no such column")
            return super().build_pathinfo(image_id)

    frames = make_frames()
    half = Half(frames._sources, workdir=frames.cache.workdir)
    report = half.prepare(["image 0", "image 1", "nobody"], errors="collect")
    assert report.prepared == 1
    assert [failure.image_id for failure in report.failed] == ["image 1", "nobody"]
    assert "no such column" in str(report)


def test_invalid_arguments(make_frames):
    with pytest.raises(ValueError, match="'raise', 'collect'"):
        make_frames().prepare(errors="ignore")
    with pytest.raises(ValueError, match="workers=-1"):
        make_frames().prepare(workers=-1)


# -- crashes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def deadly_decoder(tmp_path, monkeypatch):
    """Reading a file named ``deadly`` kills the process, as a segfault in a native decoder would; ``greedy`` takes all
    memory, ``busy`` never ends."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        textwrap.dedent("""
        import numpy, os, signal
        import ndframes.formats.images.arrays as arrays
        class Deadly(arrays.NpyReader):
            def __init__(self, path, *rest, **options):
                if "deadly" in path:
                    os.kill(os.getpid(), signal.SIGSEGV)
                if "greedy" in path:
                    numpy.ones(1 << 33, numpy.uint8)
                while "busy" in path:
                    pass
                super().__init__(path, *rest, **options)
        arrays.NpyReader = Deadly
        """)
    )
    root = os.path.dirname(os.path.dirname(nf.__file__))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{root}")
    for name in ("deadly", "greedy", "busy"):
        np.save(tmp_path / f"{name}.npy", np.zeros((9, 9)))
    return {"deadly": tmp_path / "deadly.npy"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_costs_one_image(make_frames, arrays, deadly_decoder, workers):
    frames = make_frames(deadly_decoder)
    report = frames.prepare(workers=workers, errors="collect")
    assert report.prepared == COUNT
    assert [failure.image_id for failure in report.failed] == ["deadly"]
    assert isinstance(report.failed[0].error, nf.WorkerCrashError)
    assert "SIGSEGV" in str(report.failed[0].error)
    assert "deadly.npy" in str(report.failed[0].error)
    assert_all_cached(frames, arrays)


def test_three_crashes_cost_three_images_of_a_hundred(tmp_path, deadly_decoder):
    paths = {}
    for number in range(100):
        paths[number] = tmp_path / (f"{number} deadly.npy" if number in (7, 8, 99) else f"{number}.npy")
        np.save(paths[number], np.full((30, 40), number, np.uint8))
    frames = nf.SimpleFrames(paths, workdir=tmp_path / "work")
    report = frames.prepare(workers=2, errors="collect")
    assert (report.prepared, sorted(failure.image_id for failure in report.failed)) == (97, [7, 8, 99])
    assert {type(failure.error) for failure in report.failed} == {nf.WorkerCrashError}
    ready = [number for number in frames if number not in (7, 8, 99)]
    assert all((frames.load_image(number) == number).all() for number in ready)


def test_a_crash_in_the_callers_own_pool_costs_one_image(make_frames, arrays, deadly_decoder):
    frames = make_frames(deadly_decoder)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        report = frames.prepare(executor=executor, errors="collect")
    assert [failure.image_id for failure in report.failed] == ["deadly"]
    assert report.prepared + report.present == COUNT
    assert_all_cached(frames, arrays)


# -- WorkerPool -------------------------------------------------------------------------------------------------------


def test_the_pool_returns_and_raises():
    with WorkerPool(2) as pool:
        assert [future.result() for future in [pool.submit(pow, 2, n) for n in range(10)]] == [2**n for n in range(10)]
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(nf.WorkerCrashError, match="exit status 3"):
            pool.submit(os._exit, 3).result()
        with pytest.raises(nf.WorkerCrashError, match="SIGKILL"):
            pool.submit(signal.raise_signal, signal.SIGKILL).result()
        assert pool.submit(os.getpid).result() != os.getpid()
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pool.submit(lambda: 1).result()
        assert pool.submit(print, "to stderr, not into the answers").result() is None
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


def test_terminate_ends_running_tasks_and_cancels_waiting_ones():
    pool = WorkerPool(1)
    running, waiting = pool.submit(time.sleep, 60), pool.submit(int)
    wait_until(lambda: pool._children)
    child = pool._children[0]
    started = time.monotonic()
    pool.terminate()
    assert time.monotonic() - started < 30  # the task alone takes 60
    assert child.poll() is not None
    assert waiting.cancelled()
    with pytest.raises(nf.WorkerCrashError):
        running.result(timeout=60)


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_worker_that_cannot_be_started(make_frames, arrays, monkeypatch, allowed):
    """It costs one image at most, while another worker runs."""
    start, started = subprocess.Popen, []

    def refuse(*arguments, **options):
        if len(started) >= allowed:
            raise OSError(errno.EMFILE, "Too many open files")
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr("ndframes.system.workers.subprocess.Popen", refuse)
    report = make_frames().prepare(list(arrays)[:4], workers=2, errors="collect")
    assert len(report.failed) <= (1 if allowed else 4)
    assert report.prepared + len(report.failed) == 4
    for failure in report.failed:
        assert type(failure.error) is nf.PrepareError
        assert str(failure.error).startswith(
            f"image {failure.image_id!r}: {failure.path}: no worker process could be started: Too many open files; use fewer"
        )
    assert allowed or len(report.failed) == 4


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------

IMAGES = 10
#: The last image is held back, so that no run ends before the signal.
NAMES = [*map(str, range(IMAGES - 1)), "held"]
SLOW_FORM = {"type": "cog", "config": {"compress": "ZSTD", "level": 19}}
#: Python drops a KeyboardInterrupt that it raises in a finalizer, of which there are some behind each conversion.
SCRIPT = f"""
import sys, ndframes as nf
from ndframes.system.interrupts import lost_interrupts_repeated
folder, workers = sys.argv[1], int(sys.argv[2])
frames = nf.SimpleFrames({{name: f"{{folder}}/{{name}}.npy" for name in {NAMES}}}, workdir=folder + "/work",
                         backend={SLOW_FORM})
with lost_interrupts_repeated():
    print("ready", flush=True)
    frames.prepare(workers=workers)
"""


def descendants_with(marker: str) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if marker.encode() in file.read():
                        found.append(name)
            except OSError:
                continue
    return found


@pytest.mark.parametrize(("after", "workers"), [(3, 0), (0, 2), (3, 2), pytest.param(0, 0, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_nothing_half_written_and_a_rerun_resumes(tmp_path, monkeypatch, workers, after):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 60, (640, 640, 3), np.uint8) for name in NAMES}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    hold_sources(tmp_path, monkeypatch)
    marker = f"NDFRAMES_TEST={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "NDFRAMES_TEST": str(tmp_path)},
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        cache = nf.Cache(tmp_path / "work")
        wait_until(lambda: len(list(cache.ls())) >= after)
        os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in stderr, stderr
    assert descendants_with(marker) == []
    frames = nf.SimpleFrames(
        {name: tmp_path / f"{name}.npy" for name in NAMES}, workdir=tmp_path / "work", backend=SLOW_FORM
    )
    if frames.cache.root.exists():
        assert_no_leftovers(frames)
    done = len(list(frames.cache.ls()))
    assert done < IMAGES, "it was not interrupted"
    report = frames.prepare()
    assert (report.prepared, report.present) == (IMAGES - done, done)
    for name, array in arrays.items():
        np.testing.assert_array_equal(frames.load_image(name), array)


# -- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_progress_bar_is_shown_on_stderr(make_frames, capsys, workers):
    make_frames().prepare(workers=workers, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{COUNT}/{COUNT}" in captured.err


def test_one_image_shows_its_rows(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((2000, 300), np.uint8))
    nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path).prepare(progress=True)
    assert "100/100" in capsys.readouterr().err


def test_no_progress_bar_without_a_terminal(make_frames, capsys):
    make_frames().prepare()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [None, True])
def test_a_process_without_a_stderr(tmp_path, monkeypatch, progress):
    np.save(tmp_path / "a.npy", np.zeros((20, 30), np.uint8))
    monkeypatch.setattr(sys, "stderr", None)
    assert nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path).prepare(progress=progress).prepared == 1


# -- isolation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_isolated_conversions_give_the_same_pixels(make_frames, arrays, workers):
    frames = make_frames(isolate=True)
    chosen = list(arrays)[:3]
    assert frames.prepare(chosen, workers=workers).prepared == 3
    np.testing.assert_array_equal(frames.load_image(list(arrays)[4]), arrays[list(arrays)[4]])
    assert pickle.loads(pickle.dumps(frames))._limits == nf.Limits()


def test_an_isolated_crash_costs_a_read_not_the_process(make_frames, deadly_decoder):
    frames = make_frames(deadly_decoder, isolate=True)
    with pytest.raises(nf.WorkerCrashError, match=r"image 'deadly'.*SIGSEGV"):
        frames.load_region("deadly")
    assert frames.load_region("image 0").shape == (120, 140, 3)
    assert_no_leftovers(frames)


def test_an_image_over_the_limits_fails_alone(make_frames, deadly_decoder, tmp_path, arrays):
    limits = nf.Limits(memory_bytes=4 << 30, cpu_seconds=3)
    frames = make_frames({name: tmp_path / f"{name}.npy" for name in ("greedy", "busy")}, isolate=limits)
    report = frames.prepare(workers=2, errors="collect")
    assert report.prepared == COUNT
    errors = {failure.image_id: str(failure.error) for failure in report.failed}
    assert set(errors) == {"greedy", "busy"}
    assert "does not convert within 4,294,967,296 bytes of memory" in errors["greedy"]
    assert "SIGXCPU" in errors["busy"] or "SIGKILL" in errors["busy"]
    assert_all_cached(frames, arrays)
    assert_no_leftovers(frames)


def test_limits_are_whole_numbers():
    for options in ({"memory_bytes": 0}, {"cpu_seconds": 1.5}, {"memory_bytes": True}, {"cpu_seconds": -1}):
        with pytest.raises(ValueError, match="whole numbers greater than 0"):
            nf.Limits(**options)
