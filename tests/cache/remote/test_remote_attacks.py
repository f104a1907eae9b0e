"""Objects of a cache that somebody edited, removed or cut: crops are right or errors, and the cache heals."""

from __future__ import annotations

import base64
import json
import os
import stat

import numpy as np
import pytest
from kit.faulty_proxy import FaultyProxy

import ndframes as nf
from ndframes.cache.remote import publish as publishing
from ndframes.cache.remote.scratch import Scratch
from ndframes.system.objects.connection import connect_store
from ndframes.system.segments import checksum


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    made = {name: rng.integers(0, 255, (60, 90, 3), np.uint8) for name in "ab"}
    for name, array in made.items():
        np.save(tmp_path / f"{name}.npy", array)
    return made


@pytest.fixture
def make(bucket, tmp_path, arrays):
    def make() -> nf.SimpleFrames:
        return nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in arrays}, workdir=bucket)

    assert make().prepare().prepared == 2
    return make


@pytest.fixture
def store(bucket):
    return connect_store(f"{bucket}/ndframes-cache")


@pytest.fixture
def commits(make, store, tmp_path):
    """The name and the fields of the commit of each image."""
    cache = make().cache
    entries = {os.path.basename(cache.source_of(entry))[0]: entry for entry in cache.ls()}
    names = {name: f"{entry.key.relative_path}.json" for name, entry in entries.items()}
    return {name: (key, json.loads(store.load(key).data)) for name, key in names.items()}


def dump(fields) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def seal(fields) -> bytes:
    """Fields with a checksum that matches them."""
    rest = {name: value for name, value in fields.items() if name != "crc32"}
    return dump({**rest, "crc32": checksum(dump(rest))})


def replace(store, key, data) -> None:
    store.delete([key])
    assert store.create(key, data)


def check(make, arrays) -> None:
    frames = make()
    for name, array in arrays.items():
        np.testing.assert_array_equal(frames.load_region(name, np.s_[7:50, 9:80]), array[7:50, 9:80])


# -- edited commits ---------------------------------------------------------------------------------------------------

FIELDS = {
    "size_bytes": [0, -5, 10**18, 10**400, "5", 5.5, None, True, [1]],
    "created": [float("nan"), float("inf"), 1e300, "now", None, [1], True],
    "name": [5, None, ["a"], ""],
    "data_key": [5, None, ["a"], "", "data/../notes.txt"],
    "tail": ["", 5, None, "é" * 8, "!!", "A" * 400, "A" * 4_000_000],
    "version": [0, -1, True, "1", 1.0, None],
    "else": [1],
}


def edits(mine, other):
    """Commits in the place of ``mine``, each with a checksum that matches."""
    for field, values in FIELDS.items():
        yield from (seal({**mine, field: value}) for value in values)
    yield from (seal({**mine, "size_bytes": mine["size_bytes"] + more}) for more in (-1, 1))
    yield seal({name: value for name, value in mine.items() if name != "created"})
    yield seal(other)
    for fields in (("data_key",), ("tail",), ("data_key", "tail"), ("data_key", "tail", "size_bytes", "created")):
        yield seal({**mine, **{field: other[field] for field in fields}})
    tail = base64.b64decode(mine["tail"])
    for cut in (tail[:-8], bytes(mine["size_bytes"]) + tail):
        yield seal({**mine, "tail": base64.b64encode(cut).decode()})
    yield from (
        b"",
        b"null",
        b"[]",
        b"5",
        b'"a"',
        bytes(999),
        b"[" * 200_000,
        b'{"a":' * 99_999,
        b'{"crc32":' + b"9" * 9999 + b"}",
    )
    yield b'{"version":1,"crc32":0,"a":' + b"[" * 5000 + b"]" * 5000 + b"}"


