"""Feeding a loop: which patches to read, reading them ahead, and putting results together again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..errors import WorkerDied
    from .chunks import Chunk
    from .grid import GridPatches
    from .inference import detect, stitch
    from .merge import merge_detections
    from .patch import Patch
    from .patches import Patches
    from .prefetching import prefetch
    from .random import RandomPatches
    from .stitcher import Stitcher

__all__ = [
    "Chunk",
    "GridPatches",
    "Patch",
    "Patches",
    "RandomPatches",
    "Stitcher",
    "WorkerDied",
    "detect",
    "merge_detections",
    "prefetch",
    "stitch",
]

# Where each name lives.
_HOME = {
    "Chunk": "chunks",
    "GridPatches": "grid",
    "Patch": "patch",
    "Patches": "patches",
    "RandomPatches": "random",
    "Stitcher": "stitcher",
    "detect": "inference",
    "merge_detections": "merge",
    "stitch": "inference",
    "WorkerDied": ".errors",
    "prefetch": "prefetching",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ndframes.feed' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
