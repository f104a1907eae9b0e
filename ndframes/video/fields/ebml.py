"""Elements of Matroska files: encode them, and find them in a file (RFC 8794, RFC 9559)."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...system.files import OpenFile

__all__ = ["UNKNOWN_SIZE", "Element", "children", "element", "floating", "number", "parse_vint", "read_element", "text"]
#: The size of an element that lasts until its parent ends, in 8 bytes.
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
_MOST_HEAD_BYTES = 12  # an ID of 4 bytes and a size of 8


class Element(NamedTuple):
    """An element of a file.

    Attributes:
        name: its ID.
        start: the position of its first byte.
        data: the position of its data.
        stop: the position after its data; of an element of unknown size the largest position.
    """

    name: int
    start: int
    data: int
    stop: int


def element(name: int, data: bytes, *, size_bytes: int | None = None) -> bytes:
    """An element.

    Args:
        name: its ID.
        data: its data.
        size_bytes: in how many bytes its size is written; ``None``: as few as hold it.
    """
    if size_bytes is None:
        # All ones mean an unknown size.
        size_bytes = next(count for count in range(1, 9) if len(data) < (1 << (7 * count)) - 1)
    head = name.to_bytes((name.bit_length() + 7) // 8, "big")
    return head + (len(data) | 1 << (7 * size_bytes)).to_bytes(size_bytes, "big") + data


def number(name: int, value: int) -> bytes:
    """An element that holds an unsigned integer."""
    return element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def floating(name: int, value: float) -> bytes:
    """An element that holds a float of 8 bytes."""
    return element(name, struct.pack(">d", value))


def text(name: int, value: str) -> bytes:
    """An element that holds text."""
    return element(name, value.encode())


def read_element(head: bytes, start: int) -> Element | None:
    """The element that begins with ``head``, at ``start`` of its file; ``None`` if no element begins so, or it is cut off."""
    if not head or not head[0] >> 4:  # IDs have up to 4 bytes
        return None
    id_bytes = 9 - head[0].bit_length()
    size, size_bytes = parse_vint(head[id_bytes : id_bytes + 8])
    if not size_bytes:
        return None
    data = start + id_bytes + size_bytes
    is_unknown = size == (1 << (7 * size_bytes)) - 1
    return Element(int.from_bytes(head[:id_bytes], "big"), start, data, sys.maxsize if is_unknown else data + size)


def parse_vint(data: bytes) -> tuple[int, int]:
    """The number of variable length at the beginning of ``data``, and the count of its bytes; 0 bytes if it is cut off."""
    if not data or not data[0]:
        return 0, 0
    count = 9 - data[0].bit_length()
    if len(data) < count:
        return 0, 0
    return int.from_bytes(data[:count], "big") & ((1 << (7 * count)) - 1), count


def children(file: OpenFile, start: int, stop: int) -> Iterator[Element]:
    """The elements between two positions of a file, one after the other, up to one that is cut off or of unknown size."""
    while start < stop:
        found = read_element(file.read_at(start, min(_MOST_HEAD_BYTES, stop - start)), start)
        if found is None or found.stop > stop:
            return
        yield found
        start = found.stop
