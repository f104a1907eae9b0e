"""The EXIF orientation of an image file: how a camera was held."""

from __future__ import annotations

import struct
from typing import IO

__all__ = ["find_orientation"]
_TAG = 274
_MOST_EXIF_BYTES = 1 << 20
_MOST_PARTS = 10_000


def find_orientation(path: str, kind: str) -> int:
    """The orientation from 1 (as it is) to 8 that the EXIF data of a file states; 1 if it states none that is valid.

    TIFFs have a tag of their own, which their readers find.

    Args:
        path: the file.
        kind: its format, as :func:`~ndframes.formats.images.sniff.sniff` names it; 1 for those without EXIF data.
    """
    if kind == "pillow":
        return _by_pillow(path)
    find = {"JPEG": _exif_of_jpeg, "PNG": _exif_of_png, "WEBP": _exif_of_webp}.get(kind)
    if find is None:
        return 1
    try:
        with open(path, "rb") as file:
            return _parse(find(file))
    except (OSError, struct.error):  # a file that ends early; reading its pixels raises the error
        return 1


def _by_pillow(path: str) -> int:
    """AVIF has a rotation of its own, which Pillow translates."""
    from PIL import Image

    with Image.open(path) as image:
        found = image.getexif().get(_TAG, 1)
    return found if found in range(1, 9) else 1


def _exif_of_jpeg(file: IO[bytes]) -> bytes:
    file.seek(2)
    for _ in range(_MOST_PARTS):
        marker, length = struct.unpack(">HH", file.read(4))
        # The start of the pixels, or no marker at all.
        if marker == 0xFFDA or marker < 0xFF00 or length < 2:
            break
        if marker == 0xFFE1:
            data = file.read(length - 2)
            if data.startswith(b"Exif\0\0"):
                return data[6:]
        else:
            file.seek(length - 2, 1)
    return b""


def _exif_of_png(file: IO[bytes]) -> bytes:
    file.seek(8)
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack(">I4s", file.read(8))
        # It may come after the pixels, too.
        if kind == b"eXIf":
            return file.read(min(length, _MOST_EXIF_BYTES))
        if kind == b"IEND":
            break
        file.seek(length + 4, 1)
    return b""


def _exif_of_webp(file: IO[bytes]) -> bytes:
    file.seek(12)
    for _ in range(_MOST_PARTS):
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"EXIF":
            return file.read(min(length, _MOST_EXIF_BYTES)).removeprefix(b"Exif\0\0")
        file.seek(length + length % 2, 1)
    return b""


def _parse(exif: bytes) -> int:
    """The value of the tag in the first directory of EXIF data, which are a small TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for number in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHI4s", exif, start + 2 + 12 * number)
        if tag == _TAG:
            found: int = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", value)[0]
            return found if 1 <= found <= 8 else 1
    return 1
