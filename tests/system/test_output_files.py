"""Output files: whole under their name or not there, on systems with and without files that have no name."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from kit.forking import in_fork

from ndframes.errors import OutputError
from ndframes.system.output import PendingFile, write_atomically

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no files without names")


@pytest.fixture(params=["unnamed", "named", "unlinkable"])
def system(request, monkeypatch):
    """A system with such files, without, and one that makes them but gives them no name later."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif request.param == "unlinkable":
        monkeypatch.setattr(os, "link", lambda *_, **__: os.stat("/nowhere"))
    return request.param


def test_a_file_appears_when_it_is_complete(tmp_path, system):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        assert os.path.dirname(file.name) == str(tmp_path)
        if system != "named" and sys.platform == "linux":
            assert os.listdir(tmp_path) == ["a.txt"]

    write_atomically(str(path), write)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]
    other = tmp_path / "b.txt"
    other.write_text("")
    assert path.stat().st_mode == other.stat().st_mode


def test_after_an_error_nothing_is_left(tmp_path, system):
    def fail(file):
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(str(tmp_path / "a.txt"), fail)
    with pytest.raises(OutputError, match="there is no folder"):
        write_atomically(str(tmp_path / "none" / "a.txt"), fail)
    pending = PendingFile(str(tmp_path / "a.txt"))
    pending.file.write(b"half")
    del pending
    gc.collect()
    assert os.listdir(tmp_path) == []


def test_the_file_behind_a_link_is_replaced(tmp_path, system):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(str(tmp_path / "link"), lambda file: file.write(b"new"))
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_the_file_can_be_read_before(tmp_path, system):
    pending = PendingFile(str(tmp_path / "a.txt"))
    pending.file.write(b"text")
    pending.file.flush()
    with open(pending.path, "rb") as file:
        assert file.read() == b"text"
    if sys.platform == "linux":
        pending.hide()
        assert os.listdir(tmp_path) == []
        with open(pending.path, "rb") as file:
            assert file.read() == b"text"
    pending.discard()
    assert os.listdir(tmp_path) == []


@on_linux
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_removes_nothing(tmp_path, system):
    pending = PendingFile(str(tmp_path / "a.txt"))
    pending.file.write(b"text")
    pending.file.flush()
    in_fork(lambda: pending.discard() is None)
    pending.publish()
    assert (tmp_path / "a.txt").read_text() == "text"
