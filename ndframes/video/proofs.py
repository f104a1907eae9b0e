"""Proofs: whether reading by the times of packets gives the frames that decoding from the beginning shows.

Each entry point is proved as reading uses it: seek to it, compare the first packet with that of the scan, and the times of the
frames that follow with those of the index. A small file is proved whole. Of a large one some entry points are proved, and the
others are compared when they are first used, see :mod:`~.decoder`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import UnreadableImageError
from .index import FrameForm, decode_packet, demux
from .landings import NO_MARK, PREDICTED, mark_of, seek
from .planes import to_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .index import FrameIndex
    from .scan import Scan

__all__ = ["prove"]
#: What decoding from an entry point shows: the frames of the index, those of another place, or other frames.
_Verdict = Literal["right", "elsewhere", "wrong"]
# Pixels that are decoded for proofs: four frames of 1080p, all of a short video of small frames.
_PROVED_PX = 8 << 20
_LEAST_FRAMES = 2


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
        ``None`` if other frames are shown than the times say.
    """
    prover = _Prover(container, stream, path, index, {packet.pts for packet in scan.packets if not packet.is_shown})
    verdict = prover.check(0, _LEAST_FRAMES)
    if verdict == "wrong":
        return None
    frame_px = math.prod(prover.form.shape[:2]) if prover.form is not None else _PROVED_PX
    budget = max(_LEAST_FRAMES, _PROVED_PX // frame_px)
    is_kept = np.ones(len(index.keys), bool)
    for entry, count in _plan(index, budget):
        verdict = prover.check(entry, count)
        if verdict == "wrong":
            return None
        is_kept[entry] = verdict == "right"
    is_kept[0] = True  # reading from the beginning needs no seek
    arrays: dict[str, Any] = {name: getattr(index, name)[is_kept] for name in ("keys", "seeks", "marks", "drops")}
    return replace(index, form=prover.form, **arrays)


def _plan(index: FrameIndex, budget: int) -> Iterator[tuple[int, int]]:
    """The entry points to prove, each with the number of its frames."""
    ends = np.append(index.keys[1:], len(index))
    if len(index) <= budget:
        # One frame of the next entry, too: it ends a run of frames that are put out late.
        yield from enumerate((ends + 1 - index.keys).tolist())
        return
    count = max(_LEAST_FRAMES, budget // 4)
    last = len(index.keys) - 1
    # The end first: a file that was joined from others differs there, if anywhere.
    chosen = dict.fromkeys(round(share * last) for share in (1, 0.5, 0.75, 0.25)[: budget // count - 1])
    yield from ((entry, count) for entry in chosen if entry)


class _Prover:
    """Decodes from entry points, and compares what comes with the index."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, path: str, index: FrameIndex, hidden: set[int | None]
    ) -> None:
        self._container, self._stream, self._path, self._index, self._hidden = container, stream, path, index, hidden
        self.form: FrameForm | None = None

    def check(self, entry: int, count: int) -> _Verdict:
        """Decode ``count`` frames from an entry point.

        Args:
            entry: its position in the index; 0 begins at the first packet.
            count: the number of frames.
        """
        index = self._index
        first = int(index.keys[entry])
        count = min(count, len(index) - first)
        target = 0 if entry == 0 and index.how == "byte" else int(index.seeks[entry])
        expected = first
        try:
            seek(self._container, self._stream, index.how, target, self._path)
        except UnreadableImageError:
            return "elsewhere"
        mark = NO_MARK if entry == 0 else int(index.marks[entry])
        for packet in demux(self._container, self._stream, self._path):
            if mark not in (NO_MARK, mark_of(packet)):
                return "elsewhere"
            mark = NO_MARK
            frames = decode_packet(packet)
            for frame in self._list_shown(frames or (), first):
                if frame.is_corrupt:
                    frames = None
                    break
                is_incomplete = expected == first and frame.pict_type in PREDICTED and not index.begins_hidden(entry)
                if is_incomplete or frame.pts is None or index.find_frame(frame.pts) != expected:
                    return "wrong"
                expected += 1
                if expected - first >= count:
                    return "right"
            if frames is None:  # damaged, which tells nothing about the index
                return "right"
        return "wrong"  # the video ends before

    def _list_shown(self, frames: Iterable[VideoFrame], first: int) -> Iterator[VideoFrame]:
        """Those of some decoded frames that are not hidden, nor shown before an entry point."""
        for frame in frames:
            number = None if frame.pts is None else self._index.find_frame(frame.pts)
            if number is None and frame.pts in self._hidden:
                continue
            if number is None or number >= first:
                if self.form is None:
                    pixels = to_pixels(frame, is_gray=self._index.is_gray)
                    self.form = FrameForm((pixels.shape[0], pixels.shape[1], pixels.shape[2]), pixels.dtype)
                yield frame
