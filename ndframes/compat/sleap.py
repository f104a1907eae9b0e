"""SLEAP's ``AsyncVideo``, by ndframes: chunks of frames of a video that are loaded in the background.

SLEAP removed it in 2024. The interface is that of ``sleap.io.asyncvideo``::

    from ndframes.compat.sleap import AsyncVideo
    for frame_idxs, frames in AsyncVideo.from_video("walk.mp4", frames_per_chunk=64).chunks:
        track(frame_idxs, frames)  # a list of int, an array (n, height, width, channels)

The differences: no ports are used, so any number of objects may exist; an error while frames are loaded is raised by the loop; a
few chunks are loaded ahead, not all of them; the arrays may be written to.
"""

from __future__ import annotations

import operator
import os
import pickle
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from ..errors import UnsupportedError, check_choice, shorten
from ..feed.requests import RequestSource
from ..feed.worker import ReadWork
from ..feed.worker_choice import make_workers
from ..frames.lazyframe import LazyFrame
from ..frames.simple import open as open_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from .._typing import Array
    from ..system.ahead import Workers
    from ..system.serving import Allocate, Work

__all__ = ["AsyncVideo", "LoadErrors", "get_frames_safely"]
#: What happens with frames that cannot be read.
LoadErrors = Literal["raise", "skip"]
# How many chunks are loaded ahead.
_DEPTH = 2
# An object whose pickle is larger holds pixels: it is read in a thread, which needs no copy of it.
_MOST_PICKLED_BYTES = 16 * 2**20


