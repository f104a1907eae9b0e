"""VideoDecoder: decodes exactly the frames of a video that are requested, by their numbers."""

from __future__ import annotations

import itertools
import logging
import weakref
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UnreadableImageError
from ..system.memory import ClockCache
from .cursor import Cursor
from .index import FrameForm, naming_video
from .planes import find_form, replace_matrix, to_pixels
from .samples import stores_color
from .threaded import LongRuns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from av.video.frame import VideoFrame

    from .._typing import Array
    from ..system.handles import HandlePool
    from ..system.stamp import OpeningGuard
    from .index import FrameIndex

__all__ = ["VideoDecoder", "VideoErrors"]
_log = logging.getLogger(__name__)
#: What to do about a frame that does not decode: raise an error, leave it out, or use the nearest frame that decodes.
VideoErrors = Literal["raise", "skip", "nearest"]


class VideoDecoder:
    """Decodes frames of one video by their numbers. Each thread and process opens a handle of its own when it needs one.

    Args:
        path: the file.
        index: where its frames are.
        pool: keeps the open handles.
        frame_bytes: how many bytes of decoded frames are cached.
        is_gray: whether frames are the brightness alone; see :func:`~ndframes.video.planes.to_pixels`.
        errors: what to do about a frame that does not decode, in :meth:`frames` and :meth:`decode_each`: raise an error, or
            use the nearest frame.
        guard: the context in which the file is opened, which may be long after it was indexed.
    """

    def __init__(
        self,
        path: str,
        index: FrameIndex,
        pool: HandlePool,
        *,
        frame_bytes: int = 64 * 2**20,
        is_gray: bool = False,
        errors: VideoErrors = "raise",
        guard: OpeningGuard = nullcontext,
    ) -> None:
        self.path = path
        self.index = index
        self.errors = errors
        self.is_gray = is_gray or index.is_gray
        self.is_scaled = not is_gray
        self._form = index.form
        if self._form is not None and self.is_gray:
            # The index has the form of frames with their colours.
            self._form = FrameForm((*self._form.shape[:2], 1), self._form.dtype)
        self._pool = pool
        self._guard = guard
        self._runs = LongRuns(path, index, guard)
        self._token = object()
        self._frames: ClockCache[int, Array] = ClockCache(frame_bytes, _nbytes)
        weakref.finalize(self, pool.discard, self._token)

    @property
    def memory_bytes(self) -> int:
        """The memory that the index takes; cached frames have their own budget."""
        return self.index.times.nbytes + 4 * self.index.keys.nbytes

    def frame(self, number: int) -> Array:
        """The pixels of one frame ``(height, width, channels)``, decoded or from the cache; they must not be written to.

        Raises:
            UnreadableImageError: the frame does not decode.
        """
        for _, pixels in self.frames([number]):
            return pixels
        raise self.missing(number)

    def frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, Array]]:
        """The pixels of frames, as :meth:`frame`, each once, in rising order. Those not in the cache are decoded in one pass.

        They have the form of the video if it is known, as it is for :class:`VideoReader`; otherwise each has its own form.

        Args:
            numbers: from 0 to one below the number of frames, in any order.

        Raises:
            UnreadableImageError: a frame does not decode, nor does any that could replace it.
        """
        requested = sorted(set(numbers))
        # All at once: the cache may drop these frames while others are decoded.
        cached = {number: pixels for number in requested if (pixels := self._frames.get(number)) is not None}
        decoded = self.decode_each([number for number in requested if number not in cached])
        for number in requested:
            pixels = cached.pop(number, None)
            if pixels is None:
                pixels = self.to_pixels(next(decoded)[1], number, self._form)
                self._frames.put(number, pixels)
            yield number, pixels

    def decode_each(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """As :meth:`decode`, but a frame that does not decode is an error, or is replaced by the nearest frame.

        Raises:
            UnreadableImageError: a frame does not decode, nor does any that could replace it.
        """
        requested = sorted(set(numbers))
        decoded = self.decode(requested)
        ahead: tuple[int, VideoFrame] | None = None
        for number in requested:
            ahead = ahead or next(decoded, None)
            if ahead is not None and ahead[0] == number:
                yield ahead
                ahead = None
            elif self.errors == "nearest":
                yield number, self._find_nearest(number, range(len(self.index)))[1]
            else:
                raise self.missing(number)

    def decode(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the frames of these numbers, each once, in rising order; those that do not decode are left out.

        Args:
            numbers: from 0 to one below the number of frames, in any order.
        """
        requested = sorted(set(numbers))
        done = 0
        for found in self._runs.decode(requested) if requested else ():
            yield found
            done += 1
        requested = requested[done:]
        if not requested:
            return
        with self._pool.borrow(self._token, self._open) as cursor:
            cursor.begin(requested[0])
            for number, following in itertools.zip_longest(requested, requested[1:]):
                with naming_video(self.path, number):
                    frame = cursor.find(number, following)
                if frame is not None:
                    try:
                        yield number, frame
                    # The caller needs no more frames. An exception would make the pool close the decoder.
                    except GeneratorExit:
                        return

    def find_readable(self, numbers: Sequence[int], among: range, errors: VideoErrors) -> dict[int, int]:
        """Find out which frames decode, and which frames replace the others.

        Args:
            numbers: the frames that are requested.
            among: the frames that may replace one.
            errors: what to do about a frame that does not decode.

        Returns:
            The number of the frame to read, by the number of each requested frame that is not left out.

        Raises:
            UnreadableImageError: a frame does not decode, and ``errors="raise"``; or nor does any that could replace it.
        """
        found = {number: number for number, _ in self.decode(numbers)}
        for number in sorted(set(numbers) - set(found)):
            if errors == "raise":
                raise self.missing(number)
            if errors == "nearest":
                found[number] = self._find_nearest(number, among)[0]
        return found

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of a frame as it is shown."""
        return self.form.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels: uint8, uint16 if a channel has more than 8 bits, or float32."""
        return self.form.dtype

    @property
    def form(self) -> FrameForm:
        """Shape and dtype of a frame: from the index, or from the first frame that decodes.

        Raises:
            UnreadableImageError: none of the first key frames decodes.
        """
        if self._form is None:
            self._form = FrameForm(*find_form(self.decode_first(), is_gray=self.is_gray, name=self.path))
        return self._form

    def to_pixels(self, frame: VideoFrame, number: int | None = None, form: FrameForm | None = None) -> Array:
        """The pixels of a frame of :meth:`decode`.

        Args:
            frame: the frame.
            number: its number, for errors.
            form: the form of the result; ``None``: that of the frame.

        Raises:
            UnreadableImageError: the frame does not fit into the form, or FFmpeg cannot convert it.
        """
        name = self.path if number is None else f"{self.path}: frame {number:,}"
        if self.index.is_gray and stores_color(frame):
            raise UnreadableImageError(
                f"{name} has colours, but the video begins with frames that are brightness alone; split the video where it changes"
            )
        matrix, used = int(frame.colorspace), replace_matrix(frame)
        if used != matrix and not self.is_gray:
            _warn_about_matrix(self.path, matrix, used)
        with naming_video(self.path, number):
            return to_pixels(frame, is_gray=self.is_gray, is_scaled=self.is_scaled, form=form, name=name)

    def missing(self, number: int) -> UnreadableImageError:
        """The error for a frame that does not decode."""
        return UnreadableImageError(f"{self.path}: frame {number:,} of {len(self.index):,} does not decode")

    def decode_first(self) -> VideoFrame:
        """Decode the first key frame that decodes.

        Raises:
            UnreadableImageError: none of the first key frames decodes.
        """
        # More than one, since the first packet of a cut file is often damaged.
        for _, frame in self.decode(self.index.keys[:8].tolist() or [0]):
            return frame
        raise UnreadableImageError(f"{self.path}: none of its first key frames decodes")

    def _find_nearest(self, number: int, among: range) -> tuple[int, VideoFrame]:
        """The nearest frame that decodes; of two, the earlier one."""
        for distance in range(1, len(self.index)):
            for other in (number - distance, number + distance):
                if other in among:
                    for found in self.decode([other]):
                        return found
        raise self.missing(number)

    def _open(self) -> Cursor:
        return Cursor(self.path, self.index, self._guard)


@lru_cache(maxsize=1024)
def _warn_about_matrix(path: str, matrix: int, used: int) -> None:
    """Log that colours are converted with another matrix; once, since a call with the same arguments does nothing."""
    _log.warning(
        "%s has the colour matrix %d of H.273, which FFmpeg does not convert; its colours are read as those of %s, and may "
        "differ from the true ones; pixel_format='gray' gives the brightness as it is stored",
        path,
        matrix,
        {9: "BT.2020", 2: "BT.601"}[used],
    )


def _nbytes(pixels: Array) -> int:
    return pixels.nbytes
