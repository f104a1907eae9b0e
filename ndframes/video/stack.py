"""VideoStack: a video file as a reader, its frames one below the other; and how it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnreadableImageError
from ..formats.reader import ReaderFacts
from ..formats.stack import StackReader, frames_of_rows
from ..geometry.regions import to_slice
from ..geometry.tiling import bounding_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from .reader import VideoReader

__all__ = ["VideoStack"]


class VideoStack(StackReader):
    """The frames of a video file. Frame ``i`` is the ``i``-th one that decoding from the beginning shows.

    Args:
        video: decodes them.
    """

    def __init__(self, video: VideoReader) -> None:
        height, width, bands = video.frame_shape
        count = len(video.index)
        facts = ReaderFacts(
            format="video",
            shape=(count * height, width, bands),
            dtype=video.dtype,
            tile_shape=(height, width),
            frame_count=count,
            memory_bytes=4096 + video.memory_bytes,
        )
        super().__init__(video.path, facts)
        self.video = video

    def count_decoded(self, rows: range, cols: range) -> int:
        """As :meth:`count_decoded_of`."""
        numbers = [number for number, _, _ in frames_of_rows(bounding_range(rows), self.frame_shape[0])]
        return self.count_decoded_of(numbers, range(1), cols)

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """The frames that are touched, and those before them, from a key frame on, without which they do not decode."""
        index = self.video.index
        decoded, behind = 0, 0
        for number in sorted(set(times)) if len(rows) and len(cols) else ():
            first = max(behind, int(index.keys[index.find_key(number)]))
            decoded += number + 1 - first
            behind = number + 1
        return decoded

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`: decoded in rising order, each once."""
        picks = None if bands == self.all_bands else list(bands)
        inside = to_slice(rows), to_slice(cols)
        places: dict[int, list[int]] = {}
        for place, time in enumerate(times):
            places.setdefault(time, []).append(place)
        for number, pixels in self.video.frames(places):
            if pixels.shape != self.frame_shape:
                raise UnreadableImageError(
                    f"{self.path}: frame {number:,} is {pixels.shape[:2]} (height, width), the first one "
                    f"{self.frame_shape[:2]}; frames of several sizes are not read as one array"
                )
            window = pixels[inside] if picks is None else pixels[inside][:, :, picks]
            for place in places[number]:
                out[place] = window
