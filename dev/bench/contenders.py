"""Contenders: ndframes, what others offer for the same job, and the limit that memory sets.

Each reads the same crops from files that hold the same pixels. Where several read an entry that ndframes wrote, it is the
very same file. A library's result is taken as it comes: bands in front, or a view of another order, are not held
against it; only what is no pixels yet (a map, a lazy view) is copied, since nothing was read so far.
"""

from __future__ import annotations

import gc
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mosaic import ensure_tiff
from outcome import is_installed
from touched import ByteRange, npy_ranges, tiff_ranges

import ndframes as nf

if TYPE_CHECKING:
    from crops import Crop

IMAGE_ID = "a"
#: The name by which tables call a form, and how ndframes is told it.
FORMS: dict[str, dict[str, Any]] = {
    "npy": {"type": "npy"},
    "none": {"type": "cog", "config": {"compress": "NONE"}},
    "zstd": {"type": "cog", "config": {"compress": "ZSTD"}},
    "auto": {"type": "cog", "config": {"compress": "AUTO"}},
    "jpeg": {"type": "cog", "config": {"compress": "JPEG"}},
}


@dataclass
class Contender(ABC):
    """One way of reading crops.

    Attributes:
        name: as tables call it.
        codec: how its pixels lie on disk: ``"raw"``, ``"zstd"`` or ``"jpeg"``, or ``"auto"``, which ndframes chose.
    """

    name: str
    codec: str

    #: Modules without which it cannot take part.
    requires = ()
    #: Who made it: ``"limit"``, ``"ndframes"`` or ``"peer"``.
    side = "peer"
    #: Environment of the process that it runs in.
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    #: Another reader of the same, which nobody times.
    twin: Contender | None = field(default=None, init=False, repr=False)

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [name for name in self.requires if not is_installed(name)]

    @property
    def lossy_path(self) -> Path | None:
        """The JPEG whose decoded pixels are the right ones; ``None``: the mosaic's are."""
        return None

    def build(self) -> None:  # noqa: B027 - not everyone needs files of its own
        """Make the files that it reads, where they are not there yet. Called before it goes to its own process."""

    @abstractmethod
    def open(self) -> None:
        """Be ready to read, with all that is read but once."""

    @abstractmethod
    def read(self, crop: Crop) -> np.ndarray:
        """The crop's pixels ``(height, width, bands)``, in memory."""

    def read_batch(self, crops: Sequence[Crop]) -> Sequence[np.ndarray]:
        """The pixels of several crops."""
        return [self.read(crop) for crop in crops]

    def close(self) -> None:
        """Give back all that :meth:`open` took, maps of files included."""
        for name in [name for name in vars(self) if name.startswith("_")]:
            delattr(self, name)
        gc.collect()

    def forget(self) -> None:  # noqa: B027 - few keep more than a fraction of an image
        """Let go of decoded pixels, where all of the image's may be kept."""

    def files(self) -> list[Path]:
        """What it reads."""
        raise NotImplementedError

    def touched(self, crop: Crop) -> list[ByteRange]:
        """Which bytes of which files hold the crop's pixels, whole tiles of them."""
        raise NotImplementedError


@dataclass
class Memmap(Contender):
    """A slice of a mapped ``.npy``, copied: no reader of files can do with less."""

    path: Path

    side = "limit"

    def open(self) -> None:
        self._pixels = np.load(self.path, mmap_mode="r")

    def read(self, crop: Crop) -> np.ndarray:
        return self._pixels[crop.region].copy()

    def files(self) -> list[Path]:
        return [self.path]

    def touched(self, crop: Crop) -> list[ByteRange]:
        return npy_ranges(self.path, crop)


@dataclass(frozen=True)
class Entry:
    """A cache entry of the mosaic, by the form that it has.

    Attributes:
        source: the mosaic.
        workdir: where the cache lies.
        form: one of :data:`FORMS`.
        blocksize: the edge of a tile; ``None``: the form's own.
    """

    source: Path
    workdir: Path
    form: str
    blocksize: int | None = None

    @property
    def codec(self) -> str:
        """How its pixels lie on disk."""
        return {"npy": "raw", "none": "raw"}.get(self.form, self.form)

    @property
    def backend(self) -> dict[str, Any]:
        """As ndframes is told it."""
        spec = FORMS[self.form]
        if self.blocksize is None or self.form == "npy":
            return spec
        return {**spec, "config": {**spec["config"], "blocksize": self.blocksize}}

    def frames(self, **options: Any) -> nf.SimpleFrames:
        """New frames over it."""
        return nf.SimpleFrames({IMAGE_ID: self.source}, workdir=self.workdir, backend=self.backend, **options)

    def prepare(self) -> Path:
        """Make it, where it is not there; the file."""
        self.frames().prepare()
        return self.path

    @property
    def path(self) -> Path:
        """The file, there or not."""
        path = self.frames().explain(IMAGE_ID).files[0].entry_path
        assert path is not None
        return Path(path)

    @property
    def tile_px(self) -> int:
        """The edge of its tiles; makes it, since only an entry that is there can tell."""
        self.prepare()
        return self.frames().explain(IMAGE_ID).files[0].tile_shape[0]


