"""How sources are reached: their states, digests and bytes, for files and objects alike."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import threading
import uuid

import numpy as np
import pytest
from kit.forking import in_fork
from kit.static_files import StaticFiles

from ndframes.errors import SourceAccessError, SourceChangedError, SourceError, SourceMissingError
from ndframes.system.objects import access as access_module
from ndframes.system.objects.access import SourceAccess
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.object_file import ObjectStream
from ndframes.system.objects.rules import SourceRules
from ndframes.system.objects.store import Place

DATA = np.random.default_rng(1).integers(0, 256, 3_000_000, np.uint8).tobytes()


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    with StaticFiles(tmp_path / "site") as found:
        found.folder = tmp_path / "site"
        yield found


def put(site, name, data, age=100.0):
    path = site.folder / name
    path.write_bytes(data)
    time = os.stat(path).st_mtime - age
    os.utime(path, (time, time))
    return f"{site.url}/{name}"


@pytest.fixture(params=["memory", "http"])
def source(request, site):
    """An object, its access, and a function that replaces its bytes."""
    if request.param == "http":
        ages = iter(range(100, 0, -1))
        url = put(site, "a.bin", DATA, next(ages))
        return url, SourceAccess(SourceRules.of(site.url)), lambda data: put(site, "a.bin", data, next(ages))
    name = uuid.uuid4().hex
    store = connect_store(f"memory://{name}/x")
    store.create("a.bin", DATA)

    def replace(data):
        store.delete(["a.bin"])
        store.create("a.bin", data)

    return f"memory://{name}/x/a.bin", SourceAccess(SourceRules.of(f"memory://{name}/x")), replace


def test_a_stamp_changes_with_each_content(source):
    url, access, replace = source
    before = access.stamp(url)
    assert (before.size_bytes, access.stamp(url)) == (len(DATA), before)
    replace(DATA[::-1])
    after = access.stamp(url)
    assert after != before
    assert not after.is_same_file(before)
    assert access.recheck(url) == after
    replace(DATA)
    assert access.recheck(url) == after
    assert access.recheck(url, seconds=0) != after
    access.forget()
    assert access.recheck(url) == access.stamp(url)


def test_digests_and_downloads(source, tmp_path):
    url, access, replace = source
    stamp = access.stamp(url)
    for algorithm in ("sha256", "blake2b", "md5"):
        assert access.hash(url, algorithm, stamp) == hashlib.new(algorithm, DATA).hexdigest()
    counts = []
    access.download(url, stamp, str(tmp_path / "a"), progress=counts.append)
    assert (tmp_path / "a").read_bytes() == DATA
    assert counts[-1] == len(DATA)
    replace(DATA[1:])
    for read in (lambda: access.hash(url, "md5", stamp), lambda: access.download(url, stamp, str(tmp_path / "b"))):
        with pytest.raises(SourceChangedError, match=f"{url} was replaced"):
            read()
    # What was seen before is forgotten then.
    assert access.recheck(url).size_bytes == len(DATA) - 1
    assert not (tmp_path / "b").exists()
    replace(b"")
    access.download(url, access.stamp(url), str(tmp_path / "c"))
    assert (tmp_path / "c").read_bytes() == b""
    assert access.hash(url, "md5") == hashlib.md5(b"").hexdigest()


def test_a_digest_is_stopped(source):
    url, access, _ = source
    stop = threading.Event()
    stop.set()
    assert access.hash(url, "md5", None, stop) == hashlib.md5(b"").hexdigest()


def test_files_are_reached_by_their_paths(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    access = pickle.loads(pickle.dumps(SourceAccess()))
    assert access.stamp(str(path)) == access.recheck(str(path))
    assert access.stamp(str(path)).size_bytes == 3
    assert access.hash(str(path), "md5") == hashlib.md5(b"abc").hexdigest()
    access.preload([str(path), "s3://not/allowed"])
    with pytest.raises(SourceMissingError, match="nowhere"):
        access.stamp(str(tmp_path / "nowhere"))


def test_many_objects_are_looked_at_together(site):
    urls = [put(site, f"{number}.bin", b"x" * number) for number in range(30)]
    urls += [f"{site.url}/missing.bin", "http://127.0.0.1:1/refused.bin"]
    access = SourceAccess(SourceRules.of(site.url))
    access.preload(urls)
    assert len(site.requests) == 31
    assert [access.recheck(url).size_bytes for url in urls[:30]] == [*range(30)]
    assert len(site.requests) == 31
    with pytest.raises(SourceMissingError, match=r"missing\.bin does not exist"):
        access.recheck(urls[30])
    with pytest.raises(SourceAccessError):
        access.recheck(urls[31])
    access.preload(urls[:30], seconds=0)
    assert len(site.requests) == 31 + 1 + 30
    access.preload(urls[:30])
    assert len(site.requests) == 62


def test_what_was_seen_is_bounded(site, monkeypatch):
    monkeypatch.setattr(access_module, "_MOST_SEEN", 3)
    access = SourceAccess(SourceRules.of(site.url))
    urls = [put(site, f"{number}.bin", b"x") for number in range(9)]
    for url in urls:
        access.stamp(url)
    site.requests.clear()
    for url in urls[::-1]:
        access.recheck(url)
    assert len(site.requests) == 6


def test_answers_that_are_no_files(site):
    url = put(site, "a.bin", b"abc")
    access = SourceAccess(SourceRules.of(site.url))
    site.has_etags = site.has_times = False
    with pytest.raises(SourceError, match="neither its ETag nor its time"):
        access.stamp(url)
    site.needed_header = ("Cookie", "abc")
    with pytest.raises(SourceAccessError, match=r"a\.bin cannot be read: .*401"):
        access.stamp(url)


def test_the_state_of_a_server_without_etags_is_its_time(site):
    site.has_etags = False
    url = put(site, "a.bin", DATA)
    access = SourceAccess(SourceRules.of(site.url))
    file = access.open(url)
    assert bytes(file.read_at(5, 7)) == DATA[5:12]
    put(site, "a.bin", DATA[::-1], age=50)
    with pytest.raises(SourceChangedError):
        file.read_at(5, 7)


def test_a_file_of_a_bucket_is_settled_at_once_and_one_of_a_server_later(source):
    url, access, replace = source
    replace(DATA[:9])
    stamp = access.stamp(url)
    now_ns = stamp.mtime_ns
    assert stamp.is_settled(now_ns) == url.startswith("memory")
    assert stamp.is_settled(now_ns + 2 * 10**9)


# -- reading by ranges ------------------------------------------------------------------------------------------------


def test_ranges_are_those_of_the_object(source):
    url, access, replace = source
    file = access.open(url, access.stamp(url))
    places = [(0, 10), (2_999_990, 100), (100, 50), (150, 10), (3_000_000, 5), (7, 0)]
    file.read_ahead([*places[:4], places[0]])
    for _ in range(2):
        for offset, length in places:
            assert bytes(file.read_at(offset, length)) == DATA[offset : offset + length]
    assert [bytes(data) for data in file.read_several([Place(100, 50), Place(150, 10)])] == [
        DATA[100:150],
        DATA[150:160],
    ]
    file.read_ahead([(0, 10)])
    bytes(file.read_at(0, 10))
    replace(DATA[::-1])
    file.read_ahead([(20, 10)])
    with pytest.raises(SourceChangedError, match="was replaced or removed since it was opened"):
        file.read_at(20, 10)


def test_what_was_announced_is_requested_once(site):
    url = put(site, "a.bin", DATA)
    file = SourceAccess(SourceRules.of(site.url)).open(url)
    site.requests.clear()
    file.read_ahead([(0, 1000), (1000, 1000), (500_000, 10)])
    for place in ((1000, 1000), (0, 1000), (500_000, 10)):
        file.read_at(*place)
    assert len(site.requests) == 2
    file.read_at(0, 1000)
    assert len(site.requests) == 3


def test_what_is_never_read_does_not_fill_the_memory(site, monkeypatch):
    monkeypatch.setattr("ndframes.system.objects.announced._MOST_BYTES", 5000)
    url = put(site, "a.bin", DATA)
    file = SourceAccess(SourceRules.of(site.url)).open(url)
    for start in range(0, 100_000, 1000):
        file.read_ahead([(2 * start, 1000)])
    assert file._reads._bytes == 5000
    assert len(file._reads._fetches) == 5
    assert bytes(file.read_at(0, 1000)) == DATA[:1000]


def test_a_stream_is_a_file(source):
    url, access, _ = source
    stream = ObjectStream(access.open(url))
    wanted = io.BytesIO(DATA)
    rng = np.random.default_rng(2)
    for _ in range(200):
        offset, length = int(rng.integers(0, 3_100_000)), int(rng.choice([1, 8, 5000, 90_000, 400_000]))
        for file in (stream, wanted):
            file.seek(offset)
        assert stream.read(length) == wanted.read(length)
        assert stream.tell() == max(offset, wanted.tell())
    assert stream.seek(-5, io.SEEK_END) == len(DATA) - 5
    assert stream.seek(2, io.SEEK_CUR) == len(DATA) - 3
    assert stream.read() == DATA[-3:]
    assert stream.read() == b""
    with pytest.raises(ValueError, match="before the beginning"):
        stream.seek(-1)
    assert (stream.readable(), stream.seekable(), stream.writable()) == (True, True, False)
    assert stream.error is None


def test_a_stream_reads_ahead_and_large_parts_at_once(site):
    url = put(site, "a.bin", DATA * 30)
    access = SourceAccess(SourceRules.of(site.url))
    stream = ObjectStream(access.open(url))
    site.requests.clear()
    for start in range(0, 30_000_000, 10_000):
        stream.read_at(start, 100)
    assert len(site.requests) < 30
    site.requests.clear()
    assert len(stream.read_at(1000, 60_000_000)) == 60_000_000
    assert len(site.requests) <= 1
    assert len(stream._blocks) <= 512


def test_a_stream_remembers_its_first_error(site):
    url = put(site, "a.bin", DATA)
    stream = ObjectStream(SourceAccess(SourceRules.of(site.url)).open(url))
    stream.read_at(0, 10)
    put(site, "a.bin", DATA[1:], age=50)
    with pytest.raises(SourceChangedError) as caught:
        stream.read_at(2_000_000, 10)
    assert stream.error is caught.value


def test_a_forked_child_reads_what_its_parent_has_open(site):
    url = put(site, "a.bin", DATA)
    access = SourceAccess(SourceRules.of(site.url))
    file = access.open(url)
    file.read_ahead([(0, 1000)])
    stop = threading.Event()
    errors = []

    def read():
        while not stop.is_set():
            if bytes(file.read_at(1_000_000, 5000)) != DATA[1_000_000:1_005_000]:
                errors.append("wrong bytes")

    thread = threading.Thread(target=read)
    thread.start()

    def check():
        return all(bytes(file.read_at(start, 2000)) == DATA[start : start + 2000] for start in (0, 500, 70_000)) and (
            access.stamp(url).size_bytes == len(DATA)
        )

    try:
        for _ in range(10):
            in_fork(check, seconds=60)
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert bytes(file.read_at(0, 1000)) == DATA[:1000]


def test_a_file_that_is_dropped_closes_its_connections(site):
    url = put(site, "a.bin", DATA)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        access = SourceAccess(SourceRules.of(site.url))
        access.open(url).read_at(0, 10)
        del access
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 6
