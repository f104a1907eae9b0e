"""The EXIF orientation of a PNG, WebP or AVIF: how a camera was held. Readers of TIFF and JPEG find it themselves."""

from __future__ import annotations

import os
import struct
import zlib
from typing import IO

from .exif import find_orientation as find_in_exif

__all__ = ["find_orientation"]
_TAG = 274
_MOST_EXIF_BYTES = 1 << 20
_END_BYTES = 1 << 18
_MOST_PARTS = 10_000


def find_orientation(path: str, kind: str) -> int:
    """The orientation from 1 (as it is) to 8 that the EXIF data of a file states; 1 if it states none that is valid.

    Args:
        path: the file.
        kind: its format, as :func:`~ndframes.formats.images.sniff.sniff` names it; 1 for those without EXIF data.
    """
    if kind == "AVIF":
        return _by_pillow(path)
    find = {"PNG": _exif_of_png, "WEBP": _exif_of_webp}.get(kind)
    if find is None:
        return 1
    try:
        with open(path, "rb") as file:
            return find_in_exif(find(file))
    except (OSError, struct.error):  # a file that ends early; reading its pixels raises the error
        return 1


def _by_pillow(path: str) -> int:
    """AVIF has a rotation of its own, which Pillow translates."""
    from PIL import Image

    with Image.open(path) as image:
        found = image.getexif().get(_TAG, 1)
    return found if found in range(1, 9) else 1


def _exif_of_png(file: IO[bytes]) -> bytes:
    file.seek(8)
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"eXIf":
            return file.read(min(length, _MOST_EXIF_BYTES))
        if kind == b"IDAT":
            return _exif_at_end_of_png(file)
        file.seek(length + 4, 1)
    return b""


def _exif_at_end_of_png(file: IO[bytes]) -> bytes:
    """It may follow the pixels. These are skipped, since a large file has a hundred thousand chunks of them."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _END_BYTES))
    end = file.read()
    start = end.rfind(b"eXIf")
    length = int.from_bytes(end[max(0, start - 4) : max(0, start)], "big")
    exif, check = end[start + 4 : start + 4 + length], end[start + 4 + length : start + 8 + length]
    # Pixels may contain the same four bytes, but not before a number that fits.
    is_chunk = start >= 0 and check == zlib.crc32(b"eXIf" + exif).to_bytes(4, "big")
    return exif if is_chunk else b""


def _exif_of_webp(file: IO[bytes]) -> bytes:
    file.seek(12)
    for _ in range(_MOST_PARTS):
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"EXIF":
            return file.read(min(length, _MOST_EXIF_BYTES)).removeprefix(b"Exif\0\0")
        file.seek(length + length % 2, 1)
    return b""
