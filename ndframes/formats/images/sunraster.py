"""Sun raster files, which OpenCV and Pillow read wrongly in part."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UnreadableImageError
from .limits import check_expansion

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = ["decode_sun"]
# Magic, width, height, depth, length, type, type and length of the map.
_HEADER = struct.Struct(">8I")
_RUN_LENGTHS, _RGB = 2, 3
_TYPES = (0, 1, _RUN_LENGTHS, _RGB)
_ESCAPE = 0x80


def decode_sun(path: str, data: bytearray) -> Array:
    """Decode a Sun raster of 1, 8, 24 or 32 bits, with or without run lengths.

    Returns:
        bool ``(h, w)`` of 1 bit, of which white is ``True``; uint8 ``(h, w)`` of gray, also of a palette that is a ramp of
        gray; or RGB.

    Raises:
        UnreadableImageError: the file is truncated, or of another kind.
    """
    if len(data) < _HEADER.size:
        raise UnreadableImageError(f"{path} is truncated: its header has {_HEADER.size} bytes, the file {len(data)}")
    _, width, height, depth, _, kind, map_kind, map_bytes = _HEADER.unpack_from(data)
    if depth not in (1, 8, 24, 32) or kind not in _TYPES or map_kind not in (0, 1) or not width or not height:
        raise UnreadableImageError(
            f"{path} is a Sun raster of {height:,} x {width:,} px (height x width), {depth} bits, type {kind} and colour map "
            f"{map_kind}; 1, 8, 24 and 32 bits of types 0 to 3 and maps 0 and 1 are read"
        )
    check_expansion(path, height * width * max(1, depth // 8), len(data))
    row_bytes = -(-width * depth // 16) * 2  # rows are padded to 16 bits
    samples = memoryview(data)[_HEADER.size + map_bytes :]
    if kind == _RUN_LENGTHS:
        samples = memoryview(_expand_runs(bytes(samples), row_bytes * height))
    if len(samples) < row_bytes * height:
        raise UnreadableImageError(
            f"{path} is truncated: its pixels have {row_bytes * height:,} bytes, the file has {len(samples):,} of them"
        )
    rows = np.frombuffer(samples, np.uint8, row_bytes * height).reshape(height, row_bytes)
    palette = np.frombuffer(data, np.uint8, map_bytes // 3 * 3, _HEADER.size).reshape(3, -1).T if map_kind else None
    if depth == 1:
        bits = np.unpackbits(rows, axis=1)[:, :width]
        is_white: Array = bits == 0
        return is_white if palette is None or len(palette) < 2 else _look_up(palette, bits)
    pixels = rows[:, : width * depth // 8].reshape(height, width, depth // 8)
    if depth == 8:
        return _to_colours(path, pixels[:, :, 0], palette)
    # 32 bits begin with a byte of padding.
    stored = pixels[:, :, depth // 8 - 3 :]
    colours: Array = np.array(stored if kind == _RGB else stored[:, :, ::-1], order="C")
    return colours


def _to_colours(path: str, indices: Array, palette: Array | None) -> Array:
    gray: Array = indices.copy()
    if palette is None or not len(palette):
        return gray
    if indices.max() >= len(palette):
        raise UnreadableImageError(
            f"{path} has {len(palette)} colours, but pixels of colour {indices.max()}; it is damaged"
        )
    # Writers without a form for gray store a ramp.
    is_ramp = bool((palette == np.arange(len(palette))[:, np.newaxis]).all())
    return gray if is_ramp else _look_up(palette, indices)


def _look_up(palette: Array, indices: Array) -> Array:
    colours: Array = palette[indices]
    return colours


def _expand_runs(data: bytes, most: int) -> bytes:
    """Expand run lengths: 0x80, 0 is one byte 0x80; 0x80, n, value is n + 1 bytes of this value; others are as they are."""
    pieces, size, place = [], 0, 0
    while size < most and place < len(data):
        found = data.find(_ESCAPE, place)
        plain = data[place : found if found >= 0 else len(data)]
        pieces.append(plain)
        place += len(plain)
        size += len(plain)
        if found < 0 or found + 1 >= len(data):
            break
        count = data[found + 1]
        run = data[found : found + 1] if not count else data[found + 2 : found + 3] * (count + 1)
        pieces.append(run)
        size += len(run)
        place += 3 if count else 2
    return b"".join(pieces)[:most]
