"""Feeding a loop: which patches to read, reading them ahead, and putting results together again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .grid import GridPatches
    from .inference import detect, stitch
    from .merge import merge_detections
    from .patch import Patch
    from .patches import Patches
    from .random import RandomPatches
    from .stitcher import Stitcher

__all__ = [
    "GridPatches",
    "Patch",
    "Patches",
    "RandomPatches",
    "Stitcher",
    "detect",
    "merge_detections",
    "stitch",
]

# Where each name lives.
_HOME = {
    "GridPatches": "grid",
    "Patch": "patch",
    "Patches": "patches",
    "RandomPatches": "random",
    "Stitcher": "stitcher",
    "detect": "inference",
    "merge_detections": "merge",
    "stitch": "inference",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ndframes.feed' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
