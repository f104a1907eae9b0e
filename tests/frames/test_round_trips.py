"""How many round trips a read takes from a cache in an object store: one, however many tiles, crops, files or images it needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError, Event

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.waiting import wait_until

import ndframes as nf
from ndframes.formats.tiled.tile_reader import TileReader


@pytest.fixture
def proxy(object_server, bucket, monkeypatch):
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy


@pytest.fixture
def together(proxy):
    """Hold each request for bytes back until ``count`` of them have come: those of one round trip."""

    def expect(count: int) -> list[str]:
        barrier = Barrier(count)
        alone: list[str] = []

        def meet(request):
            if request.method == "GET" and "/data/" in request.key:
                try:
                    barrier.wait(20)
                except BrokenBarrierError:
                    alone.append(request.target)

        proxy.hook = meet
        return alone

    return expect


def write(folder, names, shape=(300, 300, 3)):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 255, shape, np.uint8) for name in names}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return arrays


OPTIONS = {"backend": {"type": "cog", "config": {"blocksize": 64}}, "tile_bytes": 0, "recheck_seconds": 60}


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_crop_is_one_round_trip(together, bucket, tmp_path, at_rest, monkeypatch, is_shared):
    arrays = write(tmp_path, "a")
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=bucket, **OPTIONS, threads=2)
    frames.load_region("a", np.s_[:1, :1])
    # As if the tiles took long to decode, so that two threads share them.
    monkeypatch.setattr(TileReader, "estimate_seconds", lambda self, crop: float(is_shared))
    alone = together(3)  # three rows of tiles, each of them in one piece
    np.testing.assert_array_equal(frames.load_region("a", np.s_[10:150, 20:140]), arrays["a"][10:150, 20:140])
    assert alone == []


@pytest.mark.parametrize("options", [{}, {"scale": 1.0}])
def test_a_batch_is_one_round_trip(together, bucket, tmp_path, at_rest, options):
    arrays = write(tmp_path, "abcd")
    frames = nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in arrays}, workdir=bucket, **OPTIONS)
    frames.load_regions([(name, np.s_[:1, :1]) for name in arrays])
    alone = together(8)
    requests = [(name, np.s_[10:100, 20:60]) for name in arrays]
    for (name, region), got in zip(requests, frames.load_regions(requests, **options), strict=True):
        np.testing.assert_array_equal(got, arrays[name][region])
    assert alone == []


def test_the_files_of_an_image_are_read_at_the_same_time(together, bucket, tmp_path, at_rest):
    arrays = write(tmp_path, "rgb", (200, 200))
    info = nf.PathInfo(
        "scene", channels=tuple(nf.ChannelInfo(str(tmp_path / f"{name}.npy"), channels=name) for name in "rgb")
    )
    frames = nf.SimpleFrames({"scene": info}, workdir=bucket, **OPTIONS)
    frames.load_region("scene", np.s_[:1, :1])
    alone = together(3)
    got = frames.load_region("scene", np.s_[10:60, 20:60])
    assert alone == []
    np.testing.assert_array_equal(got, np.stack([arrays[name][10:60, 20:60] for name in "rgb"], axis=-1))


def test_the_images_of_a_sequence_are_read_at_the_same_time(together, bucket, tmp_path, at_rest):
    (tmp_path / "walk").mkdir()
    arrays = write(tmp_path / "walk", ["0", "1", "2", "3"])
    frames = nf.SimpleFrames({"walk": tmp_path / "walk"}, workdir=bucket, **OPTIONS)
    frames.load_region("walk", np.s_[:, :1, :1])
    alone = together(4)
    got = frames.load_region("walk", np.s_[:, 10:60, 20:60])
    assert alone == []
    np.testing.assert_array_equal(got, np.stack([arrays[name][10:60, 20:60] for name in arrays]))


def test_new_images_are_opened_at_the_same_time(proxy, bucket, tmp_path, at_rest):
    arrays = write(tmp_path, "abcdef", (70, 70, 3))
    paths = {name: tmp_path / f"{name}.npy" for name in arrays}
    nf.SimpleFrames(paths, workdir=bucket, **OPTIONS).prepare()
    frames = nf.SimpleFrames(paths, workdir=bucket, **OPTIONS)
    barrier = Barrier(len(arrays))
    alone = []

    def meet(request):
        if "/v1/" in request.key:
            try:
                barrier.wait(20)
            except BrokenBarrierError:
                alone.append(request.target)

    proxy.hook = meet
    requests = [(name, np.s_[10:20, 20:60]) for name in arrays]
    for (name, region), got in zip(requests, frames.load_regions(requests), strict=True):
        np.testing.assert_array_equal(got, arrays[name][region])
    assert alone == []


def test_what_two_threads_read_at_the_same_time_is_fetched_once(proxy, bucket, tmp_path, at_rest):
    arrays = write(tmp_path, "a")
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=bucket, **OPTIONS)
    frames.load_region("a", np.s_[:1, :1])
    proxy.forget()
    is_open = Event()
    proxy.hook = lambda request: is_open.wait(60) if "/data/" in request.key else None
    entry = frames.image("a").opened(0).entry
    reads = entry._bytes._open().opened._reads
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(frames.load_region, "a", np.s_[10:150, 20:140]) for _ in range(4)]
        # All have announced their tiles, and the first answer has not come yet.
        wait_until(lambda: {fetch.readers for fetch in [*reads._fetches.values()]} == {4})
        is_open.set()
        for future in running:
            np.testing.assert_array_equal(future.result(60), arrays["a"][10:150, 20:140])
    spans = [request.span for request in proxy.requests if "/data/" in request.key]
    assert len(spans) == 3, spans
    assert not reads._fetches
    # Nothing of a batch stays, either.
    frames.load_regions([("a", np.s_[10:150, 20:140]), ("a", np.s_[60:250, 20:140])])
    assert not reads._fetches
    assert reads._bytes == 0
