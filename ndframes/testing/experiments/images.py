"""Images whose pixels any process can compute: the input of all experiments."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache.cache import Cache
from ...frames.simple import SimpleFrames
from ...system.stamp import stat_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._typing import Array
    from ...system.files import FileSystem

__all__ = ["FORMS", "SyntheticImages"]
#: The backends under test. COG tiles are small, so that a small image has many of them.
FORMS: Mapping[str, Any] = {"cog": {"type": "cog", "config": {"blocksize": 64}}, "npy": "npy"}


@dataclass(frozen=True, slots=True)
class SyntheticImages:
    """Images of noise, each a pure function of the seed and its number.

    Attributes:
        folder: where their files are.
        count: the number of images; their ids are 0, 1, ...
        shape: of each image, ``(height, width, bands)``.
        seed: another seed gives other pixels and other files.

    Example:
        >>> images = SyntheticImages(str(getfixture("tmp_path")), count=1).save(is_settled=False)
        >>> frames = images.frames(getfixture("tmp_path") / "work", "npy")
        >>> bool((frames.load_image(0) == images.array(0)).all())
        True
    """

    folder: str
    count: int = 3
    shape: tuple[int, int, int] = (150, 170, 3)
    seed: int = 0

    def array(self, number: int) -> Array:
        """The pixels of an image, uint8."""
        return np.random.default_rng([self.seed, number]).integers(0, 256, self.shape, np.uint8)

    def arrays(self) -> list[Array]:
        """The pixels of all images."""
        return [self.array(number) for number in range(self.count)]

    def path(self, number: int) -> str:
        """The file of an image."""
        return os.path.join(self.folder, f"source-{self.seed}-{number}.npy")

    def save(self, *, is_settled: bool = True) -> SyntheticImages:
        """Write the files; with ``is_settled``, wait until a later change is certain to alter their time stamps."""
        os.makedirs(self.folder, exist_ok=True)
        for number in range(self.count):
            np.save(self.path(number), self.array(number))
        while is_settled and self.count and not stat_source(self.path(self.count - 1)).is_settled(time.time_ns()):
            time.sleep(0.05)
        return self

    def frames(
        self, workdir: str | os.PathLike[str], form: str, files: FileSystem | None = None, **options: Any
    ) -> SimpleFrames:
        """Frames over these images, with a cache under ``workdir`` that does its file operations through ``files``."""
        paths = {number: self.path(number) for number in range(self.count)}
        frames = SimpleFrames(paths, workdir=workdir, backend=FORMS[form], **options)
        frames.cache = Cache(workdir, max_bytes=options.get("max_bytes"), files=files)
        return frames
