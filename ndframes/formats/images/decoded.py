"""Decode whole files: AVIF, BMP, GIF, QOI, ICO, DDS and Radiance, by Pillow, imagecodecs or our own code."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import UnreadableImageError
from ..extensions import load_extensions
from .bmp import decode_bmp
from .jpeg2000 import is_ycbcr
from .limits import check_expansion
from .planar import decode_psd, decode_sgi
from .sunraster import decode_sun
from .truncation import describe_damage, is_gif_cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._typing import Array

__all__ = ["decode_whole", "to_array"]
#: Formats of DDS (DXGI) that hold half floats.
_DDS_FLOATS = range(94, 97)


def decode_whole(path: str, kind: str, data: bytearray) -> Array:
    """Decode an image file of one of these formats.

    Args:
        path: the file, for messages.
        kind: its format.
        data: its content.

    Returns:
        The pixels ``(h, w, bands)`` in the order RGB or RGBA.

    Raises:
        UnreadableImageError: the file does not decode, or stores more than 8 bits in a form that is not read exactly.
    """
    decode = _DECODERS.get(kind, _decode_by_pillow)
    try:
        pixels = decode(path, data)
    except UnreadableImageError:
        raise
    except Exception as error:  # the libraries raise anything for damaged bytes
        raise UnreadableImageError(
            f"{path} ({kind}) does not decode, {describe_damage(kind, data)}: {error}"
        ) from error
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def to_array(image: Image.Image) -> Array:
    """The pixels of an image of Pillow. Palettes become colours: RGB, or RGBA if the file declares transparency."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.array(image)


def _decode_by_pillow(path: str, data: bytearray) -> Array:
    with Image.open(io.BytesIO(data)) as image:
        # Pillow has read the header only; it allocates the pixels when they are first used.
        check_expansion(path, image.width * image.height * len(image.getbands()), len(data))
        return to_array(image)


def _decode_avif(path: str, data: bytearray) -> Array:
    if not _has_many_bits(data):
        return _decode_by_pillow(path, data)
    # Pillow narrows more than 8 bits to 8.
    pixels: Array = load_extensions("_avif").avif_decode(data)
    return pixels


def _has_many_bits(data: bytearray) -> bool:
    """Whether any image item of an AVIF has 10 or 12 bits, by its configuration of AV1."""
    at = data.find(b"av1C")
    while at >= 0:
        # The first byte holds a marker and a version, which is always 1.
        if data[at + 4] == 0x81 and data[at + 6] & 0x40:
            return True
        at = data.find(b"av1C", at + 4)
    return False


def _decode_bmp(path: str, data: bytearray) -> Array:
    pixels = decode_bmp(path, data)
    return _decode_by_pillow(path, data) if pixels is None else pixels


def _decode_gif(path: str, data: bytearray) -> Array:
    if is_gif_cut(data):
        raise UnreadableImageError(f"{path} is truncated: it ends within a frame")
    return _decode_by_pillow(path, data)


def _decode_dds(path: str, data: bytearray) -> Array:
    if data[84:88] == b"DX10" and int.from_bytes(data[128:132], "little") in _DDS_FLOATS:
        raise UnreadableImageError(f"{path} stores half floats (BC6H), which are not read exactly; convert it to TIFF")
    return _decode_by_pillow(path, data)


def _decode_radiance(path: str, data: bytearray) -> Array:
    # Not by OpenCV, which prints errors.
    height, width = _find_extents_of_radiance(data)
    check_expansion(path, height * width * 12, len(data))
    pixels: Array = load_extensions("_rgbe").rgbe_decode(bytes(data))
    return pixels


def _find_extents_of_radiance(data: bytearray) -> tuple[int, int]:
    """Height and width, from the line after the empty line that ends the header."""
    head, gap, rest = bytes(data[: 1 << 16]).partition(b"\n\n")
    words = rest.split(b"\n", 1)[0].split() if gap else []
    if len(words) != 4 or not words[1].isdigit() or not words[3].isdigit():
        raise ValueError(f"no line of the size after {len(head)} bytes of header")
    first, second = int(words[1]), int(words[3])
    return (first, second) if words[0][1:] == b"Y" else (second, first)


def _decode_jpeg_2000(path: str, data: bytearray) -> Array:
    if is_ycbcr(data, bits=8):  # imagecodecs rounds the colours in another way
        return _decode_by_pillow(path, data)
    pixels: Array = load_extensions("_jpeg2k").jpeg2k_decode(bytes(data))
    return pixels


_DECODERS: dict[str, Callable[[str, bytearray], Array]] = {
    "AVIF": _decode_avif,
    "BMP": _decode_bmp,
    "DDS": _decode_dds,
    "GIF": _decode_gif,
    "JP2OpenJPEG": _decode_jpeg_2000,
    "PSD": decode_psd,
    "Radiance": _decode_radiance,
    "SGI": decode_sgi,
    "Sun raster": decode_sun,
}
