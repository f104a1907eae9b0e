"""Commit: the small object that makes a file in an object store an entry.

A commit holds no ETag of the file: its name is never used again, and its bytes have checksums. So a cache may be copied to another
store, or to the folder of a web server, by any program.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...errors import CacheEntryDamagedError, CacheEntryError
from ...system.files import FileStatus, LocalFile
from ...system.segments import checksum
from ...system.stamp import SourceStamp
from ..trailer import read_trailer_of
from .layout import commit_key, new_data_key, parse_data

if TYPE_CHECKING:
    from ..keys import EntryKey

__all__ = ["Commit"]
_VERSION = 1
# Of the file's end, the commit holds the description, and the tables of images of up to some 7,000 px, so that opening such an entry
# is one request.
_MOST_TABLE_BYTES = 1 << 16
# Beyond what any store takes, and what file systems and their clocks count.
_MOST_FILE_BYTES = 1 << 62
_LATEST_SECONDS = float(1 << 33)


@dataclass(frozen=True, slots=True)
class Commit:
    """Where the file of an entry is, and its last bytes.

    Attributes:
        name: the relative path of the entry, as on a disk.
        data_key: the object that holds the file.
        size_bytes: its length.
        created: when it was made, in seconds since 1970, by the clock of the machine that made it.
        tail: the last bytes of the file: its description and, unless they are long, the tables of its segments.
    """

    name: str
    data_key: str
    size_bytes: int
    created: float
    tail: bytes

    @classmethod
    def of_file(cls, key: EntryKey, path: str) -> Commit:
        """The commit of a finished file on a disk; it names an object to which the file is to be uploaded."""
        with LocalFile(path) as file:
            trailer = read_trailer_of(key, path, file)
            tail_bytes = trailer.total_bytes - trailer.payload_bytes
            if tail_bytes > _MOST_TABLE_BYTES:
                tail_bytes -= trailer.table_bytes
            tail = file.read_at(trailer.total_bytes - tail_bytes, tail_bytes)
        source = trailer.meta["source"] or {}
        stamp = SourceStamp(*source["stamp"]) if source.get("is_settled") else None
        return cls(key.relative_path, new_data_key(key, stamp), trailer.total_bytes, time.time(), tail)

    def encode(self) -> bytes:
        """The commit as JSON; the last field is a checksum of the others."""
        fields = {**asdict(self), "tail": base64.b64encode(self.tail).decode("ascii"), "version": _VERSION}
        return _dump({**fields, "crc32": checksum(_dump(fields))})

    @classmethod
    def decode(cls, data: bytes, key: EntryKey, place: str) -> Commit:
        """Read back what :meth:`encode` gave.

        Args:
            data: the object.
            key: the entry whose commit it must be.
            place: its address, for messages.

        Raises:
            CacheEntryDamagedError: it is damaged, or the commit of another entry.
            CacheEntryError: a newer version of ndframes wrote it.
        """
        fields = _load(data, place)
        if fields.pop("version") > _VERSION:
            raise CacheEntryError(f"{place} was written by a newer version of ndframes; it is left alone")
        try:
            found = cls(**{**fields, "tail": base64.b64decode(fields["tail"], validate=True)})
        except (TypeError, KeyError, ValueError) as error:
            raise CacheEntryDamagedError(f"{place}: its fields are not those of a commit: {error}") from error
        found._check(place)
        data_name = parse_data(found.data_key)
        if commit_key(key) != found.name + ".json" or data_name is None or data_name.state_id != key.state_id:
            raise CacheEntryDamagedError(f"{place} is the commit of another entry")
        return found

    def _check(self, place: str) -> None:
        """Check what a checksum does not tell, since anybody can compute one.

        Raises:
            CacheEntryDamagedError: a field has a value that no commit has.
        """
        are_texts = isinstance(self.name, str) and isinstance(self.data_key, str)
        is_size = type(self.size_bytes) is int and len(self.tail) <= self.size_bytes <= _MOST_FILE_BYTES
        # Not a number fails the comparison, too.
        is_time = type(self.created) in (int, float) and abs(self.created) <= _LATEST_SECONDS
        if not (are_texts and is_size and is_time):
            raise CacheEntryDamagedError(
                f"{place}: its fields are not those of a commit: a text, a size or a time has a value that cannot be"
            )

    @property
    def tail_start(self) -> int:
        """The position of :attr:`tail` in the file."""
        return self.size_bytes - len(self.tail)

    @property
    def status(self) -> FileStatus:
        """As that of a file. The number in the name of the object takes the place of the inode."""
        data_name = parse_data(self.data_key)
        number = int(data_name.uuid[-16:], 16) if data_name else 0
        created_ns = int(self.created * 1e9)
        stamp = SourceStamp(0, number, self.size_bytes, created_ns, created_ns)
        return FileStatus(True, False, self.size_bytes, self.created, self.created, stamp)


def _load(data: bytes, place: str) -> dict[str, Any]:
    """The fields of a commit, compared with their checksum."""
    try:
        fields = json.loads(data)
        crc32 = fields.pop("crc32")
        is_intact = type(fields["version"]) is int and fields["version"] > 0 and checksum(_dump(fields)) == crc32
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheEntryDamagedError(f"{place} is not a commit: {error}") from error
    if not is_intact:
        raise CacheEntryDamagedError(f"{place}: its checksum does not match")
    return dict(fields)


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
