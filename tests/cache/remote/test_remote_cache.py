"""A cache in an object store: publishing, reading, and upkeep, over a real server of S3."""

from __future__ import annotations

import os
import pickle
import uuid

import numpy as np
import pytest
from kit.azure_server import Azurite, has_azurite
from kit.faulty_proxy import FaultyProxy

import ndframes as nf
from ndframes.cache.remote.cache import RemoteCache
from ndframes.system.objects.connection import connect_store

BACKENDS = {
    "zstd": "cog",
    "npy": "npy",
    "raw": {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}},
    "jpeg": {"type": "cog", "config": {"compress": "JPEG", "blocksize": 64, "quality": 95}},
}


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    yield server
    server.close()


@pytest.fixture(params=["s3", *["az"] * has_azurite()])
def bucket(request, object_server, monkeypatch):
    """An empty place in a store of each protocol."""
    if request.param == "s3":
        object_server.use(monkeypatch)
        return f"s3://{object_server.buckets[-1]}/{uuid.uuid4().hex[:12]}"
    azurite = request.getfixturevalue("azurite")
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    return f"az://{azurite.container}/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 255, (300, 500, 3), np.uint8)


@pytest.fixture
def image(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    return tmp_path / "a.npy"


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_are_those_of_a_cache_on_a_disk(bucket, tmp_path, image, array, backend):
    local = nf.SimpleFrames({"a": image}, workdir=tmp_path / "work", backend=BACKENDS[backend])
    remote = nf.SimpleFrames({"a": image}, workdir=bucket, backend=BACKENDS[backend])
    assert remote.prepare().prepared == 1
    again = nf.SimpleFrames({"a": image}, workdir=bucket, backend=BACKENDS[backend])
    assert again.prepare().present == 1
    regions = [np.s_[10:200, 33:400], np.s_[::-3, 5::7, [2, 0][0]], None, np.s_[299:, 499:]]
    for region in regions:
        for options in ({}, {"scale": 0.5}, {"pad": "edge"}) if region == regions[0] else ({},):
            np.testing.assert_array_equal(
                again.load_region("a", region, **options), local.load_region("a", region, **options)
            )
    requests = [("a", np.s_[top : top + 100, top : top + 90]) for top in range(0, 200, 20)]
    np.testing.assert_array_equal(again.load_regions(requests), local.load_regions(requests))


def test_entries_are_listed_checked_and_removed(bucket, image, array):
    frames = nf.SimpleFrames({"a": image}, workdir=bucket)
    assert list(frames.cache.ls()) == []
    assert frames.cache.stat().entries == 0
    assert frames.cache.gc(older_than=0) == nf.GcReport(0, 0, 0)
    frames.prepare()
    (entry,) = frames.cache.ls()
    assert entry.path == f"{bucket}/ndframes-cache/{entry.key.relative_path}"
    assert frames.cache.find(entry.key) == entry.path
    assert frames.cache.ls_source(entry.key.backend_id, entry.key.source_id) == [entry]
    assert frames.cache.ls_forms(entry.key.source_id) == [entry]
    assert frames.cache.source_of(entry) == str(image)
    report = frames.cache.verify(read_data=True)
    assert (report.ok, report.checked, report.checked_bytes) == (True, 1, entry.size_bytes)
    assert frames.cache.gc(older_than=0).kept == 1
    assert "1 entry" in str(frames.cache.stat())
    assert frames.cache.clear(dry_run=True).removed == 1
    assert frames.cache.clear(source=image.parent).removed == 1
    assert list(frames.cache.ls()) == []
    assert [item.key for item in connect_store(f"{bucket}/ndframes-cache").scan("data")] == []
    np.testing.assert_array_equal(frames.load_region("a", np.s_[:100]), array[:100])


def test_what_nothing_refers_to_is_collected(bucket, image):
    frames = nf.SimpleFrames({"a": image}, workdir=bucket)
    frames.prepare()
    store = connect_store(f"{bucket}/ndframes-cache")
    (entry,) = frames.cache.ls()
    loose = f"data/{entry.key.state_id[:2]}/{entry.key.state_id}.{'0' * 32}.tif"
    for key in (loose, f"claims/{'1' * 32}.json", "probes/" + "2" * 32, "notes.txt", "data/notes.txt"):
        store.create(key, b"x")
    assert frames.cache.stat().temporary == 1
    assert frames.cache.gc().leftovers == 0  # their writers may be at work
    report = frames.cache.gc(older_than=0)
    assert (report.leftovers, report.kept) == (3, 1)
    kept = {item.key for folder in ("data", "claims", "probes") for item in store.scan(folder)}
    assert kept == {"data/notes.txt", *(item.key for item in store.scan("data"))}
    assert store.load("notes.txt") is not None
    assert frames.cache.verify(read_data=True).ok


def test_a_folder_without_the_mark_is_left_alone(bucket, image):
    frames = nf.SimpleFrames({"a": image}, workdir=bucket)
    frames.prepare()
    connect_store(f"{bucket}/ndframes-cache").delete(["ndframes.json"])
    for remove in (frames.cache.gc, frames.cache.clear):
        with pytest.raises(nf.CacheError, match="does not bear the mark of a cache"):
            remove()
    assert frames.cache.stat().entries == 1


def test_a_damaged_entry_is_put_aside_and_made_again(bucket, image, array, caplog):
    frames = nf.SimpleFrames({"a": image}, workdir=bucket, verify="always")
    frames.prepare()
    store = connect_store(f"{bucket}/ndframes-cache")
    (data,) = store.scan("data")
    content = bytearray(store.load(data.key).data)
    content[len(content) // 3] ^= 1
    store.replace(data.key, bytes(content), data.etag)
    assert not frames.cache.verify(read_data=True).ok
    fresh = nf.SimpleFrames({"a": image}, workdir=bucket)
    np.testing.assert_array_equal(fresh.load_image("a"), array)
    assert fresh.cache.stat().quarantined == 1
    assert fresh.cache.verify(read_data=True).ok
    fresh.cache.gc(older_than=0)
    assert (fresh.cache.stat().quarantined, len(list(store.scan("data")))) == (0, 1)


def test_an_entry_without_its_file_is_made_again(bucket, image, array):
    frames = nf.SimpleFrames({"a": image}, workdir=bucket)
    frames.load_region("a", np.s_[:10])
    store = connect_store(f"{bucket}/ndframes-cache")
    store.delete([item.key for item in store.scan("data")])
    np.testing.assert_array_equal(frames.load_image("a"), array)
    assert frames.cache.verify(read_data=True).ok


def test_an_entry_that_was_removed_is_made_again(bucket, image, array):
    frames = nf.SimpleFrames({"a": image}, workdir=bucket)
    frames.load_region("a", np.s_[:10])
    nf.Cache(bucket).clear()
    np.testing.assert_array_equal(frames.load_image("a"), array)
    assert len(list(frames.cache.ls())) == 1


def test_it_is_a_cache(bucket, tmp_path):
    cache = nf.Cache(bucket + "/")
    assert type(cache) is RemoteCache
    assert isinstance(cache, nf.Cache)
    assert repr(cache) == f"Cache({bucket!r})"
    twin = pickle.loads(pickle.dumps(cache))
    assert (repr(twin), list(twin.ls())) == (repr(cache), [])
    for options in ({"max_bytes": 1}, {"min_free_bytes": 1}):
        with pytest.raises(nf.CacheError, match="are for a cache on a disk"):
            nf.Cache(bucket, **options)
    with pytest.raises(nf.CacheError, match="are for a workdir in an object store"):
        nf.Cache(tmp_path, local_tier=tmp_path)


@pytest.mark.parametrize("older_than", [-1, "1h", True, float("nan")])
def test_an_age_that_is_none(bucket, older_than):
    with pytest.raises(nf.CacheError, match="older_than="):
        nf.Cache(bucket).gc(older_than=older_than)


def test_planning_is_a_list(object_server, bucket, tmp_path, monkeypatch, at_rest):
    for number in range(40):
        np.save(tmp_path / f"{number}.npy", np.full((9, 9), number))
    paths = {number: tmp_path / f"{number}.npy" for number in range(40)}
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)
        assert nf.SimpleFrames(paths, workdir=bucket).prepare().prepared == 40
        proxy.forget()
        frames = nf.SimpleFrames(paths, workdir=bucket)
        assert frames.prepare().present == 40
        assert len(proxy.requests) <= 4, [request.target for request in proxy.requests]
        # The same size and time, but another content.
        before = paths[3].stat()
        data = bytearray(paths[3].read_bytes())
        data[-8] ^= 1
        paths[3].write_bytes(data)
        os.utime(paths[3], ns=(before.st_atime_ns, before.st_mtime_ns))
        report = nf.SimpleFrames(paths, workdir=bucket).prepare()
        assert (report.prepared, report.present) == (1, 39)
