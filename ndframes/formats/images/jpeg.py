"""JPEG files, decoded by libjpeg-turbo: the pixels that Pillow, OpenCV and torchvision give."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import SourceError, UnreadableImageError
from ..extensions import load_extensions
from ..reader import ReaderFacts
from .exif import find_orientation
from .limits import check_expansion
from .raster import RasterReader
from .whole import WholeReader, read_bytes

if TYPE_CHECKING:
    from ..._typing import Array
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp
    from ..reader import Reader
    from ..tiled.tile_cache import TileCache

__all__ = ["open_jpeg"]
_log = logging.getLogger("ndframes")
# A larger image is not decoded as a whole. This is about the largest one that Pillow opens.
_MOST_DECODED_BYTES = 512 * 2**20
_HEAD_BYTES = 1 << 16
# Precision, height, width, components.
_FRAME = Struct(">BHHB")
_JPEG_LS = 0xF7
_FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {_JPEG_LS}
_LOSSLESS = frozenset([0xC3, 0xC7, 0xCB, 0xCF, _JPEG_LS])
_EXIF, _START_OF_SCAN, _END = 0xE1, 0xDA, 0xD9
# Markers without a length.
_BARE = frozenset([0x01, *range(0xD0, 0xD9)])
# In the coded pixels, 0xFF is followed by a stuffed 0, a restart marker, or more 0xFF.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# In those of JPEG-LS, it is followed by a stuffed bit 0, or a restart marker.
_LS_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")


class _Head(NamedTuple):
    """The facts in the segments before the first scan.

    Attributes:
        frame: the second byte of the marker that begins the frame: the kind of JPEG.
        precision: the bits of a sample.
        height: in pixels; 0 if it follows the first scan.
        width: in pixels.
        components: the number of components.
        orientation: the orientation in the EXIF metadata.
        frame_at: the position of the frame's marker.
    """

    frame: int
    precision: int
    height: int
    width: int
    components: int
    orientation: int
    frame_at: int

    @property
    def is_inked(self) -> bool:
        """Whether the four components become RGB. Those of a lossless JPEG, or of more than 8 bits, stay as stored."""
        return self.components == 4 and self.precision == 8 and self.frame not in _LOSSLESS

    @property
    def facts(self) -> ReaderFacts:
        """The facts of the pixels."""
        shape = self.height, self.width, 3 if self.is_inked else self.components
        dtype = np.dtype(np.uint8 if self.precision <= 8 else np.uint16)
        return ReaderFacts(format="JPEG", shape=shape, dtype=dtype, tile_shape=shape[:2])


def open_jpeg(path: str, pool: HandlePool, stamp: SourceStamp, tiles: TileCache | None = None) -> Reader:
    """Open a JPEG: baseline, progressive, lossless or JPEG-LS, of 2 to 16 bits. Four inks (CMYK) are read as RGB, as by Pillow.

    An image of more than 512 MiB is decoded by GDAL, piece by piece, which is logged as a warning: the pixels of a JPEG
    with coarser colours then differ from those of libjpeg-turbo.

    Args:
        path: the file.
        pool: keeps the open handles.
        stamp: the file that ``path`` must be.
        tiles: stores decoded images.

    Raises:
        UnreadableImageError: the file is not a JPEG, or is damaged.
        SourceChangedError: the file of ``stamp`` was replaced or removed; when reading, too.
    """
    head = _read_head(path, pool, stamp)
    facts = replace(head.facts, orientation=head.orientation)
    decoded_bytes = int(np.prod(facts.shape)) * facts.dtype.itemsize
    check_expansion(path, decoded_bytes, stamp.size_bytes)
    if decoded_bytes > _MOST_DECODED_BYTES:
        reader = RasterReader(path, "JPEG", pool, file_bytes=stamp.size_bytes, stamp=stamp)
        _log.warning(
            "%s has %s x %s px (height x width), more than are decoded at once; it is decoded by GDAL, whose pixels may "
            "differ from those of libjpeg-turbo (Pillow, OpenCV)",
            path,
            f"{head.height:,}",
            f"{head.width:,}",
        )
        reader.facts = replace(reader.facts, orientation=head.orientation)
        return reader
    return WholeReader(path, facts, partial(_decode, path, pool, stamp, head), tiles)


def _read_head(path: str, pool: HandlePool, stamp: SourceStamp) -> _Head:
    start = read_bytes(path, pool, stamp, most=_HEAD_BYTES)
    head = _parse_head(path, start)
    # Profiles and previews may take megabytes before the frame.
    if head is None and len(start) < stamp.size_bytes:
        head = _parse_head(path, read_bytes(path, pool, stamp))
    if head is None:
        raise UnreadableImageError(f"{path} begins like JPEG but has no frame; it is truncated or damaged")
    return head


def _parse_head(path: str, data: bytearray) -> _Head | None:
    """The facts in the segments up to the frame; ``None`` if these bytes do not reach it."""
    orientation, place = 1, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _BARE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        content = bytes(data[place + 4 : place + 2 + length])
        if marker in _FRAMES and len(content) >= _FRAME.size:
            precision, height, width, components = _FRAME.unpack_from(content)
            if not height or not width or not 1 <= components <= 4 or not 2 <= precision <= 16:
                raise UnreadableImageError(
                    f"{path} is a JPEG of {height:,} x {width:,} px (height x width), {components} components of {precision} "
                    "bits, which cannot be read"
                )
            return _Head(marker, precision, height, width, components, orientation, place)
        if marker in (_START_OF_SCAN, _END) or length < 2:
            break
        if marker == _EXIF and content.startswith(b"Exif\0\0") and orientation == 1:
            orientation = find_orientation(content)
        place += 2 + length
    return None


def _decode(path: str, pool: HandlePool, stamp: SourceStamp, head: _Head) -> Array:
    data = read_bytes(path, pool, stamp)
    # libjpeg fills what is missing with gray, without an error. The decoder of JPEG-LS takes a minute or more to fail.
    if _is_cut(data, head.frame_at, _LS_MARKER if head.frame == _JPEG_LS else _MARKER):
        raise UnreadableImageError(f"{path} is truncated: it has {len(data):,} bytes, and no marker of its end")
    try:
        pixels = _decode_by_turbo(data, head)
    except SourceError:
        raise
    except Exception as error:  # the codecs raise anything for damaged bytes
        raise UnreadableImageError(f"{path} (JPEG) does not decode, it is damaged: {error}") from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if head.frame not in _LOSSLESS and head.precision == 8 and _has_flat_end(pixels):
        _check_end(path, pool, stamp, pixels.shape[1])
    return _mix_inks(pixels) if head.is_inked else pixels


def _decode_by_turbo(data: bytearray, head: _Head) -> Array:
    imagecodecs = load_extensions("_jpeg8", "_ljpeg", "_jpegls")
    if head.frame == _JPEG_LS:
        lossless: Array = imagecodecs.jpegls_decode(data)
        return lossless
    try:
        pixels: Array = imagecodecs.jpeg8_decode(data)
    except Exception:
        if head.frame not in _LOSSLESS:
            raise
        # Predictors and precisions that libjpeg-turbo lacks.
        pixels = imagecodecs.ljpeg_decode(data)
    return pixels


def _is_cut(data: bytearray, place: int, any_marker: re.Pattern[bytes]) -> bool:
    """Whether the marker of the end is missing; ``place`` is that of any marker before the first scan."""
    while (found := any_marker.search(data, place)) is not None:
        place, marker = found.end(), data[found.end() - 1]
        if marker == _END:
            return False
        if marker not in _BARE:
            place += int.from_bytes(data[place : place + 2], "big")
    return True


def _has_flat_end(pixels: Array) -> bool:
    """Whether the last pixels are all alike, as where libjpeg has filled the place of coded pixels that are missing."""
    height, width, _ = pixels.shape
    # Inside the last block, whatever part of it the image needs.
    end = pixels[-min(4, (height - 1) % 8 + 1) :, -min(4, (width - 1) % 8 + 1) :]
    return bool((end == end[0, 0]).all())


def _check_end(path: str, pool: HandlePool, stamp: SourceStamp, width: int) -> None:
    """Check by GDAL that the coded pixels reach to the last row: imagecodecs does not tell libjpeg's warnings."""
    reader = RasterReader(path, "JPEG", pool, stamp=stamp)
    height = reader.shape[0]
    try:
        reader.read(range(height - 1, height), range(width), [0], np.empty((1, width, 1), reader.dtype))
    except UnreadableImageError as error:
        if "premature end" in str(error):
            raise UnreadableImageError(
                f"{path} is truncated or damaged: its coded pixels end before its last row"
            ) from error


def _mix_inks(inks: Array) -> Array:
    """RGB from the stored samples of cyan, magenta, yellow and black, which are inverted; rounded as by Pillow."""
    product = inks[:, :, :3].astype(np.uint16) * inks[:, :, 3:]
    product += 128
    product += product >> 8
    return (product >> 8).astype(np.uint8)
