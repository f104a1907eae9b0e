"""Limits on the sizes in a header, checked before anything is allocated."""

from __future__ import annotations

from ...errors import UnreadableImageError

__all__ = ["check_block", "check_expansion"]
_ALWAYS_ALLOWED_BYTES = 1 << 30
# A sparse TIFF with RGB tiles of 512 pixels has 16 bytes of tables for 786,432 bytes of pixels: 49,152 to 1.
_MAX_EXPANSION = 100_000
_ALWAYS_ALLOWED_BANDS = 4096
_MAX_EXPANSION_OF_BANDS = 1000
_ALWAYS_ALLOWED_BLOCK_BYTES = 1 << 28


def check_expansion(path: str, decoded_bytes: int, file_bytes: int, *, band_count: int = 1) -> None:
    """Refuse a header that describes a larger image than a file of this length can hold.

    The limit is lower for more bands than any sensor has, because GDAL takes minutes to fail on tens of thousands.

    Raises:
        UnreadableImageError: the image has over 1 GiB and over 100,000 times the bytes of the file; or it has over 4,096
            bands and over 1,000 times the bytes of the file.
    """
    is_large = decoded_bytes > _ALWAYS_ALLOWED_BYTES and decoded_bytes > _MAX_EXPANSION * file_bytes
    is_deep = band_count > _ALWAYS_ALLOWED_BANDS and decoded_bytes > _MAX_EXPANSION_OF_BANDS * file_bytes
    if is_large or is_deep:
        raise UnreadableImageError(
            f"{path} has {file_bytes:,} bytes, but its header describes an image of {decoded_bytes:,} bytes in {band_count:,} "
            "bands; it is damaged or hostile"
        )


def check_block(path: str, block_bytes: int, image_bytes: int) -> None:
    """Refuse tiles that are far larger than the image, since libraries allocate whole tiles.

    Raises:
        UnreadableImageError: a tile has over 256 MiB, and over four times the bytes of the image.
    """
    if block_bytes > _ALWAYS_ALLOWED_BLOCK_BYTES and block_bytes > 4 * image_bytes:
        raise UnreadableImageError(
            f"{path} has tiles of {block_bytes:,} bytes for an image of {image_bytes:,} bytes; it is damaged or hostile"
        )
