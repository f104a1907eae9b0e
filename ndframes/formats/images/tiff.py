"""TiffReader: pages, series and pyramids of TIFF files that GDAL does not read as such, by tifffile."""

from __future__ import annotations

import json
import os
import weakref
from itertools import product
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import tifffile

from ...errors import SourceError, UnreadableImageError
from ...geometry.tiling import bounding_range, tile_ranges
from ...system.handles import FileHandle, HandlePool, close_on_error
from ...system.stamp import require_same_file
from ..extensions import extensions_of_tiff, load_extensions
from ..reader import Reader, ReaderFacts
from .limits import check_block, check_expansion
from .tiffcheck import check_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..._typing import Array
    from ...system.stamp import SourceStamp

__all__ = ["TiffReader", "inspect_tiff"]
_BAND_AXES = "SCI"
# Formats that spread levels, channels or planes over pages in their own way.
_OWN_LAYOUTS = ("is_ome", "is_svs", "is_ndpi", "is_scn", "is_bif", "is_philips", "is_qpi", "is_lsm")
# tifffile's kinds of series that it could not arrange as the file describes.
_PLAIN_KINDS = ("generic", "uniform", "shaped")
# tifffile's names for the axes of an image with channels last; ``None``: it did not write any.
_IMAGE_AXES = (None, "YXS", "YXC")
# More columns than this are the planes of a stack, not the channels of an image.
_MOST_CHANNELS_IN_ROWS = 4


class TiffReader(Reader):
    """Crops of one page or one series of a TIFF, with its pyramid. Palettes are read as colours.

    A series with the axes y, x and at most one of samples or channels is read with those as bands. A series with more axes
    (time, depth) needs ``page`` to choose a plane. An image whose rows are stored as pages is read as one image; see
    :func:`inspect_tiff`.

    Args:
        path: the file.
        page: the page of the file, or with ``series`` the plane of that series; from 0.
        series: tifffile's series, from 0.
        stamp: the file that ``path`` must be whenever it is opened; ``None`` is the one that is there now.
        pool: keeps the open file; ``None`` opens it for every read.

    Raises:
        UnreadableImageError: the file is not a TIFF, has no such page or series, or its layout needs a choice.
        SourceChangedError: the file of ``stamp`` was replaced or removed; when reading, too.
    """

    def __init__(
        self,
        path: str,
        *,
        page: int | None = None,
        series: int | None = None,
        stamp: SourceStamp | None = None,
        pool: HandlePool | None = None,
    ) -> None:
        self._pool = HandlePool(max_idle=0) if pool is None else pool
        self._token = object()
        file = self._pool.open(lambda: FileHandle(path, stamp))
        self._stamp = file.stamp
        with close_on_error(file):
            # Parsing opens the file by its name once more.
            with require_same_file(path, stamp):
                levels, palette, orientation = _parse(path, file, page, series)
            base = levels[0]
            # A level of other bands or dtype is no smaller copy of the image.
            self._levels = [level for level in levels if (level.shape[2], level.dtype) == (base.shape[2], base.dtype)]
            self._palette = palette if base.shape[2] == 1 else None
            facts = ReaderFacts(
                format="TIFF",
                shape=base.shape if self._palette is None else (*base.shape[:2], 3),
                dtype=base.dtype if self._palette is None else np.dtype(np.uint8),
                tile_shape=base.tile_shape,
                memory_bytes=1 << 16,
                orientation=orientation,
            )
            super().__init__(path, facts)
            check_expansion(path, self.nbytes, self._stamp.size_bytes, band_count=self.shape[2])
            for level in self._levels:
                check_block(path, level.block_bytes, self.nbytes)
        weakref.finalize(self, self._pool.discard, self._token)
        with self._pool.borrow(self._token, lambda: file):
            pass  # the pool now keeps the file that is open already

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        return [level.shape[:2] for level in self._levels[1:]]

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        try:
            with self._pool.borrow(self._token, self._open) as file:
                if self._palette is None:
                    self._levels[level].read(file, rows, cols, bands, out)
                    return
                indices = np.empty((len(rows), len(cols), 1), self._levels[level].dtype)
                self._levels[level].read(file, rows, cols, [0], indices)
            out[...] = self._palette[indices[:, :, 0]][..., list(bands)]
        except SourceError:
            raise
        # tifffile and its codecs raise anything for damaged bytes.
        except Exception as error:
            raise UnreadableImageError(
                f"{self.path} does not decode, it may be truncated or damaged: {error}"
            ) from error

    def _open(self) -> FileHandle:
        return FileHandle(self.path, self._stamp)


