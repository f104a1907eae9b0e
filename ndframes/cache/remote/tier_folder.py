"""TierFolder: the files of a local tier, their names, and whether they can be written now.

::

    <local_tier>/ndframes-tier/
        CACHEDIR.TAG                    for backup programs
        ndframes-tier.json              {"layout": 1}
        lock                            held by the process that removes entries
        v1/<xx>/<entry>.json            the commit of an entry, as in the store
        v1/<xx>/<entry>.<uuid>.data     its file: as long as in the store, with holes for what was not read yet
        v1/<xx>/<entry>.<uuid>.new      a file of either kind that is being created

``<entry>`` is a digest of the address of the entry, and ``<uuid>`` is in the name of its object: an entry that is made again has
another file. A file without holes is read-only. Files with other names are never read or removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ...system.files import FileSystem
from ...system.process import ForkAware

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["TierEntry", "TierFolder", "TierNames", "disk_bytes_of", "note_use", "write_at"]
_log = logging.getLogger("ndframes")
_FOLDER, _FILES, _MARK = "ndframes-tier", "v1", "ndframes-tier.json"
_LAYOUT = 1
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder has copies of entries of ndframes: it may be deleted at any time, and backups may leave it out.\n"
)
_SHARD = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"(?P<entry>[0-9a-f]{32})(?:\.json|\.[0-9a-f]{32}\.(?:data|new))")
# For how long a folder that could not be written is left alone.
_PAUSE_SECONDS = 60.0
_SECTOR_BYTES = 512
# Uses are recorded this often.
_USE_SECONDS = 60.0


class TierNames(NamedTuple):
    """The names of an entry in the tier.

    Attributes:
        entry: the beginning of all its names.
        stem: the same, with the folder.
        commit: the path of its commit.
        data: the path of its file.
    """

    entry: str
    stem: str
    commit: str
    data: str


@dataclass(slots=True)
class TierEntry:
    """What the tier has of one entry.

    Attributes:
        entry: the beginning of the names of its files.
        paths: the files.
        disk_bytes: what they take on the disk; holes take nothing.
        used: when one of them was last written or opened, in seconds since 1970.
    """

    entry: str
    paths: list[str] = field(default_factory=list)
    disk_bytes: int = 0
    used: float = 0.0


class TierFolder(ForkAware):
    """The folder of a local tier. Nothing is created before the first file.

    Args:
        local_tier: the user's folder.
        pause_seconds: for how long nothing is written after the disk was full, for example.

    Attributes:
        root: the tier's own folder in it.
    """

    def __init__(self, local_tier: Path, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self.root = str(local_tier / _FOLDER)
        self._pause_seconds = pause_seconds
        self._files = FileSystem()
        self._paused_until = 0.0
        self._has_warned = False
        self._has_marks = False
        self._lock = threading.Lock()
        ForkAware.__init__(self)

    def names_of(self, address: str, number: str) -> TierNames:
        """The names of an entry, by its address and the number in the name of its object."""
        entry = hashlib.blake2b(address.encode(), digest_size=16).hexdigest()
        stem = os.path.join(self.root, _FILES, entry[:2], entry)
        return TierNames(entry, stem, f"{stem}.json", f"{stem}.{number}.data")

    # -- writing ----------------------------------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether nothing is written now, because that has failed."""
        return time.monotonic() < self._paused_until

    def pause(self, error: OSError) -> None:
        """Write nothing for a while; the log tells why, once."""
        self._paused_until = time.monotonic() + self._pause_seconds
        had_warned, self._has_warned = self._has_warned, True
        if not had_warned:
            _log.warning(
                "the local tier %s is not written for a while, so crops come over the network: %s", self.root, error
            )

    def write_commit(self, names: TierNames, data: bytes) -> None:
        """Write the commit of an entry; one that exists is replaced."""
        with self._creating(names) as temporary:
            with self._files.create(temporary) as file:
                file.write(data)
            self._files.move(temporary, names.commit)

    def create_data(self, names: TierNames, size_bytes: int, tail: bytes) -> None:
        """Create the file of an entry, unless it exists. It has its length at once, and its last bytes.

        Nobody sees it shorter, not even if this process is killed. So a shorter one was cut by another program.
        """
        with self._creating(names) as temporary:
            with self._files.create(temporary) as file:
                os.ftruncate(file.fileno(), size_bytes)
                write_at(file.fileno(), size_bytes - len(tail), tail)
            self._files.link_or_replace(temporary, names.data)

    @contextmanager
    def _creating(self, names: TierNames) -> Iterator[str]:
        self._make(os.path.dirname(names.stem))
        temporary = f"{names.stem}.{uuid.uuid4().hex}.new"
        try:
            yield temporary
        finally:
            self._files.remove(temporary)

    def _make(self, folder: str) -> None:
        if not self._has_marks or not os.path.isdir(folder):
            self._files.make_folders(folder)
            for name, text in (("CACHEDIR.TAG", _TAG), (_MARK, json.dumps({"layout": _LAYOUT}) + "\n")):
                mark = os.path.join(self.root, name)
                if not os.path.exists(mark):
                    self._write_mark(mark, text)
            self._has_marks = True

    def _write_mark(self, mark: str, text: str) -> None:
        temporary = f"{mark}.{uuid.uuid4().hex}"
        try:
            with self._files.create(temporary) as file:
                file.write(text.encode())
            self._files.link_or_replace(temporary, mark)
        finally:
            self._files.remove(temporary)

    # -- removing ---------------------------------------------------------------------------------------------------

    def remove(self, path: str) -> None:
        """Remove a file, if it exists and may be removed. Who has it open goes on reading it."""
        try:
            self._files.remove(path)
        except OSError as error:  # another user's, or a disk that can only be read
            _log.info("%s could not be removed: %s", path, error)

    @contextmanager
    def collecting(self) -> Iterator[bool]:
        """Whether this thread may remove entries now: one thread of one process may, and the others do not wait."""
        if not self._lock.acquire(blocking=False):
            yield False
            return
        try:
            with self._locked() as is_mine:
                yield is_mine and self.is_known()
        finally:
            self._lock.release()

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        descriptor = os.open(
            os.path.join(self.root, "lock"), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666
        )
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def is_known(self) -> bool:
        """Whether the folder bears the mark of this layout."""
        try:
            with open(os.path.join(self.root, _MARK), encoding="utf-8") as file:
                return bool(json.load(file)["layout"] == _LAYOUT)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def list_paths(self, names: TierNames) -> list[str]:
        """The files of an entry, those of its former states included."""
        found = (item for item in self._files.scan(os.path.dirname(names.stem)) if _NAME.fullmatch(item.name))
        return [item.path for item in found if item.name.startswith(names.entry)]

    def list_entries(self) -> list[TierEntry]:
        """What the tier has of each entry, in no particular order."""
        found: dict[str, TierEntry] = defaultdict(lambda: TierEntry(""))
        for shard in self._files.scan(os.path.join(self.root, _FILES)):
            if shard.is_folder and _SHARD.fullmatch(shard.name):
                for item in os.scandir(shard.path):
                    match = _NAME.fullmatch(item.name)
                    if match is not None:
                        found[match["entry"]].entry = match["entry"]
                        _count_file(found[match["entry"]], item)
        return list(found.values())

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


