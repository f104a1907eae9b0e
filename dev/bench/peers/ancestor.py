"""ndsampler, the library whose design ndframes continues."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.mosaic import ensure_tiff
from kit.options import is_installed
from peers.base import Contender

if TYPE_CHECKING:
    from kit.crops import Crop


@dataclass
class Ndsampler(Contender):
    """ndsampler over its own cache of a TIFF of the mosaic."""

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
        # Copied, since it returns a view of a mapped file.
        return np.array(self._frames.load_region(1, crop.region))
