"""Mode: whether a video is read as fast as it can be processed, or played."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ...errors import StreamError, shorten

__all__ = ["Mode", "to_mode"]


class Mode(Enum):
    """``OFFLINE``: every frame, as fast as it can be processed. ``REALTIME``: frames come at the speed of a player."""

    REALTIME = "realtime"
    OFFLINE = "offline"


def to_mode(value: Any) -> Mode:
    """A mode from itself or its name.

    Raises:
        StreamError: it is neither.
    """
    try:
        return Mode(value)
    except ValueError as error:
        raise StreamError(f"mode={shorten(value)}; allowed: 'offline', 'realtime'") from error
