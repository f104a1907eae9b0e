"""The names of all objects of a cache in an object store.

::

    <workdir>/ndframes-cache/
        ndframes.json                                       {"layout": 1}: written once the store has passed the probe
        v1/<backend>/<xx>/<source>.<state>.tif.json         commits: one small object for each entry
        data/<xx>/<state>.<digest><random>.tif              the entries' files, as on a disk
        claims/<state>.json                                 who converts what now; saves work only
        quarantine/<source>.<state>.tif.<uuid>.json         commits of damaged entries
        probes/<uuid>                                       objects of a probe

An entry exists when its commit does. Objects with other names are never read or removed.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from ..layout import FOLDER, parse_entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...system.objects.store import ObjectStatus
    from ...system.stamp import SourceStamp
    from ..keys import EntryKey

__all__ = [
    "CLAIMS",
    "COMMITS",
    "DATA",
    "FOLDER",
    "MARK",
    "PROBES",
    "QUARANTINE",
    "DataName",
    "claim_key",
    "commit_key",
    "digest_source",
    "group_files",
    "new_data_key",
    "new_probe_key",
    "new_quarantine_key",
    "parse_commit",
    "parse_data",
]
COMMITS, DATA, CLAIMS, QUARANTINE, PROBES = "v1", "data", "claims", "quarantine", "probes"
MARK = "ndframes.json"
_SUFFIX = ".json"
_DATA = re.compile(r"data/[0-9a-f]{2}/(?P<state>[0-9a-f]{32})\.(?P<uuid>[0-9a-f]{32})(?:\.tif|\.npy|\.avi)")
_DIGEST_LETTERS = 16


class DataName(NamedTuple):
    """What the name of an entry's file tells.

    Attributes:
        state_id: of its key.
        uuid: letters that no other file has: a digest of the state of the source, and random ones.
    """

    state_id: str
    uuid: str

    @property
    def source(self) -> str:
        """The digest of the state of the source, see :func:`digest_source`."""
        return self.uuid[:_DIGEST_LETTERS]


def digest_source(stamp: SourceStamp) -> str:
    """A digest of the state of a source, by which a list of files tells of which states they are.

    The number of the file system is left out: it changes with every mount.
    """
    return hashlib.blake2b(repr(tuple(stamp[1:])).encode(), digest_size=_DIGEST_LETTERS // 2).hexdigest()


def commit_key(key: EntryKey) -> str:
    """The name of the commit of an entry.

    Example:
        >>> from ndframes.cache.keys import EntryKey
        >>> commit_key(EntryKey("b" * 12, "5" * 32, "7" * 32, ".tif"))
        'v1/bbbbbbbbbbbb/55/55555555555555555555555555555555.77777777777777777777777777777777.tif.json'
    """
    return key.relative_path + _SUFFIX


def parse_commit(name: str) -> EntryKey | None:
    """The key of the entry whose commit has this name; ``None`` if it is not the name of a commit."""
    if not name.startswith(COMMITS + "/") or not name.endswith(_SUFFIX):
        return None
    key = parse_entry(name[: -len(_SUFFIX)])
    # Below the folder of the commits there may be the folder of another cache.
    return key if key is not None and commit_key(key) == name else None


def new_data_key(key: EntryKey, stamp: SourceStamp | None) -> str:
    """A new name for the file of an entry; the first letters of the state let a store spread its load.

    Args:
        key: the key of the entry.
        stamp: the state of the source, if every later change of it shows in its stamp.
    """
    letters = uuid.uuid4().hex
    if stamp is not None:
        letters = digest_source(stamp) + letters[_DIGEST_LETTERS:]
    return f"{DATA}/{key.state_id[:2]}/{key.state_id}.{letters}{key.suffix}"


def parse_data(name: str) -> DataName | None:
    """What the name of an entry's file tells; ``None`` if it is not one."""
    match = _DATA.fullmatch(name)
    return DataName(match["state"], match["uuid"]) if match else None


def group_files(objects: Iterable[ObjectStatus]) -> dict[str, list[ObjectStatus]]:
    """The files of entries by the ``state_id`` of their keys. Of several in one state, only the commit tells which is that of the entry."""
    found: dict[str, list[ObjectStatus]] = defaultdict(list)
    for item in objects:
        name = parse_data(item.key)
        if name is not None:
            found[name.state_id].append(item)
    return found


def claim_key(state_id: str) -> str:
    """The name of the claim on a conversion."""
    return f"{CLAIMS}/{state_id}{_SUFFIX}"


def new_quarantine_key(commit: str) -> str:
    """A new name for a commit that is put aside."""
    name = commit.rsplit("/", 1)[1]
    return f"{QUARANTINE}/{name[: -len(_SUFFIX)]}.{uuid.uuid4().hex}{_SUFFIX}"


def new_probe_key() -> str:
    """A new name for an object of a probe."""
    return f"{PROBES}/{uuid.uuid4().hex}"
