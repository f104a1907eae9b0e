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

from typing import TYPE_CHECKING

from ._lazy import load_lazily
from ._version import __version__

if TYPE_CHECKING:
    from .cache.cache import Cache
    from .cache.remover import GcReport
    from .cache.store import CacheEntry
    from .cache.upkeep import CacheStat
    from .cache.verify import BadEntry, VerifyReport
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
        MovieError,
        MovieFormatError,
        MovieGridError,
        MovieRangeError,
        NdframesError,
        NotInitializedError,
        ObjectGoneError,
        ObjectTooLongError,
        OutputError,
        PatchError,
        PathInfoError,
        PrepareError,
        RegionError,
        RegionIndexError,
        RegionTooLargeError,
        RemoteError,
        SharedMemoryError,
        SourceAccessError,
        SourceChangedError,
        SourceError,
        SourceKindError,
        SourceMissingError,
        StoreAccessError,
        StoreError,
        StoreUnavailableError,
        UnreadableImageError,
        UnsupportedError,
        VideoWriteError,
        WorkerCrashError,
        WorkerDied,
    )
    from .frames.clip import Clip
    from .frames.coco import CocoFrames
    from .frames.estimate import PrepareEstimate
    from .frames.explain import Explanation
    from .frames.frames import Frames
    from .frames.lazyframe import LazyFrame, LazyVideo
    from .frames.photographs import demo_paths
    from .frames.prepare import PrepareFailure, PrepareReport
    from .frames.ray_executor import ray_executor
    from .frames.simple import (
        SimpleFrames,
        open,  # noqa: A004 - nf.open is the name that people expect
    )
    from .geometry.regions import region_of_box
    from .items.image import AlignableImageData, NativePart
    from .movie.read import read_video, video_metadata
    from .movie.storage import MovieReport, MovieStorage
    from .movie.write import write_video
    from .server.client import RemoteFrames, connect
    from .spec.backends import Backend
    from .spec.pathinfo import ChannelInfo, PathInfo, SequenceInfo
    from .system.workers import Limits
    from .video.metadata import VideoMetadata
    from .video.threaded import allow_decoder_threads
    from .video.writer import VideoWriter, WriteReport

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
    "MovieError",
    "MovieFormatError",
    "MovieGridError",
    "MovieRangeError",
    "MovieReport",
    "MovieStorage",
    "NativePart",
    "NdframesError",
    "NotInitializedError",
    "ObjectGoneError",
    "ObjectTooLongError",
    "OutputError",
    "PatchError",
    "PathInfo",
    "PathInfoError",
    "PrepareError",
    "PrepareEstimate",
    "PrepareFailure",
    "PrepareReport",
    "RegionError",
    "RegionIndexError",
    "RegionTooLargeError",
    "RemoteError",
    "RemoteFrames",
    "SequenceInfo",
    "SharedMemoryError",
    "SimpleFrames",
    "SourceAccessError",
    "SourceChangedError",
    "SourceError",
    "SourceKindError",
    "SourceMissingError",
    "StoreAccessError",
    "StoreError",
    "StoreUnavailableError",
    "UnreadableImageError",
    "UnsupportedError",
    "VerifyReport",
    "VideoMetadata",
    "VideoWriteError",
    "VideoWriter",
    "WorkerCrashError",
    "WorkerDied",
    "WriteReport",
    "__version__",
    "allow_decoder_threads",
    "connect",
    "demo_paths",
    "open",
    "ray_executor",
    "read_video",
    "region_of_box",
    "video_metadata",
    "write_video",
]

# Where each name lives.
_HOMES = {
    **dict.fromkeys(__all__, "errors"),
    "AlignableImageData": "items.image",
    "Backend": "spec.backends",
    "BadEntry": "cache.verify",
    "Cache": "cache.cache",
    "CacheEntry": "cache.store",
    "CacheStat": "cache.upkeep",
    "ChannelInfo": "spec.pathinfo",
    "CocoFrames": "frames.coco",
    "Explanation": "frames.explain",
    "Frames": "frames.frames",
    "GcReport": "cache.remover",
    "Clip": "frames.clip",
    "LazyFrame": "frames.lazyframe",
    "LazyVideo": "frames.lazyframe",
    "Limits": "system.workers",
    "MovieReport": "movie.storage",
    "MovieStorage": "movie.storage",
    "NativePart": "items.image",
    "PathInfo": "spec.pathinfo",
    "PrepareEstimate": "frames.estimate",
    "PrepareFailure": "frames.prepare",
    "PrepareReport": "frames.prepare",
    "SequenceInfo": "spec.pathinfo",
    "SimpleFrames": "frames.simple",
    "VerifyReport": "cache.verify",
    "VideoMetadata": "video.metadata",
    "VideoWriter": "video.writer",
    "WriteReport": "video.writer",
    "RemoteFrames": "server.client",
    "allow_decoder_threads": "video.threaded",
    "connect": "server.client",
    "demo_paths": "frames.photographs",
    "open": "frames.simple",
    "ray_executor": "frames.ray_executor",
    "read_video": "movie.read",
    "region_of_box": "geometry.regions",
    "video_metadata": "movie.read",
    "write_video": "movie.write",
}

__getattr__, __dir__ = load_lazily(__name__, __all__, _HOMES)