@dataclass
class Ndframes(Contender):
    """``Frames.load_region``; ``options`` are keywords of ``Frames``."""

    entry: Entry
    options: dict[str, Any] = field(default_factory=dict)

    side = "ndframes"

    @property
    def lossy_path(self) -> Path | None:
        return self.entry.path if self.entry.codec == "jpeg" else None

    def build(self) -> None:
        self.entry.prepare()

    def open(self) -> None:
        self._frames = self.entry.frames(**self.options)
        self._frames.load_frame(IMAGE_ID).shape  # noqa: B018 - opens the entry

    def read(self, crop: Crop) -> np.ndarray:
        return self._frames.load_region(IMAGE_ID, crop.region)

    def files(self) -> list[Path]:
        return [self.entry.path]

    def touched(self, crop: Crop) -> list[ByteRange]:
        find_ranges = npy_ranges if self.entry.form == "npy" else tiff_ranges
        return find_ranges(self.entry.path, crop)


@dataclass
class EntryContender(Contender):
    """Another library on an entry that ndframes wrote.

    Attributes:
        entry: the entry.
        path: its file, known once it was built. No process asks ndframes for it that is to measure a library which
            ndframes uses as well: settings of the first user would hold for the second.
    """

    entry: Entry
    path: Path = field(default=Path(), init=False)

    @property
    def lossy_path(self) -> Path | None:
        return self.path if self.entry.codec == "jpeg" else None

    def build(self) -> None:
        self.path = self.entry.prepare()

    def files(self) -> list[Path]:
        return [self.path]

    def touched(self, crop: Crop) -> list[ByteRange]:
        return tiff_ranges(self.path, crop)


@dataclass
class Rasterio(EntryContender):
    """GDAL by way of rasterio, with one handle that stays open."""

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

    def forget(self) -> None:
        """GDAL keeps decoded blocks of 5 % of the machine's memory, until their file is closed."""
        self.close()
        self.open()

    def close(self) -> None:
        self._dataset.close()
        super().close()


@dataclass
class Tifffile(EntryContender):
    """tifffile's view of a TIFF as a zarr array, which is how its documentation says that a part is read."""

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
class Pyvips(EntryContender):
    """libvips by way of pyvips: a region that is fetched from again and again, its way for many small crops."""

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
class AsyncTiff(EntryContender):
    """async-tiff: tiles by a Rust core, decoded on the calling thread, put together here since it leaves that to us."""

    requires = ("async_tiff",)

    def open(self) -> None:
        import asyncio

        from async_tiff import TIFF, DecoderRegistry
        from async_tiff.store import LocalStore

        self._loop = asyncio.new_event_loop()
        self._decoders = DecoderRegistry()

        async def open_level() -> Any:  # a coroutine, because its futures want a running loop when they are made
            store = LocalStore(str(self.path.parent))
            return (await TIFF.open(self.path.name, store=store)).ifds[0]

        self._level = self._loop.run_until_complete(open_level())
        self._extent = self._level.tile_width

    def read(self, crop: Crop) -> np.ndarray:
        extent = self._extent
        first_row, first_col = crop.top // extent, crop.left // extent
        rows = range(first_row, -(-crop.bottom // extent))
        cols = range(first_col, -(-crop.right // extent))
        wanted = [(col, row) for row in rows for col in cols]
        out = np.empty((crop.bottom - crop.top, crop.right - crop.left, 3), np.uint8)
        for tile in self._loop.run_until_complete(self._fetch(wanted)):
            top, left = tile.y * extent, tile.x * extent  # asked for first: decoding uses the tile up
            _paste(out, crop, np.asarray(tile.decode_sync(decoder_registry=self._decoders)), top, left)
        return out

    async def _fetch(self, wanted: list[tuple[int, int]]) -> list[Any]:
        return await self._level.fetch_tiles(wanted)

    def close(self) -> None:
        self._loop.close()
        super().close()


@dataclass
class Ndsampler(Contender):
    """The ancestor, on its own cache of a TIFF of the mosaic."""

    mosaic: Path
    workdir: Path
    backend: str

    requires = ("ndsampler",)

    @property
    def missing(self) -> list[str]:
        needed = [*self.requires, "osgeo"] if self.backend == "cog" else self.requires
        return [name for name in needed if not is_installed(name)]

    def build(self) -> None:
        ensure_tiff(self.mosaic)
        self.open()
        self.close()

    def open(self) -> None:
        import ndsampler

        source = self.mosaic.with_suffix(".tif")
        self._frames = ndsampler.SimpleFrames({1: str(source)}, workdir=str(self.workdir), backend=self.backend)
        self._frames.load_region(1, (slice(0, 1), slice(0, 1)))

    def read(self, crop: Crop) -> np.ndarray:
        # It gives a view of the mapped file, of which nothing was read yet.
        return np.array(self._frames.load_region(1, crop.region))


def _paste(out: np.ndarray, crop: Crop, tile: np.ndarray, top: int, left: int) -> None:
    """Put the part of a tile at (``top``, ``left``) that lies in ``crop`` to its place."""
    rows = slice(max(crop.top - top, 0), min(crop.bottom - top, tile.shape[0]))
    cols = slice(max(crop.left - left, 0), min(crop.right - left, tile.shape[1]))
    out_top, out_left = top + rows.start - crop.top, left + cols.start - crop.left
    out[out_top : out_top + rows.stop - rows.start, out_left : out_left + cols.stop - cols.start] = tile[rows, cols]
