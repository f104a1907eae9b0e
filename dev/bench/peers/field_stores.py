"""Contenders that store numeric fields one by one, and read one of them."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kit.options import is_installed


@dataclass
class FieldStore(ABC):
    """One way of storing fields.

    Attributes:
        name: in tables.
        file_name: of its file or folder.
        bits: of a level; ``None``: fields come back as they were.
        environment: variables of the process that it runs in.
    """

    name: str
    file_name: str
    bits: int | None = None

    #: Modules that it needs.
    requires = ()
    role = "peer"
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def missing(self) -> list[str]:
        """Modules and programs that are not installed."""
        return [name for name in self.requires if not is_installed(name)]

    def build(self) -> None:  # noqa: B027 - nothing is built before a round
        """As :meth:`peers.base.Contender.build`."""

    @abstractmethod
    def create(self, path: Path, shape: tuple[int, int, int], limits: tuple[float, float]) -> None:
        """Begin a file for fields ``(t, y, x)`` of float32 between limits."""

    @abstractmethod
    def append(self, number: int, values: np.ndarray) -> None:
        """Store one more field, so that it survives the end of this process."""

    def finish(self) -> None:
        """Close the file that was written."""
        for name in [name for name in vars(self) if name.startswith("_")]:
            delattr(self, name)

    @abstractmethod
    def open(self, path: Path) -> None:
        """Open it for reading."""

    @abstractmethod
    def read(self, number: int) -> np.ndarray:
        """Return one field ``(y, x)``, in memory."""


@dataclass
class NpyStore(FieldStore):
    """A memory-mapped ``.npy`` of the final size: the least work that storing and reading can be."""

    role = "baseline"

    def create(self, path: Path, shape: tuple[int, int, int], limits: tuple[float, float]) -> None:  # noqa: ARG002 - same signature as the others
        self._array = np.lib.format.open_memmap(path, "w+", np.float32, shape)

    def append(self, number: int, values: np.ndarray) -> None:
        self._array[number] = values

    def open(self, path: Path) -> None:
        self._array = np.load(path, mmap_mode="r")

    def read(self, number: int) -> np.ndarray:
        return self._array[number].copy()


@dataclass
class MovieStore(FieldStore):
    """``ndframes.MovieStorage``."""

    role = "ndframes"

    def create(self, path: Path, shape: tuple[int, int, int], limits: tuple[float, float]) -> None:  # noqa: ARG002 - same signature as the others
        import ndframes as nf

        low, high = limits
        self._movie: Any = nf.MovieStorage(path, mode="w", bits=self.bits or "exact", vmin=low, vmax=high)

    def append(self, number: int, values: np.ndarray) -> None:
        self._movie.append(values, number / 10)

    def finish(self) -> None:
        self._movie.close()
        super().finish()

    def open(self, path: Path) -> None:
        import ndframes as nf

        self._movie = nf.MovieStorage(path)

    def read(self, number: int) -> np.ndarray:
        return self._movie[number]


@dataclass
class ZarrStore(FieldStore):
    """A Zarr array with a field in each chunk, by Blosc: zstd of shuffled bytes."""

    requires = ("zarr",)

    def create(self, path: Path, shape: tuple[int, int, int], limits: tuple[float, float]) -> None:  # noqa: ARG002 - same signature as the others
        import zarr
        from zarr.codecs import BloscCodec

        codec = BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")
        self._array: Any = zarr.create_array(path, shape=shape, dtype="f4", chunks=(1, *shape[1:]), compressors=[codec])

    def append(self, number: int, values: np.ndarray) -> None:
        self._array[number] = values

    def open(self, path: Path) -> None:
        import zarr

        self._array = zarr.open_array(path, mode="r")

    def read(self, number: int) -> np.ndarray:
        return self._array[number]


@dataclass
class Hdf5Store(FieldStore):
    """An HDF5 dataset with a field in each chunk, by gzip of shuffled bytes; flushed, since a file of a dead writer is lost."""

    requires = ("h5py",)

    def create(self, path: Path, shape: tuple[int, int, int], limits: tuple[float, float]) -> None:  # noqa: ARG002 - same signature as the others
        import h5py

        self._file: Any = h5py.File(path, "w")
        self._array: Any = self._file.create_dataset(
            "field", shape, "f4", chunks=(1, *shape[1:]), compression="gzip", shuffle=True
        )

    def append(self, number: int, values: np.ndarray) -> None:
        self._array[number] = values
        self._file.flush()

    def finish(self) -> None:
        self._file.close()
        super().finish()

    def open(self, path: Path) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        self._array = self._file["field"]

    def read(self, number: int) -> np.ndarray:
        return self._array[number]


@dataclass
class PdeStore(FieldStore):
    """py-pde's ``MovieStorage``, which runs the ffmpeg program."""

    requires = ("pde", "ffmpeg")

    @property
    def missing(self) -> list[str]:
        program = [] if shutil.which("ffmpeg") else ["the program ffmpeg"]
        return [*super().missing, *program]

    def create(self, path: Path, shape: tuple[int, int, int], limits: tuple[float, float]) -> None:
        import pde

        low, high = limits
        self._field: Any = pde.ScalarField(pde.UnitGrid(shape[1:], periodic=True))
        self._movie: Any = pde.MovieStorage(path, vmin=low, vmax=high, bits_per_channel=self.bits or 16)
        self._movie.start_writing(self._field)

    def append(self, number: int, values: np.ndarray) -> None:
        self._field.data = values
        self._movie.append(self._field, float(number))

    def finish(self) -> None:
        self._movie.end_writing()
        super().finish()

    def open(self, path: Path) -> None:
        import pde

        self._movie = pde.MovieStorage(path, write_mode="reading")

    def read(self, number: int) -> np.ndarray:
        return self._movie[number].data


def make_stores() -> list[FieldStore]:
    """All contenders."""
    return [
        NpyStore("npy, memory-mapped", "a.npy"),
        MovieStore("ndframes exact, mkv", "exact.mkv"),
        MovieStore("ndframes exact, mp4", "exact.mp4"),
        MovieStore("ndframes 16 bits, mkv", "levels16.mkv", 16),
        MovieStore("ndframes 8 bits, mkv", "levels8.mkv", 8),
        ZarrStore("zarr, blosc zstd", "a.zarr"),
        Hdf5Store("h5py, gzip", "a.h5"),
        PdeStore("py-pde 16 bits", "pde.avi", 16),
    ]
