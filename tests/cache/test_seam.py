"""The seam: the cache touches files only through a ``FileSystem``, so a storage without folders can take its place."""

from __future__ import annotations

import ast
import errno
import io
import itertools
import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from kit.entries import entry_bytes, fields_of, key_of

import ndframes
from ndframes.cache.cache import Cache
from ndframes.entries.bytes import EntryBytes
from ndframes.system.files import FileItem, FileStatus, FileSystem, OpenFile
from ndframes.system.handles import HandlePool
from ndframes.system.stamp import SourceStamp

PACKAGE = Path(ndframes.__file__).parent
MODULES = [*sorted((PACKAGE / "cache").glob("*.py")), PACKAGE / "entries" / "bytes.py"]
#: What these modules may use of ``os``: names, not files.
OS_NAMES = {"PathLike", "environ", "fsdecode", "fsencode", "fspath", "getpid", "kill", "sep"}
OS_PATH_NAMES = {"basename", "dirname", "expanduser", "join", "split"}
FILE_MODULES = {"fcntl", "filelock", "glob", "io", "mmap", "shutil", "tempfile"}
PATH_METHODS = {
    name
    for name in vars(Path)
    if name.startswith(("is_", "read", "write", "sym", "hard", "iter", "unlink", "mk", "rm", "chmod", "lchmod"))
} | {"exists", "glob", "lstat", "open", "rename", "resolve", "rglob", "samefile", "stat", "touch", "expanduser"}
PATH_METHODS -= {"is_absolute", "is_relative_to", "is_reserved"}


