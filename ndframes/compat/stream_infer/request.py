"""StartRequest: how :meth:`Inference.start` was called, in the spelling of any version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import StreamError, check_keywords, shorten
from .model import Mode, to_mode
from .player import Player

__all__ = ["StartRequest"]
_WITH_PLAYER = ("player", "fps", "position", "mode", "recording_path")
_WITHOUT_PLAYER = ("fps", "position", "recording_path")
_KEYWORDS = (*_WITH_PLAYER, "offline", "logging_level")


@dataclass(frozen=True, slots=True)
class StartRequest:
    """How a run is started.

    Attributes:
        player: ``None`` if none is given.
        fps: frames per second.
        position: where a file begins, in seconds.
        mode: ``None`` if none is given.
        recording_path: of the video that is recorded; ``None``: none is.
        logging_level: ``None`` if none is given.
    """

    player: Player | None
    fps: float
    position: float
    mode: Mode | None
    recording_path: str | os.PathLike[str] | None
    logging_level: str | None

    @classmethod
    def read(cls, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> StartRequest:
        """The request of a call with ``(player, fps, position, mode, recording_path)`` or ``(fps, position, recording_path)``.

        Raises:
            TypeError: a keyword is unknown, or given twice.
            StreamError: a value is not allowed.
        """
        check_keywords("start", named, _KEYWORDS)
        names = _WITH_PLAYER if arguments and not isinstance(arguments[0], (int, float)) else _WITHOUT_PLAYER
        if len(arguments) > len(names):
            raise TypeError(f"start() takes {', '.join(names)}, and got {len(arguments)} arguments")
        given = dict(zip(names, arguments, strict=False))
        twice = sorted(set(given) & set(named))
        if twice:
            raise TypeError(f"start() got several values for {', '.join(twice)}")
        given |= named
        player = given.get("player")
        if player is not None and not isinstance(player, Player):
            raise StreamError(f"start(player={shorten(player)}); give a Player")
        return cls(
            player,
            given.get("fps", 30),
            given.get("position", 0),
            _find_mode(given.get("mode"), given.get("offline")),
            given.get("recording_path"),
            given.get("logging_level"),
        )


def _find_mode(mode: Any, offline: Any) -> Mode | None:
    # In early versions, offline has the place of mode.
    if isinstance(mode, bool):
        mode, offline = None, mode
    if mode is not None:
        return to_mode(mode)
    return None if offline is None else Mode.OFFLINE if offline else Mode.REALTIME
