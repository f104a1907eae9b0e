"""The logger of this package; algorithms may use it."""

from __future__ import annotations

import logging

from ...errors import StreamError, shorten

__all__ = ["logger", "set_log_level"]
logger = logging.getLogger("ndframes.stream_infer")


def set_log_level(level: str) -> None:
    """Set the level of the logger: ``"DEBUG"``, ``"INFO"``, ``"WARNING"`` or ``"ERROR"``.

    Raises:
        StreamError: there is no such level.
    """
    try:
        logger.setLevel(str(level).upper())
    except ValueError as error:
        raise StreamError(f"logging_level={shorten(level)}; allowed: 'DEBUG', 'INFO', 'WARNING', 'ERROR'") from error
