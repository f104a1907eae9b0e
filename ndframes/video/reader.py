"""VideoReader: the frames of a video file, read as those of any other reader of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formats.reader import Reader, ReaderFacts
from ..geometry.regions import to_slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from .decoder import VideoDecoder

__all__ = ["VideoReader"]


class VideoReader(Reader):
    """The frames of a video file. Frame ``i`` is the ``i``-th one that decoding from the beginning shows.

    Args:
        decoder: decodes them.

    Attributes:
        decoder: decodes them.
    """

    def __init__(self, decoder: VideoDecoder) -> None:
        shape = decoder.frame_shape
        facts = ReaderFacts(
            format="video",
            shape=shape,
            dtype=decoder.dtype,
            tile_shape=shape[:2],
            frame_count=len(decoder.index),
            memory_bytes=4096 + decoder.memory_bytes,
        )
        super().__init__(decoder.path, facts)
        self.decoder = decoder

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded_of`: these frames, and those since the key frames before, which they refer to."""
        index = self.decoder.index
        count, behind = 0, 0
        for number in sorted(set(times)) if len(rows) and len(cols) else ():
            first = max(behind, int(index.keys[index.find_key(number)]))
            count += number + 1 - first
            behind = number + 1
        return count

    def find_readable(self, numbers: Sequence[int], among: range, *, is_replaced: bool) -> dict[int, int]:
        """As :meth:`Reader.find_readable`, by decoding the frames."""
        return self.decoder.find_readable(numbers, among, "nearest" if is_replaced else "skip")

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`: each frame is decoded once, in rising order."""
        if not out.size:
            return
        picks = None if bands == self.all_bands else list(bands)
        inside = to_slice(rows), to_slice(cols)
        # The decoder returns each frame once and in rising order; the caller may want it several times, anywhere.
        places: dict[int, list[int]] = {}
        for place, time in enumerate(times):
            places.setdefault(time, []).append(place)
        for number, pixels in self.decoder.frames(places):
            window = pixels[inside] if picks is None else pixels[inside][:, :, picks]
            for place in places[number]:
                out[place] = window
