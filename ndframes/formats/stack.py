"""Frames of one size that lie one below the other in a reader's rows: one of them as an image, some as a video."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UnreadableImageError
from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._typing import Array

__all__ = ["FrameReader", "StackPart", "StackReader", "frames_of_rows"]


class StackReader(Reader):
    """Frames that are read as such: rows of a video are rows of its frames. A subclass writes ``read_frames``."""

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        self.read_strided(rows, cols, bands, out, level)

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_strided`."""
        for number, inside, places in frames_of_rows(rows, self.frame_shape[0]):
            self.read_frames([number], inside, cols, bands, out[places][None])

    @abstractmethod
    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""


class FrameReader(Reader):
    """One frame of a video, as an image.

    Args:
        stack: reads the video.
        number: of the frame, from 0.
        path: the video, for messages; ``None``: what the stack is read from.

    Attributes:
        stack: reads the video.

    Raises:
        UnreadableImageError: the video has not so many frames.
    """

    def __init__(self, stack: Reader, number: int, *, path: str | None = None) -> None:
        count = stack.frame_count or 0
        if not 0 <= number < count:
            raise UnreadableImageError(
                f"{path or stack.path} has {count:,} frames, counted from 0; there is none of the number {number:,}"
            )
        height, width, bands = stack.frame_shape
        tile_shape = min(stack.tile_shape[0], height), stack.tile_shape[1]
        super().__init__(
            stack.path,
            replace(stack.facts, shape=(height, width, bands), tile_shape=tile_shape, frame_count=None, tile_frames=1),
        )
        self.stack = stack
        self._number = number

    def count_decoded(self, rows: range, cols: range) -> int:
        """As for those rows of the video."""
        top = self._number * self.shape[0]
        return self.stack.count_decoded(range(rows.start + top, rows.stop + top, rows.step), cols)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_window`."""
        self.stack.read_frames([self._number], rows, cols, bands, out[None])

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        """As :meth:`Reader.read_strided`."""
        self.stack.read_frames([self._number], rows, cols, bands, out[None])


class StackPart(StackReader):
    """Some of the frames of a video, as a video of their own.

    Args:
        stack: reads the video.
        frames: which of its frames.
    """

    def __init__(self, stack: Reader, frames: range) -> None:
        height, width, bands = stack.frame_shape
        shape = len(frames) * height, width, bands
        super().__init__(stack.path, replace(stack.facts, shape=shape, frame_count=len(frames)))
        self.frames = frames
        self._stack = stack

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`."""
        self._stack.read_frames([self.frames[time] for time in times], rows, cols, bands, out)


def frames_of_rows(rows: range, height: int) -> Iterator[tuple[int, range, slice]]:
    """Rows of frames that lie one below the other: in which frame, which rows of it, and their places among ``rows``.

    Args:
        rows: of positive step.
        height: of a frame.

    Example:
        >>> list(frames_of_rows(range(7, 14), 5))
        [(1, range(2, 5), slice(0, 3, None)), (2, range(0, 4), slice(3, 7, None))]
    """
    done = 0
    while done < len(rows):
        number = rows[done] // height
        top = number * height
        stop = min(rows.stop, top + height)
        inside = range(rows[done] - top, stop - top, rows.step)
        yield number, inside, slice(done, done + len(inside))
        done += len(inside)
