"""``pvio.util`` of version 0.1.3."""

from __future__ import annotations

from ...feed.segments import balance_load_lpt

__all__ = ["balance_load_lpt"]
