"""Datasets and loaders of patches for torch; ``pip install "ndframes[torch]"``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from .batch import Batch, Sample, Samples, collate
    from .clips import ClipDataset
    from .datasets import PatchDataset
    from .detection import DetectionPatches
    from .loader import PatchLoader
    from .sampler import Sampler
    from .videos import VideoCollectionDataLoader, VideoCollectionDataset, balance_load_lpt

__all__ = [
    "Batch",
    "ClipDataset",
    "DetectionPatches",
    "PatchDataset",
    "PatchLoader",
    "Sample",
    "Sampler",
    "Samples",
    "VideoCollectionDataLoader",
    "VideoCollectionDataset",
    "balance_load_lpt",
    "collate",
]

# Where each name lives.
_HOME = {
    "Batch": "batch",
    "ClipDataset": "clips",
    "DetectionPatches": "detection",
    "PatchDataset": "datasets",
    "PatchLoader": "loader",
    "Sample": "batch",
    "Sampler": "sampler",
    "Samples": "batch",
    "VideoCollectionDataLoader": "videos",
    "VideoCollectionDataset": "videos",
    "balance_load_lpt": "videos",
    "collate": "batch",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ndframes.torch' has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(
            f'ndframes.torch.{name} needs torch: pip install "ndframes[torch]"', name="torch"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