def _parse(
    path: str, file: FileHandle, page: int | None, series: int | None
) -> tuple[list[_Level | _Rows], Array | None, int]:
    """Parse the resolutions of the chosen image, largest first, its palette and its orientation tag."""
    try:
        with _open_stream(path, file) as stream, tifffile.TiffFile(stream) as tiff:
            check_directories(path, every=not (tiff.is_ndpi or tiff.is_lsm))  # their 32-bit offsets wrap at 4 GiB
            if page is None and not series and _is_in_rows(tiff.pages.first):
                keyframe = tiff.pages.first
                levels: list[_Level | _Rows] = [_Rows(path, tiff.series[0])]
            else:
                choice = _choose_pages(path, tiff, page, series)
                keyframe = choice[0][0].keyframe
                levels = [_Level(path, pages) for pages in choice]
            return levels, _find_palette(keyframe), _orientation_of(keyframe)
    except SourceError:
        raise
    except Exception as error:  # a damaged tag makes tifffile raise anything
        raise UnreadableImageError(f"{path} does not open as TIFF, it may be damaged: {error}") from error


def _open_stream(path: str, file: FileHandle) -> IO[bytes]:
    """Open ``file`` again for tifffile, under its real name, since tifffile finds other files of a series beside it."""
    # A duplicate of the descriptor: the name may lead to another file by now.
    return open(os.path.realpath(path), "rb", opener=lambda *_: os.dup(file.descriptor))


