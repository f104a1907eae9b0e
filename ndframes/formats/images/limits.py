"""What a header may promise before anything is allocated for it."""

from __future__ import annotations

from ...errors import UnreadableImageError

__all__ = ["check_block", "check_expansion"]
_ALWAYS_ALLOWED_BYTES = 1 << 30
# A sparse TIFF of 512-pixel RGB tiles spends 16 bytes of table on 786,432 bytes of pixels: 49,152 to 1.
_MAX_EXPANSION = 100_000
_ALWAYS_ALLOWED_BANDS = 4096
_MAX_EXPANSION_OF_BANDS = 1000
_ALWAYS_ALLOWED_BLOCK_BYTES = 1 << 28


def check_expansion(path: str, decoded_bytes: int, file_bytes: int, *, band_count: int = 1) -> None:
    """Refuse a header whose image no file of this length can hold.

    Bands beyond any sensor's number are believed less readily: GDAL takes minutes to fail on tens of thousands.

    Raises:
        UnreadableImageError: over 1 GiB decoded, and over 100,000 times the file's own length; or over 4,096 bands, and
            over 1,000 times that.
    """
    is_large = decoded_bytes > _ALWAYS_ALLOWED_BYTES and decoded_bytes > _MAX_EXPANSION * file_bytes
    is_deep = band_count > _ALWAYS_ALLOWED_BANDS and decoded_bytes > _MAX_EXPANSION_OF_BANDS * file_bytes
    if is_large or is_deep:
        raise UnreadableImageError(
            f"{path} has {file_bytes:,} bytes, but its header promises an image of {decoded_bytes:,} in {band_count:,} bands; "
            "it is damaged or hostile"
        )


def check_block(path: str, block_bytes: int, image_bytes: int) -> None:
    """Refuse a tile that is far larger than the image of which it is a part: libraries allocate it whole.

    Raises:
        UnreadableImageError: over 256 MiB decoded, and over four times the image.
    """
    if block_bytes > _ALWAYS_ALLOWED_BLOCK_BYTES and block_bytes > 4 * image_bytes:
        raise UnreadableImageError(
            f"{path} claims tiles of {block_bytes:,} bytes for an image of {image_bytes:,}; it is damaged or hostile"
        )
