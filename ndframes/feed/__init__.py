"""Feeding a loop: which patches to read, reading them ahead, and putting results together again."""

# Without "from __future__ import annotations", which would define the name of the function annotations.

from typing import TYPE_CHECKING

from .._lazy import load_lazily

if TYPE_CHECKING:
    from ..errors import WorkerDied
    from .boxes import BoxPatches
    from .chunks import Chunk
    from .grid import GridPatches
    from .inference import detect, stitch
    from .merge import merge_detections
    from .mix import Mix
    from .patch import Patch
    from .patches import Patches
    from .prefetching import prefetch
    from .random import RandomPatches
    from .stitcher import Stitcher
    from .table import AnnotationTable
    from .targets import find_annotations as annotations

__all__ = [
    "AnnotationTable",
    "BoxPatches",
    "Chunk",
    "GridPatches",
    "Mix",
    "Patch",
    "Patches",
    "RandomPatches",
    "Stitcher",
    "WorkerDied",
    "annotations",
    "detect",
    "merge_detections",
    "prefetch",
    "stitch",
]

# Where each name lives.
_HOMES = {
    "AnnotationTable": "table",
    "BoxPatches": "boxes",
    "Chunk": "chunks",
    "GridPatches": "grid",
    "Mix": "mix",
    "Patch": "patch",
    "Patches": "patches",
    "RandomPatches": "random",
    "Stitcher": "stitcher",
    "WorkerDied": ".errors",
    "annotations": "targets:find_annotations",
    "detect": "inference",
    "merge_detections": "merge",
    "prefetch": "prefetching",
    "stitch": "inference",
}

__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES)
