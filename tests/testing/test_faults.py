"""FaultyFileSystem: every operation can fail, in every way; functions that damage files."""

from __future__ import annotations

import errno
import io
import os
import pickle
import signal
import stat
from functools import partial

import numpy as np
import pytest

import ndframes as nf
from ndframes.system.files import FileSystem, LocalFile
from ndframes.testing.faults import (
    FaultyFileSystem,
    WatchedFileSystem,
    cut,
    flip_bit,
    zero,
)

OPERATIONS = [*(name for name in vars(FileSystem) if not name.startswith("_")), "read_at", "map"]


def call_all(files: FileSystem, folder: str) -> dict[str, object]:
    """Call every operation once; returns their results, or error numbers."""
    path, other, final = (os.path.join(folder, name) for name in ("a", "b", "c"))
    files.make_folders(folder)
    with open(path, "wb") as made:
        made.write(b"pixels")
    opened = []

    def open_to_read():
        opened.append(files.open_to_read(path))

    def read(kind):
        reader = opened[0] if opened else LocalFile(path)
        return reader.read_at(1, 3) if kind == "read_at" else bytes(reader.map().view(1, 3))

    with open(path, "r+b") as file:
        calls = {
            "make_folders": lambda: files.make_folders(os.path.join(folder, "d", "e")),
            "create": lambda: files.create(other).close(),
            "append": lambda: files.append(file, b"pixels"),
            "scratch": lambda: files.scratch(folder, 100).close(),
            "sync_file": lambda: files.sync_file(file),
            "sync_folder": lambda: files.sync_folder(folder),
            "make_read_only": lambda: files.make_read_only(path),
            "link_or_replace": lambda: files.link_or_replace(path, final),
            "move": lambda: files.move(final, final + "2"),
            "remove": lambda: files.remove(final + "2"),
            "touch": lambda: files.touch(path, 0, 0),
            "try_lock": lambda: files.try_lock(file),
            "is_locked": lambda: files.is_locked(path),
            "lock": lambda: files.lock(path + ".lock", seconds=1).__exit__(None, None, None),
            "open_to_read": open_to_read,
            "status": lambda: files.status(path).size_bytes,
            "scan": lambda: len(list(files.scan(folder))),
            "can_map": lambda: files.can_map(path),
            "free_bytes": lambda: files.free_bytes(folder) > 0,
            "read_at": lambda: read("read_at"),
            "map": lambda: read("map"),
        }
        outcomes: dict[str, object] = {}
        for name, call in calls.items():
            try:
                outcomes[name] = call()
            except OSError as error:
                outcomes[name] = error.errno
    return outcomes


class ListingFileSystem(WatchedFileSystem):
    def __init__(self):
        self.seen = []

    def before(self, operation, path):
        self.seen.append(operation)


