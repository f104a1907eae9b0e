"""Replacing the functions that write the pixels of cache entries."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

# A conversion imports the one that it needs when it runs.
_WRITERS = ("ndframes.formats.tiled.cog_writer.write_cog", "ndframes.formats.tiled.npy_writer.write_npy")


def replace_writers(
    monkeypatch: pytest.MonkeyPatch, replace: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Use ``replace(write)`` in place of each function ``write`` that writes an entry's pixels: ``write(file, source, ...)``."""
    for name in _WRITERS:
        module, _, function = name.rpartition(".")
        monkeypatch.setattr(name, replace(getattr(importlib.import_module(module), function)))
