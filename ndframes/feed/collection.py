"""A collection of videos: opened, cut to ranges, and read in chunks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import PatchError, naming_image, shorten
from ..frames.clip import Clip
from ..frames.frames import Frames
from ..frames.lazyframe import LazyFrame
from ..frames.simple import SimpleFrames
from ..spec.pathinfo import coerce_frame_range, slice_frames
from .reading import load_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np

    from .._typing import Array
    from ..spec.backends import BackendSpec

__all__ = ["VideoSource", "open_videos"]
# Frames are decoded several at a time, up to this many bytes.
_CHUNK_BYTES = 16 * 2**20
_CHUNK_FRAMES = 64
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True, eq=False)
class VideoSource:
    """A video or sequence of images, or a range of its frames.

    Attributes:
        frames: where it is read from.
        image_id: its id there.
        channels: the channels that are read.
        path: what it is called.
        numbers: its frames, as numbers of those of the file.
        keys: those of its frames at which decoding can begin, counted in the range; ``None``: all of them.
        shape: ``(height, width, channels)`` of a frame.
        dtype: of the pixels.
    """

    frames: Frames
    image_id: Hashable
    channels: Sequence[str]
    path: str
    numbers: range
    keys: np.ndarray[Any, np.dtype[np.int64]] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, start: int, stop: int) -> Iterator[Array]:
        """Successive frames, in arrays ``(n, height, width, channels)`` of some megabytes at most."""
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        size = max(1, min(_CHUNK_FRAMES, _CHUNK_BYTES // max(1, nbytes)))
        for first in range(start, stop, size):
            numbers = self.numbers[first : min(first + size, stop)]
            yield load_frames(self.frames, self.image_id, numbers, self.channels)


def open_videos(
    videos: Any,
    frame_ranges: Sequence[Any] | None = None,
    *,
    channels: str | Sequence[str] | None = None,
    workdir: str | os.PathLike[str] | None = None,
    backend: BackendSpec = None,
) -> list[VideoSource]:
    """Open the videos of a collection; several at a time, because each file is scanned once.

    Args:
        videos: paths, :class:`~ndframes.Clip` s, and handles of :func:`ndframes.open`; or :class:`~ndframes.Frames`.
        frame_ranges: for each video ``(start, stop)`` or ``None``.
        channels: as for :meth:`ndframes.Frames.load_region`.
        workdir: as for :func:`ndframes.open`.
        backend: as for :func:`ndframes.open`.

    Raises:
        TypeError: a video is none of these.
        SourceError: a video cannot be read.
        PathInfoError: a range goes beyond the video.
        PatchError: there are no videos, an image has no time axis, or there are more or fewer ranges than videos.

    Example:
        >>> import numpy as np
        >>> for number in range(4):
        ...     np.save(getfixture("tmp_path") / f"{number}.npy", np.full((2, 3), number, np.uint8))
        >>> (walk,) = open_videos([getfixture("tmp_path")], [(1, 3)])
        >>> len(walk), [chunk[:, 0, 0, 0].tolist() for chunk in walk.read(0, 2)]
        (2, [[1, 2]])
    """
    if isinstance(videos, (str, bytes, os.PathLike, Clip, LazyFrame)):
        raise TypeError(f"videos={shorten(videos)} is one video; give a list of them")
    if isinstance(videos, Frames):
        openers: list[Callable[[], LazyFrame]] = [_opener(videos, item, channels) for item in videos.image_ids]
    else:
        entries = list(videos)
        files = {_id_of(entry): entry for entry in entries if isinstance(entry, (str, os.PathLike, Clip))}
        opened = SimpleFrames(files, workdir=workdir, backend=backend)
        openers = [_to_opener(entry, opened, channels) for entry in entries]
    if not openers:
        raise PatchError("there are no videos to read frames of; give at least one")
    ranges = [None] * len(openers) if frame_ranges is None else list(frame_ranges)
    if len(ranges) != len(openers):
        raise PatchError(f"there are {len(ranges)} frame_ranges for {len(openers)} videos; give one for each, or None")
    spans = [coerce_frame_range(item) for item in ranges]
    with ThreadPoolExecutor(min(_MOST_THREADS, max(1, len(openers)))) as pool:
        return list(pool.map(_describe, openers, spans))


def _id_of(entry: Any) -> Hashable:
    # Clips with other options are other videos.
    return entry if isinstance(entry, Clip) else os.fsdecode(entry)


def _opener(frames: Frames, image_id: Hashable, channels: str | Sequence[str] | None) -> Callable[[], LazyFrame]:
    return lambda: frames.load_frame(image_id, channels)


def _to_opener(entry: Any, opened: Frames, channels: str | Sequence[str] | None) -> Callable[[], LazyFrame]:
    if isinstance(entry, LazyFrame):
        return lambda: entry if channels is None else type(entry)(entry.frames, entry.image_id, channels)
    if isinstance(entry, (str, os.PathLike, Clip)):
        return _opener(opened, _id_of(entry), channels)
    raise TypeError(
        f"video {shorten(entry)} is a {type(entry).__name__}; give paths, Clips, or what ndframes.open returns"
    )


def _describe(open_video: Callable[[], LazyFrame], span: tuple[int, int | None] | None) -> VideoSource:
    frame = open_video()
    image_id, catalog = frame.image_id, frame.frames
    if not isinstance(catalog, Frames):
        raise TypeError(f"{shorten(frame)} does not belong to Frames; give what ndframes.open returns")
    path = image_id.path if isinstance(image_id, Clip) else str(image_id)
    with naming_image(image_id):
        if frame.ndim != 4:
            raise PatchError("it has no time axis; give videos or sequences of images")
        numbers = slice_frames(range(len(frame)), span, path, "frames")
        keys = getattr(frame, "keyframes", None)
        if keys is not None:
            keys = keys[(keys >= numbers.start) & (keys < numbers.stop)] - numbers.start
        return VideoSource(catalog, image_id, frame.channels, path, numbers, keys, frame.shape[1:], frame.dtype)
