"""The meaning of the samples of a TIFF's page: dtype, colours of a palette, YCbCr, names of channels, nodata."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import UnreadableImageError
from ....spec.nodata import ColourKey

if TYPE_CHECKING:
    from ...._typing import Array
    from ....spec.nodata import Nodata

__all__ = ["Samples", "describe_samples"]
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED, _COMPLEX_INT, _COMPLEX = range(1, 7)
#: Compressions of whole pictures, whose decoders return colours as they are meant: JPEG, and lossy JPEG of cameras.
_JPEGS = (6, 7, 33007, 34892)
_APERIO_YCBCR = 33003
_CHANNELS = {CMYK: ("c", "m", "y", "k"), CIELAB: ("l", "a", "b")}
_NODATA_TAG = 42113
# Luma of red, green and blue by ITU-R BT.601, and the codes of black and white, where a file names no others.
_LUMA = (0.299, 0.587, 0.114)
_BLACK_AND_WHITE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
_MOST_PALETTE_BITS = 16


@dataclass(frozen=True)
class Samples:
    """How the samples of a page become pixels.

    Attributes:
        stored_dtype: of the samples as a block is unpacked, in native byte order.
        stored_bands: the number of samples in a pixel.
        dtype: of the pixels.
        bands: the number of their bands.
        convert: makes pixels ``(h, w, bands)`` of samples ``(h, w, stored_bands)``; ``None``: they are the same.
        channels: the names of the bands; ``None``: those that their number suggests.
        nodata: what marks pixels without data; ``None``: nothing does.
        fill: the sample in blocks that were not written.
    """

    stored_dtype: np.dtype[Any]
    stored_bands: int
    dtype: np.dtype[Any]
    bands: int
    convert: Callable[[Array], Array] | None = None
    channels: tuple[str, ...] | None = None
    nodata: Nodata | None = None
    fill: float = 0


def describe_samples(path: str, page: Any) -> Samples:
    """Find out what the samples of a page mean.

    Samples are kept as they are stored, whether white or black is zero. Only palettes and YCbCr become colours; inks (CMYK)
    and Lab do not.

    Args:
        path: the file, for messages.
        page: tifffile's page.

    Raises:
        UnreadableImageError: samples of this kind cannot be read.
    """
    stored, bands = _find_dtype(path, page), int(page.samplesperpixel)
    nodata = _parse_nodata(page, stored)
    fill = 0 if nodata is None else nodata
    if page.photometric == PALETTE and stored.kind in "bu":
        convert, dtype, colours = _find_palette(path, page)
        key = None if nodata is None or bands > 1 else _find_key(page, convert, nodata)
        return Samples(stored, bands, dtype, colours + bands - 1, convert, nodata=key, fill=fill)
    if bands >= 3 and page.planarconfig == 1 and _is_stored_ycbcr(page):
        return Samples(stored, bands, stored, bands, _find_ycbcr(page), nodata=nodata, fill=fill)
    names = _CHANNELS.get(page.photometric)
    channels = names if names is not None and len(names) == bands else None
    return Samples(stored, bands, stored, bands, channels=channels, nodata=nodata, fill=fill)


def _find_dtype(path: str, page: Any) -> np.dtype[Any]:
    """The smallest dtype that holds the samples of a page."""
    bits, kind = page.bitspersample, page.sampleformat
    # Samples of several depths, such as 5, 6 and 5 bits, are unpacked by tifffile.
    most = max(bits) if isinstance(bits, tuple) else int(bits)
    whole = next((size for size in (8, 16, 32, 64, 128) if most <= size), None)
    if kind in (_UNSIGNED, _UNDEFINED) and whole is not None and whole <= 64:
        return np.dtype(bool) if most == 1 else np.dtype(f"u{whole // 8}")
    if kind == _SIGNED and whole is not None and whole <= 64:
        return np.dtype(f"i{whole // 8}")
    if kind == _FLOAT and most in (16, 24, 32, 64):
        return np.dtype({16: "f2", 24: "f4", 32: "f4", 64: "f8"}[most])
    # Integers of 16 bits fit into floats of 32, and those of 32 bits into floats of 64.
    if (kind == _COMPLEX_INT and most in (32, 64)) or (kind == _COMPLEX and most in (64, 128)):
        return np.dtype("c16" if most == 128 or (kind, most) == (_COMPLEX_INT, 64) else "c8")
    raise UnreadableImageError(f"{path} stores samples of {bits} bits in the format {kind}; they cannot be read")


def _parse_nodata(page: Any, dtype: np.dtype[Any]) -> float | None:
    """The value of GDAL's tag: an integer for integers, exact in 64 bits; ``None`` if it is not there or cannot occur."""
    tag = page.tags.get(_NODATA_TAG)
    text = "" if tag is None else str(tag.value).strip().rstrip("\0")
    if not text or dtype.kind not in "buif":
        return None
    try:
        value: float = int(text) if dtype.kind in "bui" else float(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            return None
    if dtype.kind in "ui":
        if not math.isfinite(value) or value != int(value):
            return None
        limits = np.iinfo(dtype)
        return int(value) if limits.min <= value <= limits.max else None
    if dtype.kind == "f":
        # As GDAL compares it: rounded to the dtype, and to its largest number where it is a little larger.
        limit = float(np.finfo(dtype).max)
        if limit < abs(value) <= limit * (1 + 1e-5):
            value = limit if value > 0 else -limit
        return float(dtype.type(value))
    return value


# -- palettes -------------------------------------------------------------------------------------------------------------


def _find_palette(path: str, page: Any) -> tuple[Callable[[Array], Array], np.dtype[Any], int]:
    """The function that looks up the colours of indices, their dtype and the number of their bands."""
    bits, table = int(page.bitspersample), page.colormap
    if bits > _MOST_PALETTE_BITS or table is None:
        raise UnreadableImageError(f"{path} has indices of {bits} bits, but no table of colours for them")
    listed = np.asarray(table, np.uint16).reshape(3, -1).T
    # TIFF stores colours in 16 bits. Most programs scale 8 bits by 257 or 256, whose high byte is right for both; some
    # store the 8 bits as they are.
    short = listed if listed.max(initial=0) < 256 else listed >> 8
    colours = np.zeros((1 << bits, 3), np.uint8)
    colours[: len(short)] = short[: len(colours)]
    if bits == 1 and sorted(map(tuple, colours.tolist())) == [(0, 0, 0), (255, 255, 255)]:
        table_of_bits = colours[:, :1] > 0
        return lambda samples: table_of_bits[samples[:, :, 0].view(np.uint8)], np.dtype(bool), 1
    return lambda samples: _look_up(colours, samples), np.dtype(np.uint8), 3


def _find_key(page: Any, convert: Callable[[Array], Array], index: float) -> ColourKey | None:
    """The colour of the index that marks missing pixels, unless other indices have the same colour."""
    count = 1 << int(page.bitspersample)
    if not 0 <= index < count:
        return None
    indices = np.arange(count, dtype=np.uint8 if count <= 256 else np.uint16)[:, np.newaxis, np.newaxis]
    table = convert(indices.view(bool) if count == 2 else indices)[:, 0]
    is_alike = (table == table[int(index)]).all(axis=1)
    return ColourKey(tuple(table[int(index)].tolist())) if is_alike.sum() == 1 else None


def _look_up(colours: Array, samples: Array) -> Array:
    """Colours ``(h, w, 3)`` of indices ``(h, w, 1)``; further samples, such as alpha, follow them."""
    indices = samples[:, :, 0]
    found: Array = colours[indices.view(np.uint8) if indices.dtype == bool else indices]
    return found if samples.shape[2] == 1 else np.concatenate([found, samples[:, :, 1:].astype(np.uint8)], axis=2)


# -- YCbCr ----------------------------------------------------------------------------------------------------------------


def _is_stored_ycbcr(page: Any) -> bool:
    """Whether blocks decode to YCbCr. JPEG decoders return RGB."""
    return page.compression == _APERIO_YCBCR or (page.photometric == YCBCR and page.compression not in _JPEGS)


def _find_ycbcr(page: Any) -> Callable[[Array], Array]:
    """The function that makes RGB of YCbCr, by tables in fixed point, as libtiff does."""
    luma = [float(part) for part in _rationals(page, 529, _LUMA)]
    codes = [float(part) for part in _rationals(page, 532, _BLACK_AND_WHITE)]
    red, green, blue = luma
    levels = np.arange(256)
    luminance = _to_value(levels, codes[0], codes[1], 255)
    blueness = _to_value(levels - 128, codes[2] - 128, codes[3] - 128, 127)
    redness = _to_value(levels - 128, codes[4] - 128, codes[5] - 128, 127)
    to_red, to_blue = 2 - 2 * red, 2 - 2 * blue
    half = 1 << 15
    red_of = (_fixed(to_red) * redness + half) >> 16
    blue_of = (_fixed(to_blue) * blueness + half) >> 16
    green_of_red = -_fixed(red * to_red / green) * redness
    green_of_blue = -_fixed(blue * to_blue / green) * blueness + half

    def convert(samples: Array) -> Array:
        y = luminance[samples[:, :, 0]]
        cb, cr = samples[:, :, 1], samples[:, :, 2]
        out = np.array(samples)
        out[:, :, 0] = np.clip(y + red_of[cr], 0, 255)
        out[:, :, 1] = np.clip(y + ((green_of_blue[cb] + green_of_red[cr]) >> 16), 0, 255)
        out[:, :, 2] = np.clip(y + blue_of[cb], 0, 255)
        return out

    return convert


def _to_value(code: Array, black: float, white: float, most: int) -> Array:
    """The value that a code stands for, from ``black`` for 0 to ``white`` for ``most``."""
    span = white - black
    return np.trunc((code - black) * most / (span if span else 1)).astype(np.int64)


def _fixed(factor: float) -> int:
    return int(factor * (1 << 16) + 0.5)


def _rationals(page: Any, number: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """The values of a tag of fractions, which tifffile returns as numerators and denominators."""
    tag = page.tags.get(number)
    if tag is None:
        return default
    parts = np.asarray(tag.value, float).reshape(-1)
    if len(parts) == 2 * len(default):
        parts = parts[::2] / np.where(parts[1::2] == 0, 1, parts[1::2])
    return tuple(parts.tolist()) if len(parts) == len(default) else default
