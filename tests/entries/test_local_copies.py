"""Copies of objects on this machine: they are removed in any case, also those of processes that were killed."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from kit.forking import in_fork
from kit.static_files import StaticFiles
from kit.waiting import wait_until

import ndframes as nf
from ndframes.entries.local_copy import local_copy
from ndframes.errors import CacheFullError, SourceChangedError
from ndframes.system.files import FileSystem
from ndframes.system.objects.access import SourceAccess
from ndframes.system.objects.rules import SourceRules

PIXELS = np.random.default_rng(3).integers(0, 256, (3000, 3000, 3), np.uint8)


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", PIXELS)
    os.utime(folder / "a.tif", (1e9, 1e9))
    with StaticFiles(folder) as found:
        yield found


def copies(workdir):
    folder = Path(workdir) / "ndframes-cache" / "tmp"
    return [item.name for item in folder.iterdir()] if folder.exists() else []


def test_a_file_is_its_own_copy_and_an_object_gets_one(site, tmp_path):
    cache = nf.Cache(tmp_path / "work")
    access = SourceAccess(SourceRules.of(site.url))
    path = str(tmp_path / "site" / "a.tif")
    with local_copy(path, access.stamp(path), cache, access) as copy:
        assert copy == (path, access.stamp(path), False)
    url = f"{site.url}/a.tif"
    with local_copy(url, access.stamp(url), cache, access) as copy:
        assert copy.is_copy
        assert copy.path.endswith(".part.tif")
        assert Path(copy.path).read_bytes() == Path(path).read_bytes()
        assert FileSystem().is_locked(copy.path)
        cache.gc()
        assert os.path.exists(copy.path)
    assert copies(tmp_path / "work") == []
    copied = local_copy(url, access.stamp(url), cache, access)
    with pytest.raises(SourceChangedError, match=f"{url} is odd"), copied as copy:
        raise SourceChangedError(f"{copy.path} is odd")
    assert copies(tmp_path / "work") == []


@pytest.mark.parametrize("moment", ["first range", "second range", "last look"])
def test_a_killed_process_leaves_a_copy_that_the_next_one_removes(site, tmp_path, moment):
    reached = threading.Event()
    release = threading.Event()

    def hold(_):
        gets = sum(method == "GET" for method, *_ in site.requests)
        looks = sum(method == "HEAD" for method, *_ in site.requests)
        if {"first range": gets == 1, "second range": gets == 2, "last look": looks == 3}[
            moment
        ] and not reached.is_set():
            reached.set()
            release.wait(60)

    site.hook = hold
    url = f"{site.url}/a.tif"
    code = (
        "import ndframes as nf, sys\n"
        "nf.SimpleFrames({'x': sys.argv[1]}, sources=[sys.argv[1]], workdir=sys.argv[2], backend='npy').load_region('x')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, url, str(tmp_path / "work")])
    try:
        assert reached.wait(120)
        if moment != "first range":
            wait_until(lambda: copies(tmp_path / "work"))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        release.set()
    site.hook = None
    left = copies(tmp_path / "work")
    assert bool(left) == (moment != "first range")
    frames = nf.SimpleFrames({"x": url}, sources=[url], workdir=tmp_path / "work", backend="npy")
    np.testing.assert_array_equal(frames.load_image("x"), PIXELS)
    assert copies(tmp_path / "work") == []


def test_a_disk_without_room_is_told_before_anything_is_fetched(site, tmp_path, monkeypatch):
    url = f"{site.url}/a.tif"
    frames = nf.SimpleFrames({"x": url}, sources=[url], workdir=tmp_path / "work", backend="npy")
    with monkeypatch.context() as patch:
        patch.setattr(FileSystem, "free_bytes", lambda *_: 1_000_000)
        with pytest.raises(CacheFullError, match="image 'x': .* has 1,000,000 bytes left"):
            frames.load_image("x")
    assert {method for method, *_ in site.requests} == {"HEAD"}
    with monkeypatch.context() as patch:

        def fail(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("ndframes.system.objects.transfers.os.pwrite", fail)
        with pytest.raises(CacheFullError, match="image 'x': .*No space left"):
            frames.load_image("x")
    assert copies(tmp_path / "work") == []
    np.testing.assert_array_equal(frames.load_image("x"), PIXELS)


def test_a_copy_in_place_of_an_entry_lives_as_long_as_its_reader(site, tmp_path, monkeypatch):
    """Whose entry cannot be written is read by a copy; a forked child does not remove it."""
    np.save(tmp_path / "site" / "b.npy", PIXELS[:100])
    os.utime(tmp_path / "site" / "b.npy", (1e9, 1e9))
    url = f"{site.url}/b.npy"
    frames = nf.SimpleFrames({"x": url}, sources=[url], workdir=tmp_path / "work", backend="cog")
    monkeypatch.setattr("ndframes.entries.opener.ChannelOpener._is_given_up", lambda *_: True)
    np.testing.assert_array_equal(frames.load_image("x"), PIXELS[:100])
    [name] = copies(tmp_path / "work")

    def check():
        is_equal = np.array_equal(frames.load_image("x"), PIXELS[:100])
        frames.refresh()
        gc.collect()
        return is_equal and copies(tmp_path / "work") == [name]

    in_fork(check, seconds=60)
    np.testing.assert_array_equal(frames.load_region("x", np.s_[5:50]), PIXELS[5:50])
    frames.refresh()
    gc.collect()
    assert copies(tmp_path / "work") == []
