"""A service whose cache is in an object store: the same answers, and an event loop that waits for no store."""

from __future__ import annotations

import io
import time
from threading import Thread

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy

import ndframes as nf


@pytest.fixture
def proxy(object_server, bucket, monkeypatch):  # noqa: ARG001 - it sets the environment, too, so it must be first
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)


@pytest.fixture
def frames(bucket, tmp_path, proxy, array):  # noqa: ARG001
    np.save(tmp_path / "a.npy", array)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=bucket, tile_bytes=0, recheck_seconds=60)
    frames.prepare()
    return frames


def test_answers_are_those_of_the_pixels(frames, serve_frames, array):
    site, _ = serve_frames(frames)
    got = site.ask("/frames/a/region?y=10:200&x=5:150")
    np.testing.assert_array_equal(np.load(io.BytesIO(got.body)), array[10:200, 5:150])
    assert site.ask("/frames/a/stats").status == 200


def test_a_slow_store_keeps_nobody_else_waiting(frames, serve_frames, proxy, array):
    site, _ = serve_frames(frames)
    site.ask("/frames/a/region?y=0:10&x=0:10")
    proxy.latency_seconds = 3.0
    answers = []
    slow = Thread(target=lambda: answers.append(site.ask("/frames/a/region?y=200:210&x=100:110")))
    slow.start()
    while not [request for request in proxy.requests if request.span is not None]:
        time.sleep(0.01)
    started = time.monotonic()
    assert site.ask("/healthz").status in (200, 404)
    waited = time.monotonic() - started
    assert slow.is_alive()
    slow.join()
    assert waited < 3.0
    np.testing.assert_array_equal(np.load(io.BytesIO(answers[0].body)), array[200:210, 100:110])
