"""The limit of a local tier: what is removed, when, and by whom."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest
from kit.forking import in_fork
from kit.tiers import commit_files, data_files, photograph, tier_frames

import ndframes as nf
from ndframes.cache.remote import tier_folder
from ndframes.cache.remote.tier_copy import SparseFile
from ndframes.cache.remote.tier_folder import TierFolder

RAW = {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}}
COUNT = 12
SHAPE = (256, 256)
ENTRY_BYTES = 256 * 256 * 3


@pytest.fixture(scope="module")
def arrays():
    return {number: photograph(*SHAPE, seed=number) for number in range(COUNT)}


@pytest.fixture(scope="module")
def images(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("source")
    for number, array in arrays.items():
        np.save(folder / f"{number}.npy", array)
    return {number: folder / f"{number}.npy" for number in arrays}


@pytest.fixture
def workdir(images):
    url = f"memory://{uuid.uuid4().hex}"
    nf.SimpleFrames(images, workdir=url, backend=RAW).prepare()
    return url


@pytest.fixture
def tier(tmp_path):
    return tmp_path / "tier"


@pytest.fixture
def make(images, workdir, tier, at_rest):
    return lambda **options: tier_frames(images, workdir, tier, backend=RAW, **options)[0]


def disk_bytes(tier):
    return sum(path.stat().st_blocks * 512 for path in [*data_files(tier), *commit_files(tier)])


def set_used(tier, seconds):
    """Let each entry have been used at another time; return the names of the entries, the one used longest ago first."""
    names = [path.name.split(".")[0] for path in data_files(tier)]
    for place, name in enumerate(names):
        for path in tier.glob(f"ndframes-tier/v1/??/{name}*"):
            os.utime(path, (time.time() - seconds + place,) * 2)
    return names


def test_what_was_used_longest_ago_is_removed(make, tier, arrays):
    """One entry is added, and the oldest ones go until all others take 85 % of the limit."""
    frames = make()
    for number in range(COUNT - 1):
        frames.load_image(number)
    names = set_used(tier, 1000)
    limit = disk_bytes(tier)
    limited = make(tier_bytes=limit)
    np.testing.assert_array_equal(limited.load_image(COUNT - 1), arrays[COUNT - 1])
    left = [name for name in names if any(path.name.startswith(name) for path in data_files(tier))]
    assert left == names[-len(left) :]
    assert 0.65 * limit < disk_bytes(tier) <= limit
    # No commit stays without its file, nor the reverse.
    assert {path.name.split(".")[0] for path in commit_files(tier)} == {
        path.name.split(".")[0] for path in data_files(tier)
    }
    for number, array in arrays.items():
        np.testing.assert_array_equal(limited.load_image(number), array)
        assert disk_bytes(tier) <= limit + ENTRY_BYTES // 4


def test_opening_an_entry_is_a_use(make, tier, arrays):
    frames = make()
    for number in range(COUNT - 1):
        frames.load_image(number)
    names = set_used(tier, 1000)
    (oldest,) = [path for path in data_files(tier) if path.name.startswith(names[0])]
    fresh = make(tier_bytes=disk_bytes(tier))
    for number in range(COUNT - 1):  # which of them has the oldest file is not known
        fresh.load_region(number, np.s_[:1, :1])
        if time.time() - oldest.stat().st_atime < 500:
            break
    fresh.load_image(COUNT - 1)
    assert oldest.exists()


def test_a_long_read_is_a_use(make, tier, arrays, monkeypatch):
    frames = make()
    frames.load_image(0)
    (path,) = data_files(tier)
    touched = []
    monkeypatch.setattr(SparseFile, "touch", lambda file, touch=SparseFile.touch: (touched.append(1), touch(file)))
    frames.load_region(0, np.s_[:10])
    assert touched == []  # not more often than once a minute
    os.utime(path, (time.time() - 1000,) * 2)
    mtime = path.stat().st_mtime
    monkeypatch.setattr("ndframes.cache.remote.tier_copy.time.monotonic", lambda now=time.monotonic: now() + 61)
    for _ in range(2):
        frames.load_region(0, np.s_[:10])
    assert touched == [1]
    assert time.time() - path.stat().st_atime < 500
    assert path.stat().st_mtime == mtime


def test_an_entry_that_is_larger_than_the_limit(make, tier, arrays):
    """It is read over the network as far as it does not fit, and others take its place."""
    limit = ENTRY_BYTES // 2
    frames = make(tier_bytes=limit)
    for number in (0, 1):
        for _ in range(2):
            np.testing.assert_array_equal(frames.load_image(number), arrays[number])
        assert disk_bytes(tier) < limit + ENTRY_BYTES // 2


def test_a_limit_of_nothing(make, tier, arrays):
    frames = make(tier_bytes=0)
    for number, array in arrays.items():
        np.testing.assert_array_equal(frames.load_image(number), array)
    assert disk_bytes(tier) < 2 * ENTRY_BYTES


def test_an_entry_that_is_removed_under_its_reader(make, tier, arrays):
    frames = make()
    frames.load_region(0, np.s_[:128])
    for path in data_files(tier):
        path.unlink()
    np.testing.assert_array_equal(frames.load_image(0), arrays[0])
    (path,) = data_files(tier)
    fresh = make()
    np.testing.assert_array_equal(fresh.load_image(0), arrays[0])
    assert disk_bytes(tier) > 0.4 * ENTRY_BYTES


def test_only_one_process_removes(tmp_path):
    folder = TierFolder(tmp_path)
    folder.create_data(folder.names_of("a", "0" * 32), 10, b"")
    code = f"""
