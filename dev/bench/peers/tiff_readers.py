"""Libraries that read TIFFs: rasterio, tifffile, pyvips and async-tiff, each with one thread and one open handle."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peers.entries import EntryReader

if TYPE_CHECKING:
    from kit.crops import Crop


@dataclass
class Rasterio(EntryReader):
    """GDAL through rasterio."""

    requires = ("rasterio",)

    def open(self) -> None:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.windows import Window

        self._window = Window
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._dataset = rasterio.open(self.path)

    def read(self, crop: Crop) -> np.ndarray:
        window = self._window(crop.left, crop.top, crop.right - crop.left, crop.bottom - crop.top)
        return self._dataset.read(window=window).transpose(1, 2, 0)

    def drop_decoded(self) -> None:
        """Reopen the file: GDAL's block cache, by default 5 % of the memory, keeps its blocks until it is closed."""
        self.close()
        self.open()

    def close(self) -> None:
        self._dataset.close()
        super().close()


@dataclass
class Tifffile(EntryReader):
    """tifffile's zarr view of a TIFF, the way that its documentation gives for reading parts."""

    requires = ("tifffile", "zarr")

    def open(self) -> None:
        import tifffile
        import zarr

        zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
        self._store = tifffile.imread(self.path, aszarr=True, level=0, maxworkers=1)
        self._array = zarr.open(self._store, mode="r")

    def read(self, crop: Crop) -> np.ndarray:
        return self._array[crop.region]

    def close(self) -> None:
        self._store.close()
        super().close()


@dataclass
class Pyvips(EntryReader):
    """libvips through pyvips: ``Region.fetch``, its way for many small crops of one image."""

    requires = ("pyvips",)

    def open(self) -> None:
        import pyvips

        self._image = pyvips.Image.new_from_file(str(self.path), access="random")
        self._region = pyvips.Region.new(self._image)
        self._bands = self._image.bands

    def read(self, crop: Crop) -> np.ndarray:
        height, width = crop.bottom - crop.top, crop.right - crop.left
        data = self._region.fetch(crop.left, crop.top, width, height)
        return np.frombuffer(data, np.uint8).reshape(height, width, self._bands)


@dataclass
class AsyncTiff(EntryReader):
    """async-tiff: fetches and decodes tiles in Rust. It has no function for crops, so tiles are copied into one here."""

    requires = ("async_tiff",)

    def open(self) -> None:
        import asyncio

        from async_tiff import TIFF, DecoderRegistry
        from async_tiff.store import LocalStore

        self._loop = asyncio.new_event_loop()
        self._decoders = DecoderRegistry()

        async def open_level() -> Any:  # a coroutine, since async-tiff's futures need a running loop at creation
            store = LocalStore(str(self.path.parent))
            return (await TIFF.open(self.path.name, store=store)).ifds[0]

        self._level = self._loop.run_until_complete(open_level())
        self._tile_px = self._level.tile_width

    def read(self, crop: Crop) -> np.ndarray:
        tile_px = self._tile_px
        rows = range(crop.top // tile_px, -(-crop.bottom // tile_px))
        cols = range(crop.left // tile_px, -(-crop.right // tile_px))
        places = [(col, row) for row in rows for col in cols]
        out = np.empty((crop.bottom - crop.top, crop.right - crop.left, 3), np.uint8)
        for tile in self._loop.run_until_complete(self._fetch(places)):
            top, left = tile.y * tile_px, tile.x * tile_px  # before decoding, which invalidates the tile
            _paste(out, crop, np.asarray(tile.decode_sync(decoder_registry=self._decoders)), top, left)
        return out

    async def _fetch(self, places: list[tuple[int, int]]) -> list[Any]:
        return await self._level.fetch_tiles(places)

    def close(self) -> None:
        self._loop.close()
        super().close()


def _paste(out: np.ndarray, crop: Crop, tile: np.ndarray, top: int, left: int) -> None:
    """Copy the part of a tile at (``top``, ``left``) that is inside ``crop``."""
    rows = slice(max(crop.top - top, 0), min(crop.bottom - top, tile.shape[0]))
    cols = slice(max(crop.left - left, 0), min(crop.right - left, tile.shape[1]))
    out_top, out_left = top + rows.start - crop.top, left + cols.start - crop.left
    out[out_top : out_top + rows.stop - rows.start, out_left : out_left + cols.stop - cols.start] = tile[rows, cols]
