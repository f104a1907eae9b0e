"""Proofs: whether reading by the times of packets gives the frames that decoding from the beginning shows.

Each entry point is proved as reading uses it: seek to it, compare the first packet with that of the scan, and the times of the
frames that follow with those of the index. A small file is proved whole. Of a large one, frames are decoded at a few places,
and at the first one only if its container is usually right; the others are compared whenever they are used, see
:mod:`~.cursor`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import UnreadableImageError
from .alpha import open_alpha_decoder
from .index import FrameForm, decode_packet, demux, open_container, pick_stream
from .landings import NO_MARK, is_complete, mark_of, seek
from .planes import find_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .._typing import Array
    from .index import FrameIndex
    from .scan import Scan

__all__ = ["prove"]
#: What decoding from an entry point shows: the frames of the index, those of another place, or other frames.
_Verdict = Literal["right", "elsewhere", "wrong"]
# Pixels that are decoded for proofs: four frames of 1080p, all of a short video of small frames.
_PROVED_PX = 8 << 20
_LEAST_FRAMES = 2
_SHARES = (0, 1, 1 / 2, 3 / 4, 1 / 4, 7 / 8, 1 / 8, 5 / 8, 3 / 8)


def prove(
    container: InputContainer, stream: VideoStream, path: str, scan: Scan, index: FrameIndex
) -> FrameIndex | None:
    """The index with the entry points that are proved, and those that are too many to be proved now.

    Args:
        container: the file, opened as reading opens it.
        stream: the stream in it.
        path: the file, for messages.
        scan: its packets.
        index: what their times say.

    Returns:
        ``None`` if other frames are shown than the times say, or if none of several seeks in a large file ends where it should.
    """
    prover = _Prover(container, stream, path, index, {packet.pts for packet in scan.packets if not packet.is_shown})
    if index.how != "byte" and not scan.packets[0].is_key and not prover.begins_at_first_key():
        return None
    context = stream.codec_context
    budget = _PROVED_PX // (context.width * context.height or _PROVED_PX)
    is_kept = np.ones(len(index.keys), bool)
    # The beginning is the first one: what a new decoder shows there must not depend on other proofs.
    is_small = len(index) <= budget
    plan = _plan_whole(index, is_kept) if is_small else _plan_some(index, budget, scan)
    tried = set()
    for entry, count in plan:
        verdict = prover.check(entry, count)
        if verdict == "wrong":
            return None
        is_kept[entry] = verdict == "right" or entry == 0  # reading from the beginning needs no seek
        tried.add(entry)
    if not is_small and len(tried) > 1 and is_kept[[*tried]].sum() == 1:
        return None
    if index.needs_new_decoder:
        is_kept[1:] = False
    index = replace(_keep(index, is_kept), form=prover.form)
    return prover.trim_end(index) if scan.packets[-1].is_cut else index


def _keep(index: FrameIndex, is_kept: Array) -> FrameIndex:
    """The index with some of its entry points."""
    arrays: dict[str, Any] = {name: getattr(index, name)[is_kept] for name in ("keys", "seeks", "marks", "drops")}
    return replace(index, **arrays)


def _plan_whole(index: FrameIndex, is_kept: Array) -> Iterator[tuple[int, int]]:
    """All entry points, each with the number of its frames up to the next one that is kept.

    One frame of that entry, too: it ends a run of frames that are put out late.
    """
    keys = [*index.keys.tolist(), len(index)]
    yield 0, keys[1] - keys[0] + 1
    end = len(index)
    for entry in range(len(index.keys) - 1, 0, -1):
        yield entry, end - keys[entry] + 1
        end = keys[entry] if is_kept[entry] else end
    if end > keys[1]:
        yield 0, end - keys[0] + 1


def _plan_some(index: FrameIndex, budget: int, scan: Scan) -> Iterator[tuple[int, int]]:
    """Some entry points, each with the number of frames to prove; 0 compares the first packet alone."""
    last = len(index.keys) - 1
    # After the beginning the end: a file that was joined from others differs there, if anywhere.
    chosen = dict.fromkeys(round(share * last) for share in _SHARES)
    if scan.is_consistent:
        yield from ((entry, 0 if entry else 1) for entry in chosen)
        return
    count = max(_LEAST_FRAMES, budget // len(chosen))
    yield from ((entry, count) for entry in list(chosen)[: max(2, budget // count)])


class _ElsewhereError(Exception):
    """A seek does not end where the scan says."""


class _Prover:
    """Decodes from entry points, and compares what comes with the index."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, path: str, index: FrameIndex, hidden: set[int | None]
    ) -> None:
        self._container, self._stream, self._path, self._index, self._hidden = container, stream, path, index, hidden
        self._decoder = open_alpha_decoder(stream, path)
        self.form: FrameForm | None = None

    def check(self, entry: int, count: int) -> _Verdict:
        """Decode ``count`` frames from an entry point; with 0, compare the first packet alone.

        Args:
            entry: its position in the index; 0 begins at the first packet.
            count: the number of frames.
        """
        index = self._index
        first = expected = int(index.keys[entry])
        end = min(first + count, len(index))
        is_damaged = False
        try:
            for frames in self._decode(entry, count):
                for frame in self._list_shown(frames or (), first):
                    # A damaged frame need not be complete, but it is still counted.
                    is_damaged = is_damaged or frame.is_corrupt
                    is_right = is_complete(frame) or frame.is_corrupt or index.begins_hidden(entry)
                    is_incomplete = expected == first and not is_right
                    number = None if frame.pts is None else index.find_frame(frame.pts)
                    # Decoders leave out frames that refer to a damaged one. A stored time numbers the frame behind them.
                    if is_damaged and number is not None and number > expected and index.how != "byte":
                        return "right"
                    if is_incomplete or number != expected:
                        return "wrong"
                    expected += 1
                if frames is None or expected >= end:  # damage tells nothing about the index
                    return "right"
        except _ElsewhereError:
            return "elsewhere"
        return "wrong"  # the video ends before

    def begins_at_first_key(self) -> bool:
        """Whether the decoder shows nothing of what the file holds before its first key frame.

        Decoders of H.264 do not; those of MPEG-4, WMV and others show frames that lack what they refer to.
        """
        index = self._index
        # From the first byte: a seek to the first key frame would skip the packets before it. Files in which a seek goes to a byte
        # begin there anyway.
        with open_container(self._path, is_probed=not index.opens_unprobed) as container:
            stream = pick_stream(container, self._path, index.stream)
            stream.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever
            decoder = open_alpha_decoder(stream, self._path)
            for packet in demux(container, stream, self._path):
                for frame in self._list_shown(decode_packet(packet, decoder) or (), 0):
                    return frame.pts is not None and index.find_frame(frame.pts) == 0
        return True

    def trim_end(self, index: FrameIndex) -> FrameIndex:
        """The index of a file that ends within a packet, without the frames that its last packets do not show."""
        self._index = index
        first = int(index.keys[-1])
        shown = set()
        try:
            for frames in self._decode(len(index.keys) - 1, len(index) - first + 1):
                shown |= {frame.pts for frame in self._list_shown(frames or (), first)}
        except _ElsewhereError:
            return index
        is_shown = np.isin(index.times, [time for time in shown if time is not None])
        is_shown[:first] = True
        kept = _keep(index, index.keys < max(1, int(is_shown.sum())))
        return replace(kept, times=index.times[is_shown])

    def _decode(self, entry: int, count: int) -> Iterator[list[VideoFrame] | None]:
        """What the decoder puts out for each packet from an entry point on; ``None`` where a packet does not decode.

        Raises:
            _ElsewhereError: the seek ends at another packet, or at none.
        """
        index = self._index
        target = 0 if entry == 0 and index.how == "byte" else int(index.seeks[entry])
        mark = NO_MARK if entry == 0 else int(index.marks[entry])
        try:
            seek(self._container, self._stream, index.how, target, self._path, decoder=self._decoder)
            for packet in demux(self._container, self._stream, self._path):
                if mark not in (NO_MARK, mark_of(packet)):
                    raise _ElsewhereError
                mark = NO_MARK
                frames = decode_packet(packet, self._decoder) if count else []
                if frames == [] and count == 1:
                    # Put out at once, without the packets that a decoder takes in first to bring frames into order.
                    frames = (self._decoder or self._stream.codec_context).decode(None)
                yield frames
        # The seek is refused, or no packet is found where it ends, as in DV files that end in zeros.
        except UnreadableImageError as error:
            raise _ElsewhereError from error

    def _list_shown(self, frames: Iterable[VideoFrame], first: int) -> Iterator[VideoFrame]:
        """Those of some decoded frames that are not hidden, nor shown before an entry point."""
        for frame in frames:
            number = None if frame.pts is None else self._index.find_frame(frame.pts)
            if number is None and frame.pts in self._hidden:
                continue
            if number is None or number >= first:
                form = FrameForm(*find_form(frame, is_gray=self._index.is_gray, name=self._path))
                self.form = form if self.form is None else self.form.widen(form)
                yield frame
