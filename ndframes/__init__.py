"""Any crop of any frame, of a huge image or a long video, in any channels, at memory speed and exactly right.

Public names are loaded when they are first used, so that ``import ndframes`` costs next to nothing.

Example:
    >>> import ndframes as nf
    >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
    >>> crop = frames.load_region("astronaut", (slice(0, 256), slice(128, 384)))
    >>> crop.shape, crop.dtype
    ((256, 256, 3), dtype('uint8'))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import Backend
    from .cache.broom import GcReport
    from .cache.store import Cache, CacheEntry
    from .cache.upkeep import CacheStat
    from .cache.verify import BadEntry, VerifyReport
    from .clip import Clip
    from .coco import CocoFrames
    from .errors import (
        BackendError,
        CacheEntryDamagedError,
        CacheEntryError,
        CacheEntryGoneError,
        CacheError,
        CacheFullError,
        ChannelError,
        HashidError,
        ImageIdError,
        MissingExtraError,
        NdframesError,
        OutputError,
        PathInfoError,
        PrepareError,
        RegionError,
        RegionIndexError,
        RegionTooLargeError,
        SourceAccessError,
        SourceChangedError,
        SourceError,
        SourceKindError,
        SourceMissingError,
        UnreadableImageError,
        UnsupportedError,
        VideoWriteError,
        WorkerCrashError,
    )
    from .explain import Explanation
    from .frames import Frames, SimpleFrames, demo_paths
    from .frames import open_frame as open  # noqa: A004 - nf.open is the name that people expect
    from .image import AlignableImageData, NativePart
    from .lazyframe import LazyFrame, LazyVideo
    from .pathinfo import ChannelInfo, PathInfo, SequenceInfo
    from .prepare import PrepareFailure, PrepareReport
    from .video.metadata import VideoMetadata, video_metadata
    from .video.read import read_video
    from .video.writer import VideoWriter, WriteReport, write_video
    from .workers import Limits

__version__ = "0.1.0.dev0"

__all__ = [
    "AlignableImageData",
    "Backend",
    "BackendError",
    "BadEntry",
    "Cache",
    "CacheEntry",
    "CacheEntryDamagedError",
    "CacheEntryError",
    "CacheEntryGoneError",
    "CacheError",
    "CacheFullError",
    "CacheStat",
    "ChannelError",
    "ChannelInfo",
    "Clip",
    "CocoFrames",
    "Explanation",
    "Frames",
    "GcReport",
    "HashidError",
    "ImageIdError",
    "LazyFrame",
    "LazyVideo",
    "Limits",
    "MissingExtraError",
    "NativePart",
    "NdframesError",
    "OutputError",
    "PathInfo",
    "PathInfoError",
    "PrepareError",
    "PrepareFailure",
    "PrepareReport",
    "RegionError",
    "RegionIndexError",
    "RegionTooLargeError",
    "SequenceInfo",
    "SimpleFrames",
    "SourceAccessError",
    "SourceChangedError",
    "SourceError",
    "SourceKindError",
    "SourceMissingError",
    "UnreadableImageError",
    "UnsupportedError",
    "VerifyReport",
    "VideoMetadata",
    "VideoWriteError",
    "VideoWriter",
    "WorkerCrashError",
    "WriteReport",
    "__version__",
    "demo_paths",
    "open",
    "read_video",
    "video_metadata",
    "write_video",
]

# Where each name lives; the ones that are not listed are errors.
_HOME = {
    "AlignableImageData": "image",
    "Backend": "backends",
    "BadEntry": "cache.verify",
    "Cache": "cache.store",
    "CacheEntry": "cache.store",
    "CacheStat": "cache.upkeep",
    "ChannelInfo": "pathinfo",
    "CocoFrames": "coco",
    "Explanation": "explain",
    "Frames": "frames",
    "GcReport": "cache.broom",
    "Clip": "clip",
    "LazyFrame": "lazyframe",
    "LazyVideo": "lazyframe",
    "Limits": "workers",
    "NativePart": "image",
    "PathInfo": "pathinfo",
    "PrepareFailure": "prepare",
    "PrepareReport": "prepare",
    "SequenceInfo": "pathinfo",
    "SimpleFrames": "frames",
    "VerifyReport": "cache.verify",
    "VideoMetadata": "video.metadata",
    "VideoWriter": "video.writer",
    "WriteReport": "video.writer",
    "demo_paths": "frames",
    "open": "frames:open_frame",
    "read_video": "video.read",
    "video_metadata": "video.metadata",
    "write_video": "video.writer",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ndframes' has no attribute {name!r}")
    module, _, attribute = _HOME.get(name, "errors").partition(":")
    value = getattr(import_module(f".{module}", __name__), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
