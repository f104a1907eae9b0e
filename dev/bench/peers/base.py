"""The interface of a contender, and the baseline.

All contenders read the same crops from files that hold the same pixels; several read the very file that ndframes wrote. A
result is accepted in whatever layout the library returns: bands first, or as a strided view. Only lazy results (a map, a
view of a file) are copied, since nothing has been read of them yet.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kit.byte_ranges import ByteRange, npy_ranges
from kit.options import is_installed

if TYPE_CHECKING:
    from kit.crops import Crop


@dataclass
class Contender(ABC):
    """One way of reading crops.

    Attributes:
        name: in tables.
        codec: of its files: ``"raw"``, ``"zstd"``, ``"jpeg"``, or ``"auto"``, where ndframes chooses.
        environment: variables of the process that it runs in.
        checker: a second reader of the same files, whose pixels are compared and whose times are not taken.
    """

    name: str
    codec: str

    #: Modules that it needs.
    requires = ()
    #: ``"baseline"``, ``"ndframes"`` or ``"peer"``.
    role = "peer"
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    checker: Contender | None = field(default=None, init=False, repr=False)

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [name for name in self.requires if not is_installed(name)]

    @property
    def lossy_path(self) -> Path | None:
        """The JPEG whose decoded pixels are the reference; ``None``: the mosaic is."""
        return None

    def build(self) -> None:  # noqa: B027 - several contenders share files
        """Make the files that it reads, unless they exist. Called before it is sent to its process."""

    @abstractmethod
    def open(self) -> None:
        """Open its files, and read everything that is read once only."""

    @abstractmethod
    def read(self, crop: Crop) -> np.ndarray:
        """Return the crop's pixels ``(height, width, bands)``, in memory."""

    def read_batch(self, crops: Sequence[Crop]) -> Sequence[np.ndarray]:
        """Return the pixels of several crops."""
        return [self.read(crop) for crop in crops]

    def close(self) -> None:
        """Release all that :meth:`open` acquired, mapped files included: every attribute with a leading underscore."""
        for name in [name for name in vars(self) if name.startswith("_")]:
            delattr(self, name)
        gc.collect()

    def drop_decoded(self) -> None:  # noqa: B027 - most keep a small part of an image at most
        """Drop decoded pixels, if it may keep those of the whole image."""

    def files(self) -> list[Path]:
        """The files that it reads."""
        raise NotImplementedError

    def byte_ranges(self, crop: Crop) -> list[ByteRange]:
        """The bytes of its files that hold the crop, in whole tiles."""
        raise NotImplementedError


@dataclass
class Memmap(Contender):
    """A copied slice of a memory-mapped ``.npy``: the least work that reading a crop from a file can be."""

    path: Path

    role = "baseline"

    def open(self) -> None:
        self._pixels = np.load(self.path, mmap_mode="r")

    def read(self, crop: Crop) -> np.ndarray:
        return self._pixels[crop.region].copy()

    def files(self) -> list[Path]:
        return [self.path]

    def byte_ranges(self, crop: Crop) -> list[ByteRange]:
        return npy_ranges(self.path, crop)
