"""The orientation in EXIF metadata."""

from __future__ import annotations

import struct

__all__ = ["find_orientation"]
_ORIENTATION, _SHORT = 274, 3


def find_orientation(exif: bytes) -> int:
    r"""The orientation, 1 to 8, in a block of EXIF metadata, which has the form of a TIFF; 1 if it names none.

    Example:
        >>> find_orientation(b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)), find_orientation(b"")
        (6, 1)
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, place)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:  # the block is cut, or its offsets are wrong; its pixels may be good
        pass
    return 1
