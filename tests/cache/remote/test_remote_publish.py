"""Entries are published once, whatever happens on the way: kills at each request, faults of the network, many writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.waiting import wait_until

import ndframes as nf
from ndframes.cache.remote import claims
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits

#: As patient as a test can be.
QUICK = Limits(
    connect_seconds=2.0, idle_seconds=2.0, write_seconds=4.0, total_seconds=60.0, first_wait_seconds=0.005,
)  # fmt: skip
WRITER = """
import sys
from pathlib import Path
import ndframes as nf
folder, workdir = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(nf.SimpleFrames({path.stem: path for path in sorted(folder.glob("*.npy"))}, workdir=workdir).prepare(errors="collect"))
"""


@pytest.fixture
def proxy(object_server, bucket, monkeypatch):
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Nobody waits as long as outside of a test."""
    monkeypatch.setattr("ndframes.cache.remote.cache.connect_store", partial(connect_store, limits=QUICK))
    monkeypatch.setattr("ndframes.cache.remote.claims._SILENT_SECONDS", 1.0)
    monkeypatch.setattr("ndframes.cache.remote.claims._POLL_SECONDS", 0.05)


def write_images(folder: Path, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    arrays = {f"{number:03}": rng.integers(0, 255, (40, 30, 3), np.uint8) for number in range(count)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return arrays


def frames_in(folder: Path, workdir: str, **options) -> nf.SimpleFrames:
    return nf.SimpleFrames({path.stem: path for path in sorted(folder.glob("*.npy"))}, workdir=workdir, **options)


def start_writer(folder: Path, workdir: str) -> subprocess.Popen[bytes]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), workdir],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdout.readline() == b"ready\n"
    return writer


def list_objects(workdir: str) -> dict[str, int]:
    """How many objects there are in each folder of a cache."""
    store = connect_store(f"{workdir}/ndframes-cache")
    folders = ("v1", "data", "claims", "probes", "quarantine")
    return {folder: len(found) for folder in folders if (found := list(store.scan(folder)))}


def check_pixels(folder: Path, workdir: str, arrays: dict[str, np.ndarray]) -> None:
    frames = frames_in(folder, workdir, verify="always")
    for name, array in arrays.items():
        np.testing.assert_array_equal(frames.load_image(name), array)


# -- a kill at each request -------------------------------------------------------------------------------------------


def count_requests(proxy, folder, workdir) -> int:
    start = proxy._count
    writer = start_writer(folder, workdir)
    writer.communicate(b"\n", timeout=60)
    return proxy._count - start


def test_a_kill_at_each_request_leaves_only_what_gc_finds(proxy, bucket, tmp_path):
    arrays = write_images(tmp_path / "images", 1)
    total = count_requests(proxy, tmp_path / "images", f"{bucket}/first")
    assert total > 8
    for number in range(total):
        workdir = f"{bucket}/{number}"
        writer = start_writer(tmp_path / "images", workdir)
        first = proxy._count

        def kill(request, first=first, number=number, writer=writer):
            if request.number == first + number:
                writer.send_signal(signal.SIGKILL)
                writer.wait()

        proxy.hook = kill
        writer.communicate(b"\n", timeout=60)
        proxy.hook = None
        assert writer.returncode == -signal.SIGKILL, f"at request {number}"
        # Nobody sees a part of an entry; the next writer makes it, or finds it.
        check_pixels(tmp_path / "images", workdir, arrays)
        nf.Cache(workdir).gc(older_than=0)
        assert list_objects(workdir) == {"v1": 1, "data": 1}, f"at request {number}"
        assert nf.Cache(workdir).verify(read_data=True).ok


def test_a_dead_claim_delays_for_less_than_a_minute():
    lines = Path(claims.__file__).read_text().splitlines()  # the module itself is patched
    seconds = {
        name: float(value)
        for name, _, value in (line.partition(" = ") for line in lines)
        if "_SECONDS" in name and value
    }
    assert seconds["_SILENT_SECONDS"] + 2 * seconds["_POLL_SECONDS"] < 60
    # A holder that lives is not taken for dead, even if two renewals fail.
    assert 3 * seconds["_BEAT_SECONDS"] < seconds["_SILENT_SECONDS"]


# -- many writers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("writers", "count"), [(4, 12), pytest.param(16, 200, marks=pytest.mark.slow)])
def test_each_entry_is_committed_once(bucket, tmp_path, writers, count):
    arrays = write_images(tmp_path / "images", count)
    running = [start_writer(tmp_path / "images", bucket) for _ in range(writers)]
    for writer in running:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    reports = [writer.communicate(timeout=1200) for writer in running]
    assert all(writer.returncode == 0 for writer in running), reports
    prepared = [int(out.split(b" prepared")[0]) for out, _ in reports]
    present = [int(out.split(b"B), ")[1].split(b" already")[0]) for out, _ in reports]
    assert (sum(prepared), sum(present)) == (count, count * (writers - 1)), reports
    assert list_objects(bucket) == {"v1": count, "data": count}
    assert nf.Cache(bucket).gc(older_than=0).leftovers == 0
    check_pixels(tmp_path / "images", bucket, arrays)


