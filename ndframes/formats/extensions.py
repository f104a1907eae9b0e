"""The extension modules of imagecodecs, imported so that a failure is an error and leaves nothing behind."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import imagecodecs

__all__ = ["extensions_of_tiff", "load_extensions"]
# By the number of a TIFF's compression.
_OF_COMPRESSION = {
    **dict.fromkeys((2, 3, 4), ("_ccitt",)),
    # These numbers include lossless JPEG, which libjpeg does not decode.
    **dict.fromkeys((6, 7, 33007, 34892), ("_jpeg8", "_ljpeg")),
    **dict.fromkeys((8, 32946, 50013), ("_deflate",)),
    **dict.fromkeys((33003, 33004, 33005, 34712), ("_jpeg2k",)),
    # LERC's blocks may be compressed once more, by DEFLATE or zstd.
    34887: ("_lerc", "_deflate", "_zstd"),
    34925: ("_lzma",),
    34933: ("_png",),
    **dict.fromkeys((34934, 22610), ("_jpegxr",)),
    **dict.fromkeys((50000, 34926), ("_zstd",)),
    **dict.fromkeys((50001, 34927), ("_webp",)),
    **dict.fromkeys((50002, 52546), ("_jpegxl",)),
}


def load_extensions(*names: str) -> Any:
    """Import extension modules of imagecodecs.

    imagecodecs imports an extension when one of its functions is first used. Where that import fails, it replaces the
    functions by stubs for the rest of the process, even if there was no file descriptor for a moment only. An extension
    that was imported before is used as it is.

    Returns:
        The package.

    Raises:
        ImportError, OSError: an extension is there but does not load.

    Example:
        >>> load_extensions("_deflate").deflate_crc32(b"pixels")
        3457236171
    """
    for name in names:
        try:
            import_module(f"imagecodecs.{name}")
        except ModuleNotFoundError:  # another version or build, which has the function elsewhere or not at all
            continue
    return imagecodecs


def extensions_of_tiff(compression: int) -> tuple[str, ...]:
    """The extension modules that decode the blocks of a TIFF: for the predictor and packed integers, and the codec.

    Example:
        >>> extensions_of_tiff(8)
        ('_imcd', '_deflate')
    """
    return "_imcd", *_OF_COMPRESSION.get(compression, ())
