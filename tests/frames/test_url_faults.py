"""Sources in a bucket behind a network that fails: a crop equals the source, or it is an error."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile
from kit.faulty_proxy import FaultyProxy
from skimage import data

import ndframes as nf
from ndframes.errors import NdframesError
from ndframes.system.objects.connection import connect_store

PHOTO = data.astronaut()


@pytest.fixture
def imagery(bucket, object_server, monkeypatch, tmp_path):
    """The proxy, and the addresses of a TIFF and of an array."""
    tifffile.imwrite(tmp_path / "a.tif", np.tile(PHOTO, (3, 3, 1)), tile=(64, 64), compression="zlib")
    np.save(tmp_path / "b.npy", np.tile(PHOTO, (4, 4, 1)))
    store = connect_store(bucket)
    for name in ("a.tif", "b.npy"):
        store.upload(name, str(tmp_path / name))
    with FaultyProxy(object_server.host, seed=5) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy, f"{bucket}/a.tif", f"{bucket}/b.npy"


@pytest.mark.parametrize("fault", ["503", "reset_before", "reset_after", "cut"])
@pytest.mark.parametrize("backend", [None, "npy"])
def test_requests_that_fail_are_sent_again(imagery, tmp_path, fault, backend):
    proxy, *urls = imagery
    proxy.fail(fault, chance=0.2)
    frames = nf.SimpleFrames(
        urls[:1] if backend is None else urls, sources=urls, workdir=tmp_path / "work", backend=backend
    )
    rng = np.random.default_rng(4)
    for _ in range(15):
        top, left = rng.integers(0, 1000, 2)
        region = np.s_[top : top + 200, left : left + 200]
        for image_id in frames.image_ids:
            tiles = 3 if image_id == "a" else 4
            np.testing.assert_array_equal(
                frames.load_region(image_id, region), np.tile(PHOTO, (tiles, tiles, 1))[region]
            )


def test_bytes_that_change_on_the_way_are_found_in_a_copy(imagery, tmp_path):
    proxy, url, _ = imagery
    proxy.fail("flip", chance=0.4)
    read = 0
    for number in range(12):
        frames = nf.SimpleFrames({"x": url}, sources=[url], workdir=tmp_path / str(number), backend="npy")
        try:
            pixels = frames.load_image("x")
        except NdframesError:
            continue
        read += 1
        np.testing.assert_array_equal(pixels, np.tile(PHOTO, (3, 3, 1)))
    assert read


def test_an_etag_that_is_no_digest_costs_a_second_read_and_no_more(imagery, tmp_path, monkeypatch):
    proxy, url, _ = imagery
    # The first half of an ETag is the digest of nothing.
    monkeypatch.setattr("ndframes.system.objects.access._MD5", re.compile(r'"?([0-9a-f]{16})[0-9a-f]{16}"?'))
    frames = nf.SimpleFrames({"x": url}, sources=[url], workdir=tmp_path, backend="npy")
    np.testing.assert_array_equal(frames.load_image("x"), np.tile(PHOTO, (3, 3, 1)))
    assert sum(request.method == "GET" for request in proxy.requests) == 2


def test_a_crop_of_an_open_image_takes_one_round_trip(imagery, tmp_path):
    proxy, url, _ = imagery
    frames = nf.SimpleFrames({"x": url}, sources=[url], workdir=tmp_path, backend=None)
    frames.load_region("x", np.s_[:1, :1])
    proxy.latency_seconds = 0.5
    proxy.forget()
    crops = [np.s_[y : y + 256, x : x + 256] for y, x in ((0, 300), (700, 1000), (1200, 10))]
    wanted = np.tile(PHOTO, (3, 3, 1))
    np.testing.assert_array_equal(
        frames.load_regions([("x", crop) for crop in crops]), np.stack([wanted[crop] for crop in crops])
    )
    times = [request.time for request in proxy.requests]
    # None was sent after the answer to another.
    assert max(times) - min(times) < 0.5
    assert len(times) > 5
