"""The bytes of a file that hold a crop: whole tiles of a TIFF, rows of an npy, chunk files of a zarr."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from kit.crops import Crop

PAGE_BYTES = 4096


class ByteRange(NamedTuple):
    """``length`` bytes of a file, starting at ``offset``."""

    path: Path
    offset: int
    length: int


def count_bytes(ranges: Iterable[ByteRange]) -> int:
    """The total length; a repeated range counts once."""
    return sum(item.length for item in set(ranges))


def count_page_bytes(ranges: Iterable[ByteRange]) -> int:
    """The length of all pages that the ranges touch: the least that the system reads from a disk."""
    pages = {
        (item.path, page)
        for item in set(ranges)
        for page in range(item.offset // PAGE_BYTES, -(-(item.offset + item.length) // PAGE_BYTES))
    }
    return len(pages) * PAGE_BYTES


def npy_ranges(path: Path, crop: Crop) -> list[ByteRange]:
    """One range for each row of the crop."""
    data_offset, row_bytes, pixel_bytes = _npy_layout(path)
    start = data_offset + crop.left * pixel_bytes
    length = (crop.right - crop.left) * pixel_bytes
    return [ByteRange(path, start + row * row_bytes, length) for row in range(crop.top, crop.bottom)]


def tiff_ranges(path: Path, crop: Crop) -> list[ByteRange]:
    """The tiles at full resolution that the crop touches."""
    page = tiff_level(path, 0)
    across = -(-page.imagewidth // page.tilewidth)
    indices = [
        row * across + col
        for row in range(crop.top // page.tilelength, -(-crop.bottom // page.tilelength))
        for col in range(crop.left // page.tilewidth, -(-crop.right // page.tilewidth))
    ]
    return [ByteRange(path, page.dataoffsets[index], page.databytecounts[index]) for index in indices]


def chunk_ranges(folder: Path, chunk_px: int, crop: Crop) -> list[ByteRange]:
    """The chunks of a zarr that the crop touches, one file each."""
    paths = [
        folder / "c" / str(row) / str(col) / "0"
        for row in range(crop.top // chunk_px, -(-crop.bottom // chunk_px))
        for col in range(crop.left // chunk_px, -(-crop.right // chunk_px))
    ]
    return [ByteRange(path, 0, path.stat().st_size) for path in paths]


@lru_cache
def tiff_level(path: Path, level: int) -> Any:
    """The page of a resolution level of a TIFF, as tifffile describes it."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        page.dataoffsets, page.databytecounts, page.decode  # noqa: B018 - these read lazily, and the file closes here
        return page


@lru_cache
def _npy_layout(path: Path) -> tuple[int, int, int]:
    pixels = np.load(path, mmap_mode="r")
    return pixels.offset, pixels.strides[0], pixels.strides[1]
