"""The blocks of a TIFF's page, strips or tiles: where they are in the file, and how they decode."""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import UnreadableImageError
from ....system.handles import FileHandle, SharedHandle
from ...extensions import extensions_of_tiff, load_extensions
from .codecs import (
    LERC,
    PICTURES,
    PREDICTED,
    UNPACKERS,
    check_frame,
    decode_lerc,
    decode_picture,
    undo_differences,
    undo_float_differences,
    unpack_bits,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...._typing import Array
    from ....system.handles import HandlePool
    from ....system.objects.object_file import ObjectFile
    from ....system.stamp import SourceStamp
    from .samples import Samples

__all__ = ["Block", "BlockDecoder", "BlockFile", "Blocks", "ObjectBlocks", "SourceFile", "find_blocks"]
imagecodecs = load_extensions("_imcd")
_NO_PREDICTOR, _HORIZONTAL, _FLOATING = 1, 2, 3
# The depths for which libtiff knows a predictor.
_PREDICTED_BITS = {_HORIZONTAL: (8, 16, 32, 64), _FLOATING: (16, 24, 32, 64)}
# Bytes that a block may have after its last sample.
_SPARE_BYTES = 4096
_PLANAR = 2
_UNCOMPRESSED = 1
_RGB, _YCBCR = 2, 6
_JPEGS = (6, 7, 33007, 34892)
# Old JPEG (6) may be a part of a JPEG file.
_MARKED_JPEGS = (7, 33007, 34892)
#: A block's number and its bytes; ``None``: it was not written. A list, if each sample of a pixel has its own block.
Block = tuple[int, "bytes | memoryview | list[bytes | memoryview | None] | None"]


@dataclass(frozen=True)
class Blocks:
    """The blocks of one page, or of one sample of a page that stores samples apart.

    Attributes:
        path: the file, for messages.
        shape: ``(height, width)`` of the page.
        block_shape: ``(height, width)`` of a block; the last strip may be lower.
        offsets: the position of each block in the file.
        counts: the number of bytes of each block; 0: it was not written.
        decode: makes samples of a block.
        flat_dtype: the stored dtype if a block is nothing but its samples; else ``None``.
        planes: the blocks of each sample, if a block of this page is made of one of each; else empty.
    """

    path: str
    shape: tuple[int, int]
    block_shape: tuple[int, int]
    offsets: Array
    counts: Array
    decode: Callable[[Block], Array]
    flat_dtype: np.dtype[Any] | None
    planes: tuple[Blocks, ...] = ()

    def cut_flat(self, bands: int, block_bytes: int) -> Blocks:
        """The same pixels in blocks of about this many bytes, if all rows follow each other; itself otherwise.

        Some writers store an image as one strip, and a crop of an object would fetch all of it.
        """
        offset, dtype = self.find_flat_offset(bands), self.flat_dtype
        if offset is None or dtype is None:
            return self
        (height, width), row_bytes = self.shape, self.shape[1] * bands * dtype.itemsize
        rows = min(height, max(1, block_bytes // row_bytes))
        tops = np.arange(0, height, rows)

        def decode(block: Block) -> Array:
            return np.frombuffer(block[1], dtype).reshape(-1, width, bands)  # type: ignore[arg-type] # all are written

        counts = np.minimum(rows, height - tops) * row_bytes
        return replace(self, block_shape=(rows, width), offsets=offset + tops * row_bytes, counts=counts, decode=decode)

    def find_flat_offset(self, bands: int) -> int | None:
        """The position of the first pixel if all rows follow each other without gaps; else ``None``."""
        if self.flat_dtype is None or self.block_shape[1] != self.shape[1] or not len(self.offsets):
            return None
        row_bytes = self.shape[1] * bands * self.flat_dtype.itemsize
        steps = np.full(len(self.offsets), self.block_shape[0] * row_bytes, np.int64)
        steps[-1] = (self.shape[0] - self.block_shape[0] * (len(steps) - 1)) * row_bytes
        is_flat = (self.counts >= steps).all() and (np.diff(self.offsets) == steps[:-1]).all()
        return int(self.offsets[0]) if is_flat and steps[-1] > 0 else None


def find_blocks(path: str, page: Any, samples: Samples) -> list[Blocks]:
    """The blocks of a page: of all samples together, or of each sample, where these are stored apart.

    Raises:
        UnreadableImageError: the tables of the page do not fit its size, or its blocks cannot be decoded.
    """
    keyframe = page.keyframe
    # Before tifffile looks for the decoder: it keeps what it finds, and that may be a stub.
    load_extensions(*extensions_of_tiff(keyframe.compression))
    height, width = int(keyframe.imagelength), int(keyframe.imagewidth)
    block_shape = _find_block_shape(keyframe)
    per_plane = -(-height // block_shape[0]) * -(-width // block_shape[1])
    is_apart = keyframe.planarconfig == _PLANAR and samples.stored_bands > 1
    plane_count = samples.stored_bands if is_apart else 1
    bands = 1 if is_apart else samples.stored_bands
    offsets, counts = _find_tables(path, page, plane_count * per_plane, block_shape, bands)
    is_joined = is_apart and samples.convert is not None
    found = []
    for plane in range(plane_count):
        part = slice(plane * per_plane, (plane + 1) * per_plane)
        own = samples.of_plane(plane) if is_joined else samples
        decoder = BlockDecoder(path, keyframe, own, (height, width), block_shape, bands, plane * per_plane)
        found.append(
            Blocks(path, (height, width), block_shape, offsets[part], counts[part], decoder, decoder.flat_dtype)
        )
    return [_join(found, samples)] if is_joined else found


def _join(planes: list[Blocks], samples: Samples) -> Blocks:
    """Blocks of pixels from those of their samples, which mean something only together."""
    convert = samples.convert
    assert convert is not None  # noqa: S101

    def decode(block: Block) -> Array:
        index, parts = block
        each = zip(planes, parts or (), strict=True)
        return convert(np.concatenate([plane.decode((index, part)) for plane, part in each], axis=2))  # type: ignore[arg-type]

    return replace(planes[0], decode=decode, flat_dtype=None, planes=tuple(planes))


def _find_block_shape(keyframe: Any) -> tuple[int, int]:
    if keyframe.is_tiled:
        return int(keyframe.tilelength), int(keyframe.tilewidth)
    # The default of a strip's rows is 2**32 - 1: the image is one strip.
    return min(int(keyframe.rowsperstrip), int(keyframe.imagelength)), int(keyframe.imagewidth)


def _find_tables(path: str, page: Any, count: int, block_shape: tuple[int, int], bands: int) -> tuple[Array, Array]:
    """The positions and lengths of a page's blocks."""
    offsets, counts = (np.asarray(table, np.uint64) for table in (page.dataoffsets, page.databytecounts))
    if len(offsets) < count:
        raise UnreadableImageError(
            f"{path} lists {len(offsets):,} blocks, but its page of {page.keyframe.imagelength} x "
            f"{page.keyframe.imagewidth} px has {count:,}; its table is damaged"
        )
    offsets, counts = offsets[:count], counts[:count]
    if page.keyframe.compression == _UNCOMPRESSED:
        # The length of a block is known. One that is less is damage, but one of 0 is left out by some writers.
        sizes = _uncompressed_sizes(page.keyframe, count, block_shape, bands)
        counts = np.pad(counts, (0, count - len(counts)))
        counts = np.where((counts == 0) & (offsets > 0), sizes, np.minimum(counts, sizes))
    elif len(counts) < count:
        raise UnreadableImageError(
            f"{path} lists the lengths of {len(counts):,} blocks, but has {count:,}; its table is damaged"
        )
    lost = np.flatnonzero((offsets > 0) & (counts == 0))
    if len(lost):
        raise UnreadableImageError(
            f"{path}: block {lost[0]:,} is at {int(offsets[lost[0]]):,}, but its length is said to be 0; its table is damaged"
        )
    unplaced = np.flatnonzero((offsets == 0) & (counts > 0))
    if len(unplaced):
        raise UnreadableImageError(
            f"{path}: block {unplaced[0]:,} has {int(counts[unplaced[0]]):,} bytes, but no position; its table is damaged"
        )
    if len(offsets) and int(offsets.max()) >= 1 << 62:
        raise UnreadableImageError(f"{path}: a block lies past the end of any file; its table is damaged")
    return offsets.astype(np.int64), counts.astype(np.int64)


def _uncompressed_sizes(keyframe: Any, count: int, block_shape: tuple[int, int], bands: int) -> Array:
    """The number of bytes of each block without compression."""
    bits = keyframe.bitspersample
    across, down = _find_subsampling(keyframe)
    row_bytes = -(-block_shape[1] * (sum(bits) if isinstance(bits, tuple) else bits * bands) // 8)
    if (across, down) != (1, 1):
        row_bytes = -(-block_shape[1] // across) * (across * down + 2)  # of a row of units
    rows = np.full(count, block_shape[0])
    if not keyframe.is_tiled:
        per_plane = -(-int(keyframe.imagelength) // block_shape[0])
        rows[per_plane - 1 :: per_plane] = int(keyframe.imagelength) - (per_plane - 1) * block_shape[0]
    return (-(-rows // down) * row_bytes).astype(np.uint64)


class BlockDecoder:
    """Makes pixels ``(h, w, bands)`` of the bytes of a block; any number of threads may call it.

    Args:
        path: the file, for messages.
        keyframe: tifffile's page.
        samples: what its samples mean.
        shape: ``(height, width)`` of the page.
        block_shape: ``(height, width)`` of a block.
        bands: the samples of a pixel in a block.
        first: the number in the page of the first block.
    """

    def __init__(
        self,
        path: str,
        keyframe: Any,
        samples: Samples,
        shape: tuple[int, int],
        block_shape: tuple[int, int],
        bands: int,
        first: int,
    ) -> None:
        self._path, self._samples, self._shape, self._block_shape = path, samples, shape, block_shape
        self._bands, self._first = bands, first
        self._is_tiled = bool(keyframe.is_tiled)
        self._is_apart = keyframe.planarconfig == _PLANAR
        self._is_unnamed = bands == 3 and keyframe.photometric not in (_RGB, _YCBCR)
        self._is_reversed = keyframe.fillorder == 2
        compression = int(keyframe.compression)
        self._compression = compression
        self._unpack = UNPACKERS.get(compression)
        bits = keyframe.bitspersample
        self._bits = 0 if isinstance(bits, tuple) else int(bits)
        self._order = keyframe.parent.byteorder
        self._predictor = int(keyframe.predictor) if compression in PREDICTED else _NO_PREDICTOR
        self._is_whole = self._bits == samples.stored_dtype.itemsize * 8 and samples.stored_dtype.kind in "uifc"
        self._is_complex_int = keyframe.sampleformat == 5
        self._subsampling = _find_subsampling(keyframe)
        self._tables = {"jpegtables": keyframe.jpegtables, "jpegheader": keyframe.jpegheader}
        is_known = self._unpack is not None or compression == LERC or compression in PICTURES
        is_ours = is_known and self._bits > 0 and self._predictor in (_NO_PREDICTOR, *_PREDICTED_BITS)
        self._foreign = None if is_ours else keyframe.decode
        if is_ours and self._predictor != _NO_PREDICTOR:
            self._check_predictor()
        is_flat = (
            is_ours
            and compression == _UNCOMPRESSED
            and self._is_whole
            and not self._is_reversed
            and not self._is_complex_int
        )
        self.flat_dtype = (
            samples.stored_dtype.newbyteorder(self._order)
            if is_flat and samples.convert is None and self._subsampling == (1, 1)
            else None
        )

    def __call__(self, block: Block) -> Array:
        """The pixels of a block.

        Raises:
            ValueError: its bytes are too few, or do not decode.
        """
        index, data = block
        assert not isinstance(data, list)  # noqa: S101
        rows = self._count_rows(index)
        if data is None:
            found = np.full((rows, self._block_shape[1], self._bands), self._samples.fill, self._samples.stored_dtype)
        elif self._foreign is not None:
            found = self._decode_by_tifffile(index, data)
        else:
            found = self._decode(index, data, rows)
        return found if self._samples.convert is None else self._samples.convert(found)

    def _count_rows(self, index: int) -> int:
        if self._is_tiled:
            return self._block_shape[0]
        return min(self._block_shape[0], self._shape[0] - index * self._block_shape[0])

    def _check_predictor(self) -> None:
        kind = self._samples.stored_dtype.kind
        is_fit = self._bits in _PREDICTED_BITS[self._predictor] and self._subsampling == (1, 1)
        if not is_fit or (self._predictor == _FLOATING and kind != "f") or (self._bits == 24 and kind != "f"):
            raise UnreadableImageError(
                f"{self._path} has the predictor {self._predictor} for samples of {self._bits} bits of the kind {kind!r}, which "
                "TIFF does not define; its tags are damaged"
            )

    def _decode_by_tifffile(self, index: int, data: Any) -> Array:
        assert self._foreign is not None  # noqa: S101
        if self._compression in _MARKED_JPEGS:
            # libjpeg makes gray pixels of what is missing.
            if self._tables["jpegheader"] is None and b"\xff\xd9" not in data:
                raise ValueError("it ends before its JPEG picture does")
            check_frame(data, (*self._block_shape, self._bands))
        if self._compression in _JPEGS and self._is_apart:
            # tifffile asks for the colours of all planes, which libjpeg refuses.
            return self._decode_jpeg(data)
        if self._compression in _JPEGS and self._is_unnamed:
            # libjpeg takes three components for YCbCr; named alike, they come as they are.
            return self._decode_jpeg(data, colorspace="RGB", outcolorspace="RGB")
        pixels, _, _ = self._foreign(data, self._first + index, **self._tables)
        if pixels is None:
            raise ValueError("it is empty")
        return np.asarray(pixels[0], self._samples.stored_dtype)

    def _decode_jpeg(self, data: bytes, **colours: str) -> Array:
        tables, header = self._tables["jpegtables"], self._tables["jpegheader"]
        found = imagecodecs.jpeg_decode(data, bitspersample=self._bits, tables=tables, header=header, **colours)
        return np.asarray(found, self._samples.stored_dtype).reshape(*found.shape[:2], -1)

    def _decode(self, index: int, data: Any, rows: int) -> Array:
        shape = (rows, self._block_shape[1], self._bands)
        if self._compression in PICTURES:
            return decode_picture(self._compression, data, shape, self._find_used(index), self._samples.stored_dtype)
        if self._is_reversed:
            data = imagecodecs.bitorder_decode(data)
        if self._compression == LERC:
            fill = self._samples.fill if self._samples.nodata is not None else None
            return decode_lerc(data, shape, self._samples.stored_dtype, fill)  # type: ignore[arg-type]
        if self._subsampling != (1, 1):
            return self._decode_subsampled(data, rows)
        row_bytes = self._count_row_bytes()
        raw = self._take(self._unpack_block(data, rows, row_bytes), rows * row_bytes)
        order = self._order
        if self._predictor != _NO_PREDICTOR:
            order = "<" if sys.byteorder == "little" else ">"
            is_whole = self._predictor == _HORIZONTAL
            raw = (
                undo_differences(raw, self._bits, shape, self._order)
                if is_whole
                else undo_float_differences(raw, self._bits, shape)
            )
        return self._unpack_samples(raw, shape, order)

    def _find_used(self, index: int) -> tuple[int, int]:
        """The rows and columns of a block that are inside the image."""
        (height, width), (rows, columns) = self._shape, self._block_shape
        down, across = divmod(index, -(-width // columns))
        return min(rows, height - down * rows), min(columns, width - across * columns)

    def _count_row_bytes(self) -> int:
        return -(-self._block_shape[1] * self._bands * self._bits // 8)

    def _unpack_block(self, data: Any, rows: int, row_bytes: int) -> Any:
        """The uncompressed bytes; some writers store more than the rows of a strip, such as all rows in the last one."""
        assert self._unpack is not None  # noqa: S101
        try:
            return self._unpack(data, rows * row_bytes)
        except Exception:  # noqa: BLE001 - each codec has its own errors
            return self._unpack(data, self._block_shape[0] * row_bytes + _SPARE_BYTES)

    def _take(self, data: Any, size: int) -> Any:
        """The first bytes of a block; some writers add a few."""
        view = memoryview(data).cast("B")
        if len(view) < size:
            raise ValueError(f"it has {len(view):,} bytes of {size:,}")
        return view[:size]

    def _unpack_samples(self, raw: Any, shape: tuple[int, int, int], order: Any) -> Array:
        dtype = self._samples.stored_dtype
        if self._is_complex_int:
            halves = (
                np.frombuffer(raw, f"{order}i{self._bits // 16}").reshape(*shape, 2).astype(f"f{dtype.itemsize // 2}")
            )
            return halves.view(dtype)[..., 0]
        if self._is_whole:
            return np.frombuffer(raw, dtype.newbyteorder(order)).reshape(shape)
        if dtype.kind == "f":  # of 24 bits
            values = imagecodecs.float24_decode(bytes(raw), byteorder=order)
            return np.asarray(values, dtype).reshape(shape)
        lines = np.frombuffer(raw, np.uint8).reshape(shape[0], -1)
        return unpack_bits(lines, self._bits, shape, dtype, order)

    def _decode_subsampled(self, data: bytes, rows: int) -> Array:
        """YCbCr whose colours have a lower resolution: units of several Y, one Cb and one Cr."""
        across, down = self._subsampling
        width = self._block_shape[1]
        units = -(-rows // down), -(-width // across)
        row_bytes = units[1] * (across * down + 2)  # of a row of units
        size = units[0] * row_bytes
        raw = np.frombuffer(self._take(self._unpack_block(data, units[0], row_bytes), size), np.uint8).reshape(
            *units, -1
        )
        out = np.empty((units[0] * down, units[1] * across, 3), np.uint8)
        luminance = raw[..., :-2].reshape(*units, down, across).transpose(0, 2, 1, 3)
        out[..., 0] = luminance.reshape(out.shape[:2])
        for band in (1, 2):
            out[..., band] = raw[..., band - 3].repeat(down, axis=0).repeat(across, axis=1)
        return out[:rows, :width]


def _find_subsampling(keyframe: Any) -> tuple[int, int]:
    """Columns and rows that share a colour; ``(1, 1)`` unless blocks hold YCbCr of that kind."""
    if keyframe.photometric != _YCBCR or keyframe.compression in _JPEGS or keyframe.planarconfig == _PLANAR:
        return 1, 1
    across, down = keyframe.subsampling or (2, 2)
    return int(across), int(down)


class _OpenFile(SharedHandle):
    """A handle: an open file that any number of threads read."""

    def __init__(self, file: FileHandle, *, is_mapped: bool) -> None:
        self.file = file
        self.map = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ) if is_mapped else None
        self.descriptor_count = 2 if is_mapped else 1  # mmap duplicates the descriptor


class SourceFile:
    """A file that the pool may close and that is opened again when it is needed.

    Args:
        path: the file.
        file: it, open.
        stamp: the file that ``path`` must be whenever it is opened.
        pool: keeps the open file.
        is_mapped: whether it is mapped into memory.
    """

    def __init__(
        self, path: str, file: FileHandle, stamp: SourceStamp, pool: HandlePool, *, is_mapped: bool = False
    ) -> None:
        self._path, self._stamp, self._pool, self._is_mapped = path, stamp, pool, is_mapped
        self._token = object()
        # The pool knows the token only: a reference to this object would keep it alive for ever.
        weakref.finalize(self, pool.discard, self._token)
        shared = pool.share(self._token, lambda: _OpenFile(file, is_mapped=is_mapped))
        self._open_file: Callable[[], _OpenFile | None] = weakref.ref(shared)

    def open(self) -> _OpenFile:
        """The open file.

        Raises:
            SourceChangedError: the file was replaced or removed.
        """
        shared = self._open_file()
        if shared is None:
            shared = self._pool.share(
                self._token, lambda: _OpenFile(FileHandle(self._path, self._stamp), is_mapped=self._is_mapped)
            )
            self._open_file = weakref.ref(shared)
        shared.is_used = True
        return shared


class ObjectBlocks:
    """The blocks of a TIFF in an object by their numbers, as :class:`~ndframes.formats.tiled.tile_reader.TileFile`.

    Each read is a request, unless :meth:`read_ahead` has announced it.
    """

    is_mapped = False
    is_distant = True

    def __init__(self, file: ObjectFile, blocks: Blocks) -> None:
        self._file = file
        self._tables = [(part.offsets, part.counts) for part in blocks.planes or (blocks,)]
        self._has_planes = bool(blocks.planes)

    def read(self, index: int) -> Block:
        """A block.

        Raises:
            EOFError: the object ends before.
        """
        parts: list[bytes | memoryview | None] = [
            None if place is None else self._read(index, *place) for place in self._places(index)
        ]
        return (index, parts) if self._has_planes else (index, parts[0])

    def _read(self, index: int, offset: int, count: int) -> bytes:
        data = bytes(self._file.read_at(offset, count))  # codecs search them
        if len(data) != count:
            raise EOFError(f"block {index:,} should be {count:,} bytes at {offset:,}, but the file ends before")
        return data

    def _places(self, index: int) -> list[tuple[int, int] | None]:
        """The place of a block, or of each plane of it; ``None``: it was not written."""
        places = [(int(offsets[index]), int(counts[index])) for offsets, counts in self._tables]
        return [place if place[1] else None for place in places]

    def read_run(self, run: range) -> list[Block]:
        """Several blocks."""
        return [self.read(index) for index in run]

    def views(self) -> None:
        """``None``: an object is not mapped."""

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """Not supported."""
        raise NotImplementedError

    def touch(self, runs: Sequence[range]) -> None:
        """Do nothing: a source has no checksums."""

    def read_ahead(self, indices: Sequence[int], *, is_batch: bool = False) -> bool:
        """Begin to fetch some blocks; whether there are any."""
        size = self._file.size_bytes
        places = [place for index in indices for place in self._places(index) if place is not None]
        self._file.read_ahead([place for place in places if sum(place) <= size], is_batch=is_batch)
        return bool(places)

    def expect(self, runs: Sequence[range]) -> bool:
        """Call :meth:`read_ahead` for the blocks of these runs."""
        self.read_ahead([index for run in runs for index in run])
        return len(runs) > 1 or len(runs[0]) > 1


class BlockFile:
    """The blocks of a TIFF by their numbers, as :class:`~ndframes.formats.tiled.tile_reader.TileFile`."""

    is_mapped = False

    def __init__(self, source: SourceFile, blocks: Blocks) -> None:
        self._source, self._offsets, self._counts = source, blocks.offsets, blocks.counts
        self._planes = [BlockFile(source, plane) for plane in blocks.planes]
        # One byte a block, as for entries: whether the disk was asked for it.
        self._is_expected = bytearray(len(blocks.offsets))

    def read(self, index: int) -> Block:
        """A block; a view of it where the file is mapped.

        Raises:
            EOFError: the file ends before.
        """
        if self._planes:
            return index, [plane._read_bytes(index) for plane in self._planes]  # noqa: SLF001
        return index, self._read_bytes(index)

    def _read_bytes(self, index: int) -> bytes | memoryview | None:
        count = int(self._counts[index])
        if not count:
            return None
        opened, offset = self._source.open(), int(self._offsets[index])
        size = os.fstat(opened.file.descriptor).st_size if opened.map is None else len(opened.map)
        # Checked before memory is allocated.
        if offset + count > size:
            raise EOFError(f"block {index:,} should be {count:,} bytes at {offset:,}, but the file ends before")
        if opened.map is not None:
            return memoryview(opened.map)[offset : offset + count]
        data = os.pread(opened.file.descriptor, count, offset)
        if len(data) != count:
            rest = bytearray(count)
            opened.file.read_into(memoryview(rest), offset)
            data = bytes(rest)
        return data

    @property
    def is_distant(self) -> bool:
        """``False``: the file is on a disk."""
        return False

    def read_run(self, run: range) -> list[Block]:
        """Several blocks."""
        return [self.read(index) for index in run]

    def views(self) -> None:
        """``None``: the file is not mapped."""

    def map(self, first: int, count: int, tile_bytes: int) -> memoryview:
        """Not supported."""
        raise NotImplementedError

    def touch(self, runs: Sequence[range]) -> None:
        """Do nothing: a source has no checksums."""

    def read_ahead(self, indices: Sequence[int], *, is_batch: bool = False) -> bool:
        """Have the bytes of some blocks fetched from the disk, without waiting for them."""
        for plane in self._planes:
            plane.read_ahead(indices, is_batch=is_batch)
        if not hasattr(os, "posix_fadvise"):
            return False
        # Kept in a variable: the pool may close a file that nothing refers to at any time.
        opened = self._source.open()
        for index in indices:
            count = int(self._counts[index])
            if count:
                os.posix_fadvise(opened.file.descriptor, int(self._offsets[index]), count, os.POSIX_FADV_WILLNEED)
        return False

    def expect(self, runs: Sequence[range]) -> bool:
        """Call :meth:`read_ahead` for the blocks of these runs that were not expected before."""
        if len(runs) == len(runs[0]) == 1:
            return False
        new = [index for run in runs for index in run if not self._is_expected[index]]
        for index in new:
            self._is_expected[index] = True
        self.read_ahead(new)
        return bool(new)