class _Level:
    """One resolution of an image: one page that holds all its bands, or one page a band."""

    def __init__(self, path: str, pages: list[Any]) -> None:
        keyframe = pages[0].keyframe
        self._pages = [_Page(page) for page in pages]
        self._samples = 1 if len(pages) > 1 else keyframe.samplesperpixel
        self.shape = (int(keyframe.imagelength), int(keyframe.imagewidth), len(pages) * self._samples)
        if min(self.shape) < 1 or max(self.shape) >= 1 << 31:
            raise UnreadableImageError(f"{path} has an image of the size {self.shape}; it is damaged")
        if keyframe.dtype is None:
            raise UnreadableImageError(f"{path} stores samples of {keyframe.bitspersample} bits; they cannot be read")
        if len(pages) > 1 and keyframe.samplesperpixel > 1:
            raise UnreadableImageError(f"{path} spreads samples and channels over several axes; choose one with page=")
        if keyframe.imagedepth > 1:
            raise UnreadableImageError(
                f"{path} stores a volume of depth {keyframe.imagedepth} in a page; that cannot be read"
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
        # The default of a strip's rows is 2**32 - 1, so a strip counts as far as the image goes. A tile decodes whole.
        block_rows = self._block_shape[0] if keyframe.is_tiled else self.tile_shape[0]
        self.block_bytes = block_rows * self._block_shape[1] * self._samples * self.dtype.itemsize

    def read(self, file: FileHandle, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """Fill ``out`` from the blocks that ``rows`` x ``cols`` touch."""
        for page_index, picks in self._group_bands(bands):
            page = self._pages[page_index]
            for tile, src_rows, src_cols in self._touched_blocks(rows, cols):
                target = out[_shifted(src_rows, rows.start), _shifted(src_cols, cols.start)]
                inside = (
                    _shifted(src_rows, tile[0] * self._block_shape[0]),
                    _shifted(src_cols, tile[1] * self._block_shape[1]),
                )
                self._copy_block(page, file, tile, inside, picks, target)

    def _copy_block(
        self,
        page: _Page,
        file: FileHandle,
        tile: tuple[int, int],
        inside: Any,
        picks: list[tuple[int, int]],
        target: Array,
    ) -> None:
        grid = -(-self.shape[0] // self._block_shape[0]), -(-self.shape[1] // self._block_shape[1])
        if page.is_planar:
            # A planar file stores all blocks of a sample before those of the next one.
            for position, sample in picks:
                index = (sample * grid[0] + tile[0]) * grid[1] + tile[1]
                target[..., position] = page.crop_block(file, index, inside, self.dtype)[..., 0]
            return
        pixels = page.crop_block(file, tile[0] * grid[1] + tile[1], inside, self.dtype)
        for position, sample in picks:
            target[..., position] = pixels[..., sample]

    def _group_bands(self, bands: Sequence[int]) -> list[tuple[int, list[tuple[int, int]]]]:
        """For each page, the positions of its bands in the result, and their samples in the page."""
        groups: dict[int, list[tuple[int, int]]] = {}
        for position, band in enumerate(bands):
            groups.setdefault(band // self._samples, []).append((position, band % self._samples))
        return list(groups.items())

    def _touched_blocks(self, rows: range, cols: range) -> Iterator[tuple[tuple[int, int], range, range]]:
        row_pieces = tile_ranges(bounding_range(rows), self._block_shape[0])
        col_pieces = tile_ranges(bounding_range(cols), self._block_shape[1])
        for (tile_row, src_rows), (tile_col, src_cols) in product(row_pieces, col_pieces):
            yield (tile_row, tile_col), src_rows, src_cols


class _Rows:
    """An image that stores each row as a page ``(width, bands)``."""

    def __init__(self, path: str, series: Any) -> None:
        keyframe = series.keyframe
        if len(series.shape) != 3 or series.kind != "shaped":
            raise UnreadableImageError(f"{path}: its pages do not match its description, it may be damaged")
        height, width, bands = map(int, series.shape)
        self.shape = (height, width, bands)
        self.dtype = np.dtype(keyframe.dtype).newbyteorder("=")
        self.tile_shape = (1, width)
        self._raw_dtype = _find_raw_dtype(keyframe)
        # tifffile gives an offset only if the rows follow each other without gaps.
        self._offset = None if self._raw_dtype is None else series.dataoffset
        self._pages: list[_Level] = []
        if self._offset is None:
            pages = [page for page in series.pages if page is not None]
            if len(pages) != height:
                raise UnreadableImageError(
                    f"{path} describes {height:,} rows, but has pages for {len(pages):,}; it is truncated or damaged"
                )
            self._pages = [_Level(path, [page]) for page in pages]
        self.block_bytes = width * bands * self.dtype.itemsize

    def read(self, file: FileHandle, rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """Fill ``out`` with the pixels at ``rows`` x ``cols`` of step 1."""
        if self._offset is not None and self._raw_dtype is not None:  # rows without compression, stored without gaps
            data = _read_exactly(file, self._offset + rows.start * self.block_bytes, len(rows) * self.block_bytes)
            pixels = np.frombuffer(data, self._raw_dtype).reshape(len(rows), *self.shape[1:])
            out[...] = pixels[:, cols.start : cols.stop, list(bands)]
            return
        # As an image, the page of a row has the columns as its rows, and the bands as its columns.
        line = np.empty((len(cols), self.shape[2], 1), self.dtype)
        for place, row in enumerate(rows):
            self._pages[row].read(file, cols, range(self.shape[2]), [0], line)
            out[place] = line[:, list(bands), 0]


class _Page:
    """The places of a page's blocks, and their decoder. It outlives the file object from which it was parsed."""

    def __init__(self, page: Any) -> None:
        keyframe = page.keyframe
        # Before tifffile looks for the decoder: it keeps what it finds, and that may be a stub.
        load_extensions(*extensions_of_tiff(keyframe.compression))
        self._decode = keyframe.decode
        self._offsets = page.dataoffsets
        self._byte_counts = page.databytecounts
        self._jpeg_tables = keyframe.jpegtables
        self._fill = keyframe.nodata
        self.is_planar = keyframe.planarconfig == 2 and keyframe.samplesperpixel > 1
        self._raw_dtype = _find_raw_dtype(keyframe)
        self._row_shape = (
            int(keyframe.tilewidth or keyframe.imagewidth),
            1 if self.is_planar else int(keyframe.samplesperpixel),
        )

    def crop_block(self, file: FileHandle, index: int, inside: tuple[slice, slice], dtype: np.dtype[Any]) -> Array:
        """Read the pixels ``inside`` block ``index`` as ``(h, w, samples)``.

        A block that the writer omitted is filled with the file's nodata value, or 0. A block without compression may hold the
        whole image, so only the rows of the crop are read from it.
        """
        offset, byte_count = int(self._offsets[index]), int(self._byte_counts[index])
        if not byte_count:
            # Without data, tifffile's decoder returns the shape of the block alone.
            shape = self._decode(None, index)[2]
            return np.full(shape[1:], self._fill, dtype)[inside]
        rows, cols = inside
        if self._raw_dtype is None:
            pixels, _, _ = self._decode(_read_exactly(file, offset, byte_count), index, jpegtables=self._jpeg_tables)
            return np.asarray(pixels[0], dtype)[inside]
        row_bytes = self._row_shape[0] * self._row_shape[1] * self._raw_dtype.itemsize
        # Otherwise bytes of other blocks would be read as these pixels.
        if rows.stop * row_bytes > byte_count:
            raise EOFError(f"block {index} has {byte_count:,} bytes, too few for {rows.stop:,} rows")
        data = _read_exactly(file, offset + rows.start * row_bytes, (rows.stop - rows.start) * row_bytes)
        return np.frombuffer(data, self._raw_dtype).reshape(-1, *self._row_shape)[:, cols]


def _read_exactly(file: FileHandle, offset: int, byte_count: int) -> bytearray:
    if offset + byte_count > os.fstat(file.descriptor).st_size:  # checked before memory is allocated
        raise EOFError(f"{byte_count:,} bytes should be at {offset:,}, but the file ends before")
    data = bytearray(byte_count)
    file.read_into(memoryview(data), offset)
    return data


def _find_raw_dtype(keyframe: Any) -> np.dtype[Any] | None:
    """The stored dtype, if a block is nothing but its samples; else ``None``."""
    # A predictor, reversed bits (fill order 2) and YCbCr, which may be subsampled, need tifffile's decoder.
    if keyframe.compression != 1 or keyframe.predictor != 1 or keyframe.fillorder != 1 or keyframe.photometric == 6:
        return None
    if keyframe.dtype is None or keyframe.bitspersample != keyframe.dtype.itemsize * 8 or keyframe.dtype.kind == "b":
        return None
    raw_dtype: np.dtype[Any] = np.dtype(keyframe.dtype).newbyteorder(keyframe.parent.byteorder)
    return raw_dtype


def _find_palette(keyframe: Any) -> Array | None:
    """The colours of an indexed page, ``(entries, 3)`` uint8; ``None`` if its pixels are not indices."""
    if keyframe.photometric != 3 or keyframe.samplesperpixel != 1 or keyframe.dtype.name not in ("uint8", "uint16"):
        return None
    palette = np.zeros((1 << 8 * keyframe.dtype.itemsize, 3), np.uint8)
    colours = np.asarray(keyframe.colormap, np.uint16).reshape(3, -1).T
    # TIFF stores colours in 16 bits. Programs scale 8 bits by 257 or 256; the high byte is right for both.
    palette[: len(colours)] = colours >> 8
    return palette


def inspect_tiff(path: str) -> tuple[bool, int]:
    """Find out whether the image of a TIFF is spread over pages, and its orientation tag (1 is upright).

    OME-TIFFs, slides and stacks of microscopes are spread over pages. So is an array ``(h, w, c)`` of few channels that was
    written by tifffile without naming them colours: as ``h`` pages of ``w`` rows and ``c`` columns, with a description of
    the array's shape.

    Example:
        >>> from skimage import data_dir
        >>> inspect_tiff(data_dir + "/multipage.tif")
        (False, 1)
    """
    check_directories(path, every=False)
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages.first
        is_in_rows = _is_in_rows(first)
        if is_in_rows:
            check_directories(path, every=True)  # in a file cut after its first page, tifffile sees one page
            # A single page is an image of its own, unless tifffile omitted the other pages.
            is_in_rows = _is_truncated(first) or len(tiff.pages) > 1
        return is_in_rows or any(getattr(tiff, flag) for flag in _OWN_LAYOUTS), _orientation_of(first)


def _is_in_rows(page: Any) -> bool:
    """Whether the first page describes an image in which this page is a row."""
    description = _parse_description(page)
    shape = description.get("shape")
    return (
        isinstance(shape, list)
        and len(shape) == 3
        and shape[1:] == [*page.shape]
        and 2 <= shape[2] <= _MOST_CHANNELS_IN_ROWS
        and page.samplesperpixel == 1
        and description.get("axes") in _IMAGE_AXES
    )


def _is_truncated(page: Any) -> bool:
    """Whether tifffile wrote all pixels behind one page and omitted the other pages."""
    return bool(_parse_description(page).get("truncated"))


def _parse_description(page: Any) -> dict[str, Any]:
    """Tifffile's description of the array that it wrote; empty if it is not there."""
    if not page.description.startswith('{"shape":'):
        return {}
    try:
        description = json.loads(page.description)
    except ValueError:
        return {}
    return description if isinstance(description, dict) else {}


def _orientation_of(page: Any) -> int:
    tag = page.tags.get(274)
    value = 1 if tag is None else int(tag.value)
    return value if 1 <= value <= 8 else 1


def _choose_pages(path: str, tiff: Any, page: int | None, series: int | None) -> list[list[Any]]:
    """For each resolution, largest first, the pages that hold its bands."""
    if series is None and page is not None:
        _check_count(path, "page", page, len(tiff.pages))
        return [[tiff.pages[page]]]
    number = series or 0
    _check_count(path, "series", number, len(tiff.series))
    chosen = tiff.series[number]
    if any(getattr(tiff, flag) for flag in _OWN_LAYOUTS) and chosen.kind in _PLAIN_KINDS:
        raise UnreadableImageError(
            f"{path}: its pages do not match its description, it may be damaged; choose one with page="
        )
    return [_plane_pages(path, tiff, level, page) for level in chosen.levels]


def _plane_pages(path: str, tiff: Any, level: Any, page: int | None) -> list[Any]:
    pages = list(level.pages)
    if any(item is None or item.parent is not tiff for item in pages):
        raise UnreadableImageError(
            f"{path} lacks some of its planes, or keeps them in other files; choose one with page="
        )
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
