"""Layout: the names of all files in a cache's folder, and the marks that identify the folder.

::

    <workdir>/ndframes-cache/
        CACHEDIR.TAG        for backup programs
        ndframes.json       {"layout": 1}
        v1/<backend>/<xx>/<source>.<state>.tif      entries
        tmp/<state>-<host>-<pid>-<uuid>.part        files being written; the writer holds a lock on its file
        tmp/<state>-<host>-<pid>-<uuid>.part.tif    a copy of an object that is being converted, likewise
        locks/<000 ... fff>                         lock files; they keep writers from doing the same work
        leases/<host>-<pid>-<uuid>.lease            entries that running jobs hold; each job locks its own file
        quarantine/                                 damaged entries

Files with other names are never read, changed or removed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from ..errors import CacheError
from ..system.files import read_whole
from ..system.objects.addresses import is_url
from .keys import FORMAT_VERSION, EntryKey

if TYPE_CHECKING:
    from ..system.files import FileSystem

__all__ = [
    "FOLDER",
    "NO_STATE_ID",
    "OwnedName",
    "check_marks",
    "default_workdir",
    "hold_lock",
    "is_abandoned",
    "is_quarantined",
    "new_lease_name",
    "new_part_name",
    "parse_entry",
    "parse_lease",
    "parse_part",
    "remove_abandoned",
    "show_alive",
    "write_marks",
]
FOLDER = "ndframes-cache"
#: Takes the place of the state in the temporary names of files that do not become entries.
NO_STATE_ID = "0" * 32
_SUBFOLDERS = ("tmp", "locks", "leases", "quarantine")
# Defined by the Cache Directory Tagging Specification (bford.info/cachedir); tar and backup programs look for it.
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_TAG = f"{_SIGNATURE}\n# This folder is a cache of ndframes: it may be deleted at any time, and backups may leave it out.\n"
_ENTRY = re.compile(r"(?P<source>[0-9a-f]{32})\.(?P<state>[0-9a-f]{32})(?P<suffix>\.tif|\.npy|\.avi)")
_BACKEND = re.compile(r"[0-9a-f]{12}")
_QUARANTINED = re.compile(_ENTRY.pattern + r"\.[0-9a-f]{8}")
# The name of a host may contain hyphens, so everything before the last two fields belongs to it.
_PART = re.compile(r"(?P<state>[0-9a-f]{32})-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{32}\.part(?:\.[A-Za-z0-9]{1,16})?")
_LEASE = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{32}\.lease")
# A process may be slow between creating a file and locking it, and the clocks of machines differ. So the file of another
# machine counts as abandoned only after this time.
_GRACE_SECONDS = 60.0
_PROBE_SECONDS = 1.0


def default_workdir() -> Path | str:
    """``$NDFRAMES_WORKDIR``, which may be an address, or the user's cache folder (``~/.cache/ndframes`` on Linux)."""
    named = os.environ.get("NDFRAMES_WORKDIR")
    if named:
        return named if is_url(named) else Path(named)
    # Imported here, to keep the import of ndframes fast.
    import ubelt

    return Path(ubelt.Path.appdir("ndframes"))


class OwnedName(NamedTuple):
    """The owner of a temporary file or a lease, as its name tells.

    Attributes:
        host: the machine.
        pid: the process on it.
        state_id: the ``state_id`` of the entry that the file will become; empty for a lease.
    """

    host: str
    pid: int
    state_id: str = ""

    @property
    def is_mine(self) -> bool:
        """Whether the owner is this process."""
        return (self.host, self.pid) == (_host(), os.getpid())


def parse_entry(path: str) -> EntryKey | None:
    """The key of the entry with this path; ``None`` if it is not the path of an entry.

    Example:
        >>> parse_entry("v1/0123456789ab/55/notes.txt") is None
        True
    """
    folders, name = os.path.split(path)
    match = _ENTRY.fullmatch(name)
    shard = os.path.basename(folders)
    backend_id = os.path.basename(os.path.dirname(folders))
    # An entry that somebody moved to another folder is not found by its key, so it is not touched either.
    if match is None or shard != name[:2] or _BACKEND.fullmatch(backend_id) is None:
        return None
    return EntryKey(backend_id, match["source"], match["state"], match["suffix"])


def new_part_name(state_id: str, suffix: str = "") -> str:
    """A name for a temporary file, unique across machines.

    Args:
        state_id: of the entry that it is for.
        suffix: empty, or that of the name: a point, and up to 16 letters and digits.
    """
    return f"{state_id}-{_host()}-{os.getpid()}-{uuid.uuid4().hex}.part{suffix}"