class AsyncVideo:
    """Loads chunks of frames in the background, while the caller works on the chunks before.

    Args:
        base_port: of no use; there are no ports.

    Example:
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "walk.mp4"
        >>> _ = nf.write_video(path, np.zeros((10, 32, 48, 3), np.uint8), fps=5)
        >>> for frame_idxs, frames in AsyncVideo.from_video(path, frames_per_chunk=4).chunks:
        ...     print(frame_idxs, frames.shape)
        [0, 1, 2, 3] (4, 32, 48, 3)
        [4, 5, 6, 7] (4, 32, 48, 3)
        [8, 9] (2, 32, 48, 3)
    """

    #: Whether the worker answered; here errors are raised instead.
    handshake_success = True

    def __init__(self, base_port: int = 9010) -> None:
        self.base_port = base_port
        self._loads: deque[_Load] = deque()

    @classmethod
    def from_video(
        cls,
        video: Any,
        frame_idxs: Iterable[SupportsIndex] | None = None,
        frames_per_chunk: int = 64,
        *,
        errors: LoadErrors = "raise",
    ) -> Self:
        """Make an object, and begin to load a video; the arguments are those of :meth:`load_by_chunk`."""
        loader = cls()
        loader.load_by_chunk(video, frame_idxs, frames_per_chunk, errors=errors)
        return loader

    def load_by_chunk(
        self,
        video: Any,
        frame_idxs: Iterable[SupportsIndex] | None = None,
        frames_per_chunk: int = 64,
        *,
        errors: LoadErrors = "raise",
    ) -> None:
        """Load frames of a video; after those that were asked for before.

        Paths and handles of ndframes are read in a worker process, and so are other objects that pickle. An object that does
        not, or that holds its pixels, is read in a thread: do not use it meanwhile unless it is thread-safe.

        Args:
            video: the path of a video or of a folder of images, what :func:`ndframes.open` returns, or an object like SLEAP's
                ``Video``: it has ``get_frames(idxs)``, ``get_frame(idx)`` or ``[idx]``.
            frame_idxs: numbers of frames in any order, with repetitions; ``None``: all frames.
            frames_per_chunk: the number of frames in a chunk.
            errors: ``"raise"`` the error of a frame that cannot be read, or ``"skip"`` the frame.

        Raises:
            TypeError: ``video`` is nothing that has frames.
            ValueError: an argument has a value that is not allowed.
            NdframesError: the path cannot be opened.
        """
        check_choice("errors", errors, LoadErrors)
        size = _to_size(frames_per_chunk)
        source = _open(video)
        if source is None:
            work: Work = _ForeignWork(video, errors)
            numbers = range(_count_frames(video)) if frame_idxs is None else _to_numbers(frame_idxs)
        else:
            found = RequestSource(source, None)
            work = ReadWork(found.frames, found.channels, {}, errors=errors, video_id=found.video_id)
            asked: Any = found.everything() if frame_idxs is None else _to_numbers(frame_idxs)
            # Here, where the caller can see which load is at fault.
            for place, number in enumerate(asked[:1]):
                found.check(number, place)
            numbers = asked
        self._loads.append(_Load(work, numbers, size, is_foreign=source is None))
        if len(self._loads) == 1:
            self._loads[0].start()

    @property
    def chunks(self) -> Iterator[tuple[list[int], Array]]:
        """A generator of ``(frame_idxs, frames)`` of all videos, in the order in which they were asked for.

        ``frame_idxs`` is a list of int, ``frames`` an array ``(n, height, width, channels)`` in the dtype of the video. The last
        chunk of a load may have fewer frames. After the last load, the object is closed.
        """
        return self._deliver()

    def _deliver(self) -> Iterator[tuple[list[int], Array]]:
        try:
            while self._loads:
                load = self._loads[0]
                for numbers, pixels in load.deliver():
                    # The next video is opened while the last chunks of this one are used.
                    if load.is_submitted and len(self._loads) > 1:
                        self._loads[1].start()
                    if numbers:
                        yield numbers, pixels
                self._loads.popleft().close()
        except GeneratorExit:  # the loop ended early, and may go on with the next generator
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers. Chunks that were delivered stay valid; what was not is lost. Closing again does nothing."""
        while self._loads:
            self._loads.popleft().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Load:
    """Some frames of one video, loaded ahead."""

    def __init__(self, work: Work, numbers: Sequence[int], size: int, *, is_foreign: bool) -> None:
        self._work, self._numbers, self._size = work, numbers, size
        self._is_foreign = is_foreign
        self._place = 0
        self._sent: deque[list[int]] = deque()
        self._workers: Workers | None = None

    @property
    def is_submitted(self) -> bool:
        """Whether the worker has all of it."""
        return self._place >= len(self._numbers)

    def start(self) -> None:
        """Give the worker as many chunks as it may have."""
        while not self.is_submitted and (self._workers is None or self._workers.has_room):
            if self._workers is None:
                self._workers = self._make_workers()
            chunk = list(self._numbers[self._place : self._place + self._size])
            self._place += len(chunk)
            self._sent.append(chunk)
            self._workers.submit(chunk, label=f"the frames {shorten(chunk)}")

    def deliver(self) -> Iterator[tuple[list[int], Array]]:
        """The chunks that were not delivered yet."""
        while True:
            self.start()
            if self._workers is None or not self._sent:
                return
            read = self._workers.receive().value
            numbers = self._sent.popleft()
            self.start()  # before the chunk is used, so that the worker is busy meanwhile
            failed = {position for position, _ in read.failed}
            yield [number for position, number in enumerate(numbers) if position not in failed], read.array

    def close(self) -> None:
        """End the worker."""
        self._place = len(self._numbers)
        self._sent.clear()
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()

    def _make_workers(self) -> Workers:
        if not self._is_foreign:
            return make_workers(self._work, kind="auto", start_method=None, count=1, depth=_DEPTH)
        if _is_small_pickle(self._work):
            try:
                # Never a fork: it would share the object's open files with this process.
                return make_workers(self._work, kind="process", start_method="command", count=1, depth=_DEPTH)
            except UnsupportedError:  # its class is defined in the main module, or processes cannot be started here
                pass
        return make_workers(self._work, kind="thread", start_method=None, count=1, depth=_DEPTH)


class _ForeignResult:
    """Frames of an object that is none of ours, and the positions of those that could not be read."""

    def __init__(self, array: Array, failed: list[tuple[int, None]]) -> None:
        self.array, self.failed = array, failed


class _ForeignWork:
    """Reads chunks of an object like SLEAP's ``Video``."""

    def __init__(self, video: Any, errors: LoadErrors) -> None:
        self._video = video
        self._errors = errors

    def __call__(self, numbers: Sequence[int], allocate: Allocate) -> _ForeignResult:
        """Read one chunk."""
        try:
            return _ForeignResult(self._keep(_read_frames(self._video, numbers), allocate), [])
        except Exception:
            if self._errors == "raise":
                raise
        read, failed = [], []
        for position, number in enumerate(numbers):
            try:
                read.append(_read_frames(self._video, [number])[0])
            except Exception:  # noqa: BLE001 - what the object raises is its own affair, and the caller asked to skip it
                failed.append((position, None))
        return _ForeignResult(self._keep(np.stack(read), allocate) if read else np.empty(0, np.uint8), failed)

    def _keep(self, frames: Array, allocate: Allocate) -> Array:
        """A copy that belongs to the reader: the object may keep what it returns."""
        own = allocate(frames.shape, frames.dtype)
        own[...] = frames
        return own


