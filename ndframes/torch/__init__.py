"""Datasets and loaders of patches for torch; ``pip install "ndframes[torch]"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import load_lazily

if TYPE_CHECKING:
    from .batch import Batch, Sample, Samples
    from .clips import ClipDataset
    from .collation import collate
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
_HOMES = {
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
    "collate": "collation",
}

__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES, extra="torch")