def file_accesses(tree: ast.Module) -> list[str]:
    """Each place that touches a file other than by the seam."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in FILE_MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [str(node.module)] if node.module in {*FILE_MODULES, "os"} else []
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if (owner == "os" and node.attr not in {*OS_NAMES, "path"}) or (
                owner == "os.path" and node.attr not in OS_PATH_NAMES
            ):
                found.append(f"{owner}.{node.attr}")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            owner, _, name = called.rpartition(".")
            is_seam = owner.split(".")[-1] in ("files", "_files")
            if called == "open" or (owner not in ("", "os.path") and name in PATH_METHODS and not is_seam):
                found.append(called)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_touches_files_by_itself(module):
    assert file_accesses(ast.parse(module.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    ["open(path)", "os.stat(path)", "os.path.exists(path)", "path.read_text()", "import mmap", "from os import stat",
     "(root / name).is_file()", "self.path.unlink()"],
)  # fmt: skip
def test_the_check_finds(code):
    assert file_accesses(ast.parse(code))


# -- a storage of objects ---------------------------------------------------------------------------------------------


class MemoryFile(OpenFile):
    """An object that is read by ranges; it cannot be mapped, and takes no advice."""

    def __init__(self, status, data):
        super().__init__(status)
        self.data = data

    def read_at(self, offset, length):
        return self.data[offset : offset + length]

    def close(self):
        pass


class Upload(io.BytesIO):
    """An object that is being written."""

    def __init__(self, name):
        super().__init__()
        self.name = name


class ObjectStore(FileSystem):
    """A flat namespace in memory: no folders, no links, no permissions; a file is visible while it is written."""

    def __init__(self):
        self.objects = {}
        self.times = {}
        self.locked = set()
        self.versions = itertools.count(1)

    def _put(self, path, content):
        self.objects[path] = content
        self.times[path] = (time.time_ns(), time.time_ns(), next(self.versions))

    def _data(self, path):
        content = self.objects[path]
        return content.getvalue() if isinstance(content, Upload) else content

    def make_folders(self, path):
        pass

    def create(self, path):
        if path in self.objects:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        file = Upload(path)
        file.close = lambda: self.objects.__contains__(path) and self._put(path, file.getvalue())
        self._put(path, file)
        return file

    def append(self, file, data):
        file.write(data)

    def scratch(self, folder, room_bytes=0):
        return io.BytesIO()

    def sync_file(self, file):
        pass

    def sync_folder(self, path):
        pass

    def make_read_only(self, path):
        pass

    def link_or_replace(self, temporary, final):
        if final in self.objects:
            return False
        self._put(final, self._data(temporary))
        return True

    def move(self, path, target):
        self._put(target, self.objects.pop(path))

    def remove(self, path):
        self.locked.discard(path)
        return self.objects.pop(path, None) is not None

    def touch(self, path, atime_ns, mtime_ns):
        self.times[path] = (atime_ns, mtime_ns, self.times[path][2])

    def try_lock(self, file):
        self.locked.add(file.name)
        return True

    def is_locked(self, path):
        return path in self.locked

    def lock(self, path, *, seconds, poll_seconds=0.05):
        return nullcontext()

    def open_to_read(self, path):
        if path not in self.objects:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return MemoryFile(self.status(path), self._data(path))

    def status(self, path, *, follows_links=False):
        if path in self.objects:
            size = len(self._data(path))
            atime_ns, mtime_ns, version = self.times[path]
            stamp = SourceStamp(0, version, size, mtime_ns, 0)
            return FileStatus(True, False, size, mtime_ns / 1e9, atime_ns / 1e9, stamp)
        if any(name.startswith(path.rstrip("/") + "/") for name in self.objects) or path == "/":
            return FileStatus(False, True, 0, 0.0, 0.0, SourceStamp(0, 0, 0, 0, 0))
        return None

    def scan(self, folder):
        names = {name[len(folder) + 1 :].partition("/")[::2] for name in self.objects if name.startswith(folder + "/")}
        for name, rest in sorted({(name, bool(rest)) for name, rest in names}):
            yield FileItem(name, f"{folder}/{name}", not rest, rest)

    def can_map(self, path):
        return False

    def free_bytes(self, path):
        return 10**12


def put(cache, source, state=0, size=1000):
    data = entry_bytes(source, state, payload_bytes=size, meta={"key": fields_of(source, state), "layout": {}})
    return cache.publish(key_of(source, state), lambda file: file.write(data), estimated_bytes=len(data))


@pytest.fixture
def cache(tmp_path):
    """A cache of objects under a path that does not exist on this disk, and never will."""
    cache = Cache(tmp_path / "work", files=ObjectStore())
    yield cache
    assert list(tmp_path.iterdir()) == []


def test_entries_are_objects(cache):
    path, is_new = put(cache, 1)
    assert is_new
    assert put(cache, 1) == (path, False)
    assert cache.find(key_of(1)) == path
    assert cache.find(key_of(2)) is None
    put(cache, 1, state=1)
    put(cache, 2)
    assert {entry.key for entry in cache.ls()} == {key_of(1), key_of(1, state=1), key_of(2)}
    assert len(cache.ls_forms(key_of(1).source_id)) == 2
    cache.check_marks()


def test_their_segments_are_read_by_ranges(cache):
    path, _ = put(cache, 1, size=5000)
    segments = EntryBytes(str(path), key_of(1), cache.files, HandlePool(), "first-touch")
    assert not segments.is_mapped
    data = entry_bytes(1, payload_bytes=5000)
    assert segments.read(0) + segments.read(1) == data[:5000]
    assert [bytes(piece) for piece in segments.read_run(range(2))] == [data[:128], data[128:5000]]
    segments.check_everything()


def test_they_are_verified_and_repaired(cache):
    path, _ = put(cache, 1)
    put(cache, 2)
    assert cache.verify(read_data=True).checked == 2
    damaged = bytearray(cache.files.objects[str(path)])
    damaged[7] ^= 1
    cache.files.objects[str(path)] = bytes(damaged)
    report = cache.verify(read_data=True, repair=True)
    assert (len(report.bad), report.repaired) == (1, 1)
    assert cache.stat().quarantined == 1
    assert cache.verify(read_data=True).ok


def test_they_are_collected_and_leases_hold(cache):
    for state in range(3):
        put(cache, 1, state)
    put(cache, 2)
    other = Cache(cache.workdir, files=cache.files)
    other.hold([key_of(2)])
    (lease,) = (name for name in cache.files.objects if "/leases/" in name)
    host, pid, _ = os.path.basename(lease).rsplit("-", 2)
    as_of_another = lease.replace(f"{host}-{pid}", f"elsewhere-{pid}")
    cache.files.move(lease, as_of_another)
    cache.files.locked.add(as_of_another)
    assert cache.stat().leased == 1
    assert (cache.gc().removed, cache.gc().removed) == (2, 0)
    assert (cache.clear().removed, cache.stat().entries) == (1, 1)


def test_a_budget_is_kept(cache):
    size = len(entry_bytes(0, meta={"key": fields_of(0), "layout": {}}))
    small = Cache(cache.workdir, files=cache.files, max_bytes=3 * size + 10)
    for source in range(10):
        put(small, source)
    assert small.stat().total_bytes <= 3 * size + 10
    assert small.find(key_of(9)) is not None
