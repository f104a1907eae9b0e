"""Folders that cannot hold a cache, and entries that cannot be opened: one message with a remedy."""

from __future__ import annotations

import errno
import logging
import os

import numpy as np
import pytest
from kit.entries import key_of

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.cache.failures import raise_as_cache_error
from ndframes.system.files import FileSystem
from ndframes.system.stamp import source_error

REMEDY = "choose another workdir, or backend=None to read sources directly"


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.uint8))
    return tmp_path / "a.npy"


@pytest.mark.parametrize("name", ["", "ndframes-cache"])
def test_a_link_that_leads_nowhere(source, tmp_path, name, caplog):
    (tmp_path / "work").mkdir()
    link = tmp_path / "work" / name if name else tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    frames = nf.SimpleFrames({"a": source}, workdir=tmp_path / "work" if name else link)
    with caplog.at_level(logging.INFO, "ndframes"), pytest.raises(nf.CacheError) as caught:
        frames.load_image("a")
    assert not isinstance(caught.value, nf.CacheEntryError)
    assert str(caught.value).endswith(f"cannot be written: {link} is a link to a folder that does not exist; {REMEDY}")
    assert caplog.text == ""


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc")
def test_a_folder_in_which_no_folder_can_be_created(source):
    with pytest.raises(nf.CacheError, match="cannot be written: .*/proc/nothing.*; choose another workdir"):
        nf.SimpleFrames({"a": source}, workdir="/proc/nothing").load_image("a")


def test_links_that_lead_to_each_other(source, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(nf.CacheError) as caught:
        nf.SimpleFrames({"a": source}, workdir=tmp_path / "loop").load_image("a")
    assert str(caught.value).endswith(f".tif cannot be read: Too many levels of symbolic links; {REMEDY}")
    assert caught.value.errno == errno.ELOOP


def test_a_folder_that_others_delete_is_still_another_case(tmp_path):
    class Deleted(FileSystem):
        def make_folders(self, path):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "work" / "gone" / "tmp"))

    with pytest.raises(nf.CacheEntryGoneError, match="is being deleted all the time"):
        Cache(tmp_path / "work", files=Deleted()).publish(key_of(1), lambda file: None, estimated_bytes=1)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EMFILE, "close some files, or raise their number (ulimit -n)"),
        (errno.ENOMEM, "free memory, or allow the process more (ulimit -v)"),
        (errno.EACCES, f"check the permissions of its folders, {REMEDY}"),
        (errno.EIO, REMEDY),
    ],
)
def test_an_entry_that_cannot_be_opened_is_named_once(code, remedy):
    error = OSError(code, os.strerror(code), "/work/a.tif")
    found = source_error("/work/a.tif", error)
    found.__cause__ = error
    for each in (error, found):
        with pytest.raises(nf.CacheError) as caught:
            raise_as_cache_error("/work/a.tif", each)
        assert str(caught.value) == f"/work/a.tif cannot be read: {os.strerror(code)}; {remedy}"
        assert caught.value.errno == code
        assert caught.value.__cause__ is each
