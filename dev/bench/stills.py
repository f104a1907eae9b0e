"""The right frames of a video: what decoding it from the beginning shows, by digest and in part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from crops import digest

from ndframes.video.index import build_index, decode_all
from ndframes.video.planes import to_pixels

_STEP_PX = 8
_MOST_LEVELS = 8


class WrongFrameError(Exception):
    """A contender gave another frame than the one that was asked for, or pixels that are no frame's."""


class Stills:
    """Tells whether a frame is the right one, even where its colours were made by another version of a library.

    Args:
        path: the video.
        count: how many frames it is to have.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path = str(path)
        self._digests: list[bytes] = []
        thin = []
        for pixels in self._decode():
            self._digests.append(digest(pixels))
            thin.append(self.thin_out(pixels))
        assert len(thin) == count, f"{path} has {len(thin)} frames, not {count}"
        self._thin = np.stack(thin)
        self._digests_of_crops = lru_cache(maxsize=256)(self._digest_crop)

    @staticmethod
    def thin_out(pixels: np.ndarray) -> np.ndarray:
        """One pixel of many."""
        return np.ascontiguousarray(pixels[::_STEP_PX, ::_STEP_PX])

    def check(self, number: int, found: bytes, some: np.ndarray) -> float:
        """The largest difference, in levels, of a frame to the right one: 0 where every pixel is equal.

        Raises:
            WrongFrameError: it is none of its neighbours less, or differs by more than rounding.
        """
        if found == self._digests[number]:
            return 0.0
        near = range(max(0, number - 3), min(len(self._thin), number + 4))
        means = {other: np.abs(self._thin[other].astype(int) - some).mean() for other in near}
        nearest = min(means, key=lambda other: means[other])
        largest = float(np.abs(self._thin[number].astype(int) - some).max())
        if nearest != number or largest > _MOST_LEVELS:
            raise WrongFrameError(
                f"wrong frame: for {number} it gives what looks like {nearest}, {largest:.0f} levels off"
            )
        return max(largest, 1.0)

    def check_crop(self, numbers: range, top: int, left: int, extent_px: int, found: Sequence[bytes]) -> float:
        """As :meth:`check`, for a box of pixels, of which all must be equal.

        Raises:
            WrongFrameError: one is not.
        """
        if list(found) != self._digests_of_crops(numbers, top, left, extent_px):
            raise WrongFrameError(f"wrong pixels in frames {numbers} at {top}, {left}")
        return 0.0

    def _digest_crop(self, numbers: range, top: int, left: int, extent_px: int) -> list[bytes]:
        return [
            digest(pixels[top : top + extent_px, left : left + extent_px])
            for number, pixels in enumerate(self._decode())
            if number in numbers
        ]

    def _decode(self):
        index = build_index(self._path)
        for frame in decode_all(self._path, index.stream):
            yield to_pixels(frame, is_gray=index.is_gray)
