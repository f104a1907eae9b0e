"""The codecs of a TIFF's blocks: bytes from compressed bytes, and samples from bytes."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extensions import load_extensions
from ...tiled.codecs import unpack_zstd

if TYPE_CHECKING:
    from ...._typing import Array

__all__ = [
    "LERC",
    "PICTURES",
    "PREDICTED",
    "UNPACKERS",
    "check_frame",
    "decode_lerc",
    "decode_picture",
    "undo_differences",
    "undo_float_differences",
    "unpack_bits",
]
imagecodecs = load_extensions("_imcd")
LERC = 34887
# Aperio's numbers, and that of others.
_JPEG_2000 = (33003, 33004, 33005, 34712)
# The number of TIFF, and that of NDPI.
_JPEG_XR = (34934, 22610)
_JPEG_XL, _WEBP, _PNG = (50002, 52546), (50001, 34927), 34933
_LZW, _PACKBITS = 5, 32773
_DEFLATE, _ZSTD, _LZMA = (8, 32946), (50000, 34926), 34925
#: libtiff applies a predictor to these only, whatever tags say of others.
PREDICTED = (_LZW, *_DEFLATE, *_ZSTD, _LZMA)
# imagecodecs unpacks up to 32 bits.
_MOST_PACKED_BITS = 32


def _inflate(data: bytes, size: int) -> Any:
    return imagecodecs.deflate_decode(data, out=np.empty(size, np.uint8))


#: By compression: a function that makes at most this number of bytes of compressed ones.
UNPACKERS: dict[int, Callable[[bytes, int], Any]] = {
    1: lambda data, _: data,
    _LZW: lambda data, size: imagecodecs.lzw_decode(data, out=size),
    **dict.fromkeys(_DEFLATE, _inflate),
    **dict.fromkeys(_ZSTD, unpack_zstd),
    _PACKBITS: lambda data, size: imagecodecs.packbits_decode(data, out=size),
    _LZMA: lambda data, size: imagecodecs.lzma_decode(data, out=size),
}


def unpack_bits(lines: Array, bits: int, shape: tuple[int, int, int], dtype: np.dtype[Any], order: str) -> Array:
    """Samples of any number of bits from rows of bytes ``(rows, bytes)``; whole bytes are in the order of the file."""
    rows, count = shape[0], shape[1] * shape[2]
    if bits == 1:
        return np.unpackbits(lines, axis=1, count=count).reshape(shape).view(bool)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if bits % 8 == 0:
        parts = lines[:, : count * bits // 8].reshape(rows, count, bits // 8)
        parts = parts if order == ">" else parts[..., ::-1]
        # As the low bytes of big-endian words.
        wide = np.zeros((rows, count, dtype.itemsize), np.uint8)
        wide[..., dtype.itemsize - bits // 8 :] = parts
        values = wide.view(unsigned.newbyteorder(">"))[..., 0].astype(unsigned)
    elif bits <= _MOST_PACKED_BITS:
        values = np.asarray(imagecodecs.packints_decode(lines.tobytes(), unsigned, bits, runlen=count), unsigned)
    else:
        values = np.empty((rows, count), unsigned)
        weights = np.uint64(1) << np.arange(bits - 1, -1, -1, dtype=np.uint64)
        for line, row in zip(lines, values, strict=True):  # by rows, because the bits take 8 bytes each
            row[:] = np.unpackbits(line, count=count * bits).reshape(count, bits).astype(np.uint64) @ weights
    if dtype.kind == "i":
        # The sign bit moves to the top and back, which fills the bits above it.
        spare = unsigned.type(8 * dtype.itemsize - bits)
        values = (values << spare).view(dtype) >> dtype.type(spare)
    return np.asarray(values).reshape(shape)


def undo_differences(raw: Any, bits: int, shape: tuple[int, int, int], order: str) -> Array:
    """Words of 8 to 64 bits, in native order, from their differences along rows; also the words of floats."""
    words = np.frombuffer(raw, f"{order}u{bits // 8}").reshape(shape)
    return np.asarray(imagecodecs.delta_decode(words.astype(words.dtype.newbyteorder("="), copy=False), axis=1))


def undo_float_differences(raw: Any, bits: int, shape: tuple[int, int, int]) -> bytes:
    """The bytes of floats, in native order, from the differences of their bytes, the high bytes of a row first."""
    rows, width, bands = shape
    planes = np.frombuffer(raw, np.uint8).reshape(rows, -1, bands).cumsum(axis=1, dtype=np.uint8)
    parts = planes.reshape(rows, bits // 8, width * bands).transpose(0, 2, 1)
    return bytes((parts if sys.byteorder == "big" else parts[..., ::-1]).tobytes())


def decode_picture(
    compression: int, data: bytes, shape: tuple[int, int, int], used: tuple[int, int], dtype: np.dtype[Any]
) -> Array:
    """The samples of a block that is a picture, such as JPEG 2000.

    Args:
        compression: the value of the tag.
        data: the picture.
        shape: ``(rows, width, bands)`` of the block.
        used: the rows and columns of the block that are inside the image; the picture may lack the others.
        dtype: of the samples.

    Raises:
        ValueError: it has other samples than the tags say.
    """
    found = _PICTURES[compression](data, shape[2])
    found = found if found.ndim == 3 else found[:, :, np.newaxis]
    is_fit = used[0] <= found.shape[0] <= shape[0] and used[1] <= found.shape[1] <= shape[1]
    if not is_fit or found.shape[2] != shape[2] or found.dtype.itemsize > dtype.itemsize:
        raise ValueError(f"it has the shape {found.shape} and {found.dtype} instead of {shape} and {dtype}")
    out = np.zeros(shape, dtype)
    out[: found.shape[0], : found.shape[1]] = found
    return out


def _decode_jpeg_xr(data: bytes, _: int) -> Any:
    _check_jpeg_xr(data)
    return imagecodecs.jpegxr_decode(data)


_PICTURES: dict[int, Callable[[bytes, int], Any]] = {
    **dict.fromkeys(_JPEG_2000, lambda data, _: imagecodecs.jpeg2k_decode(data)),
    **dict.fromkeys(_JPEG_XR, _decode_jpeg_xr),
    **dict.fromkeys(_JPEG_XL, lambda data, _: imagecodecs.jpegxl_decode(data)),
    **dict.fromkeys(_WEBP, lambda data, bands: imagecodecs.webp_decode(data, hasalpha=bands == 4)),
    _PNG: lambda data, _: imagecodecs.png_decode(data),
}
#: Compressions whose blocks are pictures.
PICTURES = frozenset(_PICTURES)


def check_frame(data: bytes | memoryview, shape: tuple[int, int, int]) -> None:
    """Refuse a JPEG of another shape than that of its block, ``(rows, width, bands)``.

    tifffile refuses one that is smaller, unless it ends where the image does. But if the number of its samples fits, it takes
    them for those of other places.

    Raises:
        ValueError: it has other components, more columns, or fewer columns and more rows.
    """
    frame = _find_frame(data)
    if frame is None:
        return
    if frame[2] != shape[2]:
        raise ValueError(f"it has {frame[2]} components instead of {shape[2]}")
    if frame[1] > shape[1] or (frame[1] < shape[1] and frame[0] > shape[0]):
        raise ValueError(f"it has {frame[0]} x {frame[1]} px instead of {shape[0]} x {shape[1]}")


def _find_frame(data: bytes | memoryview) -> tuple[int, int, int] | None:
    """The height, width and number of components of a JPEG.

    ``None`` if it has no frame header, or is lossless: the samples of a pixel may then be stored as several columns.
    """
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack_from(">HHB", data, place + 5)
            return None if marker in (0xC3, 0xC7, 0xCB, 0xCF) else (height, width, components)
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _check_jpeg_xr(data: bytes) -> None:
    """Refuse a JPEG XR that is cut: its decoder makes other pixels of what is left, and prints to stderr.

    Raises:
        ValueError: it ends before its pixels do.
    """
    try:
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        entries = [struct.unpack_from("<HHII", data, start + 2 + 12 * index) for index in range(count)]
    except struct.error:
        entries = []
    values = {number: value for number, _, _, value in entries}
    # Of alpha, some writers give the position of the end instead of the length.
    end = max(values.get(0xBCC0, 0) + values.get(0xBCC1, 0), values.get(0xBCC2, 0), values.get(0xBCC3, 0))
    if not values or end > len(data):
        raise ValueError("it ends before its JPEG XR picture does")


def decode_lerc(data: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any], fill: float | None) -> Array:
    """Samples of a LERC block; ``fill`` replaces those that its mask excludes.

    The bands of a pixel may be together in one blob, or in a blob each.

    Args:
        data: a block; it may be compressed once more.
        shape: ``(rows, width, bands)`` of the block.
        dtype: of the samples.
        fill: ``None``: nan for floats, 0 for others.
    """
    data = _unwrap_lerc(data, 4096 + 2 * dtype.itemsize * shape[0] * shape[1] * shape[2])
    values, masks = imagecodecs.lerc_decode(data, masks=True)
    if values.dtype != (np.uint8 if dtype.kind == "b" else dtype):
        raise ValueError(f"it has samples of {values.dtype} instead of {dtype}")
    depth = (
        struct.unpack_from("<i", data, 22)[0]
        if data[:6] == b"Lerc2 " and struct.unpack_from("<i", data, 6)[0] >= 4
        else 1
    )
    rows, width, bands = shape
    is_fit = (rows, width) in (values.shape[:2], values.shape[1:3]) and values.size == rows * width * bands
    if not is_fit or not depth or bands % depth:
        raise ValueError(f"it has samples of the shape {values.shape} instead of {shape}")
    found = values.reshape(bands // depth, rows, width, depth).transpose(1, 2, 0, 3).reshape(shape)
    if masks is None or masks.all():
        return np.asarray(found, dtype)
    # A mask for all bands, or one for each blob.
    is_there = masks.reshape(-1, rows, width).transpose(1, 2, 0)
    is_there = np.broadcast_to(is_there, (rows, width, is_there.shape[2])).repeat(bands // is_there.shape[2], axis=2)
    missing = (np.nan if dtype.kind == "f" else 0) if fill is None else fill
    return np.where(is_there, found, np.asarray(missing, dtype))


def _unwrap_lerc(data: bytes, most: int) -> bytes:
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return bytes(load_extensions("_zstd").zstd_decode(data, out=most))
    return data if data[:4] in (b"Lerc", b"CntZ") else zlib.decompressobj().decompress(data, most)
