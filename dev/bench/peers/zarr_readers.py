"""The mosaic as zarr version 3, read by tensorstore and zarr-python from the same files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.byte_ranges import ByteRange, chunk_ranges
from kit.crops import Crop, cover
from peers.base import Contender

_BAND_PX = 1024


@dataclass(frozen=True)
class ZarrForm:
    """How an array is stored.

    Attributes:
        mosaic: the ``.npy`` with its pixels.
        chunk_px: edge of a chunk in pixels; a chunk holds all bands.
        level: of zstd; ``None``: not compressed.
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
        """Codec of its pixels, as a contender names it."""
        return "raw" if self.level is None else "zstd"

    def describe(self) -> str:
        """Return the part of a contender's name that tells the form."""
        level = "" if self.level is None else f" {self.level}"
        return f"{self.codec}{level}, chunks of {self.chunk_px}"

    def metadata(self) -> dict[str, Any]:
        """Return the array's metadata as zarr's specification defines it."""
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
class ZarrReader(Contender):
    """A library that reads a zarr."""

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

    def byte_ranges(self, crop: Crop) -> list[ByteRange]:
        return chunk_ranges(self.form.path, self.form.chunk_px, crop)

    def _write(self, path: Path) -> None:
        raise NotImplementedError

    def _copy_pixels(self, array: Any) -> None:
        """Copy the mosaic into an array, a few rows of chunks at a time."""
        pixels = np.load(self.form.mosaic, mmap_mode="r")
        for crop in cover(pixels.shape[:2], -(-_BAND_PX // self.form.chunk_px) * self.form.chunk_px):
            array[crop.region] = pixels[crop.region]


@dataclass
class Tensorstore(ZarrReader):
    """tensorstore without a cache.

    Attributes:
        threads: number of threads that copy and decode, and of those that fetch.
        is_mapped: whether files are mapped; else they are read.
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
        """Start all reads before waiting for the first, as its documentation advises."""
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
class ZarrPython(ZarrReader):
    """zarr-python with one thread."""

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
