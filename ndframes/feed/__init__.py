"""Feeding a loop: which patches to read, reading them ahead, and putting results together again."""

# Without "from __future__ import annotations", which would define the name of the function annotations.

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boxes import BoxPatches
    from .grid import GridPatches
    from .mix import Mix
    from .patch import Patch
    from .patches import Patches
    from .random import RandomPatches
    from .table import AnnotationTable
    from .targets import annotations

__all__ = ["AnnotationTable", "BoxPatches", "GridPatches", "Mix", "Patch", "Patches", "RandomPatches", "annotations"]

# Where each name lives.
_HOME = {
    "AnnotationTable": "table",
    "BoxPatches": "boxes",
    "GridPatches": "grid",
    "Mix": "mix",
    "Patch": "patch",
    "Patches": "patches",
    "RandomPatches": "random",
    "annotations": "targets",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ndframes.feed' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
