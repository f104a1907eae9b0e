"""SGI and Photoshop files, whose bands lie one after the other: 16 bits exactly, 8 bits by Pillow."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import UnreadableImageError
from ..extensions import load_extensions
from .limits import check_expansion

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = ["decode_psd", "decode_sgi", "name_psd_bands"]
_SGI_HEADER = struct.Struct(">HBBHHHH")
_PSD_HEADER = struct.Struct(">4sH6xHIIHH")
# Colour modes of Photoshop, and their numbers of bands without alpha.
_PSD_BANDS = {1: 1, 3: 3, 8: 1}
_PSD_NAMES = {4: ("c", "m", "y", "k"), 9: ("l", "a", "b")}


def decode_sgi(path: str, data: bytearray) -> Array:
    """Decode an SGI image of 8 or 16 bits, with or without run lengths.

    Raises:
        UnreadableImageError: the file is truncated or of another kind.
    """
    if len(data) < 512:
        raise UnreadableImageError(
            f"{path} is truncated: the header of an SGI image has 512 bytes, the file {len(data)}"
        )
    _, is_packed, sample_bytes, axis_count, width, height, bands = _SGI_HEADER.unpack_from(data)
    height = height if axis_count > 1 else 1
    bands = bands if axis_count > 2 else 1
    check_expansion(path, height * width * bands * max(1, sample_bytes), len(data))
    if sample_bytes != 2:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image)
    if not height or not width or not bands:
        raise UnreadableImageError(f"{path} is {height} x {width} px (height x width) by its header; it is damaged")
    if is_packed:
        planes = _expand_sgi(path, data, (bands, height, width))
    else:
        stop = 512 + 2 * bands * height * width
        if len(data) < stop:
            raise UnreadableImageError(
                f"{path} is truncated: it has {len(data):,} bytes, by its header it has {stop:,}"
            )
        planes = np.frombuffer(data, ">u2", bands * height * width, 512).reshape(bands, height, width)
    # Rows are stored from the bottom to the top.
    return np.ascontiguousarray(planes[:, ::-1].transpose(1, 2, 0).astype(np.uint16))


def _expand_sgi(path: str, data: bytearray, shape: tuple[int, int, int]) -> Array:
    bands, height, _ = shape
    if len(data) < 512 + 8 * bands * height:
        raise UnreadableImageError(f"{path} is truncated: its table of rows is longer than the file")
    starts = np.frombuffer(data, ">u4", bands * height, 512).reshape(bands, height)
    planes = np.empty(shape, np.uint16)
    samples = np.frombuffer(data, ">u2", len(data) // 2)
    for band in range(bands):
        for row in range(height):
            _expand_row(path, data, samples, int(starts[band, row]), planes[band, row])
    return planes


def _expand_row(path: str, data: bytearray, samples: Array, start: int, row: Array) -> None:
    """Expand a row: the low 7 bits of a word count the words that follow; without the eighth bit, the one that repeats."""
    if start % 2:  # rows usually begin at even positions
        samples, start = np.frombuffer(data, ">u2", (len(data) - 1) // 2, 1), start - 1
    place, done = start // 2, 0
    while place < len(samples):
        word = int(samples[place])
        count = word & 0x7F
        if not count or done + count > len(row):
            break
        part = samples[place + 1 : place + 1 + (count if word & 0x80 else 1)]
        if not len(part) or (word & 0x80 and len(part) < count):
            break
        row[done : done + count] = part
        done += count
        place += 1 + (count if word & 0x80 else 1)
    if done != len(row):
        raise UnreadableImageError(f"{path} has a row of {done:,} of {len(row):,} pixels; it is truncated or damaged")


def name_psd_bands(head: bytes) -> tuple[str, ...] | None:
    """The names of inks and of Lab in a Photoshop file, by its first bytes; ``None`` for other colours."""
    return _PSD_NAMES.get(_PSD_HEADER.unpack_from(head)[-1]) if len(head) >= _PSD_HEADER.size else None


def decode_psd(path: str, data: bytearray) -> Array:
    """Decode the composed image of a Photoshop file: gray or RGB with or without alpha of 16 bits; others by Pillow.

    Raises:
        UnreadableImageError: the file is truncated, or of a kind that is not read exactly.
    """
    _, version, bands, height, width, depth, mode = _PSD_HEADER.unpack_from(data)
    check_expansion(path, height * width * bands * max(1, depth // 8), len(data))
    if depth not in (1, 8, 16) or (depth == 16 and (mode not in _PSD_BANDS or version != 1)):
        raise UnreadableImageError(
            f"{path} has {depth} bits in Photoshop's colour mode {mode} (version {version}); 8 bits, and 16 bits of gray and "
            "RGB are read; convert it to TIFF"
        )
    if depth != 16:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB") if image.mode == "P" else image)
    start = _PSD_HEADER.size
    for _ in range(3):  # colours, resources, layers
        start += 4 + int.from_bytes(data[start : start + 4], "big")
    is_packed = int.from_bytes(data[start : start + 2], "big")
    shape = (bands, height, width)
    if is_packed > 1:
        raise UnreadableImageError(f"{path} is compressed by method {is_packed}, which is not read; convert it to TIFF")
    planes = _unpack_psd(data, start + 2, shape) if is_packed else bytes(data[start + 2 :])
    if len(planes) < 2 * bands * height * width:
        raise UnreadableImageError(f"{path} is truncated: its pixels end after {len(planes):,} bytes")
    pixels = np.frombuffer(planes, ">u2", bands * height * width).reshape(shape).astype(np.uint16)
    # More bands than the colours and one alpha are masks that somebody saved.
    shown = min(bands, _PSD_BANDS[mode] + (bands == _PSD_BANDS[mode] + 1))
    return np.ascontiguousarray(pixels[:shown].transpose(1, 2, 0))


def _unpack_psd(data: bytearray, start: int, shape: tuple[int, int, int]) -> bytes:
    bands, height, width = shape
    lengths = np.frombuffer(data, ">u2", bands * height, start)
    decode = load_extensions("_imcd").packbits_decode
    place = start + 2 * bands * height
    rows = []
    for length in lengths.tolist():
        rows.append(decode(bytes(data[place : place + length]))[: 2 * width])
        place += length
    return b"".join(rows)
