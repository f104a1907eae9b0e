"""Reading by tifffile: pages, series and pyramids of TIFF files that GDAL sees as one plain image or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import tifffile

from ..errors import UnreadableImageError
from ..regions import bounding_range, tile_ranges
from .limits import check_expansion
from .reader import Array, Reader

__all__ = ["TiffReader", "has_own_layout", "orientation_of"]

_BAND_AXES = "SCI"
# Formats whose levels, channels or planes are spread over pages in a way of their own.
_OWN_LAYOUTS = ("is_ome", "is_svs", "is_ndpi", "is_scn", "is_bif", "is_philips", "is_qpi", "is_lsm")


class TiffReader(Reader):
    """Crops of one page or one series of a TIFF, with the pyramid that belongs to it.

    A series whose axes are y, x and at most one of samples or channels is read with those as bands; one with more
    axes (time, depth) needs ``page`` to choose a plane.

    Args:
        path: the file.
        page: page of the file, or plane of ``series`` where that is given; from 0.
        series: tifffile's series, from 0.

    Raises:
        UnreadableImageError: no TIFF, no such page or series, or a layout that needs a choice.
    """

    def __init__(self, path: str, *, page: int | None = None, series: int | None = None) -> None:
        try:
            with tifffile.TiffFile(path) as tiff:
                self._levels = [_Level(path, pages) for pages in _choose_pages(path, tiff, page, series)]
        except UnreadableImageError:
            raise
        except Exception as error:
            raise UnreadableImageError(f"{path} does not open as TIFF, it may be damaged: {error}") from error
        base = self._levels[0]
        super().__init__(
            path,
            format="TIFF",
            shape=base.shape,
            dtype=base.dtype,
            tile_shape=base.tile_shape,
            memory_bytes=1 << 16,
        )
        check_expansion(path, self.nbytes, os.path.getsize(path))

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        return [level.shape[:2] for level in self._levels[1:]]

    def _read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        try:
            with open(self.path, "rb", buffering=0) as file:
                self._levels[level].read(file.fileno(), rows, cols, bands, out)
        except UnreadableImageError:
            raise
        except Exception as error:
            raise UnreadableImageError(
                f"{self.path} does not decode, it may be truncated or damaged: {error}"
            ) from error


class _Level:
    """One resolution of an image: one page that holds all its bands, or one page a band."""

    def __init__(self, path: str, pages: list[Any]) -> None:
        keyframe = pages[0].keyframe
        self._pages = [_Page(page) for page in pages]
        self._samples = 1 if len(pages) > 1 else keyframe.samplesperpixel
        self.shape = (int(keyframe.imagelength), int(keyframe.imagewidth), len(pages) * self._samples)
        if keyframe.dtype is None:
            raise UnreadableImageError(f"{path} stores samples of {keyframe.bitspersample} bits that are not read")
        if len(pages) > 1 and keyframe.samplesperpixel > 1:
            raise UnreadableImageError(f"{path} spreads samples and channels over several axes; choose one with page=")
        if keyframe.imagedepth > 1:
            raise UnreadableImageError(
                f"{path} stores volumes of depth {keyframe.imagedepth} in a page; those are not read"
            )
        self.dtype = np.dtype(keyframe.dtype).newbyteorder("=")
        self.tile_shape = (
            min(int(keyframe.tilelength or keyframe.rowsperstrip), self.shape[0]),
            min(int(keyframe.tilewidth or self.shape[1]), self.shape[1]),
        )
        self._block_shape = (
            int(keyframe.tilelength or keyframe.rowsperstrip),
            int(keyframe.tilewidth or self.shape[1]),
        )

    def read(self, descriptor: int, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """Fill ``out`` from the blocks that ``rows`` x ``cols`` touch."""
        for page_index, picks in self._group_bands(bands):
            page = self._pages[page_index]
            for block, row_part, col_part in self._touched_blocks(rows, cols):
                target = out[_shifted(row_part, rows.start), _shifted(col_part, cols.start)]
                inside = (
                    _shifted(row_part, block[0] * self._block_shape[0]),
                    _shifted(col_part, block[1] * self._block_shape[1]),
                )
                self._copy_block(page, descriptor, block, inside, picks, target)

    def _copy_block(
        self,
        page: _Page,
        descriptor: int,
        block: tuple[int, int],
        inside: Any,
        picks: list[tuple[int, int]],
        target: Array,
    ) -> None:
        grid = -(-self.shape[0] // self._block_shape[0]), -(-self.shape[1] // self._block_shape[1])
        if page.is_planar:
            for position, sample in picks:
                index = (sample * grid[0] + block[0]) * grid[1] + block[1]
                target[..., position] = page.decode(descriptor, index, self.dtype)[inside][..., 0]
            return
        pixels = page.decode(descriptor, block[0] * grid[1] + block[1], self.dtype)[inside]
        for position, sample in picks:
            target[..., position] = pixels[..., sample]

    def _group_bands(self, bands: Sequence[int]) -> list[tuple[int, list[tuple[int, int]]]]:
        """Per page: which result positions come from which of its samples."""
        groups: dict[int, list[tuple[int, int]]] = {}
        for position, band in enumerate(bands):
            groups.setdefault(band // self._samples, []).append((position, band % self._samples))
        return list(groups.items())

    def _touched_blocks(self, rows: range, cols: range) -> Iterator[tuple[tuple[int, int], range, range]]:
        row_pieces = tile_ranges(bounding_range(rows), self._block_shape[0])
        col_pieces = tile_ranges(bounding_range(cols), self._block_shape[1])
        for (row_index, row_part), (col_index, col_part) in product(row_pieces, col_pieces):
            yield (row_index, col_index), row_part, col_part


class _Page:
    """Where one page's blocks lie, and how they decode; outlives the file object it was parsed from."""

    def __init__(self, page: Any) -> None:
        keyframe = page.keyframe
        self._decode = keyframe.decode
        self._offsets = page.dataoffsets
        self._byte_counts = page.databytecounts
        self._jpeg_tables = keyframe.jpegtables
        self._fill = keyframe.nodata
        self.is_planar = keyframe.planarconfig == 2 and keyframe.samplesperpixel > 1

    def decode(self, descriptor: int, index: int, dtype: np.dtype[Any]) -> Array:
        """Block ``index`` as ``(h, w, samples)``; a block that the writer left out is the file's nodata, or 0."""
        offset, byte_count = int(self._offsets[index]), int(self._byte_counts[index])
        data = os.pread(descriptor, byte_count, offset) if byte_count else None
        if data is not None and len(data) != byte_count:
            raise EOFError(f"block {index} lies at {offset:,} with {byte_count:,} bytes, but the file ends before")
        pixels, _, shape = self._decode(data, index, jpegtables=self._jpeg_tables)
        if pixels is None:
            return np.full(shape[1:], self._fill, dtype)
        return np.asarray(pixels[0], dtype)


