"""The path of an IIIF image request, parsed and resolved: which pixels it asks for, at which size.

The rules are those of the Image API 3.0 (https://iiif.io/api/image/3.0/); nothing is read here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from ..errors import IiifError

__all__ = ["IiifFormat", "IiifLimits", "IiifPicture", "IiifQuality", "parse_request"]
IiifQuality = Literal["default", "color", "gray", "bitonal"]
IiifFormat = Literal["jpg", "png", "webp", "tif"]
# Digits and a point: no sign, no exponent, and no digits of other scripts.
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_INTEGER = r"[0-9]+"
_PIXELS = re.compile(rf"({_INTEGER}),({_INTEGER}),({_INTEGER}),({_INTEGER})")
_PERCENT = re.compile(rf"pct:({_NUMBER}),({_NUMBER}),({_NUMBER}),({_NUMBER})")
_SIZE = re.compile(
    rf"(?P<up>\^?)(?:(?P<max>max)|pct:(?P<pct>{_NUMBER})|(?P<fit>!?)(?P<w>{_INTEGER})?,(?P<h>{_INTEGER})?)"
)
_ROTATION = re.compile(rf"(!?)({_NUMBER})")
_LAST = re.compile(r"(?P<quality>[a-z]+)\.(?P<format>[a-z0-9]+)")
_QUALITIES, _FORMATS = get_args(IiifQuality), get_args(IiifFormat)
# More digits than any picture has pixels.
_MOST_DIGITS = 12
_TOO_LONG = re.compile(rf"[0-9]{{{_MOST_DIGITS + 1}}}")


@dataclass(frozen=True, slots=True)
class IiifLimits:
    """The largest picture that a server makes, in pixels."""

    width: int
    height: int
    area: int

    def allow(self, width: int, height: int) -> bool:
        """Whether a picture of this size is allowed."""
        return width <= self.width and height <= self.height and width * height <= self.area

    def factor(self, width: int, height: int) -> Fraction:
        """The largest factor by which a picture of this size may be scaled; of the area, rounded down."""
        by_area = Fraction(math.isqrt(self.area * 10**12 // (width * height)), 10**6)
        return min(Fraction(self.width, width), Fraction(self.height, height), by_area)


@dataclass(frozen=True, slots=True)
class IiifPicture:
    """What a request asks for, of an image whose size is known.

    Attributes:
        region: ``(y, x)`` slices of the image, inside it and not empty.
        shape: ``(height, width)`` of the scaled region, before it is rotated.
        is_mirrored: left and right are swapped, before the rotation.
        degrees: of the rotation, clockwise: 0, 90, 180 or 270.
        quality: of the colours.
        format: of the file.
        canonical: the canonical form of the request's path.
    """

    region: tuple[slice, slice]
    shape: tuple[int, int]
    is_mirrored: bool
    degrees: int
    quality: IiifQuality
    format: IiifFormat
    canonical: str


def parse_request(path: str, shape: tuple[int, int], limits: IiifLimits) -> IiifPicture:
    """Parse and resolve ``region/size/rotation/quality.format``.

    Args:
        path: what follows the identifier, percent-decoded.
        shape: ``(height, width)`` of the image.
        limits: of the picture.

    Raises:
        IiifError: the request is not allowed (status 400), or asks for what is not offered (501).

    Example:
        >>> limits = IiifLimits(4000, 4000, 4_000_000)
        >>> picture = parse_request("100,0,600,400/!150,150/90/default.jpg", (480, 640), limits)
        >>> picture.region, picture.shape, picture.canonical
        ((slice(0, 400, None), slice(100, 640, None)), (111, 150), '100,0,540,400/150,111/90/default.jpg')
    """
    parts = path.split("/")
    if len(parts) != 4:
        raise IiifError(f"{len(parts)} parts; an image request is region/size/rotation/quality.format")
    if _TOO_LONG.search(path):
        raise IiifError(f"a number has more than {_MOST_DIGITS} digits")
    top, left, height, width = _resolve_region(parts[0], shape)
    out_shape = _resolve_size(parts[1], (height, width), limits)
    is_mirrored, degrees = _parse_rotation(parts[2])
    quality, file_format = _parse_last(parts[3])
    is_full = (height, width) == tuple(shape)
    region = "full" if is_full else f"{left},{top},{width},{height}"
    grows = "^" if out_shape[0] > height or out_shape[1] > width else ""
    is_max = out_shape == (height, width)
    size = "max" if is_max else f"{grows}{out_shape[1]},{out_shape[0]}"
    canonical = f"{region}/{size}/{'!' * is_mirrored}{degrees}/{quality}.{file_format}"
    slices = (slice(top, top + height), slice(left, left + width))
    return IiifPicture(slices, out_shape, is_mirrored, degrees, quality, file_format, canonical)


def _resolve_region(text: str, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The top, left, height and width of a region, cropped at the edges of the image."""
    image_height, image_width = shape
    if text == "full":
        return 0, 0, image_height, image_width
    if text == "square":
        edge = min(shape)
        return (image_height - edge) // 2, (image_width - edge) // 2, edge, edge
    if (pixels := _PIXELS.fullmatch(text)) is not None:
        left, top, width, height = map(int, pixels.groups())
    elif (percent := _PERCENT.fullmatch(text)) is not None:
        x, y, w, h = (Fraction(value) / 100 for value in percent.groups())
        left, top = _round(x * image_width), _round(y * image_height)
        width, height = _round(w * image_width), _round(h * image_height)
    else:
        raise IiifError(f"region {text!r}; allowed: full, square, x,y,w,h and pct:x,y,w,h")
    width, height = min(width, image_width - left), min(height, image_height - top)
    if width <= 0 or height <= 0:
        raise IiifError(f"region {text!r} holds no pixel of an image of {image_width} x {image_height} pixels")
    return top, left, height, width


