"""Counting: an index of frames by decoding the whole video once, for videos whose times do not say which frame is which.

For each frame a digest of its pixels is taken. Then each entry point is tried: what the decoder puts out after the seek is
recognized by these digests. An entry point at which it is not recognized is not used.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UnreadableImageError
from .alpha import AlphaDecoder, open_alpha_decoder
from .index import FrameForm, FrameIndex, decode_packet, demux, open_container, pick_stream
from .landings import NO_MARK, digest_of, is_complete, mark_of, seek
from .planes import find_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .index import Seek
    from .scan import PacketFacts, Scan

__all__ = ["count_frames"]
# Frames by which an entry point is recognized, and the most of them where frames repeat.
_LEAST_RUN, _SHORT_RUN, _LONG_RUN = 3, 24, 256
# All entry points of shorter videos are tried; of others so many that as many frames are decoded as in the first pass.
_ALL_TRIED = 1000
# Entry points by which the way to seek is chosen.
_SAMPLED = 8


class _Entry(NamedTuple):
    """A place at which decoding may begin.

    Attributes:
        place: the number of the first frame that is right.
        drop: the number of frames that are put out before.
        target: where to seek.
        mark: the first packet after the seek.
    """

    place: int
    drop: int
    target: int
    mark: int


class _Shown:
    """The frames that decoding from the beginning shows.

    Args:
        path: the file, for messages.
        is_gray: whether brightness alone is read.

    Attributes:
        form: the widest form of its frames, if they have one size.
    """

    def __init__(self, path: str, *, is_gray: bool) -> None:
        self._path, self._is_gray = path, is_gray
        self.form: FrameForm | None = None
        self.digests: list[int] = []
        self.times: list[int | None] = []
        self._places: dict[int, list[int]] = defaultdict(list)

    def add(self, frame: VideoFrame) -> None:
        """Add the next frame."""
        digest = digest_of(frame)
        self._places[digest].append(len(self.digests))
        self.digests.append(digest)
        self.times.append(frame.pts)
        form = FrameForm(*find_form(frame, is_gray=self._is_gray, name=self._path))
        self.form = form if self.form is None else self.form.widen(form)

    def find(self, run: Sequence[int], times: Sequence[int | None]) -> list[tuple[int, int]]:
        """Where a run of frames occurs: the number of the first frame that is recognized, and how many came before it.

        Several places, if frames repeat.
        """
        for drop in range(max(1, len(run) - _LEAST_RUN + 1)):
            rest = list(run[drop:])
            places = [
                place for place in self._places.get(rest[0], ()) if self.digests[place : place + len(rest)] == rest
            ]
            if len(places) > 1:
                # Times that do not serve to find frames may still tell places apart.
                places = [
                    place for place in places if self.times[place : place + len(rest)] == list(times[drop:])
                ] or places
            if places:
                return [(place, drop) for place in places]
        return []


def count_frames(path: str, scan: Scan) -> FrameIndex:
    """The index of a video by decoding it.

    Raises:
        UnreadableImageError: none of its frames decodes.
    """
    shown = _Shown(path, is_gray=scan.is_gray)
    with open_container(path) as container:
        stream = pick_stream(container, path, scan.stream)
        stream.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever
        decoder = open_alpha_decoder(stream, path)
        for packet in demux(container, stream, path):
            for frame in decode_packet(packet, decoder) or ():
                shown.add(frame)
        if not shown.times:
            raise UnreadableImageError(f"{path}: none of its frames decodes")
        how, entries = _Tries(container, stream, path, shown, decoder).find_entries(scan)
    keys, drops, seeks, marks = (
        np.array([getattr(entry, name) for entry in entries], np.int64) for name in ("place", "drop", "target", "mark")
    )
    times, time_base = _fill_times(shown.times, scan.time_base, scan.rate)
    return FrameIndex(
        times, False, keys, seeks, how, time_base, scan.stream, scan.rate, scan.is_gray, form=shown.form,
        needs_new_decoder=scan.mixes_parameters, marks=marks, drops=drops, digests=np.array(shown.digests, np.int64),
    )  # fmt: skip


class _Tries:
    """Seeks to entry points, and recognizes what is decoded there."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, path: str, shown: _Shown, decoder: AlphaDecoder | None
    ) -> None:
        self._container, self._stream, self._path, self._shown = container, stream, path, shown
        self._decoder = decoder

    def find_entries(self, scan: Scan) -> tuple[Seek, list[_Entry]]:
        """The entry points at which frames are recognized, and how to seek to them; the first one is the beginning."""
        keyed = scan.keyed
        # Some containers, such as RoQ, mark no key frames.
        if scan.mixes_parameters or not keyed:
            return scan.how, [_Entry(0, 0, 0, NO_MARK)]
        run = max(_LEAST_RUN + 1, min(_SHORT_RUN, 2 * len(scan.packets) // len(keyed)))
        if len(scan.packets) > _ALL_TRIED:
            keyed = keyed[:: max(1, run * len(keyed) // len(scan.packets))]
        sample = keyed[:: max(1, len(keyed) // _SAMPLED)]
        ways = [way for way in _list_ways(scan) if all(_target_of(packet, way) is not None for packet in keyed)]
        found: dict[Seek, int] = {way: len(self._try_all(sample, way, run)) for way in ways}
        # The first of equals.
        best = max(found, key=found.__getitem__, default=scan.how)
        entries = self._try_all(keyed, best, run) if ways else {}
        if not any(entries) and ways:
            # No picture is complete in itself, but refreshed in parts.
            entries = self._try_all(keyed, best, max(run, _SHORT_RUN), of_parts=True)
        entries[0] = _Entry(0, 0, 0, NO_MARK)
        return best, [entries[place] for place in sorted(entries)]

    def _try_all(
        self, keyed: Sequence[PacketFacts], how: Seek, run: int, *, of_parts: bool = False
    ) -> dict[int, _Entry]:
        entries: dict[int, _Entry] = {}
        for packet in keyed:
            target = _target_of(packet, how)
            assert target is not None  # noqa: S101
            entry = self._try_twice(how, target, run, keyed) if of_parts else self._try(how, target, run)
            if entry is not None and (entry.place not in entries or entry.drop < entries[entry.place].drop):
                entries[entry.place] = entry
        return entries

    def _try_twice(self, how: Seek, target: int, least: int, keyed: Sequence[PacketFacts]) -> _Entry | None:
        """As :meth:`_try`, where frames refer to others: right only if it does not matter what was decoded before."""
        found = set()
        for other in (keyed[0], keyed[-1]):
            self._try(how, _target_of(other, how) or 0, _LEAST_RUN)
            found.add(self._try(how, target, least, of_parts=True))
        return found.pop() if len(found) == 1 else None

    def _try(self, how: Seek, target: int, least: int, *, of_parts: bool = False) -> _Entry | None:
        """What decoding from one place shows; ``None`` if that is not recognized, or in several places.

        A decoder without the frames that a picture refers to uses what lies in its memory, which may be the right frames by
        chance. So the first frame that counts must not refer to others, unless ``of_parts``.
        """
        shown, mark, found = self._shown, NO_MARK, list[tuple[int, int]]()
        run, times, skipped = list[int](), list[int | None](), 0
        is_at_end = True
        try:
            seek(self._container, self._stream, how, target, self._path, decoder=self._decoder)
            for packet in demux(self._container, self._stream, self._path):
                mark = mark or mark_of(packet)
                for frame in decode_packet(packet, self._decoder) or ():
                    if not run and not (of_parts or is_complete(frame)):
                        skipped += 1
                        continue
                    run.append(digest_of(frame))
                    times.append(frame.pts)
                found = shown.find(run, times) if len(run) >= least else found
                if skipped > least or (len(run) >= least and len(found) < 2) or len(run) >= _LONG_RUN:
                    is_at_end = False
                    break
        # The seek is refused, or no packet is found where it ends.
        except UnreadableImageError:
            return None
        if is_at_end and run:
            # The run ends with the last frame.
            count = len(shown.digests) - len(run)
            found = [(place, drop) for place, drop in shown.find(run, times) if place - drop == count]
        return _Entry(found[0][0], skipped + found[0][1], target, mark) if len(found) == 1 else None


def _list_ways(scan: Scan) -> Iterator[Seek]:
    """The ways to seek, the most promising one first."""
    if scan.how == "byte":
        yield "byte"
    yield from ("dts", "pts")


def _target_of(packet: PacketFacts, how: Seek) -> int | None:
    if how == "byte":
        return packet.position if packet.position >= 0 else None
    return packet.dts if how == "dts" else packet.pts


def _fill_times(
    times: list[int | None], time_base: Fraction, rate: Fraction | None
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Fraction]:
    """Increasing times and their unit: those of the frames if they increase, else times computed from the frame rate."""
    if None not in times and all(later > earlier for earlier, later in itertools.pairwise(times)):  # type: ignore[operator]
        return np.array(times, np.int64), time_base
    # The unit of the container may be longer than a frame, such as the millisecond of Matroska at 2,000 frames a second.
    return np.arange(len(times), dtype=np.int64), 1 / (rate or Fraction(25))
