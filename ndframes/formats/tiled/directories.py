"""The bytes of a cloud optimized TIFF: header, directories, then pixels, coarsest overview first.

Written from the TIFF 6.0 specification, the BigTIFF extension and the layout rules that GDAL publishes for cloud optimized
GeoTIFF. This module computes and packs numbers; it never touches pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...geometry.tiling import count_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NODATA_TAG", "Directory", "Tags", "by_column", "layout_directories", "needs_bigtiff", "nodata_tags"]
#: The tag by which GDAL names the value of missing pixels.
NODATA_TAG = 42113
_ASCII, _SHORT, _LONG, _DOUBLE, _LONG8 = 2, 3, 4, 12, 16
_FORMATS = {_ASCII: "B", _SHORT: "H", _LONG: "I", _DOUBLE: "d", _LONG8: "Q"}
# A little less than 2**32, to leave room for the head.
_CLASSIC_LIMIT_BYTES = 4_000_000_000
# TIFF 6.0 does not know LERC, ZSTD and WEBP: these are libtiff's numbers.
_COMPRESSION_TAGS = {"NONE": 1, "LZW": 5, "JPEG": 7, "DEFLATE": 8, "LERC": 34887, "ZSTD": 50000, "WEBP": 50001}
_PREDICTOR_TAGS = {"NO": 1, "STANDARD": 2, "FLOATING_POINT": 3}
_SAMPLE_FORMATS = {"b": 1, "u": 1, "i": 2, "f": 3, "c": 6}


#: Tags of a directory: number, type, values.
Tags = tuple[tuple[int, int, tuple[Any, ...]], ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """One image file directory: one resolution of the image.

    Attributes:
        shape: ``(height, width)``.
        tile_shape: ``(height, width)`` of a tile in pixels.
        band_count: the samples of a pixel, stored together.
        dtype_kind: numpy's letter for the dtype; ``b`` is stored as one bit.
        bits: of a sample.
        compress: the name of the compression.
        predictor: the name of the differencing that comes before compression.
        is_overview: whether this is a smaller copy.
        tags: more tags, such as those of the compression: ``(number, type, values)``.
        depth: the number of planes (frames of a video); ``None`` for an image.
        tile_depth: the number of planes that a tile spans.
        is_by_column: whether tiles are stored column by column; else row by row.
        has_colours: whether three or four samples are red, green, blue and alpha; else they have no meaning.
    """

    shape: tuple[int, int]
    tile_shape: tuple[int, int]
    band_count: int
    dtype_kind: str
    bits: int
    compress: str
    predictor: str
    is_overview: bool
    tags: Tags = field(default=())
    depth: int | None = None
    tile_depth: int = 1
    is_by_column: bool = False
    has_colours: bool = True

    @property
    def tile_count(self) -> int:
        """The number of tiles."""
        rows, cols = count_tiles(self.shape, self.tile_shape)
        return -(-(self.depth or 1) // self.tile_depth) * rows * cols

    @property
    def file_order(self) -> Sequence[int]:
        """The numbers of the tiles, counted row by row as TIFF does, in the order in which they are stored."""
        if not self.is_by_column:
            return range(self.tile_count)
        return by_column(*count_tiles(self.shape, self.tile_shape))

    def entries(
        self, offsets: Sequence[int], byte_counts: Sequence[int], *, big: bool
    ) -> list[tuple[int, int, Sequence[int]]]:
        """All tags in order, as ``(number, type, values)``."""
        offset_type = _LONG8 if big else _LONG
        photometric, extra = _colours(self)
        tags: list[tuple[int, int, Sequence[int]]] = [
            (254, _LONG, (1 if self.is_overview else 0,)),  # NewSubfileType
            (256, _LONG, (self.shape[1],)),  # ImageWidth
            (257, _LONG, (self.shape[0],)),  # ImageLength
            (258, _SHORT, (self.bits,) * self.band_count),  # BitsPerSample
            (259, _SHORT, (_COMPRESSION_TAGS[self.compress],)),  # Compression
            (262, _SHORT, (photometric,)),  # PhotometricInterpretation
            (277, _SHORT, (self.band_count,)),  # SamplesPerPixel
            (284, _SHORT, (1,)),  # PlanarConfiguration: samples of a pixel together
            (322, _LONG, (self.tile_shape[1],)),  # TileWidth
            (323, _LONG, (self.tile_shape[0],)),  # TileLength
            (324, offset_type, offsets),  # TileOffsets
            (325, _LONG, byte_counts),  # TileByteCounts
            (339, _SHORT, (_SAMPLE_FORMATS[self.dtype_kind],) * self.band_count),  # SampleFormat
            *self.tags,
        ]
        if self.depth is not None:
            # ImageDepth and TileDepth, an extension by SGI for volumes.
            tags += [(32997, _LONG, (self.depth,)), (32998, _LONG, (self.tile_depth,))]
        if self.predictor != "NO":
            tags.append((317, _SHORT, (_PREDICTOR_TAGS[self.predictor],)))  # Predictor
        if extra:
            tags.append((338, _SHORT, extra))
        # TIFF demands rising numbers.
        return sorted(tags)


def by_column(rows: int, cols: int) -> list[int]:
    """The numbers of tiles, counted row by row, in the order of columns.

    Example:
        >>> by_column(2, 3)
        [0, 3, 1, 4, 2, 5]
    """
    return [row * cols + col for col in range(cols) for row in range(rows)]


def nodata_tags(nodata: float | None) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """The tag by which GDAL names the value of missing pixels: its number as text.

    Example:
        >>> nodata_tags(-1)
        ((42113, 2, (45, 49, 0)),)
    """
    return () if nodata is None else ((NODATA_TAG, _ASCII, tuple(f"{nodata}\0".encode())),)


def needs_bigtiff(raw_bytes: int, tile_count: int) -> bool:
    """Whether offsets may need more than 32 bits. The size before compression decides: noise does not compress."""
    return raw_bytes + 64 * tile_count > _CLASSIC_LIMIT_BYTES


def layout_directories(
    directories: Sequence[Directory], byte_counts: Sequence[Sequence[int]], *, big: bool
) -> tuple[bytes, list[int]]:
    """Lay out the head of a file: the header and all directories, in front of all tiles.

    Args:
        directories: the image first, then its overviews, largest first.
        byte_counts: for each directory the encoded length of each tile, counted row by row.
        big: whether to write BigTIFF.

    Returns:
        The bytes of the head, and for each directory the offset of its first tile; its other tiles follow without gaps.
    """
    # The length of a directory does not depend on its numbers: zeros give the positions of all directories.
    sizes = [len(_pack(item, [0] * item.tile_count, [0] * item.tile_count, 0, 0, big=big)) for item in directories]
    first = 16 if big else 8
    positions = [first + sum(sizes[:index]) for index in range(len(sizes))]
    position = first + sum(sizes)
    starts = [0] * len(directories)
    for index in reversed(range(len(directories))):
        starts[index] = position
        position += sum(byte_counts[index])
    head = [struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)]
    for index, item in enumerate(directories):
        next_position = positions[index + 1] if index + 1 < len(positions) else 0
        offsets = _running_offsets(starts[index], byte_counts[index], item.file_order)
        head.append(_pack(item, offsets, byte_counts[index], positions[index], next_position, big=big))
    return b"".join(head), starts


def _running_offsets(start: int, byte_counts: Sequence[int], file_order: Sequence[int]) -> list[int]:
    offsets = [0] * len(byte_counts)
    for index in file_order:
        offsets[index] = start
        start += byte_counts[index]
    return offsets


def _pack(
    item: Directory, offsets: Sequence[int], byte_counts: Sequence[int], position: int, next_position: int, *, big: bool
) -> bytes:
    """Pack one directory at ``position``, followed by the values that do not fit into their tags."""
    entries = item.entries(offsets, byte_counts, big=big)
    count_format, count_bytes, entry_bytes, inline_bytes = ("<Q", 8, 20, 8) if big else ("<H", 2, 12, 4)
    table_bytes = count_bytes + entry_bytes * len(entries) + (8 if big else 4)
    table = [struct.pack(count_format, len(entries))]
    values = bytearray()
    for tag, kind, numbers in entries:
        data = struct.pack(f"<{len(numbers)}{_FORMATS[kind]}", *numbers)
        if len(data) > inline_bytes:
            pointer = position + table_bytes + len(values)
            # TIFF demands even offsets.
            values += data + b"\0" * (-len(data) % 8)
            data = struct.pack("<Q" if big else "<I", pointer)
        table.append(struct.pack("<HHQ" if big else "<HHI", tag, kind, len(numbers)) + data.ljust(inline_bytes, b"\0"))
    table.append(struct.pack("<Q" if big else "<I", next_position))
    padding = b"\0" * (-(table_bytes + len(values)) % 8)
    return b"".join(table) + bytes(values) + padding


def _colours(item: Directory) -> tuple[int, tuple[int, ...]]:
    """The photometric tag, and the meaning of each sample beyond the colours (2: alpha, 0: unspecified)."""
    if item.compress == "JPEG":
        # JPEG stores YCbCr here; a reader that expects RGB shows false colours.
        return (6, ()) if item.band_count == 3 else (1, ())
    is_colour = item.has_colours and item.band_count in (3, 4) and item.dtype_kind == "u" and item.bits <= 16
    if is_colour:
        return 2, (2,) * (item.band_count - 3)
    return 1, (0,) * (item.band_count - 1)
