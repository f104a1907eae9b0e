"""VideoReader: any frames of a video, exactly those that were asked for."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import UnreadableImageError
from ..lru import ByteLRU
from .index import FrameForm, FrameIndex, decode_packets, open_container, pick_stream

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from ..formats.handles import HandlePool

__all__ = ["VideoErrors", "VideoReader", "to_pixels"]

Array = np.ndarray[Any, np.dtype[Any]]

#: What becomes of a frame that does not decode: an error, nothing in its place, or the nearest one that does.
VideoErrors = Literal["raise", "skip", "nearest"]


# After so many requests here and there, the next one is taken to lie elsewhere, too.
_LEAPS_OF_CHANCE = 3
# So many frames at most are decoded once more if it does not.
_MOST_FRAMES_AGAIN = 16


class VideoReader:
    """Frames of one video by their numbers. Handles are opened where they are needed, one for each thread and process.

    Args:
        path: the file.
        index: where its frames are.
        pool: lends the handles.
        threads: how many threads a decoder uses; 1 is best for single frames, and the only number that is safe in workers.
        frame_bytes: how much of the frames decoded last is kept in memory.
    """

    def __init__(
        self, path: str, index: FrameIndex, pool: HandlePool, *, threads: int = 1, frame_bytes: int = 64 * 2**20
    ) -> None:
        self.path = path
        self.index = index
        self._pool = pool
        self._threads = threads
        self._token = object()
        self._frames: ByteLRU[int, Array] = ByteLRU(frame_bytes, _nbytes)
        weakref.finalize(self, pool.discard, self._token)

    @property
    def memory_bytes(self) -> int:
        """What its index costs; frames have a budget of their own."""
        return self.index.times.nbytes + self.index.keys.nbytes + self.index.seeks.nbytes

    def frame(self, number: int) -> Array:
        """The pixels of one frame ``(height, width, channels)``, decoded or remembered; not to be written to.

        Raises:
            UnreadableImageError: it does not decode.
        """
        for _, pixels in self.frames([number]):
            return pixels
        raise self.missing(number)

    def frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, Array]]:
        """The pixels of frames, as of :meth:`frame`, each once, in rising order: decoded in one go, or remembered.

        Args:
            numbers: from 0 to one below the number of frames, in any order.

        Raises:
            UnreadableImageError: one does not decode.
        """
        wanted = sorted(set(numbers))
        remembered = {number: pixels for number in wanted if (pixels := self._frames.get(number)) is not None}
        decoded = self.decode([number for number in wanted if number not in remembered])
        for number in wanted:
            pixels = remembered.pop(number, None)
            if pixels is None:
                found, frame = next(decoded, (None, None))
                if frame is None or found != number:
                    raise self.missing(number)
                pixels = to_pixels(frame, self.index)
                self._frames.put(number, pixels)
            yield number, pixels

    def decode(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """The frames of these numbers, each once, in rising order; those that do not decode are left out.

        Args:
            numbers: from 0 to one below the number of frames, in any order.
        """
        wanted = sorted(set(numbers))
        if not wanted:
            return
        with self._pool.borrow(self._token, self._open) as cursor:
            cursor.begin(wanted[0])
            for number, following in itertools.zip_longest(wanted, wanted[1:]):
                frame = cursor.find(number, following)
                if frame is not None:
                    try:
                        yield number, frame
                    except GeneratorExit:  # who wants no more has not harmed the decoder; an error would close it
                        return

    def read(self, numbers: Sequence[int], *, errors: VideoErrors = "raise") -> tuple[list[int], Array]:
        """The pixels of frames, in the order asked for; one that is asked for twice is decoded once.

        Args:
            numbers: from 0 to one below the number of frames.
            errors: see :data:`VideoErrors`.

        Returns:
            The numbers of the frames that are there, and their pixels ``(frames, height, width, channels)``.

        Raises:
            UnreadableImageError: a frame does not decode, and ``errors="raise"``; or none does.
        """
        found = {number: to_pixels(frame, self.index) for number, frame in self.decode(numbers)}
        missing = sorted(set(numbers) - set(found))
        if missing and errors == "raise":
            raise self.missing(missing[0])
        if missing and errors == "nearest":
            for number in missing:
                found[number] = self._find_nearest(number)
        there = [number for number in numbers if number in found]
        if not there:
            return [], np.empty((0, *self.frame_shape), np.uint8)
        return there, np.stack([found[number] for number in there])

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of a frame, as it is shown."""
        return self.form.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels: uint8, or uint16 where a channel has more than 8 bits."""
        return self.form.dtype

    @cached_property
    def form(self) -> FrameForm:
        """What a frame is: as the index knows, or as the first one that decodes shows.

        Raises:
            UnreadableImageError: none of the first key frames decodes.
        """
        if self.index.form is not None:
            return self.index.form
        for _, frame in self.decode(self.index.keys[:8].tolist() or [0]):
            pixels = to_pixels(frame, self.index)
            return FrameForm((pixels.shape[0], pixels.shape[1], pixels.shape[2]), pixels.dtype)
        raise UnreadableImageError(f"{self.path}: none of its first key frames decodes")

    def missing(self, number: int) -> UnreadableImageError:
        """What is raised for a frame that does not decode."""
        return UnreadableImageError(f"{self.path}: frame {number:,} of {len(self.index):,} does not decode")

    def _find_nearest(self, number: int) -> Array:
        """The nearest frame that decodes, the earlier one of two."""
        for distance in range(1, len(self.index)):
            for other in (number - distance, number + distance):
                if 0 <= other < len(self.index):
                    for _, frame in self.decode([other]):
                        return to_pixels(frame, self.index)
        raise UnreadableImageError(f"{self.path}: none of its frames decodes")

    def _open(self) -> _Cursor:
        return _Cursor(self.path, self.index, self._threads)


def _nbytes(pixels: Array) -> int:
    return pixels.nbytes


class _Target(NamedTuple):
    """The frame that a cursor looks for.

    Attributes:
        time: when it is shown.
        may_skip: whether frames before it to which no other one refers need not be decoded.
        is_last: whether nothing behind it is wanted.
    """

    time: int
    may_skip: bool
    is_last: bool


class _Cursor:
    """A decoder on its way through a video.

    It decodes no more than it must. Of the frames before the one that is looked for, those that no other one refers to are
    passed over; in H.264, of which the pictures say so of themselves (in HEVC it holds for their own layer only). And where
    nothing is wanted of what lies behind, or probably nothing, the decoder is made to give the frame out at once: by itself it
    would take in some more first, as many as B-frames may have put out of order.
    """

    def __init__(self, path: str, index: FrameIndex, threads: int) -> None:
        self._path = path
        self._index = index
        self._threads = threads
        self._container: Any = None
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = len(index)  # the number of the frame that comes next, at least
        self._is_fresh = self._is_spent = self._is_from_start = self._finds_start = self._tells_unneeded = False
        self._last = len(index)  # the number that was looked for last
        self._leaps = (
            0  # how many of the last requests, without a break, did not begin a little ahead of the one before
        )
        self._target = _Target(0, False, False)
        self.seek(0)

    def begin(self, number: int) -> None:
        """Take notice of a request for frames from ``number`` on: those to come are taken to be like those before."""
        first = int(self._index.keys[self._index.find_key(number)])
        self._leaps = 0 if first - 1 <= self._last < number else self._leaps + 1

    def find(self, number: int, following: int | None) -> VideoFrame | None:
        """The frame of that number; ``None`` where it does not decode.

        Args:
            number: which.
            following: the one that will be looked for after it; ``None``: that is not known.
        """
        key = self._index.find_key(number)
        first = int(self._index.keys[key])
        self._last = number
        if self._is_spent or number < self._next or first > self._next:
            self.seek(key)
        self._target = self._aim(number, key, following)
        frame = self._look(number, key)
        if frame is None and self._index.has_exact_times:
            self._target = _Target(self._target.time, False, False)
            self.seek(key)
            frame = self._look(number, key)
        return frame

    def _look(self, number: int, key: int) -> VideoFrame | None:
        while True:
            for current, frame in self._frames:
                self._next = current + 1
                if current == number:
                    return frame
                if current > number:
                    break
            else:
                self._next = len(self._index)
            # It was passed by. A decoder may have begun behind the key frame that it was sent to: try the one before.
            if not self._is_fresh or (key == 0 and self._is_from_start):
                return None
            key = max(0, key - 1)
            self.seek(key, from_start=key == 0)

    def seek(self, key: int, *, from_start: bool = False) -> None:
        """Go to a key frame; to the first one by beginning anew, with ``from_start`` or where it cannot be found otherwise."""
        self._is_fresh, self._is_spent = True, False
        index = self._index
        self._is_from_start = from_start or self._container is None or (key == 0 and not self._finds_start)
        if self._is_from_start:
            self.close()
            self._container = open_container(self._path, is_probed=not index.opens_unprobed)
            self._stream = pick_stream(self._container, self._path, index.stream)
            self._stream.thread_count = self._threads
            self._finds_start = index.has_exact_times and index.how == "pts"
            self._tells_unneeded = index.has_exact_times and self._stream.codec_context.name == "h264"
        if key or not self._is_from_start:
            if index.how == "byte":
                self._container.seek(int(index.seeks[key]), stream=self._stream, unsupported_byte_offset=True)
            else:
                self._container.seek(int(index.seeks[key]), stream=self._stream)
            self._stream.codec_context.flush_buffers()
        self._next = 0 if key == 0 else int(index.keys[key])
        self._frames = self._by_time() if index.has_exact_times else self._by_count(key)

    def close(self) -> None:
        """Let go of the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _aim(self, number: int, key: int, following: int | None) -> _Target:
        """How a frame is looked for: the decoder may be left useless behind it, if a key frame is gone to for the next one."""
        index = self._index
        if following is not None:
            is_last = bool(index.keys[index.find_key(following)] > number + 1)
        else:
            is_last = self._leaps >= _LEAPS_OF_CHANCE and number - int(index.keys[key]) < _MOST_FRAMES_AGAIN
        return _Target(int(index.times[number]), self._tells_unneeded, is_last and index.has_exact_times)

    def _by_time(self) -> Iterator[tuple[int, VideoFrame]]:
        for frame in self._decode_to_target():
            number = None if frame.pts is None else self._index.find_frame(frame.pts)
            if number is not None:  # else it leads up to the first one
                yield number, frame
                self._is_fresh = False

    def _decode_to_target(self) -> Iterator[VideoFrame]:
        """What the decoder gives out; where nothing is wanted behind the target, it ends with what is in the decoder by then."""
        context = self._stream.codec_context
        is_skipping, sent = None, set()
        for packet in self._container.demux(self._stream):
            time, target = packet.pts, self._target
            may_skip = target.may_skip and time is not None and time < target.time
            if may_skip is not is_skipping:
                is_skipping, context.skip_frame = may_skip, "NONREF" if may_skip else "DEFAULT"
            yield from decode_packets([packet])
            sent.add(time)
            if self._target.is_last and self._target.time in sent:
                self._is_spent = True
                yield from context.decode(None)
                return

    def _by_count(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        number = None if key else 0
        for frame in decode_packets(self._container.demux(self._stream)):
            if number is None and frame.key_frame:
                number = int(self._index.keys[key])
            if number is not None:
                yield number, frame
                number += 1
                self._is_fresh = False


def to_pixels(frame: VideoFrame, index: FrameIndex) -> Array:
    """A decoded frame as ``(height, width, channels)``: gray, RGB or RGBA, uint8, or uint16 for more than 8 bits.

    It is turned as the video says that it is to be shown.
    """
    parts = frame.format.components
    if index.is_gray and frame.format.name.startswith("yuv") and parts[0].bits == 8:
        return _turn(_first_plane(frame)[:, :, None], frame)
    has_alpha = any(part.is_alpha for part in parts)
    is_gray = not has_alpha and len(parts) == 1 and not frame.format.has_palette
    is_deep = max(part.bits for part in parts) > 8
    names = ("gray16le", "rgb48le", "rgba64le") if is_deep else ("gray", "rgb24", "rgba")
    name = names[0] if is_gray else names[2] if has_alpha else names[1]
    # One thread: a forked child that frees the converter would wait for its threads, which it has not, for ever.
    pixels = frame.to_ndarray(format=name, threads=1)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return _turn(pixels, frame)


def _first_plane(frame: VideoFrame) -> Array:
    """The brightness, as it is stored; a conversion would take it for another range."""
    plane = frame.planes[0]
    rows: Array = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    brightness: Array = rows[: frame.height, : frame.width].copy()
    return brightness


def _turn(pixels: Array, frame: VideoFrame) -> Array:
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
