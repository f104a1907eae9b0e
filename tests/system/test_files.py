"""FileSystem: what the cache relies on, on the local disk."""

from __future__ import annotations

import os

import pytest
from kit.entries import start_python

from ndframes.system.files import FileSystem, OpenFile, read_whole
from ndframes.system.stamp import stat_source

FILES = FileSystem()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    return path


def test_an_open_file_is_read_by_position(path):
    with FILES.open_to_read(str(path)) as file:
        path.unlink()
        assert file.read_at(10, 5) == bytes(range(10, 15))
        assert file.read_at(95, 50) == bytes(range(95, 100))
        assert file.read_at(100, 5) == b""
        mapping = file.map()
        assert bytes(mapping.view(10, 5)) == bytes(range(10, 15))
    assert bytes(mapping.buffer) == bytes(range(100)), "the map outlives the file"
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read_at(0, 1)


def test_a_short_read_is_continued(path, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, length, offset: pread(descriptor, min(length, 7), offset))
    assert read_whole(FILES, str(path)) == bytes(range(100))


def test_advice_changes_nothing(path):
    with FILES.open_to_read(str(path)) as file:
        for advise in (file.expect_random_reads, file.keep_atime, lambda: file.read_ahead([(0, 100)])):
            advise()
        assert file.read_at(0, 100) == bytes(range(100))


def test_a_file_that_is_not_local_has_plain_fallbacks(path):
    plain = OpenFile(FILES.status(str(path)))
    assert plain.map() is None
    assert (plain.expect_random_reads(), plain.read_ahead([(0, 1)]), plain.keep_atime()) == (None, None, None)


def test_a_file_closes_with_its_last_reference(path):
    file = FILES.open_to_read(str(path))
    descriptor = file._descriptor
    os.fstat(descriptor)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_status_of_what_there_is_and_is_not(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.utime(path, ns=(10**18, 2 * 10**18))
    status = FILES.status(str(path))
    assert status == FILES.status(str(tmp_path / "link"), follows_links=True)
    assert (status.is_file, status.is_folder, status.size_bytes, status.atime, status.mtime) == (
        True, False, 100, 1e9, 2e9
    )  # fmt: skip
    assert status.stamp == stat_source(str(path))
    assert FILES.status(str(tmp_path)).is_folder
    link = FILES.status(str(tmp_path / "link"))
    assert (link.is_file, link.is_folder) == (False, False)
    assert FILES.status(str(tmp_path / "dangling")) is not None
    for missing in ("dangling", "nowhere", "a/b"):
        assert FILES.status(str(tmp_path / missing), follows_links=True) is None


def test_a_scan_tells_files_from_folders_and_links(path, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(path)
    found = {item.name: (item.path, item.is_file, item.is_folder) for item in FILES.scan(str(tmp_path))}
    assert found == {
        "a": (str(path), True, False),
        "folder": (str(tmp_path / "folder"), False, True),
        "link": (str(tmp_path / "link"), False, False),
    }
    assert list(FILES.scan(str(tmp_path / "nowhere"))) == list(FILES.scan(str(path))) == []


def test_a_lock_is_seen_by_others_until_its_holder_ends(tmp_path):
    path = str(tmp_path / "locked")
    code = f"""
file = FileSystem().create({path!r})
say(FileSystem().try_lock(file))
sys.stdin.readline()
"""
    with start_python(code) as process:
        assert process.stdout.readline() == "True\n"
        assert FILES.is_locked(path)
        with open(path, "r+b") as file:
            assert not FILES.try_lock(file)
        process.kill()
        process.wait(30)
    assert not FILES.is_locked(path)


def test_appended_bytes_are_there_at_once(tmp_path):
    with FILES.create(str(tmp_path / "log")) as file:
        for number in range(3):
            FILES.append(file, b"line\n" * number)
            assert read_whole(FILES, str(tmp_path / "log")) == b"line\n" * (number * (number + 1) // 2)


def test_a_folder_that_is_removed_while_it_is_created_is_missing_and_not_in_the_way(tmp_path, monkeypatch):
    """``os.makedirs`` asks whether an existing path is a folder after ``mkdir`` has failed on it."""
    folder = tmp_path / "locks"
    is_folder = os.path.isdir

    def look_too_late(path):
        if is_folder(folder):
            folder.rmdir()
        return is_folder(path)

    folder.mkdir()
    monkeypatch.setattr(os.path, "isdir", look_too_late)
    with pytest.raises(FileNotFoundError, match="removed while it was created"):
        FileSystem().make_folders(str(folder))
    FileSystem().make_folders(str(folder))
    assert folder.exists()


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "locks").write_text("")
    with pytest.raises(FileExistsError):
        FileSystem().make_folders(str(tmp_path / "locks"))
