"""TiffReader: crops of one image of a TIFF, with its smaller copies."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from ....errors import SourceError, StoreError, UnreadableImageError
from ....system.handles import FileHandle, HandlePool, close_on_error
from ....system.mounts import is_remote
from ....system.process import keep_freed_memory
from ....system.stamp import require_same_file
from ...reader import Crop, Reader, ReaderFacts
from ...tiled.tile_cache import TileCache
from ...tiled.tile_reader import TileLevel, TileReader, Tiling
from ..arrays import RawLayout, RawReader
from ..limits import check_block, check_expansion
from .blocks import Block, BlockFile, Blocks, ObjectBlocks, SourceFile, find_blocks
from .check import check_directories
from .pages import ChosenPages, choose_pages, orientation_of
from .samples import Samples, describe_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ...._typing import Array
    from ....system.objects.object_file import ObjectFile, ObjectStream
    from ....system.stamp import SourceStamp

__all__ = ["TiffReader"]
# Decoded blocks of a reader without a cache of its owner: a strip is not decoded again for the next rows.
_CACHE_BYTES = 1 << 25
# Parsing a page takes a fraction of a millisecond; images of more bands have one nodata value for all.
_MOST_DESCRIBED_PLANES = 64
# Pixels of an object without compression are fetched in pieces of this many bytes.
_CUT_BYTES = 1 << 17
# The 32-bit offsets of NDPI and LSM wrap in larger files.
_WRAP_BYTES = 1 << 32


@dataclass(frozen=True, slots=True)
class _Plane:
    """Some bands of a level: those of a page, or one sample of a page that stores samples apart.

    Attributes:
        reader: reads them as level 0.
        first: the number of the first of its bands in the image.
        count: the number of its bands.
    """

    reader: Reader
    first: int
    count: int


class TiffReader(Reader):
    """Crops of one image of a TIFF, with its smaller copies.

    Samples come as they are stored, palettes and YCbCr as colours; see :func:`~.samples.describe_samples`. A series with the
    axes y, x and at most one of samples or channels is read with those as bands. A file of several images, or a stack over
    time or depth, needs ``page`` or ``series``.

    Args:
        path: the file.
        page: the page of the file, or with ``series`` the plane of that series; from 0.
        series: tifffile's series, from 0.
        stamp: the file that ``path`` must be whenever it is opened; ``None`` is the one that is there now.
        pool: keeps the open file; ``None`` opens it for every read.
        tiles: stores decoded blocks; ``None`` is a small cache of this reader.
        is_mapped: whether flat pixels are mapped into memory; see :class:`~ndframes.formats.images.arrays.RawReader`.
        stream: the bytes of an object, which is read by ranges; ``None`` reads the file.

    Raises:
        UnreadableImageError: the file is not a TIFF, has no such page or series, its layout needs a choice, or its tables
            are damaged.
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
        tiles: TileCache | None = None,
        is_mapped: bool | None = None,
        stream: ObjectStream | None = None,
    ) -> None:
        pool = HandlePool(max_idle=0) if pool is None else pool
        cache = TileCache(_CACHE_BYTES) if tiles is None else tiles
        file = None if stream is not None else pool.open(lambda: FileHandle(path, stamp))
        with close_on_error(file):
            # Parsing opens a file by its name once more.
            with require_same_file(path, None if file is None else stamp):
                parsed = _parse(path, file, stream, page, series)
            base = parsed.levels[0]
            facts = ReaderFacts(
                format="TIFF",
                shape=(*base[0].shape, sum(parsed.bands)),
                dtype=parsed.samples.dtype,
                tile_shape=_tile_shape(base[0]),
                nodata=parsed.samples.nodata,
                memory_bytes=sum(16 * len(plane.offsets) for level in parsed.levels for plane in level) + (1 << 14),
                is_shareable=True,
                channels=parsed.samples.channels,
                is_distant=stream is not None,
                orientation=parsed.orientation,
            )
            super().__init__(path, facts)
            self._check(parsed, stream.size_bytes if file is None else file.stamp.size_bytes)  # type: ignore[union-attr] # one of both
        self._stamp = None if file is None else file.stamp
        keep_freed_memory()
        distant = None if stream is None else stream.file
        builder = _PlaneBuilder(path, parsed, file, distant, pool, cache, is_mapped)
        self._levels = [
            [
                _Plane(builder.build(blocks, bands), first, bands)
                for blocks, bands, first in zip(level, parsed.bands, _starts(parsed.bands), strict=True)
            ]
            for level in parsed.levels
        ]
        builder.finish()

    def _check(self, parsed: _Parsed, file_bytes: int) -> None:
        """Refuse sizes that the file cannot hold."""
        check_expansion(self.path, self.nbytes, file_bytes, band_count=self.shape[2])
        for level in parsed.levels:
            for blocks, bands in zip(level, parsed.bands, strict=True):
                if blocks.flat_dtype is None:
                    block_bytes = blocks.block_shape[0] * blocks.block_shape[1] * bands * self.dtype.itemsize
                    check_block(self.path, block_bytes, self.nbytes)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded`."""
        return sum(plane.reader.count_decoded(rows, cols) for plane in self._levels[0])

    def _find_overview_shapes(self) -> list[tuple[int, int]]:
        return [level[0].reader.shape[:2] for level in self._levels[1:]]

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        try:
            if self.facts.is_distant:
                self.read_ahead([Crop(rows, cols, bands, out, level)])
            for reader, crop in self._share(Crop(rows, cols, bands, out, level)):
                reader.read_window(*crop)
        except Exception as error:  # noqa: BLE001 - codecs raise anything for damaged bytes
            self._raise(error)

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_strided`."""
        try:
            for reader, crop in self._share(Crop(rows, cols, bands, out, level)):
                reader.read_strided(*crop)
        except Exception as error:  # noqa: BLE001
            self._raise(error)

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`."""
        shares: dict[int, tuple[Reader, list[Crop]]] = {}
        for crop in crops:
            for reader, part in self._share(crop):
                shares.setdefault(id(reader), (reader, []))[1].append(part)
        for reader, parts in shares.values():
            for task in reader.split(parts):
                yield partial(self._run, task)

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`."""
        shares: dict[int, tuple[Reader, list[Crop]]] = {}
        for crop in crops:
            for reader, part in self._share(crop):
                shares.setdefault(id(reader), (reader, []))[1].append(part)
        for reader, parts in shares.values():
            reader.read_ahead(parts)

    def estimate_seconds(self, crop: Crop) -> float:
        """As :meth:`Reader.estimate_seconds`."""
        return sum(reader.estimate_seconds(part) for reader, part in self._share(crop))

    @property
    def is_worth_sharing(self) -> bool:
        """As :meth:`Reader.is_worth_sharing`."""
        return any(plane.reader.is_worth_sharing for plane in self._levels[0])

    def _share(self, crop: Crop) -> list[tuple[Reader, Crop]]:
        """The parts of a crop that its planes read."""
        level = self._levels[crop.level]
        if len(level) == 1:
            return [(level[0].reader, crop._replace(level=0))]
        shares = []
        for position, band in enumerate(crop.bands):
            plane = next(plane for plane in level if plane.first <= band < plane.first + plane.count)
            part = Crop(crop.rows, crop.cols, [band - plane.first], crop.out[:, :, position : position + 1], 0)
            shares.append((plane.reader, part))
        return shares

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001
            self._raise(error)

    def _raise(self, error: Exception) -> None:
        if isinstance(error, (SourceError, StoreError)):
            raise error
        raise UnreadableImageError(f"{self.path} does not decode, it may be damaged: {error}") from error


@dataclass(frozen=True)
class _Parsed:
    """An image of a TIFF, apart from the file.

    Attributes:
        levels: for each resolution the blocks of each plane.
        bands: the number of bands of each plane.
        samples: what they mean.
        orientation: the value of the tag.
    """

    levels: list[list[Blocks]]
    bands: list[int]
    samples: Samples
    orientation: int


def _parse(
    path: str, file: FileHandle | None, distant: ObjectStream | None, page: int | None, series: int | None
) -> _Parsed:
    """Parse the directories of the chosen image."""
    try:
        with _open_stream(path, file, distant) as stream:
            is_small = (file.stamp if file is not None else distant).size_bytes < _WRAP_BYTES  # type: ignore[union-attr] # one of both
            if is_small:  # before tifffile, which would follow pages that form a circle
                check_directories(path, every=True, stream=distant)
            with tifffile.TiffFile(stream) as tiff:
                if not is_small:
                    check_directories(path, every=not (tiff.is_ndpi or tiff.is_lsm), stream=distant)
                chosen = choose_pages(path, tiff, page, series)
                parsed = _parse_rows(path, chosen) if chosen.rows is not None else _parse_pages(path, chosen)
    except (SourceError, StoreError):
        raise
    except Exception as error:  # a damaged tag makes tifffile raise anything
        if distant is not None and distant.error is not None:
            raise distant.error from error
        raise UnreadableImageError(f"{path} does not open as TIFF, it may be damaged: {error}") from error
    if distant is not None:
        # tifffile leaves out what it cannot read.
        if distant.error is not None:
            raise distant.error
        distant.forget()
    return parsed


def _parse_pages(path: str, chosen: ChosenPages) -> _Parsed:
    keyframe = chosen.keyframe
    for level in chosen.levels:
        _check_page(path, level)
    samples = describe_samples(path, keyframe)
    levels: list[list[Blocks]] = []
    for level in chosen.levels:
        own = samples if not levels else describe_samples(path, level[0].keyframe)
        if (own.dtype, own.bands, len(level)) == (samples.dtype, samples.bands, len(chosen.levels[0])):
            levels.append([blocks for each in level for blocks in find_blocks(path, each, own)])
    marks: list[Any] = [describe_samples(path, each.aspage()).nodata for each in _list_planes(chosen)]
    if len(set(map(str, marks))) > 1:  # as text, because a nan does not equal itself
        samples = replace(samples, nodata=tuple(marks))
    is_apart = len(levels[0]) > len(chosen.levels[0])
    return _Parsed(
        levels,
        [1 if is_apart else samples.bands] * len(levels[0]),
        samples,
        orientation_of(chosen.levels[0][0].keyframe),
    )


def _list_planes(chosen: ChosenPages) -> list[Any]:
    """The pages of an image that has a page for each band, and a description of its own in each."""
    pages = chosen.levels[0]
    return pages if 1 < len(pages) <= _MOST_DESCRIBED_PLANES else []


def _parse_rows(path: str, chosen: ChosenPages) -> _Parsed:
    """An image that stores each row as a page ``(width, bands)``.

    The columns of the image are the rows of a page, so a block of a page is a tile of the image, one row high.
    """
    series, keyframe = chosen.rows, chosen.keyframe
    height, width, bands = map(int, series.shape)
    samples = describe_samples(path, keyframe)
    (row,) = find_blocks(path, keyframe, samples)
    if row.block_shape[1] < bands:
        raise UnreadableImageError(f"{path} stores the channels of a pixel in several tiles; that cannot be read")
    if row.flat_dtype is not None and series.dataoffset is not None:
        # tifffile gives an offset only if the rows follow each other without gaps.
        row_bytes = width * bands * row.flat_dtype.itemsize
        offsets, counts = int(series.dataoffset) + row_bytes * np.arange(height), np.full(height, row_bytes)
        tile_width = width
    else:
        pages = [page for page in series.pages if page is not None]
        if len(pages) != height:
            raise UnreadableImageError(
                f"{path} describes {height:,} rows, but has pages for {len(pages):,}; it is truncated or damaged"
            )
        tables = [find_blocks(path, page, samples)[0] for page in pages]
        offsets, counts = (np.concatenate([getattr(each, name) for each in tables]) for name in ("offsets", "counts"))
        tile_width = row.block_shape[0]
    per_row = len(offsets) // height

    def decode(block: Block) -> Array:
        index, data = block
        return row.decode((index % per_row, data))[:, :bands, 0][np.newaxis]

    flat_dtype = row.flat_dtype if tile_width == width and row.block_shape[1] == bands else None
    blocks = Blocks(path, (height, width), (1, tile_width), offsets, counts, decode, flat_dtype)
    return _Parsed([[blocks]], [bands], samples, orientation_of(keyframe))


def _check_page(path: str, pages: list[Any]) -> None:
    keyframe = pages[0].keyframe
    size = int(keyframe.imagelength), int(keyframe.imagewidth), int(keyframe.samplesperpixel)
    if min(size) < 1 or max(size) >= 1 << 31:
        raise UnreadableImageError(f"{path} has an image of the size {size}; it is damaged")
    if len(pages) > 1 and keyframe.samplesperpixel > 1:
        raise UnreadableImageError(f"{path} spreads samples and channels over several axes; choose one with page=")
    if keyframe.imagedepth > 1:
        raise UnreadableImageError(
            f"{path} stores a volume of depth {keyframe.imagedepth} in a page; that cannot be read"
        )


@dataclass
class _PlaneBuilder:
    """Makes the readers of planes."""

    path: str
    parsed: _Parsed
    file: FileHandle | None
    distant: ObjectFile | None
    pool: HandlePool
    cache: TileCache
    is_mapped: bool | None
    _source: SourceFile | None = None

    def _share_source(self) -> SourceFile:
        """The file for planes that are read block by block, which share it."""
        assert self.file is not None  # noqa: S101
        if self._source is None:
            # Blocks that are nothing but pixels are copied from the map, as those of our own entries.
            can_map = not is_remote(self.path) if self.is_mapped is None else self.is_mapped
            is_flat = all(plane.flat_dtype is not None for level in self.parsed.levels for plane in level)
            self._source = SourceFile(self.path, self.file, self.file.stamp, self.pool, is_mapped=can_map and is_flat)
        return self._source

    def finish(self) -> None:
        """Close the file unless a plane reads from it: planes of flat pixels open their own."""
        if self._source is None and self.file is not None:
            self.file.close()

    def build(self, blocks: Blocks, bands: int) -> Reader:
        """The reader of a plane: pixels that lie one after the other are copied, others decoded block by block."""
        if self.distant is not None:
            blocks = blocks.cut_flat(bands, _CUT_BYTES)
        offset = blocks.find_flat_offset(bands) if self.file is not None else None
        if self.file is not None and offset is not None and blocks.flat_dtype is not None:
            layout = RawLayout((*blocks.shape, bands), None, blocks.flat_dtype, False, offset)
            if layout.end_offset <= self.file.stamp.size_bytes:
                options: Any = {"format": "TIFF", "stamp": self.file.stamp, "is_mapped": self.is_mapped}
                return RawReader(self.path, self.pool, lambda *_: layout, **options)
        decode = blocks.decode
        tiling = Tiling(
            "TIFF",
            [TileLevel.make(blocks.shape, blocks.block_shape, 0)],
            self.parsed.samples.dtype,
            bands,
            decode,
            lambda found: [decode(block) for block in found],
        )
        if self.distant is not None:
            return TileReader(self.path, tiling, ObjectBlocks(self.distant, blocks), self.cache)
        # Views of the file need no room in the cache.
        cache = self.cache if blocks.flat_dtype is None else TileCache(0)
        return TileReader(self.path, tiling, BlockFile(self._share_source(), blocks), cache)


def _open_stream(path: str, file: FileHandle | None, distant: ObjectStream | None) -> AbstractContextManager[Any]:
    """Open ``file`` again for tifffile, under its real name, since tifffile finds other files of a series beside it."""
    if file is None:
        return nullcontext(distant)
    # A duplicate of the descriptor: the name may lead to another file by now.
    return open(os.path.realpath(path), "rb", opener=lambda *_: os.dup(file.descriptor))


def _tile_shape(blocks: Blocks) -> tuple[int, int]:
    return min(blocks.block_shape[0], blocks.shape[0]), min(blocks.block_shape[1], blocks.shape[1])


def _starts(counts: Sequence[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts))]