def has_own_layout(path: str) -> bool:
    """Whether the file is a TIFF whose image is spread over pages (OME, a slide, a microscope's stack).

    Example:
        >>> from skimage import data_dir
        >>> has_own_layout(data_dir + "/multipage.tif")
        False
    """
    with tifffile.TiffFile(path) as tiff:
        return any(getattr(tiff, flag) for flag in _OWN_LAYOUTS)


def orientation_of(path: str) -> int:
    """The TIFF orientation tag of the first page; 1 is upright."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags.get(274)
        return 1 if tag is None else int(tag.value)


def _choose_pages(path: str, tiff: Any, page: int | None, series: int | None) -> list[list[Any]]:
    """Per resolution, largest first, the pages that hold the bands."""
    if series is None and page is not None:
        _check_count(path, "page", page, len(tiff.pages))
        return [[tiff.pages[page]]]
    number = series or 0
    _check_count(path, "series", number, len(tiff.series))
    levels = tiff.series[number].levels
    return [_plane_pages(path, level, page) for level in levels]


def _plane_pages(path: str, level: Any, page: int | None) -> list[Any]:
    pages = [item for item in level.pages if item is not None]
    if page is not None:
        _check_count(path, "page", page, len(pages))
        return [pages[page]]
    long_axes = [axis for axis, extent in zip(level.axes, level.shape, strict=True) if extent > 1 and axis not in "YX"]
    if len(pages) > 1 and (len(long_axes) > 1 or any(axis not in _BAND_AXES for axis in long_axes)):
        raise UnreadableImageError(
            f"{path} is a stack of axes {level.axes} {tuple(level.shape)}; choose a plane with page=0 ... page={len(pages) - 1}"
        )
    return pages


def _check_count(path: str, name: str, index: int, count: int) -> None:
    if index >= count:
        raise UnreadableImageError(f"{path} has no {name} {index}; it has {count}, counted from 0")


def _shifted(part: range, origin: int) -> slice:
    return slice(part.start - origin, part.stop - origin)