import sys
from pathlib import Path
from ndframes.cache.remote.tier_folder import TierFolder
with TierFolder(Path({str(tmp_path)!r})).collecting() as is_mine:
    print(is_mine, flush=True)
    sys.stdin.readline()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        with folder.collecting() as is_mine:
            assert not is_mine
        process.kill()
    with folder.collecting() as is_mine:
        assert is_mine
        with folder.collecting() as is_mine_too:  # a thread of the same process
            assert not is_mine_too


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    folder = TierFolder(tmp_path)
    folder.create_data(folder.names_of("a", "0" * 32), 10, b"")
    ours, theirs = os.pipe()
    with folder.collecting() as is_mine:
        assert is_mine
        child = os.fork()
        if not child:
            os.close(theirs)
            os.read(ours, 1)
            os._exit(0)
    os.close(ours)

    def other_process_may():
        with TierFolder(tmp_path).collecting() as may:
            return may

    in_fork(other_process_may)
    os.close(theirs)
    os.waitpid(child, 0)


@pytest.mark.parametrize("mark", [None, "", '{"layout": 2}', "[]"])
def test_nothing_is_removed_without_the_mark_of_this_layout(make, tier, mark):
    frames = make()
    for number in range(COUNT):
        frames.load_image(number)
    path = tier / "ndframes-tier" / "ndframes-tier.json"
    path.unlink() if mark is None else path.write_text(mark)
    before = data_files(tier)
    folder = TierFolder(tier)
    with folder.collecting() as is_mine:
        assert not is_mine
    assert data_files(tier) == before


def test_files_of_killed_writers_are_removed_with_their_entry(make, tier, arrays):
    frames = make()
    frames.load_image(0)
    (path,) = data_files(tier)
    left = path.with_name(path.name.split(".")[0] + "." + "f" * 32 + ".new")
    left.write_bytes(b"\1" * 100_000)
    orphan = path.with_name("e" * 32 + "." + "f" * 32 + ".new")
    orphan.write_bytes(b"\1" * 100_000)
    stranger = path.with_name("notes.new")
    stranger.write_text("")
    set_used(tier, 1000)
    os.utime(orphan, (0, 0))
    os.utime(left, (0, 0))
    make(tier_bytes=ENTRY_BYTES).load_image(1)
    assert not left.exists()
    assert not orphan.exists()
    assert stranger.exists()


def test_a_folder_that_is_being_emptied(tmp_path, monkeypatch):
    folder = TierFolder(tmp_path)
    names = folder.names_of("a", "0" * 32)
    folder.create_data(names, 10, b"")

    class Gone:
        name, path = os.path.basename(names.data), names.data

        def stat(self, *, follow_symlinks):
            raise FileNotFoundError

    monkeypatch.setattr(
        tier_folder.os,
        "scandir",
        lambda path, real=os.scandir: [Gone()] if path.endswith(names.entry[:2]) else real(path),
    )
    assert [entry.disk_bytes for entry in folder.list_entries()] == [0]
