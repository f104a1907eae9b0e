"""Recorder: the frames of a source as a video."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..video.writer import VideoWriter

if TYPE_CHECKING:
    from .values import Frame

__all__ = ["Recorder"]
_DEFAULT_FPS = 25.0
_PROBED_FRAMES = 8


class Recorder:
    """Writes frames to a video, at the rate at which the source gives them out.

    Args:
        path: the video.
        source: the name of the source.
        annotated: whether frames are recorded as the functions of the user leave them.
        fps: frames per second; ``None``: measured from the times of the first frames.
        is_bgr: whether the frames have the channels of OpenCV.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: str,
        *,
        annotated: bool,
        fps: float | None,
        is_bgr: bool = False,
    ) -> None:
        self.path = os.fsdecode(path)
        self.source = source
        self.annotated = annotated
        self._fps = fps
        self._is_bgr = is_bgr
        self._waiting: list[tuple[Any, float]] = []
        # Made now, so that a wrong path is an error before the run.
        self._writer: VideoWriter | None = VideoWriter(self.path, fps) if fps is not None else None
        if fps is None:
            VideoWriter(self.path, _DEFAULT_FPS).abort()

    def write(self, image: Any, frame: Frame) -> None:
        """Record a frame.

        Raises:
            VideoWriteError, OutputError: it cannot be written.
        """
        if self._is_bgr and np.ndim(image) == 3:
            image = image[:, :, ::-1]
        if self._writer is not None:
            self._writer.append(image)
            return
        # Copied: a function of the user may return the same array again and again.
        self._waiting.append((np.array(image), frame.time))
        if len(self._waiting) == _PROBED_FRAMES:
            self._begin()

    def close(self) -> None:
        """Complete the video; without a frame there is none."""
        if self._writer is None and self._waiting:
            self._begin()
        if self._writer is not None:
            if len(self._writer):
                self._writer.close()
            else:
                self._writer.abort()

    def discard(self) -> None:
        """Leave no video, of a run that does not begin."""
        if self._writer is not None:
            self._writer.abort()

    def _begin(self) -> None:
        times = [time for _, time in self._waiting]
        span = times[-1] - times[0]
        self._writer = VideoWriter(self.path, round((len(times) - 1) / span, 3) if span > 0 else _DEFAULT_FPS)
        for image, _ in self._waiting:
            self._writer.append(image)
        self._waiting.clear()
