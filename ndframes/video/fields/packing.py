"""Pack one field into bytes without loss, and back: differences of neighbours, by byte planes, by zstd.

Floats are differences of fixed-point numbers, since the order of magnitude changes from pixel to pixel: with ``k`` chosen from
the largest value, a float is ``q * 2**k`` with a whole number ``q`` of 26 bits (55 for float64), and a remainder that only
values much smaller than the largest one have. Differences of ``q`` are taken twice along each axis, modulo the size of the
integer, so that nothing is lost and sums undo them. Fields with infinities, NaN or numbers near the smallest float are
differences of the bits of the floats, in an order that is that of their values, and so are fields with many numbers that are much
smaller than the largest one. Some rows are compressed in each way to find which one is shorter.
"""

from __future__ import annotations

import math
import struct
import threading
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import MovieError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..._typing import Array

__all__ = ["pack", "unpack"]
_CHECK = struct.Struct("<I")  # CRC-32 of what follows
_HEAD = struct.Struct("<BBh")  # method, order of the differences, exponent of the unit
_SIZE = struct.Struct("<I")
_MAPPED, _FIXED = 0, 1
_LEVEL = 1  # of zstd: higher ones take longer and gain less than one per cent
_SAMPLE_ROWS = 32
_EXTRA_BITS = 2  # of q beyond the mantissa: values below a quarter of the largest one have a remainder
_WIDE_ROW = 512  # numbers from which adding rows one by one is faster than transposing twice
_Plane = bytes | int  # the bytes, or how many zeros
_local = threading.local()
# By the size of a float: the integers that hold its multiples, and below which largest value a field is not scaled.
_SIGNED: dict[int, np.dtype[Any]] = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}
_SMALLEST = {4: 2.0**-96, 8: 2.0**-960}


