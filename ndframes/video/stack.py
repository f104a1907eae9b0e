"""VideoStack: a video file as a reader, its frames one below the other; and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UnreadableImageError
from ..formats.stack import StackReader, frames_of_rows
from ..regions import bounding_range, to_slice
from .reader import VideoReader
from .store import find_index

if TYPE_CHECKING:
    from ..cache.store import Cache
    from ..formats.handles import HandlePool
    from ..formats.reader import Array
    from ..pathinfo import ChannelInfo
    from ..stamp import SourceStamp

__all__ = ["VideoStack", "open_video"]


def open_video(
    info: ChannelInfo,
    stamp: SourceStamp | None,
    cache: Cache,
    pool: HandlePool,
    *,
    frame_bytes: int = 64 * 2**20,
) -> VideoStack:
    """Open a video, its frames found before if need be.

    Args:
        info: the file.
        stamp: its state.
        cache: keeps the index of its frames.
        pool: lends the handles.
        frame_bytes: how much of the frames decoded last is kept in memory.

    Raises:
        SourceError: it is no video that decodes.
    """
    index = find_index(info, stamp, cache, pool)
    is_gray = info.pixel_format == "gray"
    errors: Any = info.frame_errors
    return VideoStack(VideoReader(info.path, index, pool, frame_bytes=frame_bytes, is_gray=is_gray, errors=errors))


class VideoStack(StackReader):
    """The frames of a video file. Frame ``i`` is the ``i``-th one that decoding from the beginning shows.

    Args:
        video: decodes them.
    """

    def __init__(self, video: VideoReader) -> None:
        height, width, bands = video.frame_shape
        count = len(video.index)
        super().__init__(
            video.path,
            format="video",
            shape=(count * height, width, bands),
            dtype=video.dtype,
            tile_shape=(height, width),
            memory_bytes=4096 + video.memory_bytes,
        )
        self.frame_count = count
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
