"""Cursor: a decoder and its position in a video."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UnreadableImageError
from .alpha import open_alpha_decoder
from .index import decode_packet, demux, naming_video, open_container, pick_stream
from .landings import NO_MARK, digest_of, is_complete, mark_of, seek

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.packet import Packet
    from av.video.frame import VideoFrame

    from ..system.stamp import OpeningGuard
    from .index import FrameIndex

__all__ = ["Cursor"]
_B_FRAME = 3  # FFmpeg's number
# After this many jumps in a row, the next request is expected to be a jump, too.
_JUMPS_OF_RANDOM_ACCESS = 3
# If it is not, at most this many frames are decoded twice.
_MOST_REPEATED_FRAMES = 16
# What a decoder of these codecs puts out after a seek depends on the B-frame that it met first.
_STATEFUL_CODECS = frozenset(["mpeg4"])
_WARMING_PACKETS = 16


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


class Cursor:
    """A decoder and its position in a video.

    It decodes as little as possible, by two means. Frames before the target that no other frame refers to are skipped; H.264
    marks them (HEVC marks them within a layer only). And if no frame after the target is needed, or probably none, the
    decoder is flushed to put the target out at once; otherwise it takes in more packets first, as many as B-frames may have
    put out of order.

    Args:
        path: the file.
        index: where its frames are.
        guard: the context in which the file is opened.
    """

    def __init__(self, path: str, index: FrameIndex, guard: OpeningGuard = nullcontext) -> None:
        self._path = path
        self._index = index
        self._guard = guard
        self._container: Any = None
        self._stream: Any = None
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
        is_new = self._is_spent or number < self._next or first > self._next
        if is_new:
            self.seek(key)
        target = self._target = self._choose_target(number, key, following)
        frame = self._decode_until(number, key)
        if not self._index.has_exact_times:
            return frame
        if frame is None and target.may_skip and not is_new:
            # What came before included a frame that no other refers to. If it is damaged, skipping it leaves this one whole.
            self.seek(key)
            frame = self._decode_until(number, key)
        if frame is None:
            # The means of decoding less may be to blame: streams mark frames wrongly, decoders put frames out too early.
            self._target = _Target(target.time, False, False)
            self.seek(key)
            frame = self._decode_until(number, key)
        return frame

    def _decode_until(self, number: int, key: int) -> VideoFrame | None:
        while True:
            frame = self._go_on(number)
            if frame is not None:
                return frame
            # The frame did not come. The decoder may not have begun at the entry point that it was sent to: try the one before.
            may_go_back = self._is_fresh or self._index.digests is not None
            if not may_go_back or (key == 0 and self._is_from_start):
                return None
            key = max(0, key - 1)
            self.seek(key, from_start=key == 0)

    def _go_on(self, number: int) -> VideoFrame | None:
        """Decode a frame from the current position on; ``None`` if it does not come."""
        for current, frame in self._frames:
            self._next = current + 1
            if current == number and self._is_recognized(number, frame):
                return frame
            if current >= number:
                return None
        self._next = len(self._index)
        return None

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
        with self._guard():
            self._container = open_container(self._path, is_probed=not index.opens_unprobed)
        self._stream = pick_stream(self._container, self._path, index.stream)
        self._set_threads()
        self._alpha_decoder = open_alpha_decoder(self._stream, self._path)
        # Other seeks to the first key frame may end behind it.
        self._finds_start = index.has_exact_times and index.how == "pts"
        self._marks_unreferenced = index.has_exact_times and self._stream.codec_context.name == "h264"
        self._is_cold = not index.has_exact_times or self._stream.codec_context.name in _STATEFUL_CODECS

    def _set_threads(self) -> None:
        """Choose the threads of the decoder, before it is first used."""
        self._stream.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever

    def _warm_up(self) -> None:
        """Decode the first packets, where frames are counted, and those of MPEG-4.

        A decoder of MPEG-4 that has met no B-frame yet leaves out others than one that has. The first one that it meets tells
        it how far apart fields are: after a seek, that may be one without the frames that it refers to.
        """
        self._is_cold, self._mark = False, NO_MARK
        for packet, _ in itertools.islice(self._demux(), _WARMING_PACKETS):
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
        damage = Damage(int(self._index.times[self._next]), is_from_start=self._is_from_start)
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

    def _demux(self) -> Iterator[tuple[Packet[Any], bool]]:
        """The packets from here, and whether the file ends within each; none if the seek ended at another one than was proved."""
        flagged = None
        packets = demux(self._container, self._stream, self._path)
        try:
            first = [*itertools.islice(packets, 1)]
        except UnreadableImageError:
            if self._is_from_start:
                raise
            # No packet is found where the seek ended, as in DV files that end in zeros. Without frames, find() goes back.
            return
        for packet in itertools.chain(first, packets):
            if self._mark not in (NO_MARK, mark_of(packet)):
                return
            self._mark = NO_MARK
            if flagged is not None:
                yield flagged, not packet.size
            # FFmpeg's parsers copy the flag of a packet that is cut to others before it.
            flagged = packet if packet.is_corrupt else None
            if flagged is None:
                yield packet, False

    def _decode_to_target(self, damage: Damage) -> Iterator[VideoFrame]:
        """The frames that the decoder puts out; if the target is the last frame, those that are in the decoder by then."""
        context = self._stream.codec_context
        is_skipping, sent = None, set()
        for packet, is_cut in self._demux():
            # Looked up for each packet: find() sets a new target while this generator is suspended.
            time, target = packet.pts, self._target
            may_skip = target.may_skip and time is not None and time < target.time
            if may_skip is not is_skipping:  # set on a change only: it is a call into FFmpeg for every packet
                is_skipping, context.skip_frame = may_skip, "NONREF" if may_skip else "DEFAULT"
            frames = self._send(packet)
            # Some decoders fill the rest of a picture that is cut with what lies in their memory.
            damage.record(packet, is_lost=frames is None or is_cut)
            yield from frames or ()
            sent.add(time)
            if self._target.is_last and self._target.time in sent:
                # Before the yield: the caller may leave this generator there, and a flushed decoder needs a seek.
                self._is_spent = True
                with naming_video(self._path):
                    yield from (self._alpha_decoder or context).decode(None)
                return

    def _send(self, packet: Packet[Any]) -> list[VideoFrame] | None:
        """The frames that the decoder puts out for a packet; ``None`` if the packet does not decode."""
        return decode_packet(packet, self._alpha_decoder)

    def _by_count(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, counted from an entry point, for videos whose timestamps cannot be trusted."""
        damage = Damage(None, is_from_start=self._is_from_start)
        numbers: dict[int, int] = {}  # by the identities of frames, since the filter may hold frames back
        for frame in damage.filter(self._count(key, numbers)):
            yield numbers.pop(id(frame)), frame
            self._is_fresh = False

    def _count(self, key: int, numbers: dict[int, int]) -> Iterator[VideoFrame]:
        first = int(self._index.keys[key])
        number = first - int(self._index.drops[key])
        for packet, _ in self._demux():
            for frame in decode_packet(packet, self._alpha_decoder) or ():
                if number >= first:
                    numbers[id(frame)] = number
                    yield frame
                number += 1


