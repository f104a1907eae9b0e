"""What every store does, on SeaweedFS and in memory."""

from __future__ import annotations

import filecmp
import pickle
import re
import uuid

import numpy as np
import pytest
from kit.azure_server import Azurite, has_azurite
from kit.scripts import run_script

from ndframes.errors import ObjectGoneError, StoreError
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.requests import WriteCondition
from ndframes.system.objects.store import Place

_KEYS = [
    "a",
    "a/b",
    "a b/c",
    "ü/ß",
    "per%20cent",
    "ha#sh",
    "question?x=1",
    "pl+us",
    "am&per;sand=",
    "tilde~'(quote)!*$@,:",
]


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    yield server
    server.close()


@pytest.fixture(params=["memory", "s3", *["az"] * has_azurite()])
def store(request, monkeypatch):
    if request.param == "memory":
        return connect_store(f"memory://{uuid.uuid4().hex}/some/prefix")
    if request.param == "s3":
        return connect_store(request.getfixturevalue("bucket"))
    server = request.getfixturevalue("azurite")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return connect_store(f"az://{server.container}/{uuid.uuid4().hex}")


def fetch(store, key, *places, etag=None):
    return [bytes(wait()) for wait in store.begin_fetch(key, [Place(*place) for place in places], etag=etag)]


@pytest.mark.parametrize("key", _KEYS)
def test_an_object_of_any_name_is_written_read_and_listed(store, key):
    etag = store.create(key, key.encode())
    loaded = store.load(key)
    assert loaded.data == key.encode()
    assert loaded.status[:2] == (key, len(key.encode()))
    assert loaded.status.etag == etag
    assert store.status([key]) == [loaded.status]
    assert [status.key for status in store.scan("")] == [key]
    store.delete([key])
    assert store.load(key) is None


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", "../a", "a/..", "a/./b"])
def test_a_key_that_is_no_path_is_an_error(store, key):
    calls = [
        lambda: store.create(key, b""),
        lambda: store.load(key),
        lambda: store.status([key]),
        lambda: store.delete([key]),
        lambda: store.upload(key, __file__),
        store.begin_fetch(key, [Place(0, 1)])[0],
    ]
    for call in calls:
        with pytest.raises(StoreError, match=f"the key '{re.escape(key)}' is not valid"):
            call()


def test_create_never_replaces(store):
    assert store.create("a", b"first")
    assert store.create("a", b"second") is None
    assert store.load("a").data == b"first"


def test_replace_needs_the_state(store):
    first = store.create("a", b"first")
    second = store.replace("a", b"second", first)
    assert second not in (None, first)
    assert store.replace("a", b"third", first) is None
    assert store.load("a").data == b"second"
    assert store.replace("b", b"third", first) is None
    assert store.load("b") is None


def test_places_are_fetched_without_a_copy(store):
    data = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
    etag = store.create("a", data.tobytes())
    places = [(500, 20), (0, 500), (90_000, 20_000), (200_000, 5), (7, 0), (510, 3), (600, 1)]
    expected = [data[offset : offset + length].tobytes() for offset, length in places]
    assert fetch(store, "a", *places, etag=etag) == expected
    buffer = store.begin_fetch("a", [Place(10, 50)])[0]()
    array = np.frombuffer(buffer, np.uint8)
    assert np.array_equal(array, data[10:60])
    assert not array.flags.owndata


def test_a_fetch_is_an_error_if_the_object_is_missing_or_changed(store):
    etag = store.create("a", b"first")
    store.replace("a", b"other", etag)
    with pytest.raises(ObjectGoneError, match="'a'.*another state"):
        fetch(store, "a", (0, 5), etag=etag)
    assert fetch(store, "a", (0, 5)) == [b"other"]
    with pytest.raises(ObjectGoneError, match="'b'.*no such object"):
        fetch(store, "b", (0, 5))


@pytest.mark.parametrize("size_bytes", [0, 1, 8 << 20, (8 << 20) + 1, (24 << 20) + 12345])
def test_files_are_uploaded_and_downloaded(store, tmp_path, size_bytes):
    data = np.random.default_rng(size_bytes).bytes(size_bytes)
    (tmp_path / "source").write_bytes(data)
    status = store.upload("folder/file", str(tmp_path / "source"))
    assert status[:2] == ("folder/file", size_bytes)
    counts = []
    target = str(tmp_path / "target")
    assert store.download("folder/file", target, etag=status.etag, progress=counts.append)[:2] == status[:2]
    assert (tmp_path / "target").read_bytes() == data
    assert counts == sorted(counts)
    assert not size_bytes or counts[-1] == size_bytes
    with pytest.raises(FileExistsError):
        store.download("folder/file", target)
    store.delete(["folder/file"])
    with pytest.raises(ObjectGoneError, match="folder/file"):
        store.download("folder/file", str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_download_is_of_the_state_that_was_asked_for(store, tmp_path):
    etag = store.create("a", b"first")
    store.replace("a", b"other", etag)
    with pytest.raises(ObjectGoneError, match="'a'"):
        store.download("a", str(tmp_path / "a"), etag=etag)
    assert not (tmp_path / "a").exists()


def test_a_folder_is_listed_in_order_and_pages(store):
    keys = sorted(f"folder/{number % 7}/{number:04}" for number in range(2345))
    written = [store.requests.write(key, b"x", WriteCondition("always")) for key in keys]
    assert all(written)
    store.create("folder2/x", b"")
    store.create("folde", b"")
    assert [status.key for status in store.scan("folder")] == keys
    assert [status.key for status in store.scan("folder/")] == keys
    assert list(store.scan("fold")) == []
    assert [status.key for status in store.scan("folder/3")] == [key for key in keys if key.startswith("folder/3/")]
    store.delete(iter(keys))
    assert [status.key for status in store.scan("")] == ["folde", "folder2/x"]


def test_states_of_many_objects_are_asked_for_at_once(store):
    store.create("a", b"12")
    found = store.status(["a", "b"] * 100)
    assert [status and status.size_bytes for status in found] == [2, None] * 100
    assert store.status([]) == []
    store.delete([])


def test_a_pickled_store_is_the_same_store(store):
    store.create("a", b"12")
    twin = pickle.loads(pickle.dumps(store))
    assert twin.url == store.url
    assert twin.requests is store.requests
    assert twin.load("a").data == b"12"


@pytest.mark.slow
def test_memory_is_bounded(bucket, tmp_path):
    path = tmp_path / "big"
    with open(path, "wb") as file:
        for seed in range(128):
            file.write(np.random.default_rng(seed).bytes(8 << 20))
    grown_kb = run_script(f"""
        import resource
        from ndframes.system.objects.connection import connect_store
        store = connect_store({bucket!r})
        store.create("a", b"1")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        store.upload("big", {str(path)!r})
        uploaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        store.download("big", {str(path) + ".copy"!r})
        print(uploaded - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    upload_kb, both_kb = map(int, grown_kb.split())
    assert upload_kb < 100_000
    assert both_kb < 250_000
    assert filecmp.cmp(path, f"{path}.copy", shallow=False)
