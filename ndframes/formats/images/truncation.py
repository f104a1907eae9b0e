"""Whether a damaged file is truncated, by the marks at the end of its format."""

from __future__ import annotations

import os
import struct

__all__ = ["describe_damage", "describe_damage_of", "is_gif_cut"]
_TAIL_BYTES = 64
_HEAD_BYTES = 64
_GIF_IMAGE, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, b"\xf9\4"


def describe_damage_of(path: str, kind: str) -> str:
    """As :func:`describe_damage`, for a file; "it is damaged" if it cannot be looked at."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
            file.seek(max(0, size - _TAIL_BYTES))
            return _describe(kind, head, file.read(), size)
    except (OSError, ValueError):
        return "it is damaged"


def describe_damage(kind: str, data: bytes | bytearray) -> str:
    """What is known of a file that does not decode: that it is truncated, or only that it is damaged.

    Args:
        kind: the format.
        data: the content of the file.

    Example:
        >>> describe_damage("GIF", b"GIF89a"), describe_damage("GIF", b"GIF89a;")
        ('it is truncated', 'it is damaged')
    """
    return _describe(kind, bytes(data[:_HEAD_BYTES]), bytes(data[-_TAIL_BYTES:]), len(data))


def _describe(kind: str, head: bytes, tail: bytes, size: int) -> str:
    return "it is truncated" if _is_truncated(kind, head, tail, size) else "it is damaged"


def _is_truncated(kind: str, head: bytes, tail: bytes, size: int) -> bool:
    """Whether the mark of the end is missing, or the file is shorter than its header says; ``False`` if unknown."""
    try:
        if kind == "PNG":
            return b"IEND" not in tail
        if kind == "JPEG":
            return b"\xff\xd9" not in tail
        if kind == "GIF":
            return not tail.rstrip(b"\0").endswith(b";")
        if kind == "WEBP":
            return size < 8 + int(struct.unpack_from("<I", head, 4)[0])
        if kind == "BMP":
            return size < int(struct.unpack_from("<I", head, 2)[0])
        if kind == "QOI":
            return not tail.endswith(b"\0\0\0\0\0\0\0\1")
    except struct.error:  # the file ends within its header
        return True
    return False


def is_gif_cut(data: bytes | bytearray) -> bool:
    r"""Whether a GIF ends within a block; the mark of the end alone may be missing.

    Example:
        >>> is_gif_cut(b"GIF89a" + bytes(7) + b"!\xf9\x04\0\0")
        True
    """
    place, kind, is_timed = 13 + _colour_bytes(data, 10), _GIF_IMAGE, False
    while place < len(data):
        kind = data[place]
        if kind == _GIF_IMAGE:
            place += 11 + _colour_bytes(data, place + 9)
        elif kind == _GIF_EXTENSION:
            is_timed |= data[place + 1 : place + 3] == _GIF_CONTROL and any(data[place + 4 : place + 6])
            place += 2
        else:  # the mark of the end, or bytes that are no part of the format
            return False
        # Pieces of up to 255 bytes follow; an empty one is the last.
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    # A frame with a duration is one of several. Without the mark of the end, nobody knows whether the last one is there.
    return place > len(data) or kind != _GIF_IMAGE or is_timed


def _colour_bytes(data: bytes | bytearray, place: int) -> int:
    """The bytes of the palette that a byte of flags announces."""
    flags = data[place] if place < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
