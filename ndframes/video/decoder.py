"""VideoDecoder: decodes exactly the frames of a video that are requested, by their numbers."""

from __future__ import annotations

import itertools
import logging
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import UnreadableImageError
from ..system.memory import ClockCache
from .alpha import open_alpha_decoder
from .index import FrameForm, decode_packet, demux, naming_video, open_container, pick_stream
from .landings import NO_MARK, digest_of, is_complete, mark_of, seek
from .planes import find_form, replace_matrix, to_pixels
from .samples import stores_color

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from av.packet import Packet
    from av.video.frame import VideoFrame

    from .._typing import Array
    from ..system.handles import HandlePool
    from .index import FrameIndex

__all__ = ["VideoDecoder", "VideoErrors"]
_log = logging.getLogger(__name__)
#: What to do about a frame that does not decode: raise an error, leave it out, or use the nearest frame that decodes.
VideoErrors = Literal["raise", "skip", "nearest"]
_B_FRAME = 3  # FFmpeg's number
# After this many jumps in a row, the next request is expected to be a jump, too.
_JUMPS_OF_RANDOM_ACCESS = 3
# If it is not, at most this many frames are decoded twice.
_MOST_REPEATED_FRAMES = 16
_WARMING_PACKETS = 16


class VideoDecoder:
    """Decodes frames of one video by their numbers. Each thread and process opens a handle of its own when it needs one.

    Args:
        path: the file.
        index: where its frames are.
        pool: keeps the open handles.
        threads: the number of threads of a decoder. 1 is best for single frames, and the only number that is safe in workers.
        frame_bytes: how many bytes of decoded frames are cached.
        is_gray: whether frames are the brightness alone; see :func:`~ndframes.video.planes.to_pixels`.
        errors: what to do about a frame that does not decode, in :meth:`frames` and :meth:`decode_each`: raise an error, or
            use the nearest frame.
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
        self._form = index.form
        if self._form is not None and self.is_gray:
            # The index has the form of frames with their colours.
            self._form = FrameForm((*self._form.shape[:2], 1), self._form.dtype)
        self._pool = pool
        self._threads = threads
        self._token = object()
        self._frames: ClockCache[int, Array] = ClockCache(frame_bytes, _nbytes)
        weakref.finalize(self, pool.discard, self._token)

    @property
    def memory_bytes(self) -> int:
        """The memory that the index takes; cached frames have their own budget."""
        return self.index.times.nbytes + 4 * self.index.keys.nbytes

    def frame(self, number: int) -> Array:
        """The pixels of one frame ``(height, width, channels)``, decoded or from the cache; they must not be written to.

        Raises:
            UnreadableImageError: the frame does not decode.
        """
        for _, pixels in self.frames([number]):
            return pixels
        raise self.missing(number)

    def frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, Array]]:
        """The pixels of frames, as :meth:`frame`, each once, in rising order. Those not in the cache are decoded in one pass.

        They have the form of the video if it is known, as it is for :class:`VideoReader`; otherwise each has its own form.

        Args:
            numbers: from 0 to one below the number of frames, in any order.

        Raises:
            UnreadableImageError: a frame does not decode, nor does any that could replace it.
        """
        requested = sorted(set(numbers))
        # All at once: the cache may drop these frames while others are decoded.
        cached = {number: pixels for number in requested if (pixels := self._frames.get(number)) is not None}
        decoded = self.decode_each([number for number in requested if number not in cached])
        for number in requested:
            pixels = cached.pop(number, None)
            if pixels is None:
                pixels = self.to_pixels(next(decoded)[1], number, self._form)
                self._frames.put(number, pixels)
            yield number, pixels

    def decode_each(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """As :meth:`decode`, but a frame that does not decode is an error, or is replaced by the nearest frame.

        Raises:
            UnreadableImageError: a frame does not decode, nor does any that could replace it.
        """
        requested = sorted(set(numbers))
        decoded = self.decode(requested)
        ahead: tuple[int, VideoFrame] | None = None
        for number in requested:
            ahead = ahead or next(decoded, None)
            if ahead is not None and ahead[0] == number:
                yield ahead
                ahead = None
            elif self.errors == "nearest":
                yield number, self._find_nearest(number, range(len(self.index)))[1]
            else:
                raise self.missing(number)

    def decode(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the frames of these numbers, each once, in rising order; those that do not decode are left out.

        Args:
            numbers: from 0 to one below the number of frames, in any order.
        """
        requested = sorted(set(numbers))
        if not requested:
            return
        with self._pool.borrow(self._token, self._open) as cursor:
            cursor.begin(requested[0])
            for number, following in itertools.zip_longest(requested, requested[1:]):
                with naming_video(self.path, number):
                    frame = cursor.find(number, following)
                if frame is not None:
                    try:
                        yield number, frame
                    # The caller needs no more frames. An exception would make the pool close the decoder.
                    except GeneratorExit:
                        return

    def find_readable(self, numbers: Sequence[int], among: range, errors: VideoErrors) -> dict[int, int]:
        """Find out which frames decode, and which frames replace the others.

        Args:
            numbers: the frames that are requested.
            among: the frames that may replace one.
            errors: what to do about a frame that does not decode.

        Returns:
            The number of the frame to read, by the number of each requested frame that is not left out.

        Raises:
            UnreadableImageError: a frame does not decode, and ``errors="raise"``; or nor does any that could replace it.
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
        """``(height, width, channels)`` of a frame as it is shown."""
        return self.form.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels: uint8, uint16 if a channel has more than 8 bits, or float32."""
        return self.form.dtype

    @property
    def form(self) -> FrameForm:
        """Shape and dtype of a frame: from the index, or from the first frame that decodes.

        Raises:
            UnreadableImageError: none of the first key frames decodes.
        """
        if self._form is None:
            self._form = FrameForm(*find_form(self.decode_first(), is_gray=self.is_gray, name=self.path))
        return self._form

    def to_pixels(self, frame: VideoFrame, number: int | None = None, form: FrameForm | None = None) -> Array:
        """The pixels of a frame of :meth:`decode`.

        Args:
            frame: the frame.
            number: its number, for errors.
            form: the form of the result; ``None``: that of the frame.

        Raises:
            UnreadableImageError: the frame does not fit into the form, or FFmpeg cannot convert it.
        """
        name = self.path if number is None else f"{self.path}: frame {number:,}"
        if self.index.is_gray and stores_color(frame):
            raise UnreadableImageError(
                f"{name} has colours, but the video begins with frames that are brightness alone; split the video where it changes"
            )
        matrix, used = int(frame.colorspace), replace_matrix(frame)
        if used != matrix and not self.is_gray:
            _warn_about_matrix(self.path, matrix, used)
        with naming_video(self.path, number):
            return to_pixels(frame, is_gray=self.is_gray, form=form, name=name)

    def missing(self, number: int) -> UnreadableImageError:
        """The error for a frame that does not decode."""
        return UnreadableImageError(f"{self.path}: frame {number:,} of {len(self.index):,} does not decode")

    def decode_first(self) -> VideoFrame:
        """Decode the first key frame that decodes.

        Raises:
            UnreadableImageError: none of the first key frames decodes.
        """
        # More than one, since the first packet of a cut file is often damaged.
        for _, frame in self.decode(self.index.keys[:8].tolist() or [0]):
            return frame
        raise UnreadableImageError(f"{self.path}: none of its first key frames decodes")

    def _find_nearest(self, number: int, among: range) -> tuple[int, VideoFrame]:
        """The nearest frame that decodes; of two, the earlier one."""
        for distance in range(1, len(self.index)):
            for other in (number - distance, number + distance):
                if other in among:
                    for found in self.decode([other]):
                        return found
        raise self.missing(number)

    def _open(self) -> _Cursor:
        return _Cursor(self.path, self.index, self._threads)