def pack(field: Array) -> bytes:
    """Pack a field.

    Args:
        field: ``(y, x)`` of integers, booleans or floats, not empty.

    Returns:
        The bytes; :func:`unpack` needs the shape and dtype beside them.
    """
    field = np.ascontiguousarray(field)
    fixed = _to_fixed(field) if field.dtype.kind == "f" and field.dtype.itemsize in _SIGNED else None
    first = max(0, (len(field) - _SAMPLE_ROWS) // 2)
    rows = slice(first, first + _SAMPLE_ROWS)
    mapped_bytes, order = _find_order(_to_mapped(field[rows]))
    if fixed is not None:
        fixed_bytes, fixed_order = _find_order(fixed.numbers[rows])
        if fixed_bytes + _count_rest(fixed, rows) <= mapped_bytes:
            planes = [*_to_planes(_difference(fixed.numbers, fixed_order)), *_to_planes(fixed.remainders)]
            return _join(_FIXED, fixed_order, fixed.exponent, [*planes, *_to_planes(fixed.small)])
    return _join(_MAPPED, order, 0, _to_planes(_difference(_to_mapped(field), order)))


def _join(method: int, order: int, exponent: int, planes: Iterable[Array]) -> bytes:
    head, body = _HEAD.pack(method, order, exponent), _compress(planes)
    return _CHECK.pack(zlib.crc32(body, zlib.crc32(head))) + head + body


def unpack(packed: bytes, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """The field that was packed, as a new array.

    Args:
        packed: the result of :func:`pack`.
        shape: ``(height, width)`` of the field.
        dtype: of the field.

    Raises:
        MovieError: the bytes are damaged.
    """
    count = dtype.itemsize
    try:
        (check,) = _CHECK.unpack_from(packed)
        checked = memoryview(packed)[_CHECK.size :]
        if zlib.crc32(checked) != check:
            raise ValueError("the checksum is another one")  # noqa: TRY301 - one place for all kinds of damage
        method, order, exponent = _HEAD.unpack_from(checked)
        planes = _decompress(checked[_HEAD.size :], shape[0] * shape[1])
        numbers = _sum(_from_planes(planes[:count], shape, count), order)
        if method == _MAPPED:
            field = _from_mapped(numbers, dtype)
        else:
            remainders = _from_planes(planes[count : 2 * count], shape, count)
            small = _from_planes(planes[2 * count :], (1, -1), count)[0]
            field = _from_fixed(_Fixed(numbers, remainders, small, exponent), dtype)
    except (struct.error, ValueError, IndexError, _zstd_error()) as error:
        raise MovieError(f"its {len(packed):,} bytes are damaged: {error}") from error
    return field


class _Fixed(NamedTuple):
    """A field of floats as whole multiples of a power of two, and what is below.

    Attributes:
        numbers: the multiples, as unsigned integers of the size of the floats.
        remainders: the last bits of the mantissas that the multiples leave out.
        small: the bits of the floats whose multiple is 0; empty if all are 0.
        exponent: of the power of two.
    """

    numbers: Array
    remainders: Array
    small: Array
    exponent: int


def _to_fixed(field: Array) -> _Fixed | None:
    """``None`` for a field that has infinities or NaN, or nothing but numbers near the smallest one."""
    largest = max(-float(field.min()), float(field.max()))
    # Comparisons with NaN are false.
    if not _SMALLEST[field.dtype.itemsize] < largest < np.inf:
        return None
    exponent = math.frexp(largest)[1] - np.finfo(field.dtype).nmant - 1 - _EXTRA_BITS
    scaled = field * field.dtype.type(2.0**-exponent)
    whole = np.trunc(scaled)
    unsigned = np.dtype(f"u{field.dtype.itemsize}")
    # The last bits of the mantissa, which truncation sets to 0.
    remainders = scaled.view(unsigned) ^ whole.view(unsigned)
    is_small = whole == 0
    small = field.view(unsigned)[is_small]
    remainders[is_small] = 0
    return _Fixed(
        whole.astype(_SIGNED[unsigned.itemsize]).view(unsigned),
        remainders,
        small if small.any() else small[:0],
        exponent,
    )


def _from_fixed(fixed: _Fixed, dtype: np.dtype[Any]) -> Array:
    whole: Array = fixed.numbers.view(_SIGNED[dtype.itemsize]).astype(dtype)
    bits: Array = whole.view(np.dtype(fixed.remainders.dtype))
    bits |= fixed.remainders
    whole *= dtype.type(2.0**fixed.exponent)
    if len(fixed.small):
        whole[fixed.numbers == 0] = fixed.small.view(dtype)
    return whole


def _to_mapped(field: Array) -> Array:
    """The bits of a field as unsigned integers; those of floats in the order of their values."""
    unsigned = np.dtype(f"u{field.dtype.itemsize}")
    bits: Array = field.view(unsigned)
    mapped: Array = bits.copy()
    if field.dtype.kind == "f":
        sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
        # All bits of negative floats are inverted, of the others the sign alone.
        mapped ^= (unsigned.type(0) - (bits >> unsigned.type(8 * unsigned.itemsize - 1))) | sign
    return mapped


def _from_mapped(numbers: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        top = numbers.dtype.type(8 * numbers.dtype.itemsize - 1)
        one = numbers.dtype.type(1)
        numbers = numbers ^ (((numbers >> top) - one) | (one << top))
    return numbers.view(dtype)


def _find_order(numbers: Array) -> tuple[int, int]:
    """How many bytes some rows of numbers take, and how often their differences are taken for that."""

    def count_bytes(order: int) -> int:
        return len(_compress(_to_planes(_difference(numbers.copy(), order))))

    found = min((count_bytes(order), order) for order in (1, 2))
    # Where second differences are the smaller ones, first differences are smaller than none.
    return min(found, (count_bytes(0), 0)) if found[1] == 1 else found


def _count_rest(fixed: _Fixed, rows: slice) -> int:
    """How many bytes the remainders and the small numbers of some rows take."""
    remainders, small_bytes = fixed.remainders[rows], 0
    if len(fixed.small):
        small_bytes = int((fixed.numbers[rows] == 0).sum()) * remainders.itemsize
    return small_bytes + (len(_compress(_to_planes(remainders))) if remainders.any() else 0)


def _difference(numbers: Array, order: int) -> Array:
    """Differences along both axes, in place; small ones of either sign as small numbers."""
    for start in range(order):
        numbers[start + 1 :] -= numbers[start:-1].copy() if len(numbers) > start else 0
        numbers[:, start + 1 :] -= numbers[:, start:-1].copy() if numbers.shape[1] > start else 0
    return _fold(numbers) if order else numbers


def _sum(numbers: Array, order: int) -> Array:
    """Undo :func:`_difference`."""
    if not order:
        return numbers
    summed = _unfold(numbers)
    _accumulate(summed, order)
    if summed.shape[1] >= _WIDE_ROW:
        _accumulate_rows(summed, order)
        return summed
    # Sums along contiguous rows are several times as fast as sums along columns.
    by_column = np.ascontiguousarray(summed.T)
    _accumulate(by_column, order)
    return np.ascontiguousarray(by_column.T)


def _accumulate_rows(numbers: Array, order: int) -> None:
    """Sums along columns: each row is added to the next one."""
    for start in reversed(range(order)):
        for row in range(start + 1, len(numbers)):
            np.add(numbers[row], numbers[row - 1], out=numbers[row])


def _accumulate(numbers: Array, order: int) -> None:
    for start in reversed(range(order)):
        np.add.accumulate(numbers[:, start:], axis=1, out=numbers[:, start:])


def _fold(numbers: Array) -> Array:
    """Signed integers as unsigned ones: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    signed = numbers.view(f"i{numbers.dtype.itemsize}")
    folded: Array = signed >> signed.dtype.type(8 * numbers.dtype.itemsize - 1)
    folded ^= signed << signed.dtype.type(1)
    return folded.view(numbers.dtype)


def _unfold(numbers: Array) -> Array:
    """Undo :func:`_fold`."""
    one = numbers.dtype.type(1)
    unfolded: Array = numbers & one
    np.negative(unfolded, out=unfolded)
    unfolded ^= numbers >> one
    return unfolded


def _to_planes(numbers: Array) -> Array:
    """The first byte of each number, the second one, and so on: a row for each."""
    flat = np.ascontiguousarray(numbers).reshape(-1)
    planes = np.empty((flat.itemsize, flat.size), np.uint8)
    for place, plane in enumerate(planes):
        np.right_shift(flat, flat.dtype.type(8 * place), out=plane, casting="unsafe")
    return planes


def _from_planes(planes: Sequence[_Plane], shape: tuple[int, int], size: int) -> Array:
    """The numbers of ``size`` planes."""
    count = _length(planes[0])
    if any(_length(plane) != count for plane in planes) or len(planes) != size:
        raise ValueError("its planes have several sizes")
    numbers: Array = np.zeros(count, f"<u{size}")
    # A column of bytes at a time: numpy takes several times as long to transpose them.
    columns = numbers.view(np.uint8).reshape(count, size)
    for place, plane in enumerate(planes):
        if not isinstance(plane, int):
            columns[:, place] = np.frombuffer(plane, np.uint8)
    return numbers.reshape(shape)


def _length(plane: _Plane) -> int:
    return plane if isinstance(plane, int) else len(plane)


def _compress(planes: Iterable[Array]) -> bytes:
    compressor = _codec("compressor")
    packed = [compressor.compress(plane) if plane.any() else _run_of_zeros(plane) for plane in planes]
    return b"".join((_SIZE.pack(len(packed)), *(_SIZE.pack(len(part)) for part in packed), *packed))


def _run_of_zeros(plane: Array) -> bytes:
    return _SIZE.pack(plane.size)


def _decompress(packed: memoryview, most_bytes: int) -> list[_Plane]:
    """The planes; each has at most ``most_bytes``."""
    (count,) = _SIZE.unpack_from(packed)
    sizes = struct.unpack_from(f"<{count}I", packed, _SIZE.size)
    start = _SIZE.size * (1 + count)
    planes: list[_Plane] = []
    for size in sizes:
        part = packed[start : start + size]
        planes.append(_decompress_plane(part, most_bytes))
        start += size
    return planes


def _decompress_plane(part: memoryview, most_bytes: int) -> _Plane:
    is_zero = len(part) == _SIZE.size
    length = _SIZE.unpack(part)[0] if is_zero else _content_size(part)
    if length > most_bytes:
        raise ValueError(f"a plane has {length:,} bytes, not {most_bytes:,}")
    return length if is_zero else _codec("decompressor").decompress(part)


def _content_size(part: memoryview) -> int:
    import zstandard

    return zstandard.frame_content_size(part)


def _codec(name: str) -> Any:
    """The compressor or decompressor of this thread."""
    if not hasattr(_local, name):
        import zstandard

        _local.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        _local.decompressor = zstandard.ZstdDecompressor()
    return getattr(_local, name)


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError
