"""Encode the pixels of a tile, and decode them again."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

from ...system.process import has_other_threads, keep_freed_memory
from ..extensions import load_extensions
from .jpeg import JpegGrids, decode_jpeg, encode_jpeg_tile

if TYPE_CHECKING:
    from ..._typing import Array
    from ...spec.backends import TileCodec

__all__ = [
    "DECODE_ERRORS",
    "Decoder",
    "GridDecoder",
    "SeveralDecoder",
    "checksum",
    "encode_tile",
    "extra_tags",
    "find_decoder",
    "find_grid_decoder",
    "find_several_decoder",
    "unpack_zstd",
]
#: Decodes the bytes of a tile into pixels ``(extent, extent, bands)``, which may be a view of the bytes.
Decoder = Callable[[Any], "Array"]
#: Decodes the bytes of several tiles into the pixels of each.
SeveralDecoder = Callable[["list[Any]"], "list[Array]"]
#: Decodes a window of adjacent tiles, given row by row, into pixels ``(h, w, bands)``.
GridDecoder = Callable[[Sequence[Sequence[bytes]], slice, slice], "Array"]
_SHORT, _LONG = 3, 4
# At import: if an extension failed to load later, imagecodecs would keep a stub of it for the whole process.
imagecodecs = load_extensions("_deflate", "_imcd", "_jpeg8", "_lerc", "_webp")
#: The errors of the libraries if bytes do not decode; those of imagecodecs are RuntimeErrors.
DECODE_ERRORS = (zstandard.ZstdError, RuntimeError, ValueError, TypeError, MemoryError)


def checksum(data: Any, start: int = 0) -> int:
    """As :func:`ndframes.system.segments.checksum`, five times as fast, by a library that is loaded here anyway.

    Example:
        >>> from ndframes.system import segments
        >>> checksum(b"pixels") == segments.checksum(b"pixels")
        True
    """
    crc32: int = imagecodecs.deflate_crc32(data, start)
    return crc32


def encode_tile(tile: Array, codec: TileCodec) -> bytes:
    """Encode a whole tile ``(h, w, bands)`` as TIFF stores it.

    Booleans become samples of one bit; each row begins with a new byte.
    """
    # Our TIFFs are little-endian on every machine.
    tile = np.ascontiguousarray(tile, tile.dtype.newbyteorder("<"))
    if tile.dtype == bool:
        tile = np.packbits(tile.reshape(tile.shape[0], -1), axis=1)
    elif codec.predictor == "STANDARD":
        tile = imagecodecs.delta_encode(tile, axis=1)
    elif codec.predictor == "FLOATING_POINT":
        tile = imagecodecs.floatpred_encode(tile, axis=1)
    return bytes(_ENCODERS[codec.compress](tile, codec))


@lru_cache(maxsize=256)
def find_decoder(compress: str, predictor: str, tile_shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Decoder:
    """Find the function that decodes a tile of :func:`encode_tile`.

    Args:
        compress: the name of the compression.
        predictor: the name of the differencing.
        tile_shape: ``(extent, extent, bands)``.
        dtype: of the pixels.

    Returns:
        A function that any number of threads may call. It raises one of :data:`DECODE_ERRORS` if the bytes do not decode.

    Example:
        >>> decode = find_decoder("NONE", "NO", (1, 2, 3), np.dtype("uint8"))
        >>> decode(b"abcdef").tolist()
        [[[97, 98, 99], [100, 101, 102]]]
    """
    if compress in _IMAGE_DECODERS:
        # The reshape adds the axis that libraries omit for one band. It fails if the tile has another size.
        decode_image = _IMAGE_DECODERS[compress]
        return lambda data: decode_image(data, tile_shape[2]).reshape(tile_shape)
    unpack = _UNPACKERS[compress]
    raw_bytes, arrange = _find_arrangement(predictor, tile_shape, dtype)
    return lambda data: arrange(unpack(data, raw_bytes))


@lru_cache(maxsize=256)
def find_several_decoder(
    compress: str, predictor: str, tile_shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> SeveralDecoder:
    """As :func:`find_decoder`, for several tiles: in one call into the library, without the interpreter, if there is one.

    Example:
        >>> decode = find_several_decoder("NONE", "NO", (1, 2, 1), np.dtype("uint8"))
        >>> [pixels.ravel().tolist() for pixels in decode([b"ab", b"cd"])]
        [[97, 98], [99, 100]]
    """
    if compress not in _SEVERAL_UNPACKERS:
        decode = find_decoder(compress, predictor, tile_shape, dtype)
        return lambda pieces: [decode(data) for data in pieces]
    unpack = _SEVERAL_UNPACKERS[compress]
    raw_bytes, arrange = _find_arrangement(predictor, tile_shape, dtype)
    return lambda pieces: [arrange(data) for data in unpack(pieces, raw_bytes)]


def find_grid_decoder(compress: str) -> GridDecoder | None:
    """As :func:`find_decoder`, for a window of several tiles; ``None`` if tiles can only be decoded one by one, and whole.

    The pixels are the same as those of the whole tiles.
    """
    return JpegGrids() if compress == "JPEG" else None


def _find_arrangement(
    predictor: str, tile_shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> tuple[int, Callable[[Any], Array]]:
    """The number of bytes in a decompressed tile, and the function that makes pixels of them."""
    if dtype.kind == "b":
        height, width, bands = tile_shape
        row_bytes = -(-width * bands // 8)
        return height * row_bytes, lambda data: (
            np.unpackbits(np.frombuffer(data, np.uint8).reshape(height, row_bytes), axis=1)
            [:, : width * bands].reshape(tile_shape).view(bool)
        )  # fmt: skip
    stored = dtype.newbyteorder("<")
    raw_bytes = math.prod(tile_shape) * dtype.itemsize
    if predictor == "NO":
        return raw_bytes, lambda data: np.frombuffer(data, stored).reshape(tile_shape)
    undo = imagecodecs.delta_decode if predictor == "STANDARD" else imagecodecs.floatpred_decode
    return raw_bytes, lambda data: undo(np.frombuffer(data, stored).reshape(tile_shape), axis=1)


def extra_tags(codec: TileCodec, band_count: int) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """The TIFF tags that this compression needs besides its number."""
    if codec.compress == "JPEG" and band_count == 3:
        # YCbCrSubSampling: the default is 2 x 2, but these tiles store colour in full resolution.
        return ((530, _SHORT, (1, 1)),)
    if codec.compress == "LERC":
        # LercParameters: version 2.4 of the codec, and no second compression.
        return ((50674, _LONG, (4, 0)),)
    return ()


def _webp(tile: Array, codec: TileCodec) -> bytes:
    if codec.is_lossless:
        return bytes(imagecodecs.webp_encode(tile, lossless=True))
    return bytes(imagecodecs.webp_encode(tile, level=codec.quality, lossless=False))


class _Contexts(threading.local):
    """The zstd contexts of each thread: creating one takes as long as decoding a small tile."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        """The context that compresses at this level."""
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(level=level)
        return self.compressors[level]


_CONTEXTS = _Contexts()


def unpack_zstd(data: Any, raw_bytes: int) -> bytes:
    """Decompress one frame of at most this many bytes, by a context that each thread keeps: twice as fast as a new one."""
    # A frame that states its own size overrides the limit; a reshape afterwards then fails.
    return _CONTEXTS.decompressor.decompress(data, max_output_size=raw_bytes)


def _inflate(data: Any, raw_bytes: int) -> Any:
    # Without an output of the right size, the library guesses the size, and decodes again if the guess was too small.
    return imagecodecs.deflate_decode(data, out=np.empty(raw_bytes, np.uint8))


def _unpack_zstd_tiles(pieces: list[Any], raw_bytes: int) -> Any:
    """Decompress tiles in one call if other threads may be waiting for the interpreter."""
    # That call creates a new context inside the library, so a lone thread decodes sooner tile by tile.
    if len(pieces) == 1 or not _HAS_SEVERAL or not has_other_threads():
        return [_UNPACKERS["ZSTD"](data, raw_bytes) for data in pieces]
    keep_freed_memory()
    # The library takes the sizes as 64-bit integers in the byte order of the machine.
    sizes = raw_bytes.to_bytes(8, sys.byteorder) * len(pieces)
    return _CONTEXTS.decompressor.multi_decompress_to_buffer(pieces, decompressed_sizes=sizes)


_HAS_SEVERAL = "multi_decompress_to_buffer" in zstandard.backend_features  # missing from zstandard's cffi backend
_UNPACKERS: dict[str, Callable[[Any, int], Any]] = {
    "NONE": lambda data, _: data,
    "ZSTD": unpack_zstd,
    "DEFLATE": _inflate,
    "LZW": lambda data, raw_bytes: imagecodecs.lzw_decode(data, out=np.empty(raw_bytes, np.uint8)),
}
_SEVERAL_UNPACKERS: dict[str, Callable[[list[Any], int], Any]] = {"ZSTD": _unpack_zstd_tiles}
_IMAGE_DECODERS: dict[str, Callable[[Any, int], Any]] = {
    "LERC": lambda data, _: imagecodecs.lerc_decode(data),
    "JPEG": lambda data, _: decode_jpeg(data),
    # The encoder omits the alpha of a tile that is opaque throughout.
    "WEBP": lambda data, bands: imagecodecs.webp_decode(data, hasalpha=bands == 4),
}
_ENCODERS: dict[str, Callable[[Array, TileCodec], Any]] = {
    "NONE": lambda tile, _: tile.tobytes(),
    "ZSTD": lambda tile, codec: _CONTEXTS.compressor(codec.level).compress(tile.data),
    # TIFF stores DEFLATE with zlib's header and checksum.
    "DEFLATE": lambda tile, codec: imagecodecs.deflate_encode(tile, level=codec.level, raw=False),
    "LZW": lambda tile, _: imagecodecs.lzw_encode(tile),
    # For LERC, the level is the largest error that it may make.
    "LERC": lambda tile, _: imagecodecs.lerc_encode(tile, level=0, planar=False),
    "JPEG": lambda tile, codec: encode_jpeg_tile(tile, codec.quality),
    "WEBP": _webp,
}
