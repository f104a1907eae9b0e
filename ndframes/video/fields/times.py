"""The file beside a movie that holds the time of each frame, one a line, as py-pde writes it."""

from __future__ import annotations

import os

from ...errors import MovieFormatError, shorten

__all__ = ["read_times", "times_path"]


def times_path(path: str) -> str:
    """The file beside a movie that holds the time of each frame."""
    return f"{path}.times"


def read_times(path: str) -> list[float]:
    """The times in the file beside a movie; what a killed writer left of the last line is ignored.

    Args:
        path: the movie.

    Raises:
        MovieFormatError: a line is not a number.
    """
    if not os.path.exists(times_path(path)):
        return []
    with open(times_path(path), encoding="ascii", errors="replace") as file:
        lines = [line for line in file if line.endswith("\n") and line.strip()]
    try:
        return [float(line) for line in lines]
    except ValueError as error:
        raise MovieFormatError(f"{shorten(times_path(path))} has a line that is not a time: {error}") from error
