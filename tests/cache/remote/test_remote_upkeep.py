"""What upkeep of a cache in an object store costs, and a copy of one behind a web server."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy
from kit.static_files import StaticFiles

import ndframes as nf
from ndframes.system.objects.connection import connect_store

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
    # The lists, and of each entry its commit and its tiles.
    assert 2 * _COUNT <= len(proxy.requests) <= 2 * _COUNT + 4


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
