"""The mosaic as zarr version 3, and its contenders: tensorstore and zarr-python, which read the same files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from contenders import Contender
from crops import Crop, cover
from touched import ByteRange, chunk_ranges

_BAND_PX = 1024


@dataclass(frozen=True)
class ZarrForm:
    """How an array is stored.

    Attributes:
        mosaic: whose pixels it holds.
        chunk_px: the edge of a chunk, which holds all bands.
        level: zstd's effort; ``None``: uncompressed.
    """

    mosaic: Path
    chunk_px: int
    level: int | None = None

    @property
    def path(self) -> Path:
        """The folder of the array."""
        codec = "raw" if self.level is None else f"zstd{self.level}"
        return self.mosaic.with_name(f"{self.mosaic.stem}-{codec}-{self.chunk_px}.zarr")

    @property
    def codec(self) -> str:
        """As tables call it."""
        return "raw" if self.level is None else "zstd"

    def describe(self) -> str:
        """For a contender's name."""
        level = "" if self.level is None else f" {self.level}"
        return f"{self.codec}{level}, chunks of {self.chunk_px}"

    def metadata(self) -> dict[str, Any]:
        """What zarr's specification says of such an array."""
        shape = np.load(self.mosaic, mmap_mode="r").shape
        codecs: list[dict[str, Any]] = [{"name": "bytes"}]
        if self.level is not None:
            codecs.append({"name": "zstd", "configuration": {"level": self.level, "checksum": False}})
        return {
            "shape": list(shape),
            "data_type": "uint8",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [self.chunk_px, self.chunk_px, shape[2]]},
            },
            "codecs": codecs,
        }


@dataclass
class ZarrContender(Contender):
    """A reader of a zarr."""

    form: ZarrForm

    def build(self) -> None:
        path = self.form.path
        if path.exists():
            return
        print(f"making {path.name}", flush=True)
        part = path.with_name(f"part-{path.name}")
        shutil.rmtree(part, ignore_errors=True)
        self._write(part)
        part.rename(path)

    def files(self) -> list[Path]:
        return [path for path in self.form.path.rglob("*") if path.is_file()]

    def touched(self, crop: Crop) -> list[ByteRange]:
        return chunk_ranges(self.form.path, self.form.chunk_px, crop)

    def _write(self, path: Path) -> None:
        raise NotImplementedError

    def _copy_pixels(self, array: Any) -> None:
        """Fill an array a few rows of chunks at a time."""
        pixels = np.load(self.form.mosaic, mmap_mode="r")
        for crop in cover(pixels.shape[:2], -(-_BAND_PX // self.form.chunk_px) * self.form.chunk_px):
            array[crop.region] = pixels[crop.region]


@dataclass
class Tensorstore(ZarrContender):
    """tensorstore, held to a number of threads and without a cache of its own.

    Attributes:
        threads: how many threads copy and decode, and as many more fetch.
        is_mapped: whether files are mapped instead of read.
    """

    threads: int = 1
    is_mapped: bool = False

    requires = ("tensorstore",)

    def open(self) -> None:
        import tensorstore

        self._store = tensorstore.open(self._spec(self.form.path), open=True).result()

    def read(self, crop: Crop) -> np.ndarray:
        return self._store[crop.region].read().result()

    def read_batch(self, crops: Sequence[Crop]) -> list[np.ndarray]:
        """All asked for before the first is waited for, as its documentation advises."""
        futures = [self._store[crop.region].read() for crop in crops]
        return [future.result() for future in futures]

    def _spec(self, path: Path) -> dict[str, Any]:
        return {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "context": {
                "cache_pool": {"total_bytes_limit": 0},
                "data_copy_concurrency": {"limit": self.threads},
                "file_io_concurrency": {"limit": self.threads},
                "file_io_mode": {"mode": "memmap" if self.is_mapped else "default"},
            },
        }

    def _write(self, path: Path) -> None:
        import tensorstore

        spec = {**self._spec(path), "metadata": self.form.metadata()}
        spec["context"] = {}
        self._copy_pixels(tensorstore.open(spec, create=True).result())


@dataclass
class ZarrPython(ZarrContender):
    """zarr-python, one thread."""

    requires = ("zarr",)

    def open(self) -> None:
        import zarr

        zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
        self._array = zarr.open_array(str(self.form.path), mode="r")

    def read(self, crop: Crop) -> np.ndarray:
        return self._array[crop.region]

    def _write(self, path: Path) -> None:
        import zarr

        shape = np.load(self.form.mosaic, mmap_mode="r").shape
        compressors = None if self.form.level is None else zarr.codecs.ZstdCodec(level=self.form.level)
        chunks = (self.form.chunk_px, self.form.chunk_px, shape[2])
        self._copy_pixels(
            zarr.create_array(str(path), shape=shape, dtype="uint8", chunks=chunks, compressors=compressors)
        )
