"""Write a video as a TIFF of tiles in space and time, in one pass and bounded memory.

The file holds one image with the tags ImageDepth and TileDepth, which TIFF defines for volumes. ``tifffile`` reads all of it;
GDAL reads the first frame.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .codecs import checksum, encode_tile, extra_tags
from .directories import Directory, needs_bigtiff
from .spool import TileSpool, assemble, scratch_beside

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._typing import Array
    from ...spec.backends import Backend, TileCodec
    from ...system.segments import Manifest
    from ..reader import Reader
    from .spool import ScratchMaker

__all__ = ["write_volume"]
# A thread encodes tiles of this many bytes as one task: smaller tasks spend their time on being passed around.
_PART_BYTES = 2**20
_WAITING_PARTS = 32


def write_volume(
    file: IO[bytes],
    source: Reader,
    backend: Backend,
    *,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
    scratch: ScratchMaker | None = None,
) -> Manifest:
    """Write the video ``source`` as a TIFF of tiles ``(frames, height, width)`` to ``file``, which must be empty and seekable.

    Frames are read once, in order. Memory holds the frames that one tile spans; they are cut and encoded before the next
    ones are read.

    Args:
        file: the file to write to.
        source: a reader of a video.
        backend: a ``cog`` backend.
        threads: the number of threads that encode.
        progress: called with the fraction done, 0 to 1.
        scratch: creates the unnamed file in which tiles wait; ``None`` creates it beside ``file``.

    Returns:
        The head and every tile, with checksums computed before anything was written.
    """
    height, width, band_count = source.shape
    count = source.frame_count or 1
    block = backend.block_shape_for(source.shape, source.dtype)
    codec = backend.video_codec_for(source.dtype, band_count)
    directory = _directory((count, height, width), block, source, codec)
    make_file = scratch or scratch_beside(file)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        # Runs before the pool's own exit, which would wait for tasks that have not begun.
        stack.callback(pool.shutdown, cancel_futures=True)
        spool = TileSpool(stack.enter_context(make_file(0)), directory.tile_count)
        tiles = _TileEncoder(pool, spool, codec, block)
        pixels = _allocate_tiles(block, height, width, band_count, source.dtype)
        for start in range(0, count, block[0]):
            times = range(start, min(count, start + block[0]))
            source.read_frames(
                times, range(height), range(width), range(band_count), pixels[: len(times), :height, :width]
            )
            # Tiles reach beyond the last column, row and frame: repeated pixels compress best.
            pixels[: len(times), :height, width:] = pixels[: len(times), :height, width - 1 : width]
            pixels[: len(times), height:] = pixels[: len(times), height - 1 : height]
            pixels[len(times) :] = pixels[len(times) - 1]
            tiles.encode(pixels)
            if progress is not None:
                progress(times.stop / count)
        big = needs_bigtiff(source.nbytes, directory.tile_count)
        head = {"shape": [count, height, width], "tile_shape": list(block), "first_segment": 1}
        return assemble(file, [directory], [spool], {"volume": head}, big=big)


class _TileEncoder:
    """Encodes tiles in threads, and writes them in order."""

    def __init__(
        self, pool: ThreadPoolExecutor, spool: TileSpool, codec: TileCodec, block: tuple[int, int, int]
    ) -> None:
        self._pool, self._spool, self._codec, self._block = pool, spool, codec, block
        self._started: deque[Future[tuple[list[bytes], list[int]]]] = deque()
        self._next = 0

    def encode(self, pixels: Array) -> None:
        """Encode and write all tiles of some frames, ``(frames, height, width, bands)``, which are whole tiles."""
        _, height, width = self._block
        step = max(1, _PART_BYTES // (pixels[:, :height, :width].nbytes)) * width
        for top in range(0, pixels.shape[1], height):
            for left in range(0, pixels.shape[2], step):
                part = pixels[:, top : top + height, left : left + step]
                self._started.append(self._pool.submit(self._encode_part, part))
                self._wait(_WAITING_PARTS)
        # All parts: the caller reuses the array for the next frames.
        self._wait(0)

    def _encode_part(self, part: Array) -> tuple[list[bytes], list[int]]:
        frames, height, width = self._block
        tiles = []
        for left in range(0, part.shape[2], width):
            tile = np.ascontiguousarray(part[:, :, left : left + width])
            # The frames of a tile are stored one below the other.
            tiles.append(encode_tile(tile.reshape(frames * height, width, -1), self._codec))
        return tiles, [checksum(tile) for tile in tiles]

    def _wait(self, most: int) -> None:
        """Write the oldest parts until at most ``most`` are still being encoded."""
        while len(self._started) > most:
            tiles, checksums = self._started.popleft().result()
            self._spool.append(self._next, tiles, checksums)
            self._next += len(tiles)


def _allocate_tiles(block: tuple[int, int, int], height: int, width: int, bands: int, dtype: np.dtype[Any]) -> Array:
    rows, cols = (-(-extent // tile) * tile for extent, tile in zip((height, width), block[1:], strict=True))
    return np.empty((block[0], rows, cols, bands), dtype)


def _directory(shape: tuple[int, int, int], block: tuple[int, int, int], source: Reader, codec: TileCodec) -> Directory:
    return Directory(
        shape=shape[1:],
        tile_shape=block[1:],
        band_count=source.shape[2],
        dtype_kind=source.dtype.kind,
        bits=source.dtype.itemsize * 8,
        compress=codec.compress,
        predictor=codec.predictor,
        is_overview=False,
        tags=extra_tags(codec, source.shape[2]),
        depth=shape[0],
        tile_depth=block[0],
    )
