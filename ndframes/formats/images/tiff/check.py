"""Check the directories of a TIFF before a library reads them.

Libraries ignore a tag whose value is past the end of the file, and the pages behind a broken link. A truncated file then
decodes to other pixels than the whole one, or to fewer bands. Pages that form a circle keep tifffile busy for ever.
Written from the TIFF 6.0 specification and the BigTIFF extension.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from ....errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ....system.objects.object_file import ObjectStream

    _ReadAt = Callable[[int, int], bytes]

__all__ = ["check_directories"]
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUB_DIRECTORIES = 330
# The tags that decide how pixels are decoded and what they mean. Damage to any other tag changes no pixel.
_PIXEL_TAGS = frozenset(
    (*range(256, 260), 262, 266, 270, 273, *range(277, 280), 284, 317, *range(320, 326), 330, 338, 339, 347)
)


class _Form(NamedTuple):
    """The sizes and byte order of the numbers in a TIFF's directories."""

    order: str
    count_letter: str
    offset_letter: str
    inline_bytes: int

    @property
    def count_bytes(self) -> int:
        return struct.calcsize(self.order + self.count_letter)

    @property
    def entry_bytes(self) -> int:
        return 4 + 2 * self.inline_bytes

    def unpack(self, letters: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self.order + letters, data)


class _Tag(NamedTuple):
    number: int
    type: int
    value_count: int
    value: bytes


def check_directories(path: str, *, every: bool, stream: ObjectStream | None = None) -> None:
    """Refuse a damaged TIFF.

    A directory, or the value of a tag that affects pixels, lies past the end of the file, or the pages form a circle.

    Args:
        path: the file.
        every: whether to check all pages and their sub-directories, or the first page alone.
        stream: the bytes of an object; ``None``: those of the file.

    Raises:
        UnreadableImageError: a directory or value is past the end, or the link of a page leads back to a page before.
    """
    if stream is not None:
        _check(path, stream.read_at, stream.size_bytes, every=every)
        return
    # Unbuffered, since all reads go by position past the buffer.
    with open(path, "rb", buffering=0) as file:
        descriptor = file.fileno()
        _check(
            path, lambda offset, count: os.pread(descriptor, count, offset), os.fstat(descriptor).st_size, every=every
        )


def _check(path: str, read_at: _ReadAt, file_bytes: int, *, every: bool) -> None:
    form, following = _read_header(path, read_at)
    seen, waiting = set[int](), list[int]()  # a list, not recursion: a file may have thousands of pages
    while not seen or following:
        position = following
        if position in seen:
            raise UnreadableImageError(
                f"{path}: its page {len(seen) - 1:,} links back to the page at {position:,}; its pages form a circle, it is damaged"
            )
        seen.add(position)
        following, inner = _check_directory(path, read_at, form, position, file_bytes)
        if not every:
            return
        waiting += inner
    while waiting:
        position = waiting.pop()
        if position not in seen:  # nothing follows these links without end
            seen.add(position)
            following, inner = _check_directory(path, read_at, form, position, file_bytes)
            waiting += [following, *inner] if following else inner


def _check_directory(path: str, read_at: _ReadAt, form: _Form, position: int, file_bytes: int) -> tuple[int, list[int]]:
    """Check a directory.

    Returns:
        The position of the next directory, 0 if there is none, and the positions of its subdirectories.
    """
    tags, following = _read_directory(path, read_at, form, position)
    for tag in tags:
        _check_extent(path, form, tag, file_bytes)
    inner = [
        item
        for tag in tags
        if tag.number == _SUB_DIRECTORIES
        for item in _read_offsets(path, read_at, form, tag)
        if item
    ]
    return following, inner


def _read_header(path: str, read_at: _ReadAt) -> tuple[_Form, int]:
    head = _read_exactly(path, read_at, 0, 8)
    order = "<" if head[:2] == b"II" else ">"
    if struct.unpack(order + "H", head[2:4]) == (43,):  # BigTIFF; a classic TIFF has 42
        form = _Form(order, "Q", "Q", 8)
        return form, int(form.unpack("Q", _read_exactly(path, read_at, 8, 8))[0])
    form = _Form(order, "H", "I", 4)
    return form, form.unpack("I", head[4:])[0]


def _read_directory(path: str, read_at: _ReadAt, form: _Form, position: int) -> tuple[list[_Tag], int]:
    """The tags of the directory at ``position`` that affect pixels, and the position of the next directory."""
    (count,) = form.unpack(form.count_letter, _read_exactly(path, read_at, position, form.count_bytes))
    # The limit of classic TIFF. BigTIFF counts in 64 bits, and a damaged count must not be allocated.
    if count > 65_535:
        raise UnreadableImageError(f"{path}: the directory at {position:,} has {count:,} tags; it is damaged")
    table_bytes = form.entry_bytes * count
    start = position + form.count_bytes
    table = _read_exactly(path, read_at, start, table_bytes + form.inline_bytes)
    (following,) = form.unpack(form.offset_letter, table[table_bytes:])
    return [tag for tag in _parse_tags(form, table[:table_bytes]) if tag.number in _PIXEL_TAGS], following


def _parse_tags(form: _Form, table: bytes) -> Iterator[_Tag]:
    for start in range(0, len(table), form.entry_bytes):
        entry = table[start : start + form.entry_bytes]
        number, kind, count = form.unpack("HH" + form.offset_letter, entry[: -form.inline_bytes])
        yield _Tag(number, kind, count, entry[-form.inline_bytes :])


def _check_extent(path: str, form: _Form, tag: _Tag, file_bytes: int) -> None:
    # Libraries ignore tags of unknown types, so their values may be anywhere.
    value_bytes = _TYPE_BYTES.get(tag.type, 0) * tag.value_count
    if value_bytes <= form.inline_bytes:  # short values are stored in the tag itself
        return
    (offset,) = form.unpack(form.offset_letter, tag.value)
    if offset + value_bytes > file_bytes:
        raise UnreadableImageError(
            f"{path} is truncated or damaged: the {value_bytes:,} bytes of tag {tag.number} are at {offset:,}, "
            f"the file ends at {file_bytes:,}"
        )


def _read_offsets(path: str, read_at: _ReadAt, form: _Form, tag: _Tag) -> tuple[int, ...]:
    letter = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(tag.type)
    if letter is None:
        return ()
    value_bytes = _TYPE_BYTES[tag.type] * tag.value_count
    data = tag.value[:value_bytes]
    if value_bytes > form.inline_bytes:
        data = _read_exactly(path, read_at, form.unpack(form.offset_letter, tag.value)[0], value_bytes)
    return form.unpack(f"{tag.value_count}{letter}", data)


def _read_exactly(path: str, read_at: _ReadAt, offset: int, byte_count: int) -> bytes:
    # The system takes offsets of 63 bits; BigTIFF's have 64.
    data = read_at(offset, byte_count) if offset < 1 << 62 else b""
    if len(data) != byte_count:
        raise UnreadableImageError(f"{path} is truncated or damaged: a directory should be at {offset:,}, past its end")
    return data