def _count_file(entry: TierEntry, item: os.DirEntry[str]) -> None:
    try:
        status = item.stat(follow_symlinks=False)
    except FileNotFoundError:  # removed meanwhile
        return
    entry.paths.append(item.path)
    entry.disk_bytes += disk_bytes_of(status)
    entry.used = max(entry.used, status.st_mtime, status.st_atime)


def disk_bytes_of(status: os.stat_result) -> int:
    """What a file takes on the disk."""
    return int(getattr(status, "st_blocks", -(-status.st_size // _SECTOR_BYTES))) * _SECTOR_BYTES


def write_at(descriptor: int, offset: int, data: bytes) -> None:
    """Write all of ``data`` at a place."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _try_lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        # Not flock, whose lock a child that is forked now would hold until it ends.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it; or there are no locks here
        return False
    return True


def note_use(descriptor: int) -> None:
    """Record that a file is used now, by the time of the last access; at most once a minute."""
    status = os.fstat(descriptor)
    now = time.time()
    if abs(now - max(status.st_atime, status.st_mtime)) < _USE_SECONDS:
        return
    try:
        # The time of the last change stays, since readers tell by it that a file is the same.
        os.utime(descriptor, ns=(int(now * 1e9), status.st_mtime_ns))
    except OSError:  # another user's, or a disk that can only be read
        pass
