"""A service whose cache is in an object store: the same answers, and an event loop that waits for no store."""

from __future__ import annotations

import io
from threading import Event, Thread

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.http_requests import Site
from kit.waiting import wait_until

import ndframes as nf
from ndframes.server import serve

#: Crops of them are so short that the event loop reads them from a disk.
SMALL_TILES = {"type": "cog", "config": {"blocksize": 32}}


@pytest.fixture
def proxy(object_server, bucket, monkeypatch):
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)


@pytest.fixture
def frames(bucket, tmp_path, proxy, array, at_rest):
    np.save(tmp_path / "a.npy", array)
    frames = nf.SimpleFrames(
        {"a": tmp_path / "a.npy"}, workdir=bucket, tile_bytes=0, recheck_seconds=60, backend=SMALL_TILES
    )
    frames.prepare()
    return frames


@pytest.fixture
def site(frames):
    with serve(frames) as service:
        yield Site(service.address)


def test_answers_are_those_of_the_pixels(site, array):
    got = site.ask("/frames/a/region?y=10:200&x=5:150")
    np.testing.assert_array_equal(np.load(io.BytesIO(got.body)), array[10:200, 5:150])
    assert site.ask("/frames/a/stats").status == 200


def test_a_slow_store_keeps_nobody_else_waiting(site, proxy, array):
    site.ask("/frames/a/region?y=0:10&x=0:10")
    proxy.forget()
    is_open = Event()
    proxy.hook = lambda request: is_open.wait(60) if request.span is not None else None
    answers = []
    slow = Thread(target=lambda: answers.append(site.ask("/frames/a/region?y=200:210&x=100:110")))
    slow.start()
    wait_until(lambda: any(request.span is not None for request in proxy.requests))
    assert site.ask("/frames/none").status == 404
    assert slow.is_alive(), "the event loop has waited for the store"
    is_open.set()
    slow.join()
    np.testing.assert_array_equal(np.load(io.BytesIO(answers[0].body)), array[200:210, 100:110])
