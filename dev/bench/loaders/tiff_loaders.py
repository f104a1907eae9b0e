"""Loaders that read crops of TIFFs through rasterio: one by one in torch's DataLoader or in grain, and by torchgeo."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.crops import digest
from loaders.base import Loader, Place

_CRS = "EPSG:32631"


@dataclass
class TiffLoader(Loader):
    """Reads the places that ndframes draws, from the entries that it wrote.

    Attributes:
        paths: the files.
        places: by seed.
        extent_px: edge of a crop.
    """

    paths: Sequence[Path]
    places: dict[int, list[Place]]
    extent_px: int

    requires = ("torch", "rasterio")

    def make_reader(self, seed: int, count: int) -> CropReader:
        """The crops of ``count`` batches."""
        from rasterio.errors import NotGeoreferencedWarning

        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return CropReader(self.paths, self.places[seed][: count * self.batch], self.extent_px)

    def to_pixels(self, batch: Any) -> np.ndarray:
        return np.asarray(batch).transpose(0, 2, 3, 1)


class CropReader:
    """A list of crops, each read by rasterio when it is asked for; map-style for torch and grain.

    Each thread of each process opens the files for itself, and keeps the last one open only if there are many, since open
    files of GDAL cost megabytes.
    """

    def __init__(self, paths: Sequence[Path], places: Sequence[Place], extent_px: int) -> None:
        self._paths, self._places, self._extent_px = paths, places, extent_px
        self._local: Any = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        place = self._places[int(index)]
        window = ((place.top, place.top + self._extent_px), (place.left, place.left + self._extent_px))
        return self._open(place.file).read(window=window)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_local": None}

    def _open(self, number: int) -> Any:
        import rasterio

        if self._local is None or self._pid != os.getpid():
            self._local, self._pid = threading.local(), os.getpid()
        if getattr(self._local, "number", None) != number:
            self._local.file, self._local.number = rasterio.open(self._paths[number]), number
        return self._local.file


def digest_places(paths: Sequence[Path], places: Sequence[Place], extent_px: int) -> list[bytes]:
    """The digests of crops of the sources, ``.npy`` or TIFF, read by numpy and tifffile."""
    import tifffile

    def load(path: Path) -> np.ndarray:
        return np.load(path, mmap_mode="r") if path.suffix == ".npy" else tifffile.imread(path)

    crops = (load(paths[place.file])[place.top :, place.left :][:extent_px, :extent_px] for place in places)
    return [digest(crop) for crop in crops]


@dataclass
class RasterioItems(TiffLoader):
    """A dataset that reads one crop an item, in torch's DataLoader: what most loops do."""

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        return iter(DataLoader(self.make_reader(seed, count), self.batch, num_workers=self.workers))  # type: ignore[arg-type]


@dataclass
class RasterioGrain(TiffLoader):
    """The same dataset in grain's threads."""

    requires = ("grain", "rasterio")

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        import grain

        options = grain.ReadOptions(num_threads=self.workers, prefetch_buffer_size=2 * self.batch)
        return iter(grain.MapDataset.source(self.make_reader(seed, count)).to_iter_dataset(options).batch(self.batch))


@dataclass
class Torchgeo(TiffLoader):
    """torchgeo's RasterDataset in torch's DataLoader. Its samplers yield regions; here they are the places of all others."""

    requires = ("torch", "torchgeo")

    def batches(self, seed: int, count: int) -> Iterator[Any]:
        _let_torchvision_import()
        from torch.utils.data import DataLoader
        from torchgeo.datasets import RasterDataset, stack_samples

        path = _with_coordinates(self.paths[0])
        dataset = RasterDataset(paths=[str(path)])
        height = dataset.bounds[1].stop
        regions = [_to_region(place, self.extent_px, height) for place in self.places[seed][: count * self.batch]]
        loader = DataLoader(dataset, self.batch, sampler=regions, num_workers=self.workers, collate_fn=stack_samples)
        return iter(loader)

    def to_pixels(self, batch: Any) -> np.ndarray:
        return super().to_pixels(batch["image"]).astype(np.uint8)


def _to_region(place: Place, extent_px: int, height: float) -> tuple[slice, slice]:
    """Coordinates of a place: one unit a pixel, and y upwards."""
    bottom = height - place.top - extent_px
    return slice(place.left, place.left + extent_px), slice(bottom, bottom + extent_px)


def _with_coordinates(path: Path) -> Path:
    """A copy of a TIFF with a coordinate system, which torchgeo needs; made once."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    found = path.with_name(f"{path.stem}-coordinates.tif")
    if not found.exists():
        part = found.with_suffix(".part.tif")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy(
                path,
                part,
                driver="GTiff",
                tiled=True,
                blockxsize=256,
                blockysize=256,
                compress="ZSTD",
                interleave="pixel",
            )
            with rasterio.open(part, "r+") as file:
                file.crs, file.transform = _CRS, from_origin(0, file.height, 1, 1)
        part.rename(found)
    return found


def _let_torchvision_import() -> None:
    """Declare torchvision's operators, whose library cannot be loaded beside a build of torch without CUDA."""
    import torch

    if importlib.util.find_spec("torchvision") is None or _DECLARED:
        return
    _DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in _TORCHVISION_OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            _DECLARED[0].define(f"{name}(Tensor input) -> Tensor")


_TORCHVISION_OPERATORS = (
    *("nms", "qnms", "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool"),
    *(
        "_roi_pool_backward",
        "ps_roi_pool",
        "_ps_roi_pool_backward",
        "qroi_align",
        "deform_conv2d",
        "_deform_conv2d_backward",
    ),
)
#: Declarations last as long as this object.
_DECLARED: list[Any] = []