def parse_part(name: str) -> OwnedName | None:
    """The owner of the temporary file with this name; ``None`` if it is not the name of one."""
    match = _PART.fullmatch(name)
    return OwnedName(match["host"], int(match["pid"]), match["state"]) if match else None


def new_lease_name() -> str:
    """A name for a lease, unique across machines."""
    return f"{_host()}-{os.getpid()}-{uuid.uuid4().hex}.lease"


def parse_lease(name: str) -> OwnedName | None:
    """The owner of the lease with this name; ``None`` if it is not the name of one."""
    match = _LEASE.fullmatch(name)
    return OwnedName(match["host"], int(match["pid"])) if match else None


def is_quarantined(name: str) -> bool:
    """Whether this is the name of an entry in the quarantine folder.

    Example:
        >>> is_quarantined(f"{'5' * 32}.{'7' * 32}.tif.01234567"), is_quarantined("scan.tif.01234567")
        (True, False)
    """
    return _QUARANTINED.fullmatch(name) is not None


def hold_lock(files: FileSystem, file: IO[bytes]) -> bool:
    """Lock a file that this process owns; returns whether the lock was granted.

    Another process that checks whether the file is abandoned locks it for a moment. So a refused lock is tried again:
    without it, the others would take this process for dead a minute later.

    Raises:
        OSError: this file system has no locks.
    """
    deadline = time.monotonic() + _PROBE_SECONDS
    while not files.try_lock(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def is_abandoned(files: FileSystem, path: str, owner: OwnedName) -> bool:
    """Whether the owner of a temporary file or lease has ended: nobody holds its lock.

    A missing lock is not enough, since the owner may not have taken it yet. On this machine the owner must not be running;
    the file of an owner on another machine must be a minute old.
    """
    try:
        status = files.status(path)
        if status is None or not status.is_file or files.is_locked(path):
            return False
    except OSError:  # removed meanwhile, another user's file, or a file system without locks
        return False
    age_seconds = time.time() - status.mtime
    return age_seconds > _GRACE_SECONDS or (owner.host == _host() and not _is_running(owner.pid))


def show_alive(files: FileSystem, file: IO[bytes]) -> None:
    """Lock a temporary file, by which other processes see that its writer is alive, where the file system has locks."""
    try:
        hold_lock(files, file)
    except OSError:
        pass  # others judge by the file's age


def remove_abandoned(files: FileSystem, folder: str) -> None:
    """Remove the temporary files in a folder whose writers have ended."""
    for item in files.scan(folder):
        owner = parse_part(item.name)
        if owner is not None and is_abandoned(files, item.path, owner):
            files.remove(item.path)


def write_marks(files: FileSystem, root: Path) -> None:
    """Create the cache's folders, and the files that mark them as a cache for people and programs."""
    for name in _SUBFOLDERS:
        files.make_folders(str(root / name))
    for name, text in (("CACHEDIR.TAG", _TAG), ("ndframes.json", json.dumps({"layout": FORMAT_VERSION}) + "\n")):
        mark = root / name
        if files.status(str(mark), follows_links=True) is None:
            _write_whole(files, root / "tmp", mark, text)


def check_marks(files: FileSystem, root: Path) -> None:
    """Check that ``root`` is a cache of a version that this one knows, before anything in it is removed.

    Raises:
        CacheError: it is not.
    """
    try:
        tag = read_whole(files, str(root / "CACHEDIR.TAG")).decode(errors="replace")
        layout = json.loads(read_whole(files, str(root / "ndframes.json")))["layout"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{root} does not bear the marks of a cache (CACHEDIR.TAG, ndframes.json), so nothing in it is removed: {error}"
        ) from error
    if not tag.startswith(_SIGNATURE) or not isinstance(layout, int):
        raise CacheError(f"{root} bears the marks of another kind of cache, so nothing in it is removed")
    if layout > FORMAT_VERSION:
        raise CacheError(f"{root} was created by a newer ndframes (layout {layout}); use that version to clean it")


def _write_whole(files: FileSystem, folder: Path, final: Path, text: str) -> None:
    """Write a small file atomically: nobody sees a part of it, not even after a power loss."""
    temporary = str(folder / new_part_name(NO_STATE_ID))
    try:
        with files.create(temporary) as file:
            file.write(text.encode())
            files.sync_file(file)
            file.seek(0)
            # A mark that exists is never written again, so a damaged one would stay and block every removal.
            if file.read() != text.encode():
                raise OSError(errno.EIO, "the file does not contain what was written", temporary)
        files.link_or_replace(temporary, str(final))
        files.sync_folder(str(final.parent))
    finally:
        files.remove(temporary)


def _host() -> str:
    return socket.gethostname()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the number is larger than any process number
        return False
    except OSError:
        # EPERM: the process exists, and belongs to another user.
        return True
    return True
