"""PBM, PGM and PPM files, as text and as bytes: the samples as they are stored."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import UnreadableImageError
from .arrays import RawLayout, RawReader
from .limits import check_expansion
from .whole import open_whole, read_bytes

if TYPE_CHECKING:
    from ..._typing import Array
    from ...system.handles import FileHandle, HandlePool
    from ...system.stamp import SourceStamp
    from ..reader import Reader
    from ..tiled.tile_cache import TileCache

__all__ = ["open_pnm"]
# Comments may be as long as their writer likes.
_HEAD_BYTES = 1 << 16
_MOST_EXTENT = 1 << 31
# A comment goes to the end of its line; netpbm allows one wherever it allows white space, even within a number.
_COMMENT = re.compile(rb"#[^\n\r]*")
_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)")
_MOST_DIGITS = 10
_BITS, _TEXT = (1, 4), (1, 2, 3)


class _Head(NamedTuple):
    """The facts in the header.

    Attributes:
        form: the digit in the first two bytes, 1 to 6.
        shape: ``(height, width, bands)``.
        largest: the largest sample that the header allows; 1 for bits.
        data_at: the position of the first sample.
    """

    form: int
    shape: tuple[int, int, int]
    largest: int
    data_at: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels."""
        if self.form in _BITS:
            return np.dtype(bool)
        return np.dtype(np.uint8 if self.largest < 256 else np.uint16)


def open_pnm(
    path: str,
    pool: HandlePool,
    stamp: SourceStamp,
    *,
    is_mapped: bool | None = None,
    tiles: TileCache | None = None,
) -> Reader:
    """Open a PBM, PGM or PPM. Samples are read as stored: uint8, or uint16 if the header allows more than 255.

    Bits are read as booleans, of which white is ``True``. Other forms than text and bits are read piece by piece.

    Args:
        path: the file.
        pool: keeps the open handles.
        stamp: the file that ``path`` must be.
        is_mapped: see :class:`~ndframes.formats.images.arrays.RawReader`.
        tiles: stores decoded images.

    Raises:
        UnreadableImageError: the header is damaged, the samples are more or fewer than it says, or a sample is larger than
            its dtype.
        SourceChangedError: the file of ``stamp`` was replaced or removed; when reading, too.
    """
    head = _read_head(path, pool, stamp)
    height, width, bands = head.shape
    check_expansion(path, height * width * bands * head.dtype.itemsize, stamp.size_bytes)
    if head.form in (*_BITS, *_TEXT):
        return open_whole(path, "PNM", partial(_decode, path, pool, stamp, head), tiles)
    dtype = head.dtype.newbyteorder(">")
    layout = RawLayout(head.shape, None, dtype, is_fortran_order=False, data_offset=head.data_at)
    _check_rest(path, read_bytes(path, pool, stamp, first=layout.end_offset, most=_HEAD_BYTES))

    def read_layout(_: str, __: FileHandle) -> RawLayout:
        return layout

    return RawReader(path, pool, read_layout, format="PNM", stamp=stamp, is_mapped=is_mapped)


def _read_head(path: str, pool: HandlePool, stamp: SourceStamp) -> _Head:
    data = bytes(read_bytes(path, pool, stamp, most=_HEAD_BYTES))
    form = int(data[1:2])
    numbers: list[int] = []
    place = 2
    while len(numbers) < (2 if form in _BITS else 3):
        found = _TOKEN.match(data, place)
        if found is None or not found[1].isdigit() or len(found[1]) > _MOST_DIGITS:
            what = "nothing" if found is None else repr(found[1][:20])
            raise UnreadableImageError(f"{path} begins like PNM, but its header has {what} where a number is due")
        numbers.append(int(found[1]))
        place = found.end()
    width, height, largest = (*numbers, 1)[:3]
    if not 0 < height < _MOST_EXTENT or not 0 < width < _MOST_EXTENT or not 0 < largest < 65536:
        raise UnreadableImageError(
            f"{path} is {height:,} x {width:,} px (height x width) with samples up to {largest:,}, by its header; "
            "a PNM has at least one pixel, and samples up to 65,535"
        )
    # One byte of white space ends the header, or the end of a comment's line.
    comment = _COMMENT.match(data, place)
    place = place if comment is None else comment.end()
    return _Head(form, (height, width, 3 if form in (3, 6) else 1), largest, place + 1)


def _decode(path: str, pool: HandlePool, stamp: SourceStamp, head: _Head) -> Array:
    data = read_bytes(path, pool, stamp)
    if head.form == 4:
        return _unpack_bits(path, data, head)
    text = _COMMENT.sub(b"", bytes(data[head.data_at - 1 :]))
    # The digits of bits need no space between them.
    tokens = np.frombuffer(b"".join(text.split()), np.uint8) if head.form == 1 else text.split()
    count = head.shape[0] * head.shape[1] * head.shape[2]
    if len(tokens) != count:
        cut = "; it is truncated" if len(tokens) < count else ""
        raise UnreadableImageError(f"{path} has {len(tokens):,} samples, but by its header it has {count:,}{cut}")
    if head.form == 1:
        samples = tokens - np.uint8(ord("0"))
    elif max(map(len, tokens)) > _MOST_DIGITS or not all(map(bytes.isdigit, tokens)):
        raise UnreadableImageError(f"{path} has samples that are not numbers; it is damaged")
    else:
        samples = np.array(tokens, f"S{_MOST_DIGITS}").astype(np.int64)
    most = 1 if head.form == 1 else np.iinfo(head.dtype).max
    if samples.max() > most:
        raise UnreadableImageError(
            f"{path} has a sample of {samples.max()}, but its header allows 0 to {head.largest}; it is damaged"
        )
    pixels: Array = samples == 0 if head.form == 1 else samples.astype(head.dtype)
    return pixels.reshape(head.shape)


def _unpack_bits(path: str, data: bytearray, head: _Head) -> Array:
    height, width, _ = head.shape
    row_bytes = -(-width // 8)
    stop = head.data_at + height * row_bytes
    if len(data) < stop:
        raise UnreadableImageError(
            f"{path} has {len(data):,} bytes, but by its header it has {stop:,}; it is truncated"
        )
    _check_rest(path, data[stop:])
    rows = np.frombuffer(data, np.uint8, height * row_bytes, head.data_at).reshape(height, row_bytes)
    is_white: Array = np.unpackbits(rows, axis=1)[:, :width, np.newaxis] == 0
    return is_white


def _check_rest(path: str, rest: bytearray) -> None:
    """Refuse what follows the samples, unless it is white space."""
    if rest.strip():
        what = "several images" if re.match(rb"\s*P[1-6]\s", rest) else "more samples than its header says"
        raise UnreadableImageError(f"{path} holds {what}; it is damaged, or cannot be read as one image")
