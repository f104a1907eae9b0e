"""Positions in a video as text."""

from __future__ import annotations

__all__ = ["position2time", "time2position", "trans_position2time"]


def position2time(position: float) -> str:
    """Seconds as hours, minutes and whole seconds.

    Example:
        >>> position2time(3725.96), time2position("01:02:05")
        ('01:02:05', 3725)
    """
    minutes, seconds = divmod(int(position), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


#: Its name in early versions.
trans_position2time = position2time


def time2position(time: str) -> int:
    """Seconds from hours, minutes and seconds."""
    hours, minutes, seconds = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)
