"""Which files are videos."""

from __future__ import annotations

import os

__all__ = ["is_video_name"]

_ENDINGS = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".m2ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".h264",
        ".264",
        ".h265",
        ".265",
        ".hevc",
        ".obu",
        ".ivf",
        ".wmv",
        ".flv",
        ".ogv",
        ".3gp",
    ]
)


def is_video_name(path: str) -> bool:
    """Whether a file is a video, by its name's ending.

    Example:
        >>> is_video_name("walk.MP4"), is_video_name("walk.tif")
        (True, False)
    """
    return os.path.splitext(path)[1].lower() in _ENDINGS
