"""FrameReader: one frame of a video, as an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UnreadableImageError
from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array

__all__ = ["FrameReader"]


class FrameReader(Reader):
    """One frame of a video, as an image.

    Args:
        video: reads the video.
        number: the frame, from 0.
        path: the video, for messages; ``None``: the path of its reader.

    Attributes:
        video: reads the video.

    Raises:
        UnreadableImageError: the video does not have this frame.
    """

    def __init__(self, video: Reader, number: int, *, path: str | None = None) -> None:
        count = video.frame_count or 0
        if not 0 <= number < count:
            raise UnreadableImageError(
                f"{path or video.path} has {count:,} frames, counted from 0; frame {number:,} does not exist"
            )
        # The index belongs to the video: its memory must not count again for each frame.
        facts = replace(video.facts, frame_count=None, tile_frames=1, memory_bytes=4096, is_shareable=False)
        super().__init__(video.path, facts)
        self.video = video
        self._times = [number]

    def count_decoded(self, rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded`."""
        return self.video.count_decoded_of(self._times, rows, cols)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_window`."""
        # The axis of frames is added to the target: the video writes straight into the image.
        self.video.read_frames(self._times, rows, cols, bands, out[None])

    # A reader of videos takes ranges of any step, so no pixel is read to be thrown away.
    read_strided = read_window