class Damage:
    """Filters out the frames that differ from what was stored.

    If a packet does not decode, three kinds of frames are lost: its own; all that are decoded after it until the next key
    frame, since they may refer to it; and those that are shown before that key frame but stored after it. A decoder that
    conceals missing data marks the frame as corrupt when it puts it out. B-frames shown before a corrupt frame may refer to
    it, so B-frames are held back until the frame after them is known; those that were decoded before it do not.

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
        self._order: dict[int | None, int] = {}  # of decoding, by the times of the frames that are not put out yet
        self._count = 0

    def record(self, packet: Packet[Any], *, is_lost: bool) -> None:
        """Record the next packet, and whether it decoded."""
        time = packet.pts
        self._order[time] = self._count
        self._count += 1
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
        waiting: list[tuple[int, VideoFrame]] = []  # with their places in the order of decoding
        is_damaged = are_damaged = False
        is_first_key = self._is_from_start
        for frame in frames:
            is_concealed = frame.is_corrupt and not (is_first_key and not self._lost and frame.key_frame)
            is_first_key = is_first_key and not frame.key_frame
            is_bad = is_concealed or (bool(self._lost) and frame.pts in self._lost)
            order = self._order.pop(frame.pts, -1)
            if frame.pict_type == _B_FRAME:
                are_damaged |= is_bad  # some B-frames refer to others
                if are_damaged:
                    waiting.clear()
                elif not is_damaged:
                    waiting.append((order, frame))
                continue
            are_damaged = False
            if frame.key_frame and not is_bad:
                is_damaged = False
            elif is_bad:
                is_damaged = True
                waiting = [(earlier, bframe) for earlier, bframe in waiting if earlier < order]
            yield from (bframe for _, bframe in waiting)
            waiting.clear()
            if not is_damaged:
                yield frame
        yield from (bframe for _, bframe in waiting)
