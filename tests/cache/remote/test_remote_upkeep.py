"""What a cache in an object store costs in requests, and one that takes none or no entries: web servers, missing rights, a store that fails."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.static_files import StaticFiles

import ndframes as nf
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits

_COUNT = 12


@pytest.fixture
def arrays():
    return np.random.default_rng(0).integers(0, 255, (_COUNT, 300, 200, 3), np.uint8)


@pytest.fixture
def images(tmp_path, arrays):
    for index, array in enumerate(arrays):
        np.save(tmp_path / f"{index}.npy", array)
    return {index: tmp_path / f"{index}.npy" for index in range(_COUNT)}


@pytest.fixture
def proxy(object_server, bucket, monkeypatch):  # after the bucket, which names the server itself
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        yield proxy


def test_the_source_of_an_entry_is_one_request(proxy, bucket, images):
    cache = nf.SimpleFrames(images, workdir=bucket).cache
    nf.SimpleFrames(images, workdir=bucket).prepare()
    entries = list(cache.ls())
    proxy.forget()
    assert sorted(cache.sources_of(entries)) == sorted(map(str, images.values()))
    assert len(proxy.requests) == _COUNT
    assert [cache.source_of(entry) for entry in entries] == cache.sources_of(entries)
    cache.clear()
    assert cache.sources_of(entries) == [None] * _COUNT


def test_to_list_a_local_tier_is_no_use_of_it(bucket, images, tmp_path):
    nf.SimpleFrames(images, workdir=bucket).prepare()
    cache = nf.Cache(bucket, local_tier=tmp_path / "tier")
    assert None not in cache.sources_of(list(cache.ls()))
    assert cache.stat().tier_bytes == 0


def test_clearing_a_folder_looks_at_each_entry_once(proxy, bucket, images, tmp_path):
    frames = nf.SimpleFrames(images, workdir=bucket)
    frames.prepare()
    proxy.forget()
    assert frames.cache.clear(source=images[3]).removed == 1
    assert sum(request.method == "GET" and request.key.endswith(".tif.json") for request in proxy.requests) == _COUNT
    assert frames.cache.clear(source=tmp_path).removed == _COUNT - 1


def test_reading_every_byte_takes_few_requests(proxy, bucket, images):
    """Tiles that are neighbours in the file are fetched together."""
    backend = {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}}
    frames = nf.SimpleFrames(images, workdir=bucket, backend=backend)
    frames.prepare()
    proxy.forget()
    report = frames.cache.verify(read_data=True)
    assert (report.ok, report.checked) == (True, _COUNT)
    # The lists, and of each entry its commit, the state of its file, and its tiles.
    assert 2 * _COUNT <= len(proxy.requests) <= 3 * _COUNT + 4


@pytest.fixture
def site(bucket, images, tmp_path):
    """A copy of a cache behind a web server."""
    nf.SimpleFrames(images, workdir=bucket).prepare()
    store = connect_store(bucket)
    for item in store.scan(""):
        target = tmp_path / "web" / "a copy" / item.key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.load(item.key).data)
    with StaticFiles(tmp_path / "web") as site:
        yield site


def test_prepare_over_a_web_server_finds_what_is_there(site, images, arrays):
    frames = nf.SimpleFrames(images, workdir=f"{site.url}/a copy/")
    assert frames.cache.workdir == f"{site.url}/a%20copy"
    assert frames.prepare().present == _COUNT
    assert frames.prepare(workers=2).present == _COUNT
    np.testing.assert_array_equal(frames.load_region(5, np.s_[10:200, 3:150]), arrays[5, 10:200, 3:150])


def test_a_web_server_takes_no_entries(site, images, tmp_path):
    np.save(tmp_path / "new.npy", np.zeros((90, 90), np.uint8))
    frames = nf.SimpleFrames({**images, "new": tmp_path / "new.npy"}, workdir=f"{site.url}/a copy")
    report = frames.prepare(errors="collect")
    assert report.present == _COUNT
    (failure,) = report.failed
    assert failure.image_id == "new"
    with pytest.raises(nf.CacheError, match="a%20copy can only be read from, since web servers take no files"):
        frames.load_region("new", np.s_[:5, :5])
    with pytest.raises(nf.StoreError, match="does not list its files; give the folder or the bucket"):
        frames.cache.stat()


@pytest.mark.parametrize("make", [Path, lambda url: str(Path(url)), lambda url: os.path.abspath(Path(url))])
def test_a_path_that_was_an_address(images, make):
    """pathlib.Path("s3://bucket/cache") is a folder named "s3:", which nobody means."""
    with pytest.raises(nf.CacheError, match=r"workdir='.*s3:/bucket/cache': an address has two slashes"):
        nf.Cache(make("s3://bucket/cache"))
    frames = nf.SimpleFrames({"a": make("S3://bucket/a.tif")}, backend=None)
    with pytest.raises(nf.SourceMissingError, match=r"an address has two slashes, and pathlib.Path removes one"):
        frames.load_image("a")


@pytest.mark.parametrize("workdir", ["s3://", "s3://bucket/..", "ftp://host/cache", "s3://me:pw@bucket/x"])
def test_an_address_that_is_not_valid_is_shown_as_it_was_given(workdir):
    with pytest.raises(nf.StoreError) as caught:
        nf.Cache(workdir)
    assert "ndframes-cache" not in str(caught.value)
    assert workdir.replace("me:pw", "...") in str(caught.value)


@pytest.fixture
def refusing(proxy, bucket, images):
    """A store with entries, in which nothing may be written any more."""
    nf.SimpleFrames(images, workdir=bucket).prepare()
    for method in ("PUT", "POST", "DELETE"):
        proxy.fail("403", method=method)
    return proxy


def test_without_the_right_to_write(refusing, bucket, images, arrays, tmp_path):
    frames = nf.SimpleFrames(images, workdir=bucket)
    assert frames.prepare().present == _COUNT
    np.testing.assert_array_equal(frames.load_region(5, np.s_[10:200, 3:150]), arrays[5, 10:200, 3:150])
    assert frames.cache.stat().entries == _COUNT
    assert frames.cache.gc() == nf.GcReport(0, 0, _COUNT, remaining_bytes=frames.cache.stat().total_bytes)
    with pytest.raises(nf.StoreAccessError, match="cannot delete"):
        frames.cache.clear()
    # The first thing that fails is named, and not the removal of what it left.
    with pytest.raises(nf.StoreAccessError, match="cannot create 'probes/.*check that they are valid and allow this$"):
        nf.SimpleFrames(images, workdir=f"{bucket}/new").load_region(0)


def test_a_video_is_read_though_its_index_cannot_be_cached(refusing, bucket, tmp_path, caplog):
    pictures = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), np.uint8)
    nf.write_video(tmp_path / "a.mkv", pictures, fps=5, codec="ffv1")
    os.utime(tmp_path / "a.mkv", (1e9, 1e9))
    frames = nf.SimpleFrames({"a": tmp_path / "a.mkv"}, workdir=bucket)
    assert frames.prepare().failed == ()
    assert "the index of its frames could not be cached" in caplog.text
    np.testing.assert_array_equal(frames.load_region("a")[3], pictures[3])


def test_a_batch_asks_a_store_that_fails_no_longer_than_one_read(proxy, bucket, images, monkeypatch):
    nf.SimpleFrames(images, workdir=bucket).prepare()
    monkeypatch.setattr(Limits.__new__, "__defaults__", (5.0, 10.0, 40.0, 1, 60.0, 0.01, 0.01, 5.0))
    frames = nf.SimpleFrames(images, workdir=bucket)
    proxy.fail("503")
    proxy.forget()
    with pytest.raises(nf.StoreUnavailableError, match=r"image \d+: "):
        frames.load_regions([(image_id, np.s_[:9, :9]) for image_id in images])
    assert set(Counter(request.key for request in proxy.requests).values()) <= {1, 2}


@pytest.mark.parametrize("workers", [0, "threads"])
def test_prepare_does_not_wait_for_a_lost_store_with_each_image(proxy, bucket, images, monkeypatch, workers):
    monkeypatch.setattr(Limits.__new__, "__defaults__", (5.0, 10.0, 40.0, 1, 60.0, 0.01, 0.01, 5.0))
    frames = nf.SimpleFrames(images, workdir=bucket)
    frames.prepare([0])
    proxy.forget()
    proxy.fail("503", key="claims/")
    with ThreadPoolExecutor(1) as executor:
        report = frames.prepare(errors="collect", executor=executor if workers else None)
    assert (report.prepared, report.present, len(report.failed)) == (0, 1, _COUNT - 1)
    assert {failure.image_id for failure in report.failed} == set(range(1, _COUNT))
    assert all(isinstance(failure.error, nf.StoreUnavailableError) for failure in report.failed)
    assert (
        sum("not tried, after 4 others failed in a row" in str(failure.error) for failure in report.failed)
        == _COUNT - 5
    )
    proxy.heal()
    assert frames.prepare().prepared == _COUNT - 1
