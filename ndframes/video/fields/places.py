"""Places: where the packets of each frame are in a file of fields, and the time of each frame."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..._typing import Array
    from ...system.files import OpenFile

__all__ = ["PLACE", "Places", "read_table", "write_table"]
#: A row of the table. Positions and sizes in bytes; the size of values is 0 if the picture holds them.
PLACE = np.dtype(
    [("picture", "<i8"), ("picture_bytes", "<i8"), ("values", "<i8"), ("values_bytes", "<i8"), ("time", "<f8")]
)
_MAGIC = b"ndframes frames\0"
_FOOT = struct.Struct("<QI")  # the number of rows, the CRC-32 of the table


@dataclass(frozen=True, slots=True)
class Places:
    """Where the frames of a file are.

    Attributes:
        table: a row of :data:`PLACE` for each frame.
        stop: the position after the last frame.
        is_complete: whether the file was finished.
    """

    table: Array
    stop: int
    is_complete: bool = False

    def __len__(self) -> int:
        return len(self.table)


def write_table(places: Places) -> bytes:
    """A table as the last bytes of a finished file."""
    rows = places.table.tobytes()
    return rows + struct.pack("<q", places.stop) + _FOOT.pack(len(places), zlib.crc32(rows)) + _MAGIC


def read_table(file: OpenFile) -> Places | None:
    """The table at the end of a finished file; ``None`` if there is none, or it is damaged."""
    size = file.status.size_bytes
    foot_bytes = 8 + _FOOT.size + len(_MAGIC)
    if size < foot_bytes:
        return None
    foot = file.read_at(size - foot_bytes, foot_bytes)
    (stop,), (count, check) = struct.unpack_from("<q", foot), _FOOT.unpack_from(foot, 8)
    row_bytes = count * PLACE.itemsize
    if not foot.endswith(_MAGIC) or row_bytes > size - foot_bytes:
        return None
    rows = file.read_at(size - foot_bytes - row_bytes, row_bytes)
    return Places(np.frombuffer(rows, PLACE), stop, True) if zlib.crc32(rows) == check else None
