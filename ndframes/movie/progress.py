"""ProgressBar: counts frames on stderr while a movie is read or written."""

from __future__ import annotations

import sys
from typing import Any

from ..system.terminal import is_terminal

__all__ = ["ProgressBar"]


class ProgressBar:
    """A progress bar that counts frames, if it is shown.

    Args:
        progress: whether it is shown on stderr; ``None``: only if stderr is a terminal.
        count: the number of frames; ``None``: not known.
        title: what is done.
    """

    def __init__(self, progress: bool | None, count: int | None, title: str = "write, frames") -> None:
        self._iter: Any = None
        is_shown = is_terminal(sys.stderr) if progress is None else progress
        if is_shown and sys.stderr is not None:
            import ubelt

            self._iter = ubelt.ProgIter(total=count, desc=title, stream=sys.stderr, clearline=is_terminal(sys.stderr))

    def __enter__(self) -> ProgressBar:
        if self._iter is not None:
            self._iter.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self._iter is not None:
            self._iter.end()

    def step(self) -> None:
        """Count one more frame."""
        if self._iter is not None:
            self._iter.step()