def test_edited_commits_give_no_other_pixels(make, store, commits, arrays):
    key, mine = commits["a"]
    count = 0
    for data in edits(mine, commits["b"][1]):
        replace(store, key, data)
        check(make, arrays)
        replace(store, key, data)
        frames = make()
        assert len(list(frames.cache.ls())) in (1, 2)
        assert not frames.cache.verify(read_data=True).ok, data[:200]
        frames.cache.stat()
        frames.cache.gc(dry_run=True, older_than=0)
        assert not frames.prepare(errors="collect").failed, data[:200]
        check(make, arrays)
        count += 1
    assert count == 59
    assert make().cache.gc(older_than=0).kept == 2
    assert make().cache.verify(read_data=True).ok


def test_a_commit_of_a_newer_version_is_left_alone(make, store, commits, arrays):
    key, mine = commits["a"]
    replace(store, key, data := seal({**mine, "version": 2}))
    check(make, arrays)
    cache = make().cache
    store.create(mine["data_key"].replace(mine["data_key"][-36:], "0" * 32 + ".tif"), b"loose")
    assert len(list(cache.ls())) == 2
    assert (cache.verify().newer, cache.verify().ok) == (1, True)
    cache.gc(older_than=0)
    assert store.load(key).data == data


def test_a_huge_object_in_the_place_of_a_commit_is_not_loaded(make, store, commits, arrays, tmp_path):
    key, _ = commits["a"]
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(40_000_000)
    store.delete([key])
    store.upload(key, str(tmp_path / "huge"))
    with pytest.raises(nf.ObjectTooLongError, match="40,000,000 bytes"):
        store.load(key)
    check(make, arrays)
    assert store.status([key])[0].size_bytes < 100_000


# -- commits without files, files without commits ---------------------------------------------------------------------


def test_prepare_finds_commits_without_files(make, store, commits, arrays):
    store.delete([commits["a"][1]["data_key"]])
    report = make().prepare()
    assert (report.prepared, report.present) == (1, 1)
    assert make().cache.verify(read_data=True).ok
    check(make, arrays)


def test_verify_finds_files_that_are_missing_or_cut(make, store, commits, tmp_path):
    (_, first), (_, second) = commits.values()
    store.delete([first["data_key"]])
    store.download(second["data_key"], str(tmp_path / "file"))
    os.truncate(tmp_path / "file", 1000)
    store.upload(second["data_key"], str(tmp_path / "file"))
    report = make().cache.verify(repair=True)
    assert (report.checked, len(report.bad), report.repaired) == (2, 2, 2)
    assert make().prepare().prepared == 2


@pytest.mark.parametrize("action", ["gc", "clear"])
def test_commits_without_files_are_removed(make, store, commits, action):
    key, fields = commits["a"]
    store.delete([fields["data_key"]])
    cache = make().cache
    assert cache.gc().leftovers == 0  # a program that copies a cache may bring the file later
    report = cache.gc(older_than=0) if action == "gc" else cache.clear()
    assert (report.leftovers, report.kept) == ((1, 1) if action == "gc" else (1, 0))
    assert store.load(key) is None


def test_a_store_that_cannot_be_asked_condemns_no_entry(make, monkeypatch):
    cache = make().cache

    def fail(*_, **__):
        raise nf.StoreUnavailableError("down for a moment")

    with monkeypatch.context() as patch:
        patch.setattr("ndframes.cache.remote.files.RemoteFile.check_length", fail)
        with pytest.raises(nf.StoreUnavailableError):
            cache.verify(repair=True)
    assert cache.verify().checked == 2


def test_gc_between_upload_and_commit_loses_no_entry(bucket, make, store, arrays, monkeypatch):
    make().cache.clear()
    commit = publishing._commit

    def collect_first(*arguments):
        assert nf.Cache(bucket).gc(older_than=0).leftovers >= 2  # the file and the claim
        return commit(*arguments)

    monkeypatch.setattr(publishing, "_commit", collect_first)
    assert make().prepare().prepared == 2
    assert make().cache.verify(read_data=True).ok
    assert nf.Cache(bucket).gc(older_than=0).kept == 2
    check(make, arrays)