@lru_cache(maxsize=1024)
def _warn_about_matrix(path: str, matrix: int, used: int) -> None:
    """Log that colours are converted with another matrix; once, since a call with the same arguments does nothing."""
    _log.warning(
        "%s has the colour matrix %d of H.273, which FFmpeg does not convert; its colours are read as those of %s, and may "
        "differ from the true ones; pixel_format='gray' gives the brightness as it is stored",
        path,
        matrix,
        {9: "BT.2020", 2: "BT.601"}[used],
    )


def _nbytes(pixels: Array) -> int:
    return pixels.nbytes


class _Target(NamedTuple):
    """The frame that a cursor looks for.

    Attributes:
        time: its timestamp.
        may_skip: whether to skip frames before it that no other frame refers to.
        is_last: whether no frame after it is needed.
    """

    time: int
    may_skip: bool
    is_last: bool


class _Cursor:
    """A decoder and its position in a video.

    It decodes as little as possible, by two means. Frames before the target that no other frame refers to are skipped; H.264
    marks them (HEVC marks them within a layer only). And if no frame after the target is needed, or probably none, the
    decoder is flushed to put the target out at once; otherwise it takes in more packets first, as many as B-frames may have
    put out of order.
    """

    def __init__(self, path: str, index: FrameIndex, threads: int) -> None:
        self._path = path
        self._index = index
        self._threads = threads
        self._container: Any = None
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = len(index)  # a lower limit of the number of the next frame
        self._is_fresh = self._is_spent = self._is_from_start = self._is_cold = False
        self._finds_start = self._marks_unreferenced = False
        self._last = len(index)  # the number that was looked for last
        self._jumps = 0  # the number of the last requests in a row that did not begin a little after the one before
        self._target = _Target(0, False, False)
        self.seek(0)

    def begin(self, number: int) -> None:
        """Record a request for frames from ``number`` on: it tells random access from playing on."""
        first = int(self._index.keys[self._index.find_key(number)])
        self._jumps = 0 if first - 1 <= self._last < number else self._jumps + 1

    def find(self, number: int, following: int | None) -> VideoFrame | None:
        """Decode a frame; ``None`` if it does not decode.

        Args:
            number: the frame.
            following: the frame that is looked for next; ``None`` if that is unknown.
        """
        key = self._index.find_key(number)
        first = int(self._index.keys[key])
        self._last = number
        if self._is_spent or number < self._next or first > self._next:
            self.seek(key)
        self._target = self._choose_target(number, key, following)
        frame = self._decode_until(number, key)
        if frame is None and self._index.has_exact_times:
            # The means of decoding less may be to blame: streams mark frames wrongly, decoders put frames out too early.
            self._target = _Target(self._target.time, False, False)
            self.seek(key)
            frame = self._decode_until(number, key)
        return frame

    def _decode_until(self, number: int, key: int) -> VideoFrame | None:
        while True:
            for current, frame in self._frames:
                self._next = current + 1
                if current == number and self._is_recognized(number, frame):
                    return frame
                if current >= number:
                    break
            else:
                self._next = len(self._index)
            # The frame did not come. The decoder may not have begun at the entry point that it was sent to: try the one before.
            may_go_back = self._is_fresh or self._index.digests is not None
            if not may_go_back or (key == 0 and self._is_from_start):
                return None
            key = max(0, key - 1)
            self.seek(key, from_start=key == 0)

    def _is_recognized(self, number: int, frame: VideoFrame) -> bool:
        """Whether a frame that was counted is the right one: a decoder may leave out frames that another one has put out."""
        digests = self._index.digests
        is_right = digests is None or digest_of(frame) == digests[number]
        self._is_fresh |= not is_right
        return is_right

    def seek(self, key: int, *, from_start: bool = False) -> None:
        """Go to a key frame; to the first one by opening the file again, with ``from_start`` or if a seek does not find it."""
        self._is_fresh, self._is_spent = True, False
        index = self._index
        self._next = 0 if key == 0 else int(index.keys[key])
        self._is_from_start = from_start or self._container is None or (key == 0 and not self._finds_start)
        if self._is_from_start or index.needs_new_decoder:
            self._open()
        # A file that was just opened is at its first key frame.
        if key or not self._is_from_start:
            if self._is_cold:
                self._warm_up()
            try:
                target = int(index.seeks[key])
                seek(self._container, self._stream, index.how, target, self._path, decoder=self._alpha_decoder)
            except UnreadableImageError:
                # Some containers refuse to seek. Without frames, find() goes back to the beginning.
                self._frames = iter(())
                return
        self._mark = NO_MARK if self._is_from_start else int(index.marks[key])
        self._frames = self._by_time(key) if index.has_exact_times else self._by_count(key)

    def _open(self) -> None:
        """Open the file, again if it is open."""
        index = self._index
        self.close()
        self._container = open_container(self._path, is_probed=not index.opens_unprobed)
        self._stream = pick_stream(self._container, self._path, index.stream)
        self._stream.thread_count = self._threads
        self._alpha_decoder = open_alpha_decoder(self._stream, self._path)
        # Other seeks to the first key frame may end behind it.
        self._finds_start = index.has_exact_times and index.how == "pts"
        self._marks_unreferenced = index.has_exact_times and self._stream.codec_context.name == "h264"
        self._is_cold = not index.has_exact_times

    def _warm_up(self) -> None:
        """Decode the first packets, where frames are counted.

        A decoder of MPEG-4 that has met no B-frame yet leaves out others than one that has.
        """
        self._is_cold, self._mark = False, NO_MARK
        for packet in itertools.islice(self._demux(), _WARMING_PACKETS):
            decode_packet(packet, self._alpha_decoder)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _choose_target(self, number: int, key: int, following: int | None) -> _Target:
        """How to look for a frame. A flushed decoder is useless afterwards, which is fine if the next frame needs a seek."""
        index = self._index
        if following is not None:
            is_last = bool(index.keys[index.find_key(following)] > number + 1)
        else:
            is_random = self._jumps >= _JUMPS_OF_RANDOM_ACCESS
            is_last = is_random and number - int(index.keys[key]) < _MOST_REPEATED_FRAMES
        return _Target(int(index.times[number]), self._marks_unreferenced, is_last and index.has_exact_times)

    def _by_time(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with the numbers of their timestamps, from an entry point on."""
        first = int(self._index.keys[key])
        is_trusted = self._is_from_start or self._index.begins_hidden(key)
        damage = _Damage(int(self._index.times[self._next]), is_from_start=self._is_from_start)
        for frame in damage.filter(self._decode_to_target(damage)):
            number = None if frame.pts is None else self._index.find_frame(frame.pts)
            # Not shown, such as what comes before an edit list; or shown before the entry point, and of use to no read from here.
            if number is None or (number < first and not self._is_from_start):
                continue
            if not is_trusted:
                # Key flags may lie: a frame that refers to others, which were not decoded, is not what it should be.
                if not is_complete(frame):
                    return
                is_trusted = True
            yield number, frame
            # After the yield: find() must see whether this frame is the first one since the seek.
            self._is_fresh = False

    def _demux(self) -> Iterator[Packet[Any]]:
        """The packets from here; none if the seek did not end at the packet where it was proved to end."""
        for packet in demux(self._container, self._stream, self._path):
            if self._mark not in (NO_MARK, mark_of(packet)):
                return
            self._mark = NO_MARK
            yield packet

    def _decode_to_target(self, damage: _Damage) -> Iterator[VideoFrame]:
        """The frames that the decoder puts out; if the target is the last frame, those that are in the decoder by then."""
        context = self._stream.codec_context
        is_skipping, sent = None, set()
        for packet in self._demux():
            # Looked up for each packet: find() sets a new target while this generator is suspended.
            time, target = packet.pts, self._target
            may_skip = target.may_skip and time is not None and time < target.time
            if may_skip is not is_skipping:  # set on a change only: it is a call into FFmpeg for every packet
                is_skipping, context.skip_frame = may_skip, "NONREF" if may_skip else "DEFAULT"
            frames = decode_packet(packet, self._alpha_decoder)
            damage.record(packet, is_lost=frames is None)
            yield from frames or ()
            sent.add(time)
            if self._target.is_last and self._target.time in sent:
                # Before the yield: the caller may leave this generator there, and a flushed decoder needs a seek.
                self._is_spent = True
                with naming_video(self._path):
                    yield from (self._alpha_decoder or context).decode(None)
                return

    def _by_count(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, counted from an entry point, for videos whose timestamps cannot be trusted."""
        damage = _Damage(None, is_from_start=self._is_from_start)
        numbers: dict[int, int] = {}  # by the identities of frames, since the filter may hold frames back
        for frame in damage.filter(self._count(key, numbers)):
            yield numbers.pop(id(frame)), frame
            self._is_fresh = False

    def _count(self, key: int, numbers: dict[int, int]) -> Iterator[VideoFrame]:
        first = int(self._index.keys[key])
        number = first - int(self._index.drops[key])
        for packet in self._demux():
            for frame in decode_packet(packet, self._alpha_decoder) or ():
                if number >= first:
                    numbers[id(frame)] = number
                    yield frame
                number += 1


class _Damage:
    """Filters out the frames that differ from what was stored.

    If a packet does not decode, three kinds of frames are lost: its own; all that are decoded after it until the next key
    frame, since they may refer to it; and those that are shown before that key frame but stored after it. A decoder that
    conceals missing data marks the frame as corrupt when it puts it out. B-frames shown before a corrupt frame may refer to
    it, so B-frames are held back until the frame after them is known.

    Args:
        start: the timestamp of the key frame at which decoding began: frames shown before it never decode from there.
        is_from_start: whether that is the first key frame of the file. If it is corrupt there is no better version of it.
    """

    def __init__(self, start: int | None, *, is_from_start: bool) -> None:
        self._start = start
        self._is_from_start = is_from_start
        self._lost: set[int | None] = set()
        self._is_open = False
        self._until: int | None = None

    def record(self, packet: Packet[Any], *, is_lost: bool) -> None:
        """Record the next packet, and whether it decoded."""
        time = packet.pts
        if self._is_open and packet.is_keyframe and not is_lost:
            self._is_open, self._until = False, time
        # Frames that are shown before the start never decode from there: their loss is expected.
        if is_lost and (time is None or self._start is None or time >= self._start):
            self._is_open = True
        is_leading = self._until is not None and time is not None and time < self._until
        if self._is_open or is_leading:
            self._lost.add(time)

    def filter(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """The undamaged ones of these frames, which come in the order in which they are shown."""
        waiting: list[VideoFrame] = []
        is_damaged = are_damaged = False
        is_first_key = self._is_from_start
        for frame in frames:
            is_concealed = frame.is_corrupt and not (is_first_key and not self._lost and frame.key_frame)
            is_first_key = is_first_key and not frame.key_frame
            is_bad = is_concealed or (bool(self._lost) and frame.pts in self._lost)
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
