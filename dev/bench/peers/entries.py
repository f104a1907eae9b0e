"""ndframes' cache entries, and ndframes reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ndframes as nf
from kit.byte_ranges import ByteRange, npy_ranges, tiff_ranges
from peers.base import Contender

if TYPE_CHECKING:
    import numpy as np

    from kit.crops import Crop

IMAGE_ID = "a"
#: The backend of each form of entry, by its name in tables.
FORMS: dict[str, dict[str, Any]] = {
    "npy": {"type": "npy"},
    "none": {"type": "cog", "config": {"compress": "NONE"}},
    "zstd": {"type": "cog", "config": {"compress": "ZSTD"}},
    "deflate": {"type": "cog", "config": {"compress": "DEFLATE"}},
    "auto": {"type": "cog", "config": {"compress": "AUTO"}},
    "jpeg": {"type": "cog", "config": {"compress": "JPEG"}},
}


@dataclass(frozen=True)
class Entry:
    """The cache entry of the mosaic in one form.

    Attributes:
        source: the mosaic.
        workdir: of the cache.
        form: one of :data:`FORMS`.
        blocksize: edge of a tile in pixels; ``None``: the default.
    """

    source: Path
    workdir: Path
    form: str
    blocksize: int | None = None

    @property
    def codec(self) -> str:
        """Codec of its pixels, as a contender names it."""
        return {"npy": "raw", "none": "raw"}.get(self.form, self.form)

    @property
    def backend(self) -> dict[str, Any]:
        """The ``backend`` argument of ``Frames``."""
        spec = FORMS[self.form]
        if self.blocksize is None or self.form == "npy":
            return spec
        return {**spec, "config": {**spec["config"], "blocksize": self.blocksize}}

    def frames(self, **options: Any) -> nf.SimpleFrames:
        """Return a new ``Frames`` over the entry."""
        return nf.SimpleFrames({IMAGE_ID: self.source}, workdir=self.workdir, backend=self.backend, **options)

    def prepare(self) -> Path:
        """Make the entry unless it exists; return its path."""
        self.frames().prepare()
        return self.path

    @property
    def path(self) -> Path:
        """Its file, which need not exist."""
        path = self.frames().explain(IMAGE_ID).files[0].entry_path
        assert path is not None
        return Path(path)

    @property
    def tile_px(self) -> int:
        """Edge of its tiles in pixels. Makes the entry, from whose file it is read."""
        self.prepare()
        return self.frames().explain(IMAGE_ID).files[0].tile_shape[0]


@dataclass
class Ndframes(Contender):
    """``Frames.load_region``; ``options`` are keywords of ``Frames``."""

    entry: Entry
    options: dict[str, Any] = field(default_factory=dict)

    role = "ndframes"

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

    def byte_ranges(self, crop: Crop) -> list[ByteRange]:
        find_ranges = npy_ranges if self.entry.form == "npy" else tiff_ranges
        return find_ranges(self.entry.path, crop)


@dataclass
class NdframesBatch(Ndframes):
    """``Frames.load_regions``.

    Attributes:
        workers: threads.
        is_out_reused: whether every batch is read into the same memory; else into new memory.
    """

    workers: int = 1
    is_out_reused: bool = False

    def open(self) -> None:
        super().open()
        self._out = None

    def read_batch(self, crops: Sequence[Crop]) -> Sequence[np.ndarray]:
        requests = [(IMAGE_ID, crop.region) for crop in crops]
        result = self._frames.load_regions(requests, workers=self.workers, out=self._out)
        if self.is_out_reused:
            self._out = result
        return result


@dataclass
class EntryReader(Contender):
    """Another library that reads an entry written by ndframes.

    Attributes:
        entry: the entry.
        path: its file, set by :meth:`build`. The contender's process must not find it by ndframes: the first user of GDAL in
            a process fixes settings for all others.
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

    def byte_ranges(self, crop: Crop) -> list[ByteRange]:
        return tiff_ranges(self.path, crop)


@dataclass
class NdframesDirect(EntryReader):
    """``Frames.load_region`` without a cache: the entry is read as the TIFF of another program."""

    role = "ndframes"

    def open(self) -> None:
        self._frames = nf.SimpleFrames({IMAGE_ID: self.path}, backend=None)
        self._frames.load_frame(IMAGE_ID).shape  # noqa: B018 - opens the file

    def read(self, crop: Crop) -> np.ndarray:
        return self._frames.load_region(IMAGE_ID, crop.region)
