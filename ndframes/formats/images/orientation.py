"""The EXIF orientation of a PNG, WebP or AVIF: how a camera was held. Readers of TIFF and JPEG find it themselves."""

from __future__ import annotations

import struct
from typing import IO

from .exif import find_orientation as find_in_exif

__all__ = ["find_orientation"]
_TAG = 274
_MOST_EXIF_BYTES = 1 << 20
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
