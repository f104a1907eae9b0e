"""VideoDecoder: any frames of a video, exactly those that were asked for."""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import UnreadableImageError
from ..system.memory import ClockCache
from .index import FrameForm, decode_packet, open_container, pick_stream
from .planes import to_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from av.packet import Packet
    from av.video.frame import VideoFrame

    from .._typing import Array
    from ..system.handles import HandlePool
    from .index import FrameIndex

__all__ = ["VideoDecoder", "VideoErrors"]
#: What becomes of a frame that does not decode: an error, nothing in its place, or the nearest one that does.
VideoErrors = Literal["raise", "skip", "nearest"]
# After so many requests here and there, the next one is taken to lie elsewhere, too.
_B_FRAME = 3  # as FFmpeg numbers them
_LEAPS_OF_CHANCE = 3
# So many frames at most are decoded once more if it does not.
_MOST_FRAMES_AGAIN = 16


class VideoDecoder:
    """Frames of one video by their numbers. Handles are opened where they are needed, one for each thread and process.

    Args:
        path: the file.
        index: where its frames are.
        pool: lends the handles.
        threads: how many threads a decoder uses; 1 is best for single frames, and the only number that is safe in workers.
        frame_bytes: how much of the frames decoded last is kept in memory.
        is_gray: whether the brightness alone is wanted; see :func:`~ndframes.video.planes.to_pixels`.
        errors: what becomes of a frame that does not decode, where one asks for frames one by one: an error, or the nearest.
    """

    def __init__(
        self,
        path: str,
        index: FrameIndex,
        pool: HandlePool,
        *,
        threads: int = 1,
        frame_bytes: int = 64 * 2**20,
        is_gray: bool = False,
        errors: VideoErrors = "raise",
    ) -> None:
        self.path = path
        self.index = index
        self.errors = errors
        self.is_gray = is_gray or index.is_gray
        self._form = index.form if self.is_gray == index.is_gray else None
        self._pool = pool
        self._threads = threads
        self._token = object()
        self._frames: ClockCache[int, Array] = ClockCache(frame_bytes, _nbytes)
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
            UnreadableImageError: one does not decode, nor, where the nearest may stand for it, any other.
        """
        wanted = sorted(set(numbers))
        remembered = {number: pixels for number in wanted if (pixels := self._frames.get(number)) is not None}
        decoded = self.decode_each([number for number in wanted if number not in remembered])
        for number in wanted:
            pixels = remembered.pop(number, None)
            if pixels is None:
                pixels = self.to_pixels(next(decoded)[1])
                self._frames.put(number, pixels)
            yield number, pixels

    def decode_each(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """As :meth:`decode`, with an error or the nearest frame for one that does not decode.

        Raises:
            UnreadableImageError: one does not decode, nor, where the nearest may stand for it, any other.
        """
        wanted = sorted(set(numbers))
        decoded = self.decode(wanted)
        ahead: tuple[int, VideoFrame] | None = None
        for number in wanted:
            ahead = ahead or next(decoded, None)
            if ahead is not None and ahead[0] == number:
                yield ahead
                ahead = None
            elif self.errors == "nearest":
                yield number, self._find_nearest(number, range(len(self.index)))[1]
            else:
                raise self.missing(number)

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

    def find_readable(self, numbers: Sequence[int], among: range, errors: VideoErrors) -> dict[int, int]:
        """Which frames decode, and which stand for those that do not.

        Args:
            numbers: of the frames that are wanted.
            among: those that may stand for one.
            errors: whether one that does not decode is left out, or the nearest stands for it.

        Returns:
            For each that there is a frame for: its number and that of what is to be read.

        Raises:
            UnreadableImageError: one does not decode, and ``errors="raise"``; or none decodes that could stand for it.
        """
        found = {number: number for number, _ in self.decode(numbers)}
        for number in sorted(set(numbers) - set(found)):
            if errors == "raise":
                raise self.missing(number)
            if errors == "nearest":
                found[number] = self._find_nearest(number, among)[0]
        return found

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of a frame, as it is shown."""
        return self.form.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels: uint8, or uint16 where a channel has more than 8 bits."""
        return self.form.dtype

    @property
    def form(self) -> FrameForm:
        """What a frame is: as the index knows, or as the first one that decodes shows.

        Raises:
            UnreadableImageError: none of the first key frames decodes.
        """
        if self._form is None:
            pixels = self.to_pixels(self.decode_first())
            self._form = FrameForm((pixels.shape[0], pixels.shape[1], pixels.shape[2]), pixels.dtype)
        return self._form

    def to_pixels(self, frame: VideoFrame) -> Array:
        """The pixels of a frame of :meth:`decode`."""
        return to_pixels(frame, is_gray=self.is_gray)

    def missing(self, number: int) -> UnreadableImageError:
        """What is raised for a frame that does not decode."""
        return UnreadableImageError(f"{self.path}: frame {number:,} of {len(self.index):,} does not decode")

    def decode_first(self) -> VideoFrame:
        """The first of the key frames that decodes.

        Raises:
            UnreadableImageError: none of the first ones does.
        """
        for _, frame in self.decode(self.index.keys[:8].tolist() or [0]):
            return frame
        raise UnreadableImageError(f"{self.path}: none of its first key frames decodes")

    def _find_nearest(self, number: int, among: range) -> tuple[int, VideoFrame]:
        """The nearest frame that decodes, the earlier one of two."""
        for distance in range(1, len(self.index)):
            for other in (number - distance, number + distance):
                if other in among:
                    for found in self.decode([other]):
                        return found
        raise self.missing(number)

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
        damage = _Damage(int(self._index.times[self._next]), is_from_start=self._is_from_start)
        for frame in damage.leave_out(self._decode_to_target(damage)):
            number = None if frame.pts is None else self._index.find_frame(frame.pts)
            if number is not None:  # else it leads up to the first one
                yield number, frame
                self._is_fresh = False

    def _decode_to_target(self, damage: _Damage) -> Iterator[VideoFrame]:
        """What the decoder gives out; where nothing is wanted behind the target, it ends with what is in the decoder by then."""
        context = self._stream.codec_context
        is_skipping, sent = None, set()
        for packet in self._container.demux(self._stream):
            time, target = packet.pts, self._target
            may_skip = target.may_skip and time is not None and time < target.time
            if may_skip is not is_skipping:
                is_skipping, context.skip_frame = may_skip, "NONREF" if may_skip else "DEFAULT"
            frames = decode_packet(packet)
            damage.note(packet, is_lost=frames is None)
            yield from frames or ()
            sent.add(time)
            if self._target.is_last and self._target.time in sent:
                self._is_spent = True
                yield from context.decode(None)
                return

    def _by_count(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        damage = _Damage(None, is_from_start=self._is_from_start)
        numbers: dict[int, int] = {}  # by the frames' identities, while damage may hold them back
        for frame in damage.leave_out(self._count(key, numbers)):
            yield numbers.pop(id(frame)), frame
            self._is_fresh = False

    def _count(self, key: int, numbers: dict[int, int]) -> Iterator[VideoFrame]:
        number = None if key else 0
        for packet in self._container.demux(self._stream):
            for frame in decode_packet(packet) or ():
                if number is None and frame.key_frame:
                    number = int(self._index.keys[key])
                if number is not None:
                    numbers[id(frame)] = number
                    yield frame
                    number += 1


class _Damage:
    """Leaves out the frames that are not what was stored.

    A packet that does not decode costs its frame, and all that is decoded after it until the next key frame, since that may
    refer to it; and what then is shown before that key frame. A decoder that fills gaps by guessing says so of a frame when
    it gives it out. B-frames that are shown before it may refer to it: they wait until the frame behind them is known.

    Args:
        start: when the key frame is shown at which decoding began: what is shown before it cannot be decoded, without any damage.
        is_from_start: whether that is the beginning of the file, of whose first key frame there is no better than what the
            decoder guesses.
    """

    def __init__(self, start: int | None, *, is_from_start: bool) -> None:
        self._start = start
        self._is_from_start = is_from_start
        self._lost: set[int | None] = set()
        self._is_open = False
        self._until: int | None = None

    def note(self, packet: Packet[Any], *, is_lost: bool) -> None:
        """Take notice of the next packet."""
        time = packet.pts
        if self._is_open and packet.is_keyframe and not is_lost:
            self._is_open, self._until = False, time
        if is_lost and (time is None or self._start is None or time >= self._start):
            self._is_open = True
        is_leading = self._until is not None and time is not None and time < self._until
        if self._is_open or is_leading:
            self._lost.add(time)

    def leave_out(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Of frames in the order in which they are shown, those that are whole."""
        waiting: list[VideoFrame] = []
        is_damaged = are_damaged = False
        is_first_key = self._is_from_start
        for frame in frames:
            is_guessed = frame.is_corrupt and not (is_first_key and not self._lost and frame.key_frame)
            is_first_key = is_first_key and not frame.key_frame
            is_bad = is_guessed or (bool(self._lost) and frame.pts in self._lost)
            if frame.pict_type == _B_FRAME:
                are_damaged |= is_bad  # some B-frames refer to others
                if are_damaged:
                    waiting.clear()
                elif not is_damaged:
                    waiting.append(frame)
                continue
            are_damaged = False
            if frame.key_frame and not is_bad:
                is_damaged = False
            elif is_bad:
                is_damaged = True
                waiting.clear()
            yield from waiting
            waiting.clear()
            if not is_damaged:
                yield frame
        yield from waiting
