"""PyAV. ``from .libav import av`` replaces ``import av``, so that an import that failed half way can be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system.imports import import_package

if TYPE_CHECKING:
    import av
else:
    av = import_package("av")

from av.video.reformatter import VideoReformatter

__all__ = ["VideoReformatter", "av"]