def _resolve_size(text: str, region: tuple[int, int], limits: IiifLimits) -> tuple[int, int]:
    """The height and width of the picture of a region."""
    found = _SIZE.fullmatch(text)
    is_known = found is not None and (found["max"] or found["pct"] or found["w"] or found["h"])
    if found is None or not is_known or (found["fit"] and not (found["w"] and found["h"])):
        raise IiifError(f"size {text!r}; allowed: max, w,  ,h  pct:n  w,h  !w,h  each also with ^ before it")
    may_grow = bool(found["up"])
    height, width = region
    if found["max"] or found["fit"]:
        factor = limits.factor(width, height)
        if found["fit"]:
            factor = min(factor, Fraction(int(found["w"]), width), Fraction(int(found["h"]), height))
        factor = factor if may_grow else min(factor, Fraction(1))
        most = (int(found["h"]), int(found["w"])) if found["fit"] else (limits.height, limits.width)
        out = min(most[0], _at_least_one(height * factor)), min(most[1], _at_least_one(width * factor))
        while not limits.allow(out[1], out[0]):  # by rounding
            out = max(1, out[0] - 1), max(1, out[1] - 1)
    else:
        out = _exact_size(found, height, width)
    if min(out) < 1:
        raise IiifError(f"size {text!r} has no pixel")
    if not may_grow and (out[0] > height or out[1] > width):
        raise IiifError(f"size {text!r} is larger than the region, {width} x {height} pixels; ask for ^{text}")
    if not limits.allow(out[1], out[0]):
        raise IiifError(
            f"size {text!r} is {out[1]} x {out[0]} pixels; at most {limits.width} x {limits.height}, and {limits.area:,} together"
        )
    return out


def _exact_size(found: re.Match[str], height: int, width: int) -> tuple[int, int]:
    if found["pct"]:
        factor = Fraction(found["pct"]) / 100
        return _round(height * factor), _round(width * factor)
    if found["w"] and found["h"]:
        return int(found["h"]), int(found["w"])
    if found["w"]:
        return (_at_least_one(Fraction(int(found["w"]) * height, width)) if int(found["w"]) else 0), int(found["w"])
    return int(found["h"]), (_at_least_one(Fraction(int(found["h"]) * width, height)) if int(found["h"]) else 0)


def _parse_rotation(text: str) -> tuple[bool, int]:
    found = _ROTATION.fullmatch(text)
    # A fraction takes longer to make, and few rotations need one.
    given = None if found is None else int(found[2]) if found[2].isdecimal() else Fraction(found[2])
    if found is None or given is None or given > 360:
        raise IiifError(f"rotation {text!r}; give 0 to 360 degrees, with ! before it to mirror")
    degrees = given % 360
    if degrees % 90:
        error = IiifError(f"rotation {text!r}; 0, 90, 180 and 270 are offered")
        error.status = 501
        raise error
    return bool(found[1]), int(degrees)


def _parse_last(text: str) -> tuple[IiifQuality, IiifFormat]:
    found = _LAST.fullmatch(text)
    if found is None or found["quality"] not in _QUALITIES:
        raise IiifError(f"{text!r}; give quality.format with one of {', '.join(_QUALITIES)}")
    if found["format"] not in _FORMATS:
        raise IiifError(f"format {found['format']!r}; offered: {', '.join(_FORMATS)}")
    return found["quality"], found["format"]  # type: ignore[return-value]


def _round(value: Fraction) -> int:
    """To the nearest integer, halves up."""
    return math.floor(value + Fraction(1, 2))


def _at_least_one(value: Fraction) -> int:
    return max(1, _round(value))
