"""BMP files without run lengths: palettes, gray, bits, and colours of 16, 24 and 32 bits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import UnreadableImageError
from .limits import check_expansion

if TYPE_CHECKING:
    from ..._typing import Array

__all__ = ["decode_bmp"]
_OS2_BYTES, _LEAST_BYTES, _MOST_BYTES = 12, 40, 124
_PLAIN, _MASKS, _MASKS_WITH_ALPHA = 0, 3, 6
_MASKS_15 = (0x7C00, 0x3E0, 0x1F, 0)
_MASKS_24 = (0xFF0000, 0xFF00, 0xFF, 0)
_BLACK_FIRST, _WHITE_FIRST = [[0, 0, 0], [255, 255, 255]], [[255, 255, 255], [0, 0, 0]]


class _Head(NamedTuple):
    """The facts in the header.

    Attributes:
        height: in pixels.
        width: in pixels.
        bits: the bits of a pixel.
        masks: the bits of red, green, blue and alpha in a pixel; 0 for alpha if there is none.
        palette: the colours ``(entries, 3)``.
        data_at: the position of the first row.
        is_bottom_up: whether the first row is the lowest one.
    """

    height: int
    width: int
    bits: int
    masks: tuple[int, ...]
    palette: Array
    data_at: int
    is_bottom_up: bool

    @property
    def row_bytes(self) -> int:
        """The bytes of a row: they are padded to 32 bits."""
        return -(-self.width * self.bits // 32) * 4


def decode_bmp(path: str, data: bytearray) -> Array | None:
    """Decode a BMP; ``None`` if it has run lengths or holds a file of another format.

    Returns:
        bool ``(h, w)`` if the palette is black and white in either order; uint8 ``(h, w)`` if it is a ramp of gray; otherwise
        the colours, RGB or RGBA. Fewer than 8 bits of a colour are scaled to 8 like Pillow does.

    Raises:
        UnreadableImageError: the file is truncated, or its header is damaged.
    """
    head = _read_head(path, data)
    if head is None:
        return None
    stop = head.data_at + head.height * head.row_bytes
    check_expansion(path, head.height * head.width * 3, len(data))
    if len(data) < stop:
        raise UnreadableImageError(f"{path} is truncated: it has {len(data):,} bytes, by its header it has {stop:,}")
    rows = np.frombuffer(data, np.uint8, head.height * head.row_bytes, head.data_at).reshape(
        head.height, head.row_bytes
    )
    rows = rows[::-1] if head.is_bottom_up else rows
    return _to_colours(path, _split_bits(rows, head), head.palette) if head.bits <= 8 else _split_colours(rows, head)


def _read_head(path: str, data: bytearray) -> _Head | None:
    try:
        data_at, header_bytes = struct.unpack_from("<2I", data, 10)
        if header_bytes == _OS2_BYTES:
            width, height, _, bits = struct.unpack_from("<4H", data, 18)
            form, used, entry_bytes = _PLAIN, 0, 3
        else:
            width, height, _, bits, form, used = struct.unpack_from("<2i2HI12xI", data, 18)
            entry_bytes = 4
        if form not in (_PLAIN, _MASKS, _MASKS_WITH_ALPHA) or bits not in (1, 2, 4, 8, 16, 24, 32):
            return None
        masks = _MASKS_15 if bits == 16 else _MASKS_24
        if form != _PLAIN:
            has_alpha = header_bytes >= 56 or form == _MASKS_WITH_ALPHA
            masks = (*struct.unpack_from("<3I", data, 54), *(struct.unpack_from("<I", data, 66) if has_alpha else (0,)))
        palette_at = 14 + header_bytes
        count = (used or 1 << bits) if bits <= 8 else 0
        # A palette ends where the pixels begin, whatever its count says.
        count = max(0, min(count, 256, (data_at - palette_at) // entry_bytes))
        entries = np.frombuffer(data, np.uint8, count * entry_bytes, palette_at).reshape(count, entry_bytes)
    except (struct.error, ValueError) as error:
        raise UnreadableImageError(f"{path} is truncated: it ends within its header") from error
    is_known = header_bytes == _OS2_BYTES or _LEAST_BYTES <= header_bytes <= _MOST_BYTES
    if not is_known or width <= 0 or not height or (form != _PLAIN and not all(masks[:3])):
        raise UnreadableImageError(
            f"{path} is a BMP of {height:,} x {width:,} px (height x width) with a header of {header_bytes:,} bytes; it is damaged"
        )
    if form != _PLAIN and any(mask.bit_length() - (mask & -mask).bit_length() >= 8 for mask in masks if mask):
        raise UnreadableImageError(
            f"{path} is a BMP of more than 8 bits for a colour, which is not read exactly; convert it to TIFF"
        )
    return _Head(abs(height), width, bits, masks, entries[:, 2::-1], data_at, height > 0)


def _split_bits(rows: Array, head: _Head) -> Array:
    """The indices ``(h, w)`` in rows of 1, 2, 4 or 8 bits a pixel, the first one in the highest bits."""
    if head.bits == 8:
        return rows[:, : head.width]
    shifts = np.arange(8 - head.bits, -1, -head.bits, dtype=np.uint8)
    samples = rows[:, :, np.newaxis] >> shifts & np.uint8((1 << head.bits) - 1)
    indices: Array = samples.reshape(head.height, -1)[:, : head.width]
    return indices


def _to_colours(path: str, indices: Array, palette: Array) -> Array:
    if indices.max() >= len(palette):
        raise UnreadableImageError(
            f"{path} has {len(palette)} colours, but pixels of colour {indices.max()}; it is damaged"
        )
    if palette.tolist() in (_BLACK_FIRST, _WHITE_FIRST):
        is_white: Array = indices == (palette.tolist() == _BLACK_FIRST)
        return is_white
    # BMP has no form for gray: it is stored as a palette.
    is_ramp = bool((palette == np.arange(len(palette))[:, np.newaxis]).all())
    colours: Array = palette[indices]
    return indices.copy() if is_ramp else colours


def _split_colours(rows: Array, head: _Head) -> Array:
    height, width, size = head.height, head.width, head.bits // 8
    pixels = rows[:, : width * size].reshape(height, width, size)
    if head.masks == _MASKS_24:
        colours: Array = np.array(pixels[:, :, 2::-1], order="C")
        return colours
    values = np.ascontiguousarray(pixels).view(f"<u{size}")[:, :, 0].astype(np.uint32)
    masks = head.masks if head.masks[3] else head.masks[:3]
    out = np.empty((height, width, len(masks)), np.uint8)
    for band, mask in enumerate(masks):
        lowest = mask & -mask
        most = mask // lowest
        # In 64 bits, since a mask may have 32.
        out[:, :, band] = (
            ((values & np.uint32(mask)) // np.uint32(lowest)).astype(np.uint64) * np.uint64(255) // np.uint64(most)
        )
    return out
