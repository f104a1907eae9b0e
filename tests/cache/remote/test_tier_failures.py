"""A local tier on a full disk, a disk that can only be read, and in the folder of another user: the crops are right, the log tells it once."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from kit.forking import in_fork
from kit.limits import run_limited
from kit.tiers import DictStore, commit_files, data_files, is_whole, photograph, wait_whole

import ndframes as nf
from ndframes.cache.remote.tier_folder import TierFolder

SHAPE = (320, 448)
RAW = {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}}
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and change users")


@pytest.fixture(scope="module")
def array():
    return photograph(*SHAPE)


@pytest.fixture(scope="module")
def folder():
    """A folder that other users may search."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def image(folder, array):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


@pytest.fixture(scope="module")
def store(image):
    frames = nf.SimpleFrames({"a": image}, workdir=f"memory://{uuid.uuid4().hex}", backend=RAW)
    frames.prepare()
    return DictStore(frames.cache.store)


@pytest.fixture
def make(image, store, at_rest, monkeypatch):
    """Frames as another process would have them, over the objects in memory."""
    monkeypatch.setattr("ndframes.cache.remote.cache.connect_store", lambda url: store)
    workdir = store.url.removesuffix("/ndframes-cache")

    def make(tier, **options):
        return nf.SimpleFrames({"a": image}, workdir=workdir, tile_bytes=0, backend=RAW, local_tier=tier, **options)

    return make


@pytest.fixture
def tier(folder):
    path = folder / uuid.uuid4().hex
    path.mkdir()
    return path


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def read_all(frames, array):
    for _ in range(2):
        np.testing.assert_array_equal(frames.load_image("a"), array)
        for scale in (0.5, 0.25, 0.125):
            frames.load_region("a", np.s_[:], scale=scale)
    return True


@pytest.mark.parametrize("limit", [1000, 300_000], ids=["before the commit", "before the file"])
def test_a_limit_of_the_length_of_files(make, tier, array, limit, caplog):
    def check():
        frames = make(tier)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        read_all(frames, array)
        assert len(warnings_of(caplog)) == 1
        assert "is not written for a while" in caplog.text
        assert os.strerror(errno.EFBIG) in caplog.text
        return True

    in_fork(check)
    assert [path.name for path in tier.rglob("*.new")] == []
    read_all(make(tier), array)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk(make, tier, array, error, caplog, monkeypatch):
    frames = make(tier)
    frames.load_region("a", np.s_[:64])

    def fail(*args):
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr("ndframes.cache.remote.tier_folder.os.pwrite", fail)
        read_all(frames, array)
    assert len(warnings_of(caplog)) == 1
    assert os.strerror(error) in caplog.text
    # It is tried again later, and what was there is used.
    fetched = frames.cache.files._store.fetched
    frames.load_region("a", np.s_[:64])
    assert frames.cache.files._store.fetched == fetched


def test_it_is_written_again_after_a_while(tmp_path):
    folder = TierFolder(tmp_path, pause_seconds=0.0)
    folder.pause(OSError(errno.ENOSPC, "full"))
    assert not folder.is_paused
    folder = TierFolder(tmp_path)
    folder.pause(OSError(errno.ENOSPC, "full"))
    assert folder.is_paused


@pytest.fixture
def small_disk(tier):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tier)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no right to mount")
    yield tier
    subprocess.run(["umount", "-l", str(tier)], check=True)


@needs_root
def test_a_full_disk(make, small_disk, array, caplog):
    frames = make(small_disk)
    read_all(frames, array)
    assert len(warnings_of(caplog)) == 1
    assert os.strerror(errno.ENOSPC) in caplog.text
    (path,) = data_files(small_disk)
    assert not is_whole(path)
    fetched = frames.cache.files._store.fetched
    fresh = make(small_disk)
    read_all(fresh, array)
    assert 0 < frames.cache.files._store.fetched - fetched < fetched


@needs_root
def test_a_limit_within_a_small_disk(make, small_disk, array, caplog):
    read_all(make(small_disk, tier_bytes="200kB"), array)
    assert warnings_of(caplog) == []


@needs_root
def test_a_disk_that_can_only_be_read(make, tier, array, caplog):
    make(tier).load_region("a", np.s_[:128])
    if subprocess.run(
        ["mount", "--bind", "-o", "ro", str(tier), str(tier)], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount")
    try:
        frames = make(tier)
        fetched = frames.cache.files._store.fetched
        np.testing.assert_array_equal(frames.load_region("a", np.s_[:128]), array[:128])
        assert frames.cache.files._store.fetched == fetched
        assert warnings_of(caplog) == []
        read_all(frames, array)
        assert len(warnings_of(caplog)) <= 1
    finally:
        subprocess.run(["umount", "-l", str(tier)], check=True)


@needs_root
@pytest.mark.parametrize("whole", [False, True])
def test_the_folder_of_another_user(make, tier, array, whole, caplog):
    """What is there is read; nothing can be written."""
    ours = make(tier)
    ours.load_region("a", np.s_[:128])
    if whole:
        read_all(ours, array)
        wait_whole(tier)
    theirs = make(tier)
    fetched = theirs.cache.files._store.fetched

    def check():
        os.setuid(NOBODY)
        np.testing.assert_array_equal(theirs.load_region("a", np.s_[:128]), array[:128])
        assert theirs.cache.files._store.fetched == fetched
        read_all(theirs, array)
        assert len(warnings_of(caplog)) <= 1
        assert theirs.cache.clear_tier() > 0
        return True

    in_fork(check)
    assert len(data_files(tier)) == len(commit_files(tier)) == 1


@needs_root
def test_files_that_others_may_not_read(make, tier, array, caplog):
    make(tier).load_region("a", np.s_[:128])
    for path in [*data_files(tier), *commit_files(tier)]:
        path.chmod(0o600)
    theirs = make(tier)

    def check():
        os.setuid(NOBODY)
        read_all(theirs, array)
        assert len(warnings_of(caplog)) == 1
        return True

    in_fork(check)


def test_few_descriptors(tmp_path):
    """Files of the tier are closed when the process runs out of descriptors, as those of a cache on a disk are."""
    code = """
    import sys
    from pathlib import Path
    import numpy as np
    import ndframes as nf
    folder = Path(sys.argv[1])
    array = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    np.save(folder / "a.npy", array)
    sources = {number: folder / "a.npy" for number in range(1)}
    for number in range(60):
        np.save(folder / f"{number}.npy", array + np.uint8(number))
        sources[number] = folder / f"{number}.npy"
    nf.SimpleFrames(sources, workdir="memory://few").prepare()
    for _ in range(2):
        frames = nf.SimpleFrames(sources, workdir="memory://few", local_tier=folder / "tier", tile_bytes=0)
        for _ in range(2):
            for number in sources:
                assert (frames.load_image(number) == array + np.uint8(number)).all()
    print(len(list((folder / "tier").rglob("*.data"))))
    """
    assert int(run_limited(code, 50, str(tmp_path))) == 60
