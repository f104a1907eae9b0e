"""WholeReader: crops of images in formats that are decoded as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import SourceError, UnreadableImageError
from ...system.handles import FileHandle, close_on_error
from ...system.stamp import source_error
from ..reader import Reader, ReaderFacts, to_ascending
from .arrays import copy_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._typing import Array
    from ...spec.nodata import Nodata
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp
    from ..reader import Crop
    from ..tiled.tile_cache import TileCache

__all__ = ["WholeReader", "open_whole", "read_bytes"]


class WholeReader(Reader):
    """Crops of an image that is decoded as a whole, when it is first read.

    The decoded image is a tile in the cache of tiles, so many open images use no more memory than the budget of the cache
    and one image. Without a cache the reader keeps the image itself.

    Args:
        path: the file.
        facts: what its header says.
        decode: decodes the image ``(h, w, bands)``. Called again whenever the image is no longer in the cache.
        tiles: stores decoded images.
    """

    def __init__(
        self, path: str, facts: ReaderFacts, decode: Callable[[], Array], tiles: TileCache | None = None
    ) -> None:
        super().__init__(path, facts)
        self._decode = decode
        self._tiles = tiles
        self._key = (object(), 0)
        self._pixels: Array | None = None

    @property
    def is_worth_sharing(self) -> bool:
        """Whether the image has to be decoded, beside those of other files; one thread copies from a decoded one."""
        return self._pixels is None if self._tiles is None else not self._tiles.has_picture(self._key)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        self.read_strided(rows, cols, bands, out, level)

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_strided`."""
        copy_crop(self._find_pixels(), rows, cols, bands, out)

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`: one task, so that the image is decoded once."""

        def read_all_crops() -> None:
            pixels = self._find_pixels()
            for rows, cols, bands, out, _ in crops:
                if out.size:
                    ascending = to_ascending(rows, cols, out)
                    copy_crop(pixels, *ascending[:2], bands, ascending[2])

        yield read_all_crops

    def keep(self, pixels: Array) -> None:
        """Store the decoded image."""
        if self._tiles is None:
            self._pixels = pixels
        else:
            self._tiles.admit_picture(self._key, pixels)

    def _find_pixels(self) -> Array:
        pixels = self._pixels if self._tiles is None else self._tiles.find_picture(self._key)
        # Two threads may both decode the image: that takes no longer than waiting for each other.
        if pixels is None:
            pixels = self._decode()
            if (pixels.shape, pixels.dtype) != (self.shape, self.dtype):
                raise UnreadableImageError(
                    f"{self.path} is {self.shape} {self.dtype} by its header, but decodes to {pixels.shape} {pixels.dtype}; "
                    "it is damaged"
                )
            self.keep(pixels)
        return pixels


def open_whole(
    path: str,
    format: str,  # noqa: A002 - the field's word
    decode: Callable[[], Array],
    tiles: TileCache | None = None,
    *,
    nodata: Nodata | None = None,
    channels: tuple[str, ...] | None = None,
) -> WholeReader:
    """Open an image whose format says too little in its header, by decoding it at once.

    Args:
        path: the file.
        format: its format, for people.
        decode: decodes the image ``(h, w, bands)``.
        tiles: stores decoded images.
        nodata: what marks missing pixels.
        channels: the names of the bands; ``None``: those that their number suggests.

    Raises:
        UnreadableImageError: the file does not decode.
    """
    pixels = decode()
    facts = ReaderFacts(
        format=format,
        shape=pixels.shape,
        dtype=pixels.dtype,
        tile_shape=pixels.shape[:2],
        nodata=nodata,
        channels=channels,
    )
    reader = WholeReader(path, facts, decode, tiles)
    reader.keep(pixels)
    return reader


def read_bytes(
    path: str, pool: HandlePool, stamp: SourceStamp | None, *, first: int = 0, most: int | None = None
) -> bytearray:
    """The content of a file.

    Args:
        path: the file.
        pool: closes idle files if the process has too many.
        stamp: the file that ``path`` must be; ``None`` accepts any.
        first: the position of the first byte to read; there may be none.
        most: the most bytes to read; ``None``: all.

    Raises:
        SourceChangedError: the file of ``stamp`` was replaced or removed.
        SourceError: the system does not read the file.
    """
    file = pool.open(lambda: FileHandle(path, stamp))
    with close_on_error(file):
        try:
            rest = max(0, file.stamp.size_bytes - first)
            data = bytearray(rest if most is None else min(most, rest))
            file.read_into(memoryview(data), first)
        except EOFError as error:
            raise UnreadableImageError(f"{path} was truncated since it was opened: {error}") from error
        except SourceError:
            raise
        except OSError as error:
            raise source_error(path, error) from error
    file.close()
    return data
