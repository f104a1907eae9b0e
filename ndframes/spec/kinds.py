"""Kinds of files by their suffixes: images and videos."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pathinfo import ChannelInfo

#: The suffixes of image files in a folder, in lower case.
IMAGE_SUFFIXES = frozenset(
    [
        ".tif", ".tiff", ".btf", ".tf8", ".svs", ".ndpi", ".scn", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".j2c", ".webp",
        ".apng", ".gif", ".bmp", ".ntf", ".nitf", ".pbm", ".pgm", ".ppm", ".pnm", ".sgi", ".img", ".npy", ".hdr", ".avif", ".qoi",
        ".psd",
    ]
)  # fmt: skip
__all__ = ["IMAGE_SUFFIXES", "is_video_path", "is_whole_video", "whole_file_of"]
_VIDEO_SUFFIXES = frozenset(
    [
        ".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3g2", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".ts", ".m2ts", ".mts",
        ".m2t", ".mpg", ".mpeg", ".m1v", ".m2v", ".vob", ".h264", ".264", ".h265", ".265", ".hevc", ".obu", ".ivf", ".wmv", ".asf",
        ".flv", ".ogv", ".nut", ".mxf", ".dv", ".y4m", ".mjpg", ".mjpeg", ".rm", ".rmvb",
    ]
)  # fmt: skip


def is_video_path(path: str) -> bool:
    """Whether the suffix of a path is that of a video.

    Example:
        >>> is_video_path("walk.MP4"), is_video_path("walk.tif")
        (True, False)
    """
    # By the suffix, because nothing is opened here.
    return os.path.splitext(path)[1].lower() in _VIDEO_SUFFIXES


def is_whole_video(info: ChannelInfo) -> bool:
    """Whether a channel is a whole video rather than one of its frames."""
    return info.page is None and is_video_path(info.path)


def whole_file_of(info: ChannelInfo) -> ChannelInfo:
    """The channel that is opened and cached in order to read ``info``: the whole video if it is one of its frames."""
    return replace(info, page=None) if info.page is not None and is_video_path(info.path) else info
