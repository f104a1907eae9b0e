"""FileHandle: reads by position of the file that the stamp names."""

from __future__ import annotations

import gc
import os

import pytest

from ndframes.errors import SourceChangedError, SourceError, SourceKindError, SourceMissingError
from ndframes.system.handles import FileHandle
from ndframes.system.stamp import stat_source


def test_a_file_is_read_by_position(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    file = FileHandle(str(path))
    assert file.stamp == stat_source(str(path))
    buffer = bytearray(4)
    for offset in (6, 0, 3):
        file.read_into(memoryview(buffer), offset)
        assert buffer == b"0123456789"[offset : offset + 4]
    for offset in (7, 10, 99):
        with pytest.raises(EOFError, match=f"expected 4 bytes at {offset}, but the file ends before"):
            file.read_into(memoryview(buffer), offset)
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read_into(memoryview(buffer), 0)


def test_a_collected_file_is_closed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    file = FileHandle(__file__)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del file
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_the_file_of_the_stamp_opens(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    stamp = stat_source(str(path))
    FileHandle(str(path), stamp).close()
    (tmp_path / "link").hardlink_to(path)
    FileHandle(str(tmp_path / "link"), stamp).close()
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "new").write_bytes(b"9876543210")
    (tmp_path / "new").replace(path)
    for change in (lambda: None, path.unlink, lambda: os.mkfifo(path), lambda: (path.unlink(), path.mkdir())):
        change()
        with pytest.raises(SourceChangedError, match="a.bin was replaced or removed since it was opened"):
            FileHandle(str(path), stamp)
    assert len(os.listdir("/proc/self/fd")) == before


def test_other_kinds_of_files_do_not_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, error in (
        ("no", SourceMissingError),
        ("", SourceKindError),
        ("fifo", SourceKindError),
        ("a\0", SourceError),
    ):
        with pytest.raises(error):
            FileHandle(f"{tmp_path}/{name}")
