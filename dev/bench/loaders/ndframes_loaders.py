"""ndframes' loaders: PatchLoader, the same datasets in torch's DataLoader, and bare load_regions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import ndframes as nf
from loaders.base import Loader, Place

BACKEND = {"type": "cog", "config": {"compress": "ZSTD", "blocksize": 256}}


@dataclass
class NdframesLoader(Loader):
    """Random patches of images whose entries exist.

    Attributes:
        images: the sources by image id, or an annotated dataset in COCO's form, whose samples have targets.
        workdir: of the cache.
        extent_px: edge of a patch.
        has_targets: whether samples have boxes.
        is_one_each: whether there is one patch of each image, in random order; else they are anywhere.
        backend: of the entries.
    """

    images: Mapping[Any, Any]
    workdir: Path
    extent_px: int
    has_targets: bool = field(default=False, kw_only=True)
    is_one_each: bool = field(default=False, kw_only=True)
    backend: Any = field(default_factory=lambda: BACKEND, kw_only=True)

    role = "ndframes"

    @cached_property
    def frames(self) -> nf.Frames:
        """The images, opened once for all iterations, as a training script does."""
        kind = nf.CocoFrames if "annotations" in self.images else nf.SimpleFrames
        return kind(self.images, workdir=self.workdir, backend=self.backend)

    def patches(self, seed: int, count: int) -> Any:
        """The patches of ``count`` batches."""
        from ndframes.feed import GridPatches, RandomPatches

        if self.is_one_each:
            return GridPatches(self.frames, self.extent_px, stride=1 << 30, edge="drop").shuffled(seed)
        return RandomPatches(self.frames, self.extent_px, count * self.batch, seed=seed)

    def dataset(self, seed: int, count: int) -> Any:
        """The samples of ``count`` batches."""
        from ndframes.torch import DetectionPatches, PatchDataset

        patches = self.patches(seed, count)
        return DetectionPatches(self.frames, patches) if self.has_targets else PatchDataset(self.frames, patches)

    def places(self, seed: int, count: int) -> list[Place]:
        """Where the patches of ``count`` batches are, for peers."""
        numbers = {image_id: number for number, image_id in enumerate(self.frames)}
        patches = self.patches(seed, count)
        return [Place(numbers[patch.image_id], patch.rows.start, patch.cols.start) for patch in patches]

    def prepare(self) -> None:
        """Make all entries."""
        self.frames.prepare(progress=False)

    def entry_path(self, image_id: Any) -> Path:
        """The file of an entry."""
        path = self.frames.explain(image_id).files[0].entry_path
        assert path is not None
        return Path(path)

    def become(self, kind: type[NdframesLoader], name: str, **changes: Any) -> NdframesLoader:
        """Another loader of the same images."""
        mine = {each.name: getattr(self, each.name) for each in fields(NdframesLoader)}
        return kind(**mine | {"name": name} | changes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "frames"}

    def to_pixels(self, batch: Any) -> np.ndarray:
        images = batch if isinstance(batch, np.ndarray) else batch.images.permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(images)


@dataclass
class StockLoader(NdframesLoader):
    """torch's DataLoader, which asks a dataset for whole batches."""

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        from ndframes.torch import collate

        return iter(DataLoader(self.dataset(seed, count), self.batch, num_workers=self.workers, collate_fn=collate))


class ItemByItem:
    """A dataset without its way of reading whole batches."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]


@dataclass
class StockItems(NdframesLoader):
    """torch's DataLoader, which asks for one item after the other."""

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        from ndframes.torch import collate

        dataset: Any = ItemByItem(self.dataset(seed, count))
        return iter(DataLoader(dataset, self.batch, num_workers=self.workers, collate_fn=collate))


@dataclass
class Patched(NdframesLoader):
    """PatchLoader with worker processes or threads."""

    worker: str = field(default="process", kw_only=True)

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        from ndframes.torch import PatchLoader

        with PatchLoader(self.dataset(seed, count), self.batch, workers=self.workers, worker=self.worker) as loader:
            yield from loader


@dataclass
class Bare(NdframesLoader):
    """``load_regions`` in the loop's own thread, with ``workers`` threads, into the same memory each time."""

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        patches = self.patches(seed, count)
        out = None
        for start in range(0, count * self.batch, self.batch):
            requests = [patches[index].request for index in range(start, start + self.batch)]
            out = self.frames.load_regions(requests, workers=self.workers, out=out)
            yield out


def measure_growth(loader: NdframesLoader, epochs: int = 10, count: int = 30) -> dict[str, str]:
    """The private memory of the largest worker of a PatchLoader after the first and the last epoch of ``count`` batches."""
    from ndframes.torch import PatchLoader

    found = []
    dataset = loader.dataset(0, count)
    with PatchLoader(dataset, loader.batch, workers=loader.workers, worker="process", shuffle=True) as batches:
        for _ in range(epochs):
            for batch in batches:
                del batch
            found.append(max(worker.memory_full_info().uss for worker in loader.workers_alive()) / 1e6)
    return {"memory": f"{found[0]:.0f}, {found[-1]:.0f}"}
