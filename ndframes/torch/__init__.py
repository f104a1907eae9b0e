"""Datasets and loaders of patches for torch; ``pip install "ndframes[torch]"``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import Batch, Sample, Samples, collate
    from .clips import ClipDataset
    from .datasets import PatchDataset
    from .detection import DetectionPatches
    from .loader import PatchLoader
    from .sampler import Sampler

__all__ = [
    "Batch",
    "ClipDataset",
    "DetectionPatches",
    "PatchDataset",
    "PatchLoader",
    "Sample",
    "Sampler",
    "Samples",
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
    "collate": "batch",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ndframes.torch' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
