"""parallel-video-io's ``pvio``, by ndframes: the same names, signatures and return conventions, with exact frame numbers.

The modules :mod:`~ndframes.compat.pvio.io`, :mod:`~ndframes.compat.pvio.video` and :mod:`~ndframes.compat.pvio.torch_tools` are
those of its versions since 0.1.5; :mod:`~ndframes.compat.pvio.video_io`, :mod:`~ndframes.compat.pvio.torch` and
:mod:`~ndframes.compat.pvio.util` those of 0.1.3. Only what loads frames as tensors needs torch: ``pip install "ndframes[torch]"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import load_lazily

if TYPE_CHECKING:
    from .io import (
        VideoMetadata,
        check_num_frames,
        get_video_metadata,
        read_frames_from_video,
        write_frames_to_video,
        write_image_paths_to_video,
    )
    from .io import (
        iter_frames_from_video as iter_frames_from_video,
    )
    from .torch_tools import SimpleVideoCollectionLoader, VideoCollectionDataLoader, VideoCollectionDataset
    from .video import EncodedVideo, ImageDirVideo, Video

__all__ = [
    "EncodedVideo",
    "ImageDirVideo",
    "SimpleVideoCollectionLoader",
    "Video",
    "VideoCollectionDataLoader",
    "VideoCollectionDataset",
    "VideoMetadata",
    "check_num_frames",
    "get_video_metadata",
    "read_frames_from_video",
    "write_frames_to_video",
    "write_image_paths_to_video",
]

# Where each name lives. Later versions of pvio have one name more.
_HOMES = {
    **dict.fromkeys(__all__, "io"),
    "iter_frames_from_video": "io",
    "EncodedVideo": "video",
    "ImageDirVideo": "video",
    "SimpleVideoCollectionLoader": "torch_tools",
    "Video": "video",
    "VideoCollectionDataLoader": "torch_tools",
    "VideoCollectionDataset": "torch_tools",
}

__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES)