def get_frames_safely(video: Any, frame_idxs: Iterable[SupportsIndex]) -> tuple[list[int], Array | None]:
    """Read frames of a video, and leave out those that cannot be read.

    Args:
        video: as for :meth:`AsyncVideo.load_by_chunk`.
        frame_idxs: numbers of frames.

    Returns:
        The numbers of the frames that were read, and their pixels ``(n, height, width, channels)``, or ``None`` without any.

    Example:
        >>> get_frames_safely(np.zeros((4, 2, 3, 1), np.uint8), [3, 4])[0]
        [3]
    """
    found: list[int] = []
    parts = []
    numbers = _to_numbers(frame_idxs)
    with AsyncVideo.from_video(video, numbers, max(1, len(numbers)), errors="skip") as loader:
        for read, frames in loader.chunks:
            found += read
            parts.append(frames)
    return found, parts[0] if parts else None


def _open(video: Any) -> LazyFrame | None:
    """A handle of ndframes; ``None`` for an object of another package.

    Raises:
        TypeError: it has no frames.
    """
    if isinstance(video, LazyFrame):
        return video
    if isinstance(video, (str, os.PathLike)):
        return open_frame(video)
    if not any(hasattr(video, name) for name in ("get_frames", "get_frame", "__getitem__")):
        raise TypeError(
            f"video={shorten(video)}; give a path, what ndframes.open returns, or an object with get_frames, get_frame or []"
        )
    return None


def _count_frames(video: Any) -> int:
    """The number of frames of an object, from whatever it has to tell it."""
    shape = getattr(video, "shape", None)
    counts: tuple[Any, ...] = (
        getattr(video, "num_frames", None),
        getattr(video, "frames", None),
        shape[0] if shape else None,
        len(video) if hasattr(video, "__len__") else None,
    )
    for count in counts:
        if hasattr(count, "__index__"):
            return operator.index(count)
    raise TypeError(
        f"video={shorten(video)} does not tell its number of frames by num_frames, frames, shape or len(); give frame_idxs"
    )


def _read_frames(video: Any, numbers: Sequence[int]) -> Array:
    """Frames of an object ``(n, height, width, channels)``."""
    if hasattr(video, "get_frames"):
        read = np.asarray(video.get_frames(list(numbers)))
    else:
        get = getattr(video, "get_frame", None) or video.__getitem__
        read = np.stack([np.asarray(get(number)) for number in numbers])
    if len(read) != len(numbers):
        raise ValueError(f"{shorten(video)} returned {len(read):,} frames for {len(numbers):,} numbers")
    return read


def _to_numbers(frame_idxs: Iterable[SupportsIndex]) -> list[int]:
    try:
        return [operator.index(number) for number in frame_idxs]
    except TypeError as error:
        raise TypeError(f"frame_idxs={shorten(frame_idxs)}; give whole numbers, such as range(0, 100, 5)") from error


def _to_size(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
        raise ValueError(f"frames_per_chunk={shorten(value)}; give a whole number from 1")
    return operator.index(value)


class _Counter:
    """A file that counts what is written to it, and refuses too much."""

    def __init__(self) -> None:
        self._count = 0

    def write(self, data: Any) -> int:
        self._count += memoryview(data).nbytes
        if self._count > _MOST_PICKLED_BYTES:
            raise pickle.PicklingError("too large")
        return memoryview(data).nbytes


def _is_small_pickle(work: Work) -> bool:
    """Whether an object pickles, and not with the pixels in it."""
    try:
        pickle.Pickler(_Counter(), protocol=5).dump(work)
    except Exception:  # noqa: BLE001 - pickling runs the user's code
        return False
    return True
