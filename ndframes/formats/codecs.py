"""One tile's pixels to bytes, by the codec of a COG."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import imagecodecs as _imagecodecs
import numpy as np

if TYPE_CHECKING:
    from ..backends import Codec
    from .reader import Array

__all__ = ["encode_tile", "extra_tags"]

_SHORT, _LONG = 3, 4

imagecodecs: Any = _imagecodecs  # its stubs say less than it takes


def encode_tile(tile: Array, codec: Codec) -> bytes:
    """Encode a tile ``(h, w, bands)``, padded to its full extent, as TIFF stores it.

    Booleans are packed eight to a byte, each row on its own, as one-bit samples.
    """
    tile = np.ascontiguousarray(tile, tile.dtype.newbyteorder("<"))
    if tile.dtype == bool:
        tile = np.packbits(tile.reshape(tile.shape[0], -1), axis=1)
    elif codec.predictor == "STANDARD":
        tile = imagecodecs.delta_encode(tile, axis=1)
    elif codec.predictor == "FLOATING_POINT":
        tile = imagecodecs.floatpred_encode(tile, axis=1)
    return bytes(_ENCODERS[codec.compress](tile, codec))


def extra_tags(codec: Codec, band_count: int) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """The TIFF tags that this codec needs beside its number."""
    if codec.compress == "JPEG" and band_count == 3:
        return ((530, _SHORT, (2, 2)),)
    if codec.compress == "LERC":
        return ((50674, _LONG, (4, 0)),)
    return ()


def _jpeg(tile: Array, codec: Codec) -> bytes:
    if tile.shape[2] == 1:
        return bytes(imagecodecs.jpeg8_encode(tile[:, :, 0], level=codec.quality))
    return bytes(
        imagecodecs.jpeg8_encode(tile, level=codec.quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="420")
    )


def _webp(tile: Array, codec: Codec) -> bytes:
    if codec.is_lossless:
        return bytes(imagecodecs.webp_encode(tile, lossless=True))
    return bytes(imagecodecs.webp_encode(tile, level=codec.quality, lossless=False))


_ENCODERS: dict[str, Callable[[Array, Codec], Any]] = {
    "NONE": lambda tile, _: tile.tobytes(),
    "ZSTD": lambda tile, codec: imagecodecs.zstd_encode(tile, level=codec.level),
    "DEFLATE": lambda tile, codec: imagecodecs.zlib_encode(tile, level=codec.level),
    "LZW": lambda tile, _: imagecodecs.lzw_encode(tile),
    "LERC": lambda tile, _: imagecodecs.lerc_encode(tile, level=0, planar=False),
    "JPEG": _jpeg,
    "WEBP": _webp,
}