def test_gc_looks_again_before_it_removes_a_file(bucket, make, store, commits, arrays):
    """A writer commits while the lists are made."""
    key, fields = commits["a"]
    store.delete([key])
    cache = nf.Cache(bucket)
    scan, calls = type(cache.store).scan, []

    def commit_then_scan(self, folder):
        found = list(scan(self, folder))
        calls.append(folder)
        if calls.count("v1") == 1 and folder == "v1":
            store.create(key, seal(fields))
        return iter(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(cache.store), "scan", commit_then_scan)
        cache.gc(older_than=0)
    assert cache.verify(read_data=True).checked == 2
    assert cache.verify(read_data=True).ok
    check(make, arrays)


def test_caches_in_the_folders_of_a_cache_are_others(bucket, tmp_path, arrays):
    places = [
        f"{bucket}/{inner}"
        for inner in ("", "ndframes-cache", "ndframes-cache/v1", "ndframes-cache/data", "a b/ü+%20#?x")
    ]
    paths = {name: tmp_path / f"{name}.npy" for name in arrays}
    for place in places:
        assert nf.SimpleFrames(paths, workdir=place).prepare().prepared == 2
    for place in places:
        cache = nf.Cache(place)
        assert len(list(cache.ls())) == 2
        assert (cache.gc(older_than=0).leftovers, cache.verify(read_data=True).checked) == (0, 2)
    assert nf.Cache(places[0]).clear().removed == 2
    for place in places[1:]:
        assert nf.Cache(place).verify(read_data=True).checked == 2


def test_ctrl_c_while_a_claim_is_made_leaves_none(bucket, make, store, monkeypatch):
    make().cache.clear()
    create = type(store).create

    def create_and_interrupt(self, key, data):
        found = create(self, key, data)
        if key.startswith("claims/"):
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "create", create_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            make().load_image("a")
    assert list(store.scan("claims")) == []


# -- sources that change meanwhile ------------------------------------------------------------------------------------


def test_a_source_edited_at_any_request_of_a_publish(object_server, bucket, tmp_path, monkeypatch):
    """What is read is one of both contents, and what is read next is the present one."""
    source = tmp_path / "edited.npy"
    old, new = np.random.default_rng(1).integers(0, 255, (2, 60, 70, 3), np.uint8)
    with FaultyProxy(object_server.host) as proxy:
        object_server.use(monkeypatch, proxy.endpoint)

        def edit_at(number):
            np.save(source, old)
            start = proxy._count
            proxy.hook = lambda request: np.save(source, new) if request.number == start + number else None
            frames = nf.SimpleFrames({"a": source}, workdir=f"{bucket}/{number}")
            try:
                first = frames.load_image("a")
                assert np.array_equal(first, old) or np.array_equal(first, new)
            except nf.SourceChangedError:
                pass
            proxy.hook = None
            for again in (frames, nf.SimpleFrames({"a": source}, workdir=f"{bucket}/{number}")):
                np.testing.assert_array_equal(again.load_image("a"), np.load(source))
            return proxy._count - start

        number, count = 0, 1
        while number < count:
            count = edit_at(number)
            number += 1
    assert number > 10


# -- files before they are uploaded -----------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_nobody_else_may_enter_the_folder_of_scratch_files(temporary):
    old = os.umask(0)
    try:
        folder = Scratch().make()
    finally:
        os.umask(old)
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    os.chmod(folder.parent, 0o777)
    Scratch().make()
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("planted", ["the folder", "the folder in it", "a file"])
def test_links_of_others_are_not_followed(temporary, tmp_path, planted):
    name = f"ndframes-{os.getuid()}"
    target = tmp_path / "target"
    (target / "scratch").mkdir(parents=True)
    if planted == "the folder":
        (temporary / name).symlink_to(target)
    elif planted == "a file":
        (temporary / name).write_text("")
    else:
        (temporary / name).mkdir()
        (temporary / name / "scratch").symlink_to(target / "scratch")
    with (
        pytest.raises(nf.CacheError, match=r"not a folder of this user.*local_tier= another folder"),
        Scratch().file("5" * 32, 10),
    ):
        pass
    assert list((target / "scratch").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give folders away")
def test_a_folder_of_another_user_is_refused(temporary):
    folder = temporary / f"ndframes-{os.getuid()}"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(nf.CacheError, match="not a folder of this user"):
        Scratch().make()