def test_all_operations_are_watched(tmp_path):
    files = ListingFileSystem()
    outcomes = call_all(files, str(tmp_path / "x"))
    assert files.seen[1:] == OPERATIONS
    assert outcomes == call_all(FileSystem(), str(tmp_path / "y"))
    assert outcomes["read_at"] == outcomes["map"] == b"ixe"
    assert outcomes["is_locked"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_fails_alone(tmp_path, operation):
    files = FaultyFileSystem(operation, 2 if operation == "make_folders" else 1, "EDQUOT")
    outcomes = call_all(files, str(tmp_path))
    assert outcomes[operation] == errno.EDQUOT
    assert files.struck == operation
    dependents = {"link_or_replace": {"move"}} if operation == "link_or_replace" else {}
    failed = {name for name, outcome in outcomes.items() if isinstance(outcome, int) and outcome == errno.EDQUOT}
    assert failed == {operation}, dependents


def test_any_counts_all_operations(tmp_path):
    for number, name in enumerate(OPERATIONS, 2):  # call_all creates the folder first
        files = FaultyFileSystem("any", number, "EIO")
        assert call_all(files, str(tmp_path / str(number)))[name] == errno.EIO
    files = FaultyFileSystem("any", len(OPERATIONS) + 2, "EIO")
    call_all(files, str(tmp_path / "last"))
    assert not files.fired


def write_three(files, path, sizes=(100_000, 50_000, 60_000)):
    """Write pieces larger than any buffer, so that each reaches the system unchanged."""
    data = [np.random.default_rng(size).bytes(size) for size in sizes]
    with files.create(str(path)) as file:
        for piece in data:
            file.write(piece)
    return data


def test_a_short_write_is_continued(tmp_path):
    for nth in range(1, 6):
        files = FaultyFileSystem("write", nth, "short")
        assert (tmp_path / str(nth)).exists() is False
        data = write_three(files, tmp_path / str(nth))
        assert (tmp_path / str(nth)).read_bytes() == b"".join(data)
    assert not files.fired  # the fifth write: there are three, and one more after a short one


def test_a_lost_write_loses_its_second_half(tmp_path):
    files = FaultyFileSystem("write", 2, "lost")
    first, second, third = write_three(files, tmp_path / "a")
    assert files.fired
    assert (tmp_path / "a").read_bytes() == first + second[:25_000] + bytes(25_000) + third


@pytest.mark.parametrize(("is_lasting", "failures"), [(False, 1), (True, 3)])
def test_a_full_disk_stays_full(tmp_path, is_lasting, failures):
    files = FaultyFileSystem("write", 2, "ENOSPC", is_lasting=is_lasting)
    outcomes = []
    with open(tmp_path / "a", "w+b", buffering=0):
        pass
    for number in range(4):
        try:
            with files.create(str(tmp_path / f"file {number}")) as file:
                file.write(b"pixels")
        except OSError as error:
            outcomes.append((number, error.errno))
    assert outcomes == [(number, errno.ENOSPC) for number in range(1, 1 + failures)]
    files.mend()
    write_three(files, tmp_path / "repaired")


def test_scratch_files_are_watched(tmp_path):
    files = FaultyFileSystem("write", 1, "EIO")
    with pytest.raises(OSError, match="Input/output error"), files.scratch(str(tmp_path)) as file:
        file.write(b"tile")
    with files.scratch(str(tmp_path), 5000) as file:
        assert isinstance(file, io.BufferedRandom)
        assert os.fstat(file.fileno()).st_size == 5000
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_writes_half(tmp_path, fork_server):
    files = FaultyFileSystem("write", 2, "kill")
    result = fork_server.run(partial(write_three, files, tmp_path / "a"))[0]
    assert result.status == -signal.SIGKILL
    assert (tmp_path / "a").stat().st_size == 100_000 + 25_000


def test_a_kill_precedes_the_operation(tmp_path, fork_server):
    result = fork_server.run(partial(call_all, FaultyFileSystem("move", 1, "kill"), str(tmp_path)))[0]
    assert result.status == -signal.SIGKILL
    assert (tmp_path / "c").exists()
    assert not (tmp_path / "c2").exists()


def test_pickling_resets_the_count():
    files = FaultyFileSystem("write", 17, "ENOSPC", is_lasting=True)
    assert repr(files) == "FaultyFileSystem('write', 17, 'ENOSPC', is_lasting=True)"
    assert repr(FaultyFileSystem(kind="lost")) == "FaultyFileSystem('write', 1, 'lost')"
    used = FaultyFileSystem("status", 1)
    with pytest.raises(OSError, match="Input/output"):
        used.status(__file__)
    twin = pickle.loads(pickle.dumps(used))
    assert (used.fired, twin.fired) == (True, False)
    assert repr(twin) == repr(used)
    with pytest.raises(OSError, match="Input/output"):
        twin.status(__file__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rename", 1, "EIO"), "operation='rename'; allowed: any, write, make_folders"),
        (("any", 0, "EIO"), "nth=0"),
        (("any", 1, "ENOSUCH"), "kind='ENOSUCH'; allowed: kill, stop, short, lost"),
        (("create", 1, "short"), "is for writes only"),
    ],
)
def test_unknown_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FaultyFileSystem(*arguments)


def test_user_defined_frames_on_a_full_disk(tmp_path):
    class Scenes(nf.Frames):
        image_ids = ("a",)

        def build_pathinfo(self, image_id):
            return nf.PathInfo(image_id, (nf.ChannelInfo(tmp_path / "a.npy"),))

    array = np.arange(300, dtype=np.uint16).reshape(10, 30)
    np.save(tmp_path / "a.npy", array)
    frames = Scenes(workdir=tmp_path / "work")
    files = FaultyFileSystem("write", 1, "ENOSPC", is_lasting=True)
    frames.cache = nf.Cache(frames.cache.workdir, files=files)
    with pytest.raises(nf.CacheFullError, match="No space left"):
        frames.load_image("a")
    files.mend()
    np.testing.assert_array_equal(frames.load_image("a")[:, :, 0], array)


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path):
    """A read-only file, like an entry."""
    path = tmp_path / "entry"
    path.write_bytes(bytes(range(100)))
    os.utime(path, ns=(10**18, 10**18))
    path.chmod(0o444)
    return path


@pytest.mark.parametrize(
    ("damage", "content"),
    [
        (lambda path: flip_bit(path, 8 * 3 + 7), bytes([0, 1, 2, 0x83, *range(4, 100)])),
        (lambda path: flip_bit(path, -1), bytes([*range(99), 99 ^ 128])),
        (lambda path: cut(path, 10), bytes(range(10))),
        (lambda path: cut(path, -99), b"\0"),
        (lambda path: zero(path, 50, 10), bytes([*range(50), *[0] * 10, *range(60, 100)])),
        (lambda path: zero(path, 98, 4096), bytes([*range(98), 0, 0])),
    ],
)
def test_damage_changes_only_the_content(entry, damage, content):
    before = entry.stat()
    damage(entry)
    after = entry.stat()
    assert entry.read_bytes() == content
    assert (stat.S_IMODE(after.st_mode), after.st_mtime_ns, after.st_ino) == (0o444, 10**18, before.st_ino)
