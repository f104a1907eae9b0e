"""The meaning of the samples of a TIFF's page: dtype, colours of a palette, YCbCr, names of channels, nodata."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import UnreadableImageError
from ....spec.channels import default_codes
from ....spec.nodata import ColourKey

if TYPE_CHECKING:
    from ...._typing import Array
    from ....spec.nodata import Nodata

__all__ = ["Samples", "describe_samples"]
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED, _COMPLEX_INT, _COMPLEX = range(1, 7)
ICCLAB, ITULAB = 9, 10
#: Compressions whose decoders return colours as they are meant: JPEG, lossy JPEG of cameras, JPEG 2000 of RGB, WebP.
_COLOURS = (6, 7, 33007, 34892, 33005, 50001, 34927)
_APERIO_YCBCR = 33003
_CHANNELS = {CMYK: ("c", "m", "y", "k"), **dict.fromkeys((CIELAB, ICCLAB, ITULAB), ("l", "a", "b"))}
_INK_SET, _CMYK_INKS = 332, 1
_ALPHAS = (1, 2)
_NODATA_TAG = 42113
# Luma of red, green and blue by ITU-R BT.601, and the codes of black and white, where a file names no others.
_LUMA = (0.299, 0.587, 0.114)
_BLACK_AND_WHITE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
_MOST_PALETTE_BITS = 16
# As in alpha, for the programs that read an entry.
_MISSING, _THERE = 0, 255


@dataclass(frozen=True)
class Samples:
    """How the samples of a page become pixels.

    Attributes:
        stored_dtype: of the samples as a block is unpacked, in native byte order.
        stored_bands: the number of samples in a pixel.
        dtype: of the pixels.
        bands: the number of their bands.
        convert: makes pixels ``(h, w, bands)`` of samples ``(h, w, stored_bands)``; ``None``: they are the same.
        channels: the names of the bands; ``None``: those that their number suggests. Further bands only mark missing pixels.
        nodata: what marks pixels without data; ``None``: nothing does.
        fill: the sample in blocks that were not written, or one for each band.
    """

    stored_dtype: np.dtype[Any]
    stored_bands: int
    dtype: np.dtype[Any]
    bands: int
    convert: Callable[[Array], Array] | None = None
    channels: tuple[str, ...] | None = None
    nodata: Nodata | None = None
    fill: float | tuple[float, ...] = 0

    def of_plane(self, plane: int) -> Samples:
        """The samples of one plane, as they are stored."""
        fill = self.fill[plane] if isinstance(self.fill, tuple) else self.fill
        return Samples(self.stored_dtype, 1, self.stored_dtype, 1, fill=fill)


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
        return _describe_palette(path, page, stored, nodata)
    if bands >= 3 and _is_stored_ycbcr(page):
        return _describe_ycbcr(path, page, stored, nodata)
    return Samples(stored, bands, stored, bands, channels=_find_channels(page, bands), nodata=nodata, fill=fill)


def _find_channels(page: Any, bands: int) -> tuple[str, ...] | None:
    """The names of inks or of Lab, and of the samples beside them; ``None`` for other colours."""
    names = _CHANNELS.get(page.photometric)
    inks = page.tags.get(_INK_SET)
    if names is None or len(names) > bands or (page.photometric == CMYK and inks and inks.value != _CMYK_INKS):
        return None
    extras = tuple(map(int, page.extrasamples))
    if len(names) < bands and extras[:1] and extras[0] in _ALPHAS:
        names = (*names, "alpha" if "a" in names else "a")
    return (*names, *(f"band.{band}" for band in range(len(names), bands)))


def _find_dtype(path: str, page: Any) -> np.dtype[Any]:
    """The smallest dtype that holds the samples of a page."""
    bits, kind = page.bitspersample, page.sampleformat
    if isinstance(kind, tuple):
        raise UnreadableImageError(f"{path} stores samples of several formats, {kind}; that cannot be read")
    if page.photometric == PALETTE and kind == _SIGNED:  # an index has no sign
        kind = _UNSIGNED
    if kind not in range(_UNSIGNED, _COMPLEX + 1):  # as libtiff does
        kind = _UNSIGNED
    # Samples of several depths, such as 5, 6 and 5 bits, are unpacked by tifffile.
    most = max(bits) if isinstance(bits, tuple) else int(bits)
    whole = next((size for size in (8, 16, 32, 64, 128) if most <= size), None)
    if most == 1 and kind in (_UNSIGNED, _UNDEFINED, _SIGNED):
        return np.dtype(bool)
    if kind in (_UNSIGNED, _UNDEFINED) and whole is not None and whole <= 64:
        return np.dtype(f"u{whole // 8}")
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
    # Python's numbers may have underscores.
    if not text or "_" in text or dtype.kind not in "buif":
        return None
    try:
        value: float = int(text) if dtype.kind in "bui" else float(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            return None
    if dtype.kind in "bui":
        if not math.isfinite(value) or value != int(value):
            return None
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return int(value) if low <= value <= high else None
    # As GDAL compares it: rounded to the dtype, and to its largest number where it is a little larger. Python's float of a
    # text that is a little larger than the largest float64 is infinite.
    limit = float(np.finfo(dtype).max)
    is_named = "inf" in text.lower()
    if not is_named and limit < abs(value) <= limit * (1 + 1e-5):
        value = limit if value > 0 else -limit
    with np.errstate(over="ignore"):
        return float(dtype.type(value))


# -- palettes -------------------------------------------------------------------------------------------------------------


def _describe_palette(path: str, page: Any, stored: np.dtype[Any], nodata: float | None) -> Samples:
    """Colours of indices; further samples, such as alpha, follow them."""
    bits, bands, table = int(page.bitspersample), int(page.samplesperpixel), page.colormap
    if bits > _MOST_PALETTE_BITS or table is None:
        raise UnreadableImageError(f"{path} has indices of {bits} bits, but no table of colours for them")
    listed = np.asarray(table, np.uint16).reshape(3, -1).T
    # TIFF stores colours in 16 bits. Most programs scale 8 bits by 257 or 256, whose high byte is right for both; some
    # store the 8 bits as they are.
    short = listed if listed.max(initial=0) < 256 else listed >> 8
    colours = np.zeros((1 << bits, 3), np.uint8)
    colours[: len(short)] = short[: len(colours)]
    if bits == 1 and bands == 1 and sorted(map(tuple, colours.tolist())) == [(0, 0, 0), (255, 255, 255)]:
        return _describe_bits(stored, colours, nodata)
    extras = _scale_extras(page, bits, bands)
    index = None if nodata is None or nodata >= len(colours) else int(nodata)
    shown = colours.shape[1] + bands - 1
    is_there, key, names = None, None, None
    if index is not None:
        key = ColourKey((*colours[index].tolist(), *[None] * (bands - 1)))
        if (colours == colours[index]).all(axis=1).sum() > 1:
            # Other entries have this colour, so a further band, which has no name, tells the pixels of the index.
            is_there = np.full(len(colours), _THERE, np.uint8)
            is_there[index] = _MISSING
            key, names = ColourKey((*[None] * shown, _MISSING)), default_codes(shown)

    def convert(samples: Array) -> Array:
        indices = samples[:, :, 0]
        indices = indices.view(np.uint8) if indices.dtype == bool else indices
        found = [colours[indices]]
        if bands > 1:
            found.append(extras[samples[:, :, 1:].astype(np.uint16)])
        if is_there is not None:
            found.append(is_there[indices][:, :, np.newaxis])
        return found[0] if len(found) == 1 else np.concatenate(found, axis=2)

    fill = (index or 0, *[0] * (bands - 1))
    band_count = shown if is_there is None else shown + 1
    return Samples(stored, bands, colours.dtype, band_count, convert, names, key, fill)


def _describe_bits(stored: np.dtype[Any], colours: Array, nodata: float | None) -> Samples:
    """The two values of a bilevel image as booleans: white is true, whichever value the file stores for it."""
    table = colours[:, :1] > 0
    key = None if nodata is None else ColourKey((bool(table[int(nodata), 0]),))
    convert = lambda samples: table[samples[:, :, 0].view(np.uint8)]  # noqa: E731
    return Samples(stored, 1, np.dtype(bool), 1, convert, nodata=key, fill=nodata or 0)


def _scale_extras(page: Any, bits: int, bands: int) -> Array:
    """The samples of 8 bits beside a colour of 8 bits: alpha is scaled as colours are, others are kept if they fit."""
    values = np.arange(1 << bits)
    if bits == 8 or (bits < 8 and not all(int(extra) in _ALPHAS for extra in page.extrasamples[: bands - 1])):
        return values.astype(np.uint8)
    return (values >> (bits - 8) if bits > 8 else values * 255 // ((1 << bits) - 1)).astype(np.uint8)


# -- YCbCr ----------------------------------------------------------------------------------------------------------------


def _is_stored_ycbcr(page: Any) -> bool:
    """Whether blocks decode to YCbCr. JPEG decoders return RGB."""
    return page.compression == _APERIO_YCBCR or (page.photometric == YCBCR and page.compression not in _COLOURS)


def _describe_ycbcr(path: str, page: Any, stored: np.dtype[Any], nodata: float | None) -> Samples:
    """RGB of YCbCr, by tables in fixed point, as libtiff does."""
    bands = int(page.samplesperpixel)
    if stored != np.uint8 or page.bitspersample != 8:
        raise UnreadableImageError(f"{path} stores YCbCr in {page.bitspersample} bits; only 8 bits can be read")
    if page.planarconfig != 1 and page.subsampling not in (None, (1, 1)):
        raise UnreadableImageError(f"{path} stores planes of YCbCr in several resolutions; they cannot be read")
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

    # A block that was not written is black, or gray of the level of nodata.
    gray = int(np.argmin(np.abs(luminance - (nodata or 0))))
    fill = (gray, 128, 128, *[nodata or 0] * (bands - 3))
    return Samples(stored, bands, stored, bands, convert, nodata=nodata, fill=fill)


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
