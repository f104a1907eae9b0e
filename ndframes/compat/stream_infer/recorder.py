"""Recorder: the frames of a play as a video."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...video.writer import VideoWriter

if TYPE_CHECKING:
    from ..._typing import Array
    from .player import Player

__all__ = ["Recorder", "find_recording_path"]
# No rate has a larger denominator: 30000/1001.
_LARGEST_DENOMINATOR = 1001
_UNKNOWN_RATE = 25


class Recorder:
    """Writes frames to an H.264 video in MP4, at the rate of the play, to the last frame.

    Args:
        player: whose frames they are.
        recording_path: the video; ``.mp4`` is added where it lacks, and its folder is made.

    Raises:
        OutputError: there can be no file at this path.

    Example:
        >>> import numpy as np
        >>> from ndframes.compat.stream_infer import Dispatcher, OpenCVProducer, Player
        >>> player = Player(Dispatcher(), OpenCVProducer(), np.zeros((20, 32, 48, 3), np.uint8), show_progress=False)
        >>> recorder = Recorder(player, getfixture("tmp_path") / "videos" / "black")
        >>> for frame, index in player.play(fps=5):
        ...     recorder.add_frame(frame)
        >>> recorder.close()
        >>> import ndframes as nf
        >>> video = nf.open(recorder.recording_path)
        >>> len(video), video.fps
        (4, 5.0)
    """

    def __init__(self, player: Player, recording_path: str | os.PathLike[str]) -> None:
        self.player = player
        self.recording_path = find_recording_path(recording_path)
        # Now, so that a wrong path is an error before the first frame; the rate is known when the play has begun.
        VideoWriter(self.recording_path, _UNKNOWN_RATE).abort()
        self._writer: VideoWriter | None = None

    def add_frame(self, frame: Array) -> None:
        """Write one more frame.

        Raises:
            VideoWriteError: it has another size than the first one.
            OutputError: the file cannot be written.
        """
        if self._writer is None:
            self._writer = VideoWriter(self.recording_path, to_rate(self.player.play_fps))
        self._writer.append(_to_rgb(frame, self.player.producer))

    def close(self) -> None:
        """Complete the video; without a frame there is none."""
        if self._writer is not None and not self._writer.closed:
            self._writer.close()


def find_recording_path(path: str | os.PathLike[str]) -> str:
    """The path of a recording. Its folder is made."""
    text = os.fsdecode(path)
    text = text if text.endswith(".mp4") else f"{text}.mp4"
    os.makedirs(os.path.dirname(os.path.abspath(text)), exist_ok=True)
    return text


def to_rate(fps: float) -> Fraction:
    """A rate of frames as a fraction."""
    return Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR) if fps > 0 else Fraction(_UNKNOWN_RATE)


def _to_rgb(frame: Array, producer: Any) -> Array:
    is_rgb = getattr(producer, "format", "bgr24") == "rgb24"
    return frame if is_rgb or frame.ndim == 2 else frame[:, :, ::-1]