# -- faults of the network --------------------------------------------------------------------------------------------

#: Together a fifth of all requests.
CHANCES = {"503": 0.05, "429": 0.02, "reset_before": 0.04, "reset_after": 0.04, "cut": 0.025, "flip": 0.025}


@pytest.mark.parametrize(("count", "rounds"), [(12, 2), pytest.param(200, 20, marks=pytest.mark.slow)])
def test_with_a_fifth_of_all_requests_failing(proxy, bucket, tmp_path, count, rounds):
    arrays = write_images(tmp_path / "images", count)
    for fault, chance in CHANCES.items():
        proxy.fail(fault, chance=chance)
    report = frames_in(tmp_path / "images", bucket).prepare(workers=0)
    assert (report.prepared, report.failed) == (count, ())
    for _ in range(rounds):
        frames = frames_in(tmp_path / "images", bucket, tile_bytes=0)
        requests = [(name, np.s_[3:33, 4:20]) for name in arrays]
        got = frames.load_regions(requests)
        for (name, region), pixels in zip(requests, got, strict=True):
            np.testing.assert_array_equal(pixels, arrays[name][region])
    proxy.heal()
    assert nf.Cache(bucket).stat().quarantined == 0, "a flipped bit on the way was taken for a damaged entry"
    nf.Cache(bucket).gc(older_than=0)
    assert list_objects(bucket) == {"v1": count, "data": count}
    assert nf.Cache(bucket).verify(read_data=True).ok


def test_a_lost_reply_to_the_commit_is_recognised(proxy, bucket, tmp_path):
    arrays = write_images(tmp_path / "images", 1)
    proxy.fail("reset_after", method="PUT", key="/v1/", times=1)
    report = frames_in(tmp_path / "images", bucket).prepare()
    assert (report.prepared, report.present) == (1, 0)
    assert list_objects(bucket) == {"v1": 1, "data": 1}
    check_pixels(tmp_path / "images", bucket, arrays)


def test_an_unknown_fate_of_a_commit_loses_no_file(proxy, bucket, tmp_path):
    """The store took the commit, and was never heard of again: the file must stay, since the entry exists."""
    arrays = write_images(tmp_path / "images", 1)
    proxy.fail("reset_after", method="PUT", key="/v1/")
    # From then on, the store does not tell what became of it.
    proxy.hook = lambda request: proxy.fail("503", method="GET") if "/v1/" in request.key and request.body else None
    report = frames_in(tmp_path / "images", bucket).prepare(errors="collect")
    proxy.hook = None
    assert [type(item.error) for item in report.failed] == [nf.StoreUnavailableError]
    proxy.heal()
    assert list_objects(bucket)["data"] == 1
    check_pixels(tmp_path / "images", bucket, arrays)
    assert frames_in(tmp_path / "images", bucket).prepare().present == 1


def test_a_store_that_ignores_conditions_is_found_out(proxy, bucket, tmp_path):
    arrays = write_images(tmp_path / "images", 2)
    proxy.drops_conditions = True
    report = frames_in(tmp_path / "images", bucket).prepare(errors="collect")
    assert len(report.failed) == 2
    assert all("can only be read from: it replaces objects" in str(item.error) for item in report.failed)
    assert list_objects(bucket) == {}
    # Entries that are there are read.
    proxy.drops_conditions = False
    frames_in(tmp_path / "images", bucket).prepare()
    proxy.drops_conditions = True
    check_pixels(tmp_path / "images", bucket, arrays)


# -- the errors of an entry that cannot be made -----------------------------------------------------------------------


def test_a_store_that_is_down_is_named_with_the_image(object_server, bucket, tmp_path, monkeypatch):
    write_images(tmp_path / "images", 1)
    object_server.use(monkeypatch, "http://127.0.0.1:9")
    frames = frames_in(tmp_path / "images", bucket)
    with pytest.raises(nf.StoreUnavailableError, match=r"image '000'.*" + bucket):
        frames.load_region("000")


def test_a_conversion_that_fails_leaves_nothing(bucket, tmp_path, monkeypatch):
    write_images(tmp_path / "images", 1)
    (tmp_path / "images" / "000.npy").write_bytes(b"no array")
    frames = frames_in(tmp_path / "images", bucket, local_tier=tmp_path / "tier")
    with pytest.raises(nf.UnreadableImageError):
        frames.load_region("000")
    assert list_objects(bucket) == {}
    assert [path for path in (tmp_path / "tier").rglob("*") if path.is_file()] == []


def test_scratch_of_a_killed_writer_is_removed(proxy, bucket, tmp_path, monkeypatch):
    write_images(tmp_path / "images", 1)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scratch = tmp_path / f"ndframes-{os.getuid()}" / "scratch"
    writer = start_writer(tmp_path / "images", bucket)
    proxy.hook = lambda request: writer.kill() if "/data/" in request.key and request.method == "PUT" else None
    writer.communicate(b"\n", timeout=60)
    proxy.hook = None
    assert len(list(scratch.iterdir())) == 1
    again = start_writer(tmp_path / "images", bucket + "/other")
    again.communicate(b"\n", timeout=60)
    wait_until(lambda: not list(scratch.iterdir()))
